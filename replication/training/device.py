"""The device that models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def default_device() -> torch.device:
    """Where `train` trains, for what only evaluates: CUDA or another accelerator where there is one, else the CPU.

    Accelerate chooses; ACCELERATE_USE_CPU=1 keeps both on the CPU.
    """
    from accelerate import PartialState

    return PartialState().device
