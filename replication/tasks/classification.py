"""Sequence classification and regression: one text or a pair of texts in, a class or a number out.

Implementation details:

1. A pair is joined by the tokenizer's own template (BERT: [CLS] a [SEP] b [SEP]). A tokenizer without a template
   (GPT-2, SmolLM2) would glue the two texts together; they are joined with one separator token (sep, else eos).
2. What is too long loses tokens from the end of the longer text first.
3. Padding is on the right. Causal classifiers (Llama) read the last token that is not the padding token, which
   `prepare_model` makes known to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.corpora.rows import UNLABELLED, Labels
from replication.errors import ConfigError, DataError
from replication.tasks.base import (
    Batch,
    Fit,
    Options,
    Progress,
    Row,
    TaskForm,
    batches_by_length,
    check_positions,
    check_rows,
    collate_inputs,
    encoder_output,
    evaluating,
    first_best,
    hint,
    ids_of,
    location,
    rounded,
    to_device,
)

if TYPE_CHECKING:
    import torch

SMALLEST = 8
"""Least `max_length`: room for a pair, its special tokens and something to read."""


@dataclass(frozen=True)
class ClassificationOptions(Options):
    """`max_length`: most tokens of an example, special ones included."""

    max_length: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole("max_length", SMALLEST)


@dataclass(frozen=True)
class ClassificationExample:
    """One text or pair with its label (a class's index, or a number in regression).

    `token_type_ids` is None if the tokenizer has none; `truncated`: the text did not fit.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    label: int | float
    text: str = ""
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.input_ids)


class Classification(TaskForm):
    """Rows {"id", "text", "pair": str or None, "label": int, optional "subset"}."""

    name = "classification"
    model_task = "sequence_classification"
    options_class = ClassificationOptions

    def num_labels(self, corpus: Mapping[str, Any]) -> int:
        """Number of classes; ConfigError if the corpus names fewer than two."""
        labels = corpus.get("labels") or ()
        if len(labels) < 2:
            raise ConfigError(
                f"corpus {corpus.get('name')!r}: field 'labels' is {list(labels)}; a classification corpus names its "
                "classes, at least two, in the order of their indices"
            )
        return len(labels)

    def prepare_model(self, model: Any, tokenizer: Any) -> None:
        """Set `model.config.pad_token_id`, by which causal classifiers find the last token; in place."""
        if tokenizer.pad_token_id is None:
            raise ConfigError(f"{type(tokenizer).__name__} has no padding token; load it with `load_tokenizer`")
        model.config.pad_token_id = tokenizer.pad_token_id

    def encode(
        self, tokenizer: Any, rows: Sequence[Row], options: ClassificationOptions
    ) -> list[ClassificationExample]:
        """One example per row; DataError names row and field of what cannot be used."""
        check_rows(self.name, rows)
        return self._encoded(tokenizer, rows, options)

    def _encoded(
        self, tokenizer: Any, rows: Sequence[Row], options: ClassificationOptions
    ) -> list[ClassificationExample]:
        labels = [self._label(row) for row in rows]
        texts, pairs = [row["text"] for row in rows], [row.get("pair") for row in rows]
        tokenized = _tokenize(tokenizer, texts, pairs, options.max_length)
        examples = []
        for number, (row, label, (ids, types, truncated)) in enumerate(
            zip(rows, labels, tokenized, strict=True), start=1
        ):
            if not ids:
                raise DataError(f"{location(row, number)}: field 'text' has no token in this vocabulary")
            shown = hint(texts[number - 1], pairs[number - 1])
            examples.append(ClassificationExample(ids, types, label, shown, truncated))
        return examples

    def fit(self, tokenizer: Any, rows: Sequence[Row], options: ClassificationOptions) -> Fit:
        """One example a row; `truncated`: those whose text or pair is cut."""
        examples = self.encode(tokenizer, rows, options)
        return Fit(len(rows), tuple(map(len, examples)), sum(example.truncated for example in examples))

    def collate(self, batch: Sequence[ClassificationExample], pad_id: int) -> Batch:
        """`input_ids`, `attention_mask`, perhaps `token_type_ids`: (rows, longest); `labels`: (rows,)."""
        import torch

        tensors = collate_inputs(batch, pad_id)
        return {**tensors, "labels": torch.tensor([example.label for example in batch], dtype=self._label_type())}

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy summed over the rows, and their number; DataError if a label has no output in the model."""
        from torch.nn import functional as F

        logits = encoder_output(model, batch).logits.float()
        labels = batch["labels"]
        if int(labels.max()) >= logits.shape[-1]:
            raise DataError(f"field 'label' is {int(labels.max())}, but the model has {logits.shape[-1]} outputs")
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="sum")
        return loss, logits.new_tensor(len(logits))

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", "label", "subset" if given}; a split whose labels are not published has -1 in every row."""
        return [
            {**truth, **({"subset": row["subset"]} if row.get("subset") is not None else {})}
            for row, truth in zip(rows, self._labelled(rows), strict=True)
        ]

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: ClassificationOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": int, "label", "logits", "subset" if given}; the first of equally great logits wins."""
        golden = self.gold(rows)
        outputs = self._outputs(model, tokenizer, rows, options, progress)
        return [
            {**truth, "prediction": first_best(logits), "logits": logits}
            for truth, logits in zip(golden, outputs, strict=True)
        ]

    def _outputs(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: ClassificationOptions,
        progress: Progress | None,
    ) -> list[list[float]]:
        """The model's rounded outputs for each row."""
        names = ids_of(rows)
        examples = self._encoded(tokenizer, rows, options)
        check_positions(model, map(len, examples), "max_length")
        outputs: list[list[float]] = [[]] * len(rows)
        with evaluating(model) as device:
            for indices in batches_by_length([len(example) for example in examples], options.batch_size):
                batch = self.collate([examples[index] for index in indices], tokenizer.pad_token_id)
                logits = encoder_output(model, to_device(batch, device)).logits.float().tolist()
                for index, values in zip(indices, logits, strict=True):
                    outputs[index] = [rounded(value, names[index]) for value in values]
                if progress is not None:
                    progress(len(indices))
        return outputs

    def _labelled(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Id and label of each row; DataError names row and field of what cannot be used."""
        published = not rows or not all(isinstance(row, Mapping) and row.get("label") == UNLABELLED for row in rows)
        check_rows(self.name, rows, Labels(published=published))
        return [{"id": name, "label": row["label"]} for name, row in zip(ids_of(rows), rows, strict=True)]

    def _label(self, row: Row) -> int | float:
        return int(row["label"])

    def _label_type(self) -> torch.dtype:
        import torch

        return torch.long


class Regression(Classification):
    """Rows {"id", "text", "pair", "label": float}; the model has one output, which is the prediction."""

    name = "regression"

    def num_labels(self, corpus: Mapping[str, Any]) -> int:
        """One output."""
        return 1

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared error summed over the rows, and their number. A number has no classes to smooth over:
        `label_smoothing` is not used.
        """
        output = encoder_output(model, batch).logits.float()
        if output.shape[-1] != 1:
            raise ConfigError(f"the model has {output.shape[-1]} outputs; regression needs num_labels=1")
        return (output[:, 0] - batch["labels"]).square().sum(), output.new_tensor(len(output))

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", "label"}."""
        return self._labelled(rows)

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: ClassificationOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": float, "label"}."""
        golden = self.gold(rows)
        outputs = self._outputs(model, tokenizer, rows, options, progress)
        return [{**truth, "prediction": values[0]} for truth, values in zip(golden, outputs, strict=True)]

    def _label(self, row: Row) -> float:
        return float(row["label"])

    def _label_type(self) -> torch.dtype:
        import torch

        return torch.float32


def _tokenize(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str | None], max_length: int
) -> list[tuple[list[int], list[int] | None, bool]]:
    """Ids, segment ids and whether something was cut off, for each row; single texts and pairs may be mixed."""
    results: list[Any] = [None] * len(texts)
    for paired in (False, True):
        chosen = [index for index, pair in enumerate(pairs) if (pair is not None) == paired]
        if not chosen:
            continue
        first, second = [texts[index] for index in chosen], [pairs[index] for index in chosen]
        if paired and tokenizer.num_special_tokens_to_add(pair=True) == 0:
            found = [_joined(tokenizer, a, str(b), max_length) for a, b in zip(first, second, strict=True)]
        else:
            found = _by_template(tokenizer, first, second if paired else None, max_length)
        for index, result in zip(chosen, found, strict=True):
            results[index] = result
    return results


def _by_template(tokenizer: Any, texts: list[str], pairs: Any, max_length: int) -> list[Any]:
    encoded = tokenizer(
        texts, pairs, truncation="longest_first", max_length=max_length, padding=False, return_attention_mask=False
    )
    types = encoded.get("token_type_ids", [None] * len(texts))
    cut = [bool(encoding.overflowing) for encoding in encoded.encodings or []] or [False] * len(texts)
    return list(zip(encoded["input_ids"], types, cut, strict=True))


def _joined(tokenizer: Any, text: str, pair: str, max_length: int) -> tuple[list[int], None, bool]:
    separator = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if separator is None:
        raise ConfigError(f"{type(tokenizer).__name__} has no sep and no eos token to put between two texts")
    first, second = (tokenizer.encode(part, add_special_tokens=False) for part in (text, pair))
    length = len(first) + len(second)
    while len(first) + len(second) > max_length - 1:
        (first if len(first) >= len(second) else second).pop()
    return [*first, separator, *second], None, len(first) + len(second) < length
