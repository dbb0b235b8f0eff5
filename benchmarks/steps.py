"""One training step (forward, backward, AdamW) of each method beside stock PEFT's LoRA: 8 x 64 tokens, float32.

The adapters that are compared have the same rank, targets and dropout. Weights and tokens are random: the time does not
depend on what they say.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Benchmark, Work

BATCH, LENGTH = 8, 64
STOCK = "stock PEFT LoRA"
RANK, ALPHA, DROPOUT = 8, 32, 0.05
# what stock PEFT and our LoRA both take, by backbone
TARGETS = {
    "gpt2": ("c_attn",),
    "deberta-v3-base": ("query_proj", "key_proj", "value_proj"),
    "smollm2-135m": ("q_proj", "v_proj"),
}


@dataclass
class Step:
    """A model in training mode, its batch and its optimizer; a call does one step."""

    model: nn.Module
    batch: Mapping[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    after: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        """The loss before the update."""
        loss = self.model(**self.batch).loss
        loss.backward()
        self.optimizer.step()
        self.after()
        self.optimizer.zero_grad()
        return float(loss.detach())


def bare(backbone: str, batch: int = BATCH, length: int = LENGTH, **changes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A model with random weights, and a batch: next tokens for a decoder, two classes for an encoder."""
    import transformers

    from replication.backbones import backbone_config

    torch.manual_seed(0)
    config = backbone_config(backbone, **changes)
    tokens = torch.randint(5, config.vocab_size, (batch, length))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if config.model_type == "deberta-v2":
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        return model, {**inputs, "labels": torch.zeros(batch, dtype=torch.long)}
    return transformers.AutoModelForCausalLM.from_config(config), {**inputs, "labels": tokens}


def ready(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Step:
    """The step of a model to which a method is attached."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Step(model.train(), batch, torch.optim.AdamW(trained, lr=1e-4))


def stock(backbone: str, **shape: Any) -> Work:
    """PEFT's own LoRA, with the task head where there is one."""
    from peft import LoraConfig, get_peft_model

    model, batch = bare(backbone, **shape)
    encoder = backbone.startswith("deberta")
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        target_modules=list(TARGETS[backbone]),
        fan_in_fan_out=backbone.startswith("gpt2"),
        modules_to_save=["classifier", "pooler"] if encoder else None,
    )
    return ready(get_peft_model(model, config), batch)  # type: ignore[arg-type]


def ours(backbone: str, method: str, shape: Mapping[str, Any] | None = None, **settings: Any) -> Work:
    """A method of this project."""
    from replication.methods import attach, method_config

    model, batch = bare(backbone, **(shape or {}))
    return ready(attach(model, method_config(method, **settings)), batch)


def floor(backbone: str = "gpt2") -> Work:
    """The last layer norm alone trains: every block forward, the output layer both ways, which no decoder's adapter
    can go below.
    """
    model, batch = bare(backbone)
    model.requires_grad_(False)
    model.transformer.ln_f.requires_grad_(True)
    return ready(model, batch)


def lora(backbone: str) -> Work:
    """LoRA on the modules that the stock one takes."""
    return ours(backbone, "lora", rank=RANK, alpha=ALPHA, dropout=DROPOUT, targets=TARGETS[backbone])


def warm_up(backbone: str = "deberta-v3-base", **shape: Any) -> Work:
    """WeightLoRA's phase 1, with its optimizer, its projection and its record of every step."""
    from replication.methods import attach, method_config
    from replication.training.callbacks import Run
    from replication.training.config import TrainingConfig

    model, batch = bare(backbone, **shape)
    settings = {"rank": RANK, "alpha": ALPHA, "dropout": DROPOUT, "keep": 5, "selection_steps": 1_000_000}
    config = method_config("weight_lora", **settings)
    attach(model, config).train()
    training = TrainingConfig(steps=1_000_000, warmup_steps=0)
    callback = config.training_callback(training)
    assert callback is not None
    callback.on_start(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    step = Step(model, batch, callback.build_optimizer(trained, training))
    run = Run(model, step.optimizer)

    def after() -> None:
        run.step += 1
        callback.on_update(run)

    step.after = after
    return step


def selected(keep: Callable[[int, str], bool], backbone: str = "deberta-v3-base", **shape: Any) -> Work:
    """WeightLoRA's phase 2: only the adapters that `keep` (block, role) names are left, and weights are fixed."""
    from replication.methods import attach, method_config
    from replication.methods.selection import recorded_adapters, remove_adapters
    from replication.methods.shared.base import IMPORTANCE_NAME

    model, batch = bare(backbone, **shape)
    attach(model, method_config("weight_lora", rank=RANK, alpha=ALPHA, dropout=DROPOUT, keep=5))
    remove_adapters(model, [one.index for one in recorded_adapters(model) if not keep(one.block, one.role)])
    for name, parameter in model.named_parameters():
        if name.endswith(IMPORTANCE_NAME):
            parameter.requires_grad_(False)
    return ready(model, batch)


def with_cache(step: Work) -> Work:
    """The same step from the second epoch on: the blocks before the first trained one are read from the cache."""
    from replication.training.prefix_cache import frozen_prefix

    assert isinstance(step, Step)
    opened = ExitStack()
    opened.enter_context(frozen_prefix(step.model, 1.0, None))
    atexit.register(opened.close)
    step()  # the first epoch fills it
    return step


def top_values(block: int, role: str) -> bool:
    """The value projections of blocks 7 to 11."""
    return role == "value" and block >= 7


def counted(work: Work) -> dict[str, int]:
    """Of one step: bytes that autograd keeps for the backward pass, each storage once and parameters left out; and
    multiplications and additions of all matrix products, forward and backward.
    """
    from torch.utils.flop_counter import FlopCounterMode

    assert isinstance(work, Step)
    known = {parameter.untyped_storage().data_ptr() for parameter in work.model.parameters()}
    found: dict[int, int] = {}
    alive = []  # an address counts once only while its storage lives

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with FlopCounterMode(display=False) as products:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = work.model(**work.batch).loss
        loss.backward()
    work.optimizer.zero_grad()
    return {"saved_bytes": sum(found.values()), "matmul_operations": products.get_total_flops()}


SHAPE = {"batch": BATCH, "length": LENGTH, "rank": RANK, "dtype": "float32"}


def gpt2() -> Benchmark:
    """GPT-2 small."""
    name = "gpt2"
    return Benchmark(
        "training step on GPT-2 small (124M), 8 x 64 tokens",
        STOCK,
        {
            STOCK: lambda: stock(name),
            "LoRA": lambda: lora(name),
            "Solo k=2": lambda: ours(name, "solo_connection", skip_length=2),
            "Solo k=6": lambda: ours(name, "solo_connection", skip_length=6),
            "last layer norm alone": floor,
        },
        memory=True,
        count=counted,
        settings={**SHAPE, "targets": list(TARGETS[name])},
    )


def deberta() -> Benchmark:
    """DeBERTaV3-base."""
    name = "deberta-v3-base"
    return Benchmark(
        "training step on DeBERTaV3-base, 8 x 64 tokens, two classes",
        STOCK,
        {
            STOCK: lambda: stock(name),
            "LoRA": lambda: lora(name),
            "WeightLoRA warm-up": warm_up,
            "WeightLoRA after selection": lambda: selected(top_values),
            "frozen-prefix cache": lambda: with_cache(selected(top_values)),
        },
        memory=True,
        count=counted,
        settings={**SHAPE, "targets": list(TARGETS[name]), "kept": "value projections of blocks 7 to 11"},
    )


def llama() -> Benchmark:
    """The Llama architecture, in the size of SmolLM2-135M."""
    name = "smollm2-135m"
    return Benchmark(
        "training step on a Llama of 135M (SmolLM2's shape), 8 x 64 tokens",
        STOCK,
        {STOCK: lambda: stock(name), "LoRA": lambda: lora(name)},
        count=counted,
        settings={**SHAPE, "targets": list(TARGETS[name])},
    )
