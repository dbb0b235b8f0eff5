import dataclasses
import json
import shutil
from dataclasses import replace

import pytest

from analysis.judge.bench import Bench
from analysis.judge.comparable import (
    setting_title,
    unequal,
)
from analysis.judge.number_format import signed
from analysis.judge.solo_claims import scores_against
from analysis.judge.study import POOLED_METRIC, Analysis, Study, pool
from analysis.load.paper_folder import load_published
from analysis.load.runs import Planned, experiment_labels, load_experiment, load_profile
from analysis.stats.bootstrap import paired_bootstrap
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
    assert solo.to_lora == (2_739 / 12_288,) * 2
    assert solo.to_full == (2_739 / 952_032,) * 2
    assert (lora.to_lora, full.to_full) == ((1, 1), (1, 1))
    assert (frozen.counts["adapter"], frozen.to_full) == ((0, 0), (0, 0))
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
    assert "Second outcome, lower is better: +0.500" in scores_against(Bench(study, load_published()), solo, lora)
    assert "Second outcome" not in scores_against(Bench(study, load_published()), solo, full)
    assert difference.over_items.low == pytest.approx(0.5), "every item differs by as much"
    assert study.over_items(full, "reference_loss") is None
    assert study.difference(solo, full, "reference_loss") is None
    assert {row.experiment for row in study.rows if "reference_loss" in row.scores} == {"lora", "solo_connection"}
    without = [
        replace(row, scores={name: value for name, value in row.scores.items() if name != "reference_loss"}, metrics=())
        for row in study.rows
    ]
    assert without == [replace(row, metrics=()) for row in Study.of(quick).rows]


COLA, RTE = ("minilm-l6", "cola"), ("minilm-l6", "rte")


def runs_by_name(study):
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
    runs = runs_by_name(task_study)
    lora, frozen = runs["my-cola-lora"], runs["my-cola-frozen"]
    difference = task_study.difference(lora, frozen)
    name = "matthews_correlation"
    pairs = [(lora.metrics.seeds[seed][name], frozen.metrics.seeds[seed][name]) for seed in (18, 52, 1917)]
    assert difference.effect == pytest.approx(sum(a - b for a, b in pairs) / 3)
    assert difference.seeds == (18, 52, 1917)
    assert difference.over_items.estimate == pytest.approx(difference.effect, abs=1e-5)
    opposite = task_study.difference(frozen, lora)
    assert opposite.over_items.low == pytest.approx(-difference.over_items.high)
    assert opposite.interval().high < 0 < difference.interval().low
    assert opposite.p_value() == pytest.approx(difference.p_value())


def test_the_rule_uses_the_bootstraps_error_of_the_mean_over_the_same_seeds(task_study):
    runs = runs_by_name(task_study)
    pair = runs["my-cola-lora"], runs["my-cola-frozen"]
    whole, part = task_study.difference(*pair), task_study.difference(*pair, seeds=(18, 1917))
    assert whole.items[0].variance == pytest.approx(whole.over_items.standard_error**2)
    assert whole.items[0].degrees == whole.item_count - 1
    assert (part.seeds, part.by_seed) == ((18, 1917), (whole.by_seed[0], whole.by_seed[2]))
    alone = replace(task_study, _replicates={}).paired(*pair, "matthews_correlation", (18, 1917))
    assert part.over_items.standard_error == pytest.approx(alone.standard_error)


def test_a_pooled_difference_is_the_mean_over_tasks_seed_by_seed(task_study):
    runs = runs_by_name(task_study)
    pairs = [(runs[f"my-{task}-lora"], runs[f"my-{task}-frozen"]) for task in ("cola", "rte")]
    parts = [task_study.difference(*pair) for pair in pairs]
    pooled = task_study.pooled(pairs)
    assert pooled.seeds == (18, 52, 1917)
    assert pooled.by_seed == pytest.approx(
        [(a + b) / 2 for a, b in zip(*(part.by_seed for part in parts), strict=True)]
    )
    expected = sum(part.items[0].variance for part in parts) / 4
    assert sum(noise.variance for noise in pooled.items) == pytest.approx(expected)
    assert pooled.over_items.standard_error**2 == pytest.approx(expected, rel=0.1), "tasks are drawn independently"
    twice = pool([parts[0], parts[0]])  # the same draws, but for their shift
    assert twice.over_items.standard_error**2 == pytest.approx(parts[0].over_items.standard_error ** 2 / 2, rel=0.2)
    assert (pooled.metric, pooled.item_count) == (POOLED_METRIC, sum(part.item_count for part in parts))
    assert task_study.pooled(pairs[:1]).by_seed == pytest.approx(parts[0].by_seed)
    assert task_study.pooled([]) is None


def test_an_analysis_leaves_seeds_out_and_chooses_the_test(task_study):
    runs = runs_by_name(task_study)
    pair = runs["my-cola-lora"], runs["my-cola-frozen"]
    fewer = replace(task_study, analysis=Analysis(left_out=(52,))).difference(*pair)
    assert fewer.seeds == (18, 1917)
    assert fewer.why_undecidable == "fewer than 3 seeds"
    whole = task_study.difference(*pair)
    parts = [
        replace(task_study, analysis=Analysis(test=test)).difference(*pair) for test in ("seeds", "seeds and items")
    ]
    assert max(part.p_value() for part in parts) == whole.p_value()
    assert len({part.p_value() for part in parts}) == 2
    assert {part.by_seed for part in parts} == {whole.by_seed}


def test_kept_replicates_give_what_the_plain_paired_bootstrap_gives(task_study):
    from analysis.stats.items import item_statistics, statistic_of

    runs = runs_by_name(task_study)
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
    names = runs_by_name(study)
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
    assert (row.counts["adapter"], row.counts_at_start["adapter"]) == ((3 * 6_144,) * 2, (18 * 6_144,) * 2)
    assert row.counts_at_start["importance"] == (18, 18)
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


def test_the_gate_has_the_seeds_that_were_fixed_for_it(gated):
    study = gated(lora=0.9, frozen=0.6)

    def with_gate_seeds(*seeds):
        part = study.judgement.grid[0]
        part = part.model_copy(update={"tasks": {"cola": "matthews_correlation"}, "gate_seeds": seeds})
        judgement = study.judgement.model_copy(update={"grid": (part,)})
        return replace(study, judgement=judgement).learned(("minilm-l6", "cola"))

    assert with_gate_seeds(5001, 5002).verdict == "learned"
    missing = with_gate_seeds(5001, 5002, 5003)
    assert (missing.verdict, "do not share the seeds 5001, 5002, 5003" in missing.reason) == ("not known", True)
    assert with_gate_seeds(5001).difference.seeds == (5001,)


def test_a_gate_on_two_types_of_processor_says_nothing(gated, moved):
    study = gated(lora=0.9, frozen=0.6)
    gates = tuple(moved(run, (5002,)) if run.name == "gate-cola-lora" else run for run in study.gates)
    found = replace(study, gates=gates).learned(("minilm-l6", "cola"))
    assert (found.verdict, "different types of processor on seed 5002" in found.reason) == ("not known", True)
    compared = tuple(moved(run, run.seeds) if run.name == "my-cola-lora" else run for run in study.experiments)
    found = replace(study, gates=(), experiments=compared).learned(("minilm-l6", "cola"))
    assert (found.verdict, "different types of processor" in found.reason) == ("not known", True)


def test_a_pool_stays_confounded_when_its_tasks_are_compared_again_on_common_seeds(write_task_runs, moved, tmp_path):
    """CoLA has three seeds of one processor, one of which MRPC lacks; both again on the six that they share."""
    seeds = (1, 2, 3, 4, 5, 6, 7, 8)
    runs = write_task_runs(tmp_path, tasks=("cola", "mrpc"), methods=("lora", "dora"), items=60, seeds=seeds)
    found = runs_by_name(study_of(runs))
    lacking = found["my-mrpc-lora"].metrics
    lacking = lacking.model_copy(update={"seeds": {s: v for s, v in lacking.seeds.items() if s != 3}})
    cola = moved(found["my-cola-lora"], (4, 5, 6, 7, 8)), found["my-cola-dora"]
    mrpc = moved(replace(found["my-mrpc-lora"], metrics=lacking), (8,)), found["my-mrpc-dora"]
    pooled = Study.of([*cola, *mrpc]).pooled([cola, mrpc])
    assert pooled.confounded
    assert pooled.p_value() is None


def test_a_trivial_baseline_is_a_rival_of_the_gate(gated):
    study = gated(lora=0.9, frozen=0.6)
    baseline = runs_by_name(study)["my-cola-baseline"]
    scores = {0: dict.fromkeys(baseline.metrics.metrics, 0.99)}
    best = baseline.metrics.model_copy(update={"seeds": scores})
    runs = tuple(dataclasses.replace(run, metrics=best) if run is baseline else run for run in study.experiments)
    found = dataclasses.replace(study, experiments=runs).learned(("minilm-l6", "cola"))
    assert found.verdict == "did not learn"
    assert "trivial baseline" in found.reason


def bench_of(experiments):
    return Bench(Study.of(tuple(experiments)), load_published())


@pytest.fixture
def pair(write_runs, tmp_path):
    runs = write_runs(tmp_path, profile="cpu", experiments=("lora", "solo_connection"), items=6)
    return {experiment.name: experiment for experiment in load_profile(runs)}


def test_every_profile_but_quick_tests_claims(pair):
    for profile, tests in (("paper", True), ("cpu", True), ("another", True), ("quick", False)):
        experiments = [dataclasses.replace(experiment, profile=profile) for experiment in pair.values()]
        assert (bench_of(experiments).never_tests is None) == tests
    assert (
        "quick profile never tests"
        in bench_of([dataclasses.replace(experiment, profile="quick") for experiment in pair.values()]).never_tests
    )


def test_only_the_paper_profile_speaks_of_the_paper(pair):
    assert "to no published cell" in bench_of(pair.values()).scope(["SmolLM2-135M"])
    paper = [dataclasses.replace(experiment, profile="paper") for experiment in pair.values()]
    assert bench_of(paper).scope(["GPT-2 Medium"]) == ""


def test_readings_are_the_papers_rank_with_either_skip_length(paper_runs):
    found = bench_of(load_profile(paper_runs))
    assert [(experiment.name, skip) for experiment, skip in found.readings] == [("large-solo", 6), ("solo-k2", 2)]
    assert found.reading("gpt2-medium", 2).name == "solo-k2"
    assert found.reading("gpt2-medium", 6) is None
    assert found.lora_of(found.reading("gpt2-large", 6)).name == "large-lora"


def test_a_difference_is_told_seed_by_seed(pair):
    lora, solo = pair["lora"], pair["solo_connection"]
    text = scores_against(bench_of(pair.values()), solo, lora)
    for seed in solo.seeds:
        difference = solo.metrics.seeds[seed]["BLEU"] - lora.metrics.seeds[seed]["BLEU"]
        assert f"{signed(difference)} (seed {seed})" in text


def test_one_seed_is_told_once(write_runs, tmp_path):
    runs = write_runs(tmp_path, profile="cpu", experiments=("lora", "solo_connection"), items=6, seeds=(18,))
    found = {experiment.name: experiment for experiment in load_profile(runs)}
    text = scores_against(bench_of(found.values()), found["solo_connection"], found["lora"])
    assert "one seed" in text
    assert "seed by seed" not in text


def test_runs_of_one_seed_on_two_types_of_processor_are_not_compared(pair, moved):
    lora, solo = pair["lora"], moved(pair["solo_connection"], (52, 1917))
    found = bench_of([lora, solo]).study.difference(solo, lora)
    assert (found.confounded, found.dropped, found.seeds) == (True, (52, 1917), (18, 52, 1917))
    assert found.p_value() is None
    ignored = replace(bench_of([lora, solo]).study, analysis=Analysis(processors=False)).difference(solo, lora)
    assert (ignored.confounded, ignored.dropped) == (False, ())


def test_counts_are_the_fewest_and_the_most_over_seeds(project_root):
    """Grouped-query attention: value projections are narrower, so what is kept decides how much is trained."""
    names = ["llama-sentiment-lora", "llama-sentiment-weight-lora"]
    _, ours = Study.of(load_profile(project_root / "runs/quick", names)).rows_as_given
    assert ours.counts["adapter"] == (1_728, 2_112)
    assert ours.to_lora == (1_728 / 11_520, 2_112 / 11_520)
