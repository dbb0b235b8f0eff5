import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.judge.claims import Case, Draft, Judged, joined_verdict, settle
from analysis.judge.decision import Difference, Question
from analysis.stats.bootstrap import PairedDifference
from analysis.stats.seeds import t_interval

CLAIM = SimpleNamespace(number=1, key="k", text="It is better.")


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
    judged = Judged(CLAIM, "supported", "because", cases=tuple(cases), profile="cpu")
    assert judged.headline.question.name == "close"
    assert judged.seeds == 3
    content = judged.to_dict()
    assert content["headline"]["name"] == "close"
    assert [case["title"] for case in content["cases"]] == ["one", "two"]
    counted = dataclasses.replace(judged, cases=(Case("counted", "supported", "99 % fewer"),))
    assert (counted.headline, counted.seeds) == (None, None)
