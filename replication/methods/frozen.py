"""The floor every method is compared with: the base model as it is. A task head, where there is one, still
trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from replication.methods.shared.base import MethodConfig
from replication.methods.shared.registry import register_method


@register_method
@dataclass(frozen=True)
class FrozenConfig(MethodConfig):
    """No settings."""

    method: ClassVar[str] = "frozen"
    adds_modules: ClassVar[bool] = False

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """Trained parameters: none, whatever the model."""
        return 0
