import json

import pytest

from replication.errors import DataError
from replication.metrics import glue_scores, score_task
from replication.metrics.task_files import answered, labelled


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


RTE = 'index\tsentence1\tsentence2\tlabel\n0\tA "b\tc\tentailment\n1\td\te\tnot_entailment\n2\tf\tg\tentailment\n'


def test_every_layout_of_a_glue_task_scores_the_same(file):
    labels = file("dev.tsv", RTE)
    rows = [{"id": str(n), "prediction": p} for n, p in enumerate([0, 0, 1])]
    predictions = {
        "names.tsv": "index\tprediction\n0\tentailment\n1\tentailment\n2\tnot_entailment\n",
        "moved.tsv": "index\tprediction\n2\t1\n0\t0\n1\t0\n",
        "bare.tsv": "0\tentailment\n1\tentailment\n2\tnot_entailment\n",
        "comma.csv": "\ufeffindex,prediction\r\n0,0\r\n1,0\r\n2,1\r\n",
        "lines.txt": "0\n0\n1\n",
        "p.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "p.json": rows,
    }
    for name, content in predictions.items():
        scored = score_task("rte", labelled(file(name, content), labels, "rte"))
        assert scored == glue_scores("rte", [0, 0, 1], [0, 1, 0]), name
    plain = file("labels.txt", "entailment\nnot_entailment\nentailment\n")
    assert score_task("rte", labelled(file("l.txt", "0\n0\n1\n"), plain, "rte")) == {"accuracy": pytest.approx(1 / 3)}


def test_glues_own_files_are_read(file):
    cola = file("cola.tsv", "gj04\t1\t\tThe box.\ngj04\t0\t*\tBox the.\n")
    assert [row["label"] for row in labelled(file("p.txt", "1\n1\n"), cola, "cola")] == [1, 0]
    stsb = file("stsb.tsv", "index\tgenre\tscore\n0\tx\t5.000\n1\ty\t2.5\n")
    assert [row["label"] for row in labelled(file("q.tsv", "index\tprediction\n0\t4.5\n1\t2\n"), stsb, "stsb")] == [
        5.0,
        2.5,
    ]
    both = file("own.jsonl", {"prediction": 1, "label": 0})
    assert labelled(both, None, "cola")[0]["label"] == 0


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("rte", "0\n1\n", RTE, r"p has 2 predictions, .*r 3 labels"),
        ("rte", "0\n0\nmaybe\n", RTE, r"p, row 2: 'maybe' is not a class: entailment, not_entailment"),
        ("stsb", "x\n", "1.0\n", r"p, row 0: 'x' is not a number"),
        ("rte", "index\tprediction\n0\t0\n1\t0\n", RTE, r"p: no prediction for '2' of .*r \(1 missing\)"),
        ("rte", "index\tprediction\n0\t0\n1\t0\n2\t1\n7\t1\n", RTE, r"r: no '7', which .*p predicts"),
        ("rte", "index\tprediction\n0\t0\n0\t1\n2\t1\n", RTE, r"p, line 3: a second prediction for '0'; keep one"),
        ("rte", '{"id": 1, "prediction": 1, "label": 0}\n' * 2, None, r"p, line 2: a second prediction for '1'"),
        ("rte", "0\n1\n", "index\tlabel\n0\t0\n0\t1\n", r"r, line 3: a second label for '0'"),
        ("rte", '{"prediction": 1}\n', None, r'p: no "label" in it'),
        ("rte", '{"guess": 1}\n', RTE, r"p, line 1: none of the fields prediction; it has guess"),
    ],
)
def test_what_cannot_be_matched_is_named(file, task, predictions, labels, message):
    with pytest.raises(DataError, match=message):
        labelled(file("p", predictions), None if labels is None else file("r", labels), task)


def squad(*questions, version="1.1"):
    return {"version": version, "data": [{"paragraphs": [{"context": "c", "qas": list(questions)}]}]}


Q1 = {"id": "a", "answers": [{"text": "The Mill", "answer_start": 0}, {"text": "mill", "answer_start": 3}]}
Q2 = {"id": "b", "answers": [{"text": "red cat", "answer_start": 0}]}
Q3 = {"id": "b", "answers": [], "is_impossible": True}


def test_the_official_files_and_the_standard_rows_of_squad(file):
    gold, standard = (
        file("dev.json", squad(Q1, Q2)),
        [{"id": "b", "prediction_text": "cat"}, {"id": "a", "prediction_text": "mill"}],
    )
    dictionary = {"b": "cat", "a": "mill"}
    rows = [
        {"id": "a", "answers": {"text": ["The Mill", "mill"], "answer_start": [0, 3]}},
        {"id": "b", "answers": ["red cat"]},
    ]
    for predictions in (file("p.json", dictionary), file("s.json", standard)):
        for references in (gold, file("r.json", rows)):
            found, version = answered(predictions, references, None)
            assert version == 1
            assert score_task("squad_v1", found) == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_version_2_has_its_parts_and_the_best_threshold(file):
    gold = file("dev.json", squad(Q1, Q3, version="v2.0"))
    predictions, nulls = file("p.json", {"a": "mill", "b": "dog"}), file("n.json", {"a": 0.1, "b": 0.9})
    rows, version = answered(predictions, gold, nulls)
    scores = score_task("squad_v2", rows)
    assert version == 2
    assert (scores["exact_match"], scores["HasAns_f1"], scores["NoAns_f1"], scores["best_f1"]) == (0.5, 1.0, 0.0, 1.0)
    with pytest.raises(DataError, match="'b': 3 is no probability"):
        answered(predictions, gold, file("o.json", {"a": 0.1, "b": 3}))
    with pytest.raises(DataError, match="no probability for 'b'"):
        answered(predictions, gold, file("m.json", {"a": 0.1}))


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"a": "x"}, r"p.json: no prediction for 'b'"),
        ({"a": "x", "b": "y", "z": "w"}, r"r.json: no 'z', which"),
        ({"a": "x", "b": None}, r"p.json, 'b': NoneType, expected the answer"),
        ([{"id": "a", "prediction": "x"}, {"id": "a", "prediction": "y"}], "entry 2: a second prediction for 'a'"),
        ([{"prediction": "x"}], 'entry 1: no field "id"'),
    ],
)
def test_questions_and_predictions_are_the_same(file, predictions, message):
    with pytest.raises(DataError, match=message):
        answered(file("p.json", predictions), file("r.json", squad(Q1, Q2)), None)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (squad(Q1, Q2, Q1), r"r.json: a second question 'a'; keep one"),
        ([{"id": "a", "answers": ["x"]}, {"id": "a", "answers": ["y"]}], r"r.json, entry 2: a second entry for 'a'"),
    ],
)
def test_a_question_is_asked_once(file, references, message):
    with pytest.raises(DataError, match=message):
        answered(file("p.json", {"a": "x", "b": "y"}), file("r.json", references), None)


def test_rows_of_multiple_choice_need_no_prediction_beside_their_log_likelihoods(file):
    row = {"label": 1, "log_likelihoods": [-2.0, -1.0], "lengths": [4, 1]}
    rows = labelled(file("p.jsonl", row), None, None)
    assert score_task("acc", rows) == {"acc": 1.0, "acc_norm": 0.0}
    with pytest.raises(DataError, match="none of the fields prediction"):
        labelled(file("q.jsonl", row), None, "rte")
