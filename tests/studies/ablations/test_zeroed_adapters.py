import pytest
import torch

from replication.methods.weight_lora import WeightedUpdate, WeightLoraConfig
from studies.ablations.zeroed_adapters import dense_forward


@pytest.mark.parametrize("weight", [1.0, 0.0, -0.5])
def test_the_dense_product_is_the_same_update(weight):
    generator = torch.Generator().manual_seed(0)
    update = WeightedUpdate(6, 5, WeightLoraConfig(rank=2), torch.zeros(1), generator)
    with torch.no_grad():
        update.lora_B.normal_(generator=generator)
        update.importance_weight.fill_(weight)
        x = torch.randn(3, 6, generator=generator)
        assert torch.allclose(dense_forward(update, x), update(x), atol=1e-5)
