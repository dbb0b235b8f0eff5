"""FT-Top2: the last two blocks train, the rest is frozen; a row of the LoRA paper's table 3.

Implementation details:
1. All parameters of these blocks train, and nothing else: not the final layer norm. On GPT-2 Medium that is 25,192,448,
   the 25.19M of the table; with the final norm it would be 25,194,496, which prints the same.
2. They train in the dtype that they have, as with `full`; `detach` leaves them trained.
3. The blocks are the decoder's of an encoder-decoder model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods.shared.base import MethodConfig, check_integer
from replication.methods.shared.blocks import find_decoder
from replication.methods.shared.registry import register_method


@register_method
@dataclass(frozen=True)
class FtTop2Config(MethodConfig):
    """`blocks`: how many of the last blocks train."""

    blocks: int = 2

    method: ClassVar[str] = "ft_top2"
    trains_base: ClassVar[bool] = True
    adds_modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the field."""
        check_integer(self, "blocks", minimum=1)

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """12 d^2 + 13 d for each of the last blocks (GPT-2)."""
        return min(self.blocks, blocks) * (12 * width**2 + 13 * width)

    def install(self, model: nn.Module) -> None:
        """Freeze all but the last blocks; AdapterError if there are fewer."""
        stack = find_decoder(model)
        if self.blocks > len(stack.blocks):
            raise AdapterError(
                f"ft_top2: blocks={self.blocks} exceeds the model's {len(stack.blocks)}: use up to {len(stack.blocks)}"
            )
        model.requires_grad_(False)
        for block in stack.blocks[-self.blocks :]:
            block.requires_grad_(True)

    def owned_tensors(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Parameters of the last blocks."""
        chosen = {id(p) for block in find_decoder(model).blocks[-self.blocks :] for p in block.parameters()}
        return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in chosen}
