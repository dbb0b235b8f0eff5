"""What a plan's task form means for the stages: which model, how rows are encoded, learnt from and predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from replication.errors import ConfigError
from replication.fileio import read_jsonl
from replication.predictions import gold
from replication.training.decoding_config import GenerationOptions

if TYPE_CHECKING:
    from pipelines.settings import Settings, Task
    from replication.backbones import Backbone
    from replication.training.config import TrainingConfig

GENERATION = "generation"
Rows = Sequence[Mapping[str, Any]]
Predictions = list[dict[str, Any]]
Advance = Callable[..., Any] | None


class StageTask(Protocol):
    """What the stages ask of a task, whatever its form."""

    @property
    def model_task(self) -> str | None:
        """Which class the backbone is loaded as; None: its usual one."""

    @property
    def passes(self) -> int:
        """How often `predict` goes over the rows: each pass reports every row to `progress`."""

    def settings(self) -> dict[str, Any]:
        """What decides the predictions besides the model, for records."""

    def num_labels(self) -> int:
        """Outputs of the task head."""

    def pad_id(self, tokenizer: Any) -> int:
        """Token that fills a batch."""

    def encode(self, tokenizer: Any, rows: Rows, max_length: int) -> list[Any]:
        """Training or dev examples."""

    def train_arguments(self, training: TrainingConfig) -> dict[str, Any]:
        """Arguments of `replication.training.train` that belong to the form."""

    def prepare_model(self, model: Any, tokenizer: Any) -> None:
        """Settings of the model that the form needs, in place."""

    def predict(
        self, model: Any, tokenizer: Any, rows: Rows, progress: Callable[..., Any] | None
    ) -> list[dict[str, Any]]:
        """One prediction row for each row, in order."""


def stage_task(settings: Settings, task: Task, backbone: Backbone, training: TrainingConfig) -> StageTask:
    """The task as the stages use it, with its options checked; ConfigError names file and field."""
    if task.form == GENERATION:
        return _Generation(backbone, _decoding(settings, task))
    return _Form(task, f"{settings.params_file}: task of corpus {task.corpus}", training)


def _decoding(settings: Settings, task: Task) -> GenerationOptions:
    """The profile's decoding, with the task's own options over it."""
    try:
        return GenerationOptions(**{**settings.decoding, **task.options})
    except (TypeError, ConfigError) as error:
        where = f"decoding, with options of the task of corpus {task.corpus}" if task.options else "decoding"
        raise ConfigError(f"{settings.params_file}: {where}: {error}") from error


class _Generation:
    """Data to text with a causal language model: context, separator, completion; beam search."""

    model_task = None

    def __init__(self, backbone: Backbone, decoding: GenerationOptions):
        self.backbone, self.decoding = backbone, decoding

    @property
    def passes(self) -> int:
        return 2 if self.decoding.references_scored else 1

    def settings(self) -> dict[str, Any]:
        return asdict(self.decoding)

    def num_labels(self) -> int:
        return 2

    def pad_id(self, tokenizer: Any) -> int:
        from replication.examples import separator_id

        return separator_id(tokenizer, self.backbone.separator)

    def encode(self, tokenizer: Any, rows: Rows, max_length: int) -> list[Any]:
        from replication.examples import TextPair, encode_pair

        separator = self.pad_id(tokenizer)
        return [encode_pair(tokenizer, TextPair(**row), separator, max_length) for row in rows]

    def train_arguments(self, training: TrainingConfig) -> dict[str, Any]:
        return {}

    def prepare_model(self, model: Any, tokenizer: Any) -> None:
        return None

    def predict(
        self, model: Any, tokenizer: Any, rows: Rows, progress: Callable[..., Any] | None
    ) -> list[dict[str, Any]]:
        from replication.training.decoding import generate

        losses = self._losses(model, tokenizer, rows, progress)
        texts = generate(
            model,
            tokenizer,
            [row["context"] for row in rows],
            self.decoding,
            separator=self.backbone.separator,
            progress=progress,
        )
        return [
            {"mr": row["mr"], "context": row["context"], "prediction": text, "references": row["references"], **loss}
            for row, text, loss in zip(rows, texts, losses, strict=True)
        ]

    def _losses(self, model: Any, tokenizer: Any, rows: Rows, progress: Advance) -> Predictions:
        """Loss of each row's scored references; empty where none is scored."""
        from replication.tasks.reference_losses import encode_references, reference_losses

        count = self.decoding.references_scored
        if not count:
            return [{} for _ in rows]
        references = encode_references(model, tokenizer, rows, count, separator=self.backbone.separator)
        return reference_losses(model, references, self.decoding.batch_size, progress)


class _Form:
    """A form of replication.tasks: classification, question answering, multiple choice, summarisation."""

    passes = 1

    def __init__(self, task: Task, where: str, training: TrainingConfig):
        from replication.corpora.registry import describe
        from replication.tasks import get_form

        try:
            self.corpus = describe(task.corpus)
            self.form = get_form(task.form)
            limited = "max_length" in {field.name for field in fields(self.form.options_class)}
            self.options = self.form.options(
                {**({"max_length": training.max_length} if limited else {}), **task.options}
            )
            if self.corpus["form"] != task.form:
                raise ConfigError(f"form={task.form}: the corpus {task.corpus} has the form {self.corpus['form']}")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    @property
    def model_task(self) -> str:
        return self.form.model_task

    def settings(self) -> dict[str, Any]:
        return {field.name: getattr(self.options, field.name) for field in fields(self.options)}

    def num_labels(self) -> int:
        return self.form.num_labels(self.corpus)

    def pad_id(self, tokenizer: Any) -> int:
        return int(tokenizer.pad_token_id)

    def encode(self, tokenizer: Any, rows: Rows, max_length: int) -> list[Any]:
        return list(self.form.encode(tokenizer, rows, self.options))

    def train_arguments(self, training: TrainingConfig) -> dict[str, Any]:
        loss = self.form.training_loss(training.label_smoothing)
        return {"loss_function": loss, "collate_function": self.form.collate}

    def prepare_model(self, model: Any, tokenizer: Any) -> None:
        self.form.prepare_model(model, tokenizer)

    def predict(
        self, model: Any, tokenizer: Any, rows: Rows, progress: Callable[..., Any] | None
    ) -> list[dict[str, Any]]:
        return self.form.predict(model, tokenizer, rows, self.options, progress)


def gold_rows(form: str, rows: Rows) -> list[dict[str, Any]]:
    """{"id", ...} for each reported item, in order: the truth that full prediction rows of the form hold."""
    if form == GENERATION:
        return gold(rows)
    from replication.tasks import get_form

    return get_form(form).gold(rows)


def read_rows(prepared: Path, split: str) -> list[dict[str, Any]]:
    """Rows of a prepared split: train, dev (losses while training), test (what is reported)."""
    return list(read_jsonl(prepared / f"{split}.jsonl"))
