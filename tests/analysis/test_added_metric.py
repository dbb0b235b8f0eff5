"""A metric in one new file reaches the score, the interval over items, the difference and the table."""

import sys
from types import SimpleNamespace

import pytest

import replication.metrics
from analysis.judge.study import Study
from analysis.load.runs import load_profile, read_metrics
from analysis.show.tables import results_block, scores_csv
from pipelines.score import score_seeds, summarise
from replication.errors import DataError
from replication.fileio import read_json, write_json

VERDICTS = '''
import numpy as np
from replication.metrics.metric import Metric, share, texts

class Words(Metric):
    """Words of a prediction, mean over items."""

    name = "words"
    label = "words an item"
    direction = "lower"
    scale = "words"
    reported_for = {"generation": ("e2e",)}

    def item_statistics(self, rows):
        return np.array([[len(text.split()), 1] for text in texts(rows, "prediction")], dtype=np.float64)

    def score(self, sums):
        return share(sums)

METRIC = Words()
'''


@pytest.fixture
def words(tmp_path, monkeypatch):
    """One more file among the metrics, and no Java."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "words.py").write_text(VERDICTS)
    monkeypatch.setattr(replication.metrics, "__path__", [*replication.metrics.__path__, str(folder)])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    yield
    sys.modules.pop("replication.metrics.words", None)
    if hasattr(replication.metrics, "words"):
        del replication.metrics.words


def rescore(run):
    old = read_json(run / "scores.json")
    scored = score_seeds(run, tuple(map(int, old["seeds"])), "generation", "e2e")
    write_json(
        run / "scores.json", {**old, **summarise(SimpleNamespace(profile="quick"), run.name, "generation", scored)}
    )


def test_one_file_reaches_score_interval_difference_and_table(words, write_runs, tmp_path):
    runs = write_runs(tmp_path / "runs", experiments=["lora", "full"], items=12)
    for name in ("lora", "full"):
        rescore(runs / name)
    study = Study.of(load_profile(runs))
    lora, full = study.named("lora"), study.named("full")
    lengths = [len(row["prediction"].split()) for rows in lora.predictions.values() for row in rows]
    assert lora.metrics.metrics == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "words")
    assert lora.metrics.means["words"] == pytest.approx(sum(lengths) / len(lengths))

    interval = study.over_items(lora, "words")
    assert interval.estimate == pytest.approx(lora.metrics.means["words"])
    difference = study.difference(full, lora, "words")
    assert difference.over_items.estimate == pytest.approx(difference.effect)

    block = results_block(study)
    column = block.headers.index("words an item")
    shown = {row[0]: row[column] for row in block.rows}
    fewest = min((lora, full), key=lambda experiment: experiment.metrics.means["words"])
    best = next(row for row in study.rows if row.experiment == fewest.name)
    assert f"{best.scores['words'].mean:.1f}"[:2] in str(shown[best.title])
    assert ",words," in scores_csv(study)


def test_scores_of_a_metric_that_no_file_defines_are_refused_with_the_valid_names(write_runs, tmp_path):
    run = write_runs(tmp_path / "runs", experiments=["lora"], items=12) / "lora"
    content = read_json(run / "scores.json")
    seeds = {seed: {**scores, "charm": 1.0} for seed, scores in content["seeds"].items()}
    metrics = ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "charm"]
    changed = {
        **content,
        "metrics": metrics,
        "charm": 1.0,
        "spread": {**content["spread"], "charm": 0.0},
        "seeds": seeds,
    }
    write_json(run / "scores.json", changed)
    with pytest.raises(
        DataError, match=r"scores.json.*'charm', which replication/metrics does not define .*BLEU, NIST"
    ):
        read_metrics(run / "scores.json")
