"""Multiple choice by likelihood: a causal language model scores each choice as a continuation of the question.

Training uses the right choice given the question; the prediction is the choice whose log-probability is greatest, as it
is (acc) or over its length (acc_norm). Both scores follow from the predictions. Implementation details:

1. `prompt` frames the question, and the passage where a corpus has one; a space joins the choice to it. White space at
   the end of the prompt goes to the choice, as in lm-evaluation-harness, and no other is added or taken away. A
   tokenizer that begins texts with a special token (Llama 3) begins the prompt with it. Nothing is put after a choice,
   in training or in prediction.
2. The length is that of the choice's own text: in characters (lm-evaluation-harness's acc_norm), in UTF-8 bytes, or in
   tokens.
3. A prompt that is too long loses its first tokens, as many for every choice of a row, so that all are scored after
   the same context. A choice is never cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from replication.errors import DataError
from replication.examples import Encoded, collate
from replication.tasks.base import (
    OF_THE_RUN,
    Batch,
    Fit,
    Options,
    Progress,
    Row,
    RowsDone,
    TaskForm,
    check_positions,
    check_rows,
    first_best,
    hint,
    ids_of,
    location,
    log_probabilities,
    rounded,
)

if TYPE_CHECKING:
    import torch

QUESTION, PASSAGE = "{question}", "{passage}"
_FIELD = re.compile(r"\{(question|passage)\}")
LENGTHS: dict[str, Callable[[str, int], int]] = {
    "characters": lambda text, tokens: len(text),
    "bytes": lambda text, tokens: len(text.encode()),
    "tokens": lambda text, tokens: tokens,
}
"""Divisor of a choice's log-probability, from its text and its number of tokens."""


@dataclass(frozen=True)
class MultipleChoiceOptions(Options):
    """`max_length`: tokens of prompt and choice together; `prompt`: text around {question} and {passage}; `length`: see
    LENGTHS; both by default the corpus card's. `metric`, from the card: acc predicts by log-probabilities as they are.
    """

    batch_size: int = 16
    max_length: int = 256
    prompt: str = f"Question: {QUESTION}\nAnswer:"
    length: str = "characters"
    metric: str = field(default="acc_norm", metadata=OF_THE_RUN)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole("max_length", 2)
        prompt = self.prompt if isinstance(self.prompt, str) else ""
        if prompt.count(QUESTION) != 1 or prompt.count(PASSAGE) > 1 or prompt != prompt.rstrip():
            self.refuse("prompt", f"text with {QUESTION} in it once, {PASSAGE} at most once, no white space at its end")
        if self.length not in LENGTHS:
            self.refuse("length", f"one of {', '.join(LENGTHS)}")


class MultipleChoice(TaskForm):
    """Rows {"id", "question", "choices": [str], "answer": int}, and "passage" where the prompt has one."""

    name = "multiple_choice"
    model_task = "causal_lm"
    options_class = MultipleChoiceOptions

    def encode(self, tokenizer: Any, rows: Sequence[Row], options: MultipleChoiceOptions) -> list[Encoded]:
        """One example per row, of the right choice; DataError names row and field of what cannot be used."""
        check_rows(self.name, rows)
        encoded = (_encode_choices(tokenizer, row, number, options) for number, row in enumerate(rows, start=1))
        return [examples[row["answer"]] for row, examples in zip(rows, encoded, strict=True)]

    def fit(self, tokenizer: Any, rows: Sequence[Row], options: MultipleChoiceOptions) -> Fit:
        """The longest choice of a row counts; `truncated`: rows whose prompt is cut."""
        check_rows(self.name, rows)
        encoded = [_encode_choices(tokenizer, row, number, options) for number, row in enumerate(rows, start=1)]
        cut = sum(bool(examples[0].dropped_tokens) for examples in encoded)
        return Fit(len(rows), tuple(max(map(len, examples)) for examples in encoded), cut)

    def collate(self, batch: Sequence[Encoded], pad_id: int) -> Batch:
        """`input_ids`, `attention_mask`, `loss_mask` (1 on the choice's tokens): (examples, longest)."""
        return collate(batch, pad_id)

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """The token loss summed over the choices' tokens, and their number."""
        from replication.training.losses import token_loss

        return token_loss(model, batch, label_smoothing=label_smoothing)

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", "label": int}."""
        check_rows(self.name, rows)
        return [{"id": name, "label": row["answer"]} for name, row in zip(ids_of(rows), rows, strict=True)]

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: MultipleChoiceOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": int, "label": int, "log_likelihoods", "lengths"}, one of each a choice.

        Of equal choices the first wins.
        """
        golden = self.gold(rows)
        encoded = [_encode_choices(tokenizer, row, number, options) for number, row in enumerate(rows, start=1)]
        parts = [example for examples in encoded for example in examples]
        owners = [index for index, examples in enumerate(encoded) for _ in examples]
        check_positions(model, map(len, parts), "max_length")
        finished = RowsDone(owners, progress).done
        totals = iter(log_probabilities(model, parts, tokenizer.pad_token_id, options.batch_size, finished))
        predictions = []
        for row, truth, examples in zip(rows, golden, encoded, strict=True):
            values = [rounded(next(totals), truth["id"]) for _ in examples]
            lengths = [
                LENGTHS[options.length](text, sum(example.loss_mask))
                for text, example in zip(row["choices"], examples, strict=True)
            ]
            over = [1] * len(values) if options.metric == "acc" else lengths
            best = first_best([value / length for value, length in zip(values, over, strict=True)])
            predictions.append({**truth, "prediction": best, "log_likelihoods": values, "lengths": lengths})
        return predictions


def _encode_choices(tokenizer: Any, row: Row, number: int, options: MultipleChoiceOptions) -> list[Encoded]:
    """Prompt and choice for every choice of a row, each after the same tokens of the prompt."""
    if PASSAGE in options.prompt and "passage" not in row:
        raise DataError(f"{location(row, number)}: field 'passage' is missing, but the prompt has {PASSAGE}")
    text = _FIELD.sub(lambda found: row[found[1]], options.prompt)
    stem, choices = text.rstrip(), row["choices"]
    opening = _opening(tokenizer)
    prompt = tokenizer.encode(stem, add_special_tokens=False)
    completions = [tokenizer.encode(f"{text[len(stem) :]} {choice}", add_special_tokens=False) for choice in choices]
    room = options.max_length - len(opening) - max(map(len, completions))
    if room < 1:
        raise DataError(
            f"{location(row, number)}: field 'choices': the longest takes {max(map(len, completions))} tokens, which "
            f"leaves no room for the question within max_length={options.max_length}; raise it or remove the row"
        )
    dropped = max(0, len(prompt) - room)
    context = [*opening, *prompt[dropped:]]
    return [
        Encoded(
            [*context, *completion],
            [0] * len(context) + [1] * len(completion),
            text=hint(row["question"], choice),
            dropped_tokens=dropped,
        )
        for choice, completion in zip(choices, completions, strict=True)
    ]


def _opening(tokenizer: Any) -> list[int]:
    """The tokenizer's prefix of every text: its bos token, or nothing."""
    bare, wrapped = (tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
    return wrapped[: wrapped.index(bare[0])]
