"""Power of the decision rule: the chance to find a true difference, and the smallest one that is found.

Pure functions of spreads, seeds and levels; the levels come from paper_results/judgement.yaml (`judge.decision`).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def rule_power(
    effect: float,
    item_error: float,
    seed_deviation: float,
    seeds: int,
    *,
    overlap: float = 0.0,
    alpha_items: float,
    alpha_seeds: float,
) -> float:
    """Probability that the rule finds a true difference of `effect` > 0 in the right direction.

    `item_error` is the bootstrap's standard error of the seeds' mean, `seed_deviation` the standard deviation of the
    seeds' differences, `overlap` the variance that both contain (`PairedDifference.overlap`). Model: the mean is normal
    with variance V = seed_deviation**2 / seeds + item_error**2 - overlap; the items' test passes above z * item_error;
    the t-test's spread is chi-squared with seeds - 1 degrees of freedom, independent of the mean. One integral over
    the mean, no simulation. Both spreads are taken as known.
    """
    if seeds < 2:
        raise ValueError(f"seeds={seeds}; an interval over seeds needs two at least")
    of_seeds, of_items = seed_deviation**2 / seeds, item_error**2
    spread = math.sqrt(of_seeds + of_items - min(max(overlap, 0.0), of_seeds, of_items))
    z, t = stats.norm.ppf(1 - alpha_items / 2), stats.t.ppf(1 - alpha_seeds / 2, seeds - 1)
    if spread == 0:
        return float(effect > 0)
    start = (float(z) * item_error - effect) / spread  # the integral is over standard units of the mean
    low, high = max(start, -9.0), 9.0
    if low >= high:
        return 0.0
    nodes = low + (high - low) * (_NODES + 1) / 2
    means = np.maximum(effect + spread * nodes, 0.0)
    passes = np.ones_like(means)
    if of_seeds > 0:
        passes = stats.chi2.cdf((seeds - 1) * means**2 / (float(t) ** 2 * of_seeds), seeds - 1)
    return float((_WEIGHTS * stats.norm.pdf(nodes) * passes).sum() * (high - low) / 2)


def smallest_detectable(
    item_error: float,
    seed_deviation: float,
    seeds: int,
    *,
    overlap: float = 0.0,
    alpha_items: float,
    alpha_seeds: float,
    power: float,
) -> float:
    """The smallest true difference that the rule finds with probability `power`; arguments as in `rule_power`.

    `alpha_items` is alpha over the size of Holm's family: what is found even if nothing else in the family differs.
    """

    def shortfall(effect: float) -> float:
        found = rule_power(
            effect,
            item_error,
            seed_deviation,
            seeds,
            overlap=overlap,
            alpha_items=alpha_items,
            alpha_seeds=alpha_seeds,
        )
        return found - power

    high = item_error + seed_deviation
    if high == 0:
        return 0.0
    while shortfall(high) < 0:
        high *= 2
    return float(optimize.brentq(shortfall, 0.0, high, xtol=high * 1e-6))
