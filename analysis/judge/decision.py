"""The rule by which a comparison decides a claim, and what it could have detected. Defined only here.

A comparison is first minus second on one metric, on the same test items and over shared seeds. It is `supported` (or
`contradicted`) only when both of these exclude zero, or the bound the claim names, in that direction:

1. items: the paired bootstrap over test items of the seed-averaged difference, two-sided p adjusted by Holm, at alpha;
2. seeds: the paired t-interval over seeds at confidence 1 - alpha, n - 1 degrees of freedom.

Its constants are those of `paper_results/judgement.yaml`; alpha governs both tests and every interval.

Otherwise it is `inconclusive`. Each test misses the other's noise: the item bootstrap misses another training
run, the t-interval other test items. With 630 shared items, three seeds and no true difference, the item test alone is
wrong in 5 to 22 % of the cases simulated in the tests, the seed test in 7 to 16 %, both together in at most 5 %; in the
worst case, where every seed errs on the very same items, in 5.8 % (2.9 % in either direction).

Holm's family is every item-level p-value that could decide a claim of one paper in one profile: comparisons with equal
budgets, at least three shared seeds and scores of single items (and, for WeightLoRA, a task that LoRA learned). A claim
with a margin puts two p-values into it, one a bound.

Seeds: one seed has no interval at all. Two would have one (df = 1, t = 12.7), but a spread estimated from a single
difference of two runs is no basis for a verdict, so three shared seeds are required; with fewer a comparison is
`inconclusive` and enters no family. A sign-flip test of n seeds has no p below 2 / 2**n, so at three seeds it can never
pass 0.25: it is reported from six seeds on, but is not part of the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from analysis.load.judgement import load_judgement
from analysis.stats.bootstrap import Interval, PairedDifference
from analysis.stats.power import smallest_detectable
from analysis.stats.seeds import holm, sign_flip_test

Verdict = Literal["supported", "contradicted", "inconclusive", "not_tested"]
RULE = load_judgement().rule
ALPHA, POWER, LEAST_SEEDS = RULE.alpha, RULE.power, RULE.least_seeds
CONFIDENCE = 1 - ALPHA  # of every interval: one alpha governs both tests
SIGN_FLIP_SEEDS = 6


@dataclass(frozen=True)
class Difference:
    """first minus second on one metric: over shared seeds and over test items.

    `by_seed` are the differences seed by seed, in the order of `seeds`. `approximate`: the items' scores are the
    official formula on another tokenisation.
    """

    metric: str
    effect: float
    seeds: tuple[int, ...]
    over_items: PairedDifference | None
    over_seeds: Interval | None
    by_seed: tuple[float, ...] = ()
    approximate: bool = False

    def above(self, bound: float) -> bool:
        """Whether every available interval lies above `bound`; False without one."""
        return bool(self._intervals) and all(interval.low > bound for interval in self._intervals)

    def below(self, bound: float) -> bool:
        """Whether every available interval lies below `bound`."""
        return bool(self._intervals) and all(interval.high < bound for interval in self._intervals)

    @property
    def sign_flip_p(self) -> float | None:
        """Two-sided p of the sign-flip test over seeds; None below six seeds, where it cannot be significant."""
        return sign_flip_test(self.by_seed) if len(self.by_seed) >= SIGN_FLIP_SEEDS else None

    @property
    def seed_deviation(self) -> float | None:
        """Sample standard deviation of the seeds' differences."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def why_undecidable(self) -> str | None:
        """Why the rule cannot decide; None if it can."""
        if len(self.seeds) < LEAST_SEEDS:
            return f"fewer than {LEAST_SEEDS} seeds"
        if self.over_items is None:
            return "no scores of single items"
        return None if self.over_seeds is not None else "no interval over seeds"

    @property
    def _intervals(self) -> list[Interval]:
        return [interval for interval in (self.over_items, self.over_seeds) if interval is not None]


@dataclass(frozen=True)
class Question:
    """A claim's hypothesis about one difference: supported above one bound, contradicted below the other."""

    name: str
    difference: Difference
    above: float = 0.0
    below: float = 0.0

    @property
    def bounds(self) -> tuple[float, ...]:
        """The hypotheses to be rejected, each once."""
        return (self.above,) if self.above == self.below else (self.above, self.below)


@dataclass(frozen=True)
class Finding:
    """A question answered by the rule.

    `p_items` and `p_holm` belong to the bound that the effect lies beyond (to `above` when it lies between the two);
    `family` is the number of p-values adjusted together. All three are None if the rule cannot decide.
    """

    question: Question
    verdict: Verdict
    why: str | None = None
    p_items: float | None = None
    p_holm: float | None = None
    family: int | None = None

    @property
    def difference(self) -> Difference:
        """The difference in question."""
        return self.question.difference

    @cached_property
    def detectable(self) -> float | None:
        """`smallest_detectable` with these seeds and items; None with fewer than three seeds or no items' scores."""
        found = self.difference
        if found.why_undecidable or found.over_items is None or found.seed_deviation is None:
            return None
        return smallest_detectable(
            found.over_items.standard_error,
            found.seed_deviation,
            len(found.by_seed),
            overlap=found.over_items.overlap,
            alpha_items=ALPHA / (self.family or 1),
            alpha_seeds=ALPHA,
            power=POWER,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every number of the comparison under its own name."""
        found = self.difference
        items, seeds = found.over_items, found.over_seeds
        return {
            "name": self.question.name,
            "metric": found.metric,
            "effect": found.effect,
            "supported_above": self.question.above,
            "contradicted_below": self.question.below,
            "seeds": list(found.seeds),
            "by_seed": list(found.by_seed),
            "over_items": None if items is None else [items.low, items.high],
            "over_seeds": None if seeds is None else [seeds.low, seeds.high],
            "approximate": found.approximate,
            "p_items": self.p_items,
            "p_holm": self.p_holm,
            "family": self.family,
            "sign_flip_p": found.sign_flip_p,
            "smallest_detectable": self.detectable,
            "verdict": self.verdict,
            "why": self.why,
        }


def decide(questions: Sequence[Question]) -> list[Finding]:
    """One finding per question, in order; those that the rule can decide form one Holm family."""
    open_ones = [question for question in questions if question.difference.why_undecidable is None]
    keys = [(id(question), bound) for question in open_ones for bound in question.bounds]
    raw = [
        question.difference.over_items.p_value(bound)
        for question in open_ones
        if question.difference.over_items is not None
        for bound in question.bounds
    ]
    adjusted = dict(zip(keys, holm(raw).tolist(), strict=True))
    return [_finding(question, adjusted, len(raw)) for question in questions]


def undecided(question: Question, verdict: Verdict, why: str | None) -> Finding:
    """A finding outside any family: its effect is shown, nothing is tested."""
    return Finding(question, verdict, why)


def _finding(question: Question, adjusted: dict[tuple[int, float], float], family: int) -> Finding:
    found = question.difference
    items, seeds = found.over_items, found.over_seeds
    if found.why_undecidable or items is None or seeds is None:
        return undecided(question, "inconclusive", found.why_undecidable)
    above, below = (adjusted[id(question), bound] for bound in (question.above, question.below))
    verdict: Verdict = "inconclusive"
    if items.estimate > question.above and above <= ALPHA and seeds.low > question.above:
        verdict = "supported"
    elif items.estimate < question.below and below <= ALPHA and seeds.high < question.below:
        verdict = "contradicted"
    bound, p_holm = (question.below, below) if items.estimate < question.below else (question.above, above)
    return Finding(question, verdict, None, items.p_value(bound), p_holm, family)
