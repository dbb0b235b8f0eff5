import dataclasses
import json
import shutil

import pytest

from analysis.judge.study import Study, setting_title, unequal
from analysis.load.runs import Planned, load_profile
from analysis.stats.bootstrap import paired_bootstrap

COLA, RTE = ("minilm-l6", "cola"), ("minilm-l6", "rte")


def by_name(study):
    return {experiment.name: experiment for experiment in study.experiments}


def study_of(runs, names=None):
    return Study.of(load_profile(runs, names))


def test_a_task_is_learned_where_lora_clearly_beats_frozen(task_study):
    learned = task_study.learned(COLA)
    assert (learned.verdict, learned.lora, learned.frozen) == ("learned", "my-cola-lora", "my-cola-frozen")
    assert learned.difference.over_items.low > 0
    not_learned = task_study.learned(RTE)
    assert not_learned.verdict == "did not learn"
    assert not_learned.difference.over_items.low <= 0


def test_without_a_frozen_run_it_is_not_known(task_runs):
    study = study_of(task_runs, ["my-cola-lora", "my-cola-weight_lora-k3"])
    assert (study.learned(COLA).verdict, study.learned(COLA).reason) == ("not known", "not run: frozen")


def test_a_difference_is_paired_by_seed_and_item(task_study):
    runs = by_name(task_study)
    lora, frozen = runs["my-cola-lora"], runs["my-cola-frozen"]
    difference = task_study.difference(lora, frozen)
    name = "matthews_correlation"
    pairs = [(lora.metrics.seeds[seed][name], frozen.metrics.seeds[seed][name]) for seed in (18, 52, 1917)]
    assert difference.effect == pytest.approx(sum(a - b for a, b in pairs) / 3)
    assert difference.seeds == (18, 52, 1917)
    assert difference.over_items.estimate == pytest.approx(difference.effect, abs=1e-5)
    opposite = task_study.difference(frozen, lora)
    assert opposite.over_items.low == pytest.approx(-difference.over_items.high)
    assert opposite.below(0)
    assert difference.above(0)
    assert not difference.above(1)


def test_kept_replicates_give_what_the_plain_paired_bootstrap_gives(task_study):
    from analysis.stats.items import item_statistics, statistic_of

    runs = by_name(task_study)
    stacks = [
        [item_statistics("accuracy", e.form, rows) for rows in e.predictions.values()]
        for e in (runs["my-rte-lora"], runs["my-rte-frozen"])
    ]
    expected = paired_bootstrap(*stacks, statistic_of("accuracy", "classification"))
    found = task_study.difference(runs["my-rte-lora"], runs["my-rte-frozen"]).over_items
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_with_two_seeds_there_is_no_interval_over_seeds(write_task_runs, tmp_path):
    study = study_of(write_task_runs(tmp_path, tasks=("cola",), methods=("lora", "frozen"), seeds=(18, 52), items=30))
    difference = study.difference(*study.experiments)
    assert difference.over_seeds is None
    assert difference.over_items is not None


def test_runs_on_other_items_or_with_another_budget_are_not_compared(write_task_runs, task_runs, tmp_path):
    runs = shutil.copytree(task_runs, tmp_path / "cpu")
    path = runs / "my-cola-lora" / "predictions" / "seed-18.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[0])
    row["label"] = 1 - row["label"]
    for seed in (18, 52, 1917):
        path = runs / "my-cola-lora" / "predictions" / f"seed-{seed}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([json.dumps({**json.loads(lines[0]), "label": row["label"]}), *lines[1:]]) + "\n")
    study = study_of(runs)
    names = by_name(study)
    assert study.difference(names["my-cola-lora"], names["my-cola-frozen"]) is None
    assert unequal(names["my-rte-lora"], names["my-rte-frozen"]) is None
    shorter = write_task_runs(tmp_path / "short", tasks=("rte",), methods=("random_lora-k3",), training={"steps": 100})
    short = study_of(shorter).experiments[0]
    assert unequal(names["my-rte-lora"], short) == "unequal steps: my-rte-lora 200, my-rte-random_lora-k3 100"
    assert "not trained on the same data" in unequal(names["my-rte-lora"], names["my-cola-lora"])


def test_rows_of_experiments_that_have_not_run_come_from_the_plan(task_runs):
    plan = {
        "my-cola-lora": Planned("minilm-l6", "cola", "lora", "classification", corpus="cola"),
        "cola-later": Planned("minilm-l6", "cola", "weight_lora", "classification", {"rank": 8, "keep": 9}, "cola"),
        "qa-later": Planned("minilm-l6", "squad", "lora", "question_answering", {"rank": 8}, "squad_v1"),
    }
    study = study_of(task_runs, plan)
    rows = {row.experiment: row for row in study.rows}
    assert (rows["cola-later"].label, rows["cola-later"].status) == ("WeightLoRA (r=8, K=9)", "missing")
    assert (rows["qa-later"].form, rows["qa-later"].task_title) == ("question_answering", "SQuAD v1.1")
    assert setting_title(study.experiments, ("minilm-l6", "squad")) == "SQuAD v1.1 on MiniLM-L6"


def test_rows_hold_counts_scores_and_what_the_corpus_is(task_study):
    row = next(row for row in task_study.rows if row.experiment == "my-cola-weight_lora-k3")
    assert (row.counts["adapter"], row.counts_at_start["adapter"]) == (3 * 6_144, 18 * 6_144)
    assert row.counts_at_start["importance"] == 18
    assert row.scores["matthews_correlation"].standard_deviation > 0
    assert (row.licence, row.comparable, row.split) == ("CC BY 4.0", True, "dev")


def test_question_answering_is_resampled_item_by_item(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks={"squad_v1_subset": "squad_v1"}, methods=("lora", "frozen"), items=40)
    study = study_of(runs)
    learned = study.learned(("minilm-l6", "squad_v1_subset"))
    assert learned.verdict == "learned"
    assert learned.difference.metric == "f1"
    assert learned.difference.over_items.estimate == pytest.approx(learned.difference.effect, abs=1e-5)


def test_generation_tasks_are_no_part_of_the_study(quick_runs):
    assert Study.of(load_profile(quick_runs)).tasks.experiments == ()


@pytest.fixture
def gated(write_task_runs, tasks_module, tmp_path):
    """CoLA with compared runs, a majority baseline, and gate runs with separate seeds."""

    def make(**quality):
        share = {"my-cola-frozen": 0.6, "my-cola-lora": 0.9, **{f"gate-{k}": v for k, v in quality.items()}}
        runs = write_task_runs(tmp_path, tasks=("cola",), methods=("lora", "frozen"), quality=share)
        tasks_module.write_baseline(runs, "cola")
        elsewhere = {"my-cola-lora": quality["lora"], "my-cola-frozen": quality["frozen"]}
        other = write_task_runs(
            tmp_path / "gate", tasks=("cola",), methods=("lora", "frozen"), seeds=(5001, 5002), quality=elsewhere
        )
        for folder in other.iterdir():
            target = runs / folder.name.replace("my-", "gate-")
            shutil.copytree(folder, target)
            for path in target.rglob("*.json"):
                path.write_text(path.read_text().replace(folder.name, target.name))
        return study_of(runs)

    return make


@pytest.mark.parametrize(("lora", "frozen", "verdict"), [(0.9, 0.6, "learned"), (0.6, 0.6, "did not learn"),
                                                      (0.6, 0.9, "did not learn")])  # fmt: skip
def test_the_gate_decides_alone_what_was_learned(gated, lora, frozen, verdict):
    study = gated(lora=lora, frozen=frozen)
    found = study.learned(("minilm-l6", "cola"))
    assert (found.verdict, found.lora, found.frozen) == (verdict, "gate-cola-lora", "gate-cola-frozen")
    assert {run.name for run in study.gates} == {"gate-cola-lora", "gate-cola-frozen"}
    assert all(not run.name.startswith("gate") for run in study.experiments)


def test_a_trivial_baseline_is_a_rival_of_the_gate(gated):
    study = gated(lora=0.9, frozen=0.6)
    baseline = by_name(study)["my-cola-baseline"]
    scores = {0: dict.fromkeys(baseline.metrics.metrics, 0.99)}
    best = baseline.metrics.model_copy(update={"seeds": scores})
    runs = tuple(dataclasses.replace(run, metrics=best) if run is baseline else run for run in study.experiments)
    found = dataclasses.replace(study, experiments=runs).learned(("minilm-l6", "cola"))
    assert found.verdict == "did not learn"
    assert "trivial baseline" in found.reason
