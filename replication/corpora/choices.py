"""Multiple choice: BoolQ, ARC, OpenBookQA and HellaSwag.

ARC and OpenBookQA are read from LLM-Adapters' instruction files, out of which question, options and answer are
taken. Their rows, order and text are the releases' as far as could be seen: all counts agree, odd spaces and
misprints are left in, and a dozen of ARC-Challenge's test questions were compared with the release. The same place
has BoolQ without its passages, which is another task and has another name. BoolQ and HellaSwag themselves come
from the hub.

The prompts and HellaSwag's clean text are those of lm-evaluation-harness (commit 4e7e0d4; lm_eval/tasks:
super_glue/boolq, arc, openbookqa, hellaswag). It reports BoolQ's acc alone, and acc and acc_norm of the others, of
which acc_norm leads here. It reads BoolQ from SuperGLUE's copy, whose passages begin with the article's title and
" -- "; google/boolq's have no title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from replication.corpora.assembly import HubRow, RealCorpus
from replication.corpora.hub import HubCorpus
from replication.corpora.sourcefiles import parse_json
from replication.corpora.task_corpus import CorpusCard, Row
from replication.errors import DataError

NO_YES = ("no", "yes")
QUESTION = "Question: {question}\nAnswer:"
PASSAGE_FIRST = "{passage}\nQuestion: {question}\nAnswer:"
BARE = "{question}"
_CHOICE = re.compile(
    r"Please choose the correct answer to the question: (.*?)\n\n"
    r"(Answer1: .*?)\n\n"
    r"Answer format: (answer1(?:/answer\d)+)",
    re.DOTALL,
)
_TRUE_FALSE = re.compile(
    r"Please answer the following question with true or false, question: (.*?)\n\nAnswer format: true/false", re.DOTALL
)


def parse_instruct_choices(location: str, text: str) -> Iterator[Row]:
    """Rows of [{instruction, answer}] with `Answer1: ... Answer2: ...`; DataError names `location`, entry and field."""
    for where, instruction, answer in _instructions(location, text):
        match = _CHOICE.fullmatch(instruction)
        names = match[3].split("/") if match else []
        options = _options(match[2], len(names)) if match else None
        if match is None or options is None:
            raise DataError(
                f"{where}, field 'instruction': {instruction!r} is not a question with its options; fetch it again"
            )
        if answer not in names:
            raise DataError(f"{where}, field 'answer': {answer!r} is none of {', '.join(names)}; fetch it again")
        yield {"question": match[1], "choices": options, "answer": names.index(answer)}


def parse_instruct_boolq(location: str, text: str) -> Iterator[Row]:
    """Rows of [{instruction, answer: true|false}], only the question; DataError names `location`, entry and field."""
    for where, instruction, answer in _instructions(location, text):
        match = _TRUE_FALSE.fullmatch(instruction)
        if match is None:
            raise DataError(f"{where}, field 'instruction': {instruction!r} is no such question; fetch it again")
        if answer not in ("false", "true"):
            raise DataError(f"{where}, field 'answer': {answer!r} is not true or false; fetch it again")
        yield {"question": match[1], "choices": list(NO_YES), "answer": int(answer == "true")}


def _instructions(location: str, text: str) -> Iterator[tuple[str, str, str]]:
    values = parse_json(location, text)
    if not isinstance(values, list):
        raise DataError(f"{location}: not a list of entries; fetch the file again")
    for number, value in enumerate(values, start=1):
        where = f"{location}, entry {number}"
        for name in ("instruction", "answer"):
            if not isinstance(value, dict) or not isinstance(value.get(name), str):
                raise DataError(f"{where}: no text in field {name!r}; fetch the file again")
        yield where, value["instruction"], value["answer"]


def _options(text: str, count: int) -> list[str] | None:
    # Options hold no line break, so the marks "Answer1: " ... are the only structure: each must occur once.
    marks = list(re.finditer(r"(?:^| )Answer(\d): ", text))
    if [int(mark[1]) for mark in marks] != list(range(1, count + 1)):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]


def arc_row(part: str, raw: dict[str, Any]) -> Row:
    """One raw row of ARC or OpenBookQA; the right answer is named by its label (A, B ... or 1, 2 ...)."""
    labels = list(raw["choices"]["label"])
    question = raw["question_stem"] if "question_stem" in raw else raw["question"]
    return {"question": question, "choices": list(raw["choices"]["text"]), "answer": labels.index(raw["answerKey"])}


def boolq_row(part: str, raw: dict[str, Any]) -> Row:
    """One raw row of BoolQ: the passage, and the question with its question mark."""
    return {
        "passage": raw["passage"],
        "question": f"{raw['question']}?",
        "choices": list(NO_YES),
        "answer": int(raw["answer"]),
    }


def hellaswag_row(part: str, raw: dict[str, Any]) -> Row:
    """One raw row of HellaSwag: activity and context, and four endings, without the marks of WikiHow texts.

    An ending of nothing but marks is left as it is.
    """
    question = f"{raw['activity_label']}: {raw['ctx_a']} {raw['ctx_b'].capitalize()}"
    clean = map(_without_marks, raw["endings"])
    return {
        "question": _without_marks(question),
        "choices": [text if text.strip() else ending for text, ending in zip(clean, raw["endings"], strict=True)],
        "answer": int(raw["label"]),
    }


def _without_marks(text: str) -> str:
    """`text` without [header], [step] ...; a [title] ends a sentence. Single blanks between words stay single."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _published(prompt: str) -> dict[str, str]:
    return {"prompt": prompt, "length": "characters", "source": "lm-evaluation-harness"}


def _corpus(
    name: str,
    label: str,
    licence: str,
    counts: dict[str, int],
    hub: tuple[str, str, str | None],
    row: HubRow,
    note: str,
    prompt: str = QUESTION,
    metric: str = "acc_norm",
    files: str | None = None,
    fallback: str | None = None,
) -> RealCorpus:
    reported = list(counts)[1]
    hub_split = {"dev": "validation", "test": "test"}[reported]
    on_disk = {split: (f"{files}-{split}.json", parse_instruct_choices) for split in counts} if files else {}
    return RealCorpus(
        card=CorpusCard(
            name, label, "multiple_choice", metric, None, reported, True, licence, note, evaluation=_published(prompt)
        ),
        counts=counts,
        files=on_disk,
        hub=HubCorpus(*hub, splits={"train": ("train",), reported: (hub_split,)}),
        hub_row=row,
        fallback=fallback,
    )


_ARC = ("allenai/ai2_arc", "210d026faf9955653af8916fad021475a3f00453")
_LABELS_NOTE = "Labels of the test split are not public: scored on dev."
_ALL = (
    _corpus(
        "boolq",
        "BoolQ",
        "CC BY-SA 3.0",
        {"train": 9427, "dev": 3270},
        ("google/boolq", "35b264d03638db9f4ce671b711558bf7ff0f80d5", None),
        boolq_row,
        f"Passages without their titles. {_LABELS_NOTE}",
        prompt=PASSAGE_FIRST,
        metric="acc",
        fallback="boolq_closed_book",
    ),
    _corpus(
        "arc_easy",
        "ARC-Easy",
        "CC BY-SA 4.0",
        {"train": 2251, "test": 2376},
        (*_ARC, "ARC-Easy"),
        arc_row,
        "The complete test split; 3 to 5 options.",
        files="arc-easy",
    ),
    _corpus(
        "arc_challenge",
        "ARC-Challenge",
        "CC BY-SA 4.0",
        {"train": 1119, "test": 1172},
        (*_ARC, "ARC-Challenge"),
        arc_row,
        "The complete test split; 3 to 5 options.",
        files="arc-challenge",
    ),
    _corpus(
        "openbookqa",
        "OpenBookQA",
        "Apache-2.0",
        {"train": 4957, "test": 500},
        ("allenai/openbookqa", "388097ea7776314e93a529163e0fea805b8a6454", "main"),
        arc_row,
        "Questions without the book of facts; the complete test split.",
        prompt=BARE,
        files="openbookqa",
    ),
    _corpus(
        "hellaswag",
        "HellaSwag",
        "MIT",
        {"train": 39_905, "dev": 10_042},
        ("Rowan/hellaswag", "218ec52e09a7e7462a5400043bb9a69a41d06b76", None),
        hellaswag_row,
        f"{_LABELS_NOTE} The marks of WikiHow texts ([title], [step]) are removed.",
        prompt=BARE,
    ),
    RealCorpus(
        card=CorpusCard(
            "boolq_closed_book",
            "BoolQ without passages",
            "multiple_choice",
            "acc",
            None,
            "dev",
            False,
            "CC BY-SA 3.0",
            "Every question of BoolQ's train and dev splits, but no passage: the answer must be known. Never compares "
            "with BoolQ. Always yes scores 62.2 %.",
        ),
        counts={"train": 9427, "dev": 3270},
        files={split: (f"boolq-{split}.json", parse_instruct_boolq) for split in ("train", "dev")},
    ),
)
CORPORA = {corpus.card.name: corpus for corpus in _ALL}
