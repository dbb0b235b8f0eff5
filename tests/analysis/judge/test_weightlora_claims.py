"""The claims of the WeightLoRA paper on made-up runs."""

import dataclasses
import re

import pytest

from analysis.judge.bench import Case
from analysis.judge.claims import judge
from analysis.judge.study import Study
from analysis.judge.weightlora_claims import _almost_all, dominant, parameters_kept
from analysis.load.judgement import load_judgement
from analysis.load.runs import Experiment, Planned, load_profile
from analysis.load.searches import read_memory
from analysis.show.claim_tables import claim_rows


def judge_weightlora(profile, study, memory=None):
    found = judge(dataclasses.replace(study, profile=profile), memory=memory)
    return [judged for judged in found if judged.claim.paper == "weightlora"]


def weightlora_verdicts(profile, study, memory=None):
    return {judged.claim.key: judged for judged in judge_weightlora(profile, study, memory)}


@pytest.fixture
def make(write_task_runs, tmp_path, monkeypatch):
    """Verdicts on made-up runs whose quality is given; a tenth of the resamples, for time."""
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 500)

    def judged(profile="cpu", **settings):
        defaults = {
            "tasks": ("cola",), "items": 400,
            "methods": ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3"),
        }  # fmt: skip
        runs = write_task_runs(tmp_path / "runs", profile=profile, **{**defaults, **settings})
        return weightlora_verdicts(profile, Study.of(load_profile(runs)))

    return judged


@pytest.mark.parametrize(
    ("effects", "text"),
    [((-0.167, -0.054, -0.026), "mostly task 0 (−0.167)"), ((0.01, -0.2), "mostly task 1 (−0.200)"),
     ((0.1, 0.1, 0.1), ""), ((0.1, -0.1), "")],
)  # fmt: skip
def test_the_task_that_makes_up_most_of_a_difference_is_named(effects, text):
    assert dominant({f"task {number} on MiniLM-L6": effect for number, effect in enumerate(effects)}) == text


def test_there_is_one_verdict_a_claim(task_study):
    found = judge_weightlora("cpu", task_study)
    assert [judged.claim.number for judged in found] == [1, 2, 3, 4]


def test_a_baseline_takes_part_in_no_claim(write_task_runs, tasks_module, tmp_path):
    methods = ("frozen", "lora", "weight_lora-k3", "random_lora-k3")
    runs = write_task_runs(tmp_path / "runs", tasks=("cola",), methods=methods)
    before = judge_weightlora("cpu", Study.of(load_profile(runs)))
    tasks_module.write_baseline(runs, "cola")
    loaded = load_profile(runs)
    assert [e.status for e in loaded] == ["complete"] * 5
    assert judge_weightlora("cpu", Study.of(loaded)) == before


def test_a_clear_difference_supports(make):
    better = {
        "my-cola-weight_lora-k3": 0.91,
        "my-cola-random_lora-k3": 0.70,
        "my-cola-lora": 0.72,
        "my-cola-weight_lora_plus": 1.0,
    }
    found = make(quality=better)
    assert {key: judged.verdict for key, judged in found.items()} == {
        "fewer_and_as_good": "supported",
        "plus_is_best": "supported",
        "better_than_random": "supported",
        "saves_memory": "not_tested",
    }
    assert found["plus_is_best"].published == "no table of the paper could be read"
    assert "This says nothing about the paper's own figures" in found["plus_is_best"].reason


def test_repeated_draws_are_shown_beside_the_test_and_change_nothing(task_study):
    before = weightlora_verdicts("cpu", task_study)["better_than_random"]
    control = next(e for e in task_study.experiments if e.name == "my-cola-random_lora-k3")
    ours = next(e for e in task_study.experiments if e.name == "my-cola-weight_lora-k3")
    seed, primary = ours.seeds[0], ours.metrics.primary
    score = ours.metrics.seeds[seed][primary]
    scores = {1: score - 0.1, 2: score, 3: score + 0.1, 4: score + 0.2}
    metrics = control.metrics.model_copy(update={"seeds": {draw: {primary: x} for draw, x in scores.items()}})
    records = {draw: control.record.model_copy(update={"training_seed": seed}) for draw in scores}
    draws = dataclasses.replace(control, metrics=metrics, records=records)
    found = weightlora_verdicts("cpu", dataclasses.replace(task_study, draws=(draws,)))["better_than_random"]
    assert re.search(r"lies above 1 of 4 random draws and equals 1 .* percentile 38\.", *found.draws)
    assert dataclasses.replace(found, draws=()) == before
    other = {draw: record.model_copy(update={"training_seed": 5}) for draw, record in records.items()}
    unseen = dataclasses.replace(task_study, draws=(dataclasses.replace(draws, records=other),))
    assert weightlora_verdicts("cpu", unseen)["better_than_random"] == before


def test_the_opposite_contradicts(make):
    worse = {
        "my-cola-weight_lora-k3": 0.70,
        "my-cola-random_lora-k3": 0.95,
        "my-cola-lora": 0.95,
        "my-cola-weight_lora_plus": 0.60,
    }
    found = make(quality=worse)
    for key in ("fewer_and_as_good", "plus_is_best", "better_than_random"):
        assert found[key].verdict == "contradicted", key


def test_the_quick_profile_never_tests_a_claim(make):
    better = {"my-cola-weight_lora-k3": 0.99, "my-cola-random_lora-k3": 0.70, "my-cola-weight_lora_plus": 0.999}
    found = make(profile="quick", quality=better)
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert "quick profile never tests a claim" in found["better_than_random"].reason
    assert found["better_than_random"].observed[0].endswith(").")
    assert found["better_than_random"].headline.p is None


def test_unequal_steps_are_refused(write_task_runs, tmp_path):
    methods = ("frozen", "lora", "weight_lora-k3")
    root = tmp_path / "runs"
    runs = write_task_runs(root, tasks=("cola",), methods=methods)
    write_task_runs(root, tasks=("cola",), methods=("random_lora-k3",), training={"steps": 120})
    found = weightlora_verdicts("cpu", Study.of(load_profile(runs)))["better_than_random"]
    assert found.verdict == "not_tested"
    assert "unequal steps: my-cola-weight_lora-k3 200, my-cola-random_lora-k3 120" in found.observed[0]


def test_another_rank_is_refused(write_task_runs, tmp_path):
    runs = write_task_runs(
        tmp_path, tasks=("cola",), methods=("frozen", "lora", "weight_lora-k3"), settings={"lora": {"rank": 4}}
    )
    found = weightlora_verdicts("cpu", Study.of(load_profile(runs)))["fewer_and_as_good"]
    assert "unequal ranks: my-cola-weight_lora-k3 8, my-cola-lora 4" in found.observed[0]


def test_keeping_more_than_half_is_no_case_of_fewer(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks=("cola",), methods=("frozen", "lora", "weight_lora-k6"))
    judgement = load_judgement()
    few = judgement.fewer_parameters.model_copy(update={"share": 0.1})
    strict = judgement.model_copy(update={"fewer_parameters": few})
    found = weightlora_verdicts("cpu", Study.of(load_profile(runs), judgement=strict))["fewer_and_as_good"]
    assert found.verdict == "not_tested"
    assert "more than half" in found.observed[0]


def test_the_first_claim_has_the_counts(task_study):
    lines = weightlora_verdicts("cpu", task_study)["fewer_and_as_good"].counted
    assert "61,440 adapter parameters against 442,368, 86.1 % fewer" in lines[0]
    assert "with the task head (592,130) 36.8 % fewer" in lines[0]


@pytest.mark.parametrize(
    ("peak", "everything", "outcome"),
    [
        ((400, 410, 420), (800, 790, 810), "less memory"),
        ((800,), (800,), "no less memory"),
        ((795,), (800,), "no less memory"),  # less than the share
        ((700, 710, 795), (800, 790, 810), "no less memory"),  # one repeat of phase 2 above one with all adapters
    ],
)
def test_memory_is_judged_below_the_number_of_adapters(task_study, tasks_module, tmp_path, peak, everything, outcome):
    tasks_module.write_memory(tmp_path)
    memory, _ = read_memory(tmp_path)
    rows = tuple(row.model_copy(update={"phase2_peaks_bytes": peak}) for row in memory.rows[:4])
    whole = memory.rows[4].model_copy(update={"phase2_peaks_bytes": (900,)})
    memory = memory.model_copy(update={"rows": (*rows, whole), "all_adapters_peaks_bytes": everything})
    found = weightlora_verdicts("cpu", task_study, memory)["saves_memory"]
    assert (found.verdict, found.outcome) == ("counted", outcome)
    assert len(found.cases) == 4
    assert f"medians of {len(everything)} fresh" in found.reason
    assert weightlora_verdicts("quick", task_study, memory)["saves_memory"].verdict == "not_tested"


def test_memory_that_only_few_adapters_save_is_said_by_k(task_study, tasks_module, tmp_path):
    tasks_module.write_memory(tmp_path)
    memory, _ = read_memory(tmp_path)
    found = weightlora_verdicts(
        "cpu", task_study, memory.model_copy(update={"all_adapters_peaks_bytes": (500_000_000,)})
    )
    judged = found["saves_memory"]
    assert judged.outcome == "less memory for some K"
    assert "less with K=1, 3, 6; not with K=12" in judged.brief
    assert "17.6 % below to 8.8 % above the peak" in judged.reason
    assert judged.unit.endswith("in phase 2")
    assert "Phase 1 trains every adapter" in judged.reason


def test_no_runs_test_nothing(authors):
    found = weightlora_verdicts("cpu", Study.of([]))
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert all(dataclasses.asdict(judged)["observed"] == () for judged in found.values())


@pytest.mark.parametrize(("tasks", "waits"), [(("cola",), True), (("cola", "rte"), False)])
def test_a_claim_is_judged_when_the_whole_grid_has_run(write_task_runs, tmp_path, tasks, waits):
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(
        update={"tasks": {"cola": "matthews_correlation", "rte": "accuracy"}, "seeds": (18, 52, 1917), "gate_seeds": ()}
    )
    methods = ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3")
    runs = write_task_runs(tmp_path, tasks=tasks, methods=methods, items=60)
    study = Study.of(load_profile(runs), judgement=fixed.model_copy(update={"grid": (part,)}))
    for key in ("fewer_and_as_good", "plus_is_best", "better_than_random"):
        judged = weightlora_verdicts("cpu", study)[key]
        assert ("Not judged yet" in judged.reason) is waits
        assert (judged.verdict == "not_tested") is waits
        assert not waits or "on 2 tasks, of which 1 ran" in judged.reason


def test_a_task_that_was_not_learned_tests_nothing(task_study):
    found = weightlora_verdicts("cpu", task_study)["better_than_random"]
    rte = next(line for line in found.observed if line.startswith("RTE"))
    assert rte.endswith("not tested: did not learn.")
    assert "Without a test: RTE on MiniLM-L6, K=3 (did not learn)" in found.reason


def test_a_case_says_effect_interval_seeds_and_which_count(task_study):
    line = next(line for line in weightlora_verdicts("cpu", task_study)["fewer_and_as_good"].observed if "CoLA" in line)
    assert re.search(r"WeightLoRA minus LoRA [+−]0\.\d{3} Matthews correlation", line)
    assert re.search(r"\(95 % [+−]0\.\d{3} to [+−]0\.\d{3}, .*3 seeds", line)
    assert "with 16.7 % of LoRA's adapter parameters (64.6 % with the task head)" in line


def test_one_seed_is_never_a_result(make):
    better = {"my-cola-weight_lora-k3": 0.99, "my-cola-random_lora-k3": 0.70}
    found = make(quality=better, seeds=(18,))["better_than_random"]
    assert found.verdict == "cannot_tell"
    assert found.observed[0].endswith("cannot tell: fewer than 3 seeds.")
    assert "one seed" in found.observed[0]


POOLED = {
    "tasks": ("cola", "mrpc", "sst2"), "items": 300, "seeds": (18, 52, 1917, 7, 101),
    "methods": ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3"),
}  # fmt: skip


def qualities(**methods):
    """The same quality of each method in every task; of LoRA 0.85."""
    by_method = {"lora": 0.85, "weight_lora-k3": 0.85, "weight_lora_plus": 0.85, "random_lora-k3": 0.85, **methods}
    return {f"my-{task}-{name}": value for task in POOLED["tasks"] for name, value in by_method.items()}


def test_the_pooled_difference_decides_and_single_tasks_are_secondary(make):
    found = make(**POOLED, quality=qualities(**{"weight_lora-k3": 0.92, "random_lora-k3": 0.84}))["better_than_random"]
    (primary,) = found.primary
    assert primary.title == "3 learned tasks pooled on MiniLM-L6, K=3"
    assert (found.verdict, primary.verdict, primary.findings[0].family) == ("supported", "supported", 1)
    secondary = [case for case in found.cases if case.role == "secondary"]
    assert [case.title for case in secondary] == [f"{task} on MiniLM-L6, K=3" for task in ("CoLA", "MRPC", "SST-2")]
    assert {finding.family for case in secondary for finding in case.findings} == {3}
    effects = [case.effects[0] for case in secondary]
    assert primary.effects[0] == pytest.approx(sum(effects) / 3)
    assert primary.findings[0].detectable < min(case.findings[0].detectable for case in secondary)
    assert found.headline is primary.findings[0]
    assert found.to_dict()["cases"][0]["role"] == "primary"


def test_a_pooled_difference_can_contradict_where_no_task_can(make):
    """Worse by little everywhere: no single task decides, together they do."""
    found = make(**POOLED, quality=qualities(**{"weight_lora-k3": 0.85, "random_lora-k3": 0.88}))["better_than_random"]
    (primary,) = found.primary
    tasks = [case.findings[0] for case in found.cases if case.role == "secondary"]
    assert (found.verdict, {finding.verdict for finding in tasks}) == ("contradicted", {"cannot_tell"})
    assert primary.findings[0].p < min(finding.p_adjusted for finding in tasks)
    assert primary.findings[0].detectable < min(finding.detectable for finding in tasks)


def test_the_margin_of_a_pooled_comparison_is_the_mean_of_its_tasks(make):
    found = make(**POOLED, quality=qualities())["fewer_and_as_good"]
    margins = load_judgement().measures
    wanted = [margins["matthews_correlation"], margins["f1"], margins["accuracy"]]
    mean = sum(margin.keeps_within for margin in wanted) / 3
    question = found.primary[0].findings[0].question
    assert (question.above, question.below, question.target) == (pytest.approx(-mean), 0.0, pytest.approx(mean))


def test_almost_all_cases_must_be_ahead(make):
    """WeightLoRA+ is far ahead in two of three tasks and behind in one: pooled it leads, yet not in 75 %."""
    quality = qualities(weight_lora_plus=0.99)
    quality["my-sst2-weight_lora_plus"] = 0.80
    found = make(**POOLED, quality=quality)["plus_is_best"]
    assert [case.verdict for case in found.primary] == ["supported", "supported"]
    assert found.verdict == "contradicted", "it is shown to trail in more than a quarter of the tasks"
    assert "Ahead of every rival in 2 of 3 tasks (75 % are needed)" in found.reason
    assert make(**POOLED, quality=qualities(weight_lora_plus=0.99))["plus_is_best"].verdict == "supported"


def test_claim_2_has_one_primary_comparison_a_rival(make):
    found = make(**POOLED, quality=qualities(weight_lora_plus=0.70))["plus_is_best"]
    names = [case.findings[0].question.name for case in found.primary]
    assert names == ["WeightLoRA+ minus LoRA", "WeightLoRA+ minus WeightLoRA K=3"]
    assert {case.findings[0].family for case in found.primary} == {2}
    assert found.verdict == "contradicted"


def test_a_task_that_dropped_a_seed_drops_it_from_the_pool(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, **POOLED)
    experiments = elsewhere(load_profile(runs), {"my-cola-random_lora-k3": (52,)})
    found = weightlora_verdicts("cpu", Study.of(experiments))["better_than_random"]
    assert found.primary[0].findings[0].difference.seeds == (7, 18, 101, 1917)
    assert found.headline.to_dict()["seeds"] == [7, 18, 101, 1917]
    assert found.headline.to_dict()["dropped_seeds"] == [52]
    assert "without seed 52, whose runs were made on different processors" in found.primary[0].text


def test_tasks_that_each_drop_another_seed_leave_a_pool_that_is_confounded(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, **POOLED)
    dropped = {f"my-{task}-random_lora-k3": (seed,) for task, seed in zip(POOLED["tasks"], (7, 18, 52), strict=True)}
    found = weightlora_verdicts("cpu", Study.of(elsewhere(load_profile(runs), dropped)))["better_than_random"]
    assert {case.verdict for case in found.cases if case.role == "secondary"} != {"confounded"}, "each has four seeds"
    assert (found.verdict, found.primary[0].verdict) == ("confounded", "confounded")
    assert found.headline.to_dict()["dropped_seeds"] == [7, 18, 52]


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"my-sst2-random_lora-k3": (18, 52, 1917, 7, 101)}, "confounded", "different types of processor"),
        ({"my-sst2-random_lora-k3": "steps"}, "cannot_tell", "unequal steps"),
    ],
)
def test_a_learned_task_that_cannot_be_compared_keeps_the_pool_from_a_verdict(
    write_task_runs, tmp_path, monkeypatch, change, verdict, reason
):
    """The other two tasks are far ahead; without the third they would answer a different question."""
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 500)
    best = qualities(**{"weight_lora-k3": 0.98, "random_lora-k3": 0.7}) | {"my-sst2-weight_lora-k3": 0.6}
    loaded = load_profile(write_task_runs(tmp_path, **POOLED, quality=best))
    found = weightlora_verdicts("cpu", Study.of(elsewhere(loaded, change)))["better_than_random"]
    (primary,) = found.primary
    assert (found.verdict, primary.verdict) == (verdict, verdict)
    assert f"SST-2 on MiniLM-L6, K=3 cannot be compared ({reason}" in primary.text
    assert primary.effects[0] > 0, "what the others show is still stated"
    assert "to find" not in primary.text, "no number of seeds would decide it"
    (row,) = claim_rows([found], "cpu")
    assert row.why.startswith("SST-2 on MiniLM-L6, K=3 cannot be compared")
    two = [run for run in loaded if "sst2" not in run.name]
    assert weightlora_verdicts("cpu", Study.of(two))["better_than_random"].verdict == "supported"


def elsewhere(experiments, changes):
    """The same runs, those of some seeds made on another processor, or with another number of steps."""
    changed = []
    for experiment in experiments:
        for seed in experiment.records if changes.get(experiment.name) == "steps" else changes.get(experiment.name, ()):
            record = experiment.records[seed]
            other = (
                {"training": {**record.training, "steps": 7}}
                if changes[experiment.name] == "steps"
                else {"conditions": record.conditions.model_copy(update={"cpu": "another"})}
            )
            records = {**experiment.records, seed: record.model_copy(update=other)}
            experiment = dataclasses.replace(experiment, records=records)
        changed.append(experiment)
    return changed


def test_two_runs_of_one_method_are_no_two_tasks(make, write_task_runs, tmp_path):
    """A second WeightLoRA run at another rate counted as a task would halve the item noise."""
    one = make(**POOLED, quality=qualities())
    assert one["better_than_random"].verdict == "cannot_tell"
    again = write_task_runs(
        tmp_path / "again", tasks=("cola",), methods=("weight_lora-k3",), items=300, seeds=POOLED["seeds"],
        training={"learning_rate": 0.5},
    )  # fmt: skip
    runs = [*load_profile(tmp_path / "runs" / "cpu"), dataclasses.replace(load_profile(again)[0], name="another")]
    found = weightlora_verdicts("cpu", Study.of(runs))
    for claim in ("fewer_and_as_good", "better_than_random"):
        assert found[claim].verdict == "cannot_tell"
        assert "another and my-cola-weight_lora-k3 are runs of one method" in found[claim].reason
    earlier = load_judgement().model_copy(update={"roles": {"cpu": {"earlier": ("another",)}}})
    clear = weightlora_verdicts("cpu", Study.of(runs, judgement=earlier))["better_than_random"]
    assert clear.primary[0].title == "3 learned tasks pooled on MiniLM-L6, K=3"
    assert clear.primary[0].effects == one["better_than_random"].primary[0].effects


def test_two_lengths_of_one_corpus_are_two_tasks(write_task_runs, tmp_path, monkeypatch):
    """WeightLoRA+ trails in one of four; three of four are enough not to be contradicted by the count."""
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 500)
    tasks = {f"cola-{steps}": "cola" for steps in (100, 200, 300, 400)}
    ahead = {f"my-{task}-weight_lora_plus": 0.60 if task == "cola-400" else 0.99 for task in tasks}
    runs = write_task_runs(tmp_path, tasks=tasks, methods=POOLED["methods"], items=300, quality=ahead)
    found = weightlora_verdicts("cpu", Study.of(same_corpus(load_profile(runs), "cola")))["plus_is_best"]
    assert "Ahead of every rival in 3 of 4 tasks (75 % are needed), shown to trail in 1." in found.reason
    assert found.verdict == "cannot_tell"
    titles = {case.title for case in found.cases if case.role == "secondary"}
    assert "CoLA [cola-100] on MiniLM-L6" in titles


def same_corpus(experiments, name):
    """Every record's corpus under one name, its task kept."""

    def renamed(record):
        return record.model_copy(update={"corpus": record.corpus.model_copy(update={"name": name})})

    return [
        dataclasses.replace(e, records={seed: renamed(record) for seed, record in e.records.items()})
        for e in experiments
    ]


def test_the_second_claim_needs_both_rivals(make):
    without_lora = make(methods=("frozen", "weight_lora-k3", "weight_lora-k6", "weight_lora_plus"))["plus_is_best"]
    assert (without_lora.verdict, without_lora.cases) == ("not_tested", ())


def test_a_backbone_outside_the_plan_is_shown_and_decides_nothing(write_task_runs, tmp_path):
    """WeightLoRA+ is ahead in both planned tasks and far behind on another backbone."""
    ahead = {f"my-{task}-weight_lora_plus": 0.99 for task in ("cola", "mrpc")}
    more = {"methods": POOLED["methods"], "items": 300}
    write_task_runs(tmp_path, tasks=("cola", "mrpc"), quality=ahead, **more)
    runs = write_task_runs(
        tmp_path, tasks=("sst2",), backbone="deberta-v3-base", quality={"my-sst2-weight_lora_plus": 0.60}, **more
    )
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(
        update={"tasks": {"cola": "matthews_correlation", "mrpc": "f1"}, "seeds": (18, 52, 1917), "gate_seeds": ()}
    )
    planned = fixed.model_copy(update={"grid": (part,)})
    found = weightlora_verdicts("cpu", Study.of(load_profile(runs), judgement=planned))["plus_is_best"]
    assert found.verdict == "supported"
    assert "Ahead of every rival in 2 of 2 tasks" in found.reason
    elsewhere = [case for case in found.cases if "DeBERTaV3-base" in case.title]
    assert {(case.role, case.verdict) for case in elsewhere} == {("secondary", "contradicted")}


@pytest.fixture
def planned(write_task_runs, tmp_path, monkeypatch):
    """`planned(cola="3", mrpc="3 6")`: verdicts on a grid of these tasks, each with WeightLoRA at these K.

    WeightLoRA with K=6 is far behind LoRA, with K=3 ahead of it, WeightLoRA+ ahead of all.
    """
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 500)
    measures = {"cola": "matthews_correlation", "mrpc": "accuracy", "sst2": "accuracy"}

    def verdicts(**keeps):
        for task, keep in keeps.items():
            kinds = [f"{kind}-k{k}" for k in keep.split() for kind in ("weight_lora", "random_lora")]
            quality = {
                f"my-{task}-{kind}": {"weight_lora-k6": 0.6, "weight_lora-k3": 0.97}.get(kind, 0.9) for kind in kinds
            }
            quality |= {f"my-{task}-lora": 0.92, f"my-{task}-weight_lora_plus": 1.0}
            methods = ("frozen", "lora", "weight_lora_plus", *kinds)
            runs = write_task_runs(tmp_path, tasks=(task,), methods=methods, items=300, quality=quality)
        fixed = load_judgement()
        tasks = {task: measures[task] for task in keeps}
        part = fixed.grid[0].model_copy(update={"tasks": tasks, "seeds": (18, 52, 1917), "gate_seeds": ()})
        study = Study.of(load_profile(runs), judgement=fixed.model_copy(update={"grid": (part,)}))
        return weightlora_verdicts("cpu", study)

    return verdicts


def test_another_k_on_one_task_of_the_grid_does_not_decide(planned):
    found = planned(cola="3", mrpc="3 6", sst2="3")
    assert [case.title for case in found["fewer_and_as_good"].primary] == ["3 learned tasks pooled on MiniLM-L6, K=3"]
    assert found["fewer_and_as_good"].verdict == "supported"
    single = next(case for case in found["fewer_and_as_good"].cases if case.title == "MRPC on MiniLM-L6, K=6")
    assert (single.role, single.verdict) == ("secondary", "contradicted")
    rivals = [case.findings[0].question.name for case in found["plus_is_best"].primary]
    assert rivals == ["WeightLoRA+ minus LoRA", "WeightLoRA+ minus WeightLoRA K=3"]


def test_a_grid_without_one_k_for_all_tasks_is_not_judged(planned):
    found = planned(cola="3", mrpc="3", sst2="6")
    for claim, what in (("fewer_and_as_good", "minus LoRA"), ("better_than_random", "minus random")):
        (primary,) = found[claim].primary
        assert primary.title == "3 learned tasks on MiniLM-L6"
        assert (found[claim].verdict, primary.untested) == ("not_tested", "no K was run on every task")
        assert f"{what} not pooled, no K was run on every task" in found[claim].reason
    assert [case.untested for case in found["plus_is_best"].primary] == [None, "no K was run on every task"]
    assert found["plus_is_best"].verdict not in ("supported", "contradicted")


@pytest.mark.parametrize("place", [0, 99])
def test_a_run_of_the_paper_by_name_is_a_second_run_of_the_method(write_task_runs, altered, tmp_path, place):
    runs = load_profile(write_task_runs(tmp_path, tasks=("cola", "rte"), methods=POOLED["methods"], items=60))
    ours = next(run for run in runs if run.name == "my-cola-weight_lora-k3")
    other = altered(ours, lambda record: {"method_config": {**record.method_config, "preset": "paper"}})
    runs.insert(place, dataclasses.replace(other, name="another"))
    fixed = load_judgement()
    tasks = {"cola": "matthews_correlation", "rte": "accuracy"}
    part = fixed.grid[0].model_copy(update={"tasks": tasks, "seeds": (18, 52, 1917), "gate_seeds": ()})
    found = weightlora_verdicts("cpu", Study.of(runs, judgement=fixed.model_copy(update={"grid": (part,)})))
    assert "another and my-cola-weight_lora-k3 are runs of one" in found["fewer_and_as_good"].primary[0].untested


def test_two_k_on_every_task_of_the_grid_both_decide(planned):
    found = planned(cola="3 6", mrpc="3 6")["fewer_and_as_good"]
    assert [case.verdict for case in found.primary] == ["supported", "contradicted"]


def test_a_grid_begins_with_its_first_run_not_with_its_plan(write_task_runs, tmp_path):
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(update={"tasks": {"rte": "accuracy"}, "seeds": (18, 52, 1917), "gate_seeds": ()})
    judgement = fixed.model_copy(update={"grid": (part,)})
    runs = load_profile(write_task_runs(tmp_path, tasks=("cola",), methods=POOLED["methods"], items=60))
    planned = Planned("minilm-l6", "rte", "lora", "classification")
    later = Experiment("cpu", "my-rte-lora", tmp_path / "cpu" / "my-rte-lora", "missing", planned=planned)
    before = weightlora_verdicts("cpu", Study.of(runs, judgement=judgement))
    listed = weightlora_verdicts("cpu", Study.of([*runs, later], judgement=judgement))
    assert {key: found.verdict for key, found in listed.items()} == {
        key: found.verdict for key, found in before.items()
    }
    assert "Not judged yet" not in listed["better_than_random"].reason
    begun = load_profile(write_task_runs(tmp_path, tasks=("rte",), methods=("lora",), items=60))
    waiting = weightlora_verdicts("cpu", Study.of(begun, judgement=judgement))["better_than_random"]
    assert "Not judged yet" in waiting.reason


def test_seeds_outside_the_plan_enter_no_verdict(write_task_runs, tmp_path):
    fixed = load_judgement()
    tasks = {"cola": "matthews_correlation", "rte": "accuracy"}
    part = fixed.grid[0].model_copy(update={"tasks": tasks, "seeds": (18, 52, 1917), "gate_seeds": ()})
    seeds = (5, 6, 18, 52, 1917)
    runs = load_profile(
        write_task_runs(tmp_path, tasks=("cola", "rte"), methods=POOLED["methods"], items=60, seeds=seeds)
    )
    found = weightlora_verdicts("cpu", Study.of(runs, judgement=fixed.model_copy(update={"grid": (part,)})))
    compared = [finding for judged in found.values() for case in judged.cases for finding in case.findings]
    assert {finding.difference.seeds for finding in compared} == {(18, 52, 1917)}


def test_the_plans_measure_is_compared_whatever_the_run_calls_primary(write_task_runs, tmp_path):
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(update={"tasks": {"mrpc": "accuracy"}, "seeds": (18, 52, 1917), "gate_seeds": ()})
    runs = load_profile(write_task_runs(tmp_path, tasks=("mrpc",), methods=POOLED["methods"], items=60))
    assert {run.metrics.primary for run in runs} == {"f1"}
    found = weightlora_verdicts("cpu", Study.of(runs, judgement=fixed.model_copy(update={"grid": (part,)})))
    assert {f.difference.metric for case in found["better_than_random"].cases for f in case.findings} == {"accuracy"}


def test_a_planned_gate_that_did_not_run_is_not_replaced_by_the_compared_runs(write_task_runs, tmp_path):
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(update={"tasks": {"cola": "matthews_correlation"}, "seeds": (18, 52, 1917)})
    runs = load_profile(write_task_runs(tmp_path, tasks=("cola",), methods=POOLED["methods"], items=60))
    study = Study.of(runs, judgement=fixed.model_copy(update={"grid": (part,)}))
    assert part.gate_seeds
    found = study.learned(("minilm-l6", "cola"))
    assert (found.verdict, "gate runs" in found.reason) == ("not known", True)
    assert weightlora_verdicts("cpu", study)["better_than_random"].verdict == "not_tested"


def test_the_share_of_parameters_is_that_of_the_seed_that_kept_most(project_root):
    names = ["llama-sentiment-weight-lora", "llama-sentiment-lora"]
    share, text = parameters_kept(*load_profile(project_root / "runs/quick", names))
    assert share == 2_112 / 11_520
    assert text.startswith("with 15.0 % to 18.3 % of LoRA's adapter parameters")


@pytest.mark.parametrize(
    ("trailing", "verdict"), [(0, "supported"), (1, "cannot_tell"), (2, "contradicted"), (4, "contradicted")]
)
def test_almost_all_is_a_count_of_tasks_that_lead_and_of_tasks_that_trail(trailing, verdict):
    kinds = [("contradicted", -0.1)] * trailing + [("supported", 0.1)] * (4 - trailing)
    cases = [Case(f"task {n}", kind, "", effects=(effect,)) for n, (kind, effect) in enumerate(kinds)]
    assert _almost_all("supported", cases, {case.title for case in cases}, 0.75)[0] == verdict
    ahead_but_behind_a_rival = [*cases[:-1], Case("task 3", "cannot_tell", "", effects=(0.1, -0.1))]
    if not trailing:
        assert (
            _almost_all("supported", ahead_but_behind_a_rival, {case.title for case in cases}, 0.75)[0] == "supported"
        )
