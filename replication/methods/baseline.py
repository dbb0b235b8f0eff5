"""Trivial baselines: predictions without training, so that every table shows what a task gives away.

`baseline` is a method of the registry so that it is named, checked and recorded like the others, but it attaches
nothing: `attach` refuses it. What a baseline needs is `learn` (from the training rows) and `predict_rows`.

| kind               | predicts                                                            | form            |
|--------------------|---------------------------------------------------------------------|-----------------|
| `majority`         | the commonest training label                                        | classification  |
| `mean`             | the mean training label                                             | regression      |
| `cosine`           | similarity of the two texts under the untrained backbone            | regression      |
| `commonest_choice` | the position that is most often right in the training rows          | multiple_choice |
| `longest_choice`   | the choice with the most characters                                 | multiple_choice |

Implementation details:

1. Of equals the first wins, in the order of the indices.
2. `cosine` is the cosine of the means of the last hidden states over each text's tokens, special tokens included; each
   text is encoded separately. Labels start at 0: the prediction is highest * max(0, cosine), where highest is
   the greatest training label (5 on STS-B).
3. Where a row has fewer choices than others, `commonest_choice` takes the commonest position among those it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from replication.errors import AdapterError, ConfigError, DataError
from replication.methods.shared.base import MethodConfig
from replication.methods.shared.registry import register_method
from replication.tasks.base import (
    Progress,
    Row,
    batches_by_length,
    check_positions,
    evaluating,
    first_best,
    ids_of,
    pad_right,
    rounded,
    text_of,
)

FORMS = {
    "majority": "classification",
    "mean": "regression",
    "cosine": "regression",
    "commonest_choice": "multiple_choice",
    "longest_choice": "multiple_choice",
}
"""Kind -> the form of task that it applies to."""


@register_method
@dataclass(frozen=True)
class BaselineConfig(MethodConfig):
    """`kind`: what is predicted, a key of `FORMS`."""

    kind: str = ""

    method: ClassVar[str] = "baseline"

    def __post_init__(self) -> None:
        if self.kind not in FORMS:
            raise ConfigError(f"baseline: kind={self.kind!r}: valid kinds are {', '.join(FORMS)}")

    @property
    def uses_backbone(self) -> bool:
        """Whether predicting needs the backbone's weights."""
        return self.kind == "cosine"

    def check_form(self, form: str) -> None:
        """ConfigError unless the kind applies to tasks of this form; it lists the kinds that do."""
        if FORMS[self.kind] != form:
            valid = [kind for kind, known in FORMS.items() if known == form]
            raise ConfigError(
                f"baseline: kind={self.kind!r} applies only to {FORMS[self.kind]} tasks; valid kinds for a {form} task "
                f"are: {', '.join(valid) or 'none'}"
            )

    def install(self, model: nn.Module) -> None:
        """AdapterError: a baseline is not part of a model."""
        raise AdapterError(
            f"baseline: kind={self.kind!r} attaches nothing to a model; call learn and predict_rows of "
            "replication.methods.baseline"
        )


def learn(config: BaselineConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """The baseline's parameters from the training rows, as JSON values; DataError without rows."""
    if not rows:
        raise DataError("baseline: no training rows to learn from")
    learned: dict[str, Any] = {"kind": config.kind}
    if config.kind in ("majority", "commonest_choice"):
        counts = _counts(row["label" if config.kind == "majority" else "answer"] for row in rows)
        learned |= {"prediction": first_best(counts), "counts": counts}
    elif config.kind == "mean":
        learned["prediction"] = rounded(sum(row["label"] for row in rows) / len(rows), "mean of the training labels")
    elif config.kind == "cosine":
        learned["highest"] = max(float(row["label"]) for row in rows)
    return learned


def predict_rows(
    learned: Mapping[str, Any], rows: Sequence[Row], cosines: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """One prediction per row, in the fields of the task's form but without logits or scores.

    `learned` is the result of `learn`; `cosines`, one a row, are needed only by the kind `cosine` (`text_cosines`).
    """
    if (learned["kind"] == "cosine") != (cosines is not None):
        raise ConfigError(f"baseline: kind={learned['kind']!r}: cosines are given exactly for the kind 'cosine'")
    names = ids_of(rows)
    values = [None] * len(rows) if cosines is None else cosines
    return [
        {
            "id": name,
            "prediction": _prediction(learned, row, value),
            "label": row["answer"] if "choices" in row else row["label"],
            **({"subset": row["subset"]} if row.get("subset") is not None else {}),
        }
        for name, row, value in zip(names, rows, values, strict=True)
    ]


def _prediction(learned: Mapping[str, Any], row: Row, cosine: float | None) -> int | float:
    if cosine is not None:
        return rounded(learned["highest"] * max(0.0, cosine), row["id"])
    if learned["kind"] == "longest_choice":
        return first_best([len(choice) for choice in row["choices"]])
    if learned["kind"] == "commonest_choice":
        return first_best([*learned["counts"], *[0] * len(row["choices"])][: len(row["choices"])])
    return learned["prediction"]


def _counts(indices: Iterable[int]) -> list[int]:
    """How often each index occurs, from 0 to the greatest."""
    found = Counter(indices)
    return [found[index] for index in range(max(found) + 1)]


def text_cosines(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    max_length: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[float]:
    """Cosine of the two texts of each row: means of the last hidden states of `model`, which has no head.

    A text may be empty, as the row contract allows; one without any token has the cosine 0. DataError names a row
    without a second text.
    """
    fields = ("text", "pair")
    texts = [text_of(row, field, number, blank=True) for number, row in enumerate(rows, start=1) for field in fields]
    encoded = [tokenizer.encode(text, truncation=True, max_length=max_length) for text in texts]
    check_positions(model, map(len, encoded), "max_length")
    means: list[Any] = [None] * len(texts)
    with evaluating(model) as device:
        for indices in batches_by_length([len(ids) for ids in encoded], batch_size):
            chosen = [encoded[index] for index in indices]
            ids = pad_right(chosen, tokenizer.pad_token_id).to(device)
            mask = pad_right(([1] * len(one) for one in chosen), 0).to(device)
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            for index, mean in zip(indices, pooled.cpu(), strict=True):
                means[index] = mean
    if progress is not None:
        progress(len(rows))
    first, second = torch.stack(means[0::2]), torch.stack(means[1::2])
    return [float(value) for value in nn.functional.cosine_similarity(first, second, dim=1)]
