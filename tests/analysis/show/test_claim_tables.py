import dataclasses
import json

import pytest

from analysis.judge.bench import Case, Draft, Judged, settle
from analysis.judge.claims import Sensitivity, judge
from analysis.judge.decision import Difference, Question
from analysis.judge.study import POOLED_METRIC, Study
from analysis.load.published import load_claims
from analysis.load.runs import load_profile
from analysis.show.claim_tables import (
    answer_block,
    claim_rows,
    claims_block,
    comparisons_block,
    counts_line,
    decisive_line,
    fold_untested,
    legend,
    sensitivity_block,
)
from analysis.stats.mean_test import Noise

CLAIM = load_claims().claim("weightlora-3")


def question(name="WeightLoRA minus LoRA", effect=0.1, seeds=(1, 2, 3), error=0.01):
    by_seed = tuple(effect + 0.002 * (index - (len(seeds) - 1) / 2) for index in range(len(seeds)))
    return Question(name, Difference("accuracy", seeds, by_seed, None, (Noise(error**2, 600),), item_count=601))


def row(verdict="supported", drafts=(), seeds_of=None, **fields):
    cases = tuple(settle(drafts, [], tested=verdict != "not_tested"))
    judged = Judged(CLAIM, verdict, "because", runs=("a", "b"), cases=cases, profile="cpu", **fields)
    return claim_rows([judged], "cpu", seeds_of)[0]


def test_what_was_not_measured_has_no_seeds():
    seeds = {"a": (1, 2, 3), "b": (1, 2, 3)}
    assert row("not_tested", seeds_of=seeds).measured_line == "not measured"
    assert row(drafts=[Draft("CoLA", question())], seeds_of=seeds).measured_line == "+0.100 accuracy, 3 seeds"


def test_an_effect_is_one_line_with_everything_the_rule_says():
    found = row(drafts=[Draft("CoLA on MiniLM-L6, K=3", question())])
    line = (
        "CoLA on MiniLM-L6, K=3: WeightLoRA minus LoRA +0.100 accuracy (95 % +0.080 to +0.120, p < 0.001, 3 seeds, "
        "could detect 0.0"
    )
    assert found.headline.startswith(line)
    assert found.headline == found.shown.line
    assert (found.id, found.paper, found.seeds_line) == ("weightlora-3", "WeightLoRA", "3 seeds")
    assert found.seeds == (1, 2, 3)


def test_a_case_says_whose_comparison_it_is():
    found = row(drafts=[Draft("CoLA", question("WeightLoRA+ minus LoRA"))])
    assert found.headline.startswith("CoLA: WeightLoRA+ minus LoRA +0.100")
    two = row(
        drafts=[Draft("CoLA", question("WeightLoRA+ minus LoRA")), Draft("CoLA", question("WeightLoRA+ minus K=6"))]
    )
    assert two.measured in ("+0.100 accuracy, minus LoRA", "+0.100 accuracy, minus WeightLoRA")
    assert two.shown.finding.question.name.endswith(two.measured.rpartition(",")[2].lstrip())
    assert found.measured == "+0.100 accuracy"
    untested = row("not_tested", [Draft("CoLA", question())])
    assert untested.headline.startswith("Observed, without a verdict: CoLA: WeightLoRA minus LoRA +0.100")


@pytest.mark.parametrize(
    ("verdict", "fields", "start"),
    [
        ("not_tested", {"observed": ("LoRA 0.5.",)}, "Observed, without a verdict: LoRA 0.5."),
        ("cannot_tell", {"observed": ("LoRA 0.5.",)}, "Observed: LoRA 0.5."),
        ("not_tested", {"counted": ("5 of 36.",)}, "Counted, not trained: 5 of 36."),
        ("not_tested", {}, ""),
    ],
)
def test_without_an_effect_the_line_says_what_it_is(verdict, fields, start):
    assert row(verdict, **fields).headline == start


def test_a_long_line_is_cut_after_a_clause_and_says_so():
    text = "; ".join(f"case {number} says something" for number in range(20))
    line = row(observed=(text,)).headline
    assert line.endswith("something …")
    assert len(line) < 220


def test_without_a_comparison_seeds_are_those_that_all_runs_share():
    assert row(seeds_of={"a": (1, 2, 3), "b": (2, 3)}).seeds == (2, 3)
    assert row(seeds_of={}).seeds_line == ""
    few = row("cannot_tell", [Draft("CoLA", question(seeds=(1,)))], {"a": (1, 2, 3), "b": (2, 3)})
    assert (few.seeds_line, few.seeds) == ("one seed", (1,))


def test_every_comparison_has_its_numbers_in_table_and_json():
    drafts = [
        Draft("CoLA", question(), ("a", "b")),
        Draft("RTE", question(effect=0.001), ("a", "c")),
        Draft("MRPC", question(), untested="did not learn"),
        Draft("SST-2", question(seeds=(1, 2)), untested="fewer than 3 seeds"),
    ]
    found = row("cannot_tell", drafts)
    block = comparisons_block("weightlora", [found], "cpu")
    assert "cpu profile" in block.caption
    lines = [dict(zip(block.headers, line, strict=True)) for line in block.rows]
    assert [line["Verdict"] for line in lines] == [
        "supported", "cannot tell", "cannot tell: did not learn", "cannot tell: fewer than 3 seeds",
    ]  # fmt: skip
    assert [line["Adjusted p"] == "not tested" for line in lines] == [False, False, True, True]
    assert (lines[0]["Adjusted p"], lines[0]["95 %"], lines[0]["Test"]) == ("< 0.001", "+0.080 to +0.120", "primary")
    assert lines[0]["Adjusted interval"] == "+0.077 to +0.123"
    assert (lines[3]["95 %"], lines[3]["Seeds"], lines[3]["Could detect"]) == ("none", "2", "not known")
    content = json.loads(json.dumps(found.as_json()))["comparisons"]
    assert [entry["case"] for entry in content] == ["CoLA", "RTE", "MRPC", "SST-2"]
    assert [entry["tested"] for entry in content] == [True, True, False, False]
    assert {entry["profile"] for entry in content} == {"cpu"}
    for entry, line in zip(content, lines, strict=True):
        detectable = entry["smallest_detectable"]
        assert line["Could detect"] == ("not known" if detectable is None else f"{detectable:.3f}")
        assert line["Seeds"] == str(len(entry["seeds"]))
        assert (entry["p_adjusted"] is None) == (line["Adjusted p"] == "not tested")
        assert entry["role"] == line["Test"] == "primary"
    assert content[0]["runs"] == ["a", "b"]


def test_untested_comparisons_are_a_line_a_reason_and_none_is_lost():
    drafts = [
        Draft("CoLA", question()),
        Draft("MRPC", question(), untested="did not learn"),
        Draft("RTE", question(), untested="did not learn"),
        Draft("SST-2", question(seeds=(1, 2)), untested="fewer than 3 seeds"),
    ]
    rows = [row("cannot_tell", drafts)]
    tested, folds = fold_untested("weightlora", rows, "cpu")
    assert [line[0] for line in tested.rows] == ["CoLA: WeightLoRA minus LoRA"]
    assert [fold.line for fold in folds] == [
        "2 comparisons, cannot tell: did not learn.", "1 comparison, cannot tell: fewer than 3 seeds.",
    ]  # fmt: skip
    whole = comparisons_block("weightlora", rows, "cpu")
    assert sorted(whole.rows) == sorted([*tested.rows, *(line for fold in folds for line in fold.table.rows)])
    waiting = row("not_tested", drafts[:1], waiting="2 of 5 tasks have run")
    assert [fold.line for fold in fold_untested("weightlora", [waiting], "cpu")[1]] == [
        "1 comparison, not tested: 2 of 5 tasks have run."
    ]


def test_published_measured_and_detectable_are_side_by_side():
    compared = row(drafts=[Draft("CoLA", question())], published="+0.0025 BLEU")
    counted = row("counted", outcome="holds", unit="fewer")
    counted.judged.__dict__["cases"] = (
        Case("a", "counted", "found", effects=(0.355,)), Case("b", "counted", "found", effects=(0.385,)),
    )  # fmt: skip
    block = claims_block([compared, counted])
    lines = [dict(zip(block.headers, line, strict=True)) for line in block.rows]
    assert (lines[0]["Published"], lines[0]["Measured here"]) == ("+0.0025 BLEU", "+0.100 accuracy")
    assert float(lines[0]["Could detect"]) == pytest.approx(compared.shown.finding.detectable, abs=5e-4)
    assert (lines[1]["Published"], lines[1]["Measured here"]) == ("no figure", "35.5 % to 38.5 % fewer")
    assert (lines[1]["Could detect"], lines[1]["Verdict"]) == ("–", "counted: holds")
    assert counts_line([compared, counted]) == "1 supported, 1 counted"


@pytest.mark.parametrize(
    ("verdict", "fields", "effect", "why"),
    [
        ("supported", {}, 0.1, "95 % +0.080 to +0.120"),
        ("cannot_tell", {}, 0.001, "to find 0.03: 3 seeds on these items or 531 items with these seeds"),
        ("not_tested", {"waiting": "2 of 5 tasks", "brief": "mostly CoLA"}, 0.1, "2 of 5 tasks; mostly CoLA"),
        ("counted", {"outcome": "holds", "brief": "on one backbone"}, 0.1, "on one backbone"),
        ("depends_on_analysis", {}, 0.1, "equally good measures disagree"),
    ],
)
def test_the_answer_says_why_in_a_few_words(verdict, fields, effect, why):
    asked = dataclasses.replace(question(effect=effect), target=0.03)
    found = row(verdict, [Draft("CoLA", asked)], **fields)
    (line,) = answer_block([found], "cpu").rows
    assert line[-1] == why
    assert line[0].startswith("WeightLoRA 3. Choosing adapters")
    assert row("not_tested").why == "no run tests it"


@pytest.mark.parametrize(("spread", "words"), [(0.002, "too"), (0.01, "not shown")])
def test_a_loss_says_whether_it_is_larger_than_the_margin(spread, words):
    seeds = tuple(range(8))
    by_seed = tuple(-0.06 + spread * (n - 3.5) for n in seeds)
    asked = question(seeds=seeds)
    asked = dataclasses.replace(
        asked, above=-0.05, difference=dataclasses.replace(asked.difference, by_seed=by_seed, items=(Noise(1e-6, 600),))
    )
    (line,) = answer_block([row("contradicted", [Draft("CoLA", asked)])], "cpu").rows
    assert line[-1].endswith(f"; worse, by more than 0.050 {words}")


def test_the_legend_explains_what_is_shown():
    one = row(drafts=[Draft("CoLA", question())])
    asked = question()
    pooled = dataclasses.replace(asked, difference=dataclasses.replace(asked.difference, metric=POOLED_METRIC))
    assert legend([one]).endswith("the true one is 0.5 to 6.3 times it with 3 seeds (95 %).")
    assert legend([row("not_tested", drafts=[Draft("CoLA", question())])]).endswith("80 % of the time.")
    assert "Mean of primary measures" not in legend([one])
    of_tasks = legend([one, row(drafts=[Draft("five tasks", pooled), Draft("CoLA", asked)])])
    assert of_tasks.endswith(
        "Mean of primary measures: over the tasks, of differences in each one's measure (accuracy)."
    )


def test_other_analyses_are_columns_after_the_verdict():
    found = Sensitivity(CLAIM, (("as judged", "supported"), ("processors ignored", "cannot tell")))
    block = sensitivity_block([found], "cpu")
    assert block.headers == ("Claim", "As judged", "Processors ignored")
    assert block.rows == (("WeightLoRA 3", "supported", "cannot tell"),)
    assert sensitivity_block([], "quick").rows == ()


def test_a_verdict_that_one_task_decides_is_named():
    by_task = (("CoLA on MiniLM-L6", "supported"), ("MNLI on MiniLM-L6", "cannot tell"))
    found = Sensitivity(CLAIM, (("as judged", "supported"),), by_task)
    assert decisive_line([found]) == "One task decides: without MNLI, WeightLoRA 3 would be “cannot tell”."
    assert decisive_line([dataclasses.replace(found, by_task=by_task[:1])]) == ""


def test_real_verdicts_of_both_papers_become_rows(quick_runs, task_study):
    loaded = load_profile(quick_runs)
    rows = claim_rows([v for v in judge(Study.of(loaded)) if v.claim.paper == "solo"], "quick")
    rows += claim_rows([v for v in judge(task_study) if v.claim.paper == "weightlora"], "cpu")
    assert [row.id for row in rows] == [f"{paper}-{n}" for paper in ("solo", "weightlora") for n in (1, 2, 3, 4)]
    assert "not tested" in counts_line(rows)
    block = claims_block(rows)
    assert len(block.rows) == 8
    content = json.loads(json.dumps([row.as_json() for row in rows]))
    assert content[0]["paper"] == "Solo Connection"
    assert all(entry["claim"] and entry["reason"] and entry["rule"] and entry["source"] for entry in content)
    tested = [entry for claim in content for entry in claim["comparisons"] if entry["tested"]]
    assert tested
    assert all(entry["family"] and entry["p_adjusted"] is not None and entry["smallest_detectable"] for entry in tested)


def test_a_verdict_without_runs_is_the_named_profiles():
    rows = claim_rows(judge(Study.of([])), "cpu")
    assert {row.profile for row in rows} == {"cpu"}
    assert comparisons_block("solo", rows, "cpu").rows == ()
