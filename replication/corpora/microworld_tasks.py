"""The microworld's tasks: eight task shapes over the embedded corpus's places, from a seed, and their loader.

Each task is a folder of `train.jsonl` and `test.jsonl` in the row forms of `task_corpus`; `pretraining.txt` is free
text in the same registers (`microworld_tasks_pretraining`). Every label follows from the facts a row was made from,
so there is no label noise; labels take turns, so each split is balanced. No two rows of different splits share a
meaning representation (for sentiment, acceptability: the sentence's content), and no pretraining passage states all
the facts of a test row's place.

Regenerate with `python -m replication.corpora.microworld_tasks --output data/microworld-tasks`: the same configuration
gives the same bytes on every machine and Python version (`DEFAULT_SHA256`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.corpora.microworld import LABEL, MicroworldConfig, generate
from replication.corpora.microworld_grammar import Draw
from replication.corpora.microworld_tasks_facts import Item
from replication.corpora.microworld_tasks_grammaticality import ACCEPTABILITY_LABELS, draw_acceptability
from replication.corpora.microworld_tasks_headlines import draw_headline
from replication.corpora.microworld_tasks_opinions import SENTIMENT_LABELS, draw_sentiment
from replication.corpora.microworld_tasks_pairs import (
    ENTAILMENT_LABELS,
    FACTS_COMPARED,
    PARAPHRASE_LABELS,
    draw_entailment,
    draw_paraphrase,
    draw_similarity,
)
from replication.corpora.microworld_tasks_pretraining import draw_passage
from replication.corpora.microworld_tasks_questions import CHOICES, draw_choice, draw_question, draw_unanswerable
from replication.corpora.microworld_tasks_readme import readme
from replication.corpora.schema import parse_mr
from replication.corpora.task_corpus import CorpusCard, TaskCorpus, check_rows, corpus_of
from replication.errors import ConfigError, DataError, ReplicationError
from replication.fileio import read_jsonl, replaced_directory, sha256_bytes, sha256_file, write_bytes

DEFAULT_FOLDER = Path("data/microworld-tasks")
PREFIX = "microworld_"
SPLITS = ("train", "test")
MAX_TRAIN, MAX_TEST, MAX_PASSAGES = 20_000, 1000, 1_000_000


@dataclass(frozen=True)
class Task:
    """How a task's rows are made: `draw(draw, turn)` gives one item, and turns go round from 0 to `turns` - 1."""

    form: str
    metric: str
    labels: tuple[str, ...] | None
    turns: int
    draw: Callable[[Draw, int], Item]


TASKS: dict[str, Task] = {
    "acceptability": Task("classification", "cola", ACCEPTABILITY_LABELS, 2, draw_acceptability),
    "sentiment": Task("classification", "sst2", SENTIMENT_LABELS, 2, draw_sentiment),
    "paraphrase": Task("classification", "mrpc", PARAPHRASE_LABELS, 2, draw_paraphrase),
    "entailment": Task("classification", "accuracy", ENTAILMENT_LABELS, 3, draw_entailment),
    "similarity": Task("regression", "stsb", None, FACTS_COMPARED + 1, draw_similarity),
    "qa": Task("question_answering", "squad_v1", None, 2, draw_question),
    "qa_unanswerable": Task("question_answering", "squad_v2", None, 4, draw_unanswerable),
    "headlines": Task("summarisation", "rouge", None, 1, draw_headline),
    "choice": Task("multiple_choice", "accuracy", None, CHOICES, draw_choice),
}
NAMES = tuple(PREFIX + task for task in TASKS)
# Bytes of the default tasks, which `data.dvc` versions; a change of a generator or the seed changes them.
DEFAULT_SHA256 = {
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
FILES = tuple(DEFAULT_SHA256)


@dataclass(frozen=True)
class TasksConfig:
    """Rows of each task's splits, lines of pretraining text, and the seed; ConfigError names a field out of range."""

    seed: int = 18
    train: int = 1200
    test: int = 240
    passages: int = 6000

    def __post_init__(self) -> None:
        for field, most in {"train": MAX_TRAIN, "test": MAX_TEST, "passages": MAX_PASSAGES}.items():
            value = getattr(self, field)
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"{field} = {value!r}; it must be a whole number from 1 to {most}")
        if type(self.seed) is not int:
            raise ConfigError(f"seed = {self.seed!r}; it must be a whole number")


def generate_task(task: str, config: TasksConfig) -> dict[str, tuple[Item, ...]]:
    """The items of each split of one task, always the same; the test split does not depend on the other sizes."""
    test = _split(task, "test", config.test, config, frozenset())
    held_out = frozenset().union(*(item.keys for item in test))
    return {"train": _split(task, "train", config.train, config, held_out), "test": test}


def _split(task: str, split: str, size: int, config: TasksConfig, held_out: frozenset[str]) -> tuple[Item, ...]:
    draw = Draw(config.seed, f"{task} {split}")
    items: list[Item] = []
    seen: set[str] = set()
    while len(items) < size:
        item = TASKS[task].draw(draw, len(items) % TASKS[task].turns)
        text = json.dumps(item.row)
        if text in seen or item.keys & held_out:
            continue
        seen.add(text)
        items.append(Item({"id": f"{task}-{split}-{len(items) + 1:04d}", **item.row}, item.keys, item.meanings))
    return tuple(items)


def generate_pretraining(config: TasksConfig, splits: Mapping[str, Mapping[str, Sequence[Item]]]) -> tuple[str, ...]:
    """`config.passages` passages that quote no held-out opinion and state no held-out place's facts in full."""
    items = [item for parts in splits.values() for item in parts["test"]]
    held_out, keys = _held_out_meanings(items), frozenset().union(*(item.keys for item in items))
    draw = Draw(config.seed, "tasks pretraining")
    passages: list[str] = []
    while len(passages) < config.passages:
        passage = draw_passage(draw)
        told = any(
            facts.issubset(place.slots) for place in passage.meanings for facts in held_out.get(place.slots[0][1], ())
        )
        if not told and not passage.keys & keys:
            passages.append(passage.text)
    return tuple(passages)


def _held_out_meanings(items: Sequence[Item]) -> dict[str, list[frozenset[tuple[str, str]]]]:
    # The descriptions' held-out splits too, whose backbones may be pretrained on both texts.
    world = generate(MicroworldConfig(train=1, passages=1))
    meanings = [place for item in items for place in item.meanings]
    meanings += [parse_mr(mr) for mr in dict.fromkeys(row.mr for row in (*world.dev, *world.test))]
    groups: dict[str, list[frozenset[tuple[str, str]]]] = {}
    for place in meanings:
        groups.setdefault(place.slots[0][1], []).append(frozenset(place.slots))
    return groups


def files_of(config: TasksConfig | None = None) -> dict[str, bytes]:
    """Contents of the folder by file name, in the order of `FILES`."""
    config = config or TasksConfig()
    splits = {task: generate_task(task, config) for task in TASKS}
    contents = {
        f"{task}/{split}.jsonl": "".join(json.dumps(item.row, ensure_ascii=False) + "\n" for item in items).encode()
        for task, parts in splits.items()
        for split, items in parts.items()
    }
    passages = generate_pretraining(config, splits)
    contents["pretraining.txt"] = "".join(f"{text}\n" for text in passages).encode()
    contents["README.md"] = readme(splits, passages, contents, config.seed).encode()
    return contents


def write(directory: str | Path, config: TasksConfig | None = None) -> dict[str, str]:
    """Write the folder in one step and return {file: sha256}; an up-to-date folder is not touched.

    DataError for a folder that holds anything else, which would be lost.
    """
    directory = Path(directory).resolve()
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory}: is a file; give a folder for the tasks")
    present = sorted(path for path in directory.rglob("*") if not path.is_dir()) if directory.exists() else []
    names = [path.relative_to(directory).as_posix() for path in present]
    if foreign := [name for name in names if name not in FILES]:
        raise DataError(f"{directory}: holds {foreign[0]}, which is no file of the tasks; give a new or empty folder")
    contents = files_of(config)
    if not all((directory / name).is_file() and (directory / name).read_bytes() == contents[name] for name in FILES):
        with replaced_directory(directory) as aside:
            for name, data in contents.items():
                write_bytes(aside / name, data)
    return {name: sha256_bytes(data) for name, data in contents.items()}


def card_of(name: str) -> CorpusCard:
    """What the task corpus `name` (`microworld_entailment` ...) is; ConfigError lists the names."""
    task = TASKS.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if task is None:
        raise ConfigError(f"{name!r} is no task of the microworld; the tasks are {', '.join(NAMES)}")
    note = f"{LABEL}: sentences of a seeded grammar about invented places; no score compares with a published one"
    return CorpusCard(name, LABEL, task.form, task.metric, task.labels, "test", False, "Apache-2.0", note)


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
        cure = f"make it with `python -m replication.corpora.microworld_tasks --output {DEFAULT_FOLDER}`"
        raise DataError(f"{path}: no such file; pull the data, or {cure}")
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {row!r} is no JSON object; each line is one row")
    check_rows(card, rows, str(path))  # a row is a line: the files have no empty ones
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the default tasks; 0 when done, 2 with a message when they cannot be written."""
    parser = argparse.ArgumentParser(description=f"Write the microworld's tasks, an {LABEL}.")
    parser.add_argument("--output", type=Path, default=DEFAULT_FOLDER, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        hashes = write(options.output)
    except (ReplicationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {LABEL}")
    for name, digest in hashes.items():
        print(f"  {digest}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
