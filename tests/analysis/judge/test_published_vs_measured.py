import dataclasses

import pytest

from analysis.judge.published_vs_measured import (
    CELL_VERDICTS,
    compared_cells,
    judge_cells,
    judged_by_others,
    lora_differences,
    tolerance_warnings,
)
from analysis.judge.study import Study
from analysis.load.paper_files import DIRECTORY, METRICS
from analysis.load.paper_folder import load_published
from analysis.load.published import load_tables
from analysis.load.runs import load_profile
from replication.fileio import sha256_file


@pytest.fixture(scope="module")
def tables():
    return load_tables()


@pytest.fixture
def judged(tables):
    def judge(experiments, profile="", published=None):
        return judge_cells(Study.of(experiments, profile=profile), published or load_published())

    return judge


def with_scores(experiment, **scores):
    """The same run with other scores on every seed."""
    seeds = {seed: {**found, **scores} for seed, found in experiment.metrics.seeds.items()}
    return dataclasses.replace(experiment, metrics=experiment.metrics.model_copy(update={"seeds": seeds}))


def cell(verdicts, table, row, metric):
    return next(v for v in verdicts if (v.table, v.row, v.metric) == (table.id, row.id, metric))


def rows_of(tables, method, backbone="gpt2-medium"):
    """The Solo table and its row of one method."""
    table = next(table for table in tables if table.id == "solo_connection")
    return table, next(row for row in table.rows if (row.method, row.backbone) == (method, backbone))


@pytest.mark.parametrize("profile", ["quick", "cpu", "another"])
def test_other_profiles_compare_no_cell(write_runs, tmp_path, judged, tables, profile):
    runs = write_runs(
        tmp_path, profile=profile, items=8, backbone="gpt2-medium", settings={"solo_connection": {"rank": 120}}
    )
    found = judged(load_profile(runs))
    assert {entry.verdict for entry in found} == {"not_comparable"}
    assert len(found) == sum(len(row.cells) for table in tables for row in table.rows)
    assert all(entry.reason and entry.measured is None for entry in found)


def test_a_profile_can_be_named_where_nothing_ran(judged):
    assert {entry.verdict for entry in judged([], profile="paper")} == {"not_run", "unreadable"}
    assert {entry.verdict for entry in judged([], profile="quick")} == {"not_comparable"}


def test_every_word_but_not_comparable_occurs_in_the_paper_profile(paper_runs, judged, tables):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    (table, solo), (_, lora) = (rows_of(tables, method) for method in ("solo_connection", "lora"))
    experiments["lora"] = with_scores(experiments["lora"], BLEU=table.value(lora, "BLEU") + 0.02)
    higher = table.value(solo, "BLEU") > table.value(lora, "BLEU")
    beyond = table.value(lora, "BLEU") + (0.05 if higher else 0.019)
    experiments["solo-k2"] = with_scores(experiments["solo-k2"], BLEU=beyond, NIST=table.value(solo, "NIST"))
    found = judged(list(experiments.values()))
    bleu, nist = (cell(found, table, solo, metric) for metric in ("BLEU", "NIST"))
    assert (bleu.verdict, bleu.reference) == ("direction_only", lora.label)
    assert nist.verdict == "within_tolerance"
    assert nist.difference == pytest.approx(0, abs=1e-9)
    assert cell(found, table, solo, "CIDEr").verdict == "unreadable"
    assert {entry.verdict for entry in found} <= set(CELL_VERDICTS)
    assert "not_run" in {entry.verdict for entry in found}


def test_the_wrong_direction_is_not_reproduced(paper_runs, judged, tables):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    (table, solo), (_, lora) = (rows_of(tables, method) for method in ("solo_connection", "lora"))
    sign = 1 if table.value(solo, "BLEU") > table.value(lora, "BLEU") else -1
    experiments["lora"] = with_scores(experiments["lora"], BLEU=0.5)
    experiments["solo-k2"] = with_scores(experiments["solo-k2"], BLEU=0.5 - 0.1 * sign)
    entry = cell(judged(list(experiments.values())), table, solo, "BLEU")
    assert entry.verdict == "not_reproduced"
    assert entry.to_dict()["measured"]["seeds"] == 3


def test_the_tolerance_is_the_border(paper_runs, judged, tables):
    experiments = {e.name: e for e in load_profile(paper_runs)}
    table, solo = rows_of(tables, "solo_connection")
    reach, published = load_published().tolerances.metrics["BLEU"].half_width, table.value(solo, "BLEU")
    for off, within in ((reach, True), (-reach, True), (reach + 0.001, False)):
        run = with_scores(experiments["solo-k2"], BLEU=published + off)
        assert (cell(judged([run]), table, solo, "BLEU").verdict == "within_tolerance") == within


def test_a_missing_score_is_not_run(write_runs, tmp_path, judged, tables):
    runs = write_runs(
        tmp_path, profile="paper", experiments=("lora",), items=8, backbone="gpt2-medium", java=False,
        label="E2E NLG, official release v1.0.0",
    )  # fmt: skip
    table, row = rows_of(tables, "lora")
    entry = cell(judged(load_profile(runs)), table, row, "METEOR")
    assert (entry.verdict, "METEOR was not scored" in entry.reason) == ("not_run", True)


def test_records_under_another_tolerance_file_are_reported(paper_runs, judged):
    """The made-up records name a tolerance file that never was."""
    experiments = load_profile(paper_runs)
    assert {e.name for e in judged_by_others(experiments)} == {e.name for e in experiments}
    assert "The tolerances have changed" in tolerance_warnings(experiments)[0]
    assert any(entry.other_tolerances for entry in judged(experiments))
    present = sha256_file(DIRECTORY / "tolerances.json")
    renewed = [
        dataclasses.replace(
            e, records={seed: r.model_copy(update={"tolerances_sha256": present}) for seed, r in e.records.items()}
        )
        for e in experiments
    ]
    assert tolerance_warnings(renewed) == []
    assert not any(entry.other_tolerances for entry in judged(renewed))


def test_published_cells_are_compared_on_one_scale(paper_runs, judged):
    cells = [entry for entry in judged(load_profile(paper_runs)) if entry.measured is not None]
    assert cells
    for found in cells:
        within = abs(found.measured.mean - float(found.published)) <= found.half_width + 1e-9
        assert (found.verdict == "within_tolerance") == within
    solo = [found for found in cells if found.experiment == "solo-k2"]
    assert {found.metric for found in solo} == {"BLEU", "NIST", "METEOR", "ROUGE_L"}  # CIDEr cannot be read
    assert not [found for found in cells if found.experiment == "solo-none"]


PUBLISHED = load_published()


TABLES = PUBLISHED.tables


@pytest.fixture
def study(quick_runs):
    return Study.of(load_profile(quick_runs))


def test_a_profile_that_may_not_be_compared_never_is(study):
    cells = compared_cells(study, PUBLISHED)
    assert {cell.verdict for cell in cells} == {"not_comparable"}
    assert {cell.method for cell in cells if cell.measured == "not measured"} == {"tgen"}  # never run here
    assert {entry.verdict for entry in lora_differences(study, PUBLISHED)} == {"not_comparable"}


def test_a_difference_from_lora_is_that_of_its_own_table_and_of_the_runs(study):
    found = lora_differences(study, PUBLISHED)
    entry = next(e for e in found if (e.row, e.metric) == ("Solo Connection GPT-2 Medium", "BLEU"))
    assert (entry.reference, str(entry.published)) == ("Baseline LoRA GPT-2 Medium", "0.0025")
    runs = {experiment.name: experiment.metrics.seeds for experiment in study.experiments}
    by_seed = [runs["solo_connection"][s]["BLEU"] - runs["lora"][s]["BLEU"] for s in entry.measured.seeds]
    assert entry.measured.by_seed == pytest.approx(by_seed)
    lora = [runs["lora"][seed]["BLEU"] for seed in entry.measured.seeds]
    assert entry.levels == pytest.approx((0.6745, sum(lora) / len(lora)))
    assert {e.method for e in found} <= {"solo_connection", "full"}
    unreadable = [e.metric for e in found if e.published is None]
    assert "CIDEr" in unreadable


def test_both_rows_of_a_difference_are_of_one_task(quick_runs):
    """A LoRA run of a longer task that sorts first is not taken for that of the task that Solo Connection ran on."""
    runs = load_profile(quick_runs)

    def on_another_task(run):
        records = {seed: record.model_copy(update={"task": "longer"}) for seed, record in run.records.items()}
        return dataclasses.replace(run, name="a-" + run.name, records=records)

    lora = next(run for run in runs if run.name == "lora")
    before, after = (lora_differences(Study.of(each), PUBLISHED) for each in (runs, [on_another_task(lora), *runs]))
    assert [(e.row, e.metric, e.levels) for e in after] == [(e.row, e.metric, e.levels) for e in before]
    assert [e.measured.by_seed for e in after if e.measured] == [e.measured.by_seed for e in before if e.measured]
    alone = [run for run in runs if run.name != "lora"] + [on_another_task(lora)]
    found = [e for e in lora_differences(Study.of(alone), PUBLISHED) if e.method == "solo_connection"]
    assert found
    assert {e.measured for e in found} == {None}, "there is no LoRA run of its task"


def test_only_methods_that_were_run_and_the_challenges_baseline_stand_there(study):
    cells = compared_cells(Study.of([e for e in study.experiments if e.name == "lora"]), PUBLISHED)
    assert {cell.method for cell in cells} == {"lora", "tgen"}
    baseline = [cell for cell in cells if cell.method == "tgen"]
    assert [cell.published for cell in baseline] == ["0.6593", "8.6094", "0.4483", "0.6850", "2.2338"]
    assert {(cell.measured, cell.experiment) for cell in baseline} == {("not measured", None)}
    assert compared_cells(Study.of([]), PUBLISHED) == []


def test_the_paper_profile_is_judged_by_its_cells(paper_runs):
    study = Study.of(load_profile(paper_runs))
    judged = judge_cells(study, PUBLISHED)
    cells = compared_cells(study, PUBLISHED)
    verdicts = {(entry.table, entry.row, entry.metric): entry for entry in judged}
    ids = {(table.location, row.label): (table.id, row.id) for table in TABLES for row in table.rows}
    assert cells
    for cell in cells:
        entry = verdicts[(*ids[cell.source, cell.row], cell.metric)]
        assert cell.verdict == entry.verdict
        if entry.measured is not None:  # the figure shown is the one that was judged
            assert cell.experiment == entry.experiment
    assert any(entry.measured is not None for entry in judged)
    assert all(cell.verdict in ("not_run", "unreadable") for cell in cells if "Small" in cell.row)


def test_the_judged_run_is_shown_where_another_scores_higher(paper_runs):
    loaded = load_profile(paper_runs)
    better = {seed: {**scores, "BLEU": 0.99} for seed, scores in loaded[0].metrics.seeds.items()}
    best = [
        dataclasses.replace(run, metrics=run.metrics.model_copy(update={"seeds": better}))
        if run.name == "solo-none"
        else run
        for run in loaded
    ]
    cells = compared_cells(Study.of(best), PUBLISHED)
    shown = {cell.experiment for cell in cells if cell.row == "Solo Connection GPT-2 Medium" and cell.metric == "BLEU"}
    assert shown == {"solo-k2"}


def test_a_run_with_a_part_taken_out_never_stands_for_the_method(write_runs, tmp_path):
    base = {"rank": 120, "skip_length": 2}
    runs = write_runs(
        tmp_path,
        profile="cpu",
        experiments=("lora", "solo-none", "solo-k2", "solo-k6"),
        items=8,
        settings={
            "solo-none": {**base, "homotopy_parameter": None},
            "solo-k2": base,
            "solo-k6": {**base, "skip_length": 6},
        },
        quality={"solo-none": 0.99, "solo-k2": 0.6, "solo-k6": 0.9},
    )
    study = Study.of(load_profile(runs, ["lora", "solo-none", "solo-k2", "solo-k6"]))
    assert {row.experiment: row.plain for row in study.rows} == {
        "lora": True, "solo-none": False, "solo-k2": True, "solo-k6": True,
    }  # fmt: skip
    cells = compared_cells(study, PUBLISHED)
    assert {cell.experiment for cell in cells if cell.method == "solo_connection"} == {"solo-k2"}


def test_json_has_stable_keys(study):
    for cell in compared_cells(study, PUBLISHED):
        value = cell.as_json()
        assert list(value) == [
            "published_row", "method", "metric", "published", "published_spread", "standing", "standing_means",
            "source",
            "measured", "experiment", "verdict",
        ]  # fmt: skip
        assert value["metric"] in METRICS
