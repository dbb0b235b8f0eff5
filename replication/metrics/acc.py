"""acc of multiple choice: the choice of the greatest log-likelihood is right.

Name and rule are lm-evaluation-harness's (lm_eval/api/task.py): log-likelihoods as they are, the first of equals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from replication.errors import DataError
from replication.metrics.metric import Floats, Metric, Rows, classes, lists_of_numbers, share
from replication.metrics.programs import Programs


class ChoiceAccuracy(Metric):
    """Right over counted, by `log_likelihoods` and `lengths`, one of each a choice.

    Rows with neither of them nor `scores` have predictions that were made without likelihoods (a trivial baseline):
    those count. A row with `scores` alone, of an earlier release, has log-likelihoods divided by a length that it does
    not state: there is no score.
    """

    scale = "fraction, 0 to 1"
    reported_for: Mapping[str, Sequence[str]] = {"multiple_choice": ("acc", "acc_norm")}

    def best(self, log_likelihoods: Floats, lengths: Floats) -> int:
        """Which choice one row is counted for."""
        raise NotImplementedError

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): right, counted."""
        labels = classes(rows, "label")
        right = self._chosen(rows) == labels
        return np.stack([right, np.ones_like(right)], axis=1).astype(np.float64)

    def score(self, sums: Floats) -> Floats:
        """Right over counted."""
        return share(sums)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """The share; None for rows that hold only scores divided by a length."""
        return None if any(map(_only_divided, rows)) else super().official(rows, programs)

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Why there is no score."""
        if not any(map(_only_divided, rows)):
            return ()
        return (f"no {self.name}: the predictions hold log-likelihoods divided by a length; predict again",)

    def _chosen(self, rows: Rows) -> npt.NDArray[np.int64]:
        if all("log_likelihoods" not in row and "scores" not in row for row in rows):
            return classes(rows, "prediction")
        chosen = []
        both = lists_of_numbers(rows, "log_likelihoods"), lists_of_numbers(rows, "lengths")
        for row, values, lengths in zip(rows, *both, strict=True):
            if len(values) != len(lengths) or min(lengths) <= 0:
                raise DataError(
                    f"row {row.get('id')!r}: field 'lengths' must hold {len(values)} numbers above 0, found {lengths!r}"
                )
            if not 0 <= row["label"] < len(values):
                raise DataError(
                    f"row {row.get('id')!r}: field 'label' is {row['label']}; its {len(values)} choices are numbered "
                    f"from 0 to {len(values) - 1}"
                )
            chosen.append(self.best(np.array(values), np.array(lengths)))
        return np.array(chosen, dtype=np.int64)


def _only_divided(row: Mapping[str, object]) -> bool:
    return "scores" in row and "log_likelihoods" not in row


class Acc(ChoiceAccuracy):
    """By log-likelihoods as they are."""

    name = "acc"
    label = "acc"
    leads = ("acc",)

    def best(self, log_likelihoods: Floats, lengths: Floats) -> int:
        """The likeliest."""
        return int(np.argmax(log_likelihoods))


METRIC = Acc()
