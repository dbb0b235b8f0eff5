"""acc_norm of multiple choice: the choice of the greatest log-likelihood over its length is right.

In lm-evaluation-harness the length counts the characters of the choice's text; the predictions hold the lengths, and
the task's option `length` says what they count.
"""

import numpy as np

from replication.metrics.acc import ChoiceAccuracy
from replication.metrics.metric import Floats


class AccNorm(ChoiceAccuracy):
    """By log-likelihoods over lengths."""

    name = "acc_norm"
    label = "acc_norm"
    leads = ("acc_norm",)

    def best(self, log_likelihoods: Floats, lengths: Floats) -> int:
        """The likeliest for its length."""
        return int(np.argmax(log_likelihoods / lengths))


METRIC = AccNorm()
