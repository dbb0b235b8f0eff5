"""Verdicts of the claims of both papers, and how the parts of a case join."""

import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.judge.claims import Case, Draft, Judged, joined_verdict, judge, loss_rises, settle
from analysis.judge.decision import Difference, Question
from analysis.judge.study import Study
from analysis.load.judgement import load_judgement
from analysis.load.runs import load_profile
from analysis.load.searches import read_memory
from analysis.stats.bootstrap import PairedDifference
from analysis.stats.seeds import t_interval


def solo_verdicts(experiments):
    return {judged.claim.number: judged for judged in judge(Study.of(experiments)) if judged.claim.paper == "solo"}


def test_the_quick_profile_never_gets_a_verdict(write_runs, tmp_path):
    """Even with GPT-2 Medium's name and counts: the profile decides, and says what it observed."""
    runs = write_runs(
        tmp_path, profile="quick", items=8, backbone="gpt2-medium", settings={"solo_connection": {"rank": 120}}
    )
    found = solo_verdicts(load_profile(runs))
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert all(judged.observed for judged in found.values())
    case = found[1].cases[0]
    assert (case.verdict, case.seeds, case.ending) == ("not_tested", 3, "")
    assert case.findings[0].p_holm is None
    assert case.findings[0].difference.over_items is not None


def test_a_profile_of_ones_own_tests_the_claims_of_both_papers(write_runs, write_task_runs, tmp_path):
    settings = {"solo_connection": {"rank": 120, "skip_length": 2}}
    runs = write_runs(tmp_path, profile="mygpu", items=12, settings=settings)
    write_task_runs(tmp_path, profile="mygpu", tasks=("cola",), methods=("frozen", "lora", "weight_lora-k3"), items=200)
    tested = {judged.claim.paper for judged in judge(Study.of(load_profile(runs))) if judged.tested}
    assert tested == {"solo", "weightlora"}


def test_the_59_per_cent_is_counted_where_it_is_not_tested(quick_runs):
    judged = solo_verdicts(load_profile(quick_runs))[2]
    assert judged.verdict == "not_tested"
    text = " ".join(judged.counted)
    assert (
        "315,605 against LoRA's 737,280, 57.2 % fewer by exact count and 59.0 % fewer than the published 0.77M" in text
    )
    assert "259,499 against LoRA's 393,216, 34.0 % fewer" in text
    assert "77.7 % fewer on this backbone" in " ".join(judged.observed)


def test_more_than_99_per_cent_is_counted(quick_runs):
    judged = solo_verdicts(load_profile(quick_runs))[3]
    assert "259,499 against 354,823,168, 99.93 % fewer" in " ".join(judged.counted)


def test_without_any_run_nothing_is_tested():
    found = solo_verdicts([])
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert all(judged.observed == () and judged.runs == () for judged in found.values())


def test_the_paper_profile_is_judged(paper_runs):
    found = solo_verdicts(load_profile(paper_runs))
    assert found[1].verdict == "supported"
    assert found[2].verdict == "inconclusive"
    assert "57.2 % fewer by exact count, 59.0 % fewer than the published 0.77M" in found[2].reason
    assert found[3].verdict == "supported"
    assert found[4].verdict in {"supported", "contradicted", "inconclusive"}
    assert "seeds" in found[4].reason


def test_a_worse_solo_contradicts_claim_1(paper_runs):
    """The two runs are swapped: what supported the claim now contradicts it."""
    experiments = {e.name: e for e in load_profile(paper_runs)}
    solo, lora = experiments["solo-k2"], experiments["lora"]
    swapped = [
        dataclasses.replace(solo, metrics=lora.metrics, predictions=lora.predictions),
        dataclasses.replace(lora, metrics=solo.metrics, predictions=solo.predictions),
    ]
    assert solo_verdicts(swapped)[1].verdict == "contradicted"


def test_equal_runs_are_inconclusive(paper_runs):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    lora = experiments["lora"]
    same = dataclasses.replace(experiments["solo-k2"], metrics=lora.metrics, predictions=lora.predictions)
    assert solo_verdicts([same, lora])[1].verdict == "inconclusive"


def test_seeds_that_disagree_are_inconclusive_whatever_the_items_say(paper_runs):
    """The items' interval lies above zero; the three seeds' differences do not agree on the sign."""
    experiments = {e.name: e for e in load_profile(paper_runs)}
    solo, lora = experiments["solo-k2"], experiments["lora"]
    seeds = {
        seed: {**scores, "BLEU": lora.metrics.seeds[seed]["BLEU"] + shift}
        for (seed, scores), shift in zip(solo.metrics.seeds.items(), (0.3, -0.2, 0.4), strict=True)
    }
    solo = dataclasses.replace(solo, metrics=solo.metrics.model_copy(update={"seeds": seeds}))
    assert solo_verdicts([solo, lora])[1].verdict == "inconclusive"


def test_two_seeds_are_not_enough(paper_runs, tmp_path):
    copy = shutil.copytree(paper_runs, tmp_path / "paper")
    experiments = [e for e in load_profile(copy) if e.name in ("solo-k2", "lora")]
    fewer = [
        dataclasses.replace(
            e,
            predictions={seed: e.predictions[seed] for seed in (18, 52)},
            metrics=e.metrics.model_copy(update={"seeds": {seed: e.metrics.seeds[seed] for seed in (18, 52)}}),
        )
        for e in experiments
    ]
    judged = solo_verdicts(fewer)[1]
    assert (judged.verdict, "three" in judged.reason) == ("inconclusive", True)


def test_an_incomplete_run_is_not_judged(paper_runs, tmp_path):
    copy = shutil.copytree(paper_runs, tmp_path / "paper")
    (copy / "solo-k2" / "training" / "seed-18" / "curves.csv").unlink()
    found = solo_verdicts(load_profile(copy))
    assert found[1].verdict == "not_tested"
    assert found[3].verdict == "not_tested"


def test_claim_4_needs_the_run_without_homotopy_parameter(paper_runs):
    experiments = [e for e in load_profile(paper_runs) if e.name != "solo-none"]
    judged = solo_verdicts(experiments)[4]
    assert judged.verdict == "not_tested"
    assert "without its homotopy parameter" in judged.reason


@pytest.mark.parametrize(("bump", "verdict"), [(3.0, "supported"), (-1.0, "contradicted")])
def test_claim_4_compares_the_rises_of_the_loss(paper_runs, bump, verdict):
    experiments = []
    for experiment in load_profile(paper_runs):
        if experiment.name in ("solo-none", "solo-k2"):
            bumped = "solo-none" if bump > 0 else "solo-k2"
            curves = {seed: curve.copy() for seed, curve in experiment.curves.items()}
            for curve in curves.values():
                curve["loss"] = [5 - 0.01 * step for step in curve["step"]]
                if experiment.name == bumped:
                    curve.loc[curve.index[30], "loss"] += abs(bump) * 10
            experiment = dataclasses.replace(experiment, curves=curves)
        experiments.append(experiment)
    judged = solo_verdicts(experiments)[4]
    assert judged.verdict == verdict


def test_a_frozen_run_has_no_rise(quick_runs):
    frozen = next(e for e in load_profile(quick_runs) if e.name == "frozen")
    assert loss_rises(frozen) == {}


READINGS = {"solo-k2": {"rank": 120, "skip_length": 2}, "solo-k6": {"rank": 120, "skip_length": 6}}


@pytest.fixture
def cpu(write_runs, tmp_path):
    """Verdicts on made-up cpu runs: LoRA and both readings on SmolLM2's counts, quality given."""

    def judged(quality=None, seeds=(18, 52, 1917), experiments=("lora", "solo-k2", "solo-k6"), items=24):
        runs = write_runs(
            tmp_path / "runs", profile="cpu", experiments=experiments, seeds=seeds, items=items,
            label="E2E NLG, official release v1.0.0", backbone="smollm2-135m", blocks=30,
            counts={"lora": 230_400, "solo-k2": 148_694, "solo-k6": 141_724},
            settings={**READINGS, "solo-none": {**READINGS["solo-k2"], "homotopy_parameter": None}},
            quality=quality, base_parameters=134_515_008,
        )  # fmt: skip
        return load_profile(runs)

    return judged


def test_the_cpu_profile_is_judged_reading_by_reading(cpu):
    found = solo_verdicts(cpu({"lora": 0.75, "solo-k2": 0.99, "solo-k6": 0.98}))
    first = found[1]
    assert first.verdict == "supported"
    assert [case.verdict for case in first.cases] == ["supported", "supported"]
    assert [case.title for case in first.cases] == ["Solo Connection (r=120, k=2)", "Solo Connection (r=120, k=6)"]
    assert "SmolLM2-135M" in first.reason
    assert "to no published cell" in first.reason
    assert (first.profile, first.seeds) == ("cpu", 3)
    headline = first.headline
    assert headline.family == 2
    assert headline.p_holm == max(case.findings[0].p_holm for case in first.cases)
    assert 0 < headline.detectable < headline.difference.effect
    assert (found[3].verdict, found[4].verdict) == ("supported", "not_tested")
    assert "99.89 % fewer than full fine-tuning on SmolLM2-135M" in found[3].reason


def test_readings_that_disagree_are_inconclusive(cpu):
    found = solo_verdicts(cpu({"lora": 0.85, "solo-k2": 0.99, "solo-k6": 0.60}))[1]
    assert [case.verdict for case in found.cases] == ["supported", "contradicted"]
    assert found.verdict == "inconclusive"
    assert solo_verdicts(cpu({"lora": 0.95, "solo-k2": 0.6, "solo-k6": 0.60}))[1].verdict == "contradicted"


def test_one_seed_in_the_cpu_profile_is_inconclusive(cpu):
    found = solo_verdicts(cpu({"lora": 0.6, "solo-k2": 0.99}, seeds=(18,)))[1]
    assert (found.verdict, found.seeds) == ("inconclusive", 1)
    assert found.cases[0].findings[0].p_holm is None
    assert found.cases[0].untested == "fewer than 3 seeds"
    assert "three shared seeds" in found.reason


def test_a_share_elsewhere_is_no_59_per_cent(cpu):
    found = solo_verdicts(cpu())[2]
    assert found.verdict == "inconclusive"
    assert [round(case.effects[0], 3) for case in found.cases] == [0.355, 0.385]
    assert "Fewer, but not by 59 %" in found.reason


def test_more_parameters_than_lora_contradict_claim_2(cpu):
    experiments = []
    for experiment in cpu():
        if experiment.name != "lora":
            records = {
                seed: record.model_copy(update={"counts": record.counts.model_copy(update={"adapter": 300_000})})
                for seed, record in experiment.records.items()
            }
            experiment = dataclasses.replace(experiment, records=records)
        experiments.append(experiment)
    assert solo_verdicts(experiments)[2].verdict == "contradicted"


def test_runs_with_other_budgets_are_not_compared(cpu):
    experiments = []
    for experiment in cpu({"lora": 0.6}):
        if experiment.name == "lora":
            records = {
                seed: record.model_copy(update={"training": {**record.training, "steps": 100}})
                for seed, record in experiment.records.items()
            }
            experiment = dataclasses.replace(experiment, records=records)
        experiments.append(experiment)
    found = solo_verdicts(experiments)[1]
    assert found.verdict == "not_tested"
    assert "unequal steps" in found.reason


def test_the_homotopy_parameter_is_judged_in_the_cpu_profile_too(cpu):
    found = solo_verdicts(cpu(experiments=("lora", "solo-k2", "solo-none")))[4]
    assert found.verdict in {"supported", "contradicted", "inconclusive"}
    finding = found.headline
    assert finding.difference.over_items is None
    assert len(finding.difference.by_seed) == 3
    assert "to no published cell" in found.reason


def test_without_any_lora_run_the_cpu_profile_tests_nothing(cpu):
    found = solo_verdicts(cpu(experiments=("solo-k2",)))
    assert (found[1].verdict, found[2].verdict) == ("not_tested", "not_tested")
    assert "not both complete" in found[1].reason


def test_every_verdict_has_a_json_form(cpu):
    for judged in solo_verdicts(cpu({"lora": 0.75})).values():
        content = json.loads(json.dumps(judged.to_dict()))
        assert content["verdict"] == judged.verdict
        assert content["profile"] == "cpu"
    first = solo_verdicts(cpu({"lora": 0.75}))[1].to_dict()
    assert set(first["headline"]) >= {"effect", "over_items", "over_seeds", "p_holm", "smallest_detectable", "seeds"}


def judge_weightlora(profile, study, memory=None):
    found = judge(dataclasses.replace(study, profile=profile), memory=memory)
    return [judged for judged in found if judged.claim.paper == "weightlora"]


def weightlora_verdicts(profile, study, memory=None):
    return {judged.claim.key: judged for judged in judge_weightlora(profile, study, memory)}


@pytest.fixture
def make(write_task_runs, tmp_path):
    """Verdicts on made-up runs whose quality is given."""

    def judged(profile="cpu", **settings):
        defaults = {
            "tasks": ("cola",), "items": 400,
            "methods": ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3"),
        }  # fmt: skip
        runs = write_task_runs(tmp_path / "runs", profile=profile, **{**defaults, **settings})
        return weightlora_verdicts(profile, Study.of(load_profile(runs)))

    return judged


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


def test_a_task_that_was_not_learned_tests_nothing(task_study):
    found = weightlora_verdicts("cpu", task_study)["better_than_random"]
    rte = next(line for line in found.observed if line.startswith("RTE"))
    assert rte.endswith("inconclusive: did not learn.")
    assert "1 tested case:" in found.reason
    assert "Without a test: RTE on MiniLM-L6, K=3 (did not learn)" in found.reason


def test_a_case_says_effect_intervals_seeds_and_which_count(task_study):
    line = next(line for line in weightlora_verdicts("cpu", task_study)["fewer_and_as_good"].observed if "CoLA" in line)
    assert re.search(r"WeightLoRA minus LoRA [+−]0\.\d{3} Matthews correlation", line)
    assert re.search(r"95 % over items [+−]0\.\d{3} to [+−]0\.\d{3}, 95 % over 3 seeds", line)
    assert "with 16.7 % of LoRA's adapter parameters (64.6 % with the task head)" in line


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
    assert "This says nothing about the paper's own figures" in found["plus_is_best"].reason


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


def test_one_seed_is_never_a_result(make):
    better = {"my-cola-weight_lora-k3": 0.99, "my-cola-random_lora-k3": 0.70}
    found = make(quality=better, seeds=(18,))["better_than_random"]
    assert found.verdict == "inconclusive"
    assert found.observed[0].endswith("inconclusive: fewer than 3 seeds.")
    assert "one seed" in found.observed[0]


def test_the_quick_profile_never_tests_a_claim(make):
    better = {"my-cola-weight_lora-k3": 0.99, "my-cola-random_lora-k3": 0.70, "my-cola-weight_lora_plus": 0.999}
    found = make(profile="quick", quality=better)
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert "quick profile never tests a claim" in found["better_than_random"].reason
    assert found["better_than_random"].observed[0].endswith(").")


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


def test_counts_stand_beside_the_first_claim(task_study):
    lines = weightlora_verdicts("cpu", task_study)["fewer_and_as_good"].counted
    assert "61,440 adapter parameters against 442,368, 86.1 % fewer" in lines[0]
    assert "with the task head (592,130) 36.8 % fewer" in lines[0]


@pytest.mark.parametrize(
    ("peak", "everything", "verdict"),
    [(400, 800, "supported"), (800, 800, "contradicted"), (795, 800, "inconclusive")],
)
def test_memory_is_judged_below_the_number_of_adapters(task_study, tasks_module, tmp_path, peak, everything, verdict):
    tasks_module.write_memory(tmp_path)
    memory, _ = read_memory(tmp_path)
    rows = tuple(
        row.model_copy(update={"phase2_peak_bytes": peak, "all_adapters_peak_bytes": everything})
        for row in memory.rows[:4]
    )
    whole = memory.rows[4].model_copy(update={"phase2_peak_bytes": 900, "all_adapters_peak_bytes": everything})
    memory = memory.model_copy(update={"rows": (*rows, whole)})
    found = weightlora_verdicts("cpu", task_study, memory)["saves_memory"]
    assert found.verdict == verdict
    assert "no interval" in found.reason
    assert weightlora_verdicts("quick", task_study, memory)["saves_memory"].verdict == "not_tested"


def test_no_runs_test_nothing(authors):
    found = weightlora_verdicts("cpu", Study.of([]))
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert all(dataclasses.asdict(judged)["observed"] == () for judged in found.values())


@pytest.mark.parametrize(("tasks", "waits"), [(("cola",), True), (("cola", "rte"), False)])
def test_a_claim_is_judged_when_the_whole_grid_has_run(write_task_runs, tmp_path, tasks, waits):
    fixed = load_judgement()
    part = fixed.grid[0].model_copy(
        update={"tasks": {"cola": "matthews_correlation", "rte": "accuracy"}, "seeds": (18, 52, 1917)}
    )
    methods = ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3")
    runs = write_task_runs(tmp_path, tasks=tasks, methods=methods, items=60)
    study = Study.of(load_profile(runs), judgement=fixed.model_copy(update={"grid": (part,)}))
    for key in ("fewer_and_as_good", "plus_is_best", "better_than_random"):
        judged = weightlora_verdicts("cpu", study)[key]
        assert ("Not judged yet" in judged.reason) is waits
        assert (judged.verdict == "not_tested") is waits
        assert not waits or "on 2 tasks, of which 1 ran" in judged.reason


MADE_UP_CLAIM = SimpleNamespace(number=1, key="k", text="It is better.")


def question(name="a minus b", effect=0.1, error=0.01, seeds=(1, 2, 3)):
    replicates = np.random.default_rng(0).normal(effect, error, size=2000)
    by_seed = tuple(effect + 0.002 * index for index in range(len(seeds)))
    items = PairedDifference(effect, *np.percentile(replicates, [2.5, 97.5]), 1.0, replicates)
    return Question(name, Difference("BLEU", effect, seeds, items, t_interval(by_seed), by_seed))


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "inconclusive"], "inconclusive"),
        (["supported", "contradicted"], "contradicted"),
        ([], "inconclusive"),
    ],
)
def test_parts_of_a_case_join(verdicts, verdict):
    assert joined_verdict(verdicts) == verdict


def test_the_open_questions_of_all_drafts_are_one_family():
    drafts = [
        Draft("one", (question(), question("a minus c", effect=0.2))),
        Draft("two", (question(),), untested="did not learn"),
        Draft("three", (question(effect=-0.1),)),
        Draft("four", found="not compared", untested="unequal steps", verdict="not_tested"),
    ]
    one, two, three, four = settle(drafts, tested=True)
    assert [case.verdict for case in (one, two, three, four)] == [
        "supported", "inconclusive", "contradicted", "not_tested",
    ]  # fmt: skip
    assert {finding.family for case in (one, three) for finding in case.findings} == {3}
    assert two.findings[0].p_holm is None
    assert two.text.endswith("inconclusive: did not learn.")
    assert four.text == "four: not compared."
    assert (one.seeds, four.seeds) == (3, None)
    assert "Holm-adjusted p" in one.text
    assert "Holm" not in two.text


def test_a_profile_that_tests_nothing_shows_effects_without_a_word():
    (case,) = settle([Draft("one", (question(),))], tested=False)
    assert (case.verdict, case.ending, case.effects) == ("not_tested", "", (0.1,))
    assert case.findings[0].verdict == "not_tested"
    assert case.findings[0].p_holm is None


def test_the_headline_is_the_weakest_of_the_findings_that_decide():
    cases = settle([Draft("one", (question(),)), Draft("two", (question("close", 0.03),))], tested=True)
    judged = Judged(MADE_UP_CLAIM, "supported", "because", cases=tuple(cases), profile="cpu")
    assert judged.headline.question.name == "close"
    assert judged.seeds == 3
    content = judged.to_dict()
    assert content["headline"]["name"] == "close"
    assert [case["title"] for case in content["cases"]] == ["one", "two"]
    counted = dataclasses.replace(judged, cases=(Case("counted", "supported", "99 % fewer"),))
    assert (counted.headline, counted.seeds) == (None, None)
