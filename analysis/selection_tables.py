"""Tables of what was selected: by the runs, seed by seed, and by the authors' logged runs."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.authors import Authors, Figure
from analysis.blocks import Block, Cell, csv_text
from analysis.labels import experiment_labels
from analysis.provenance import record_paths
from analysis.records import Experiment
from analysis.selection import Selection, agreement_of_seeds, short_names

NO_SCORE = ("samples", "peak_memory", "combined_score")


def selected_block(experiments: Sequence[Experiment]) -> Block:
    """What each run kept, seed by seed, and how far the seeds agree."""
    lines, labels = [], experiment_labels(experiments)
    for experiment in experiments:
        if not experiment.selections:
            continue
        selections = experiment.selections
        first = next(iter(selections.values()))
        every = frozenset.intersection(*(selection.kept for selection in selections.values()))
        agreement = agreement_of_seeds([selection.kept for selection in selections.values() if selection.kept])
        lines.append(
            (
                labels[experiment.name],
                f"{len(first.survivors)} of {len(first.adapters)}",
                "; ".join(f"{seed}: {' '.join(kept_names(found)) or 'none'}" for seed, found in selections.items()),
                " ".join(
                    name for name, a in zip(short_names(first.adapters), first.adapters, strict=True) if a.key in every
                )
                or "none",
                "one seed" if agreement is None else f"{agreement:.2f}",
                f"{len(first.survivors) / len(first.adapters):.2f}",
                "never" if first.removed_at is None else str(first.removed_at),
                str(len(first.projections)),
            )
        )
    headers = ("Experiment", "Kept", "By seed", "In every seed", "Agreement of seeds", "By chance",
               "Losers removed at step", "Projections")  # fmt: skip
    notes = (
        "v11: the value projection of block 11; q and k likewise; enc, dec and cross are stacks of an encoder-decoder.",
        "Agreement of seeds: adapters that two seeds share over K, mean over pairs; random sets share K / n.",
    )
    return Block(
        "What was selected", headers, tuple(lines), notes if lines else (), key="selected",
        records=record_paths([e for e in experiments if e.selections]),
    )  # fmt: skip


def kept_names(selection: Selection) -> list[str]:
    """Short names of the survivors, in the model's order."""
    names = short_names(selection.adapters)
    return [names[index] for index in sorted(selection.survivors)]


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


def selected_csv(experiments: Sequence[Experiment]) -> str:
    """One line per experiment, seed and adapter: kept or not, its last importance weight, its final rank."""
    records = []
    for experiment in experiments:
        for seed, selection in experiment.selections.items():
            last = selection.trace.weights[-1] if selection.trace.weights else None
            for adapter, (group, block) in zip(selection.adapters, selection.blocks, strict=True):
                records.append(
                    {
                        "experiment": experiment.name, "seed": seed, "index": adapter.index, "module": adapter.module,
                        "group": group, "block": block, "kept": str(adapter.index in selection.survivors).lower(),
                        "last_weight": None if last is None else last[adapter.index],
                        "final_rank": selection.final_ranks.get(adapter.index),
                    }
                )  # fmt: skip
    return csv_text(records)


def logs_csv(authors: Authors) -> str:
    """Every figure of the authors' files: what it is, digits as logged, unit, standing and source."""
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
