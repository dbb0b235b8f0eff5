import torch

from replication.methods import attach
from replication.methods.selection import pair_parameters, present_updates
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.training.callbacks import Run
from replication.training.config import TrainingConfig
from studies.ablations.expansion_order import ExpandingFirst, WatchedSelection

SETTINGS = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ("query", "value"), "keep": None, "selection_steps": 2}


def train(model, kind, steps=8):
    """A loop as replication.training runs the hooks, on random tokens."""
    config = WeightLoraPlusConfig(**SETTINGS, expand_every=2, expansions=1)
    training = TrainingConfig(steps=steps, learning_rate=1e-3, warmup_steps=0)
    callback = kind(config, training)
    attach(model, config)
    callback.on_start(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    run = Run(model, callback.build_optimizer(trained, training))
    for group in run.optimizer.param_groups:
        group["lr"] = 1e-3 * group.get("rate_factor", 1.0)
    held = []
    for step in range(1, steps + 1):
        ids = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(step))
        model(input_ids=ids, labels=ids).loss.backward()
        run.optimizer.step()
        run.step = step
        callback.on_update(run)
        run.optimizer.zero_grad()
        callback.on_step_end(run)
        held.append(pair_parameters(present_updates(model).values()))
    return callback, held


def test_ours_never_holds_more_than_at_the_start(tiny_gpt2):
    callback, held = train(tiny_gpt2, WatchedSelection)
    assert held[0] == held[-1] == callback.most == max(held)


def test_the_faulty_order_doubles_every_pair_for_one_update(tiny_gpt2):
    callback, held = train(tiny_gpt2, ExpandingFirst)
    assert held[2] == held[0]
    assert held[3] == callback.most == 2 * held[0]  # the round is at update 4
    assert held[4] == held[-1] == held[0]  # losers leave at the next
    assert len(callback.active) == 6
    assert callback.summary()["expansions"][0]["parameters_after"] == 2 * held[0]
