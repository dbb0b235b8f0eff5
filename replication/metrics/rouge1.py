"""ROUGE-1 of summaries: shared words."""

import re

from replication.metrics.metric import Rows, texts
from replication.metrics.rouge import Rouge

_READ = re.compile(r"[a-z0-9]", re.IGNORECASE)  # what rouge-score takes for a word's characters


class Rouge1(Rouge):
    """ROUGE-1's F-measure."""

    name = "rouge1"
    label = "ROUGE-1"

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Predictions of which rouge-score sees nothing, which holds for every ROUGE."""
        said = texts(rows, "prediction")
        unread = sum(bool(text.strip()) and not _READ.search(text) for text in said)
        if not unread:
            return ()
        return (f"{unread} of {len(said)} predictions have no Latin letter or digit; rouge-score reads nothing else",)


METRIC = Rouge1()
