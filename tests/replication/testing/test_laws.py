"""A law that no method can break proves nothing: here each is broken on purpose, and kept by a method that is sound."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods import MethodConfig, attach, attached_config
from replication.methods.frozen import FrozenConfig
from replication.methods.lora import LoraConfig
from replication.methods.shared.base import AdapterModule, fill
from replication.methods.shared.blocks import find_decoder
from replication.methods.shared.registry import REGISTERED, register_method
from replication.testing import laws
from replication.testing.laws import LAWS, check_method


class Shift(AdapterModule):
    def __init__(self, width, like, start=0.0):
        super().__init__()
        self.vector = fill((width,), like, lambda value: value.fill_(start))

    def after_block(self, block, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden + self.vector.to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@dataclass(frozen=True)
class ShiftConfig(MethodConfig):
    """A sound method whose habits `fault` breaks one at a time."""

    fault: str = "none"
    method: ClassVar[str] = "test_shift"

    def install(self, model):
        stack = find_decoder(model)
        like = next(stack.blocks[0].parameters())
        like = like if self.fault == "half precision" else self.like(like)
        start = 0.5 if self.fault == "start" else torch.randn(()).item() if self.fault == "global draw" else 0.0
        shifts = nn.ModuleList(Shift(stack.width, like, start) for _ in stack.blocks)
        if self.fault == "unused":
            shifts.append(Shift(stack.width, like))
        if self.fault == "base trains":
            next(stack.blocks[0].parameters()).requires_grad_(True)
        if self.fault == "own device":
            shifts[0].vector = nn.Parameter(torch.zeros(stack.width))
        model.test_shift = shifts
        for block, shift in zip(stack.blocks, shifts, strict=False):
            hook = shift.after_block
            if self.fault == "closure":
                hook = lambda block, inputs, output, shift=shift: shift.after_block(block, inputs, output)  # noqa: E731
            elif self.fault == "looks around":
                hook = self._mixing(shift)
            elif self.fault == "shared state":
                hook = self._remembering(shifts, shift)
            elif self.fault in ("silent under autocast", "loud under autocast"):
                hook = self._otherwise_under_autocast(shift, 0 if self.fault.startswith("silent") else 3)
            shift.handle = block.register_forward_hook(hook)

    def _mixing(self, shift):
        def hook(block, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden + shift.vector.to(hidden.dtype) * hidden.mean(dim=1, keepdim=True)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _remembering(self, shifts, shift):
        """Reads on the model what the block before left there."""

        def hook(block, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            before = hidden if shift is shifts[0] else shifts.seen
            shifts.seen = hidden
            hidden = hidden + shift.vector.to(hidden.dtype) * before.mean()
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _otherwise_under_autocast(self, shift, factor):
        def hook(block, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden + shift.vector.to(hidden.dtype) * (factor if torch.is_autocast_enabled("cpu") else 1)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def merge(self, model):
        if self.fault != "merge loses":
            super().merge(model)

    def uninstall(self, model):
        if self.fault != "hook stays":
            for shift in model.test_shift:
                shift.handle.remove() if hasattr(shift, "handle") else None
        del model.test_shift


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REGISTERED, ShiftConfig.method, ShiftConfig)


def broken(config):
    return {check.law for check in check_method(config, models=("gpt2",)) if check.fault}


def test_a_sound_method_keeps_every_law_on_every_model():
    checks = check_method(ShiftConfig())
    assert [str(check) for check in checks if check.fault] == []
    assert len(checks) == 3 * len(LAWS)


@pytest.mark.parametrize("config", [FrozenConfig(), LoraConfig(rank=2)])
def test_methods_of_the_package_keep_them_too(config):
    assert broken(config) == set()


FAULTS = (
    ("start", "starts as the base"),
    ("unused", "checkpoints the same gradients"),
    ("base trains", "detaches completely"),
    ("base trains", "trains its own parameters only"),
    ("own device", "attaches without memory"),
    ("global draw", "attaches repeatably"),
    ("half precision", "trains in float32"),
    ("half precision", "keeps bfloat16"),
    ("closure", "copies independently"),
    ("looks around", "decodes with a cache"),
    ("looks around", "ignores padding"),
    ("hook stays", "detaches completely"),
    ("merge loses", "merges into a plain model"),
    ("shared state", "keeps threads apart"),
    ("silent under autocast", "works under autocast"),
    ("loud under autocast", "works under autocast"),
)


@pytest.mark.parametrize(("fault", "law"), FAULTS)
def test_each_fault_breaks_its_law(fault, law):
    assert law in broken(ShiftConfig(fault=fault))


def test_a_method_that_trains_nothing_is_none():
    class Idle(ShiftConfig):
        def install(self, model):
            """Nothing."""

        def uninstall(self, model):
            """Nothing."""

    (found,) = (check for check in check_method(Idle(), models=("gpt2",)) if check.law.startswith("trains its own"))
    assert "nothing trains: new parameters live in an AdapterModule" in found.fault


def test_a_method_that_trains_what_is_not_its_own_is_not_attached(tiny_gpt2):
    with pytest.raises(AdapterError, match=r"test_shift: trains transformer\..*counts and saved files would lack it"):
        attach(tiny_gpt2, ShiftConfig(fault="base trains"))
    assert attached_config(tiny_gpt2) is None
    assert all(parameter.requires_grad for parameter in tiny_gpt2.parameters())


def test_a_method_that_is_not_registered_cannot_be_loaded():
    other = dataclasses.make_dataclass("Other", [], bases=(ShiftConfig,), frozen=True, namespace={"method": "nowhere"})
    assert "loads what it saves" in broken(other())


def test_registering_makes_a_name_known(monkeypatch):
    monkeypatch.delitem(REGISTERED, ShiftConfig.method)
    assert register_method(ShiftConfig) is ShiftConfig
    assert REGISTERED["test_shift"] is ShiftConfig


def test_a_law_that_cannot_hold_is_exempt_with_its_reason():
    class Moved(ShiftConfig):
        def exempt_laws(self):
            return {"starts as the base": "it starts elsewhere"}

    checks = check_method(Moved(fault="start"), models=("gpt2",))
    assert [str(check) for check in checks if check.exempt] == [
        "exempt  gpt2   starts as the base: it starts elsewhere"
    ]
    assert not {"keeps bfloat16", "works under autocast"} & {check.law for check in checks if check.fault}


def test_a_check_says_in_one_line_what_is_wrong():
    lines = [str(check) for check in check_method(ShiftConfig(fault="start"), models=("gpt2",))]
    assert any(line.startswith("broken  gpt2   starts as the base: AssertionError: ") for line in lines)
    assert any(line.startswith("kept    gpt2   ") for line in lines)


def test_a_second_method_that_is_not_refused_is_noticed(monkeypatch):
    real = laws.attach
    monkeypatch.setattr(laws, "attach", lambda model, config: model if attached_config(model) else real(model, config))
    assert broken(ShiftConfig()) == {"refuses a second method"}


def test_every_law_is_broken_by_something():
    assert {law for _, law in FAULTS} | {"loads what it saves", "refuses a second method"} == set(LAWS)
