"""The microworld's tasks: eight task shapes over the embedded corpus's places, from a seed.

Each task is a folder of `train.jsonl` and `test.jsonl` in the row forms of `task_corpus`; `pretraining.txt` is free
text in the same registers (`pretraining`). Every label follows from the facts a row was made from,
so there is no label noise; labels take turns, so each split is balanced. No two rows of different splits share a
meaning representation (for sentiment, acceptability: the sentence's content), and no pretraining passage states all
the facts of a test row's place.

Regenerate with `python -m studies.microworld.tasks --output data/microworld-tasks`: the same configuration
gives the same bytes on every machine and Python version (`TASKS_SHA256`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from replication.corpora.microworld import DEFAULT_FOLDER, LABEL, TASKS_SHA256
from replication.corpora.schema import parse_mr
from replication.errors import ConfigError, DataError, ReplicationError
from replication.fileio import replaced_directory, sha256_bytes, write_bytes
from studies.microworld.descriptions import MicroworldConfig, generate
from studies.microworld.facts import Item
from studies.microworld.grammar import Draw
from studies.microworld.grammaticality import draw_acceptability
from studies.microworld.headlines import draw_headline
from studies.microworld.opinions import draw_sentiment
from studies.microworld.pairs import FACTS_COMPARED, draw_entailment, draw_paraphrase, draw_similarity
from studies.microworld.pretraining import draw_passage
from studies.microworld.questions import CHOICES, draw_choice, draw_question, draw_unanswerable
from studies.microworld.readme import readme

MAX_TRAIN, MAX_TEST, MAX_PASSAGES = 20_000, 1000, 1_000_000


@dataclass(frozen=True)
class Drawing:
    """How a task's rows are made: `draw(draw, turn)` gives one item, and turns go round from 0 to `turns` - 1."""

    turns: int
    draw: Callable[[Draw, int], Item]


DRAWINGS: dict[str, Drawing] = {
    "acceptability": Drawing(2, draw_acceptability),
    "sentiment": Drawing(2, draw_sentiment),
    "paraphrase": Drawing(2, draw_paraphrase),
    "entailment": Drawing(3, draw_entailment),
    "similarity": Drawing(FACTS_COMPARED + 1, draw_similarity),
    "qa": Drawing(2, draw_question),
    "qa_unanswerable": Drawing(4, draw_unanswerable),
    "headlines": Drawing(1, draw_headline),
    "choice": Drawing(CHOICES, draw_choice),
}
FILES = tuple(TASKS_SHA256)


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
        item = DRAWINGS[task].draw(draw, len(items) % DRAWINGS[task].turns)
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
    splits = {task: generate_task(task, config) for task in DRAWINGS}
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
        raise DataError(
            f"{directory}: holds {foreign[0]}, which is not a file of the tasks; pass a new or empty folder"
        )
    contents = files_of(config)
    if not all((directory / name).is_file() and (directory / name).read_bytes() == contents[name] for name in FILES):
        with replaced_directory(directory) as aside:
            for name, data in contents.items():
                write_bytes(aside / name, data)
    return {name: sha256_bytes(data) for name, data in contents.items()}


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
