"""The rule: its verdicts, its family, its intervals, and synthetic truth through all of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analysis.judge.decision import (
    ALPHA,
    MEANING,
    VERDICTS,
    Difference,
    Question,
    decide,
    undecided,
    verdict_text,
)
from analysis.stats.bootstrap import Rowwise, paired_bootstrap
from analysis.stats.mean_test import MeanTest, Noise
from analysis.stats.power import Spread, smallest_detectable
from analysis.stats.seeds import holm, holm_multipliers

SEEDS = (18, 52, 1917)
MEAN = Rowwise(lambda sums: sums[..., 0] / sums[..., 1])


def made(effect=0.1, seeds=SEEDS, item_error=0.01, seed_error=0.01, **more):
    """A difference about `effect`, its seeds evenly spread."""
    by_seed = tuple(effect + seed_error * (np.arange(len(seeds)) - (len(seeds) - 1) / 2))
    return Difference("BLEU", seeds, by_seed, None, (Noise(item_error**2, 600),), item_count=601, **more)


def verdicts(differences):
    """Each difference judged alone."""
    return [decide([Question("a minus b", difference)])[0].verdict for difference in differences]


def test_every_verdict_has_a_meaning():
    assert set(MEANING) == set(VERDICTS)
    assert verdict_text("depends_on_analysis") == "depends on analysis"


def test_noise_of_seeds_and_of_items_each_keep_from_a_verdict():
    assert verdicts([made(), made(-0.1)]) == ["supported", "contradicted"]
    assert verdicts([made(seed_error=0.1), made(item_error=0.1)]) == ["cannot_tell"] * 2


@given(st.floats(-0.2, 0.2), st.floats(0.001, 0.1), st.floats(0.001, 0.1), st.integers(3, 10))
def test_turning_a_difference_round_turns_the_verdict_round(effect, item_error, seed_error, seeds):
    there = made(effect, tuple(range(seeds)), item_error, seed_error)
    back = dataclasses.replace(there, by_seed=tuple(-value for value in there.by_seed))
    turned = {"supported": "contradicted", "contradicted": "supported", "cannot_tell": "cannot_tell"}
    assert verdicts([back]) == [turned[verdicts([there])[0]]]


def test_the_family_is_adjusted_by_holm():
    """A borderline comparison passes alone, and not among nine others."""
    borderline = made(0.06, seed_error=0.02)
    alone = decide([Question("a", borderline)])[0]
    assert (alone.verdict, alone.family, alone.p_adjusted) == ("supported", 1, alone.p)
    nothing = [Question(str(number), made(0.001 * number)) for number in range(9)]
    found = decide([Question("a", borderline), *nothing])
    assert found[0].verdict == "cannot_tell"
    assert found[0].family == 10
    assert [finding.p_adjusted for finding in found] == pytest.approx(holm([finding.p for finding in found]))
    assert found[0].detectable > alone.detectable


@pytest.mark.slow  # importing statsmodels takes most of it
@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_a_multiplier_gives_the_adjusted_p_and_lies_between_one_and_the_family(p_values):
    multipliers = holm_multipliers(p_values)
    assert np.minimum(np.array(p_values) * multipliers, 1) == pytest.approx(holm(p_values))
    assert (multipliers >= 1 - 1e-9).all()
    assert (multipliers <= len(p_values) + 1e-9).all()


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(0.005, 0.05)), min_size=1, max_size=8))
def test_the_adjusted_interval_says_what_the_adjusted_p_says(pairs):
    found = decide([Question("a", made(effect, seed_error=error)) for effect, error in pairs])
    for finding in found:
        plain, adjusted = finding.interval, finding.adjusted_interval
        assert adjusted.low <= plain.low + 1e-12
        assert adjusted.high >= plain.high - 1e-12
        if abs(finding.p_adjusted - ALPHA) > 1e-6:
            assert (adjusted.low > 0 or adjusted.high < 0) == (finding.p_adjusted <= ALPHA)
            assert (finding.verdict != "cannot_tell") == (finding.p_adjusted <= ALPHA)


def test_few_seeds_and_absent_items_enter_no_family():
    few = Question("two seeds", made(seeds=(18, 52)))
    no_items = Question("no items", dataclasses.replace(made(), items=()))
    confounded = Question("processors", made(confounded=True, dropped=(18,)))
    found = decide([few, Question("a", made()), no_items, confounded])
    assert [finding.verdict for finding in found] == ["cannot_tell", "supported", "cannot_tell", "confounded"]
    assert [finding.family for finding in found] == [None, 1, None, None]
    assert [finding.why for finding in found] == [
        "fewer than 3 seeds", None, "no scores of single items", "different types of processor on seed 18",
    ]  # fmt: skip
    assert (found[0].p_adjusted, found[0].detectable, found[0].interval) == (None, None, None)
    assert decide([]) == []


def test_a_loss_curve_has_no_items():
    curve = dataclasses.replace(made(), items=(), without_items=True)
    assert verdicts([curve]) == ["supported"]
    assert curve.p_value() == MeanTest.of(curve.by_seed).p_value()
    assert dataclasses.replace(curve, test="seeds and items").p_value() == curve.p_value(), "there are no items to add"
    for equal in ((1e-9, 1e-9, 1e-9), (0.3 - 0.1, 0.4 - 0.2, 0.5 - 0.3)):  # the second but for rounding
        same = dataclasses.replace(curve, seeds=(1, 2, 3), by_seed=equal)
        assert same.why_undecidable == "no spread over the seeds", "equal by chance, or copies: no noise to judge by"
    assert dataclasses.replace(same, by_seed=(0.0,) * len(curve.by_seed)).p_value() == 1.0


def test_a_margin_asks_two_hypotheses_in_two_families():
    """Not worse than by 0.05 is supported where zero cannot be rejected; contradicted needs less than zero."""
    inside = Question("a", made(-0.01, seed_error=0.001), above=-0.05)
    worse = Question("b", made(-0.2, seed_error=0.001), above=-0.05)
    slightly = Question("c", made(-0.03, item_error=0.001, seed_error=0.001), above=-0.05)
    found = decide([inside, worse, slightly])
    assert [finding.verdict for finding in found] == ["supported", "contradicted", "supported"]
    assert {finding.family for finding in found} == {3}
    assert [finding.bound for finding in found] == [-0.05, 0.0, -0.05], "the bound that the p shown belongs to"
    assert found[0].p == inside.difference.p_value(-0.05), "the p shown is the one that decided"
    assert found[1].p == worse.difference.p_value(0.0)
    assert found[0].p_margin == found[0].p_adjusted, "the margin decided"
    assert [finding.beyond_margin for finding in found] == [False, True, False]


def test_worse_than_zero_is_not_worse_than_the_margin():
    """Contradicted by a loss that is not shown to be larger than the margin: both p are told."""
    difference = made(-0.06, seeds=tuple(range(8)), item_error=0.001)
    found = decide([Question("a", difference, above=-0.05)])[0]
    assert (found.verdict, found.beyond_margin) == ("contradicted", False)
    assert found.p_margin == difference.p_value(-0.05) > ALPHA > found.p == difference.p_value(0.0)
    assert found.to_dict()["p_margin"] == found.p_margin
    assert decide([Question("a", difference)])[0].p_margin is None


def test_what_it_takes_is_for_the_target():
    far = decide([Question("a", made(0.001, tuple(range(8))), target=0.03)])[0]
    assert (far.seeds_needed, far.items_needed) == (42, 3070)
    near = decide([Question("a", made(0.001, tuple(range(8))), target=0.001)])[0]
    assert (near.seeds_needed, near.items_needed) == (None, None)
    assert decide([Question("a", made(0.001))])[0].seeds_needed is None


def test_a_finding_gives_every_number_by_name():
    found = decide([Question("a minus b", made(), target=0.02)])[0].to_dict()
    assert found["effect"] == pytest.approx(0.1)
    assert found["interval"][0] < 0.1 < found["interval"][1]
    assert found["adjusted_interval"] == pytest.approx(found["interval"])
    assert (found["seeds"], len(found["by_seed"]), found["verdict"]) == ([18, 52, 1917], 3, "supported")
    assert 0 < found["smallest_detectable"] < 0.1
    shown = undecided(Question("a minus b", made()), "not_tested", None).to_dict()
    assert (shown["verdict"], shown["p_adjusted"], shown["family"], shown["adjusted_interval"]) == (
        "not_tested", None, None, None,
    )  # fmt: skip


def simulated(rng, effect, of_seeds, of_items, residual, seeds=3, items=200, resamples=400):
    """One comparison as runs give it: difference of seed s on item i = effect + a_s + b_i + e_si."""
    values = effect + of_seeds * rng.normal(size=(seeds, 1)) + of_items * rng.normal(size=(1, items))
    values = values + residual * rng.normal(size=(seeds, items))
    first = np.stack([values, np.ones_like(values)], axis=2)
    second = np.stack([np.zeros_like(values), np.ones_like(values)], axis=2)
    over_items = paired_bootstrap(first, second, MEAN, resamples=resamples, seed=int(rng.integers(2**31)))
    noise = Noise(over_items.standard_error**2, items - 1)
    return Difference("score", tuple(range(seeds)), tuple(values.mean(axis=1).tolist()), over_items, (noise,))


@pytest.mark.long
def test_synthetic_truth_through_the_whole_rule():
    """500 comparisons from items and seeds up: 200 items, three seeds, bootstrap, both tests.

    Without an effect at most 5 % are decided either way; with the smallest detectable one 80 % are supported; both
    within three standard errors.
    """
    rng, noise, runs = np.random.default_rng(5), (0.01, 0.2, 0.2), 500
    none = verdicts([simulated(rng, 0.0, *noise) for _ in range(runs)])
    assert sum(verdict != "cannot_tell" for verdict in none) / runs <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    own = 0.2 / np.sqrt(200)
    least = smallest_detectable(Spread(0.01, own, own), 3, ALPHA, 0.8)
    some = verdicts([simulated(rng, least, *noise) for _ in range(runs)])
    assert "contradicted" not in some
    assert sum(verdict == "supported" for verdict in some) / runs == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / runs))


@pytest.mark.long
def test_synthetic_truth_in_a_family():
    """150 families of six comparisons, one with an effect: any false verdict in at most 5 % of the families."""
    rng, noise, runs, false, found_true = np.random.default_rng(6), (0.005, 0.2, 0.2), 150, 0, 0
    for _ in range(runs):
        effects = (0.3, 0.0, 0.0, 0.0, 0.0, 0.0)
        answers = decide([Question(str(effect), simulated(rng, effect, *noise)) for effect in effects])
        found_true += answers[0].verdict == "supported"
        false += any(answer.verdict != "cannot_tell" for answer in answers[1:])
    assert false / runs <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert found_true / runs > 0.8
