"""Tables of trained parameters: of the runs, and by arithmetic at DeBERTaV3-base's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.judge.number_format import format_counts, format_ratios, percent
from analysis.judge.study import Row, Study
from analysis.load.authors import Authors
from analysis.load.names import BASELINES, backbone_name
from analysis.load.published import reduction
from analysis.show.blocks import Block
from analysis.show.run_tables import record_paths
from analysis.show.tables import counts_at_end, grouped, same


def parameters_block(study: Study) -> Block:
    """Trained parameters per backbone and method: adapter, importance weights and head, and the ratio to LoRA's."""
    lines = []
    rows = [row for row in study.rows if row.counts and row.method not in BASELINES]
    for backbone in dict.fromkeys(row.backbone for row in rows):
        for label, found in grouped([row for row in rows if row.backbone == backbone]).items():
            start = {task: row.counts_at_start or row.counts for task, row in found.items()}
            lora = {task: _lora_counts(rows, row) for task, row in found.items()}
            lines.append(
                (
                    f"{label}, {backbone_name(backbone)}",
                    same({row.task_title: format_counts(start[task]["adapter"]) for task, row in found.items()}),
                    same({row.task_title: format_counts(start[task]["importance"]) for task, row in found.items()}),
                    *counts_at_end(found),
                    same({row.task_title: format_counts(row.counts["trainable"]) for row in found.values()}),
                    same({r.task_title: _ratio(r.counts, lora[task], "adapter") for task, r in found.items()}),
                    same({r.task_title: _ratio(r.counts, lora[task], "trainable") for task, r in found.items()}),
                )
            )
    headers = ("Method", "Adapter parameters in phase 1", "Importance weights in phase 1",
               "Adapter parameters at the end", "Importance weights at the end", "Head parameters", "Trainable in all",
               "of LoRA's adapter", "of LoRA's trainable")  # fmt: skip
    notes = (
        "A ratio of adapter parameters leaves the task head out; a ratio of all trainable parameters includes it. Both "
        "are of counts at the end of training. In phase 1 WeightLoRA trains every adapter and its importance weight. "
        "“a to b”: seeds differ, since a method selects among projections of several widths.",
    )
    return Block(
        "Trained parameters, exact counts", headers, tuple(lines), notes if lines else (), key="parameters",
        records=record_paths(study.experiments),
    )  # fmt: skip


def counted_block(authors: Authors) -> Block:
    """Counts at DeBERTaV3-base's shapes, by arithmetic: nothing was trained for them."""
    counted = authors.facts.counted
    whole, head = counted.all.number, counted.head.number
    lines = [("LoRA on all", str(counted.adapters), f"{int(whole):,}", "0 %", f"{int(whole + head):,}", "0 %")]
    for keep, figure in counted.kept.items():
        kept = figure.number
        lines.append((
            f"WeightLoRA, K={keep}", str(keep), f"{int(kept):,}", percent(reduction(kept, whole)),
            f"{int(kept + head):,}", percent(reduction(kept + head, whole + head)),
        ))  # fmt: skip
    headers = ("Method", "Adapters", "Adapter parameters", "fewer", "With the task head", "fewer")
    caption = f"Counted, not trained: {backbone_name(counted.backbone)}, r={counted.rank}, query, key and value"
    return Block(
        caption, headers, tuple(lines), (f"The head has {int(head):,} parameters. Standing: {counted.all.standing}.",),
        key="parameters_counted",
    )  # fmt: skip


def _lora_counts(rows: Sequence[Row], row: Row) -> Mapping[str, tuple[int, int]]:
    lora = next((other for other in rows if other.method == "lora" and other.setting == row.setting), None)
    return lora.counts if lora else {}


def _ratio(counts: Mapping[str, tuple[int, int]], lora: Mapping[str, tuple[int, int]], name: str) -> str:
    """To LoRA's count, which is the same for every seed."""
    (fewest, most), reference = counts[name], max(lora.get(name, (0, 0)))
    return format_ratios((fewest / reference, most / reference) if reference else None)
