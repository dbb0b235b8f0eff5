"""The stages with a baseline: nothing is trained, no weights are loaded without need, all outputs are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
import pipelines.predict as predict
import pipelines.score as score
import pipelines.shared.fitting as fitting
from analysis.load.runs import load_experiment
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, read_jsonl, write_json, write_jsonl, write_text
from replication.records import read_record
from replication.tasks import get_form

PARAMS = Path("params.yaml")
TRAIN = {
    "sentiment": [{"id": str(n), "text": "t", "pair": None, "label": int(n % 3 == 0)} for n in range(9)],
    "similarity": [{"id": str(n), "text": "t", "pair": "u", "label": float(n)} for n in range(6)],
    "choice": [{"id": str(n), "question": "q", "choices": ["a", "bbb"], "answer": n % 2} for n in range(4)],
}
SIMILARITY = {"corpus": "microworld_similarity", "source": "data/microworld-tasks", "form": "regression"}
EXPERIMENTS = {
    "majority": ("sentiment", "microworld-deberta", "accuracy"),
    "longest_choice": ("choice", "microworld-llama", "acc_norm"),
    "commonest_choice": ("choice", "microworld-llama", "acc_norm"),
    "cosine": ("similarity", "microworld-deberta", "stsb"),
}


def planned(project_root, **experiments):
    """The quick profile's params with only these experiments."""
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    content["tasks"]["similarity"] = SIMILARITY
    content["experiments"] = {
        key: {"backbone": backbone, "task": task, "method": "baseline", "settings": kind,
              "learning_rate": None, "seeds": [0]}
        for key, (kind, task, backbone) in experiments.items()
    }  # fmt: skip
    content["methods"]["baseline"] = {kind: {"kind": kind} for kind, _, _ in experiments.values()}
    return yaml.safe_dump({**content, "searches": {}, "memory": None})


@pytest.fixture
def home(project_root, tmp_path, monkeypatch):
    """A folder with prepared rows and weights that cannot be loaded."""
    monkeypatch.chdir(tmp_path)
    write_text(PARAMS, planned(project_root, **{k: (k, task, base) for k, (task, base, _) in EXPERIMENTS.items()}))
    write_text("paper_results/tolerances.json", (project_root / "paper_results/tolerances.json").read_text())
    for task, backbone, metric in EXPERIMENTS.values():
        write_text(f"weights/{backbone}/model.safetensors", "no weights")
        folder = Path("prepared/quick") / task
        for name in ("train", "dev", "test"):
            write_jsonl(folder / f"{name}.jsonl", TRAIN[task])
        described = {"name": task, "label": task, "metric": metric, "sha256": {"x": "0" * 64}}
        form = load_settings(PARAMS).task(task).form
        write_jsonl(Path("gold/quick") / f"{task}.jsonl", get_form(form).gold(TRAIN[task]))
        counts = {"train_examples": 9, "dev_examples": 9, "test_items": 9}
        write_json(folder / "corpus.json", {**described, "form": form, "labels": ["no", "yes"], **counts})
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "said", "right"),
    [("majority", {0}, 6 / 9), ("longest_choice", {1}, 0.5), ("commonest_choice", {0}, 0.5)],
)
def test_every_stage_runs_without_loading_weights_and_the_analysis_reads_what_it_leaves(home, kind, said, right):
    for stage in (finetune, predict, score):
        stage.main(PARAMS, kind)
    run = home / "runs/quick" / kind
    record = read_record(run / "training/seed-0/record.json")
    assert set(record.counts.model_dump().values()) == {0}
    assert (record.training, record.result.steps, record.result.dev_loss) == ({"steps": 0}, 0, None)
    assert record.adapter.bytes == (run / "adapter/seed-0/baseline.json").stat().st_size
    rows = read_jsonl(run / "predictions/seed-0.jsonl")
    assert {row["prediction"] for row in rows} == said
    assert all(set(row) == {"id", "prediction"} for row in rows)
    scores = read_json(run / "scores.json")
    assert [scores[name] for name in scores["metrics"]] == pytest.approx([right] * len(scores["metrics"]))
    found = load_experiment(run)
    assert (found.status, found.problems) == ("complete", ())
    assert len(found.curves[0]) == 1


def test_a_second_run_gives_the_same_bytes_and_another_kind_of_adapter_is_refused(home):
    folder, contents = home / "runs/quick/majority", []
    for _ in range(2):
        finetune.main(PARAMS, "majority")
        predict.main(PARAMS, "majority")
        written = [path for path in folder.rglob("*") if path.is_file() and "cost" not in path.parts]
        contents.append({path: path.read_bytes() for path in written})
    assert contents[0] == contents[1]
    write_json(folder / "adapter/seed-0/baseline.json", {"kind": "mean", "prediction": 1.0})
    with pytest.raises(DataError, match="dvc repro finetune@majority"):
        predict.main(PARAMS, "majority")


def test_predicting_before_learning_names_the_stage(home):
    with pytest.raises(DataError, match=r"baseline\.json: no such file; `dvc repro finetune@majority`"):
        predict.main(PARAMS, "majority")


def test_cosine_counts_the_backbone_without_its_head_and_reads_it_without_training(home, monkeypatch):
    import pipelines.shared.baseline as baseline

    finetune.main(PARAMS, "cosine")
    run = home / "runs/quick/cosine"
    counts = read_record(run / "training/seed-0/record.json").counts
    assert counts.trainable == 0
    plan = resolve(load_settings(PARAMS), "cosine")
    from replication.backbones import build_empty

    model = build_empty("microworld-deberta", task="sequence_classification", num_labels=1)
    head = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("deberta."))
    assert counts.total == sum(p.numel() for p in model.parameters()) - head > 0
    monkeypatch.setattr(baseline, "_cosines", lambda plan, seed, items: [0.1 * n for n in range(len(items))])
    rows = baseline.predict_baseline(plan, 0)
    assert [row["prediction"] for row in rows] == pytest.approx([5 * 0.1 * n for n in range(6)])


def test_the_dry_run_says_that_nothing_is_trained(home):
    assert "baseline majority, task sentiment, nothing trained, seeds 0" in fitting.describe(
        resolve(load_settings(PARAMS), "majority")
    )


@pytest.mark.parametrize(
    ("kind", "task", "valid"),
    [
        ("cosine", "sentiment", "majority"),
        ("majority", "choice", "commonest_choice, longest_choice"),
        ("longest_choice", "similarity", "mean, cosine"),
        ("majority", "headlines", "none"),
        ("majority", "microworld-e2e", "none"),
    ],
)
def test_a_kind_that_does_not_fit_the_form_is_refused_in_planning(
    project_root, tmp_path, monkeypatch, kind, task, valid
):
    monkeypatch.chdir(tmp_path)
    backbone = {"choice": "microworld-llama", "headlines": "microworld-bart"}.get(task, "microworld-deberta")
    write_text(PARAMS, planned(project_root, wrong=(kind, task, backbone)))
    with pytest.raises(ConfigError, match=rf"experiments\.wrong: methods\.baseline\.{kind}: .*{kind}.* are: {valid}$"):
        resolve(load_settings(PARAMS), "wrong")
