import csv
import io
import json
from collections import Counter

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora import glue
from replication.corpora.glue import CORPORA, COUNTS, hub_row, parse_subset, parse_tsv
from replication.corpora.source_table import FILES
from replication.corpora.sourcefiles import read_text
from replication.errors import DataError

HEADERS = {
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "sst2": "sentence\tlabel",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
}
ROW = {
    "cola": ("gj04\t0\t*\t{0}", 0),
    "mrpc": ("1\t7\t8\t{0}\t{1}", 1),
    "qnli": ("0\t{0}\t{1}\tnot_entailment", 1),
    "rte": ("0\t{0}\t{1}\tentailment", 0),
    "sst2": ("{0}\t1", 1),
    "stsb": ("0\tg\tf\t2012\t3\tnone\tnone\t{0}\t{1}\t2.600", 2.6),
}
field = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1)


def tsv(task, *rows):
    header = [HEADERS[task]] if task in HEADERS else []
    return "\n".join([*header, *(ROW[task][0].format(*row) for row in rows)]) + "\n"


@given(pair=st.tuples(field, field))
@pytest.mark.parametrize("task", ROW)
def test_texts_are_kept_as_they_are(task, pair):
    rows = list(parse_tsv(task, "here", tsv(task, pair, ('"open', 'a "b" c'))))
    has_pair = "{1}" in ROW[task][0]
    assert rows[0] == {"text": pair[0], "pair": pair[1] if has_pair else None, "label": ROW[task][1]}
    assert rows[1]["text"] == '"open'


def test_colas_files_have_no_header_and_windows_line_ends_go():
    rows = list(parse_tsv("cola", "here", "gj04\t1\t\tIt rains.\r\nl-93\t0\t*\tRains it it.\r\n"))
    assert [(row["text"], row["label"]) for row in rows] == [("It rains.", 1), ("Rains it it.", 0)]


@pytest.mark.parametrize(
    ("task", "text", "complaint"),
    [
        ("rte", "index\tsentence1\tlabel\n0\ta\tentailment\n", "line 1: column sentence2 is missing"),
        ("rte", HEADERS["rte"] + "\n0\ta\tb\tentailment\n1\ta\tb\n", "line 3: 3 columns where 4 belong"),
        ("rte", HEADERS["rte"] + "\n0\ta\tb\tneutral\n", "line 2, column 'label': 'neutral' is no class"),
        ("rte", "", "line 1: column sentence1 and sentence2 and label is missing"),
        ("cola", "gj04\t1\t\ta\ngj04\t2\t\tb\n", "line 2, column 'label': '2' is no class"),
        ("stsb", tsv("stsb", "ab").replace("2.600", "5.001"), "line 2, column 'score': '5.001'"),
        ("stsb", tsv("stsb", "ab").replace("2.600", "nan"), "line 2, column 'score': 'nan'"),
        ("stsb", tsv("stsb", "ab").replace("2.600", ""), "line 2, column 'score': ''"),
    ],
)
def test_a_line_that_cannot_be_used_names_place_line_and_column(task, text, complaint):
    with pytest.raises(DataError, match=f"^here, {complaint}"):
        list(parse_tsv(task, "here", text))


def test_subset_files_map_numbers_to_pairs():
    text = json.dumps({"0": {"text_a": "a", "text_b": "b", "label": "neutral"}})
    assert list(parse_subset("mnli", "here", text)) == [{"text": "a", "pair": "b", "label": 1}]
    for entry, complaint in (
        ({"text_a": "a", "label": "neutral"}, "entry '0': no field 'text_b'"),
        ({"text_a": "a", "text_b": "b", "label": "maybe"}, "entry '0', field 'label': 'maybe' is no class"),
    ):
        with pytest.raises(DataError, match=f"^here, {complaint}"):
            list(parse_subset("mnli", "here", json.dumps({"0": entry})))


@pytest.mark.parametrize("task", COUNTS)
def test_every_task_reads_the_hubs_columns(task):
    first, second = {
        "cola": ("sentence", None),
        "mnli": ("premise", "hypothesis"),
        "mrpc": ("sentence1", "sentence2"),
        "qnli": ("question", "sentence"),
        "qqp": ("question1", "question2"),
        "rte": ("sentence1", "sentence2"),
        "sst2": ("sentence", None),
        "stsb": ("sentence1", "sentence2"),
    }[task]
    raw = {first: "a", "label": 1, "idx": 9, **({second: "b"} if second else {})}
    row = hub_row(task, "train", raw)
    assert row == {"text": "a", "pair": "b" if second else None, "label": 1}
    assert type(row["label"]) is (float if task == "stsb" else int)


def test_scores_of_the_hub_are_the_files_decimals():
    stored = datasets.Dataset.from_dict({"label": [0.067]}, datasets.Features({"label": datasets.Value("float32")}))
    assert stored[0]["label"] != 0.067
    assert hub_row("stsb", "train", {"sentence1": "a", "sentence2": "b", "label": stored[0]["label"]})["label"] == 0.067


def test_mnlis_dev_is_both_official_splits_told_apart(monkeypatch):
    asked = []
    names = ["entailment", "neutral", "contradiction"]
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
        }
    )

    def load_dataset(path, name, *, split, revision):
        asked.append((path, name, split, revision))
        count = {"train": 2, "validation_matched": 2, "validation_mismatched": 1}[split]
        columns = {"premise": ["p"] * count, "hypothesis": [split] * count, "label": [2] * count}
        return datasets.Dataset.from_dict(columns, features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setitem(COUNTS["mnli"], "train", 2)
    monkeypatch.setitem(COUNTS["mnli"], "dev", 3)
    corpus = CORPORA["mnli"].load()
    assert {call[:2] + call[3:] for call in asked} == {("nyu-mll/glue", "mnli", glue.REVISION)}
    assert [row["subset"] for row in corpus.splits["dev"]] == ["matched", "matched", "mismatched"]
    assert corpus.splits["dev"][2]["pair"] == "validation_mismatched"
    assert "subset" not in corpus.splits["train"][0]
    assert corpus.splits["dev"][0]["label"] == 2
    assert corpus.sha256 == {"nyu-mll/glue": glue.REVISION}


def test_only_complete_dev_splits_compare_with_published_scores():
    assert {name: corpus.card.comparable for name, corpus in CORPORA.items() if not corpus.card.comparable} == {
        "mnli_train_subset": False
    }
    assert all(corpus.card.reported_split == "dev" for corpus in CORPORA.values())


# Official rows of train and dev, and of dev how many have class 0; of GLUE's own files.
KNOWN = {"cola": (8551, 1043, 322), "mrpc": (3668, 408, 129), "rte": (2490, 277, 146), "sst2": (67349, 872, 428)}


@pytest.mark.mirror
@pytest.mark.parametrize("task", KNOWN)
def test_rows_and_label_balance_are_the_official_ones(mirror, task):
    splits = CORPORA[task].load(mirror).splits
    assert (len(splits["train"]), len(splits["dev"])) == KNOWN[task][:2]
    assert Counter(row["label"] for row in splits["dev"])[0] == KNOWN[task][2]
    # Label shares of the training splits: CoLA 70 % acceptable, MRPC 67 % equivalent, RTE even, SST-2 56 % positive.
    share = {"cola": 0.704, "mrpc": 0.674, "rte": 0.498, "sst2": 0.558}[task]
    assert sum(row["label"] for row in splits["train"]) / len(splits["train"]) == pytest.approx(share, abs=5e-4)


@pytest.mark.mirror
def test_stsb_has_the_official_rows_and_scores(mirror):
    splits = CORPORA["stsb"].load(mirror).splits
    assert (len(splits["train"]), len(splits["dev"])) == (5749, 1500)
    scores = [row["label"] for rows in splits.values() for row in rows]
    assert (min(scores), max(scores)) == (0.0, 5.0)
    # What the hub stores of them comes back as the same number, to the six decimals that 32 bits hold.
    stored = np.float32(scores)
    assert all(
        hub_row("stsb", "train", {"sentence1": "a", "sentence2": "b", "label": value})["label"] == round(score, 6)
        for value, score in zip(stored, scores, strict=True)
    )
    assert splits["train"][0]["text"] == "A plane is taking off."


@pytest.mark.mirror
@pytest.mark.parametrize("task", ["mrpc", "qnli", "rte", "sst2", "stsb"])
def test_the_files_read_the_same_with_csv_and_quoting_off(mirror, task):
    place, text = read_text(FILES[f"{task}-dev.tsv"], mirror)
    lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    first, second, _ = glue._TSV[task]
    assert [(row["text"], row["pair"]) for row in parse_tsv(task, place, text)] == [
        (line[first], line[second] if second else None) for line in lines
    ]


@pytest.mark.mirror
def test_the_subsets_are_what_their_notes_say(mirror):
    mnli, qnli = (CORPORA[name].load(mirror) for name in ("mnli_train_subset", "qnli_subset"))
    assert {split: len(rows) for split, rows in mnli.splits.items()} == {"train": 8999, "dev": 1000}
    assert {split: len(rows) for split, rows in qnli.splits.items()} == {"train": 8999, "dev": 5463}
    assert Counter(row["label"] for row in qnli.splits["dev"]) == {0: 2702, 1: 2761}
    assert all(0.32 < count / 8999 < 0.35 for count in Counter(row["label"] for row in mnli.splits["train"]).values())
    for corpus in (mnli, qnli):
        seen = {(row["text"], row["pair"]) for row in corpus.splits["train"]}
        assert not [row for row in corpus.splits["dev"] if (row["text"], row["pair"]) in seen]
