"""SQuAD v1.1 (Rajpurkar et al. 2016) and v2 (Rajpurkar et al. 2018): every gold answer, offsets in characters.

Scores are given on the dev split, the test set being kept back. The v1.1 dev file is the official one; training
rows, and all of v2, come from the hub at pinned revisions, or from smaller files under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from replication.corpora.assembly import RealCorpus
from replication.corpora.hub import HubCorpus
from replication.corpora.sourcefiles import parse_json, parse_jsonl
from replication.corpora.task_corpus import CorpusCard, Row
from replication.errors import DataError

LICENCE = "CC BY-SA 4.0"
V1_COUNTS = {"train": 87_599, "dev": 10_570}
V2_COUNTS = {"train": 130_319, "dev": 11_873}
# Of the half dev file of v2, sixteen articles, every fourth is scored: no paragraph is in both parts.
_HELD_OUT = 4


def parse_squad(location: str, text: str, keep: Callable[[int], bool] = lambda article: True) -> Iterator[Row]:
    """Rows of the official JSON form, of the articles (0, 1, ...) for which `keep` is true.

    DataError names `location`, the article, the question's id and the field; the answers' positions are
    checked with the rows.
    """
    value = parse_json(location, text)
    for number, article in enumerate(_field(value, "data", location)):
        if not keep(number):
            continue
        where = f"{location}, article {article.get('title', number)!r}"
        for paragraph in _field(article, "paragraphs", where):
            context = _field(paragraph, "context", where)
            for item in _field(paragraph, "qas", where):
                here = f"{where}, question {item.get('id')!r}"
                answers = [
                    {"text": _field(answer, "text", here), "start": _field(answer, "answer_start", here)}
                    for answer in _field(item, "answers", here)
                ]
                yield {
                    "id": _field(item, "id", here),
                    "question": _field(item, "question", here),
                    "context": context,
                    "answers": answers,
                    "impossible": item.get("is_impossible", False),
                }


def parse_unique_answers(location: str, text: str) -> Iterator[Row]:
    """Rows of JSON lines {context, question, answer} whose answer occurs exactly once in the context.

    These lines have no answer position. If the text occurs more than once (overlapping or not), the position is
    ambiguous and the row is left out; if it does not occur, a DataError names the line.
    """
    for number, value in parse_jsonl(location, text):
        where = f"{location}, line {number}"
        context, answer = _field(value, "context", where), _field(value, "answer", where)
        start = context.find(answer) if answer else -1
        if start < 0:
            raise DataError(f"{where}: field 'answer' is {answer!r}, which is not in the context; fetch the file again")
        if context.find(answer, start + 1) < 0:
            yield {
                "question": _field(value, "question", where),
                "context": context,
                "answers": [{"text": answer, "start": start}],
                "impossible": False,
            }


def hub_row(part: str, raw: dict[str, Any]) -> Row:
    """One raw row of the hub, which keeps texts and starts in two lists; no answers means impossible (v2)."""
    pairs = zip(raw["answers"]["text"], raw["answers"]["answer_start"], strict=True)
    answers = [{"text": text, "start": int(start)} for text, start in pairs]
    return {
        "id": raw["id"],
        "question": raw["question"],
        "context": raw["context"],
        "answers": answers,
        "impossible": not answers,
    }


def _field(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise DataError(f"{where}: field {name!r} is missing; the file does not have SQuAD's form, fetch it again")
    return value[name]


def _card(name: str, label: str, metric: str, note: str, comparable: bool = True) -> CorpusCard:
    evaluation = {"no_answer": metric == "squad_v2"}
    return CorpusCard(
        name, label, "question_answering", metric, None, "dev", comparable, LICENCE, note, evaluation=evaluation
    )


_SPLITS = {"train": ("train",), "dev": ("validation",)}
_DEV_V1 = ("squad-v1-dev.json", parse_squad)
_HALF = "squad-v2-dev-half.json"

_ALL = (
    RealCorpus(
        card=_card("squad_v1", "SQuAD v1.1", "squad_v1", "Scored on the dev split: the test set is not public."),
        counts=V1_COUNTS,
        files={"dev": _DEV_V1},
        hub=HubCorpus("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f", None, _SPLITS),
        hub_row=hub_row,
        fallback="squad_v1_subset",
    ),
    RealCorpus(
        card=_card("squad_v2", "SQuAD v2", "squad_v2", "Scored on the dev split: the test set is not public."),
        counts=V2_COUNTS,
        hub=HubCorpus("rajpurkar/squad_v2", "3ffb306f725f7d2ce8394bc1873b24868140c412", None, _SPLITS),
        hub_row=hub_row,
        fallback="squad_v2_subset",
    ),
    RealCorpus(
        card=_card(
            "squad_v1_subset",
            "SQuAD v1.1, 7,228 training questions",
            "squad_v1",
            "Trained on 7,228 of 87,599 training questions, those of a merged subset of 8,149 whose answer stands once "
            "in its paragraph (the files give no position); scored on the complete official v1.1 dev split.",
        ),
        counts={"train": 7228, "dev": V1_COUNTS["dev"]},
        files={"train": ("squad-v1-train-subset.jsonl", parse_unique_answers), "dev": _DEV_V1},
    ),
    RealCorpus(
        card=_card(
            "squad_v2_subset",
            "SQuAD v2, half of dev",
            "squad_v2",
            "One half (CS224N) of the official v2 dev split, cut by article: twelve to train on, four to score on. "
            "Never compares with SQuAD v2.",
            comparable=False,
        ),
        counts={"train": 4611, "dev": 1467},
        files={
            "train": (_HALF, partial(parse_squad, keep=lambda article: article % _HELD_OUT != _HELD_OUT - 1)),
            "dev": (_HALF, partial(parse_squad, keep=lambda article: article % _HELD_OUT == _HELD_OUT - 1)),
        },
    ),
)
CORPORA = {corpus.card.name: corpus for corpus in _ALL}
