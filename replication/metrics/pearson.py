"""Pearson's correlation of predicted numbers and labels.

The score is written twice. `pearson` scales both sides first, so that no square overflows or vanishes, and gives the
official figure. The sums of moments lose digits when the numbers are nearly constant, but they are sums, which a
bootstrap needs. The tests hold one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replication.metrics.metric import Floats, Metric, Rows, divided, numbers
from replication.metrics.programs import Programs


class Pearson(Metric):
    """In float64. 0 when either side is constant (scipy: nan): a constant prediction is uninformative."""

    name = "pearson"
    label = "Pearson"
    scale = "correlation, -1 to 1"
    of_one_item = False
    reported_for: Mapping[str, Sequence[str]] = {"regression": ("stsb",)}
    leads = True

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 6): one, x, y, x², y², xy."""
        return moments(numbers(rows, "prediction"), numbers(rows, "label"))

    def score(self, sums: Floats) -> Floats:
        """From the moments."""
        count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spread = (count * xx - x * x) * (count * yy - y * y)
        defined = spread > 1e-12 * count**4
        return np.where(defined, divided(count * xy - x * y, np.sqrt(np.where(defined, spread, 1.0))), 0.0)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `pearson`."""
        return pearson(numbers(rows, "prediction"), numbers(rows, "label"))


def pearson(predicted: Floats, wanted: Floats) -> float:
    """Pearson's correlation, from -1 to 1; 0.0 when either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(wanted) == 0:
        return 0.0
    return float(np.clip(_unit(predicted) @ _unit(wanted), -1.0, 1.0))


def moments(x: Floats, y: Floats) -> Floats:
    """Moments about a fixed point near the means, which keeps the sums small."""
    x, y = x - round(float(x.mean()), 3), y - round(float(y.mean()), 3)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _unit(values: Floats) -> Floats:
    """Centred and of length 1."""
    centred = values - values.mean()
    centred /= np.abs(centred).max()
    return np.asarray(centred / np.linalg.norm(centred))


METRIC = Pearson()
