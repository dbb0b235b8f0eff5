"""GLUE (Wang et al. 2018): eight tasks, scores on the dev split, since the test labels are not public.

The TSV files are those of the GLUE download; nothing in them is quoted, so a quotation mark is text. MNLI, QQP
and what else is neither in a mirror nor at an address come from nyu-mll/glue at a pinned revision. MNLI's dev
split is both official ones, distinguished by the row's "subset"; the WeightLoRA authors report only mismatched.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from replication.corpora.assembly import RealCorpus
from replication.corpora.hub import HubCorpus
from replication.corpora.sourcefiles import parse_json
from replication.corpora.task_corpus import CorpusCard, Row
from replication.errors import DataError
from replication.fileio import listed

HUB_ID = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

# Official rows; the dev split of MNLI is matched and mismatched together.
COUNTS = {
    "cola": {"train": 8551, "dev": 1043},
    "mnli": {"train": 392_702, "dev": 9_815 + 9_832},
    "mrpc": {"train": 3668, "dev": 408},
    "qnli": {"train": 104_743, "dev": 5463},
    "qqp": {"train": 363_846, "dev": 40_430},
    "rte": {"train": 2490, "dev": 277},
    "sst2": {"train": 67_349, "dev": 872},
    "stsb": {"train": 5749, "dev": 1500},
}

_TWO_WAY = ("entailment", "not_entailment")
_THREE_WAY = ("entailment", "neutral", "contradiction")
_MNLI_LICENCE = "OANC, CC BY 3.0 and CC BY-SA 3.0 mix"
_QNLI_LICENCE = "CC BY-SA 4.0 (from SQuAD)"
# Name: title, class names in index order, licence.
_TASKS: dict[str, tuple[str, tuple[str, ...] | None, str]] = {
    "cola": ("CoLA", ("unacceptable", "acceptable"), "no formal licence; excerpts under fair use (CoLA terms)"),
    "mnli": ("MNLI", _THREE_WAY, _MNLI_LICENCE),
    "mrpc": ("MRPC", ("not_equivalent", "equivalent"), "Microsoft Research licence (MSR-LA)"),
    "qnli": ("QNLI", _TWO_WAY, _QNLI_LICENCE),
    "qqp": ("QQP", ("not_duplicate", "duplicate"), "Quora terms, non-commercial"),
    "rte": ("RTE", _TWO_WAY, "not stated (PASCAL RTE 1, 2, 3 and 5)"),
    "sst2": ("SST-2", ("negative", "positive"), "not stated (Stanford SST)"),
    "stsb": ("STS-B", None, "mix, CC BY-SA style; see the LICENSE file of the STS benchmark"),
}
# Columns of the TSV files; CoLA's have no header, and its third column is the mark of the source.
_COLA_COLUMNS = ("source", "label", "mark", "sentence")
_TSV = {
    "cola": ("sentence", None, "label"),
    "mrpc": ("#1 String", "#2 String", "Quality"),
    "qnli": ("question", "sentence", "label"),
    "rte": ("sentence1", "sentence2", "label"),
    "sst2": ("sentence", None, "label"),
    "stsb": ("sentence1", "sentence2", "score"),
}
_HUB = {
    "cola": ("sentence", None),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence", None),
    "stsb": ("sentence1", "sentence2"),
}


def parse_tsv(task: str, location: str, text: str) -> Iterator[Row]:
    """Rows of one TSV file of `task`; DataError names `location`, the line and the column that cannot be used."""
    lines = text.removesuffix("\n").split("\n")
    header = list(_COLA_COLUMNS) if task == "cola" else lines.pop(0).rstrip("\r").split("\t")
    first, second, label = _TSV[task]
    if missing := [column for column in (first, second, label) if column is not None and column not in header]:
        raise DataError(
            f"{location}, line 1: column {' and '.join(missing)} is missing, found {listed(header)}; fetch it again"
        )
    for number, line in enumerate(lines, start=1 if task == "cola" else 2):
        # Split by hand: in this format a quotation mark or a lone carriage return is text.
        fields = line.removesuffix("\r").split("\t")
        if len(fields) != len(header):
            raise DataError(
                f"{location}, line {number}: {len(fields)} columns where {len(header)} belong "
                f"({listed(header)}); the file was cut off or edited, fetch it again"
            )
        row = dict(zip(header, fields, strict=True))
        yield {
            "text": row[first],
            "pair": row[second] if second else None,
            "label": _label(task, row[label], f"{location}, line {number}, column {label!r}"),
        }


def parse_subset(task: str, location: str, text: str) -> Iterator[Row]:
    """Rows of the mirror's MNLI and QNLI files: {"0": {"text_a", "text_b", "label": class name}, ...}."""
    values = parse_json(location, text)
    for key, value in values.items() if isinstance(values, dict) else []:
        where = f"{location}, entry {key!r}"
        try:
            first, second, label = value["text_a"], value["text_b"], value["label"]
        except (KeyError, TypeError) as error:
            raise DataError(f"{where}: no field {error}; expected text_a, text_b and label; fetch it again") from error
        yield {"text": first, "pair": second, "label": _label(task, label, f"{where}, field 'label'")}


def hub_row(task: str, part: str, raw: dict[str, Any]) -> Row:
    """One raw row of the hub's split `part`; MNLI's dev rows get their subset from its name."""
    first, second = _HUB[task]
    # The hub keeps scores as 32-bit floats: their six decimals are those of the files.
    label = round(float(raw["label"]), 6) if task == "stsb" else int(raw["label"])
    row = {"text": raw[first], "pair": raw[second] if second else None, "label": label}
    if task == "mnli" and part != "train":
        row["subset"] = part.removeprefix("validation_")
    return row


def _label(task: str, value: Any, where: str) -> int | float:
    classes = _TASKS[task][1]
    if classes is None:
        try:
            score = float(value)
        except ValueError:
            score = -1.0
        if not 0.0 <= score <= 5.0:
            raise DataError(f"{where}: {value!r} is no similarity from 0 to 5; fetch the file again")
        return score
    if value in classes:
        return classes.index(value)
    if value in [str(index) for index in range(len(classes))]:
        return int(value)
    raise DataError(f"{where}: {value!r} is no class; expected {', '.join(classes)}, or an index of them")


_NOTES = {
    "mnli": "Dev is matched and mismatched, each with its own accuracy; the authors report mismatched alone. Test "
    "labels are not public.",
    "qqp": "Scored on the dev split: the test labels are not public. Pairs with one empty question are kept.",
}


def _card(name: str, task: str, **changed: Any) -> CorpusCard:
    title, labels, licence = _TASKS[task]
    values: dict[str, Any] = {
        "label": f"GLUE {title}",
        "form": "regression" if task == "stsb" else "classification",
        "metric": task,
        "comparable": True,
        "note": "Scored on the dev split: the test labels are not public.",
    }
    return CorpusCard(name=name, labels=labels, licence=licence, reported_split="dev", **{**values, **changed})


def _task(name: str) -> RealCorpus:
    dev = ("validation_matched", "validation_mismatched") if name == "mnli" else ("validation",)
    on_disk = {"qnli": ("dev",), "mnli": (), "qqp": ()}.get(name, ("train", "dev"))
    note = {"note": _NOTES[name]} if name in _NOTES else {}
    return RealCorpus(
        card=_card(name, name, **note),
        counts=COUNTS[name],
        files={split: (f"{name}-{split}.tsv", partial(parse_tsv, name)) for split in on_disk},
        hub=HubCorpus(HUB_ID, REVISION, name, {"train": ("train",), "dev": dev}, _TASKS[name][1]),
        hub_row=partial(hub_row, name),
        fallback={"mnli": "mnli_train_subset", "qnli": "qnli_subset"}.get(name),
    )


_MNLI_SUBSET = RealCorpus(
    card=_card(
        "mnli_train_subset",
        "mnli",
        label="MNLI, 10,000 training pairs",
        metric="accuracy",
        comparable=False,
        note="8,999 and 1,000 pairs, both cut from MNLI's training split; labels taken to be the gold ones. "
        "Neither matched nor mismatched dev: never compares with MNLI.",
    ),
    counts={"train": 8999, "dev": 1000},
    files={split: (f"mnli-subset-{split}.json", partial(parse_subset, "mnli")) for split in ("train", "dev")},
)
_QNLI_SUBSET = RealCorpus(
    card=_card(
        "qnli_subset",
        "qnli",
        label="QNLI, 8,999 training pairs",
        note="Trained on 8,999 of 104,743 training pairs, labels taken to be the gold ones; scored on the complete "
        "official dev split.",
    ),
    counts={"train": 8999, "dev": COUNTS["qnli"]["dev"]},
    files={
        "train": ("qnli-subset-train.json", partial(parse_subset, "qnli")),
        "dev": ("qnli-dev.tsv", partial(parse_tsv, "qnli")),
    },
)

CORPORA = {corpus.card.name: corpus for corpus in (*map(_task, _TASKS), _MNLI_SUBSET, _QNLI_SUBSET)}
