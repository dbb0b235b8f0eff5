"""Growing a pair: what stays the same and what does not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.methods.weight_lora_plus import EXPANSIONS, WeightLoraPlusConfig, expand_by_qr, expand_pair


@st.composite
def pairs(draw):
    """A (r, in) and B (out, r), and a larger rank that fits; A may have dependent or zero rows."""
    rank = draw(st.integers(1, 5))
    inputs, outputs = draw(st.integers(2 * rank, 20)), draw(st.integers(2 * rank, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    lora_A = torch.randn(rank, inputs, generator=generator) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    if draw(st.booleans()):
        lora_A[-1] = lora_A[0] * draw(st.sampled_from([0.0, 2.0]))
    lora_B = torch.randn(outputs, rank, generator=generator)
    larger = draw(st.integers(rank + 1, min(inputs, outputs)))
    return lora_A, lora_B, larger


@given(pair=pairs(), seed=st.integers(0, 99))
def test_qr_keeps_the_product_and_adds_columns_orthogonal_to_the_old(pair, seed):
    lora_A, lora_B, larger = pair
    rank = len(lora_A)
    new_A, new_B = expand_by_qr(lora_A, lora_B, larger, torch.Generator().manual_seed(seed))
    assert new_A.shape == (larger, lora_A.shape[1])  # the inner dimension grows
    assert new_B.shape == (lora_B.shape[0], larger)
    product = lora_B.double() @ lora_A.double()
    torch.testing.assert_close(new_B @ new_A, product, atol=1e-12 * max(1, float(product.abs().max())), rtol=1e-10)
    assert (new_B[:, rank:] == 0).all()
    torch.testing.assert_close(new_A @ new_A.T, torch.eye(larger, dtype=torch.float64), atol=1e-10, rtol=0)
    # orthogonal to the old rows of A themselves, not only to Q
    old = lora_A.double() / lora_A.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    assert (old @ new_A[rank:].T).abs().max() < 1e-6


@given(pair=pairs(), kind=st.sampled_from(EXPANSIONS), seed=st.integers(0, 99))
def test_only_a_restart_changes_the_product(pair, kind, seed):
    lora_A, lora_B, larger = pair
    config = WeightLoraPlusConfig(expansion=kind)

    def expand():
        return expand_pair(lora_A, lora_B, larger, config, torch.Generator().manual_seed(seed))

    state = torch.random.get_rng_state()
    new_A, new_B = expand()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(expand(), (new_A, new_B), strict=True))
    assert (new_A.shape, new_B.shape) == ((larger, lora_A.shape[1]), (lora_B.shape[0], larger))
    assert new_A.dtype == new_B.dtype == torch.float32
    product = torch.zeros_like(lora_B @ lora_A) if kind == "restart" else lora_B @ lora_A
    torch.testing.assert_close(new_B @ new_A, product, atol=1e-4 * max(1, float(product.abs().max())), rtol=1e-4)
    if kind == "concatenate":
        assert torch.equal(new_A[: len(lora_A)], lora_A)
        assert torch.equal(new_B[:, : len(lora_A)], lora_B)
    assert torch.linalg.matrix_rank(new_A[len(lora_A) :].double()) == larger - len(lora_A)  # room to learn in
    if kind != "restart":
        assert (new_B[:, len(lora_A) :] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_of_the_pair_is_kept(dtype):
    generator = torch.Generator().manual_seed(0)
    lora_A, lora_B = torch.randn(2, 8, generator=generator).to(dtype), torch.randn(9, 2, generator=generator).to(dtype)
    for kind in EXPANSIONS:
        new_A, new_B = expand_pair(lora_A, lora_B, 4, WeightLoraPlusConfig(expansion=kind), generator)
        assert (new_A.dtype, new_B.dtype) == (dtype, dtype)
