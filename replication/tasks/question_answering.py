"""Extractive question answering: a question and a context in, a piece of the context's text out.

Implementation details:

1. The answer's tokens are found among all tokens of the context, then looked up in each window (windows.py). A window
   that does not hold every one of them is labelled as having no answer (the position of CLS): also one whose edge cuts
   the answer, or a character of several byte tokens.
2. A token belongs to the answer when it shares a character with it. Byte-level tokens take their leading space along
   and an answer may begin in the middle of a token, so the tokens can cover more than the answer, never less.
3. The softmax of the loss is over every token except padding, so a window's loss does not depend on its batch.
4. In prediction the score of a span is start logit + end logit, compared over all windows, as in BERT's and Hugging
   Face's scripts; no answer scores as CLS does, the least of all windows. The text is cut out of the context as it was
   given, by characters, without surrounding white space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError, DataError, TrainingError
from replication.tasks.base import (
    Batch,
    Fit,
    Options,
    Progress,
    Row,
    RowsDone,
    TaskForm,
    batches_by_length,
    check_positions,
    check_rows,
    collate_inputs,
    encoder_output,
    evaluating,
    hint,
    ids_of,
    location,
    rounded,
    to_device,
)
from replication.tasks.windows import Span, Window, answer_tokens, best_span, positions_in, windows_of

if TYPE_CHECKING:
    import torch

ROOM = 16
"""Least distance between `stride` and `max_length`: for the question, special tokens and a step forward."""


@dataclass(frozen=True)
class QuestionAnsweringOptions(Options):
    """`max_length`: tokens of a window, question and special ones included; `stride`: tokens two windows share.

    `max_question_length`: tokens of a question that are kept (see `windows_of`). `max_answer_length`: tokens of a
    predicted answer. `n_best`: starts tried in each window. `no_answer`: whether a question may have none (SQuAD v2);
    then "" is predicted where no answer scores higher than the best span by more than `null_threshold`.
    """

    max_length: int = 384
    stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    n_best: int = 20
    no_answer: bool = False
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole("stride", 0)
        for name in ("max_length", "max_question_length", "max_answer_length", "n_best"):
            self.whole(name, 1)
        if self.max_length < self.stride + ROOM:
            self.refuse("max_length", f"at least stride + {ROOM} = {self.stride + ROOM}")
        if not isinstance(self.no_answer, bool):
            self.refuse("no_answer", "true or false")
        self.number("null_threshold")


@dataclass(frozen=True)
class QuestionAnsweringExample:
    """One window; `start` and `end` are the positions of the answer's first and last token, or both that of CLS."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    start: int
    end: int
    text: str = ""

    def __len__(self) -> int:
        return len(self.input_ids)


class QuestionAnswering(TaskForm):
    """Rows {"id", "question", "context", "answers": [{"text", "start"}], "impossible": bool}."""

    name = "question_answering"
    model_task = "question_answering"
    options_class = QuestionAnsweringOptions

    def encode(
        self, tokenizer: Any, rows: Sequence[Row], options: QuestionAnsweringOptions
    ) -> list[QuestionAnsweringExample]:
        """One example per window, with the row's first answer; DataError names row and field."""
        check_rows(self.name, rows)
        answers = list(map(_answers, rows))
        examples = []
        for windows in _windows(tokenizer, rows, options):
            index = windows[0].row
            tokens = None
            if answers[index]:
                start, text = answers[index][0]
                tokens = answer_tokens(windows, start, start + len(text))
                if tokens is None:
                    raise DataError(f"{location(rows[index], index + 1)}: field 'answers': {text!r} has no token")
            shown = hint(rows[index]["question"], rows[index]["context"])
            for window in windows:
                start, end = positions_in(window, tokens)
                examples.append(QuestionAnsweringExample(window.input_ids, window.token_type_ids, start, end, shown))
        return examples

    def fit(self, tokenizer: Any, rows: Sequence[Row], options: QuestionAnsweringOptions) -> Fit:
        """Every window is an example; `truncated`: rows with an answer that no window holds whole."""
        check_rows(self.name, rows)
        lengths: list[int] = []
        lost = 0
        for windows in _windows(tokenizer, rows, options):
            lengths += map(len, windows)
            if answers := _answers(rows[windows[0].row]):
                start, text = answers[0]
                tokens = answer_tokens(windows, start, start + len(text))
                if tokens is None:
                    index = windows[0].row
                    raise DataError(f"{location(rows[index], index + 1)}: field 'answers': {text!r} has no token")
                lost += all(positions_in(window, tokens) == (window.cls, window.cls) for window in windows)
        return Fit(len(rows), tuple(lengths), lost)

    def collate(self, batch: Sequence[QuestionAnsweringExample], pad_id: int) -> Batch:
        """`input_ids`, `attention_mask`, perhaps `token_type_ids`: (windows, longest); `starts`, `ends`: (windows,)."""
        import torch

        return {
            **collate_inputs(batch, pad_id),
            "starts": torch.tensor([example.start for example in batch]),
            "ends": torch.tensor([example.end for example in batch]),
        }

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of the cross entropies of start and end, summed over the windows, and their number.

        Smoothing spreads over the tokens that are no padding.
        """
        output = encoder_output(model, batch)
        real = batch["attention_mask"].bool()
        start = _cross_entropy(output.start_logits.float(), real, batch["starts"], label_smoothing)
        end = _cross_entropy(output.end_logits.float(), real, batch["ends"], label_smoothing)
        return (start + end) / 2, start.new_tensor(len(real))

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", "answers": [str]}; no answer for an impossible question."""
        check_rows(self.name, rows)
        answers = map(_answers, rows)
        return [
            {"id": name, "answers": [text for _, text in found]}
            for name, found in zip(ids_of(rows), answers, strict=True)
        ]

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: QuestionAnsweringOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": str, "answers": [str], "no_answer_score": float}, with `no_answer` also "span": str.

        `no_answer_score`: score of no answer minus that of the best span (the official scripts' null odds), whether or
        not `no_answer` lets it win. `span`: the text of the best span, which is the prediction unless no answer won. Of
        equal spans the first in the text wins.
        """
        golden = self.gold(rows)
        if not options.no_answer and (impossible := [truth for truth in golden if not truth["answers"]]):
            raise ConfigError(
                f"row {impossible[0]['id']!r} has no answer, but the task option no_answer is false; set it to true"
            )
        windows = [window for group in _windows(tokenizer, rows, options) for window in group]
        check_positions(model, map(len, windows), "max_length")
        null, spans = self._judge(model, tokenizer, rows, windows, options, progress)
        predictions = []
        for row, truth, least, span in zip(rows, golden, null, spans, strict=True):
            if span is None:
                raise DataError(f"row {truth['id']!r}: field 'context' has no visible token in this vocabulary")
            score = rounded(least - span.score, truth["id"])
            text = row["context"][span.start : span.end].strip()
            says_none = options.no_answer and score > options.null_threshold
            found = {**truth, "prediction": "" if says_none else text, "no_answer_score": score}
            predictions.append({**found, "span": text} if options.no_answer else found)
        return predictions

    def _judge(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        windows: Sequence[Window],
        options: QuestionAnsweringOptions,
        progress: Progress | None,
    ) -> tuple[list[float], list[Span | None]]:
        """For each row the least score of no answer and the best span of its windows."""
        finished = RowsDone([window.row for window in windows], progress)
        judged: dict[int, tuple[float, Span | None]] = {}
        with evaluating(model) as device:
            for indices in batches_by_length([len(window) for window in windows], options.batch_size):
                batch = collate_inputs([windows[index] for index in indices], tokenizer.pad_token_id)
                output = encoder_output(model, to_device(batch, device))
                starts, ends = (logits.float().cpu().numpy() for logits in (output.start_logits, output.end_logits))
                for line, index in enumerate(indices):
                    window = windows[index]
                    null = float(starts[line, window.cls]) + float(ends[line, window.cls])
                    if not math.isfinite(null):
                        raise TrainingError(
                            f"row {rows[window.row]['id']!r}: the model returns {null}; training diverged"
                        )
                    judged[index] = (
                        null,
                        best_span(
                            window,
                            starts[line],
                            ends[line],
                            rows[window.row]["context"],
                            n_best=options.n_best,
                            max_answer_length=options.max_answer_length,
                        ),
                    )
                finished.done(indices)
        least: list[float] = [math.inf] * len(rows)
        best: list[Span | None] = [None] * len(rows)
        for index, window in enumerate(windows):  # in the order of the text: the first of equals wins
            null, span = judged[index]
            least[window.row] = min(least[window.row], null)
            held = best[window.row]
            if span is not None and (held is None or span.score > held.score):
                best[window.row] = span
        return least, best


def _windows(tokenizer: Any, rows: Sequence[Row], options: QuestionAnsweringOptions) -> Iterable[list[Window]]:
    return windows_of(
        tokenizer,
        rows,
        max_length=options.max_length,
        stride=options.stride,
        max_question_length=options.max_question_length,
    )


def _cross_entropy(logits: torch.Tensor, real: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Summed over the rows of `logits` (rows, positions); positions that are not `real` do not exist."""
    log_p = logits.masked_fill(~real, float("-inf")).log_softmax(dim=-1)
    loss = -(1 - smoothing) * log_p.gather(1, targets[:, None]).sum()
    if smoothing:
        means = log_p.masked_fill(~real, 0.0).sum(dim=-1) / real.sum(dim=-1)
        loss = loss - smoothing * means.sum()
    return loss


def _answers(row: Row) -> list[tuple[int, str]]:
    """Start and text of every answer, without white space around it; none for an impossible question."""
    found = []
    for answer in row["answers"]:
        text, start = answer["text"], answer["start"]
        found.append((start + len(text) - len(text.lstrip()), text.strip()))
    return found
