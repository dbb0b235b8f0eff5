"""The input of a prediction: a backbone with a method, and a batch; built from its configuration, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from replication.backbones import backbone_config, get_backbone
from replication.errors import ConfigError
from replication.memory.ledger import MemoryPrediction
from replication.memory.step import Batch, TrainingStep, predict_step
from replication.methods import MethodConfig, attach, config_to_dict, method_config, trainable_parameters
from replication.methods.lora import LoraConfig, LowRankUpdate, lora_layers
from replication.methods.shared.base import IMPORTANCE_NAME
from replication.methods.shared.blocks import head_parameters
from replication.methods.shared.projections import replace_module
from replication.training.config import BF16_WEIGHTS, PRECISIONS

ORDERS = ("bottom", "top")
ATTENTIONS = (None, "eager", "sdpa")
_AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
}


@dataclass(frozen=True)
class Workload:
    """One training step with AdamW: in fp32, or in another `precision` of `TrainingConfig.mixed_precision`.

    `adapters`: how many of a LoRA-like method's adapters stay, counted from block 0 upwards (`order` "bottom") or
    from the last block downwards ("top"); None: all. `train_head` False freezes a task head too. `attention` None
    leaves the choice to the library. `changes` alter the backbone's configuration. `fused_dropout`: masks as on a
    GPU. A causal model's loss is taken over every position, a sequence-to-sequence model's over every position of
    a target as long as its source. With precision "bf16" autocast computes in bfloat16; with "bf16_weights" the
    backbone is bfloat16 too, beside float32 adapters and head, their float32 gradients and Adam's float32 state.
    """

    backbone: str
    method: MethodConfig
    batch: int
    length: int
    adapters: int | None = None
    order: str = "bottom"
    task: str | None = None
    labels: int = 2
    train_head: bool = True
    attention: str | None = "eager"
    fused_dropout: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "no"

    def __post_init__(self) -> None:
        for name in ("batch", "length", "labels"):
            if isinstance(getattr(self, name), bool) or getattr(self, name) < 1:
                raise ConfigError(f"workload: {name}={getattr(self, name)!r}: must be at least 1")
        if self.adapters is not None and self.adapters < 1:
            raise ConfigError(f"workload: adapters={self.adapters}: must be at least 1, or left out for all")
        for name, valid in (("order", ORDERS), ("attention", ATTENTIONS), ("precision", PRECISIONS)):
            if getattr(self, name) not in valid:
                listed = ", ".join(map(str, valid))
                raise ConfigError(f"workload: {name}={getattr(self, name)!r}: must be one of {listed}")

    @property
    def form(self) -> str:
        """The task that the model is built for."""
        return self.task or get_backbone(self.backbone).task_class

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the precision only if it is not fp32."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.precision == "no":
            del fields["precision"]
        return {**fields, "method": config_to_dict(self.method), "task": self.form, "changes": dict(self.changes)}


def predict(workload: Workload, device: str = "cpu") -> MemoryPrediction:
    """Predicted peak of the workload's training step; ConfigError or AdapterError for what cannot be built.

    `device` "cuda" predicts with that device's rules of autocast; torch needs to be built with CUDA for it.
    """
    return predict_step(lambda: training_step(workload, device), fused_dropout=workload.fused_dropout)


def training_step(workload: Workload, device: str = "cpu") -> TrainingStep:
    """Model with method, batch, loss and optimizer: fake under `FakeTensorMode`, else with random weights."""
    with torch.device(device):
        return _training_step(workload, torch.device(device).type)


def _training_step(workload: Workload, device_type: str) -> TrainingStep:
    model = _model(workload)
    attach(model, workload.method)
    if workload.adapters is not None:
        keep_adapters(model, workload.adapters, workload.order)
    if not workload.train_head:
        for parameter in head_parameters(model).values():
            parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-4, foreach=False)
    loss = _LOSSES[workload.form]
    if workload.precision != "no":  # entered for the loss alone, as in training/loop.py
        loss = torch.autocast(device_type, torch.bfloat16)(loss)
    return TrainingStep(model.train(), _batch(model, workload), loss, optimizer)


def _model(workload: Workload) -> nn.Module:
    import transformers

    if workload.form not in _LOSSES or workload.form not in get_backbone(workload.backbone).tasks:
        raise ConfigError(f"workload: task={workload.form!r}: not among the tasks predicted for {workload.backbone}")
    config = backbone_config(workload.backbone, **workload.changes)
    if workload.form == "sequence_classification":
        config.num_labels = workload.labels
        if config.pad_token_id is None:  # Llama's classifier looks for the last token that is not padding
            config.pad_token_id = 0
    more: dict[str, Any] = {} if workload.attention is None else {"attn_implementation": workload.attention}
    more["dtype"] = torch.bfloat16 if workload.precision == BF16_WEIGHTS else torch.float32
    model: nn.Module = getattr(transformers, _AUTO_CLASSES[workload.form]).from_config(config, **more)
    return model


def keep_adapters(model: nn.Module, count: int, order: str) -> None:
    """Leave `count` pairs of a LoRA-like method, the first in module order or the last, and take the others out.

    Importance weights, if any, no longer train: it is the model of WeightLoRA's phase 2.
    """
    layers = lora_layers(model)
    pairs = [(name, piece.label) for name, layer in layers.items() for piece in layer.slices]
    if count > len(pairs):
        raise ConfigError(f"workload: adapters={count}: the method puts only {len(pairs)} into this model")
    kept = set(pairs[:count] if order == "bottom" else pairs[len(pairs) - count :])
    for name, label in pairs:
        if (name, label) not in kept:
            layers[name].drop(label)
    for layer in layers.values():
        if not layer.slices:
            replace_module(model, layer, layer.base_layer)
    for name, parameter in model.named_parameters():
        if name.endswith(IMPORTANCE_NAME):
            parameter.requires_grad_(False)


def _batch(model: nn.Module, workload: Workload) -> Batch:
    """Token ids and a mask with one padded position, so that no library skips the mask."""
    shape = (workload.batch, workload.length)
    mask = torch.ones(shape, dtype=torch.long)
    mask[-1, -1] = 0
    batch = {"input_ids": torch.full(shape, 5, dtype=torch.long), "attention_mask": mask}
    if workload.form == "seq2seq_lm":
        batch["decoder_input_ids"] = torch.full(shape, 5, dtype=torch.long)
    labels = (workload.batch,) if workload.form == "sequence_classification" else shape
    return {**batch, "labels": torch.zeros(labels, dtype=torch.long)}


def _class_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits.float(), batch["labels"])


def _causal_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return _token_loss(output.logits[:, :-1], batch["labels"][:, 1:])


def _seq2seq_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    return _token_loss(model(**inputs, use_cache=False).logits, batch["labels"])


def _token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), label_smoothing=0.1)


_LOSSES = {"sequence_classification": _class_loss, "causal_lm": _causal_loss, "seq2seq_lm": _seq2seq_loss}


@dataclass(frozen=True)
class OutputWeightedLoraConfig(LoraConfig):
    """LoRA as the WeightLoRA authors' memory script attaches it: w * B(A(x)), no scale, no dropout.

    Their `AdapterLayer` (Vepricov/WLoRA, src/utils.py) multiplies the whole output by a trained scalar, so autograd
    keeps a tensor of the projection's full width for each adapter. For predictions only; not a method.
    """

    rank: int = 8
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "key", "value")

    method: ClassVar[str] = "authors_layer"

    def new_update(self, inputs: int, outputs: int, like: torch.Tensor, generator: torch.Generator) -> LowRankUpdate:
        """A pair with a scalar on its output."""
        return _OutputWeighted(inputs, outputs, self, like, generator)


class _OutputWeighted(LowRankUpdate):
    def __init__(self, inputs: int, outputs: int, config: LoraConfig, like: torch.Tensor, generator: torch.Generator):
        super().__init__(inputs, outputs, config, like, generator)
        self.weight = nn.Parameter(torch.ones((), dtype=like.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        return self.weight * F.linear(F.linear(x.to(self.lora_A.dtype), self.lora_A), self.lora_B)


def method_of(name: str, settings: Mapping[str, Any]) -> MethodConfig:
    """Method `name`, or "authors_layer" for `OutputWeightedLoraConfig`."""
    return (
        OutputWeightedLoraConfig(**settings)
        if name == OutputWeightedLoraConfig.method
        else method_config(name, **settings)
    )
