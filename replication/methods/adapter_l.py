"""Adapter-L: one bottleneck adapter a block, Lin et al. 2020 (arXiv 2004.03829), as the LoRA paper names it.

    h <- h + W_up relu(W_down LN(h) + b_down) + b_up

on the output h of every block, with a layer norm LN of its own.

Implementation details (zlinao/VGLM, pytorch_transformers/modeling_vlm.py, at 866cd112):
1. The adapter comes after the feedforward network and its residual, on the block's output.
2. W_down starts from N(0, 0.02), here cut at two deviations, LN at weight one and bias zero, the biases at zero. W_up
   starts at zero, so that the start is the base model bit for bit; that code draws it like W_down.
3. d -> m -> d with biases and LN is 2 d m + m + 3 d numbers a block. With a bottleneck m that is fitted this gives all
   four #Params of the LoRA paper's table 3 (`replicate count-published`).
4. The blocks are the decoder's of an encoder-decoder model.
5. There is a nonlinearity between the projections, so nothing can be merged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from replication.errors import AdapterError
from replication.methods.shared.base import FLOAT32, MethodConfig, check_adapter_dtype, check_integer, check_seed
from replication.methods.shared.blocks import find_decoder
from replication.methods.shared.bottleneck import Bottleneck, install_bottlenecks, normal, remove_bottlenecks
from replication.methods.shared.registry import register_method

_ADAPTERS = "adapter_l"
INITIAL_DEVIATION = 0.02


@register_method
@dataclass(frozen=True)
class AdapterLConfig(MethodConfig):
    """`bottleneck`: inner width m; 6 and 224 on GPT-2 Medium, 8 and 248 on Large have the counts of the LoRA paper."""

    bottleneck: int = 64
    init_seed: int = 0
    adapter_dtype: str = field(default=FLOAT32, kw_only=True)

    method: ClassVar[str] = "adapter_l"

    def __post_init__(self) -> None:
        """Check every field."""
        check_integer(self, "bottleneck", minimum=1)
        check_seed(self)
        check_adapter_dtype(self)

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """2 d m + m + 3 d a block."""
        return blocks * (2 * width * self.bottleneck + self.bottleneck + 3 * width)

    def install(self, model: nn.Module) -> None:
        """Put an adapter behind every block; AdapterError if the model has none."""
        stack = find_decoder(model)
        draw = normal(torch.Generator(device="cpu").manual_seed(self.init_seed), INITIAL_DEVIATION)
        like = self.like(next(p for p in stack.blocks[0].parameters() if p.is_floating_point()))
        adapters = [Bottleneck(stack.width, self.bottleneck, like, draw, F.relu, layer_norm=True) for _ in stack.blocks]
        install_bottlenecks(model, _ADAPTERS, stack.blocks, adapters)

    def uninstall(self, model: nn.Module) -> None:
        """Remove the adapters."""
        remove_bottlenecks(model, _ADAPTERS)

    def merge(self, model: nn.Module) -> None:
        """Not supported: raises AdapterError."""
        raise AdapterError(
            "adapter_l cannot be merged: between its two projections is a nonlinearity, which no weight of the model "
            "can hold. Keep the adapter attached for inference"
        )
