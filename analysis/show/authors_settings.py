"""The WeightLoRA authors' settings and learning rates, one source a row: repository, commit and file.

Sources that disagree are shown one below the other; the one that the paper profile follows is marked with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.load.authors import Authors, Rates
from analysis.load.names import METHOD_NAMES, backbone_name, task_name
from analysis.load.paper_files import Stated
from analysis.show.blocks import Block, Cell

FOLLOWED = "followed"
_RECORDS = ("paper_results/weightlora.yaml",)


def rates_block(authors: Authors) -> Block:
    """Learning rates by backbone, method and source."""
    facts = authors.facts
    keys = list(dict.fromkeys((row.backbone, row.method) for row in facts.learning_rates))
    rows = sorted(facts.learning_rates, key=lambda row: keys.index((row.backbone, row.method)))
    lines = tuple(
        (
            backbone_name(row.backbone),
            METHOD_NAMES[row.method],
            facts.sources[row.source].short,
            row.file,
            Cell(_rates_text(row), standing=next(iter(row.cells.values())).standing),
            ", ".join(task_name(task) for task in row.used) or "none",
            "; ".join(filter(None, (row.because, row.note))),
        )
        for row in rows
    )
    headers = ("Backbone", "Method", "Source", "File", "Learning rates", "Followed by the paper profile for", "Note")
    notes = ("null: the source leaves the rate empty.", f"Sources disagree on {_disputed(authors)}.")
    return Block("The authors' learning rates, one source a row", headers, lines, notes, "weightlora_rates",
                 records=_RECORDS)  # fmt: skip


def settings_block(authors: Authors) -> Block:
    """Every other setting of the authors' code, by name, method and source."""
    facts = authors.facts
    keys = list(dict.fromkeys((each.name, each.method) for each in facts.settings))
    found = sorted(facts.settings, key=lambda each: keys.index((each.name, each.method)))
    lines = tuple(
        (
            each.name,
            METHOD_NAMES[each.method] if each.method else "every method",
            Cell(_with_unit(each), standing=each.standing),
            facts.sources[each.source].short,
            each.file or "",
            FOLLOWED if each.used else "",
            "; ".join(filter(None, (each.because, each.note))),
        )
        for each in found
    )
    headers = ("Setting", "Method", "Value", "Source", "File", "By the paper profile", "Note")
    return Block("The authors' settings, one source a row", headers, lines, (), "weightlora_settings", records=_RECORDS)


def _rates_text(row: Rates) -> str:
    return ", ".join(f"{task_name(task)} {figure.text}" for task, figure in row.cells.items())


def _with_unit(each: Stated) -> str:
    return each.text if each.unit in ("1", each.name.rpartition(": ")[2]) else f"{each.text} {each.unit}"


def _disputed(authors: Authors) -> str:
    """Backbone, method and tasks whose filled-in rates differ between sources."""
    facts, tasks = authors.facts, dict[tuple[str, str], list[str]]()
    for backbone, method, task in facts.rated:
        texts = [
            row.cells[task].text for row in facts.rates(backbone, method, task) if row.cells[task].value is not None
        ]
        if len(set(texts)) > 1:
            tasks.setdefault((backbone, method), []).append(task_name(task))
    return "; ".join(_place(*place, names) for place, names in tasks.items()) or "nothing"


def _place(backbone: str, method: str, names: Sequence[str]) -> str:
    return f"{backbone_name(backbone)}, {METHOD_NAMES[method]}: {', '.join(names)}"
