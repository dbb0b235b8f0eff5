"""Stage `prepare`: a corpus becomes training rows and reported items, with the hashes of what they came from.

Writes prepared/<profile>/<task>/: train.jsonl, dev.jsonl (losses while training), test.jsonl (what is reported) and
corpus.json (name, label, form, metric, counts, hashes); and gold/<profile>/<task>.jsonl: the truth of each reported
item under its id (replication/predictions.py), which the predictions of all seeds share.

Rows of the form `generation` are {"context", "completion"}, its items {"mr", "context", "references"}; those of the
other forms are as in replication/corpora/task_corpus.py. There the reported split is the corpus's own dev split where
the test labels are not public, and the dev rows are held out of the training split, so that nothing is chosen on what
is reported.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.paths import gold_path, prepared_directory
from pipelines.settings import Task, load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from pipelines.tasks import GENERATION, gold_rows, read_rows
from replication.corpora import e2e, microworld
from replication.corpora.schema import Row, group_references, linearise, parse_mr, read_csv
from replication.errors import ConfigError
from replication.fileio import replaced_directory, sha256_file, write_json, write_jsonl

MICROWORLD_FILES = {"train": "trainset.csv", "dev": "devset.csv", "test": "testset.csv"}


def main(
    params: Params,
    task: Annotated[str, typer.Option(help="A name under `tasks`.")],
    dry_run: DryRun = False,
) -> None:
    """Prepare one task."""
    settings = load_settings(params)
    chosen = settings.task(task)
    output = prepared_directory(settings, task)
    if dry_run:
        say(f"would prepare {task} from the {chosen.corpus} corpus into {output}")
        return
    if chosen.form == GENERATION:
        counts, label = prepare_texts(chosen, output)
    else:
        counts, label = prepare_rows(chosen, output)
    write_jsonl(gold_path(settings, task), gold_rows(chosen.form, read_rows(output, "test")))
    say(f"{task}: {counts['train_examples']} training and {counts['dev_examples']} dev examples, "
        f"{counts['test_items']} reported items ({label}) -> {output}")  # fmt: skip


def prepare_rows(task: Task, output: Path) -> tuple[dict[str, int], str]:
    """Write a corpus of any other form; returns the counts and the corpus's label."""
    from replication.corpora.registry import load_corpus

    embedded = Path(task.source).is_dir()
    corpus = load_corpus(task.corpus, task.source if embedded else None)
    if corpus.form != task.form:
        raise ConfigError(f"task of corpus {task.corpus}: form={task.form}; the corpus has the form {corpus.form}")
    train, dev = hold_out_rows(corpus.splits["train"], task.dev_examples or 0, task.selection_seed)
    train = select(train, task.train_examples, task.selection_seed)
    test = select(corpus.splits[corpus.reported_split], task.test_items, task.selection_seed)
    counts = {"train_examples": len(train), "dev_examples": len(dev), "test_items": len(test)}
    described = {
        "name": corpus.name,
        "label": corpus.label,
        "form": corpus.form,
        "metric": corpus.metric,
        "labels": list(corpus.labels) if corpus.labels else None,
        "reported_split": corpus.reported_split,
        "comparable": corpus.comparable and task.test_items is None,
        "licence": corpus.licence,
        "note": corpus.note,
        "sha256": dict(corpus.sha256),
    }
    with replaced_directory(output) as folder:
        for name, rows in (("train", train), ("dev", dev), ("test", test)):
            write_jsonl(folder / f"{name}.jsonl", rows)
        write_json(folder / "corpus.json", {**described, **counts})
    return counts, corpus.label


def hold_out_rows(rows: Sequence[Any], count: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Split `count` seeded rows away; both parts keep the corpus's order."""
    if count >= len(rows):
        raise ConfigError(f"dev_examples={count}: the training split has {len(rows)} rows, nothing is left to train on")
    chosen = set(random.Random(seed).sample(range(len(rows)), count))
    kept = [row for index, row in enumerate(rows) if index not in chosen]
    return kept, [rows[index] for index in sorted(chosen)]


def prepare_texts(chosen: Task, output: Path) -> tuple[dict[str, int], str]:
    """Write a data-to-text corpus; returns the counts and the corpus's label."""
    splits, source = read_corpus(chosen)
    rows = {name: select(splits[name], limit, chosen.selection_seed) for name, limit in limits(chosen).items()}
    items = select(group_references(splits["test"]), chosen.test_items, chosen.selection_seed)
    with replaced_directory(output) as folder:
        for name, chosen_rows in rows.items():
            write_jsonl(folder / f"{name}.jsonl", [as_pair(row) for row in chosen_rows])
        write_jsonl(
            folder / "test.jsonl",
            [{"mr": mr, "context": context_of(mr), "references": references} for mr, references in items],
        )
        counts = {
            "train_examples": len(rows["train"]),
            "dev_examples": len(rows["dev"]),
            "test_items": len(items),
        }
        write_json(folder / "corpus.json", {**source, **counts})
    return counts, source["label"]


def limits(task: Task) -> dict[str, int | None]:
    """How many rows of each trained-on split are used; None is all."""
    return {"train": task.train_examples, "dev": task.dev_examples}


def read_corpus(task: Task) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """All rows by split ("train", "dev", "test") and what they are: name, label, sha256 of the source files."""
    if task.corpus not in ("e2e", "microworld"):
        raise ConfigError(f"corpus {task.corpus}: no data-to-text corpus; these are e2e and microworld")
    if task.corpus == "e2e":
        source = {"name": "e2e", "label": e2e.LABEL, "sha256": {"e2e-dataset.zip": e2e.SHA256}}
        return e2e.load_e2e(), source
    folder = Path(task.source)
    paths = {split: folder / name for split, name in MICROWORLD_FILES.items()}
    for path in paths.values():
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; `dvc pull data.dvc` brings the embedded corpus")
    source = {
        "name": "microworld",
        "label": microworld.LABEL,
        "sha256": {path.name: sha256_file(path) for path in paths.values()},
    }
    return {split: read_csv(path) for split, path in paths.items()}, source


def select(rows: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """A seeded choice of `limit` rows, kept in corpus order."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def as_pair(row: Row) -> dict[str, str]:
    """One training example."""
    return {"context": context_of(row.mr), "completion": row.reference}


def context_of(mr: str) -> str:
    """The linearised form of a meaning representation in the corpus's own notation."""
    return linearise(parse_mr(mr))


if __name__ == "__main__":
    run_stage(main)
