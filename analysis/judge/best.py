"""Which row of a column is best: only one that the decision rule tells from the next best it may be compared with."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.judge.comparable import more_is_better, unequal
from analysis.judge.decision import ALPHA, LEAST_SEEDS, Difference
from analysis.judge.number_format import percent
from analysis.judge.study import Row, Study
from analysis.load.names import BASELINES
from analysis.load.runs import Experiment
from replication.metrics import named

RULE = (
    "Bold: the best score of its column, where the decision rule distinguishes it from the next best row of the same "
    f"backbone, task and budget (test items and {LEAST_SEEDS} or more shared seeds, at {percent(ALPHA, 0)}). Trivial "
    "baselines do not compete; one that no trained row exceeds is unbeaten, and then its column has no bold score."
)


def distinguishable(study: Study, first: Experiment, second: Experiment, metric: str | None = None) -> bool:
    """Whether the rule tells two runs apart on `metric`; False where it cannot decide."""
    difference = study.difference(first, second, metric)
    return difference is not None and _differs(difference)


def _differs(difference: Difference) -> bool:
    p = difference.p_value()
    return p is not None and p <= ALPHA


def best(study: Study, rows: Sequence[Row], metric: str) -> frozenset[str]:
    """The experiments to be marked as best in `metric`, at most one a backbone and task.

    The best mean of the trained rows, if it is the only one, is above every trivial baseline and is distinguishable
    from the next best among the rows with the same budget. `rows` may be in any order.
    """
    settings = dict.fromkeys(row.setting for row in rows)
    found = (_best_of([row for row in rows if row.setting == setting], study, metric) for setting in settings)
    return frozenset(name for name in found if name is not None)


def unbeaten_baselines(rows: Sequence[Row], metric: str) -> frozenset[str]:
    """The trivial baselines that no trained row of their backbone and task exceeds; none without trained rows."""
    found = set()
    for setting in dict.fromkeys(row.setting for row in rows):
        means = _means([row for row in rows if row.setting == setting], metric)
        trained = [mean for row, mean in means if row.method not in BASELINES]
        if trained:
            found |= {row.experiment for row, mean in means if row.method in BASELINES and mean >= max(trained)}
    return frozenset(found)


def _best_of(rows: Sequence[Row], study: Study, metric: str) -> str | None:
    means = [(row, mean) for row, mean in _means(rows, metric) if row.method not in BASELINES]
    if len(means) < 2 or unbeaten_baselines(rows, metric):
        return None
    lead = max(mean for _, mean in means)
    leaders = [study.named(row.experiment) for row, mean in means if mean == lead]
    if len(leaders) > 1 or leaders[0] is None:
        return None
    rivals = [(run, mean) for row, mean in means if (run := study.named(row.experiment)) and run is not leaders[0]]
    rivals = [(run, mean) for run, mean in rivals if unequal(leaders[0], run) is None]
    following = [run for run, mean in rivals if mean == max(mean for _, mean in rivals)]
    told = following and all(_ahead(study, leaders[0], run, metric) for run in following)
    return leaders[0].name if told else None


def _ahead(study: Study, first: Experiment, second: Experiment, metric: str) -> bool:
    """Distinguishable, and on the shared seeds on the same side as the means say."""
    difference = study.difference(first, second, metric)
    if difference is None:
        return False
    return (difference.effect > 0) == more_is_better(first, metric) and distinguishable(study, first, second, metric)


def _means(rows: Sequence[Row], metric: str) -> list[tuple[Row, float]]:
    """Complete rows with their mean, negated where less is better."""
    found = []
    for row in rows:
        summary = row.scores.get(metric)
        if row.status == "complete" and summary is not None:
            more = named(metric, row.form, row.protocol).higher_is_better
            found.append((row, summary.mean if more else -summary.mean))
    return found
