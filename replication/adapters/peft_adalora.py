"""AdaLoRA's rank budget over training, Zhang et al. 2023 (arXiv 2303.10512), with PEFT's own allocator.

After each update PEFT's allocator smooths the sensitivity |w dL/dw| of every entry and, between `tinit` and
`total_step - tfinal`, zeroes the singular values with the lowest scores, from `init_r` down to `target_r` on
average. The orthogonality term (equation 4) is added to the training loss always; PEFT adds it only where the call
goes through its tuner, which its wrapper for no particular task does not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError, ConfigError
from replication.training_hooks import Callback, Run

_ADAPTER = "default"
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")


def check_budget(settings: Mapping[str, Any]) -> None:
    """ConfigError unless the target rank is below the initial one: PEFT's allocator fails when it has nothing
    to take away.
    """
    if settings["target_r"] >= settings["init_r"]:
        raise ConfigError(
            f"peft_baselines: adalora: settings.target_r={settings['target_r']!r}: must be below "
            f"init_r={settings['init_r']}"
        )


def placeholder_schedule(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule for PEFT's configuration while the length of training is not known: attaching, counting."""
    least = settings.get("tinit", 0) + settings.get("tfinal", 0) + 1
    return {"total_step": settings.get("total_step") or least}


def schedule(settings: Mapping[str, Any], steps: int) -> dict[str, int]:
    """`total_step`, `tinit` and `tfinal` as given, else from the length of training: a tenth of it without a
    cut, the last half with the final ranks, near the paper's settings for GLUE (its table 8). ConfigError when
    they do not fit `steps`.
    """
    total = settings.get("total_step") or steps
    tfinal = settings.get("tfinal")
    if tfinal is None:
        tfinal = min(total // 2, max(total - 2, 0))
    last = total - tfinal
    tinit = settings.get("tinit")
    if tinit is None:
        tinit = min(total // 10, max(last - 1, 0))
    if not (2 <= last <= steps and 0 <= tinit < last):
        raise ConfigError(
            f"peft_baselines: adalora: tinit={tinit}, tfinal={tfinal}, total_step={total} do not fit training.steps="
            f"{steps}: tinit < total_step - tfinal and 2 <= total_step - tfinal <= steps must hold"
        )
    return {"total_step": total, "tinit": tinit, "tfinal": tfinal}


class AdaLoraCallback(Callback):
    """Cuts the ranks after each update; its state lets a killed run go on with the same bits."""

    def __init__(self, settings: Mapping[str, Any], steps: int):
        self.settings = {**settings, **schedule(settings, steps)}
        self._host: Any = None
        self._saved: dict[str, Any] = {}

    def on_start(self, model: nn.Module) -> None:
        """Make PEFT's allocator over the model's AdaLoRA layers; take back the state of a killed run."""
        from peft.tuners.adalora import RankAllocator

        from replication.adapters.peft_settings import peft_config

        config = peft_config("adalora", self.settings, target_modules="x")
        allocator = RankAllocator(model, config, _ADAPTER)
        if not allocator.name_set:
            raise AdapterError(f"{type(model).__name__} carries no AdaLoRA layer: attach it before training")
        # The attributes that AdaLoraModel.update_and_allocate reads: the tuner itself is gone after injection.
        self._host = SimpleNamespace(
            model=model, peft_config={_ADAPTER: config}, trainable_adapter_name=_ADAPTER, rankallocator=allocator
        )
        if self._saved:
            config.rank_pattern = self._saved["rank_pattern"]
            parameters = dict(model.named_parameters())
            for average in _AVERAGES:
                values = {n: _unpack(v, parameters[n]) for n, v in self._saved[average].items()}
                setattr(allocator, average, values)
            # Overwritten at each update before it is read; a name without one would make its averages start afresh.
            allocator.ipt = {name: torch.zeros_like(value) for name, value in allocator.exp_avg_ipt.items()}

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        """`orth_reg_weight` times the mean over all P and Q of |P P^T - I| (Frobenius), as PEFT adds it to the
        loss.
        """
        terms = []
        for name, parameter in model.named_parameters():
            right = f"lora_A.{_ADAPTER}" in name
            if right or f"lora_B.{_ADAPTER}" in name:
                gram = parameter @ parameter.T if right else parameter.T @ parameter
                terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram)).to(gram)))
        weight = self._host.peft_config[_ADAPTER].orth_reg_weight
        return weight * torch.stack(terms).mean() if weight and terms else None

    def on_update(self, run: Run) -> None:
        """PEFT's `update_and_allocate` for this step."""
        from peft import AdaLoraModel

        AdaLoraModel.update_and_allocate(self._host, run.step)

    def state(self) -> dict[str, Any]:
        """Kept ranks, and the running averages as hexadecimal bytes: decimal text would be five times as long."""
        allocator = self._host.rankallocator
        averages = {
            average: {name: _pack(value) for name, value in getattr(allocator, average).items()}
            for average in _AVERAGES
        }
        return {"rank_pattern": self._host.peft_config[_ADAPTER].rank_pattern, **averages}

    def load_state(self, state: dict[str, Any]) -> None:
        """Kept until `on_start` has made the allocator."""
        self._saved = state


def _pack(value: torch.Tensor) -> str:
    return value.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().tobytes().hex()


def _unpack(text: str, like: torch.Tensor) -> torch.Tensor:
    value = torch.frombuffer(bytearray.fromhex(text), dtype=like.dtype).clone()
    return value.view(like.shape).to(like.device)
