"""The README of the microworld's tasks: what each is, an example, and the files' hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from replication.corpora.microworld import LABEL
from replication.fileio import sha256_bytes
from studies.microworld.facts import Item

ABOUT = {
    "acceptability": "Is the sentence correct? Half have one slip: a verb of the wrong number, the wrong article, a "
    "verb, article or `of` left out, two words the wrong way round.",
    "sentiment": "Is the verdict of the opinion good or bad? A remark stands beside it that agrees or speaks against "
    "it, and either may be negated.",
    "paraphrase": "Do the two texts say the same? Where not, one fact has another value.",
    "entailment": "Does the premise (`text`) entail the hypothesis (`pair`), contradict it, or say nothing of it? The "
    "hypothesis comes from one distribution for all labels, and the premise has as many facts under each.",
    "similarity": "How many of five facts (the name and four more) do the two texts share?",
    "qa": "A question about one of two or three places of a passage; the answer is a span of it.",
    "qa_unanswerable": "As `qa`; half of the questions have no answer in the passage.",
    "headlines": "A report, and the headline with its key facts: kind of place, name, event, where.",
    "choice": "A passage of two places, a question, four choices of one slot, one of them right.",
}


def readme(
    splits: Mapping[str, Mapping[str, Sequence[Item]]],
    passages: Sequence[str],
    contents: Mapping[str, bytes],
    seed: int,
) -> str:
    """Text of the folder's README.md."""
    counts = {f"{task}/{split}.jsonl": f"{len(items)} rows" for task in splits for split, items in splits[task].items()}
    words = round(sum(len(text.split()) for text in passages) / len(passages), 2)
    counts["pretraining.txt"] = f"{len(passages)} passages, one a line, {words} words each on average"
    table = "".join(f"| {name} | {about} | {sha256_bytes(contents[name])} |\n" for name, about in counts.items())
    shapes = "".join(f"## {task}\n\n{ABOUT[task]}\n\n{_example(parts)}\n" for task, parts in splits.items())
    return f"""# Tasks of the microworld: an {LABEL}

Eight task shapes (and extractive questions without an answer, a ninth) over the invented places of the microworld,
written by a seeded grammar. They are not GLUE, SQuAD or any other published task, and no figure measured on them
compares with a published one: every table that uses them says "{LABEL}".

- A label follows from the facts that a row was made from: there is no label noise. A place has one value of each
  slot, so `serves Italian food` contradicts `serves French food`; values that a reader could hold together (`cheap`
  and `less than £20`, two landmarks) are never set against each other.
- Labels take turns: every split has as many rows of each, to one.
- No row of `test.jsonl` shares a meaning representation (sentiment: remark and verdict) with a row of `train.jsonl`.
  No passage of `pretraining.txt` states all the facts of a place in a test row of any task or in a held-out
  description of `data/microworld`, or quotes the remark and verdict of a test opinion.
- Seed {seed}. The same seed gives the same bytes.

| file | contents | sha256 |
|---|---|---|
{table}
{shapes}Made by `python -m replication.corpora.microworld_tasks --output <this folder>`; each task is documented in the
module of `replication/corpora` that draws it. Licence: Apache-2.0, as the project.
"""


def _example(parts: Mapping[str, Sequence[Item]]) -> str:
    return f"```json\n{json.dumps(parts['train'][0].row, ensure_ascii=False, indent=1)}\n```\n"
