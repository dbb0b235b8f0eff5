"""The interface of a task form (examples, batches, a loss and predictions) and shared helpers.

A form (classification, question answering, ...) knows the shape of its rows and nothing of a corpus, a method or a run.
torch is imported only where a model is at work.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from replication.corpora.rows import Labels, row_problem
from replication.errors import ConfigError, DataError, TrainingError
from replication.examples import Encoded, collate

if TYPE_CHECKING:
    import torch
    from torch import nn

Row = Mapping[str, Any]
Progress = Callable[[int], None]
Batch = dict[str, "torch.Tensor"]

DECIMALS = 6
"""Digits kept of a number in a prediction: fewer than float32 has, so that the order of a sum cannot show."""

_PADDED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")  # their first token is at pad_token_id + 1


OF_THE_RUN = {"of_the_run": True}
"""Metadata of an option set by a run (training, backbone, corpus), never by a task; a record has it elsewhere."""


@dataclass(frozen=True)
class Options:
    """Settings of a form; `batch_size` counts the examples of one forward pass in prediction."""

    batch_size: int = 32

    def __post_init__(self) -> None:
        self.whole("batch_size", 1)

    def recorded(self) -> dict[str, Any]:
        """Settings other than the model that affect the predictions, for records."""
        return {field.name: getattr(self, field.name) for field in fields(self) if not field.metadata}

    def whole(self, name: str, least: int) -> None:
        """ConfigError unless the field is a whole number of at least `least`."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(name, f"a whole number of at least {least}")

    def number(self, name: str) -> None:
        """ConfigError unless the field is a finite number."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse(name, "a finite number")

    def refuse(self, name: str, valid: str) -> None:
        """Raise a ConfigError with the valid values."""
        raise ConfigError(f"task option {name}={getattr(self, name)!r}; valid is {valid}")


@dataclass(frozen=True)
class Fit:
    """How the rows of a split fit the settings of a run.

    `lengths`: tokens of each training example that the rows give, or of each input of `predict`; `truncated`: how many
    rows lose text, or have an answer that no window holds whole.
    """

    rows: int
    lengths: tuple[int, ...]
    truncated: int

    @property
    def longest(self) -> int:
        """Tokens of the longest example; 0 without any."""
        return max(self.lengths, default=0)


class TaskForm(ABC):
    """One form of task. Every method returns results in the order of its rows or examples.

    Rows keep the row contract (replication.corpora.rows); any other is a DataError that names it. No rows give no
    examples and no predictions.
    """

    name: ClassVar[str]
    model_task: ClassVar[str]
    """The required model kind, as named by `backbones.load_model`."""
    options_class: ClassVar[type[Options]] = Options
    shared_options: ClassVar[str | None] = None
    """Section of a profile with options that all tasks of this form share."""
    generates: ClassVar[bool] = False
    """Whether predicting writes text token by token, which takes about as long as training."""

    def options(self, settings: Mapping[str, Any] | None = None, **of_the_run: Any) -> Any:
        """The form's options with `settings`; ConfigError names an unknown or invalid one and what is valid.

        `of_the_run`: what training, backbone and corpus card offer (max_length, separator, a prompt); a form takes what
        it has an option for, and `settings` override it.
        """
        settings = settings or {}
        known = fields(self.options_class)
        valid = [field.name for field in known if not field.metadata]
        if unknown := [str(name) for name in settings if name not in valid]:
            raise ConfigError(
                f"unknown task option {', '.join(unknown)}; a {self.name} task has: {', '.join(sorted(valid))}"
            )
        offered = {field.name: of_the_run[field.name] for field in known if field.name in of_the_run}
        return self.options_class(**{**offered, **settings})

    def num_labels(self, corpus: Mapping[str, Any]) -> int:
        """Outputs of the task head, from the corpus's description; 2 (Hugging Face's default) where none is sized."""
        return 2

    def pad_id(self, tokenizer: Any, options: Any) -> int:
        """Token that fills a batch."""
        return int(tokenizer.pad_token_id)

    def passes(self, options: Any) -> int:
        """How often `predict` goes over the rows: each pass reports every row to `progress`."""
        return 1

    def prepare_model(self, model: Any, tokenizer: Any) -> None:  # noqa: B027  (most forms have nothing to prepare)
        """Set what the model must know about the tokenizer, in place."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Sequence[Row], options: Any) -> list[Any]:
        """Training or dev examples: frozen dataclasses of JSON values with a length and a `text` hint.

        DataError names the row and the field that cannot be used.
        """

    @abstractmethod
    def collate(self, batch: Sequence[Any], pad_id: int) -> Batch:
        """Tensors of a batch, padded on the right up to its longest example; `attention_mask` is among them."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss summed over the batch, in float32, and the weight to divide it by."""

    @abstractmethod
    def fit(self, tokenizer: Any, rows: Sequence[Row], options: Any) -> Fit:
        """How rows to learn from or rows to report on fit; every one is tokenised. Errors are those of `encode`."""

    @abstractmethod
    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", ...} for each row, in order: the truth as `predict` puts it into the prediction rows."""

    @abstractmethod
    def predict(
        self, model: Any, tokenizer: Any, rows: Sequence[Row], options: Any, progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """One prediction per row, in their order, from the model in evaluation mode; its mode is put back afterwards.

        Each has the labels of `gold` in addition to the prediction. `progress` is called with the number of rows just
        finished.
        """

    def training_loss(self, label_smoothing: float = 0.0) -> Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor]]:
        """`loss` for `train(loss_function=...)`: smoothed only in training mode, so that a dev loss is not smoothed."""
        return partial(_smoothed_in_training, self, label_smoothing)


def _smoothed_in_training(
    form: TaskForm, label_smoothing: float, model: nn.Module, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    return form.loss(model, batch, label_smoothing if model.training else 0.0)


def location(row: Row, number: int) -> str:
    """A row's name in error messages; `number` counts from 1."""
    if not isinstance(row, Mapping):
        raise DataError(f"row {number}: expected a mapping, found {type(row).__name__}")
    return f"row {row['id']!r}" if "id" in row else f"row {number} (it has no field 'id')"


def check_rows(form: str, rows: Sequence[Row], labels: Labels | None = None) -> None:
    """DataError names the first row, and its field, that breaks the row contract of `form`."""
    for number, row in enumerate(rows, start=1):
        where = location(row, number)
        if problem := row_problem(form, row, labels):
            raise DataError(f"{where}: {problem}")


def value_of(row: Row, field: str, number: int) -> Any:
    """Field of a row; DataError if it is missing."""
    where = location(row, number)
    if field not in row:
        raise DataError(f"{where}: field {field!r} is missing; it has {', '.join(map(str, row))}")
    return row[field]


def text_of(row: Row, field: str, number: int, *, blank: bool = False) -> str:
    """Text of a row; DataError if it is missing, no text, or blank (unless `blank` allows that)."""
    value = value_of(row, field, number)
    if not isinstance(value, str):
        raise DataError(f"{location(row, number)}: field {field!r} must be text, found {value!r}")
    if not blank and not value.strip():
        raise DataError(f"{location(row, number)}: field {field!r} is blank; add text or remove the row")
    return value


def ids_of(rows: Sequence[Row]) -> list[Any]:
    """Every row's id; DataError if one is missing or a duplicate."""
    ids = [value_of(row, "id", number) for number, row in enumerate(rows, start=1)]
    seen: set[Any] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"row {name!r}: duplicate id; predictions could not be matched")
        seen.add(name)
    return ids


def pad_right(rows: Iterable[Sequence[int]], filler: int) -> torch.Tensor:
    """int64 tensor (rows, longest row); DataError if there is no row."""
    import torch

    lists = [list(row) for row in rows]
    if not lists:
        raise DataError("cannot make a batch of no examples")
    longest = max(map(len, lists))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in lists], dtype=torch.long)


def collate_inputs(batch: Sequence[Any], pad_id: int) -> Batch:
    """`input_ids`, `attention_mask` and, where the examples have them, `token_type_ids` (0 on padding)."""
    tensors = {
        "input_ids": pad_right((example.input_ids for example in batch), pad_id),
        "attention_mask": pad_right(([1] * len(example.input_ids) for example in batch), 0),
    }
    if batch[0].token_type_ids is not None:
        tensors["token_type_ids"] = pad_right((example.token_type_ids for example in batch), 0)
    return tensors


def config_of(model: Any) -> Any:
    """The model's configuration, also inside a wrapper for data parallelism."""
    return getattr(model, "module", model).config


def encoder_output(model: Any, batch: Batch) -> Any:
    """Output of an encoder (or a causal classifier) on the batch's inputs.

    Segment ids are passed only to models that distinguish segments: RoBERTa's table has a single row, MPNet and Llama
    take none, and GPT-2 would read them as tokens.
    """
    names = ["input_ids", "attention_mask"]
    if (getattr(config_of(model), "type_vocab_size", 0) or 0) > 1 and "token_type_ids" in batch:
        names.append("token_type_ids")
    return model(**{name: batch[name] for name in names})


def check_positions(model: Any, lengths: Iterable[int], option: str) -> None:
    """ConfigError if an example is longer than the model has positions; `option` is the one to lower."""
    config = config_of(model)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return
    if config.model_type in _PADDED_POSITIONS:
        positions -= config.pad_token_id + 1
    if (longest := max(lengths, default=0)) > positions:
        raise ConfigError(
            f"an example has {longest} tokens, but {type(model).__name__} has {positions} positions; lower the task "
            f"option {option} to at most {positions}"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients for the block, which gets the model's device; every mode is put back."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        for module, training in modes:
            module.training = training


def batches_by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first: little is padded, and memory peaks at the start."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])  # stable: ties keep their order
    for start in range(0, len(order), size):
        yield order[start : start + size]


class RowsDone:
    """Reports a row to `progress` once all its parts (windows, choices) are done; `owners` has the row of each part."""

    def __init__(self, owners: Sequence[int], progress: Progress | None) -> None:
        self.owners = owners
        self.open = Counter(owners)
        self.progress = progress

    def done(self, parts: Iterable[int]) -> None:
        """These parts are done."""
        finished = 0
        for part in parts:
            self.open[self.owners[part]] -= 1
            finished += self.open[self.owners[part]] == 0
        if finished and self.progress is not None:
            self.progress(finished)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on `device`."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def log_probabilities(
    model: nn.Module,
    examples: Sequence[Encoded],
    pad_id: int,
    batch_size: int,
    finished: Callable[[list[int]], None] | None = None,
) -> list[float]:
    """Log-probability of each example's target tokens under a causal language model, in evaluation mode.

    Computed in float32 a token, summed in float64. `finished` is called with the indices of each batch.
    """
    import torch
    from torch.nn import functional as F

    totals = [0.0] * len(examples)
    with evaluating(model) as device:
        for indices in batches_by_length([len(example) for example in examples], batch_size):
            batch = to_device(collate([examples[index] for index in indices], pad_id), device)
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
            scored = batch["loss_mask"][:, 1:].bool()
            logits = output.logits[:, :-1][scored].float()
            losses = F.cross_entropy(logits, batch["input_ids"][:, 1:][scored], reduction="none").double()
            for index, part in zip(indices, torch.split(losses, scored.sum(dim=1).tolist()), strict=True):
                totals[index] = -float(part.sum())
            if finished is not None:
                finished(indices)
    return totals


def rounded(value: float, name: Any) -> float:
    """`value` to DECIMALS, without a negative zero; TrainingError naming the row for what is not a finite number."""
    if not math.isfinite(value):
        raise TrainingError(
            f"row {name!r}: the model returns {value}; its training diverged or its weights are damaged"
        )
    return round(float(value), DECIMALS) + 0.0


def first_best(scores: Sequence[float]) -> int:
    """Index of the greatest score; the first of equals."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def hint(*texts: str | None, limit: int = 60) -> str:
    """A short readable form of an example for error messages."""
    shown = (text if len(text) <= limit else text[: limit - 3] + "..." for text in texts if text is not None)
    return " | ".join(shown)
