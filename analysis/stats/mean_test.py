"""The test of a mean difference over seeds, measured on one set of test items. Pure functions.

Two noises: another training run (the spread over seeds shows it) and other test items (they are common to all seeds, so
that the spread over seeds does not show them; the item bootstrap does). The p-value is the larger of two:

- seeds: the paired t-test over the seeds' differences, n - 1 degrees of freedom;
- seeds and items: a t-test of their mean with the variance s^2 / n + se^2 (s the standard deviation of the seeds'
  differences, se the item bootstrap's standard error of their mean) and Welch-Satterthwaite degrees of freedom.

The first alone misses the items. The second alone is too bold with few seeds where s happens to be small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from analysis.stats.bootstrap import Interval, check_confidence

Test = Literal["both", "seeds", "seeds and items"]


@dataclass(frozen=True)
class Noise:
    """A variance of the mean and the degrees of freedom it was estimated with."""

    variance: float
    degrees: float = math.inf


@dataclass(frozen=True)
class MeanTest:
    """A mean with its noises; `items` has one entry a set of test items, none where nothing is sampled (a loss curve).

    `test` names one of the two tests, for a sensitivity analysis.
    """

    mean: float
    seeds: Noise
    items: tuple[Noise, ...] = ()
    test: Test = "both"

    @staticmethod
    def of(values: Sequence[float], items: Sequence[Noise] = (), test: Test = "both") -> MeanTest:
        """From the seeds' differences, shape (n_seeds,), at least two."""
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all():
            raise ValueError(f"values {values!r}; expected at least two finite differences, one a seed")
        variance = float(array.var(ddof=1)) / array.size
        return MeanTest(float(array.mean()), Noise(variance, array.size - 1), tuple(items), test)

    @property
    def errors(self) -> tuple[tuple[float, float], ...]:
        """Standard error and degrees of freedom of each of the tests."""
        wanted = {
            "both": ((self.seeds,), (self.seeds, *self.items)),
            "seeds": ((self.seeds,),),
            "seeds and items": ((self.seeds, *self.items),),
        }[self.test]
        return tuple(dict.fromkeys(welch(noises) for noises in wanted))

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p of the hypothesis that the mean is `null`."""
        return max(_two_sided(self.mean - null, error, degrees) for error, degrees in self.errors)

    def interval(self, confidence: float) -> Interval:
        """The wider of the tests' intervals: it excludes `null` where `p_value(null)` is below 1 - confidence."""
        check_confidence(confidence)
        reach = max(_quantile(0.5 + confidence / 2, degrees) * error for error, degrees in self.errors)
        return Interval(self.mean, self.mean - reach, self.mean + reach)


def welch(noises: Sequence[Noise]) -> tuple[float, float]:
    """Standard error of the sum of independent noises, and its Welch-Satterthwaite degrees of freedom."""
    variance = sum(noise.variance for noise in noises)
    shares = sum(noise.variance**2 / noise.degrees for noise in noises)
    return math.sqrt(variance), variance**2 / shares if shares > 0 else math.inf


def _two_sided(distance: float, error: float, degrees: float) -> float:
    if error == 0:
        return float(distance == 0)
    return float(2 * stats.t.sf(abs(distance) / error, degrees))


def _quantile(level: float, degrees: float) -> float:
    return float(stats.t.ppf(level, degrees))
