from __future__ import annotations

import pytest
import yaml

from pipelines.plan import plan_experiment, plan_search, training_config
from pipelines.settings import Task, load_settings
from pipelines.tasks import stage_task
from replication.backbones import get_backbone
from replication.errors import ConfigError
from replication.training.decoding_config import GenerationOptions


@pytest.fixture
def settings(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    return load_settings("params.yaml")


def made(settings, backbone="minilm-l6", **fields):
    task = Task(**{"source": "replication/corpora/glue.py", **fields})
    training = training_config(settings, next(iter(settings.tasks)), 0.001, max_length=64)
    return stage_task(settings, task, get_backbone(backbone), training)


@pytest.mark.parametrize(
    ("corpus", "form", "model_task", "labels"),
    [
        ("cola", "classification", "sequence_classification", 2),
        ("mnli", "classification", "sequence_classification", 3),
        ("stsb", "regression", "sequence_classification", 1),
        ("squad_v1", "question_answering", "question_answering", 2),
        ("boolq_closed_book", "multiple_choice", "causal_lm", None),
        ("xsum", "summarisation", "seq2seq_lm", None),
    ],
)
def test_a_form_says_which_model_and_how_many_labels_it_needs(settings, corpus, form, model_task, labels):
    options = {"stride": 16} if form == "question_answering" else {}
    task = made(settings, corpus=corpus, form=form, options=options)
    assert task.model_task == model_task
    if labels is not None:
        assert task.num_labels() == labels
    assert set(task.train_arguments(training_config(settings, next(iter(settings.tasks)), 0.1))) == {
        "loss_function",
        "collate_function",
    }


def test_training_length_reaches_the_options_that_have_one(settings):
    assert made(settings, corpus="cola", form="classification").settings()["max_length"] == 64
    shorter = made(settings, corpus="cola", form="classification", options={"max_length": 32})
    assert shorter.settings()["max_length"] == 32
    assert "max_length" not in made(settings, corpus="xsum", form="summarisation").settings()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"corpus": "cola", "form": "regression"}, "form=regression: the corpus cola has the form classification"),
        ({"corpus": "cola", "form": "tagging"}, "tagging"),
        ({"corpus": "c4", "form": "classification"}, "unknown name 'c4'"),
        ({"corpus": "cola", "form": "classification", "options": {"beam": 3}}, "beam"),
    ],
)
def test_what_does_not_fit_names_the_file_and_the_task(settings, fields, message):
    with pytest.raises(ConfigError, match=message) as error:
        made(settings, **fields)
    assert "params.yaml" in str(error.value)


def test_a_search_case_is_planned_like_an_experiment(settings):
    case = plan_search(settings, "lora")
    experiment = plan_experiment(settings, "lora")
    assert case.experiment.method == experiment.experiment.method
    assert case.experiment.settings == experiment.experiment.settings
    assert case.experiment.seeds == (settings.search["e2e"].seed,)
    with pytest.raises(ConfigError, match="under searches"):
        plan_search(settings, "nothing")


def test_a_task_overrides_training_settings_for_all_methods_alike(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(project_root)
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    content["tasks"]["microworld-e2e"]["training"] = {"steps": 7, "warmup_steps": 2}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    settings = load_settings(path)
    on_task = [key for key, e in settings.experiments.items() if e.task == "microworld-e2e"]
    plans = [plan_experiment(settings, key) for key in on_task]
    assert {plan.training.steps for plan in plans} == {7}
    assert {plan.training.learning_rate for plan in plans} == {settings.experiments[k].learning_rate for k in on_task}


def test_a_phase_longer_than_training_is_refused_before_any_work(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(project_root)
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    late = {"method": "weight_lora", "settings": {"keep": 2, "selection_steps": 10**6}}
    content["experiments"]["late"] = {**content["experiments"]["lora"], **late, "search": None}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"selection_steps=1000000 exceeds the training's steps=\d+"):
        plan_experiment(load_settings(path), "late")


def test_options_of_a_generation_task_stand_over_the_profiles_decoding(settings):
    usual = made(settings, corpus="e2e").settings()
    greedy = made(settings, corpus="e2e", options={"beams": 1, "batch_size": 32}).settings()
    assert usual == GenerationOptions(**settings.decoding).__dict__
    assert greedy == {**usual, "beams": 1, "batch_size": 32}
    with pytest.raises(ConfigError, match=r"options of the task of corpus e2e.*temperature"):
        made(settings, corpus="e2e", options={"temperature": 0.7})


def test_scoring_references_leaves_the_decoded_texts_alone(settings, tiny_gpt2):
    import torch

    tokenizer = word_tokenizer()
    torch.manual_seed(3)
    for parameter in tiny_gpt2.parameters():  # far from its start, which ends every text at once
        torch.nn.init.normal_(parameter, std=0.4)
    options = {"beams": 2, "max_new_tokens": 5}
    rows = [
        {"mr": f"name[w{n}]", "context": f"w{n} w{n + 1}", "references": [f"w{n} w9", "w3", "w4"]} for n in range(1, 6)
    ]
    plain, scoring = (
        made(settings, backbone="microworld-gpt2", corpus="e2e", options={**options, "references_scored": count})
        for count in (0, 2)
    )
    told = []
    before = plain.predict(tiny_gpt2, tokenizer, rows, None)
    after = scoring.predict(tiny_gpt2, tokenizer, rows, told.append)
    assert (plain.passes, scoring.passes) == (1, 2)
    assert sum(told) == scoring.passes * len(rows)
    assert all(set(row) == {"mr", "context", "prediction", "references"} for row in before)
    assert [{key: row[key] for key in before[0]} for row in after] == before
    assert any(row["prediction"] for row in before)
    assert all(row["reference_nll"] > 0 for row in after)
    assert [row["reference_tokens"] for row in after] == [5] * 5, "w w9 end, w3 end"


def word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<|endoftext|>": 0} | {f"w{number}": number for number in range(1, 97)}
    core = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


@pytest.mark.parametrize("wrong", [-1, True, "all"])
def test_a_wrong_number_of_scored_references_names_the_file_and_the_task(settings, wrong):
    with pytest.raises(ConfigError, match=r"params\.yaml: .*corpus e2e: decoding: references_scored="):
        made(settings, corpus="e2e", options={"references_scored": wrong})
