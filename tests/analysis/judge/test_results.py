import shutil
from dataclasses import replace

import pytest

from analysis.judge.study import (
    Study,
    base_parameters,
    is_reading,
)
from analysis.load.runs import experiment_labels, load_experiment, load_profile
from replication.fileio import read_json, read_jsonl, write_json, write_jsonl
from replication.metrics import find
from replication.metrics.bleu import bleu
from replication.metrics.programs import Programs


@pytest.fixture
def quick(quick_runs):
    return load_profile(quick_runs)


def by_name(rows):
    return {row.experiment: row for row in rows}


def test_rows_hold_means_spreads_and_ratios_of_adapter(quick):
    rows = by_name(Study.of(quick).rows)
    solo, lora, full, frozen = (rows[name] for name in ("solo_connection", "lora", "full", "frozen"))
    assert solo.to_lora == 2_739 / 12_288
    assert solo.to_full == 2_739 / 952_032
    assert (lora.to_lora, full.to_full) == (1, 1)
    assert (frozen.adapter, frozen.to_full) == (0, 0)
    assert frozen.scores["BLEU"].standard_deviation is None
    assert solo.scores["BLEU"].standard_deviation > 0
    assert solo.corpus_label == "embedded synthetic corpus"


def test_an_experiment_without_results_still_has_a_row(quick, tmp_path):
    row = by_name(Study.of([*quick, load_experiment(tmp_path / "quick" / "later")]).rows)["later"]
    assert (row.label, row.status, row.scores) == ("later", "missing", {})


def test_ratios_need_a_lora_run_on_the_same_backbone(quick):
    rows = by_name(Study.of([e for e in quick if e.name != "lora"]).rows)
    assert rows["solo_connection"].to_lora is None
    assert rows["solo_connection"].to_full is not None


def test_the_base_is_the_same_for_every_method(quick):
    assert {base_parameters(e.record) for e in quick} == {952_032}


def test_labels_tell_variants_apart(paper_runs):
    labels = experiment_labels(load_profile(paper_runs))
    assert labels["solo-k2"] == "Solo Connection (r=120, k=2), GPT-2 Medium"
    assert labels["solo-none"] == "Solo Connection (r=120, k=2, no homotopy parameter), GPT-2 Medium"
    assert labels["large-lora"] == "LoRA (r=4), GPT-2 Large"
    assert len(set(labels.values())) == len(labels)


def test_equal_settings_are_told_apart_by_name(quick_runs, tmp_path):
    first = load_experiment(quick_runs / "lora")
    labels = experiment_labels([first, first.__class__(**{**vars(first), "name": "lora-again"})])
    assert labels == {"lora": "LoRA (r=4) [lora]", "lora-again": "LoRA (r=4) [lora-again]"}


def test_item_interval_is_around_the_mean_bleu_of_the_seeds(quick):
    for experiment in quick:
        interval = Study.of(quick).over_items(experiment)
        expected = [
            bleu([row["prediction"] for row in rows], [row["references"] for row in rows])
            for rows in experiment.predictions.values()
        ]
        assert interval.estimate == pytest.approx(sum(expected) / len(expected))
        assert interval.low <= interval.estimate <= interval.high


def test_difference_uses_shared_seeds_on_the_same_items(quick, quick_runs, tmp_path):
    experiments = {e.name: e for e in quick}
    seeds = (18, 52, 1917)
    difference = Study.of(quick).paired(experiments["full"], experiments["solo_connection"], "BLEU", seeds)
    scores = [
        [experiments[name].metrics.seeds[seed]["BLEU"] for seed in (18, 52, 1917)]
        for name in ("full", "solo_connection")
    ]
    expected = sum(a - b for a, b in zip(*scores, strict=True)) / 3
    assert difference.estimate == pytest.approx(expected, abs=1e-5)
    assert difference.low > 0

    only_18 = shutil.copytree(quick_runs / "lora", tmp_path / "quick" / "lora")
    for seed in (52, 1917):
        (only_18 / "predictions" / f"seed-{seed}.jsonl").unlink()
    one = Study.of(quick).paired(experiments["full"], load_experiment(only_18), "BLEU", (18,))
    expected = [experiments[name].metrics.seeds[18]["BLEU"] for name in ("full", "lora")]
    assert one.estimate == pytest.approx(expected[0] - expected[1], abs=1e-5)


def test_no_difference_on_other_items(write_runs, quick, tmp_path):
    other = load_experiment(write_runs(tmp_path, experiments=["lora"], items=15) / "lora")
    assert Study.of(quick).paired(quick[-1], other, "BLEU", (18,)) is None
    assert Study.of(quick).difference(quick[-1], other) is None


@pytest.mark.parametrize(
    ("name", "reading"), [("solo-k2", (120, 2)), ("solo-none", None), ("lora", None), ("large-solo", (120, 6))]
)
def test_a_reading_has_nothing_else_changed(paper_runs, name, reading):
    experiment = load_experiment(paper_runs / name)
    for candidate in ((120, 2), (120, 6)):
        assert is_reading(experiment, *candidate) == (candidate == reading)


def with_reference_loss(folder, nats):
    """Add a loss of about `nats` a token, which rises with the item's number, to every row and to scores.json."""
    metrics, means = read_json(folder / "scores.json"), {}
    for path in sorted((folder / "predictions").glob("seed-*.jsonl")):
        rows = read_jsonl(path)
        for index, row in enumerate(rows):
            tokens = 10 + index % 3
            row.update(reference_nll=tokens * (nats + 0.01 * index), reference_tokens=tokens)
        write_jsonl(path, rows)
        seed = path.stem.removeprefix("seed-")
        means[seed] = find("reference_loss").official(rows, Programs())
        metrics["seeds"][seed]["reference_loss"] = means[seed]
    metrics["metrics"] = ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "reference_loss"]
    metrics["reference_loss"], metrics["spread"]["reference_loss"] = sum(means.values()) / len(means), 0.0
    write_json(folder / "scores.json", metrics)


def test_reference_loss_has_intervals_and_differences_and_changes_no_other_score(quick, quick_runs, tmp_path):
    runs = shutil.copytree(quick_runs, tmp_path / "quick")
    for name, nats in (("lora", 2.0), ("solo_connection", 2.5)):
        with_reference_loss(runs / name, nats)
    loaded = {experiment.name: experiment for experiment in load_profile(runs)}
    lora, solo, full = (loaded[name] for name in ("lora", "solo_connection", "full"))
    assert (lora.status, lora.metrics.metrics[-1]) == ("complete", "reference_loss")
    study = Study.of(list(loaded.values()))
    interval = study.over_items(lora, "reference_loss")
    assert interval.estimate == pytest.approx(lora.metrics.means["reference_loss"])
    assert interval.low < interval.estimate < interval.high
    difference = study.difference(solo, lora, "reference_loss")
    assert difference.effect == pytest.approx(0.5)
    assert difference.over_items.low == pytest.approx(0.5), "every item differs by as much"
    assert study.over_items(full, "reference_loss") is None
    assert study.difference(solo, full, "reference_loss") is None
    assert {row.experiment for row in study.rows if "reference_loss" in row.scores} == {"lora", "solo_connection"}
    without = [
        replace(row, scores={name: value for name, value in row.scores.items() if name != "reference_loss"}, metrics=())
        for row in study.rows
    ]
    assert without == [replace(row, metrics=()) for row in Study.of(quick).rows]
