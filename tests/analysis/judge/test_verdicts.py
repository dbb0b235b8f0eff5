import dataclasses
import json
import shutil

import pytest

from analysis.judge.claims import judge, loss_rises
from analysis.judge.quick_checks import quick_checks
from analysis.judge.study import Study
from analysis.load.runs import load_profile


def verdicts(experiments):
    return {judged.claim.number: judged for judged in judge(Study.of(experiments)) if judged.claim.paper == "solo"}


def test_the_quick_profile_never_gets_a_verdict(write_runs, tmp_path):
    """Even with GPT-2 Medium's name and counts: the profile decides, and says what it observed."""
    runs = write_runs(
        tmp_path, profile="quick", items=8, backbone="gpt2-medium", settings={"solo_connection": {"rank": 120}}
    )
    found = verdicts(load_profile(runs))
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
    judged = verdicts(load_profile(quick_runs))[2]
    assert judged.verdict == "not_tested"
    text = " ".join(judged.counted)
    counts = "315,605 against LoRA's 737,280, 57.2 % fewer by exact count and 59.0 % fewer than the published 0.77M"
    assert counts in text
    assert "259,499 against LoRA's 393,216, 34.0 % fewer" in text
    assert "77.7 % fewer on this backbone" in " ".join(judged.observed)


def test_more_than_99_per_cent_is_counted(quick_runs):
    judged = verdicts(load_profile(quick_runs))[3]
    assert "259,499 against 354,823,168, 99.93 % fewer" in " ".join(judged.counted)


def test_without_any_run_nothing_is_tested():
    found = verdicts([])
    assert {judged.verdict for judged in found.values()} == {"not_tested"}
    assert all(judged.observed == () and judged.runs == () for judged in found.values())


def test_the_paper_profile_is_judged(paper_runs):
    found = verdicts(load_profile(paper_runs))
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
    assert verdicts(swapped)[1].verdict == "contradicted"


def test_equal_runs_are_inconclusive(paper_runs):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    lora = experiments["lora"]
    same = dataclasses.replace(experiments["solo-k2"], metrics=lora.metrics, predictions=lora.predictions)
    assert verdicts([same, lora])[1].verdict == "inconclusive"


def test_seeds_that_disagree_are_inconclusive_whatever_the_items_say(paper_runs):
    """The items' interval lies above zero; the three seeds' differences do not agree on the sign."""
    experiments = {e.name: e for e in load_profile(paper_runs)}
    solo, lora = experiments["solo-k2"], experiments["lora"]
    seeds = {
        seed: {**scores, "BLEU": lora.metrics.seeds[seed]["BLEU"] + shift}
        for (seed, scores), shift in zip(solo.metrics.seeds.items(), (0.3, -0.2, 0.4), strict=True)
    }
    solo = dataclasses.replace(solo, metrics=solo.metrics.model_copy(update={"seeds": seeds}))
    assert verdicts([solo, lora])[1].verdict == "inconclusive"


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
    judged = verdicts(fewer)[1]
    assert (judged.verdict, "three" in judged.reason) == ("inconclusive", True)


def test_an_incomplete_run_is_not_judged(paper_runs, tmp_path):
    copy = shutil.copytree(paper_runs, tmp_path / "paper")
    (copy / "solo-k2" / "training" / "seed-18" / "curves.csv").unlink()
    found = verdicts(load_profile(copy))
    assert found[1].verdict == "not_tested"
    assert found[3].verdict == "not_tested"


def test_claim_4_needs_the_run_without_homotopy_parameter(paper_runs):
    experiments = [e for e in load_profile(paper_runs) if e.name != "solo-none"]
    judged = verdicts(experiments)[4]
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
    judged = verdicts(experiments)[4]
    assert judged.verdict == verdict


def test_a_frozen_run_has_no_rise(quick_runs):
    frozen = next(e for e in load_profile(quick_runs) if e.name == "frozen")
    assert loss_rises(frozen) == {}


def test_sanity_holds_for_runs_that_learn(quick_runs):
    checks = quick_checks(Study.of(load_profile(quick_runs)).rows)
    assert [check.holds for check in checks] == [True] * 4


@pytest.mark.parametrize(
    ("quality", "broken"),
    [({"frozen": 0.9}, [0, 3]), ({"full": 0.1}, [1]), ({"lora": 0.1}, [2]), ({"solo_connection": 0.1}, [3])],
)
def test_each_part_of_the_sanity_condition_can_break(write_runs, tmp_path, quality, broken):
    rows = Study.of(load_profile(write_runs(tmp_path, items=8, quality=quality))).rows
    assert [index for index, check in enumerate(quick_checks(rows)) if not check.holds] == broken


def test_a_missing_method_breaks_the_sanity_condition(quick_runs):
    rows = [row for row in Study.of(load_profile(quick_runs)).rows if row.method != "full"]
    check = quick_checks(rows)[1]
    assert (check.holds, "not measured" in check.text) == (False, True)


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
    found = verdicts(cpu({"lora": 0.75, "solo-k2": 0.99, "solo-k6": 0.98}))
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
    found = verdicts(cpu({"lora": 0.85, "solo-k2": 0.99, "solo-k6": 0.60}))[1]
    assert [case.verdict for case in found.cases] == ["supported", "contradicted"]
    assert found.verdict == "inconclusive"
    assert verdicts(cpu({"lora": 0.95, "solo-k2": 0.6, "solo-k6": 0.60}))[1].verdict == "contradicted"


def test_one_seed_in_the_cpu_profile_is_inconclusive(cpu):
    found = verdicts(cpu({"lora": 0.6, "solo-k2": 0.99}, seeds=(18,)))[1]
    assert (found.verdict, found.seeds) == ("inconclusive", 1)
    assert found.cases[0].findings[0].p_holm is None
    assert found.cases[0].untested == "fewer than 3 seeds"
    assert "three shared seeds" in found.reason


def test_a_share_elsewhere_is_no_59_per_cent(cpu):
    found = verdicts(cpu())[2]
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
    assert verdicts(experiments)[2].verdict == "contradicted"


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
    found = verdicts(experiments)[1]
    assert found.verdict == "not_tested"
    assert "unequal steps" in found.reason


def test_the_homotopy_parameter_is_judged_in_the_cpu_profile_too(cpu):
    found = verdicts(cpu(experiments=("lora", "solo-k2", "solo-none")))[4]
    assert found.verdict in {"supported", "contradicted", "inconclusive"}
    finding = found.headline
    assert finding.difference.over_items is None
    assert len(finding.difference.by_seed) == 3
    assert "to no published cell" in found.reason


def test_without_any_lora_run_the_cpu_profile_tests_nothing(cpu):
    found = verdicts(cpu(experiments=("solo-k2",)))
    assert (found[1].verdict, found[2].verdict) == ("not_tested", "not_tested")
    assert "not both complete" in found[1].reason


def test_every_verdict_has_a_json_form(cpu):
    for judged in verdicts(cpu({"lora": 0.75})).values():
        content = json.loads(json.dumps(judged.to_dict()))
        assert content["verdict"] == judged.verdict
        assert content["profile"] == "cpu"
    first = verdicts(cpu({"lora": 0.75}))[1].to_dict()
    assert set(first["headline"]) >= {"effect", "over_items", "over_seeds", "p_holm", "smallest_detectable", "seeds"}
