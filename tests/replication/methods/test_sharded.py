"""FSDP2 on two processes without a GPU: every method can be sharded, trained, saved and loaded.

Run as a script, this file is what each of the two processes does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from replication.methods import MethodConfig, attach, load, save, trainable_parameters
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.random_lora import RandomLoraConfig
from replication.methods.solo_connection import SoloConnectionConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.testing.laws import logits_of, loss_of, some_ids, stir
from replication.testing.tiny_models import tiny_gpt2

CONFIGS: dict[str, MethodConfig] = {
    "full": FullConfig(),
    "frozen": FrozenConfig(),
    "lora": LoraConfig(rank=2),
    "solo": SoloConnectionConfig(rank=4),
    "solo_sparse": SoloConnectionConfig(rank=8, sparsity=0.6, lora=LoraConfig(rank=2)),
    "solo_fixed": SoloConnectionConfig(rank=4, train_autoencoder=False, shared_autoencoder=False, layer_norm=True),
    "weight_lora": WeightLoraConfig(rank=2, keep=2),
    "weight_lora_plus": WeightLoraPlusConfig(rank=2, expansions=1),
    "random_lora": RandomLoraConfig(rank=2, keep=2),
}


@pytest.mark.slow
def test_every_method_is_sharded_trained_saved_and_loaded(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert json.loads((tmp_path / f"faults-{rank}.json").read_text()) == {}


def one_method(name: str, folder: Path, rank: int) -> None:
    """AssertionError unless the sharded model is the whole one, before and after an update."""
    from torch.distributed.fsdp import fully_shard

    model = stir(attach(tiny_gpt2(), CONFIGS[name]))
    reference = logits_of(model, some_ids())
    whole = save(model, folder / f"{name}-{rank}")
    for module in (*model.transformer.h, model):  # type: ignore[union-attr, misc]
        fully_shard(module)
    torch.testing.assert_close(logits_of(model, some_ids()), reference, atol=1e-6, rtol=1e-5)
    for file in save(model, folder / name).iterdir():
        assert file.read_bytes() == (whole / file.name).read_bytes(), file.name
    torch.distributed.barrier()  # before the folder is written again
    if trainable_parameters(model):
        optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-2)
        loss_of(model, some_ids(seed=rank)).backward()
        optimizer.step()
    loaded = load(tiny_gpt2(), save(model, folder / name))
    trained = logits_of(model, some_ids())
    torch.testing.assert_close(logits_of(loaded, some_ids()), trained, atol=1e-6, rtol=1e-5)
    assert torch.equal(trained, reference) == (not trainable_parameters(loaded)), "training does not reach the output"


def main(folder: Path) -> None:
    """Every method; what failed, by name, goes to a file."""
    torch.distributed.init_process_group("gloo")
    rank, faults = torch.distributed.get_rank(), {}
    for name in CONFIGS:
        try:
            one_method(name, folder, rank)
        except Exception as error:  # the other process needs this one to go on
            faults[name] = f"{type(error).__name__}: {error}"
    (folder / f"faults-{rank}.json").write_text(json.dumps(faults))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
