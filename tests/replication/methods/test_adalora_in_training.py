"""AdaLoRA's budget: PEFT's own loop as oracle, and runs that are killed and go on with the same bits."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from replication.errors import AdapterError, ConfigError
from replication.examples import Encoded, collate, indices_of_step
from replication.methods import attach, method_config, trainable_parameters
from replication.methods.peft_baselines import AdaLoraCallback, PeftBaselineConfig, schedule
from replication.training.callbacks import Callback
from replication.training.config import TrainingConfig, learning_rate_at
from replication.training.loop import train

torch.set_num_threads(1)

SETTINGS = {"init_r": 4, "target_r": 2, "lora_dropout": 0.0}
TRAINING = TrainingConfig(
    steps=14, warmup_steps=2, learning_rate=0.02, batch_size=4, label_smoothing=0.0, log_every=1, checkpoint_every=1
)
EXAMPLES = [Encoded([1 + (start * 7 + i) % 30 for i in range(7)], [0] + [1] * 6) for start in range(16)]


def tiny():
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=0)).eval()


class Killed(Exception):  # noqa: N818
    pass


def run(folder=None, kill_at=None, settings=SETTINGS, training=TRAINING):
    config = PeftBaselineConfig(name="adalora", settings=settings)
    model = attach(tiny(), config)
    callback = config.training_callback(training)

    def end_of_step(run):
        if run.step == kill_at:
            raise Killed

    callback.on_step_end = end_of_step
    result = train(
        model, EXAMPLES, EXAMPLES[:4], training, seed=1, pad_id=0, callback=callback, checkpoint_directory=folder
    )
    return model, result, callback


def singular_values(model):
    return {name: p.detach().flatten() for name, p in model.named_parameters() if ".lora_E." in name}


def kept(model):
    return sum(int((values != 0).sum()) for values in singular_values(model).values())


def test_the_budget_ends_at_the_target_and_stays_there():
    model, result, callback = run()
    assert len(singular_values(model)) == 6
    assert kept(model) <= 6 * 2
    pattern = callback.state()["rank_pattern"]
    assert kept(model) == sum(sum(row) for row in pattern.values())
    for name, values in singular_values(model).items():
        assert ((values != 0) == torch.tensor(pattern[name])).all()
    assert result.dev_loss < result.curves[0]["dev_loss"]


def test_a_run_is_that_of_pefts_own_loop():
    from peft import get_peft_model

    from replication.methods.peft_baselines import peft_config

    ours, result, _ = run()
    fresh = attach(tiny(), PeftBaselineConfig(name="adalora", settings=SETTINGS))
    targets = ["q_proj", "k_proj", "v_proj"]
    filled_in = schedule(SETTINGS, TRAINING.steps)
    settings = PeftBaselineConfig(name="adalora", settings=SETTINGS).settings
    theirs = get_peft_model(tiny(), peft_config("adalora", settings, target_modules=targets, **filled_in))
    state = theirs.state_dict()
    for name, parameter in trainable_parameters(fresh).items():
        state[f"base_model.model.{name}"].copy_(parameter.detach())
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1.0, weight_decay=TRAINING.weight_decay)
    losses = []
    for step in range(1, TRAINING.steps + 1):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, TRAINING)
        batch = collate([EXAMPLES[i] for i in indices_of_step(step, list(map(len, EXAMPLES)), 4, 1)], 0)
        labels = batch["input_ids"].clone()
        labels[:, 0] = -100
        # Through the tuner: PEFT's wrapper for no particular task calls the model past it, without the penalty.
        loss = theirs.base_model(input_ids=batch["input_ids"], labels=labels).loss
        loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        losses.append(loss.item())
    state = theirs.state_dict()
    for name, parameter in trainable_parameters(ours).items():
        torch.testing.assert_close(parameter.detach(), state[f"base_model.model.{name}"], atol=1e-6, rtol=1e-4)
    assert losses[0] > result.curves[1]["loss"] + 0.5  # PEFT's loss has the orthogonality term in it


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


@pytest.mark.parametrize("kill_at", [1, 4, 7, 12])  # before, while and after the ranks are cut
def test_a_killed_run_goes_on_with_the_same_bits(uninterrupted, tmp_path, kill_at):
    whole, expected, callback = uninterrupted
    with pytest.raises(Killed):
        run(tmp_path, kill_at)
    model, result, again = run(tmp_path)
    assert result.resumed_from == kill_at - 1
    for (name, one), other in zip(whole.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [row["loss"] for row in result.curves] == [row["loss"] for row in expected.curves]
    assert again.state() == callback.state()


def test_the_state_is_json_and_exact():
    config = PeftBaselineConfig(name="adalora", settings=SETTINGS)
    model = attach(tiny(), config)
    callback = config.training_callback(TRAINING)
    callback.on_start(model)
    allocator = callback._host.rankallocator
    assert callback.state() == {"rank_pattern": None, "exp_avg_ipt": {}, "exp_avg_unc": {}}
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(p.shape, generator=generator) / 3 for n, p in trainable_parameters(model).items()}
    allocator.exp_avg_ipt, allocator.exp_avg_unc = values, {name: value * 1e-30 for name, value in values.items()}
    later = AdaLoraCallback(config.settings, TRAINING.steps)
    later.load_state(json.loads(json.dumps(callback.state())))
    later.on_start(copy.deepcopy(model))
    for average in ("exp_avg_ipt", "exp_avg_unc"):
        before, after = getattr(allocator, average), getattr(later._host.rankallocator, average)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert later._host.rankallocator.ipt.keys() == values.keys()


def test_the_penalty_is_the_distance_from_orthogonal_columns():
    config = PeftBaselineConfig(name="adalora", settings={**SETTINGS, "orth_reg_weight": 0.25})
    model = attach(tiny(), config)
    callback = config.training_callback(TRAINING)
    callback.on_start(model)
    expected = []
    for name, parameter in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            rows = parameter.detach() if ".lora_A." in name else parameter.detach().T
            expected.append((rows @ rows.T - torch.eye(4)).pow(2).sum().sqrt())
    assert callback.penalty(model).item() == pytest.approx(0.25 * torch.stack(expected).mean().item(), rel=1e-5)
    without = PeftBaselineConfig(name="adalora", settings={**SETTINGS, "orth_reg_weight": 0.0})
    silent = without.training_callback(TRAINING)
    silent.on_start(model)
    assert silent.penalty(model) is None


# --- schedules ------------------------------------------------------------------------


@given(steps=st.integers(2, 5000))
def test_the_schedule_follows_the_length_of_training(steps):
    found = schedule({}, steps)
    last = found["total_step"] - found["tfinal"]
    assert found["total_step"] == steps
    assert 0 <= found["tinit"] < last <= steps
    assert last >= 2


def test_the_schedules_default_shares():
    assert schedule({}, 300) == {"total_step": 300, "tinit": 30, "tfinal": 150}
    assert schedule({"tinit": 5, "tfinal": 20}, 300) == {"total_step": 300, "tinit": 5, "tfinal": 20}
    assert schedule({"total_step": 200, "tfinal": 50}, 300)["total_step"] == 200


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_the_shortest_runs_work(steps):
    training = TrainingConfig(steps=steps, warmup_steps=0, learning_rate=0.02, batch_size=4)
    model, _, _ = run(training=training)
    assert kept(model) <= 6 * 2


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 1),
        ({"total_step": 50, "tfinal": 10}, 30),
        ({"tinit": 20, "tfinal": 20}, 30),
        ({"tinit": 0, "tfinal": 29}, 30),
        ({"tinit": 0, "tfinal": 40}, 30),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(settings, steps):
    config = method_config("peft_baselines", name="adalora", settings={**SETTINGS, **settings})
    with pytest.raises(ConfigError, match=rf"total_step=.* do not fit training\.steps={steps}"):
        config.training_callback(TrainingConfig(steps=steps, warmup_steps=0))


def test_a_target_rank_that_takes_nothing_away_is_refused():
    with pytest.raises(ConfigError, match="target_r=4: must be below init_r=4"):
        PeftBaselineConfig(name="adalora", settings={"init_r": 4, "target_r": 4})


def test_only_adalora_has_a_callback():
    assert PeftBaselineConfig(name="dora").training_callback(TRAINING) is None
    callback = PeftBaselineConfig(name="adalora").training_callback(TRAINING)
    assert isinstance(callback, Callback)
    assert callback.summary() is None
    with pytest.raises(AdapterError, match="no AdaLoRA layer"):
        callback.on_start(tiny())
