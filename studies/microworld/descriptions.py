"""The microworld: an embedded synthetic corpus of place descriptions in the E2E schema, from a seed.

Rows are (meaning representation, reference) in the E2E release's CSV form, with several references for each
meaning representation; no meaning representation is in two splits, and no pretraining passage states all
the facts of a held-out one. The grammar is documented in `grammar`, the free text in
`passages`.

Regenerate with `python -m studies.microworld.descriptions --output data/microworld`: the same configuration
gives the same bytes on every machine and Python version (`DEFAULT_SHA256` of `replication.corpora.microworld`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from replication.corpora.microworld import FILES, LABEL
from replication.corpora.schema import MeaningRepresentation, Row, csv_text
from replication.errors import ConfigError, DataError, ReplicationError
from replication.fileio import replaced_directory, sha256_bytes, write_bytes
from studies.microworld.grammar import Draw, describe, draw_meaning
from studies.microworld.passages import draw_passage

# Facts in a meaning representation, about as often as in the E2E release's rows (3 to 8 facts in 5, 16, 27,
# 28, 17 and 7 % of them).
SLOT_COUNTS = (3,) + (4,) * 3 + (5,) * 5 + (6,) * 6 + (7,) * 3 + (8,) * 2
MAX_REFERENCES = 6  # the shortest meaning representations have six different descriptions
MAX_MEANINGS, MAX_PASSAGES = 20_000, 1_000_000


@dataclass(frozen=True)
class MicroworldConfig:
    """Sizes and seed; ConfigError names a field that is out of range.

    `references` is (fewest, most) for each meaning representation; the three splits are sizes in meaning
    representations, `passages` in lines of pretraining text.
    """

    seed: int = 18
    train: int = 400
    dev: int = 60
    test: int = 60
    references: tuple[int, int] = (3, 6)
    passages: int = 6000

    def __post_init__(self) -> None:
        limits = {"train": MAX_MEANINGS, "dev": MAX_MEANINGS, "test": MAX_MEANINGS, "passages": MAX_PASSAGES}
        for field, most in limits.items():
            value = getattr(self, field)
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"{field} = {value!r}; it must be a whole number from 1 to {most}")
        if type(self.seed) is not int:
            raise ConfigError(f"seed = {self.seed!r}; it must be a whole number")
        valid = (
            isinstance(self.references, tuple)
            and len(self.references) == 2
            and all(type(value) is int for value in self.references)
            and 1 <= self.references[0] <= self.references[1] <= MAX_REFERENCES
        )
        if not valid:
            raise ConfigError(
                f"references = {self.references!r}; it must be (fewest, most) with "
                f"1 <= fewest <= most <= {MAX_REFERENCES}"
            )


@dataclass(frozen=True)
class Microworld:
    """The rows of each split, grouped by meaning representation, and the pretraining passages."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    pretraining: tuple[str, ...]
    config: MicroworldConfig


def generate(config: MicroworldConfig | None = None) -> Microworld:
    """The corpus of `config` (default: the embedded one), always the same."""
    config = config or MicroworldConfig()
    # The held-out splits are drawn first and from their own streams: another training size leaves them as
    # they are.
    taken: set[MeaningRepresentation] = set()
    test = _split("test", config.test, config, taken)
    dev = _split("dev", config.dev, config, taken)
    held_out = _by_name(taken)
    train = _split("train", config.train, config, taken)
    return Microworld(train, dev, test, _pretraining(config, held_out), config)


def files_of(world: Microworld) -> dict[str, bytes]:
    """Contents of the corpus folder by file name, in the order of `FILES`."""
    texts = {
        "trainset.csv": csv_text(world.train),
        "devset.csv": csv_text(world.dev),
        "testset.csv": csv_text(world.test),
        "pretraining.txt": "".join(f"{passage}\n" for passage in world.pretraining),
    }
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    contents["README.md"] = _readme(world, contents).encode("utf-8")
    return contents


def write(directory: str | Path, config: MicroworldConfig | None = None) -> dict[str, str]:
    """Write the corpus folder in one step and return {file: sha256}; an up-to-date folder is not touched.

    DataError for a folder that holds anything else, which would be lost.
    """
    directory = Path(directory).resolve()
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory}: is a file; give a folder for the corpus")
    present = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    if foreign := [name for name in present if name not in FILES]:
        raise DataError(
            f"{directory}: holds {foreign[0]}, which is not a file of this corpus; pass a new or empty folder"
        )
    contents = files_of(generate(config))
    if not all(_holds(directory / name, data) for name, data in contents.items()):
        with replaced_directory(directory) as aside:
            for name, data in contents.items():
                write_bytes(aside / name, data)
    return {name: sha256_bytes(data) for name, data in contents.items()}


def _split(name: str, size: int, config: MicroworldConfig, taken: set[MeaningRepresentation]) -> tuple[Row, ...]:
    draw = Draw(config.seed, name)
    fewest, most = config.references
    rows: list[Row] = []
    left = size
    while left:
        mr = draw_meaning(draw, draw.pick(SLOT_COUNTS))
        if mr in taken:
            continue
        taken.add(mr)
        left -= 1
        wanted = draw.pick(range(fewest, most + 1))
        references: dict[str, None] = {}  # a set that keeps its order
        while len(references) < wanted:
            references[describe(mr, draw)] = None
        rows += [Row(str(mr), reference) for reference in references]
    return tuple(rows)


def _by_name(meanings: set[MeaningRepresentation]) -> dict[str, list[frozenset[tuple[str, str]]]]:
    groups: dict[str, list[frozenset[tuple[str, str]]]] = {}
    for meaning in meanings:  # only membership is asked of the groups, so a set's order cannot show
        groups.setdefault(meaning.slots[0][1], []).append(frozenset(meaning.slots))
    return groups


def _pretraining(config: MicroworldConfig, held_out: dict[str, list[frozenset[tuple[str, str]]]]) -> tuple[str, ...]:
    draw = Draw(config.seed, "pretraining")
    passages: list[str] = []
    while len(passages) < config.passages:
        text, meanings = draw_passage(draw)
        told = any(
            facts.issubset(meaning.slots) for meaning in meanings for facts in held_out.get(meaning.slots[0][1], ())
        )
        if not told:
            passages.append(text)
    return tuple(passages)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def statistics(world: Microworld) -> dict[str, int | float]:
    """Rows and meaning representations of each split, passages, and word counts (words between spaces)."""
    splits = {"train": world.train, "dev": world.dev, "test": world.test}
    references = [row.reference for rows in splits.values() for row in rows]
    words = [word for text in (*references, *world.pretraining) for word in text.split()]
    return {
        **{f"{name}_rows": len(rows) for name, rows in splits.items()},
        **{f"{name}_meanings": len({row.mr for row in rows}) for name, rows in splits.items()},
        "passages": len(world.pretraining),
        "vocabulary_words": len({word.strip(".,?").lower() for word in words}),
        "mean_reference_words": round(sum(len(text.split()) for text in references) / len(references), 2),
        "mean_passage_words": round(sum(len(text.split()) for text in world.pretraining) / len(world.pretraining), 2),
    }


def _readme(world: Microworld, contents: dict[str, bytes]) -> str:
    counts = statistics(world)
    words = counts["mean_passage_words"]
    about = {
        "trainset.csv": f"{counts['train_rows']} rows, {counts['train_meanings']} meaning representations",
        "devset.csv": f"{counts['dev_rows']} rows, {counts['dev_meanings']} meaning representations",
        "testset.csv": f"{counts['test_rows']} rows, {counts['test_meanings']} meaning representations",
        "pretraining.txt": f"{counts['passages']} passages, one a line, {words} words each on average",
    }
    table = "".join(f"| {name} | {about[name]} | {sha256_bytes(contents[name])} |\n" for name in about)
    fewest, most = world.config.references
    return f"""# Microworld: an {LABEL}

Descriptions of invented places in the schema of the E2E NLG corpus (the same eight slots and, for the closed
ones, the same values), written by a seeded grammar. Names and landmarks are invented. It is not the E2E
corpus, and no figure measured on it compares with a published one: every table that uses it says "{LABEL}".

| file | contents | sha256 |
|---|---|---|
{table}
- Columns `mr` and `ref`, as in the E2E release; {fewest} to {most} references for each meaning
  representation, {counts["mean_reference_words"]} words on average. Each says every fact of its meaning
  representation and no other.
- No meaning representation stands in two splits. No pretraining passage states all the facts of a held-out
  one.
- {counts["vocabulary_words"]} different words. Seed {world.config.seed}.

Made by `python -m replication.corpora.microworld --output <this folder>`; the grammar is documented in
`replication/corpora/microworld_grammar.py`. The same seed gives the same bytes. Licence: Apache-2.0, as the
project.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the default corpus; 0 when done, 2 with a message when it cannot be written."""
    parser = argparse.ArgumentParser(description=f"Write the microworld, an {LABEL}.")
    parser.add_argument("--output", type=Path, default=Path("data/microworld"), help="folder to write")
    parser.add_argument("--json", action="store_true", help="print counts and hashes as JSON")
    options = parser.parse_args(arguments)
    try:
        hashes = write(options.output)
    except (ReplicationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = statistics(generate())
    if options.json:
        summary = {"label": LABEL, "directory": str(options.output), "config": asdict(MicroworldConfig())}
        print(json.dumps({**summary, "counts": counts, "sha256": hashes}, indent=2))
    else:
        print(f"{options.output}: {LABEL}")
        for name, value in counts.items():
            print(f"  {name.replace('_', ' ')}: {value}")
        for name, digest in hashes.items():
            print(f"  {digest}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
