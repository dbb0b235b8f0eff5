"""Two processes, under DDP and FSDP2, give the one-process trajectory; a restart may have another number of them.

Run as a script, this file is what each process does.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from replication.errors import ConfigError
from replication.examples import Encoded
from replication.methods import attach, method_config, report_state, save
from replication.training.checks import asks_for_sharding
from replication.training.config import TrainingConfig
from replication.training.loop import train
from replication.training.parallel import Parallel, gathered, is_sharded, shard, split_as

SHARDING = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
TRAINING = TrainingConfig(
    steps=10, warmup_steps=2, learning_rate=0.02, batch_size=4, accumulation_steps=2, log_every=2, eval_every=5,
    checkpoint_every=1, max_grad_norm=1.0, threads=1,
)  # fmt: skip
EXAMPLES = [
    Encoded([1 + (start * 7 + i) % 30 for i in range(4 + start % 5)], [0] + [1] * (3 + start % 5))
    for start in range(16)
]
RANKS = {"init_r": 4, "target_r": 2, "lora_dropout": 0.0}
WEIGHTS = {"rank": 2, "weight_learning_rate": 50.0, "dropout": 0.0}
CONFIGS = {
    "full": method_config("full"),
    "lora": method_config("lora", rank=2, dropout=0.0),
    "solo_connection": method_config("solo_connection", rank=4, dropout=0.0),
    "weight_lora": method_config("weight_lora", keep=2, selection_steps=5, **WEIGHTS),
    "weight_lora_plus": method_config("weight_lora_plus", selection_steps=3, expand_every=2, expansions=2, **WEIGHTS),
    "adalora": method_config(
        "peft_baselines", name="adalora", settings={"init_r": 4, "target_r": 2, "lora_dropout": 0.0}
    ),
}
STOPPED = 5  # updates before the restart: WeightLoRA has selected, WeightLoRA+ has one of its two rounds before it


def tiny(config):
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    return attach(model, config)


class StoppedError(Exception):
    """The end of a run that does not reach its last update."""


def run(name, folder, stop=None):
    """Train one method, from a checkpoint in the folder if there is one, up to `stop` if given; returns its result."""
    config = CONFIGS[name]
    model = tiny(config)

    def reported(model):
        if stop is not None and len(list(folder.glob(f"{name}/step-{stop:08d}"))):
            raise StoppedError
        return report_state(model)

    callback = config.training_callback(TRAINING)
    try:
        result = train(
            model, EXAMPLES, EXAMPLES[:5], TRAINING, seed=1, pad_id=0, callback=callback, report_state=reported,
            checkpoint_directory=folder / name,
        )  # fmt: skip
    except StoppedError:
        return {}
    if stop is not None:
        raise AssertionError("the run did not stop")
    save(model, folder / f"adapter-{name}")
    return {
        "curves": result.curves,
        "tokens": result.tokens_seen,
        "resumed_from": result.resumed_from,
        "sharded": sum(map(is_sharded, model.parameters())),
        "weights": {n: gathered(p).detach().tolist() for n, p in model.named_parameters() if p.requires_grad},
        "summary": callback.summary() if callback else None,
    }


def several(names, folder, processes=2, stop=None, **environment):
    """The outcome of every process, by method."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", __file__]
    shared = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", **environment}
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [*command, str(folder), str(stop or 0), *names], env=shared, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


def assert_alike(ours, theirs, tolerance=1e-5):
    """Equal up to the order of sums."""
    assert [row["step"] for row in ours["curves"]] == [row["step"] for row in theirs["curves"]]
    for one, other in zip(ours["curves"], theirs["curves"], strict=True):
        for column, value in other.items():
            assert (one[column] is None) == (value is None), column
            if value is not None:
                assert math.isclose(one[column], value, rel_tol=10 * tolerance, abs_tol=tolerance), (one, other)
    assert ours["tokens"] == theirs["tokens"]
    assert ours["weights"].keys() == theirs["weights"].keys()
    for name, value in theirs["weights"].items():
        torch.testing.assert_close(
            torch.tensor(ours["weights"][name]), torch.tensor(value), atol=tolerance, rtol=10 * tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip
    if theirs["summary"] is not None:
        found, wanted = ({k: v for k, v in one["summary"].items() if k != "trace"} for one in (ours, theirs))
        assert json.loads(json.dumps(found)) == json.loads(json.dumps(wanted))


# --- what needs several processes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process learns, by method."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ACCELERATE_USE_CPU", "1")
        return {name: run(name, folder) for name in CONFIGS}


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, SHARDING], ids=["ddp", "fsdp2"])
def test_two_processes_give_the_trajectory_of_one(environment, alone, tmp_path):
    both = several(CONFIGS, tmp_path, **environment)
    for name, theirs in alone.items():
        for ours in both:
            assert_alike(ours[name], theirs)
            assert bool(ours[name]["sharded"]) == bool(environment)
        assert both[0][name]["weights"] == both[1][name]["weights"], "the processes agree to the bit"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [((1, {}), (2, {})), ((2, {}), (1, {})), ((1, {}), (2, SHARDING)), ((2, SHARDING), (1, {}))],
    ids=["1 to 2", "2 to 1", "1 to 2 sharded", "2 sharded to 1"],
)
def test_a_restart_with_another_number_of_processes_goes_on(before, after, alone, tmp_path):
    several(CONFIGS, tmp_path, before[0], stop=STOPPED, **before[1])
    for ours in several(CONFIGS, tmp_path, after[0], **after[1]):
        for name, theirs in alone.items():
            assert ours[name]["resumed_from"] == STOPPED
            assert_alike(ours[name], theirs)


# --- the parts, in a group of one process


@pytest.fixture
def group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Wrapping:
    """The part of an Accelerator that wraps; `num_processes` as in a run of two."""

    num_processes, device = 2, torch.device("cpu")

    def prepare_model(self, model):
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)

    def free_memory(self):
        pass


def test_ddp_is_built_anew_where_parameters_changed(group):
    model = nn.ModuleDict({"stays": nn.Linear(2, 2), "goes": nn.Linear(2, 2)})
    model.forward = lambda x: sum(part(x).sum() for part in model.values())
    parallel = Parallel(Wrapping(), model)
    first = parallel.model
    parallel.follow()
    assert parallel.model is first, "nothing has changed"
    del model["goes"]
    model["stays"].weight = nn.Parameter(torch.zeros(3, 2))
    model["stays"].bias = nn.Parameter(torch.zeros(3))
    parallel.follow()
    assert parallel.model is not first
    parallel.model(torch.ones(1, 2)).backward()
    assert torch.equal(model["stays"].weight.grad, torch.ones(3, 2))


@pytest.mark.parametrize("name", ["full", "lora"])
def test_what_trains_beside_frozen_weights_stays_whole(name, group):
    model = tiny(CONFIGS[name])
    whole = {n: p.detach().clone() for n, p in model.named_parameters()}
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    if name == "lora":
        model.get_parameter(trained[0]).requires_grad_(False)  # as a callback does
    shard(model, torch.device("cpu"), trained)
    for n, parameter in model.named_parameters():
        assert is_sharded(parameter) == (name == "full" or n not in trained), n
        assert torch.equal(gathered(parameter), whole[n])
        assert torch.equal(gathered(split_as(whole[n], parameter)), whole[n])
        assert split_as(other := torch.zeros(()), parameter) is other


def test_processes_with_different_weights_are_refused(group, monkeypatch):
    def other(tensor, op):
        if op == torch.distributed.ReduceOp.MAX:
            tensor[1] += 1

    monkeypatch.setattr(torch.distributed, "all_reduce", other)
    with pytest.raises(ConfigError, match=r"different values of bias: .*FSDP_CPU_RAM_EFFICIENT_LOADING=false"):
        shard(nn.Linear(2, 2), torch.device("cpu"))


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.sampled_from([torch.float32, torch.float64]))
def test_gradients_that_no_process_has_stay_none(present, dtype):
    parallel = Parallel.__new__(Parallel)
    parallel.accelerator, parallel.sharded = Wrapping(), True
    parameters = [nn.Parameter(torch.ones(size + 1, dtype=dtype if size % 2 else None)) for size in range(len(present))]
    for parameter, given_one in zip(parameters, present, strict=True):
        parameter.grad = torch.full_like(parameter, 3.0) if given_one else None
    with mock.patch.object(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2)):  # both have the same
        parallel.average_gradients(parameters)
    for parameter, given_one in zip(parameters, present, strict=True):
        assert (parameter.grad is not None) == given_one
        assert not given_one or torch.equal(parameter.grad, torch.full_like(parameter, 3.0))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP_VERSION=1: .*--fsdp_version 2"),
        ({**SHARDING, "FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
    ],
)
def test_other_kinds_of_sharding_are_refused(environment, message):
    assert asks_for_sharding(SHARDING)
    assert not asks_for_sharding({})
    with pytest.raises(ConfigError, match=message):
        asks_for_sharding(environment)


if __name__ == "__main__":
    where, at = Path(sys.argv[1]), int(sys.argv[2]) or None
    outcomes = {method: run(method, where, at) for method in sys.argv[3:]}
    (where / f"{os.environ['RANK']}.json").write_text(json.dumps(outcomes))
    torch.distributed.destroy_process_group()
