"""A question and its context as windows of tokens, and the way between characters and tokens.

A long context is cut into windows; neighbours share `stride` of its tokens (Hugging Face's sense of the word; in BERT's
script it is the distance between two starts). The question comes first in each window and is never cut by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replication.errors import ConfigError, DataError
from replication.tasks.base import Row, location, text_of

_CHUNK = 256  # rows tokenised at a time: offsets are large


@dataclass(frozen=True)
class Window:
    """A piece of one row's context after its question.

    `row`: index of the row. `cls`: position of the CLS token. `context_start`: position of the first context token;
    `first`: which of all the context's tokens that is, from 0. `offsets`: int32 array (context tokens of the window,
    2), the characters of each, end exclusive.
    """

    row: int
    input_ids: list[int]
    token_type_ids: list[int] | None
    cls: int
    context_start: int
    first: int
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


def windows_of(
    tokenizer: Any, rows: Sequence[Row], *, max_length: int, stride: int, max_question_length: int
) -> Iterator[list[Window]]:
    """The windows of each row in the order of its text, row by row.

    A question keeps its first `max_question_length` tokens, and never more than (max_length - stride) // 2, so that
    every window is processed. ConfigError for a tokenizer without CLS token or offsets; DataError names row and field.
    """
    if not getattr(tokenizer, "is_fast", False) or tokenizer.cls_token_id is None:
        raise ConfigError(
            f"{type(tokenizer).__name__}: question answering needs a fast tokenizer (for character offsets) with a CLS "
            "token, the position for no answer"
        )
    limit = min(max_question_length, (max_length - stride) // 2)
    for begin in range(0, len(rows), _CHUNK):
        chunk = range(begin, min(begin + _CHUNK, len(rows)))
        contexts = [text_of(rows[index], "context", index + 1) for index in chunk]
        questions = [text_of(rows[index], "question", index + 1, blank=True).strip() for index in chunk]
        encoded = tokenizer(
            _shortened(tokenizer, questions, limit),
            contexts,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
        )
        groups: list[list[Window]] = [[] for _ in chunk]
        owners = encoded["overflow_to_sample_mapping"]
        types = encoded.get("token_type_ids", [None] * len(owners))
        for encoding, owner, type_ids in zip(encoded.encodings, owners, types, strict=True):
            before = groups[owner][-1] if groups[owner] else None
            first = before.first + len(before.offsets) - stride if before else 0
            where = location(rows[chunk[owner]], chunk[owner] + 1)
            groups[owner].append(_window(encoding, type_ids, tokenizer.cls_token_id, chunk[owner], first, where))
        yield from groups


def _window(encoding: Any, types: list[int] | None, cls_id: int, row: int, first: int, where: str) -> Window:
    in_context = [position for position, part in enumerate(encoding.sequence_ids) if part == 1]
    if not in_context:
        raise DataError(f"{where}: field 'context' has no token in this vocabulary")
    if cls_id not in encoding.ids:
        raise ConfigError(
            "question answering needs a tokenizer whose template puts the CLS token, which means no answer, into "
            "every pair of texts"
        )
    start, end = in_context[0], in_context[-1] + 1
    offsets = np.array(encoding.offsets[start:end], dtype=np.int32)
    return Window(row, encoding.ids, types, encoding.ids.index(cls_id), start, first, offsets)


def _shortened(tokenizer: Any, questions: list[str], limit: int) -> list[str]:
    """Each question cut after its `limit`-th token."""
    encoded = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True, padding=False)
    return [
        question[: offsets[limit - 1][1]] if len(offsets) > limit else question
        for question, offsets in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def answer_tokens(windows: Sequence[Window], start: int, end: int) -> tuple[int, int] | None:
    """First and last of all the context's tokens that share a character with [start, end); None if none does."""
    found: list[int] = []
    for window in windows:
        touching = (window.offsets[:, 0] < end) & (window.offsets[:, 1] > start)
        found += (window.first + np.flatnonzero(touching)).tolist()
    return (min(found), max(found)) if found else None


def positions_in(window: Window, tokens: tuple[int, int] | None) -> tuple[int, int]:
    """Positions of those tokens in the window, or twice that of CLS unless the window holds all of them."""
    if tokens is None or tokens[0] < window.first or tokens[1] >= window.first + len(window.offsets):
        return window.cls, window.cls
    shift = window.context_start - window.first
    return tokens[0] + shift, tokens[1] + shift


@dataclass(frozen=True)
class Span:
    """A candidate: its score and the characters [start, end) of the context."""

    score: float
    start: int
    end: int


def best_span(
    window: Window, starts: np.ndarray, ends: np.ndarray, context: str, *, n_best: int, max_answer_length: int
) -> Span | None:
    """The span of the greatest start + end score among the window's context tokens, at most `max_answer_length` long.

    `starts`, `ends`: scores at the window's positions (padding may follow). The `n_best` best starts are tried, each
    with the best end in its reach; of ties the first. Tokens without a visible character neither begin nor
    end a span; None if there is no other.
    """
    visible = np.array([bool(context[start:end].strip()) for start, end in window.offsets])
    positions = slice(window.context_start, window.context_start + len(window.offsets))
    starts = np.where(visible, starts[positions].astype(np.float64), -np.inf)
    ends = np.where(visible, ends[positions].astype(np.float64), -np.inf)
    best = None
    for first in sorted(np.argsort(-starts, kind="stable")[:n_best].tolist()):
        reach = ends[first : first + max_answer_length]
        last = first + int(np.argmax(reach))
        score = float(starts[first] + ends[last])
        if score > -np.inf and (best is None or score > best.score):
            best = Span(score, int(window.offsets[first, 0]), int(window.offsets[last, 1]))
    return best
