"""bfloat16 products through float32: the defined result, in every product a training step makes, and only there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from replication import records
from replication.records import machine_conditions
from replication.testing.tiny_models import tiny_bart, tiny_gpt2, tiny_llama
from replication.training.bfloat16 import FloatProducts, fast_bfloat16_products, narrow_weights

SIZES = st.integers(1, 9)


def whole_numbers(seed: int, *shape: int) -> torch.Tensor:
    """Small whole numbers: bfloat16 holds them, and float32 their sums of products, exactly."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@given(SIZES, SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_a_product_is_the_exact_one_rounded_once(rows, inner, columns, seed):
    left, right = whole_numbers(seed, rows, inner), whole_numbers(seed + 1, inner, columns)
    bias = whole_numbers(seed + 2, columns)
    exact = left.double() @ right.double()
    with FloatProducts():
        assert torch.equal(left @ right, exact.bfloat16())
        assert torch.equal(torch.addmm(bias, left, right), (exact + bias.double()).bfloat16())
        assert torch.equal(torch.bmm(left[None], right[None])[0], exact.bfloat16())
        assert torch.equal(torch.baddbmm(bias.expand(1, 1, -1), left[None], right[None])[0], (exact + bias).bfloat16())


@given(st.integers(0, 2**32 - 1))
def test_a_product_differs_from_torchs_own_by_less_than_one_rounding(seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(shape, generator=generator).bfloat16() for shape in ((7, 33), (33, 5)))
    with FloatProducts():
        ours = left @ right
    torch.testing.assert_close(ours, left @ right, rtol=2**-7, atol=1e-6 + 2**-7 * 0.05)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_are_those_of_float32(masked):
    generator = torch.Generator().manual_seed(3)
    narrow = [torch.randn(2, 3, 6, 8, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    hide = torch.zeros(2, 1, 6, 6).masked_fill_(torch.rand(2, 1, 6, 6, generator=generator) < 0.3, -4.0)
    attention = torch.nn.functional.scaled_dot_product_attention
    mask = {"attn_mask": hide} if masked else {"is_causal": True}
    with FloatProducts():
        ours = attention(*narrow, **{k: v.bfloat16() if torch.is_tensor(v) else v for k, v in mask.items()})
        ours.float().square().sum().backward()
    reference = attention(*wide, **mask)
    reference.square().sum().backward()
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), reference, rtol=2**-7, atol=2**-8)
    for mine, theirs in zip(narrow, wide, strict=True):
        assert mine.grad.dtype == torch.bfloat16
        torch.testing.assert_close(mine.grad.float(), theirs.grad, rtol=0.05, atol=0.05)


class Seen(TorchDispatchMode):
    """Notes which operations get a bfloat16 tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 for value in args):
            self.narrow.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_bart])
def test_no_narrow_product_is_left_in_a_training_step(make):
    model = make().train()
    ids = torch.arange(3, 15).reshape(2, 6)
    seen = Seen()
    with seen, FloatProducts():  # the outer mode sees what the inner one lets through
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
    assert seen.narrow, "autocast computed nothing in bfloat16"
    assert not {
        name for name in seen.narrow if "mm" in name or "attention" in name or "matmul" in name or "linear" in name
    }
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


def test_other_dtypes_pass_through_untouched():
    left, right = torch.randn(4, 5), torch.randn(5, 6)
    with FloatProducts():
        assert torch.equal(left @ right, torch.mm(left, right))
        assert (left.double() @ right.double()).dtype == torch.float64
        assert (left.bfloat16() + 1).dtype == torch.bfloat16


@pytest.mark.parametrize("own", [True, False])
def test_only_processors_without_kernels_take_the_way_round(own, monkeypatch):
    monkeypatch.setattr(records, "has_bfloat16_kernels", lambda: own)
    assert isinstance(fast_bfloat16_products(), FloatProducts) != own
    assert not isinstance(fast_bfloat16_products(enabled=False), FloatProducts)
    assert ("bfloat16 products in float32" in machine_conditions().torch_build) != own


def test_narrow_weights_leaves_buffers_alone():
    model, wide = tiny_llama(), tiny_llama()
    assert narrow_weights(model) is model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, wide.get_parameter(name).bfloat16())
    buffers = dict(model.named_buffers())
    assert any("inv_freq" in name for name in buffers)
    assert all(torch.equal(buffer, dict(wide.named_buffers())[name]) for name, buffer in buffers.items())
    assert dict(tiny_llama().to(torch.bfloat16).named_buffers())["model.rotary_emb.inv_freq"].dtype == torch.bfloat16
