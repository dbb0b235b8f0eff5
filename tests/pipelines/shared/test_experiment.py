"""Resolving: one checked experiment from params.yaml, and what is refused before any work."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shared.experiment import described, method_settings, resolve, resolve_search
from pipelines.shared.paths import search_path
from pipelines.shared.settings import load_settings
from replication.corpora.registry import describe
from replication.errors import ConfigError
from replication.fileio import write_json
from replication.tasks.text_generation import GenerationOptions

GLUE = "replication/corpora/glue.py"


@pytest.fixture
def settings(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    return load_settings("params.yaml")


@pytest.fixture
def changed(project_root, tmp_path, monkeypatch):
    """Settings of the quick profile after a change of its content."""
    return rewritten(project_root, tmp_path, monkeypatch, "params.yaml")


@pytest.fixture
def paper(project_root, tmp_path, monkeypatch):
    """Settings of the paper profile after a change of its content."""
    return rewritten(project_root, tmp_path, monkeypatch, "pipelines/paper/params.yaml")


def rewritten(project_root, tmp_path, monkeypatch, params):
    monkeypatch.chdir(project_root)

    def write(change):
        content = yaml.safe_load((project_root / params).read_text())
        change(content)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_settings(path)

    return write


def on(content, backbone="minilm-l6", method="lora", settings="r4-qkv", **task):
    """An experiment `new` on a task `new`."""
    content["backbones"].setdefault(backbone, {"source": "replication/backbones.py"})
    content["tasks"]["new"] = {"source": GLUE, **task}
    row = {"backbone": backbone, "task": "new", "method": method, "settings": settings}
    content["experiments"]["new"] = {**row, "learning_rate": 0.1, "seeds": [1]}


@pytest.mark.parametrize(
    ("backbone", "corpus", "form", "model_task", "labels"),
    [
        ("minilm-l6", "cola", "classification", "sequence_classification", 2),
        ("minilm-l6", "mnli", "classification", "sequence_classification", 3),
        ("minilm-l6", "stsb", "regression", "sequence_classification", 1),
        ("minilm-l6", "squad_v1", "question_answering", "question_answering", 2),
        ("microworld-llama", "boolq_closed_book", "multiple_choice", "causal_lm", 2),
        ("microworld-bart", "xsum", "summarisation", "seq2seq_lm", 2),
        ("microworld-gpt2", "e2e", "generation", "causal_lm", 2),
    ],
)
def test_a_form_says_which_model_and_how_many_labels_it_needs(changed, backbone, corpus, form, model_task, labels):
    options = {"stride": 16} if form == "question_answering" else {}
    found = resolve(changed(lambda p: on(p, backbone, corpus=corpus, form=form, options=options)), "new")
    assert (found.form.name, found.form.model_task, found.num_labels) == (form, model_task, labels)


@pytest.mark.parametrize(
    ("corpus", "backbone", "expected"),
    [
        ("boolq", "llama-3.1-8b", {"prompt": "{passage}\nQuestion: {question}\nAnswer:", "metric": "acc"}),
        ("arc_challenge", "llama-3.1-8b", {"prompt": "Question: {question}\nAnswer:", "metric": "acc_norm"}),
        ("openbookqa", "llama-3.1-8b", {"prompt": "{question}", "metric": "acc_norm"}),
        ("hellaswag", "llama-3.1-8b", {"prompt": "{question}", "metric": "acc_norm", "length": "characters"}),
        ("squad_v2", "deberta-v3-base", {"no_answer": True}),
        ("squad_v1", "deberta-v3-base", {"no_answer": False}),
        ("cnn_dailymail", "bart-large", {"beams": 4}),
    ],
)
def test_the_paper_profile_runs_a_corpus_by_its_published_protocol(paper, corpus, backbone, expected):
    form = describe(corpus)["form"]
    found = described(paper(lambda p: on(p, backbone, settings="r8-qkv", corpus=corpus, form=form)), "new")
    assert {name: getattr(found.options, name) for name in expected} == expected
    if "prompt" in expected:
        other = paper(
            lambda p: on(p, backbone, settings="r8-qkv", corpus=corpus, form=form, options={"prompt": "Q: {question}"})
        )
        assert described(other, "new").options.prompt == "Q: {question}"


def test_a_run_with_another_prompt_is_another_run(changed, monkeypatch):
    for name in ("weights_sha256", "prepared_hashes"):
        monkeypatch.setattr(f"pipelines.shared.experiment.{name}", lambda folder: "0")

    def identity(**options):
        task = {"corpus": "boolq_closed_book", "form": "multiple_choice", "options": options}
        return resolve(changed(lambda p: on(p, "microworld-llama", **task)), "new").identity(1)

    assert identity() == identity(prompt="Question: {question}\nAnswer:")
    assert identity() != identity(prompt="{question}")


def test_training_length_reaches_the_options_that_have_one(changed):
    def length(form="classification", corpus="cola", backbone="minilm-l6", **options):
        def change(content):
            content["training"]["max_length"] = 64
            on(content, backbone, corpus=corpus, form=form, options=options)

        return resolve(changed(change), "new").options

    assert length().recorded()["max_length"] == 64
    assert length(max_length=32).recorded()["max_length"] == 32
    assert "max_length" not in length("summarisation", "xsum", "microworld-bart").recorded()
    generation = length("generation", "e2e", "microworld-gpt2")
    assert generation.max_length == 64
    assert "max_length" not in generation.recorded(), "the length of training says nothing of the predictions"


def test_other_training_settings_reach_training_and_options_and_leave_the_rest(settings):
    found = resolve(settings, "sentiment-lora")
    other = found.with_training(learning_rate=0.5, max_length=24)
    assert (other.training.learning_rate, other.training.max_length, other.options.max_length) == (0.5, 24, 24)
    assert other.methods == found.methods
    assert found.with_training() == found
    with pytest.raises(ConfigError, match="learning_rate must be"):
        found.with_training(learning_rate=-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: on(p, corpus="cola", form="regression"),
            r"tasks\.new: form=regression: .*cola has the form classif",
        ),
        (lambda p: on(p, corpus="cola", form="tagging"), r"tasks\.new\.form: .*tagging"),
        (lambda p: on(p, corpus="c4", form="classification"), r"tasks\.new\.corpus: .*unknown name 'c4'"),
        (lambda p: on(p, corpus="cola", form="classification", options={"beam": 3}), r"tasks\.new\.options: .*beam"),
        (lambda p: on(p, corpus="e2e", options={"temperature": 1}), r"tasks\.new\.options: .*temperature"),
        (lambda p: on(p, corpus="e2e", options={"separator": "|"}), r"tasks\.new\.options: unknown .*separator"),
        (lambda p: on(p, corpus="e2e", options={"references_scored": True}), r"options: .*references_scored=True"),
        (lambda p: on(p, corpus="e2e"), r"experiments\.new\.backbone: minilm-l6 can be built for .*causal_lm"),
        (lambda p: (on(p, "microworld-gpt2", corpus="e2e"), p["decoding"].update(beam=2)), r"yaml: decoding: .*beam"),
        (
            lambda p: (on(p, corpus="cola", form="classification"), p["training"].update(step=3)),
            r"training\.step: unknown field; valid fields: steps, learning_rate, ",
        ),
        (
            lambda p: on(p, corpus="cola", form="classification", training={"batch": 3}),
            r"tasks\.new\.training\.batch: unknown field; valid fields: steps, ",
        ),
        (
            lambda p: on(p, corpus="cola", form="classification", training={"warmup_steps": True}),
            "warmup_steps must be a whole number.*True",
        ),
        (
            lambda p: (on(p, corpus="cola", form="classification"), p["methods"]["lora"]["r4-qkv"].update(rnk=4)),
            r"experiments\.new: methods\.lora\.r4-qkv: .*rnk; valid fields",
        ),
        (
            lambda p: (on(p, corpus="cola", form="classification"), p["methods"]["lora"]["r4-qkv"].update(rank=True)),
            r"methods\.lora\.r4-qkv: .*rank=True",
        ),
        (
            lambda p: on(p, corpus="cola", form="classification", training={"attention": "fast"}),
            r"experiments\.new: training setting attention='fast': minilm-l6 cannot use it",
        ),
        (
            lambda p: on(p, corpus="cola", form="classification", training={"compile": "fast"}),
            r"experiments\.new: training setting compile='fast': not a backend of torch\.compile",
        ),
    ],
)
def test_what_does_not_fit_names_the_file_and_the_field_in_one_line(changed, change, message):
    with pytest.raises(ConfigError, match=message) as error:
        resolve(changed(change), "new")
    assert str(error.value).startswith("params.yaml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["weight_lora", "random_lora", "weight_lora_plus"])
@pytest.mark.parametrize(("backbone", "adapters"), [("microworld-deberta", 18), ("minilm-l6", 18)])
def test_a_k_above_the_number_of_adapters_is_refused_in_planning(changed, method, backbone, adapters):
    def change(content, keep):
        named = next(iter(content["methods"][method].values()))
        content["methods"][method]["many"] = {**named, "keep": keep}
        on(content, backbone, method, "many", corpus="cola", form="classification")

    assert resolve(changed(lambda content: change(content, adapters)), "new").settings["keep"] == adapters
    with pytest.raises(ConfigError, match=rf"methods\.{method}\.many: keep=19 exceeds the {adapters} adapters"):
        resolve(changed(lambda content: change(content, adapters + 1)), "new")


def test_a_search_case_is_resolved_like_an_experiment_with_the_length_of_its_plan(settings):
    case, found = resolve_search(settings, "lora"), resolve(settings, "lora")
    assert (case.method, case.settings, case.options) == (found.method, found.settings, found.options)
    assert case.search == settings.search["e2e"]
    assert (case.seeds, case.training.steps) == (case.search.seeds, case.search.steps)
    assert case.training.warmup_steps <= case.search.steps // 10
    with pytest.raises(ConfigError, match="under searches"):
        resolve_search(settings, "nothing")


def test_a_rate_is_taken_over_from_its_search_once_that_has_run(changed, tmp_path, monkeypatch):
    settings = changed(lambda p: p["experiments"]["lora"].update(learning_rate={"search": "lora"}, search=None))
    monkeypatch.chdir(tmp_path)  # where no search has run
    before = resolve(settings, "lora")
    row = settings.searches["lora"]
    plan = settings.search[row.plan]
    assert (before.learning_rate, before.training.learning_rate) == (None, plan.learning_rates[0])
    with pytest.raises(ConfigError, match=r"searches/quick/lora\.json does not exist yet; run `make search CASE=lora"):
        before.require_rate()
    result = {**row.model_dump(mode="json"), **plan.model_dump(mode="json"), "best": 0.125}
    result["settings"] = method_settings(settings, row, plan.steps)
    write_json(search_path("quick", "lora"), result)
    after = resolve(settings, "lora")
    after.require_rate()
    assert (after.learning_rate, after.training.learning_rate, after.rate_from) == (0.125, 0.125, "lora")
    write_json(search_path("quick", "lora"), {**result, "steps": plan.steps + 1})
    with pytest.raises(ConfigError, match=r"lora\.json: made with another steps than searches\.lora"):
        resolve(settings, "lora")


def test_a_task_overrides_training_settings_for_all_methods_alike(changed):
    override = {"steps": 7, "warmup_steps": 2}
    settings = changed(lambda content: content["tasks"]["microworld-e2e"].update(training=override))
    on_task = [key for key, row in settings.experiments.items() if row.task == "microworld-e2e"]
    found = [resolve(settings, key) for key in on_task]
    assert {one.training.steps for one in found} == {7}
    assert [one.training.learning_rate for one in found] == [settings.experiments[k].learning_rate for k in on_task]


def test_a_phase_longer_than_training_is_refused_before_any_work(changed):
    settings = changed(lambda content: content["methods"]["weight_lora"]["k3"].update(selection_steps=10**6))
    with pytest.raises(ConfigError, match=r"selection_steps=1000000 exceeds the training's steps=\d+"):
        resolve(settings, "sentiment-weight-lora")


@given(share=st.floats(0.01, 1), steps=st.integers(1, 30000))
def test_a_share_of_the_training_length_is_that_part_of_it(project_root, share, steps):
    settings = load_settings(project_root / "params.yaml")
    settings.methods["weight_lora"]["k3"]["selection_steps"] = {"of_steps": share}
    found = method_settings(settings, settings.experiment("sentiment-weight-lora"), steps)
    assert abs(found["selection_steps"] - share * steps) <= 0.5
    assert isinstance(found["selection_steps"], int)
    assert found["keep"] == settings.methods["weight_lora"]["k3"]["keep"]


@pytest.mark.parametrize("share", [0, 1.5, True, "half", None])
def test_a_share_that_is_none_is_refused(changed, share):
    settings = changed(lambda p: p["methods"]["weight_lora"]["k3"].update(selection_steps={"of_steps": share}))
    with pytest.raises(ConfigError, match=r"methods\.weight_lora\.k3\.selection_steps: .*above 0 and up to 1"):
        resolve(settings, "sentiment-weight-lora")


def test_options_of_a_generation_task_stand_over_the_profiles_decoding(changed):
    def recorded(**options):
        return resolve(changed(lambda p: on(p, "microworld-gpt2", corpus="e2e", options=options)), "new")

    usual, greedy = recorded(), recorded(beams=1, batch_size=32)
    decoding = load_settings("params.yaml").decoding
    assert usual.options.recorded() == {**decoding, "references_scored": 0}
    assert greedy.options.recorded() == {**usual.options.recorded(), "beams": 1, "batch_size": 32}
    assert isinstance(usual.options, GenerationOptions)
    assert usual.options.separator == usual.backbone.separator


@pytest.mark.parametrize("key", ["sentiment-lora", "solo_connection", "sentiment-random-lora", "sentiment-dora"])
def test_every_seed_starts_elsewhere(settings, key):
    found = resolve(settings, key)
    assert len(found.seeds) > 1
    starts = [asdict(config) for config in found.methods.values()]
    assert all(one != other for index, one in enumerate(starts) for other in starts[:index]), "start values repeat"
    assert [found.training_seeds[seed] for seed in found.seeds] == list(found.seeds)
    assert len({repr(found.methods[seed]) for seed in found.seeds}) == len(found.seeds)


def test_one_training_seed_varies_only_what_is_drawn(changed):
    settings = changed(lambda content: content["experiments"]["sentiment-random-lora"].update(training_seed=7))
    found = resolve(settings, "sentiment-random-lora")
    assert set(found.training_seeds.values()) == {7}
    assert [config.selection_seed for config in found.methods.values()] == list(found.seeds)
    assert {config.init_seed for config in found.methods.values()} == {7}
    settings = changed(lambda content: content["experiments"]["sentiment-lora"].update(training_seed=7))
    with pytest.raises(ConfigError, match="training_seed=7: lora draws nothing else"):
        resolve(settings, "sentiment-lora")


@pytest.mark.parametrize("file", ["params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml"])
def test_resolving_twice_gives_the_same_and_changes_no_settings(project_root, monkeypatch, file):
    monkeypatch.chdir(project_root)
    settings = load_settings(file)
    before = settings.model_dump()
    for key in settings.experiments:
        once, twice = described(settings, key), described(settings, key)
        assert once == twice
        assert once.with_training() == once
    assert settings.model_dump() == before
    assert load_settings(file) == settings


def test_describing_an_experiment_needs_no_torch(project_root):
    program = (
        "import sys\nfrom pipelines.shared.experiment import described\n"
        "from pipelines.shared.settings import load_settings\n"
        "described(load_settings('params.yaml'), 'sentiment-lora')\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=project_root)
    assert outcome.stdout.strip() == "[]", outcome.stderr


def test_settings_for_speed_are_in_the_identity_only_where_they_are_given(changed, monkeypatch):
    monkeypatch.setattr("pipelines.shared.experiment.prepared_hashes", lambda path: {})
    monkeypatch.setattr("pipelines.shared.experiment.weights_sha256", lambda path: "")
    speed = {"attention": "sdpa", "compile": "eager", "fused_adamw": True, "pin_memory": True}
    for training in ({}, speed):
        chosen = changed(lambda p, training=training: on(p, corpus="cola", form="classification", training=training))
        recorded = resolve(chosen, "new").identity(1)["training"]
        assert {name: value for name, value in recorded.items() if name in speed} == training
