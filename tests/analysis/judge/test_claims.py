"""All claims of both papers together, and what other analyses would have said."""

import dataclasses
import json

import pytest

from analysis.judge.claims import JUDGES, judge, load_bench, sensitivity, verdict_list
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile
from replication.fileio import write_json

METHODS = ("frozen", "lora", "weight_lora-k3", "random_lora-k3")


@pytest.fixture(scope="module")
def published():
    return load_published()


def test_every_claim_has_a_judge(published):
    keys = {claim.key for paper in published.claims.papers for claim in published.claims.of(paper)}
    assert set(JUDGES) == keys


def test_a_profile_of_ones_own_tests_the_claims_of_both_papers(write_runs, write_task_runs, tmp_path):
    settings = {"solo_connection": {"rank": 120, "skip_length": 2}}
    runs = write_runs(tmp_path, profile="mygpu", items=12, settings=settings)
    write_task_runs(tmp_path, profile="mygpu", tasks=("cola",), methods=METHODS[:3], items=200)
    tested = {judged.claim.paper for judged in judge(Study.of(load_profile(runs))) if judged.tested}
    assert tested == {"solo", "weightlora"}


def sensitive(runs, published):
    study = Study.of(load_profile(runs))
    verdicts = judge(study, published)
    found = {entry.claim.id: dict(entry.variants) for entry in sensitivity(study, published, verdicts)}
    return found, {judged.claim.id: judged for judged in verdicts}


def test_other_analyses_stand_in_columns_and_change_no_verdict(write_task_runs, tmp_path, published, monkeypatch):
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 1000)
    quality = {
        "my-cola-weight_lora-k3": 0.93, "my-cola-random_lora-k3": 0.75, "my-rte-frozen": 0.9, "my-rte-lora": 0.9,
        "my-rte-random_lora-k3": 0.99, "my-rte-weight_lora-k3": 0.4,
    }  # fmt: skip
    runs = write_task_runs(
        tmp_path, tasks=("cola", "rte"), methods=METHODS, items=300, seeds=(18, 52, 1917, 7, 101),
        quality=quality,
    )  # fmt: skip
    found, verdicts = sensitive(runs, published)
    row = found["weightlora-3"]
    assert (row["as judged"], verdicts["weightlora-3"].verdict) == ("supported", "supported")
    assert row["every task, learned or not"] != "supported", "RTE did not learn and says the opposite"
    assert row["two seeds fewer"].endswith(" of 10 pairs)")
    assert row["the test over seeds and items alone"] == row["the test over seeds alone"] == "supported"
    assert "weightlora-4" not in found, "nothing is compared there"
    assert [judged.verdict for judged in judge(Study.of(load_profile(runs)), published)] == [
        judged.verdict for judged in verdicts.values()
    ]


def test_a_verdict_that_one_task_carries_names_it(write_task_runs, tmp_path, published, monkeypatch):
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 1000)
    quality = {
        "my-cola-weight_lora-k3": 0.97, "my-cola-random_lora-k3": 0.7,
        "my-rte-weight_lora-k3": 0.9, "my-rte-random_lora-k3": 0.9,
    }  # fmt: skip
    runs = write_task_runs(
        tmp_path, tasks=("cola", "rte"), methods=METHODS, items=300, seeds=(18, 52, 1917, 7), quality=quality
    )
    found, _ = sensitive(runs, published)
    assert found["weightlora-3"]["as judged"] == "supported"
    assert found["weightlora-3"]["one task fewer"] in (
        "supported (1 of 2 tasks), cannot tell (without CoLA)", "cannot tell (1 of 2 tasks), supported (without RTE)"
    )  # fmt: skip


def test_a_claim_whose_comparisons_are_of_one_task_each_leaves_none_out(write_runs, tmp_path, published):
    settings = {"solo_connection": {"rank": 120, "skip_length": 2}}
    for backbone in ("gpt2-medium", "smollm2-135m"):
        write_runs(tmp_path / backbone, profile="mine", items=12, settings=settings, backbone=backbone)
    there = [
        dataclasses.replace(run, name=f"other-{run.name}") for run in load_profile(tmp_path / "smollm2-135m" / "mine")
    ]
    study = Study.of([*load_profile(tmp_path / "gpt2-medium" / "mine"), *there])
    verdicts = judge(study, published)
    (first,) = (judged for judged in verdicts if judged.claim.id == "solo-1")
    assert len({case.runs for case in first.primary}) == 2
    (row,) = (e for e in sensitivity(study, published, verdicts) if e.claim.id == "solo-1")
    assert (dict(row.variants)["one task fewer"], row.decisive) == ("–", ())
    assert dict(row.variants)["two seeds fewer"] == "–", "without a pair one of three seeds is left: no verdict at all"


def test_searches_of_both_papers_are_held_to_each_other(write_runs, tmp_path):
    settings = {"solo_connection": {"rank": 120, "skip_length": 2}}
    runs = load_profile(write_runs(tmp_path, profile="cpu", items=12, settings=settings))
    for method, rates in (("lora", [0.1, 0.2, 0.3]), ("solo_connection", [0.1 * n for n in range(1, 13)])):
        record = next(run.record for run in runs if run.record.method == method)
        write_json(
            tmp_path / "searches" / f"{method}.json",
            {
                "backbone": record.backbone, "task": record.task, "method": method, "settings": {},
                "learning_rates": rates, "tried": [{"learning_rate": rate, "held_out_loss": 1.0} for rate in rates],
                "best": rates[0], "steps": 5, "held_out_examples": 5,
            },
        )  # fmt: skip
    (found,) = (line for line in load_bench("cpu", runs, tmp_path / "searches").broken if "searches" in line)
    assert "lora tried 3 rates, solo_connection tried 12 rates" in found


def test_processors_can_be_ignored_only_in_the_sensitivity(write_task_runs, tmp_path, published):
    quality = {"my-cola-weight_lora-k3": 0.93, "my-cola-random_lora-k3": 0.75}
    runs = write_task_runs(tmp_path, tasks=("cola",), methods=METHODS, items=300, quality=quality)
    experiments = []
    for experiment in load_profile(runs):
        if "random" in experiment.name:
            records = {
                seed: record.model_copy(update={"conditions": record.conditions.model_copy(update={"cpu": "another"})})
                for seed, record in experiment.records.items()
            }
            experiment = dataclasses.replace(experiment, records=records)
        experiments.append(experiment)
    study = Study.of(experiments)
    row = {entry.claim.id: dict(entry.variants) for entry in sensitivity(study, published, judge(study, published))}
    assert row["weightlora-3"]["as judged"] == "confounded"
    assert row["weightlora-3"]["processors ignored"] == "supported"


def test_a_profile_that_tests_nothing_has_no_sensitivity(quick_runs):
    bench = load_bench("quick", load_profile(quick_runs))
    assert bench.sensitivity == []
    assert {judged.verdict for judged in bench.verdicts} == {"not_tested"}
    assert json.dumps([judged.to_dict() for judged in bench.verdicts])


def test_the_list_names_verdict_and_outcome(paper_runs):
    text = verdict_list(judge(Study.of(load_profile(paper_runs))))
    assert "**Claim 1: supported.**" in text
    assert "**Claim 3: counted: holds.**" in text
