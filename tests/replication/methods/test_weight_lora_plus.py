"""WeightLoRA+: its rounds, its budget, and what an expansion does to a model in training."""

import dataclasses
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from replication.counting import parameter_counts
from replication.errors import AdapterError, ConfigError, ReplicationWarning
from replication.examples import Encoded
from replication.methods import attach, detach, load, merge, save, trainable_parameters, unmerge
from replication.methods import weight_lora as module
from replication.methods.selection import apply_structure, present_updates
from replication.methods.weight_lora import Milestone
from replication.methods.weight_lora_plus import EXPANSIONS, WeightLoraPlusConfig, expand_by_qr, expand_pair
from replication.training.config import TrainingConfig
from replication.training.loop import train

TRAINING = TrainingConfig(steps=12, warmup_steps=0, learning_rate=0.01, batch_size=4, log_every=3, threads=1)


def corpus(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (count,), generator=generator).tolist()
    return [Encoded(torch.randint(1, 31, (n,), generator=generator).tolist(), [0] + [1] * (n - 1)) for n in lengths]


def tiny(config=None, width=16):
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "n_positions": 16, "n_embd": width, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    return attach(model, config) if config else model


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None]).logits


class Looking(module.WeightLoraCallback):
    """Notes the logits before and after the end of every step, and the optimizer's steps of each pair."""

    def on_step_end(self, run):
        run.model.eval()
        before = logits_of(run.model)
        super().on_step_end(run)
        self.changes = {**getattr(self, "changes", {}), run.step: (logits_of(run.model) - before).abs().max().item()}
        counts = [int(state["step"]) for state in run.optimizer.state.values()]
        self.adam = {**getattr(self, "adam", {}), run.step: counts}
        self.ranks = {
            **getattr(self, "ranks", {}),
            run.step: {i: len(update.lora_A) for i, update in present_updates(run.model).items()},
        }
        held = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in trainable_parameters(run.model).values()}
        run.model.train()


def fit(config, training=TRAINING):
    model, callback = tiny(config), Looking(config, training)
    config.training_callback(training)  # the checks
    result = train(model, corpus(13), corpus(4, 1), training, seed=3, pad_id=0, callback=callback)
    return model, result, callback


@settings(max_examples=6)
@given(
    expansion=st.sampled_from(["qr", "concatenate", "restart"]),
    keep=st.sampled_from([None, 4, 5]),
    rank_by=st.sampled_from(["signed", "magnitude"]),
    seed=st.integers(0, 9),
)
def test_k_halves_the_rank_doubles_and_the_output_stays(expansion, keep, rank_by, seed):
    config = WeightLoraPlusConfig(
        rank=2, keep=keep, selection_steps=4, expand_every=3, expansions=2, expansion=expansion, rank_by=rank_by,
        init_seed=seed, weight_learning_rate=50.0,
    )  # fmt: skip
    model, _, callback = fit(config)
    start, summary = keep or 6, callback.summary()
    rounds = summary["expansions"]
    assert [round_["step"] for round_ in rounds] == [7, 10]
    assert [len(round_["kept"]) for round_ in rounds] == [start // 2, start // 4]
    assert [(round_["rank_before"], round_["rank_after"]) for round_ in rounds] == [(2, 4), (4, 8)]
    assert rounds[0]["parameters_before"] == start * 2 * 2 * 16
    assert rounds[0]["parameters_after"] == rounds[1]["parameters_before"] == (start // 2) * 2 * 4 * 16
    assert rounds[1]["parameters_after"] == (start // 4) * 2 * 8 * 16 == parameter_counts(model).adapter
    assert parameter_counts(model).adapter == config.closed_form_parameters(16, 2, "final")
    assert summary["final_ranks"] == {str(index): 8 for index in rounds[1]["kept"]}
    assert set(rounds[1]["kept"]) <= set(rounds[0]["kept"])
    assert summary["removed_at"] == (7 if keep is None else 4)
    assert summary["projections"] == [7, 10] if keep is None else [2, 3, 4, 7, 10]
    assert summary["trace"]["steps"] == list(range(1, 11))  # the weights train until the last round
    assert parameter_counts(model).importance == 0
    for step, change in callback.changes.items():
        if step in (7, 10) and expansion == "restart":
            assert change > 1e-4
        else:
            assert change < 1e-5, step
    for update in present_updates(model).values():
        assert update.scaling == 16  # alpha over the first rank


def test_an_expanded_pair_has_a_fresh_adam_and_learns_in_its_new_columns():
    config = WeightLoraPlusConfig(rank=2, selection_steps=4, expand_every=3, expansions=1)
    model, _, callback = fit(config)
    assert callback.adam[6] == [6] * 12
    assert callback.adam[7] == []
    assert callback.adam[8] == [1] * 6
    assert callback.ranks[6] == dict.fromkeys(range(6), 2)
    assert callback.ranks[7] == dict.fromkeys(callback.active, 4)
    for update in present_updates(model).values():
        assert (update.lora_B[:, 2:] != 0).any(dim=0).all()


def test_the_new_columns_depend_on_the_seed_and_the_round_alone():
    config = WeightLoraPlusConfig(rank=2, selection_steps=4, expand_every=3, expansions=2)
    runs = []
    for draws in (0, 5):
        torch.rand(draws)
        model, _, _ = fit(config)
        runs.append({name: parameter.detach().clone() for name, parameter in trainable_parameters(model).items()})
    assert runs[0].keys() == runs[1].keys()
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    other, _, _ = fit(dataclasses.replace(config, init_seed=1))
    others = trainable_parameters(other)
    assert others.keys() != runs[0].keys() or not all(torch.equal(runs[0][name], others[name]) for name in others)


def test_the_codes_losers_stay_at_zero_beside_the_grown_pairs():
    targets = ("query", "key", "value")
    config = WeightLoraPlusConfig(preset="code_2025_02_second", rank=1, targets=targets, expand_every=4)
    model, _, callback = fit(config)
    assert callback.summary()["removed_at"] is None
    assert callback.ranks[12] == {i: 4 if i in callback.active else callback.ranks[4][i] for i in range(6)}
    assert len(callback.active) == 1
    for index, update in present_updates(model).items():
        assert (update.importance_weight.item() == 0) == (index not in callback.active)
        assert update.lora_A.requires_grad == (index in callback.active)
    assert parameter_counts(model).adapter == config.closed_form_parameters(16, 2, "final")


@settings(max_examples=6)
@given(kept=st.sets(st.integers(0, 5), min_size=1), rank=st.integers(1, 16), seed=st.integers(0, 9))
def test_an_expanded_model_is_saved_merged_and_detached(tmp_path_factory, kept, rank, seed):
    folder, base = tmp_path_factory.mktemp("adapter"), tiny()
    model = tiny(WeightLoraPlusConfig(rank=2, expansions=1))
    apply_structure(
        model,
        {"survivors": sorted(kept), "ranks": dict.fromkeys(map(str, kept), rank), "fixed_weights": sorted(kept)},
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    before = logits_of(model)
    save(model, folder)
    assert torch.equal(logits_of(load(tiny(), folder)), before)
    torch.testing.assert_close(logits_of(merge(model)), before, atol=1e-5, rtol=1e-4)
    assert torch.equal(logits_of(unmerge(model)), before)
    assert torch.equal(logits_of(detach(model)), logits_of(base))


@given(
    keep=st.one_of(st.none(), st.integers(1, 36)),
    expansions=st.integers(1, 4),
    first=st.integers(1, 20),
    every=st.integers(1, 9),
    rank=st.integers(1, 4),
)
def test_the_schedule_and_its_closed_form(keep, expansions, first, every, rank):
    settings = {"keep": keep, "expansions": expansions, "selection_steps": first, "expand_every": every, "rank": rank}
    if keep is not None and keep < 2**expansions:
        with pytest.raises(ConfigError, match=f"leaves no adapter of keep={keep}; use up to {int(math.log2(keep))}"):
            WeightLoraPlusConfig(**settings)
        return
    config = WeightLoraPlusConfig(**settings)
    start = keep or 36
    rounds = [Milestone(first + i * every, start // 2**i, rank * 2**i) for i in range(1, expansions + 1)]
    assert config.milestones(36) == ([] if keep is None else [Milestone(first, keep, rank)]) + rounds
    assert config.last_step() == rounds[-1].step
    final = config.closed_form_parameters(768, 12, "final")
    assert final == 2 * 768 * rounds[-1].keep * rounds[-1].rank
    assert final <= 2 * 768 * rank * start  # never above the budget before the rounds
    assert config.closed_form_parameters(768, 12) == 36 * 2 * 768 * rank


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"expansions": 0}, "expansions=0"),
        ({"expand_every": 0}, "expand_every=0"),
        ({"expansion": "smart"}, "expansion='smart': must be one of qr, concatenate, restart"),
        ({"selection_steps": None}, "selection_steps=None: must be a number"),
        ({"selection_steps": 0, "keep": 4}, "selection_steps=0"),
        ({"keep": 0}, "keep=0"),
        ({"keep": 3, "expansions": 2}, "expansions=2 leaves no adapter of keep=3; use up to 1"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, text):
    with pytest.raises(ConfigError, match=f"weight_lora_plus: {text}"):
        WeightLoraPlusConfig(**settings)


def test_a_rank_that_grows_too_large_names_the_module(tiny_llama):
    attach(tiny_llama, WeightLoraPlusConfig(rank=4, expansions=2))  # v_proj is 32 in, 16 out
    detach(tiny_llama)
    before = str(tiny_llama)
    with pytest.raises(AdapterError) as error:
        attach(tiny_llama, WeightLoraPlusConfig(rank=5, expansions=2))
    for part in (
        "rank=5 doubled 2 times is 20, above 16",
        "model.layers.0.self_attn.k_proj",
        "use expansions up to 1 or a rank up to 4",
    ):
        assert part in str(error.value)
    with pytest.raises(AdapterError, match=r"is 1088, above 32.* 32 in, 32 out; use a smaller rank and fewer"):
        attach(tiny_llama, WeightLoraPlusConfig(rank=17, expansions=6, keep=64))
    with pytest.raises(AdapterError, match="expansions=4 leaves no adapter of the 12 found; use up to 3"):
        attach(tiny_llama, WeightLoraPlusConfig(rank=1, expansions=4, targets=("query", "value")))
    with pytest.raises(AdapterError, match="keep=19 exceeds the 18"):
        attach(tiny_llama, WeightLoraPlusConfig(rank=1, expansions=1, keep=19))
    assert str(tiny_llama) == before


def test_rounds_beyond_the_training_are_refused():
    config = WeightLoraPlusConfig(selection_steps=4, expand_every=4, expansions=2)
    config.training_callback(TRAINING)
    with pytest.raises(ConfigError, match=r"the last of expansions=2 comes after update 12 .* has steps=11"):
        config.training_callback(dataclasses.replace(TRAINING, steps=11))
    early = WeightLoraPlusConfig(selection_steps=0, expand_every=1, expansions=1)
    with pytest.raises(ConfigError, match="after update 1 comes before any importance weight"):
        early.training_callback(TRAINING)


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


@pytest.mark.parametrize(("rank", "left", "rounds"), [(2, 4, 0), (4, 2, 1), (8, 1, None)])
def test_rounds_that_have_not_taken_place_are_told_when_it_is_saved(rank, left, rounds, tmp_path):
    config = WeightLoraPlusConfig(rank=2, keep=4, expansions=2)
    model = tiny(config)
    config.restructure(model, {"survivors": list(range(left)), "ranks": {str(i): rank for i in range(left)}})
    if rounds is None:  # after the last round the weights are constants
        assert "their importance weights still train" in config.unfinished(model)
        for update in present_updates(model).values():
            update.importance_weight.requires_grad_(False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(model, tmp_path)
    told = [str(w.message) for w in caught if issubclass(w.category, ReplicationWarning)]
    assert [f"{rounds} of expansions=2 rounds have taken place" in text for text in told] == [True] * (
        rounds is not None
    )
