"""Tables of the adapters that each run kept, and the same as csv."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.load.runs import Experiment, experiment_labels
from analysis.load.selection import Selection, agreement_of_seeds, short_names
from analysis.show.blocks import Block, csv_text
from analysis.show.run_tables import record_paths


def selected_block(experiments: Sequence[Experiment]) -> Block:
    """The adapters each run kept, seed by seed, and the agreement of seeds."""
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
        "v11: the value projection of block 11; q and k too; enc, dec and cross are stacks of an encoder-decoder.",
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
