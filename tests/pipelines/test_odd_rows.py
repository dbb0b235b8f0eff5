"""The odd rows of the real corpora, as the hub has them, through prepare, encode, predict and score.

Rows are quoted from the corpora, except CNN/DailyMail's without highlights, which is made up.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import pipelines.prepare as prepare
import replication.corpora.assembly as assembly
import replication.corpora.registry as registry
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.corpora.rows import odd_rows
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, write_text
from replication.metrics import score_systems
from replication.records import Corpus
from replication.tasks import get_form

PARAMS = Path("params.yaml")
COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
BERT, BART, LLAMA = "microworld-deberta", "microworld-bart", "microworld-llama"
PAIR = {"question1": "What is a pub?", "question2": "What is an inn?", "label": 0, "idx": 0}
SUPER_BOWL = "The league's 49ers hosted it at Levi's Stadium; the Broncos won 24–10 in 2015–16."
SQUAD = {"id": "q1", "title": "t", "question": "Who won?", "context": SUPER_BOWL,
         "answers": {"text": ["Broncos"], "answer_start": [SUPER_BOWL.index("Broncos")]}}  # fmt: skip
DOCUMENT = {"id": "1", "document": "The pub is open. Anna ate.", "summary": "Anna ate."}
ARTICLE = {"id": "1", "article": "The pub is open. Anna ate.", "highlights": "Anna ate .\nThe pub is open ."}
WORDS = ["Ask for a table.", "Run away.", "Order food .", "Which metal is it?"]
METALS = {"question": "Which metal is it?", "answerKey": "B",
          "choices": {"text": ["sodium", "lithium"], "label": ["A", "B"]}}  # fmt: skip

# corpus -> task form, backbone, an ordinary raw row, odd raw rows, what they are called
CASES = {
    "qqp": (
        "classification",
        BERT,
        PAIR,
        [
            {**PAIR, "question1": "How can I develop android app?", "question2": "", "idx": 1},
            {**PAIR, "question1": "", "question2": "My Chinese name is Haichao Yu. What English name?", "idx": 2},
        ],
        {"empty first text": 1, "empty second text": 1},
    ),
    "squad_v1": (
        "question_answering",
        BERT,
        SQUAD,
        [
            {**SQUAD, "id": "q2", "answers": {"text": ["49"], "answer_start": [SUPER_BOWL.index("49")]}},
            {**SQUAD, "id": "q3", "question": " ", "answers": {"text": ["16"], "answer_start": [78]}},
        ],
        {"empty question": 1, "answer inside a word": 1},
    ),
    "xsum": ("summarisation", BART, DOCUMENT, [{**DOCUMENT, "id": "36396523", "document": ""}], {"empty document": 1}),
    "cnn_dailymail": (
        "summarisation",
        BART,
        ARTICLE,
        [{**ARTICLE, "id": "2", "highlights": ""}, {**ARTICLE, "id": "3", "article": "\n"}],
        {"empty document": 1, "empty summary": 1},
    ),
    "arc_easy": (
        "multiple_choice",
        LLAMA,
        METALS,
        [{**METALS, "choices": {"text": ["sodium [Na]", "lithium [Li]"], "label": ["A", "B"]}}],
        {"bracketed marks": 1},
    ),
}


def raw_of(name, split):
    """Two ordinary rows, then the odd ones, with ids of their own."""
    ordinary, odd = CASES[name][2], CASES[name][3]
    rows = [ordinary, {**ordinary, "id": "second"}, *odd]
    return [("train" if split == "train" else "validation", dict(row)) for row in rows]


@pytest.fixture
def prepared(small_home, monkeypatch):
    """Prepare the corpus by its name, from the hub; its folder."""

    def run(name):
        form, backbone, *_ = CASES[name]
        corpus = registry.REAL[name]
        counts = {split: len(raw_of(name, split)) for split in corpus.counts}
        monkeypatch.setitem(registry.REAL, name, replace(corpus, counts=counts, files={}))
        monkeypatch.setattr(assembly, "hub_rows", lambda hub, split: (raw_of(name, split), COMMIT))
        content = yaml.safe_load(PARAMS.read_text())
        source = next(iter(content["tasks"].values()))["source"]
        training = {**content["tasks"]["sentiment"]["training"], "max_length": 160}
        content["tasks"][name] = {"corpus": name, "source": source, "form": form, "training": training}
        named = {"task": name, "backbone": backbone, "method": "lora", "settings": "r4-qkv"}
        content["experiments"][name] = {**named, "learning_rate": 0.001, "search": None, "seeds": [18]}
        write_text(PARAMS, yaml.safe_dump(content))
        monkeypatch.setattr(prepare, "load_corpus", lambda corpus, _: registry.load_corpus(corpus))
        prepare.main(PARAMS, name)
        return Path("prepared/quick") / name

    return run


def model_of(backbone, form, num_labels):
    """A model of the backbone's kind with its tokenizer."""
    import torch

    from replication.backbones import build_fresh, get_backbone, load_model, load_tokenizer
    from replication.backbones.vocabularies import special_tokens, train_tokenizer

    folder = Path("weights") / backbone
    if not folder.is_dir():
        known = get_backbone(backbone)
        tokenizer = train_tokenizer(WORDS * 4, 290, known.separator, architecture=known.architecture)
        torch.manual_seed(0)
        ids = special_tokens(known.architecture, known.separator).config_ids(tokenizer)
        build_fresh(backbone, vocab_size=len(tokenizer), **ids).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = load_model(backbone, folder, task=form.model_task, num_labels=num_labels)
    tokenizer = load_tokenizer(backbone, folder)
    form.prepare_model(model, tokenizer)
    return model, tokenizer


@pytest.mark.parametrize("name", CASES)
def test_odd_rows_are_kept_learned_predicted_and_scored(prepared, name):
    folder, (_, backbone, _, odd, kinds) = prepared(name), CASES[name]
    train, test, gold = (read_jsonl(path) for path in (folder / "train.jsonl", folder / "test.jsonl",
                                                       f"gold/quick/{name}.jsonl"))  # fmt: skip
    assert len(train) == len(test) == len(gold) == 2 + len(odd), "nothing is dropped"
    chosen = resolve(load_settings(PARAMS), name)
    assert odd_rows(chosen.form.name, train) == kinds
    counted = Corpus.model_validate({k: v for k, v in read_json(folder / "corpus.json").items() if k != "labels"})
    assert set(counted.revisions.values()) == {COMMIT}
    model, tokenizer = model_of(backbone, chosen.form, chosen.num_labels)
    examples = chosen.form.encode(tokenizer, train, chosen.options)
    loss, weight = chosen.form.loss(model, chosen.form.collate(examples, chosen.form.pad_id(tokenizer, chosen.options)))
    assert loss.item() > 0
    assert weight.item() > 0
    said = chosen.form.predict(model, tokenizer, test, chosen.options)
    assert [row["id"] for row in said] == [row["id"] for row in gold]
    protocol = registry.describe(name)["metric"]
    assert all(value is not None for value in score_systems(protocol, {"one": said})["one"].values.values())


def test_a_reference_without_text_scores_nothing_whatever_is_said():
    rows = [{"id": "1", "prediction": said, "references": [""]} for said in ("", "Anna ate.")]
    for row in rows:
        assert set(score_systems("rouge", {"one": [row]})["one"].values.values()) == {0.0}


def test_glues_unpublished_labels_are_refused_where_they_would_be_learned_or_scored(prepared, monkeypatch):
    monkeypatch.setitem(CASES, "qqp", (*CASES["qqp"][:3], [{**PAIR, "label": -1}], {}))
    with pytest.raises(DataError, match=r"split 'train' of qqp, row 3 .*-1 marks the unpublished labels"):
        prepared("qqp")


def test_the_form_of_each_case_is_that_of_its_corpus():
    assert {name: registry.describe(name)["form"] for name in CASES} == {name: case[0] for name, case in CASES.items()}
    assert all(get_form(case[0]) for case in CASES.values())
