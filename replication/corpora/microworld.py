"""The microworld: the embedded synthetic corpus, read. `studies/microworld` generates it, from a seed.

`data/microworld` holds descriptions of invented places in the E2E release's CSV form and a pretraining text;
`data/microworld-tasks` a folder of `train.jsonl` and `test.jsonl` for each task, in the row forms of `task_corpus`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replication.corpora.schema import read_csv, task_rows
from replication.corpora.task_corpus import CorpusCard, TaskCorpus, check_rows, corpus_of
from replication.errors import ConfigError, DataError
from replication.fileio import read_jsonl, sha256_file

LABEL = "embedded synthetic corpus"
# Bytes of the default corpus, which `data.dvc` versions; a change of the grammar or the seed changes them.
DEFAULT_SHA256 = {
    "trainset.csv": "7e60f606d51363611ee70900f44b6bf87721e478e3dd15796a17ff44f3714094",
    "devset.csv": "1ed7a86bf6bed77d694e7fe69ddfc2528d7b6313eb24092b8370635bb3b8b1a6",
    "testset.csv": "b755762fab126f470a155441c7bef2cef1e14461e7cf7d5706b2892d7b2c2682",
    "pretraining.txt": "5045bb4742c9727abe838f8295e57a84793f6cc11159c26d2496db95b635fec0",
    "README.md": "d987a084e7d77263e732a7d6ea85b40eebdd5ef7af16a26072c4bf7d72c31a7e",
}
FILES = tuple(DEFAULT_SHA256)
NOTE = f"{LABEL}: descriptions of invented places by a seeded grammar; no score compares with a published one"
CARD = CorpusCard("microworld", LABEL, "generation", "e2e", None, "test", False, "Apache-2.0", NOTE)
DESCRIPTIONS = {"train": "trainset.csv", "dev": "devset.csv", "test": "testset.csv"}


def load_descriptions(folder: str | Path | None = None) -> TaskCorpus:
    """The descriptions from their folder (default: `data/microworld`) as rows of the form `generation`.

    DataError names the file that is missing, or the file and row that cannot be used.
    """
    paths = {split: Path(folder or "data/microworld") / name for split, name in DESCRIPTIONS.items()}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path}: no such file; `dvc pull data.dvc` brings the embedded corpus")
    rows = {split: read_csv(path) for split, path in paths.items()}
    return corpus_of(CARD, task_rows(rows), {path.name: sha256_file(path) for path in paths.values()})


# --- the tasks ------------------------------------------------------------

DEFAULT_FOLDER = Path("data/microworld-tasks")
PREFIX = "microworld_"
SPLITS = ("train", "test")
ACCEPTABILITY_LABELS = ("unacceptable", "acceptable")
SENTIMENT_LABELS = ("negative", "positive")
ENTAILMENT_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("not_equivalent", "equivalent")


@dataclass(frozen=True)
class Task:
    """The form of a task's rows, its metric, and the names of its labels in the order of their indices."""

    form: str
    metric: str
    labels: tuple[str, ...] | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)


TASKS: dict[str, Task] = {
    "acceptability": Task("classification", "cola", ACCEPTABILITY_LABELS),
    "sentiment": Task("classification", "sst2", SENTIMENT_LABELS),
    "paraphrase": Task("classification", "mrpc", PARAPHRASE_LABELS),
    "entailment": Task("classification", "accuracy", ENTAILMENT_LABELS),
    "similarity": Task("regression", "stsb"),
    "qa": Task("question_answering", "squad_v1"),
    "qa_unanswerable": Task("question_answering", "squad_v2", evaluation={"no_answer": True}),
    "headlines": Task("summarisation", "rouge"),
    "choice": Task("multiple_choice", "acc_norm"),
}
NAMES = tuple(PREFIX + task for task in TASKS)
# Bytes of the default tasks, which `data.dvc` versions; a change of a generator or the seed changes them.
TASKS_SHA256 = {
    "acceptability/train.jsonl": "fb26d55ecad5c1fca3023d3606451cd4bc4b0366721a81d5892c98c25712a0db",
    "acceptability/test.jsonl": "05092b50b56036688971d113f8198426eeadc79c6c2f7c57a8fa9159477fe6ac",
    "sentiment/train.jsonl": "8c98aa8978822de8760cebb48dc886a950406dda364f1ac363c85c015c1b895a",
    "sentiment/test.jsonl": "99798c01bb85d662a711d47cb26ca3bff9600099488f96891d5e97d3fa45d5fb",
    "paraphrase/train.jsonl": "b5dd5c7dbec841ca8ed07ba7ad60f5d371b842a3741999dfd3aa18390d11142b",
    "paraphrase/test.jsonl": "42c9a2447953b790a6b8124ba61d39300c68eaa9a53e481d9cb4d07e81af8f6e",
    "entailment/train.jsonl": "7ebe0ee74ef88be6ddc452cc07e2c82b598dfc0e374961f8c18721f2c4367217",
    "entailment/test.jsonl": "0b3f04cf716d9d073f1624c51605cf7ef107e072c4c677d020e70fc87613eee8",
    "similarity/train.jsonl": "a530632c0ff7215fdc305e6aae96dd3c0e77866ef042e8ae9b8d4a27efde571c",
    "similarity/test.jsonl": "287b9219545abb6bd7339fe8f27a7b598cf16a4fc14c7992e244d67937aea731",
    "qa/train.jsonl": "5da12fda614cd7c88d49c0dcea33dae365ae94329aefb293374e67701c082ef9",
    "qa/test.jsonl": "2f112676105fb242828b0289ee64d6a5e47f6972e4fb66ac0b5c30ec45ed995c",
    "qa_unanswerable/train.jsonl": "ca96719ba12ef302791263f4018a767a3798547964db937d3a1a3efbe26f2be6",
    "qa_unanswerable/test.jsonl": "7a6541a66e4a0536f1a36f51086531078b9ba27d8da50843f5203dc61eab9eb4",
    "headlines/train.jsonl": "23e1b9c8da213f99a91d5fa1effb74cd35b9777cdadbd247c0fca82e79e569a3",
    "headlines/test.jsonl": "c6863151ee8eb937dbf1743ca07b1f0f249d76de7d3e75bbc52bd9c1e987e22c",
    "choice/train.jsonl": "f57c509f7709ac9c0cebdf61031fa8db38ae5957e75c7645d66164b9d9a66fa8",
    "choice/test.jsonl": "015864879946a0d48a969266c92ca5b3b09bc7172aa416daaf579013384de4c6",
    "pretraining.txt": "398d338e81080b7bffb9b8197e7d70ba86471701a4716a77ddc161248cfa13ca",
    "README.md": "2e018f02f1ac6b66ed3cb03b1a0cfb7e98bb8eb1e2bcab3dc502e06441fafe3f",
}


def card_of(name: str) -> CorpusCard:
    """The card of the task corpus `name` (`microworld_entailment` ...); ConfigError lists the names."""
    task = TASKS.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if task is None:
        raise ConfigError(f"{name!r} is not a task of the microworld; valid names are {', '.join(NAMES)}")
    note = f"{LABEL}: sentences of a seeded grammar about invented places; no score compares with a published one"
    return CorpusCard(
        name, LABEL, task.form, task.metric, task.labels, "test", False, "Apache-2.0", note, evaluation=task.evaluation
    )


def load(name: str, folder: Path | None = None) -> TaskCorpus:
    """The task corpus `name` from `folder` (default: `data/microworld-tasks`), every row checked.

    ConfigError for an unknown name; DataError names the file, line and field of a row that cannot be used.
    """
    card, folder = card_of(name), DEFAULT_FOLDER if folder is None else Path(folder)
    splits, hashes = {}, {}
    for split in SPLITS:
        file = f"{name.removeprefix(PREFIX)}/{split}.jsonl"
        splits[split] = _rows(card, folder / file)
        hashes[file] = sha256_file(folder / file)
    return corpus_of(card, splits, hashes)


def _rows(card: CorpusCard, path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        fix = f"make it with `python -m studies.microworld.tasks --output {DEFAULT_FOLDER}`"
        raise DataError(f"{path}: no such file; pull the data, or {fix}")
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {row!r} is not a JSON object; each line is one row")
    check_rows(card, rows, str(path))  # a row is a line: the files have no empty ones
    return rows
