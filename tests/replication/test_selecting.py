"""Selection in a user's own loop: the trajectory of `train`, whatever the precision, accumulation and restarts."""

import copy
import dataclasses
import functools
import json
import warnings

import pytest
import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

from replication import Selection, attach, method_config, save, trainable_parameters
from replication.errors import AdapterError, CheckpointError, ConfigError, ReplicationWarning, TrainingError
from replication.examples import Encoded, collate, indices_of_step
from replication.methods.selection import present_updates, structure_of
from replication.training.config import TrainingConfig
from replication.training.loop import train

TRAINING = TrainingConfig(
    steps=10, warmup_steps=2, learning_rate=0.02, batch_size=4, label_smoothing=0.0, log_every=10, max_grad_norm=1.0
)
EXAMPLES = [Encoded([1 + (start * 7 + i) % 30 for i in range(7)], [0] + [1] * 6) for start in range(16)]
WEIGHTS = {"rank": 2, "weight_learning_rate": 50.0, "dropout": 0.0}
LOSERS_STAY = {"remove_losers": False, "freeze_losers": True, "freeze_weights_after": 7}
RANKS = {"init_r": 4, "target_r": 2, "lora_dropout": 0.0}
CONFIGS = {
    "weight_lora": method_config("weight_lora", keep=2, selection_steps=5, **WEIGHTS),
    "weight_lora_losers_stay": method_config(
        "weight_lora", keep=2, selection_steps=5, reset_adapters_after="selection", **LOSERS_STAY, **WEIGHTS
    ),
    "weight_lora_plus": method_config("weight_lora_plus", selection_steps=3, expand_every=2, expansions=2, **WEIGHTS),
    "adalora": method_config("peft_baselines", name="adalora", settings=RANKS),
    "lora": method_config("lora", rank=2, dropout=0.0),
}


def tiny(config):
    """Llama of two blocks with `config` attached: six adapters on q, k and v."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    return attach(model, config)


def batch_of(step, rows=slice(None)):
    batch = collate([EXAMPLES[i] for i in indices_of_step(step, [7] * 16, 4, 1)[rows]], 0)
    labels = batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


@functools.cache
def in_our_loop(name):
    config = CONFIGS[name]
    model = tiny(config)
    callback = config.training_callback(TRAINING)
    train(model, EXAMPLES, [], TRAINING, seed=1, pad_id=0, callback=callback)
    return model, callback and callback.summary()


@functools.cache
def in_own_loop(name):
    return Loop(CONFIGS[name]).run()


class Loop:
    """A loop as a user writes it; `optimizer` is any torch class, `accelerator` and `scaler` as there are."""

    def __init__(self, config, optimizer=torch.optim.AdamW, accelerator=None, scaler=None, **settings):
        self.model = tiny(config)
        settings = {"lr": TRAINING.learning_rate, "weight_decay": TRAINING.weight_decay, **settings}
        self.optimizer = optimizer(trainable_parameters(self.model).values(), **settings)
        self.selection = Selection(self.model, self.optimizer, total_steps=TRAINING.steps)
        self.accelerator, self.scaler = accelerator, scaler
        if accelerator is not None:
            self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        self.scheduler = get_linear_schedule_with_warmup(self.optimizer, TRAINING.warmup_steps, TRAINING.steps)
        self.model.train()

    def step(self, number, parts=1, damage=1.0):
        for part in range(parts):
            rows = slice(part * 4 // parts, (part + 1) * 4 // parts)
            loss = (self.model(**batch_of(number, rows)).loss * damage + self.selection.penalty()) / parts
            if self.accelerator is not None:
                self.accelerator.backward(loss)
            else:
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.scaler is None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), TRAINING.max_grad_norm)
            self.optimizer.step()
        else:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), TRAINING.max_grad_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def run(self, first=1, last=TRAINING.steps, **how):
        for number in range(first, last + 1):
            self.step(number, **how)
        return self

    def state(self):
        parts = {name: getattr(self, name).state_dict() for name in ("model", "selection", "optimizer", "scheduler")}
        return copy.deepcopy(parts)

    def load(self, state, order=("model", "selection", "optimizer", "scheduler")):
        for name in order:
            getattr(self, name).load_state_dict(state[name])
        return self


def assert_same(model, other, tolerance=1e-5):
    here, there = model.state_dict(), other.state_dict()
    assert here.keys() == there.keys()
    for name, value in here.items():
        torch.testing.assert_close(
            value, there[name], atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_same_choices(summary, expected):
    if expected is None:
        assert summary is None
        return
    ours, theirs = dict(summary), dict(expected)
    traces = ours.pop("trace"), theirs.pop("trace")
    assert ours == theirs
    assert traces[0]["steps"] == traces[1]["steps"]
    torch.testing.assert_close(*(torch.tensor(trace["weights"]) for trace in traces), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "parts"), [*((name, 1) for name in CONFIGS), ("weight_lora", 2), ("adalora", 2)])
def test_the_trajectory_is_that_of_our_loop(name, parts):
    expected, choices = in_our_loop(name)
    loop = in_own_loop(name) if parts == 1 else Loop(CONFIGS[name]).run(parts=parts)
    assert_same(loop.model, expected)
    assert_same_choices(loop.selection.summary(), choices)
    if name.startswith("weight"):
        assert structure_of(loop.model) == structure_of(expected)


# --- restarts ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "lora"])
@pytest.mark.parametrize("at", [4, pytest.param(6, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)])
def test_a_restarted_loop_ends_as_one_that_ran_through(name, at):
    through = in_own_loop(name)
    state = Loop(CONFIGS[name]).run(last=at).state()
    order = (
        ("model", "selection", "optimizer", "scheduler")
        if at == 6
        else ("model", "optimizer", "scheduler", "selection")
    )
    again = Loop(CONFIGS[name]).load(state, order).run(first=at + 1)
    assert again.selection.updates == TRAINING.steps
    assert_same(again.model, through.model, tolerance=0)
    assert again.selection.summary() == through.selection.summary()


def test_a_model_takes_the_structure_of_the_tensors_it_loads():
    """Adapters leave, come back, and take another rank, on a copy too; base weights alone change nothing."""
    config = CONFIGS["weight_lora_plus"]
    early, late = Loop(config).run(last=2).model, in_own_loop("weight_lora_plus").model
    model = tiny(config)
    base = {
        name: value for name, value in model.state_dict().items() if "lora_" not in name and "importance" not in name
    }
    for source in (late, early, late):
        model = copy.deepcopy(model)
        model.load_state_dict(source.state_dict())
        assert_same(model, source, tolerance=0)
        assert structure_of(model)["ranks"] == structure_of(source)["ranks"]
    model.load_state_dict(base, strict=False)
    assert len(present_updates(model)) == 1


def test_another_methods_selection_is_refused():
    state = Loop(CONFIGS["adalora"]).selection.state_dict()
    with pytest.raises(CheckpointError, match="does not fit method weight_lora: method was 'peft_baselines'"):
        Loop(CONFIGS["weight_lora"]).selection.load_state_dict(state)
    del state["config"]  # as written by earlier versions
    with pytest.raises(CheckpointError, match="does not fit method weight_lora: KeyError"):
        Loop(CONFIGS["weight_lora"]).selection.load_state_dict(state)


@pytest.mark.parametrize(("field", "value"), [("rank", 3), ("alpha", 64), ("keep", 3)])
def test_another_configuration_is_refused_before_anything_is_taken_from_it(field, value):
    state = Loop(CONFIGS["weight_lora"]).run(last=6).selection.state_dict()
    other = Loop(dataclasses.replace(CONFIGS["weight_lora"], **{field: value})).selection
    with pytest.raises(CheckpointError, match=f"{field} was .* when it was saved and is {value} now"):
        other.load_state_dict(json.loads(json.dumps(state)))
    assert other.updates == 0


# --- precision -----------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["weight_lora", "adalora"])
def test_gradient_scaling_changes_nothing_and_a_skipped_step_does_not_count(name, fused):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)
    loop = Loop(CONFIGS[name], scaler=scaler, fused=fused).run(last=3)
    before = {key: value.clone() for key, value in loop.model.state_dict().items()}
    rates = [group["lr"] for group in loop.optimizer.param_groups]
    loop.step(4, damage=float("inf"))
    assert loop.selection.updates == 3
    assert all(torch.equal(value, before[key]) for key, value in loop.model.state_dict().items())
    loop.scheduler.load_state_dict({**loop.scheduler.state_dict(), "last_epoch": 3})
    for group, rate in zip(loop.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    loop.run(first=4)
    assert_same(loop.model, in_own_loop(name).model)


@pytest.mark.parametrize("clips", [False, True])
def test_a_fused_optimizer_that_unscales_by_itself(clips):
    """Without clipping the gradients are still scaled when the optimizer is called."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled, plain = Loop(CONFIGS["weight_lora"], fused=True), Loop(CONFIGS["weight_lora"], fused=True)
    for number in range(1, 7):
        scaler.scale(scaled.model(**batch_of(number)).loss).backward()
        if clips:
            scaler.unscale_(scaled.optimizer)
        scaler.step(scaled.optimizer)
        scaler.update()
        plain.model(**batch_of(number)).loss.backward()
        plain.optimizer.step()
        for loop in (scaled, plain):
            loop.scheduler.step()
            loop.optimizer.zero_grad()
    assert_same(scaled.model, plain.model)


@pytest.fixture
def accelerator(request):
    """One of mixed precision; Accelerate keeps one for the process and refuses fp16 on a CPU: its parts, there."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    made = Accelerator(mixed_precision="bf16", cpu=True)
    if request.param == "fp16":
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    yield made
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("accelerator", ["bf16", "fp16"], indirect=True)
@pytest.mark.parametrize("name", ["weight_lora_plus", "adalora"])
def test_accelerate_in_half_precision(name, accelerator):
    """Autocast and, in fp16, a gradient scaler whose skipped step does not count."""
    loop = Loop(CONFIGS[name], accelerator=accelerator).run(last=4)
    if accelerator.scaler is not None:
        loop.step(5, damage=float("inf"))
        assert loop.optimizer.step_was_skipped
        assert loop.selection.updates == 4
    loop.run(first=5)
    assert loop.selection.updates == TRAINING.steps
    assert CONFIGS[name].unfinished(loop.model) is None
    assert all(parameter.dtype == torch.float32 for parameter in trainable_parameters(loop.model).values())


# --- optimizers ----------------------------------------------------------------------


def adafactor(parameters, lr, weight_decay):
    from transformers import Adafactor

    return Adafactor(parameters, lr=lr, weight_decay=weight_decay, relative_step=False, scale_parameter=False)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, adafactor])
def test_whatever_the_optimizer_the_weights_take_plain_sgd_steps(optimizer):
    loop = Loop(CONFIGS["weight_lora"], optimizer, weight_decay=0.1)
    weights = {name: p for name, p in trainable_parameters(loop.model).items() if name.endswith("importance_weight")}
    before = {}

    def look(*_):
        before.update({name: (p.detach().clone(), p.grad.clone()) for name, p in weights.items()})

    loop.optimizer.register_step_pre_hook(look)
    for number in range(1, 4):
        rate = 50.0 * loop.scheduler.get_last_lr()[0] / TRAINING.learning_rate
        loop.model(**batch_of(number)).loss.backward()
        loop.optimizer.step()
        loop.scheduler.step()
        loop.optimizer.zero_grad()
        for name, parameter in weights.items():
            value, gradient = before[name]
            assert parameter.item() in (0.0, pytest.approx((value - rate * gradient).item(), abs=1e-6))
    assert not set(loop.optimizer.state) & set(weights.values())


def test_of_one_cycle_the_highest_rate_counts_and_a_higher_one_is_told():
    """Which begins at a 25th of it; CyclicLR keeps its highest to itself."""
    model = tiny(CONFIGS["weight_lora"])
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-3)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=TRAINING.steps)
    assert Selection(model, optimizer, TRAINING.steps).learning_rate == 0.02
    for given, told in ((None, True), (0.02, False)):
        model = tiny(CONFIGS["weight_lora"])
        optimizer = torch.optim.SGD(trainable_parameters(model).values(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 1e-3, 0.02, step_size_up=2, cycle_momentum=False)
        Selection(model, optimizer, TRAINING.steps, learning_rate=given)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(1, 4):
                model(**batch_of(number)).loss.backward()
                optimizer.step()
                scheduler.step()
        messages = [str(w.message) for w in caught if "pass learning_rate=, the schedule's highest" in str(w.message)]
        assert len(messages) == told


def test_an_optimizer_that_lacks_parameters_or_a_rate_is_refused_with_the_fix():
    model = tiny(CONFIGS["weight_lora"])
    weights = [p for name, p in trainable_parameters(model).items() if not name.endswith("importance_weight")]
    with pytest.raises(ConfigError, match=r"lacks 6 of the 18 .* build it over trainable_parameters"):
        Selection(model, torch.optim.AdamW(weights), 10)
    complete = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.0)
    with pytest.raises(ConfigError, match="pass learning_rate="):
        Selection(model, complete, 10)
    Selection(model, complete, 10, learning_rate=0.1).close()
    with pytest.raises(ConfigError, match=r"selection_steps=5 exceeds the training's steps=4"):
        Selection(model, complete, 4, learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"follows a torch\.optim\.Optimizer, got object"):
        Selection(model, object(), 10)
    with pytest.raises(AdapterError, match=r"attach\(model, config\)"):
        Selection(torch.nn.Linear(2, 2), complete, 10)


def test_a_closed_selection_and_a_closure():
    loop = Loop(CONFIGS["weight_lora"])
    with pytest.raises(TrainingError, match="call backward"):
        loop.optimizer.step(lambda: torch.tensor(0.0))
    loop.selection.close()
    loop.run(last=1)
    assert loop.selection.updates == 0


def test_wrapped_models_are_followed():
    model = tiny(CONFIGS["weight_lora"])
    optimizer = torch.optim.AdamW(trainable_parameters(model).values())
    for wrapper in (torch.nn.DataParallel(model), torch.compile(model)):
        assert Selection(wrapper, optimizer, 10).model is model


def test_the_state_is_a_copy_and_its_rate_is_that_of_the_first_run():
    loop = Loop(CONFIGS["weight_lora"]).run(last=3)
    state = loop.selection.state_dict()
    kept = copy.deepcopy(state)
    other = Loop(CONFIGS["weight_lora"], lr=1e-4)
    other.selection.load_state_dict(state)
    assert other.selection.learning_rate == TRAINING.learning_rate
    loop.run(first=4, last=5)
    other.run(last=1)
    assert state == kept


def test_a_new_selection_takes_over_from_an_earlier_one():
    loop = Loop(CONFIGS["weight_lora"])
    first, loop.selection = loop.selection, Selection(loop.model, loop.optimizer, TRAINING.steps)
    loop.run()
    assert first.updates == 0
    assert_same(loop.model, in_own_loop("weight_lora").model, tolerance=0)


def test_gradients_that_are_not_finite_end_the_training_before_any_weight_moves():
    loop = Loop(CONFIGS["weight_lora"]).run(last=3)
    with pytest.raises(TrainingError, match=r"update 4: the gradient of .*importance_weight is nan"):
        loop.step(4, damage=float("nan"))


# --- what is warned about ------------------------------------------------------------


def untended(config, passes):
    model = tiny(config)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.02)
    for number in range(1, passes + 1):
        model(**batch_of(number)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("weight_lora", "weight_lora: selection_steps=5 is set, but all 6 adapters remain"),
        ("weight_lora_losers_stay", "weight_lora: selection_steps=5 is set, but all 6 adapters remain"),
        ("weight_lora_plus", "weight_lora_plus: selection_steps=3 is set, but all 6 adapters remain"),
        ("adalora", "adalora: 24 ranks remain, target_r asks for 12"),
    ],
)
def test_a_selection_that_nobody_makes_is_told_during_training_and_by_save(name, reason, tmp_path):
    with pytest.warns(
        ReplicationWarning, match=f"{reason}: the selection has not run, or not to its end. Train with callbacks"
    ):
        model = untended(CONFIGS[name], passes=10)
    with pytest.warns(ReplicationWarning, match=reason):
        save(model, tmp_path / "adapter")


@pytest.mark.parametrize("name", CONFIGS)
def test_no_warning_is_due_where_the_selection_runs(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReplicationWarning)
        save(in_own_loop(name).model, tmp_path / "adapter")
        if name == "lora":
            untended(CONFIGS[name], passes=12)
            untended(method_config("weight_lora", rank=2, keep=2, selection_steps=None), passes=12)


def test_another_epsilon_than_the_methods_is_told():
    config = method_config("weight_lora", preset="code_2025_08", rank=2, keep=2, selection_steps=5)
    with pytest.warns(ReplicationWarning, match="adam_epsilon=1e-06 is set, but the optimizer has eps=1e-08"):
        Loop(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReplicationWarning)
        Loop(config, eps=1e-6)
        Loop(config, torch.optim.SGD)


def test_a_selection_made_after_updates_is_told_unless_its_state_comes():
    loop = Loop(CONFIGS["weight_lora"]).run(last=3)
    state = loop.selection.state_dict()
    loop.selection = Selection(loop.model, loop.optimizer, TRAINING.steps)
    with pytest.warns(ReplicationWarning, match="the optimizer had made updates before this selection") as caught:
        loop.run(first=4, last=5)
    assert len(caught) == 1
    loop.selection = Selection(loop.model, loop.optimizer, TRAINING.steps)
    loop.selection.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReplicationWarning)
        loop.run(first=4, last=5)


def test_a_penalty_that_nobody_adds_is_told_once():
    loop = Loop(CONFIGS["adalora"])
    loop.selection.penalty = lambda: 0.0  # a loop that forgets it
    with pytest.warns(ReplicationWarning, match=r"loss \+ selection\.penalty\(\)") as caught:
        loop.run(last=2)
    assert len(caught) == 1


def test_parameters_that_fsdp2_has_sharded_and_pairs_that_grow_in_several_processes_are_refused(monkeypatch):
    config = CONFIGS["weight_lora_plus"]
    model = tiny(config)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.02)
    monkeypatch.setattr("replication.selecting._processes", lambda: 2)
    with pytest.raises(ConfigError, match="weight_lora_plus puts new parameters into the model on the way"):
        Selection(model, optimizer, total_steps=10)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.distributed.fsdp.fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=0.02)
        with pytest.raises(ConfigError, match=r"18 parameters that train are sharded by FSDP2, such as model\.layers"):
            Selection(model, optimizer, total_steps=10)
    finally:
        torch.distributed.destroy_process_group()
