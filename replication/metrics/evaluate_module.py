"""The base of our `evaluate` modules: inputs are checked before `evaluate` converts them to the features' types.

Its conversion is silent: 0.2 becomes class 0, True class 1, the number 3 the text "3". Import this module, not the
class: `evaluate.load` takes the first class that it finds in a file.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import evaluate


class CheckedMetric(evaluate.Metric):
    """An `evaluate.Metric` that refuses what `check` refuses, in `compute`, `add_batch` and `add`."""

    @abstractmethod
    def check(self, predictions: Any, references: Any) -> None:
        """DataError unless these predictions and references can be scored."""

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """As in `evaluate`; DataError names the first unusable entry."""
        self.check(predictions, references)
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """As in `evaluate`; DataError says what cannot be used."""
        self.check([kwargs.get("predictions", prediction)], [kwargs.get("references", reference)])
        super().add(prediction=prediction, reference=reference, **kwargs)
