"""The claims of the Solo Connection paper on made-up runs."""

import dataclasses
import json
import shutil

import pytest

from analysis.judge.bench import Bench, Case
from analysis.judge.claims import judge
from analysis.judge.solo_claims import _over_analyses, ablation, published_difference, smoothness_differences
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile


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
    assert case.findings[0].p is None
    assert case.findings[0].difference.over_items is not None


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
    assert (found[2].verdict, found[2].outcome) == ("counted", "holds only against the rounded figure")
    assert "57.2 % fewer by exact count, 59.0 % fewer than the published 0.77M" in found[2].reason
    assert (found[3].verdict, found[3].outcome) == ("counted", "holds")
    assert found[4].verdict in {"supported", "contradicted", "cannot_tell", "depends_on_analysis"}
    assert "3 seeds" in found[4].reason


def test_a_worse_solo_contradicts_claim_1(paper_runs):
    """The two runs are swapped: what supported the claim now contradicts it."""
    experiments = {e.name: e for e in load_profile(paper_runs)}
    solo, lora = experiments["solo-k2"], experiments["lora"]
    swapped = [
        dataclasses.replace(solo, metrics=lora.metrics, predictions=lora.predictions),
        dataclasses.replace(lora, metrics=solo.metrics, predictions=solo.predictions),
    ]
    assert solo_verdicts(swapped)[1].verdict == "contradicted"


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
    assert {e.name: e.record.method for e in experiments if e.name in judged.runs} == dict.fromkeys(
        judged.runs, "solo_connection"
    )


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


def test_a_share_elsewhere_is_no_59_per_cent(cpu):
    found = solo_verdicts(cpu())[2]
    assert (found.verdict, found.outcome) == ("counted", "fewer, but not by 59 %")
    assert [round(case.effects[0], 3) for case in found.cases] == [0.355, 0.385]
    assert "is for GPT-2 Large's shapes" in found.reason


def test_with_more_parameters_than_lora_claim_2_does_not_hold(cpu):
    experiments = []
    for experiment in cpu():
        if experiment.name != "lora":
            records = {
                seed: record.model_copy(update={"counts": record.counts.model_copy(update={"adapter": 300_000})})
                for seed, record in experiment.records.items()
            }
            experiment = dataclasses.replace(experiment, records=records)
        experiments.append(experiment)
    judged = solo_verdicts(experiments)[2]
    assert (judged.verdict, judged.outcome) == ("counted", "does not hold")


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
    assert set(first["headline"]) >= {
        "effect",
        "interval",
        "adjusted_interval",
        "p",
        "p_adjusted",
        "smallest_detectable",
    }


def on_processor(experiment, cpu, seeds=None):
    """The experiment with its records (of these seeds) made on another processor."""
    records = {
        seed: record.model_copy(update={"conditions": record.conditions.model_copy(update={"cpu": cpu})})
        if seeds is None or seed in seeds
        else record
        for seed, record in experiment.records.items()
    }
    return dataclasses.replace(experiment, records=records)


def test_table_1s_reading_decides_and_the_other_is_secondary(cpu):
    first = solo_verdicts(cpu({"lora": 0.75, "solo-k2": 0.99, "solo-k6": 0.6}))[1]
    assert first.verdict == "supported"
    assert [(case.title, case.role, case.verdict) for case in first.cases] == [
        ("Solo Connection (r=120, k=2)", "primary", "supported"),
        ("Solo Connection (r=120, k=6)", "secondary", "contradicted"),
    ]
    assert "SmolLM2-135M" in first.reason
    assert "to no published cell" in first.reason
    headline = first.headline
    assert (first.profile, first.seeds, headline.family, headline.question.target) == (
        "cpu",
        3,
        1,
        pytest.approx(0.0025),
    )
    assert 0 < headline.detectable < headline.difference.effect
    assert first.published.startswith("+0.0025 BLEU")


def test_the_published_difference_is_that_of_table_1(cpu):
    bench = Bench(Study.of(cpu()), load_published())
    assert published_difference(bench, "solo_connection", "lora", "BLEU") == pytest.approx(0.0025)
    assert published_difference(bench, "solo_connection", "adalora", "BLEU") is None


def test_equal_runs_cannot_tell_and_say_what_it_would_take(paper_runs):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    lora, solo = experiments["lora"], experiments["solo-k2"]
    seeds = {
        seed: {**scores, "BLEU": lora.metrics.seeds[seed]["BLEU"] + shift}
        for (seed, scores), shift in zip(solo.metrics.seeds.items(), (0.3, -0.2, 0.1), strict=True)
    }
    solo = dataclasses.replace(solo, metrics=solo.metrics.model_copy(update={"seeds": seeds}))
    judged = solo_verdicts([solo, lora])[1]
    assert judged.verdict == "cannot_tell"
    assert "to find 0.0025: " in judged.reason


@pytest.mark.parametrize("seeds", [(18,), (18, 52)])
def test_fewer_than_three_seeds_cannot_tell(cpu, seeds):
    found = solo_verdicts(cpu({"lora": 0.6, "solo-k2": 0.99}, seeds=seeds))[1]
    assert (found.verdict, found.seeds) == ("cannot_tell", len(seeds))
    assert found.cases[0].findings[0].p is None
    assert found.cases[0].untested == "fewer than 3 seeds"


def test_runs_on_two_types_of_processor_are_confounded(cpu):
    experiments = cpu({"lora": 0.6, "solo-k2": 0.99})
    mixed = [on_processor(e, "another") if e.name == "lora" else e for e in experiments]
    judged = solo_verdicts(mixed)[1]
    assert (solo_verdicts(experiments)[1].verdict, judged.verdict) == ("supported", "confounded")
    assert "different types of processor on seed 18, 52, 1917" in judged.reason
    assert judged.headline.p is None


def test_a_seed_on_two_types_of_processor_is_left_out(cpu):
    experiments = cpu({"lora": 0.6, "solo-k2": 0.99}, seeds=(18, 52, 1917, 7))
    mixed = [on_processor(e, "another", seeds=(52,)) if e.name == "lora" else e for e in experiments]
    judged = solo_verdicts(mixed)[1]
    assert (judged.verdict, judged.headline.difference.seeds) == ("supported", (7, 18, 1917))
    assert "without seed 52, whose runs were made on different processors" in judged.reason
    everywhere = [on_processor(e, "another", seeds=(52,)) for e in experiments]
    assert solo_verdicts(everywhere)[1].headline.difference.seeds == (7, 18, 52, 1917)


def curved(experiments, change):
    """The runs with training losses that fall by 0.01 a logged value, and `change(name, seed, values)` applied."""
    for experiment in experiments:
        if experiment.name in ("solo-none", "solo-k2"):
            curves = {seed: curve.copy() for seed, curve in experiment.curves.items()}
            for seed, curve in curves.items():
                values = [5 - 0.01 * step for step in curve["step"]]
                curve["loss"] = change(experiment.name, seed, values)
                curve["dev_loss"] = float("nan")
            experiment = dataclasses.replace(experiment, curves=curves)
        yield experiment


@pytest.mark.parametrize(("bumped", "verdict"), [("solo-none", "supported"), ("solo-k2", "contradicted")])
def test_claim_4_is_decided_by_the_distance_from_descent(paper_runs, bumped, verdict):
    def bump(name, seed, values):
        if name == bumped:
            values[30] += 30 + seed % 3
        return values

    judged = solo_verdicts(list(curved(load_profile(paper_runs), bump)))[4]
    assert judged.verdict == verdict
    assert judged.cases[0].title == "distance from descent"
    assert [case.title for case in judged.cases if case.role == "secondary"][-1].endswith("window 15")
    assert len(judged.cases) == 8, "two measures without a window (there is no dev loss) and six windows"


def test_analyses_that_disagree_make_the_verdict_depend_on_them(paper_runs):
    """Many small rises raise the total variation without, one large one the distance with the homotopy parameter."""

    def change(name, seed, values):
        if name == "solo-k2":
            values[30] += 3 + 0.01 * (seed % 3)
            return values
        return [value + (0.3 + 0.001 * (seed % 3)) * (index % 2) for index, value in enumerate(values)]

    judged = solo_verdicts(list(curved(load_profile(paper_runs), change)))[4]
    kinds = {case.verdict for case in judged.cases}
    assert {"supported", "contradicted"} <= kinds
    assert judged.verdict == "depends_on_analysis"
    assert "window 15" in judged.reason
    assert {case.findings[0].family for case in judged.cases} == {1}, "each is decided alone"


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (("cannot_tell", "supported"), "depends_on_analysis"),
        (("cannot_tell", "contradicted"), "depends_on_analysis"),
        (("cannot_tell", "cannot_tell"), "cannot_tell"),
        (("supported", "cannot_tell"), "supported"),
        (("supported", "contradicted"), "depends_on_analysis"),
        (("contradicted", "supported"), "depends_on_analysis"),
    ],
)
def test_the_first_analysis_decides_unless_another_speaks_against_it(verdicts, together):
    assert _over_analyses([Case("one", verdict, "") for verdict in verdicts]) == together


def test_an_ablation_differs_in_nothing_else(cpu, altered):
    runs = {run.name: run for run in cpu(experiments=("lora", "solo-k2", "solo-none"))}
    found = ablation(Bench(Study.of(list(runs.values())), load_published()))
    assert [run.name for run in found] == ["solo-k2", "solo-none"]
    runs["solo-none"] = altered(runs["solo-none"], lambda record: {"training": {**record.training, "steps": 7}})
    assert ablation(Bench(Study.of(list(runs.values())), load_published())) is None


def test_claim_4_has_no_items_and_an_undefined_measure_leaves_its_seed_out(cpu):
    experiments = {e.name: e for e in cpu(experiments=("lora", "solo-k2", "solo-none"))}
    rising = {seed: curve.assign(loss=curve["step"]) for seed, curve in experiments["solo-k2"].curves.items()}
    rising = {**experiments["solo-k2"].curves, 18: rising[18]}
    with_it = dataclasses.replace(experiments["solo-k2"], curves=rising)
    bench = Bench(Study.of(tuple(experiments.values())), load_published())
    found = {d.metric: d for d in smoothness_differences(bench, with_it, experiments["solo-none"])}
    assert found["distance from descent"].seeds == (18, 52, 1917)
    assert found["excess variation"].seeds == (52, 1917)
    assert all(difference.without_items and difference.over_items is None for difference in found.values())
