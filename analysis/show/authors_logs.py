"""The WeightLoRA authors' logs: as a table and csv, and what a smaller K costs there and in the runs here.

The two sides have other backbones, lengths and test items, so scores are never compared; only what a smaller K costs
within each side is shown.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import NamedTuple

from analysis.judge.comparable import keep_of
from analysis.judge.decision import Difference
from analysis.judge.number_format import difference_text, format_score
from analysis.judge.study import Row, Study
from analysis.load.authors import Authors, LogRow
from analysis.load.names import backbone_name, score_name, task_name
from analysis.load.paper_files import Figure
from analysis.load.runs import Experiment
from analysis.show.blocks import Block, Cell, csv_text
from analysis.show.run_tables import record_paths

NO_SCORE = ("samples", "peak_memory", "combined_score")
NONE = "–"
UNTRAINED = "‡"
ALL = Decimal("Infinity")  # stands for the comparison with LoRA on every adapter, which sorts last
# What a K is set against: the larger K over the smaller one, or ALL.
_Ratio = Decimal
HALF = Decimal(2)  # K against twice as many: the pair that both sides have


class Theirs(NamedTuple):
    """The difference of two of the authors' logs; `trained` is False where they say that the runs did not."""

    pair: str
    difference: Decimal
    metric: str
    trained: bool
    standing: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """Its cells in the table."""
        text = f"{self.difference:+}".replace("-", "−") + ("" if self.trained else f" {UNTRAINED}")
        return self.pair, Cell(text, standing=self.standing), self.metric


class Ours(NamedTuple):
    """The difference of two runs that differ in K."""

    task: str
    backbone: str
    pair: str
    difference: Difference

    @property
    def cells(self) -> tuple[str, str, str]:
        """Its cells in the table."""
        return self.backbone, self.pair, difference_text(self.difference)


class Halved(NamedTuple):
    """What half the adapters cost on one task: in the authors' logs, and in the runs here where there are any."""

    task: str
    theirs: Theirs
    ours: Ours | None


def differences_block(study: Study, authors: Authors) -> Block:
    """Per task and pair of K: the authors' difference, and ours with its intervals; a dash where a side has none."""
    ours, logged = _ours(study), _logged(authors)
    lines = []
    for task in dict.fromkeys((*authors.logs.tasks, *(task for task, _ in ours))):
        ratios = {ratio for name, ratio in (*ours, *logged) if name == task}
        for ratio in sorted(ratios):
            theirs = logged[task, ratio].cells if (task, ratio) in logged else (NONE, NONE, NONE)
            here = [(mine.task, mine.cells) for mine in ours.get((task, ratio), [])]
            for title, cells in here or [(task_name(task), (NONE, NONE, NONE))]:
                lines.append((title, *theirs, *cells))
    headers = ("Task", "Authors: adapters kept", "Authors: difference", "Authors: metric",
               "Here: backbone", "Here: adapters kept", "Here: difference")  # fmt: skip
    measured = [experiment for runs in _complete(study).values() for _, experiment in runs]
    return Block("What a smaller K costs: the authors' logs and the runs here", headers, tuple(lines),
                 _notes(authors), "authors_differences", records=record_paths(measured))  # fmt: skip


def halved(study: Study, authors: Authors) -> list[Halved]:
    """Every task of the authors' logs at K against twice as many, with the runs' difference of the same quotient."""
    ours, logged = _ours(study), _logged(authors)
    return [
        Halved(task_name(task), theirs, next(iter(ours.get((task, HALF), [])), None))
        for task in authors.logs.tasks
        if (theirs := logged.get((task, HALF))) is not None
    ]


def _notes(authors: Authors) -> tuple[str, ...]:
    logs = authors.logs
    projections = ", ".join(logs.adapters.projections)
    untrained = dict.fromkeys(row.why_not for row in logs.rows if row.why_not)
    return (
        f"Authors: {backbone_name(logs.backbone)}, {logs.adapters.blocks * len(logs.adapters.projections)} adapters "
        f"({projections}), r={logs.adapters.rank}; one run a cell, so a difference of two runs without any spread.",
        "Here: another backbone, with its own number of adapters and its own training length. A row sets pairs of K "
        "with the same quotient beside each other. The scores themselves may not be compared, only the direction of a "
        "difference may be read, and no verdict rests on it.",
        "`all`: LoRA with every adapter, which the authors' logs do not have.",
        *(f"{UNTRAINED} {reason}" for reason in untrained),
    )


def _logged(authors: Authors) -> dict[tuple[str, _Ratio], Theirs]:
    """By task and quotient."""
    logs, found = authors.logs, dict[tuple[str, _Ratio], Theirs]()
    for task in logs.tasks:
        rows = [row for keep in logs.keeps if (row := logs.row(task, keep))]
        for row in rows[:-1]:
            largest = rows[-1]
            name, first, second = _scores(row, largest)
            split = " (mismatched split)" if row.split == "validation_mismatched" else ""
            found[task, Decimal(largest.keep) / row.keep] = Theirs(
                f"K={row.keep} − K={largest.keep}", first - second, score_name(name) + split,
                row.comparable and largest.comparable, row.cells[name].standing,
            )  # fmt: skip
    return found


def _scores(row: LogRow, largest: LogRow) -> tuple[str, Decimal, Decimal]:
    """The primary metric of two logs of a task, and both values."""
    order = ("matthews_correlation", "pearson", "accuracy")
    name = next(name for name in order if name in row.cells and name in largest.cells)
    first, second = row.cells[name].value, largest.cells[name].value
    assert first is not None
    assert second is not None
    return name, first, second


def _complete(study: Study) -> dict[tuple[str, str, int | None], list[tuple[Row, Experiment]]]:
    """Scored LoRA and WeightLoRA runs (the paper's two phases) by backbone, corpus and training length."""
    found = defaultdict(list)
    for row in study.tasks.rows:
        experiment = study.named(row.experiment)
        record = experiment.record if experiment is not None else None
        if experiment is None or record is None or row.status != "complete" or experiment.metrics is None:
            continue
        if row.method == "lora" or (
            row.method == "weight_lora" and record.method_config.get("preset") in (None, "paper")
        ):
            found[row.backbone, row.corpus or row.task, row.steps].append((row, experiment))
    return dict(found)


def _ours(study: Study) -> dict[tuple[str, _Ratio], list[Ours]]:
    """By task and quotient."""
    found = defaultdict(list)
    for (backbone, task, _), runs in _complete(study).items():
        title = runs[0][0].task_title
        kept = {keep: run for row, run in runs if row.method == "weight_lora" and (keep := keep_of(run)) is not None}
        lora = next((run for row, run in runs if row.method == "lora"), None)
        if not kept:
            continue
        largest = max(kept)
        pairs = [(Decimal(largest) / keep, kept[keep], kept[largest], f"K={keep} − K={largest}")
                 for keep in sorted(kept, reverse=True) if keep != largest]  # fmt: skip
        if lora is not None:
            pairs.append((ALL, kept[largest], lora, f"K={largest} − all"))
        for ratio, first, second, text in pairs:
            difference = study.difference(first, second)
            if difference is not None:
                found[task, ratio].append(Ours(title, backbone_name(backbone), text, difference))
    return dict(found)


def logs_block(authors: Authors) -> Block:
    """The authors' own logs: primary metric and peak memory per task and K."""
    lines = []
    for row in authors.logs.rows:
        shown = {name: figure for name, figure in row.cells.items() if name not in NO_SCORE}
        scores = "; ".join(f"{name.replace('_', ' ')} {figure.text}" for name, figure in shown.items())
        memory = row.cells["peak_memory"]
        kept = " ".join(f"{name[0]}{name.partition('#')[2]}" for name in row.selected.value)
        lines.append(
            (
                row.task,
                row.split,
                str(row.keep),
                Cell(scores, standing=memory.standing),
                Cell(f"{memory.text} {memory.unit}", standing=memory.standing),
                Cell(kept, standing=row.selected.standing),
            )
        )
    caption = f"{authors.logs.title}: {authors.logs.setup}"
    headers = ("Task", "Split", "K", "Figures", "Peak memory", "Selected")
    return Block(caption, headers, tuple(lines), authors.logs.notes, key="authors_logs")


def logs_csv(authors: Authors) -> str:
    """Every figure of the authors' files: name, digits as logged, unit, standing and source."""
    records = []

    def add(part: str, item: str, name: str, figure: Figure) -> None:
        records.append({"part": part, "item": item, "name": name, "value": figure.text, "unit": figure.unit,
                        "standing": figure.standing, "sources": " ".join(figure.sources)})  # fmt: skip

    for row in authors.logs.rows:
        for name, figure in row.cells.items():
            add("log", row.id, name, figure)
    for series in authors.memory.series:
        for keep, figure in series.cells.items():
            add("memory", f"rank {series.rank}", f"{keep} adapters", figure)
    for kind, cells in authors.products.cells.items():
        for name, figure in cells.items():
            add("inner product", kind, name, figure)
    for rates in authors.facts.learning_rates:
        for task, figure in rates.cells.items():
            add("learning rate", f"{rates.backbone} {rates.method} {rates.version}".strip(), task, figure)
    for setting in (*authors.facts.settings, *authors.facts.unreadable):
        add("setting", "", setting.name, setting)
    return csv_text(records)


def against_logs_block(study: Study, authors: Authors) -> Block:
    """Runs and the authors' logs, only if profile, corpus and log row all allow the comparison."""
    lines = []
    logs = authors.logs
    if authors.facts.why_not_comparable(study.profile) is None:
        for row in study.rows:
            record = next((e.record for e in study.experiments if e.name == row.experiment), None)
            config = record.method_config if record else {}
            same = (row.backbone, row.method, config.get("rank")) == (logs.backbone, "weight_lora", logs.adapters.rank)
            logged = logs.row(row.corpus, int(config.get("keep") or 0))
            if not same or logged is None or not logged.comparable or not row.comparable or row.status != "complete":
                continue
            for metric in row.metrics:
                figure, summary = logged.score(metric), row.scores.get(metric)
                if figure is not None and summary is not None:
                    gap = f"{summary.mean - figure.number:+.3f}".replace("-", "−")
                    lines.append(
                        (row.experiment, logged.id, score_name(metric), format_score(summary), figure.text, gap)
                    )
    headers = ("Run", "Log", "Metric", "Measured", "Logged", "Difference")
    note = "One logged run without a spread: no tolerance is fixed, so the difference has no verdict."
    return Block(
        "Compared with the authors' logs", headers, tuple(lines), (note,) if lines else (), key="beside_logs",
        records=record_paths(study.experiments),
    )  # fmt: skip
