"""The paper profile's corpora for the loopback hub: real repositories, schemas and layouts, few rows, some of them odd.

The odd rows are those of tests/pipelines/test_odd_rows.py, as the hub has them. E2E's release is a small zip of the
release's form. `use_tiny_corpora` tells a process how many rows there are and the new hash of the zip.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loopback_hub import LoopbackHub, Repository

TRAIN, REPORTED = 40, 12
XSUM_COMMIT = "5b2e7e4dd7c3a0e8d2f1b9a6c8d0e4f3a2b1c0d9"
WORDS = ("the mill is cheap", "anna ate pasta", "the pub is near", "food is good", "is it bad", "the river runs")
SUPER_BOWL = "The league's 49ers hosted it at Levi's Stadium; the Broncos won 24–10 in 2015–16."
LONG = " ".join(WORDS * 8)
"""Exceeds every length of the profile. Few training splits have it: a batch as long as that takes a CPU seconds."""

SENTENCE, PAIR = {"sentence": "string"}, {"sentence1": "string", "sentence2": "string"}
GLUE: dict[str, tuple[dict[str, str], tuple[str, ...] | None]] = {
    "cola": (SENTENCE, ("unacceptable", "acceptable")),
    "mnli": ({"premise": "string", "hypothesis": "string"}, ("entailment", "neutral", "contradiction")),
    "mrpc": (PAIR, ("not_equivalent", "equivalent")),
    "qnli": ({"question": "string", "sentence": "string"}, ("entailment", "not_entailment")),
    "qqp": ({"question1": "string", "question2": "string"}, ("not_duplicate", "duplicate")),
    "rte": (PAIR, ("entailment", "not_entailment")),
    "sst2": (SENTENCE, ("negative", "positive")),
    "stsb": (PAIR, None),
}


def text_of(split: str, number: int, long: bool = True) -> str:
    """A text that says its split and number; one, if `long`, exceeds the profile's lengths."""
    words = LONG if long and number == 5 else " ".join(WORDS[: 1 + number % 3])
    return f"{split} {number} {words}"


def publish_tiny_corpora(hub: LoopbackHub, folder: Path) -> None:
    """Serve every corpus of the profile; their numbers of rows go to `folder`/corpora.json."""
    from replication.corpora import e2e, glue
    from replication.corpora.registry import REAL

    hub.add(glue.HUB_ID, Repository(glue.REVISION, _glue(), kind="datasets"))
    for name in ("squad_v1", "squad_v2", "cnn_dailymail", "xsum"):
        source = REAL[name].hub
        assert source is not None
        repository = Repository(source.revision or XSUM_COMMIT, FILES[name](), kind="datasets")
        hub.add(source.hub_id, repository)
    hub.plain[e2e.NAME] = _e2e()
    counts = {
        name: {split: _rows(name, split) for split in REAL[name].counts}
        for name in (*GLUE, "squad_v1", "squad_v2", "cnn_dailymail", "xsum")
    }
    data = hub.plain[e2e.NAME]
    release = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "corpora.json").write_text(json.dumps({"counts": counts, "e2e": release}))


def use_tiny_corpora(path: Path, address: str) -> None:
    """In this process: the row counts of `path`, E2E's release at `address`, and no other address of files."""
    from replication.corpora import e2e, registry, source_table

    found = json.loads(path.read_text())
    for name, counts in found["counts"].items():
        registry.REAL[name] = replace(registry.REAL[name], counts=counts)
    for name, file in source_table.FILES.items():
        source_table.FILES[name] = replace(file, url=f"{address}/absent/{name}" if file.url else None)
    digest = found["e2e"]["sha256"]
    e2e.URL, e2e.SHA256, e2e.SIZE_BYTES = f"{address}/files/{e2e.NAME}", digest, found["e2e"]["size"]
    e2e.read_archive = partial(e2e.read_archive, sha256=digest)


def _rows(name: str, split: str) -> int:
    if split == "train":
        return TRAIN
    return 2 * REPORTED if name == "mnli" else REPORTED


# --- repositories


def _parquet(rows: Sequence[Mapping[str, Any]], features: Any) -> bytes:
    import datasets

    datasets.disable_progress_bars()
    written = io.BytesIO()
    datasets.Dataset.from_list([dict(row) for row in rows], features=features).to_parquet(written)
    return written.getvalue()


def _card(configs: Mapping[str, Sequence[str]], default: bool = False) -> bytes:
    """README.md, whose head names each configuration's files."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        lines += ["  default: true"] if default else []
    return "\n".join([*lines, "---", ""]).encode()


def _glue() -> dict[str, bytes]:
    from datasets import ClassLabel, Features, Value

    files: dict[str, bytes] = {}
    splits = {}
    for task, (columns, names) in GLUE.items():
        label = Value("float32") if names is None else ClassLabel(names=list(names))
        features = Features({**{column: Value(kind) for column, kind in columns.items()}, "label": label,
                             "idx": Value("int32")})  # fmt: skip
        parts = ("_matched", "_mismatched") if task == "mnli" else ("",)
        splits[task] = ["train", *(f"{split}{part}" for split in ("validation", "test") for part in parts)]
        for split in splits[task]:
            rows = _glue_rows(task, split, list(columns), names)
            files[f"{task}/{split}-00000-of-00001.parquet"] = _parquet(rows, features)
    return {**files, "README.md": _card(splits)}


def _glue_rows(task: str, split: str, columns: list[str], names: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """Rows with every class; of QQP two with an empty question; the test split has no labels."""
    rows = []
    for number in range(TRAIN if split == "train" else REPORTED):
        label = round(5 * number / TRAIN, 3) if names is None else number % len(names)
        long = split != "train" or task in ("mrpc", "stsb")
        texts = {column: f"{column} {text_of(split, number, long)}" for column in columns}
        rows.append({**texts, "label": -1 if split.startswith("test") else label, "idx": number})
    if task == "qqp":
        rows[1]["question2"] = ""
        rows[2]["question1"] = ""
    return rows


def _squad(config: str, impossible: bool) -> dict[str, bytes]:
    from datasets import Features, List, Value

    features = Features({
        "id": Value("string"), "title": Value("string"), "context": Value("string"), "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    })  # fmt: skip

    def row(split: str, number: int) -> dict[str, Any]:
        long = number == 5 and (impossible or split != "train")
        context = f"{LONG} {SUPER_BOWL}" if long else f"{SUPER_BOWL} Copy {number // 4}."  # a search holds some out
        word = "49" if number == 1 else "Broncos"
        answers = {"text": [word], "answer_start": [context.index(word)]}
        if impossible and number % 3 == 2:
            answers = {"text": [], "answer_start": []}
        question = " " if number == 3 else f"Who won {split} {number}?"
        return {"id": f"{split}{number}", "title": "Super_Bowl", "context": context, "question": question,
                "answers": answers}  # fmt: skip

    counts = {"train": TRAIN, "validation": REPORTED}
    files = {
        f"{config}/{split}-00000-of-00001.parquet": _parquet([row(split, n) for n in range(count)], features)
        for split, count in counts.items()
    }
    return {**files, "README.md": _card({config: tuple(counts)})}


def _texts(columns: tuple[str, str], odd: Mapping[int, Mapping[str, str]], split: str, count: int) -> list[Any]:
    """Rows of two texts and an id, with odd values by number."""
    document, summary = columns
    return [
        {document: f"{text_of(split, n)}. Anna ate.\nShe left.", summary: f"Anna ate {n}.\nShe left.", "id": f"{n:08x}",
         **odd.get(n, {})}
        for n in range(count)
    ]  # fmt: skip


def _cnn_dailymail() -> dict[str, bytes]:
    from datasets import Features, Value

    features = Features({name: Value("string") for name in ("article", "highlights", "id")})
    odd = {1: {"highlights": ""}, 2: {"article": "\n"}}
    files, counts = {}, {"train": TRAIN, "validation": REPORTED, "test": REPORTED}
    for split, count in counts.items():
        rows = _texts(("article", "highlights"), odd, split, count)
        shards = 2 if split == "train" else 1
        for shard in range(shards):
            part = rows[shard * count // shards : (shard + 1) * count // shards]
            files[f"3.0.0/{split}-{shard:05d}-of-{shards:05d}.parquet"] = _parquet(part, features)
    return {**files, "README.md": _card({"3.0.0": tuple(counts)})}


def _xsum() -> dict[str, bytes]:
    """The hub's own copy of a repository that is a script: a folder a split, no card."""
    from datasets import Features, Value

    features = Features({name: Value("string") for name in ("document", "summary", "id")})
    counts = {"train": TRAIN, "validation": REPORTED, "test": REPORTED}
    return {
        f"default/{split}/0000.parquet": _parquet(
            _texts(("document", "summary"), {1: {"document": ""}}, split, count), features
        )
        for split, count in counts.items()
    }


FILES = {
    "squad_v1": partial(_squad, "plain_text", False),
    "squad_v2": partial(_squad, "squad_v2", True),
    "cnn_dailymail": _cnn_dailymail,
    "xsum": _xsum,
}


def _e2e() -> bytes:
    """The release's three CSV files; texts with quotes, commas and a pound sign."""
    import csv

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, count in (("trainset", TRAIN), ("devset", REPORTED), ("testset_w_refs", REPORTED)):
            text = io.StringIO(newline="")
            rows = csv.writer(text, quoting=csv.QUOTE_MINIMAL)
            rows.writerow(["mr", "ref"])
            for number in range(count):
                mr = f"name[{name} {number}], priceRange[£20-25], near[Café]"
                for reference in range(1 + number % 2):
                    rows.writerow([mr, f'"{name} {number}", near a Café, costs £20-25 ({reference}).'])
            archive.writestr(zipfile.ZipInfo(f"e2e-dataset/{name}.csv"), text.getvalue().encode())
    return written.getvalue()
