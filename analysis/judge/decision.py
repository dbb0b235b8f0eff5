"""The rule by which a comparison decides a claim, and what it could have detected. Defined only here.

A comparison is first minus second on one metric, on the same test items and over shared seeds. Its p-value is that of
`stats.mean_test`: the larger of the paired t-test over seeds and of a t-test whose variance holds the noise of the test
items as well. It is `supported` above a bound (`contradicted` below one) when it lies on that side and its p, adjusted
by Holm over the comparisons decided together, is at most alpha; otherwise `cannot_tell`.

Decided together are the primary comparisons of one claim, and apart from them its secondary ones. A question with a
margin has two bounds: the p-values against the upper ones are one family, those against the lower ones another. Each
family keeps the error of its own bound at alpha / 2. Between the bounds both hypotheses are true (worse, by less than
the margin): noise and the number of seeds decide which is found, so the p against the margin is always told too.

Intervals are the wider of the two tests': plain at 1 - alpha, adjusted at 1 - alpha p / p_adjusted, which excludes the
bound exactly when the adjusted p is at most alpha.

Simulated without an effect (`tests/analysis/stats/test_mean_test.py`; 1 to 20 comparisons, 3 to 12 seeds, five mixes of
noise): a family has a false verdict in 0.4 to 7 % of the cases. The constants are those of
`paper_results/judgement.yaml`.

Two seeds have a spread (df = 1), but a single difference of two runs is no basis for a verdict: three shared seeds are
required, with fewer a comparison enters no family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from analysis.load.judgement import load_judgement
from analysis.stats.bootstrap import Interval, PairedDifference
from analysis.stats.mean_test import MeanTest, Noise, Test
from analysis.stats.power import Spread, items_needed, seeds_needed, smallest_detectable
from analysis.stats.seeds import holm, holm_multipliers

Verdict = Literal[
    "supported", "contradicted", "cannot_tell", "depends_on_analysis", "confounded", "counted", "not_tested"
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = (
    "supported", "contradicted", "cannot_tell", "depends_on_analysis", "confounded", "counted", "not_tested"
)  # fmt: skip
MEANING: dict[Verdict, str] = {
    "supported": "the measured difference lies on the claim's side, by more than seeds and test items explain",
    "contradicted": "it lies on the other side, by more than they explain",
    "cannot_tell": "the noise of seeds and test items is too large for the difference there is",
    "depends_on_analysis": "analyses that are equally good lead to different verdicts",
    "confounded": "the compared runs were made on different types of processor",
    "counted": "parameters counted, or bytes measured, of which every repeat must agree: nothing is tested",
    "not_tested": "no run of this profile tests it, or not yet",
}
RULE = load_judgement().rule
ALPHA, POWER, LEAST_SEEDS = RULE.alpha, RULE.power, RULE.least_seeds
CONFIDENCE = 1 - ALPHA


def verdict_text(verdict: Verdict) -> str:
    """`cannot tell` for cannot_tell."""
    return verdict.replace("_", " ")


@dataclass(frozen=True)
class Difference:
    """first minus second on one metric, by shared seeds and over test items.

    `by_seed` are the differences seed by seed, in the order of `seeds`. `items` are the noises of the sets of test
    items (one a task), `over_items` the bootstrap of their sum; both are empty for scores without items' scores.
    `without_items`: nothing is sampled but seeds (a loss curve). `approximate`: the items' scores are the official
    formula on another tokenisation. `dropped`: seeds whose runs were made on different types of processor, left out;
    where too few others are left they are used and the difference is `confounded`.
    """

    metric: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    over_items: PairedDifference | None = None
    items: tuple[Noise, ...] = ()
    without_items: bool = False
    approximate: bool = False
    dropped: tuple[int, ...] = ()
    confounded: bool = False
    test: Test = "both"
    item_count: int | None = None

    @property
    def effect(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.by_seed))

    @property
    def seed_deviation(self) -> float | None:
        """Sample standard deviation of the seeds' differences."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def why_undecidable(self) -> str | None:
        """Why the rule cannot decide; None if it can."""
        if self.confounded:
            return f"different types of processor on seed {', '.join(map(str, self.dropped))}"
        if len(self.seeds) < LEAST_SEEDS:
            return f"fewer than {LEAST_SEEDS} seeds"
        if self.without_items and self.effect != 0 and np.ptp(self.by_seed) <= 1e-12 * abs(self.effect):
            return "no spread over the seeds"
        return None if self.items or self.without_items else "no scores of single items"

    @cached_property
    def mean_test(self) -> MeanTest | None:
        """The test; None with one seed."""
        return MeanTest.of(self.by_seed, self.items, self.test) if len(self.by_seed) > 1 else None

    def p_value(self, null: float = 0.0) -> float | None:
        """Two-sided p of the hypothesis that the difference is `null`; None where the rule cannot decide."""
        return None if self.why_undecidable or self.mean_test is None else self.mean_test.p_value(null)

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """The wider of both tests' intervals; None where the rule cannot decide."""
        return None if self.why_undecidable or self.mean_test is None else self.mean_test.interval(confidence)

    @property
    def over_seeds(self) -> Interval | None:
        """The interval over seeds alone, at the rule's confidence; None below three seeds."""
        if len(self.seeds) < LEAST_SEEDS:
            return None
        return MeanTest.of(self.by_seed, (), "seeds").interval(CONFIDENCE)

    @cached_property
    def spread(self) -> Spread | None:
        """Its noise, for power; None where the rule cannot decide."""
        if self.why_undecidable or self.seed_deviation is None:
            return None
        item_error = sum(noise.variance for noise in self.items) ** 0.5
        overlap = self.over_items.overlap if self.over_items is not None else 0.0
        return Spread.measured(self.seed_deviation, item_error, len(self.seeds), overlap=overlap, items=self.item_count)


@dataclass(frozen=True)
class Question:
    """A claim's hypothesis about one difference: supported above one bound, contradicted below the other.

    `target` is the smallest difference from `above` that would matter: the published one, or the margin.
    """

    name: str
    difference: Difference
    above: float = 0.0
    below: float = 0.0
    target: float | None = None


@dataclass(frozen=True)
class Finding:
    """A question answered by the rule.

    `p` and `p_adjusted` belong to the bound that `tested` names: `below` for an effect below it that is not supported,
    else `above`. `p_margin` is the adjusted p against `above` where the two bounds differ: whether the loss is another
    than the margin. `family` is the number of comparisons adjusted together. Each is None if the rule cannot decide.
    """

    question: Question
    verdict: Verdict
    why: str | None = None
    p: float | None = None
    p_adjusted: float | None = None
    multiplier: float | None = None
    family: int | None = None
    tested: Literal["above", "below"] = "above"
    p_margin: float | None = None

    @property
    def difference(self) -> Difference:
        """The difference in question."""
        return self.question.difference

    @property
    def bound(self) -> float:
        """The bound that `p` tests."""
        return self.question.below if self.tested == "below" else self.question.above

    @property
    def beyond_margin(self) -> bool:
        """Whether a loss larger than the margin is shown; a question without a margin has none."""
        return self.p_margin is not None and self.p_margin <= ALPHA and self.difference.effect < self.question.above

    @cached_property
    def interval(self) -> Interval | None:
        """The plain interval."""
        return self.difference.interval()

    @cached_property
    def adjusted_interval(self) -> Interval | None:
        """The interval at the level of Holm's step; the plain one for a family of one; None without a test."""
        return None if self.multiplier is None else self.difference.interval(1 - ALPHA / self.multiplier)

    @cached_property
    def detectable(self) -> float | None:
        """The smallest true difference found with probability POWER by these seeds and items, at the level of this
        family (as a single test where none was made); None where the rule cannot decide."""
        spread = self.difference.spread
        if spread is None:
            return None
        return smallest_detectable(spread, len(self.difference.seeds), ALPHA / (self.family or 1), POWER)

    @cached_property
    def seeds_needed(self) -> int | None:
        """Seeds with which `target` would be found on these items; None if no number suffices or there is no target."""
        spread, target = self.difference.spread, self.question.target
        if spread is None or not target:
            return None
        return seeds_needed(target, spread, ALPHA / (self.family or 1), POWER, LEAST_SEEDS)

    @cached_property
    def items_needed(self) -> int | None:
        """Test items with which these seeds would find `target`; None if no number suffices or items are not known."""
        spread, target = self.difference.spread, self.question.target
        if spread is None or spread.items is None or not target:
            return None
        return items_needed(target, spread, len(self.difference.seeds), ALPHA / (self.family or 1), POWER)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every number of the comparison under its own name."""
        found = self.difference

        def ends(interval: Interval | None) -> list[float] | None:
            return None if interval is None else [interval.low, interval.high]

        return {
            "name": self.question.name,
            "metric": found.metric,
            "effect": found.effect,
            "supported_above": self.question.above,
            "contradicted_below": self.question.below,
            "seeds": list(found.seeds),
            "by_seed": list(found.by_seed),
            "dropped_seeds": list(found.dropped),
            "interval": ends(self.interval),
            "adjusted_interval": ends(self.adjusted_interval),
            "over_items": ends(found.over_items),
            "over_seeds": ends(found.over_seeds),
            "approximate": found.approximate,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "p_margin": self.p_margin,
            "family": self.family,
            "smallest_detectable": self.detectable,
            "target": self.question.target,
            "seeds_needed": self.seeds_needed,
            "items_needed": self.items_needed,
            "verdict": self.verdict,
            "why": self.why,
        }


def decide(questions: Sequence[Question]) -> list[Finding]:
    """One finding per question, in order; those that the rule can decide are adjusted together."""
    open_ones = [number for number, question in enumerate(questions) if question.difference.why_undecidable is None]
    above = _adjusted([_p(questions[number], questions[number].above) for number in open_ones])
    below = _adjusted([_p(questions[number], questions[number].below) for number in open_ones])
    tested = {number: (above[place], below[place]) for place, number in enumerate(open_ones)}
    return [
        _finding(question, *tested[number], len(open_ones)) if number in tested else _not_decidable(question)
        for number, question in enumerate(questions)
    ]


def undecided(question: Question, verdict: Verdict, why: str | None) -> Finding:
    """A finding outside any family: its effect is shown, nothing is tested."""
    return Finding(question, verdict, why)


def _not_decidable(question: Question) -> Finding:
    found = question.difference
    return undecided(question, "confounded" if found.confounded else "cannot_tell", found.why_undecidable)


@dataclass(frozen=True)
class _Adjusted:
    p: float
    adjusted: float
    multiplier: float


def _p(question: Question, null: float) -> float:
    value = question.difference.p_value(null)
    assert value is not None
    return value


def _adjusted(raw: Sequence[float]) -> list[_Adjusted]:
    adjusted, multipliers = holm(raw), holm_multipliers(raw)
    return [_Adjusted(*values) for values in zip(raw, adjusted.tolist(), multipliers.tolist(), strict=True)]


def _finding(question: Question, above: _Adjusted, below: _Adjusted, family: int) -> Finding:
    effect = question.difference.effect
    verdict: Verdict = "cannot_tell"
    if effect > question.above and above.adjusted <= ALPHA:
        verdict = "supported"
    elif effect < question.below and below.adjusted <= ALPHA:
        verdict = "contradicted"
    tested: Literal["above", "below"] = "below" if effect < question.below and verdict != "supported" else "above"
    shown = below if tested == "below" else above
    margin = above.adjusted if question.above != question.below else None
    return Finding(question, verdict, None, shown.p, shown.adjusted, shown.multiplier, family, tested, margin)
