"""Full fine-tuning: every parameter of the model trains. The saved form is the whole state, tied weights
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from replication.methods.shared.base import MethodConfig
from replication.methods.shared.registry import register_method


@register_method
@dataclass(frozen=True)
class FullConfig(MethodConfig):
    """No settings."""

    method: ClassVar[str] = "full"
    trains_base: ClassVar[bool] = True
    adds_modules: ClassVar[bool] = False

    def closed_form_parameters(self, width: int, blocks: int, vocabulary: int, positions: int) -> int:
        """Trained parameters of a GPT-2: d*(V + N) + L*(12 d^2 + 13 d) + 2 d, the head tied to the
        embedding.
        """
        return width * (vocabulary + positions) + blocks * (12 * width**2 + 13 * width) + 2 * width
