"""How drafts become cases, and cases a claim's verdict."""

import dataclasses
from types import SimpleNamespace

import pytest

from analysis.judge.bench import Bench, Case, Draft, Judged, compare_runs, joined_verdict, settle
from analysis.judge.decision import Difference, Question
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile
from analysis.stats.mean_test import Noise

MADE_UP_CLAIM = SimpleNamespace(number=1, key="k", text="It is better.")


def question(name="a minus b", effect=0.1, error=0.01, seeds=(1, 2, 3)):
    by_seed = tuple(effect + 0.002 * (index - (len(seeds) - 1) / 2) for index in range(len(seeds)))
    return Question(name, Difference("BLEU", seeds, by_seed, None, (Noise(error**2, 600),)))


def case(verdict, role="primary"):
    return Case("a", verdict, "found", role=role)


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "cannot_tell"], "cannot_tell"),
        (["supported", "contradicted"], "contradicted"),
        (["supported", "confounded"], "confounded"),
        (["supported", "not_tested"], "cannot_tell"),
        (["not_tested"], "not_tested"),
        ([], "not_tested"),
    ],
)
def test_primary_cases_join_and_secondary_ones_do_not(verdicts, verdict):
    cases = [case(name) for name in verdicts]
    assert joined_verdict(cases) == verdict
    assert joined_verdict([*cases, case("contradicted", "secondary")]) == verdict


def test_primary_and_secondary_questions_are_two_families():
    secondary = [
        Draft("one", question()),
        Draft("two", question(), untested="did not learn", verdict="not_tested"),
        Draft("three", question(effect=-0.1)),
        Draft("four", found="not compared", untested="unequal steps", verdict="not_tested"),
    ]
    pooled, one, two, three, four = settle([Draft("pooled", question())], secondary, tested=True)
    assert [found.verdict for found in (pooled, one, two, three, four)] == [
        "supported", "supported", "not_tested", "contradicted", "not_tested",
    ]  # fmt: skip
    assert [found.role for found in (pooled, one)] == ["primary", "secondary"]
    assert (pooled.findings[0].family, one.findings[0].family, three.findings[0].family) == (1, 2, 2)
    assert two.findings[0].p is None
    assert two.text.endswith("not tested: did not learn.")
    assert four.text == "four: not compared."
    assert (one.seeds, four.seeds) == (3, None)
    assert "adjusted p" in one.text
    assert "adjusted" not in pooled.text


def test_what_it_would_take_is_said_where_the_verdict_is_open():
    (open_one,) = settle([Draft("one", dataclasses.replace(question(effect=0.001), target=0.1))], [], tested=True)
    assert open_one.ending.startswith("cannot tell (to find 0.1: ")
    assert "seeds on these items" in open_one.ending
    (decided,) = settle([Draft("one", dataclasses.replace(question(), target=0.1))], [], tested=True)
    assert decided.ending == "supported"


def test_a_profile_that_tests_nothing_shows_effects_without_a_verdict():
    (found,) = settle([Draft("one", question())], [], tested=False)
    assert (found.verdict, found.ending, found.effects) == ("not_tested", "", (pytest.approx(0.1),))
    assert found.findings[0].verdict == "not_tested"
    assert found.findings[0].p is None


def test_a_measure_of_which_less_is_better_gets_no_verdict(write_task_runs, tmp_path, monkeypatch):
    runs = load_profile(write_task_runs(tmp_path, tasks=("cola",), methods=("lora", "frozen"), items=60))
    bench = Bench(Study.of(runs), load_published())
    pair = sorted(runs, key=lambda run: run.name, reverse=True)
    assert compare_runs(bench, "CoLA", "LoRA minus frozen", *pair).untested is None
    monkeypatch.setattr("analysis.judge.bench.more_is_better", lambda run, metric: False)
    draft = compare_runs(bench, "CoLA", "LoRA minus frozen", *pair)
    assert (draft.question, draft.verdict) == (None, "not_tested")
    assert draft.untested.startswith("less Matthews correlation is better")


def test_the_headline_is_the_weakest_of_the_primary_findings():
    primary = [Draft("one", question()), Draft("two", question("close", 0.04))]
    cases = settle(primary, [Draft("single", question("weaker still", 0.03))], tested=True)
    judged = Judged(MADE_UP_CLAIM, "supported", "because", cases=tuple(cases), profile="cpu")
    assert judged.headline.question.name == "close"
    assert judged.seeds == 3
    content = judged.to_dict()
    assert content["headline"]["name"] == "close"
    assert [entry["title"] for entry in content["cases"]] == ["one", "two", "single"]
    counted = dataclasses.replace(judged, verdict="counted", outcome="holds", cases=(case("counted"),))
    assert (counted.headline, counted.seeds, counted.verdict_shown) == (None, None, "counted: holds")
