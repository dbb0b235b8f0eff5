"""Stage `prepare`: turn a corpus into training rows and test examples, with the hashes of the source files.

Writes prepared/<profile>/<task>/: train.jsonl, dev.jsonl (losses while training), test.jsonl (what is reported) and
corpus.json (name, label, form, metric, counts, hashes); and gold/<profile>/<task>.jsonl: the truth of each reported
item under its id (replication/predictions.py), which the predictions of all seeds share.

Rows of the form `generation` are {"context", "completion"}, test examples {"mr", "context", "references"}; those of the
other forms are as in replication/corpora/task_corpus.py. There the reported split is the corpus's own dev split where
the test labels are not public, and the dev rows are held out of the training split, so that nothing is chosen on what
is reported.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.lock import held
from pipelines.shared.paths import gold_path, prepared_directory
from pipelines.shared.settings import Task, load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.corpora.registry import describe, load_corpus
from replication.corpora.rows import ODD
from replication.corpora.task_corpus import TaskCorpus
from replication.errors import ConfigError
from replication.fileio import remove_leftovers, replaced_directory, write_json, write_jsonl
from replication.tasks import get_form


def main(
    params: Params,
    task: Annotated[str, typer.Option(help="A name under `tasks`.")],
    dry_run: DryRun = False,
) -> None:
    """Prepare one task."""
    settings = load_settings(params)
    chosen = settings.task(task)
    where = f"{params}: tasks.{task}"
    if (form := describe(chosen.corpus)["form"]) != chosen.form:
        raise ConfigError(f"{where}: form={chosen.form}; the corpus {chosen.corpus} has the form {form}")
    output = prepared_directory(settings.profile, task)
    if dry_run:
        say(f"would prepare {task} from the {chosen.corpus} corpus into {output}")
        return
    gold = gold_path(settings.profile, task)
    with held(Path("checkpoints") / "prepared" / settings.profile / f"{task}.lock", f"prepared/{task}"):
        remove_leftovers(output.parent, output.name)
        remove_leftovers(gold.parent, gold.name)
        prepare(task, chosen, output, gold, where)


def prepare(task: str, chosen: Task, output: Path, gold: Path, where: str) -> None:
    """Read the corpus, choose the rows, write them."""
    corpus = load_corpus(chosen.corpus, None if Path(chosen.source).is_file() else chosen.source)
    rows = choose(corpus, chosen, where)
    sizes = {"train_examples": len(rows["train"]), "dev_examples": len(rows["dev"]), "test_items": len(rows["test"])}
    with replaced_directory(output) as folder:
        for name, chosen_rows in rows.items():
            write_jsonl(folder / f"{name}.jsonl", chosen_rows)
        write_json(folder / "corpus.json", {**corpus.source(whole=chosen.test_items is None), **sizes})
    write_jsonl(gold, get_form(corpus.form).gold(rows["test"]))
    say(f"{task}: {sizes['train_examples']} training and {sizes['dev_examples']} dev examples, "
        f"{sizes['test_items']} test examples ({corpus.label}) -> {output}")  # fmt: skip


def choose(corpus: TaskCorpus, task: Task, where: str) -> dict[str, list[Any]]:
    """Rows to learn from ("train"), for losses while training ("dev"), and to report on ("test").

    Dev rows are the corpus's own dev split if it has one besides the reported split; else they are taken out of the
    training split.
    """
    seed, train = task.selection_seed, corpus.splits["train"]

    def limited(rows: Sequence[Any], limit: int | None) -> list[Any]:
        return hardest(rows, limit, seed, task.form) if task.selection == "hardest" else select(rows, limit, seed)

    if "dev" in corpus.splits and corpus.reported_split != "dev":
        dev = limited(corpus.splits["dev"], task.dev_examples)
    else:
        try:
            train, dev = hold_out_rows(train, task.dev_examples or 0, seed)
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from error
    return {
        "train": limited(train, task.train_examples),
        "dev": dev,
        "test": limited(corpus.splits[corpus.reported_split], task.test_items),
    }


def hold_out_rows(rows: Sequence[Any], count: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Split `count` seeded rows away; both parts keep the corpus's order."""
    if count >= len(rows):
        raise ConfigError(f"dev_examples={count}: the training split has {len(rows)} rows, nothing is left to train on")
    chosen = set(random.Random(seed).sample(range(len(rows)), count))
    kept = [row for index, row in enumerate(rows) if index not in chosen]
    return kept, [rows[index] for index in sorted(chosen)]


def select(rows: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """A seeded choice of `limit` rows, kept in corpus order."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def hardest(rows: Sequence[Any], limit: int | None, seed: int, form: str) -> list[Any]:
    """`limit` rows in corpus order: a quarter odd ones (each kind in turn), a quarter the longest, and others by
    chance, since the longest may all have one label or come from one subset.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    half, kinds = (limit + 1) // 2, [odd for odd in ODD.values() if form in odd.forms]
    of_kind = [[n for n, row in enumerate(rows) if kind.holds(row)][:half] for kind in kinds]
    odd = [n for same in zip_longest(*of_kind) for n in same if n is not None]
    longest = sorted(range(len(rows)), key=lambda n: -len(str(rows[n])))
    chance = random.Random(seed).sample(range(len(rows)), len(rows))
    first = list(dict.fromkeys([*odd[: max(len(kinds), limit // 4)], *longest]))[:half]
    return [rows[n] for n in sorted(list(dict.fromkeys([*first, *chance]))[:limit])]


if __name__ == "__main__":
    run_stage(main)
