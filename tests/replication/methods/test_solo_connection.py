"""Solo Connection: equations against a plain loop, variants, start values, and faults that are not copied."""

import copy
import dataclasses
import gc
import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from replication.counting import parameter_counts
from replication.errors import AdapterError, ConfigError
from replication.methods import attach, detach, load, merge, report_state, save, trainable_parameters, unmerge
from replication.methods.lora import LoraConfig
from replication.methods.solo_connection import _RUNNING, SoloConnectionConfig


@pytest.fixture(params=["tiny_gpt2", "tiny_llama", "tiny_bart"])
def model(request):
    return request.getfixturevalue(request.param)


def some_ids(rows=2, length=7, seed=3):
    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits_of(model, seed=3):
    with torch.no_grad():
        return model(input_ids=some_ids(seed=seed)).logits


def stir(model, seed=1, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.solo_connection.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model


def decoder_of(model):
    return model.model.decoder if model.config.is_encoder_decoder else model.base_model


def blocks_of(model):
    decoder = decoder_of(model)
    return decoder.h if hasattr(decoder, "h") else decoder.layers


def affine(maps, x):
    return F.linear(x, maps.dense_weight(), maps.bias)


def meta_gpt2(width, blocks, heads=1):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=width, n_layer=blocks, n_head=heads))


VARIANTS = {
    "k=2": SoloConnectionConfig(rank=5),
    "k=1": SoloConnectionConfig(rank=5, skip_length=1),
    "k=3": SoloConnectionConfig(rank=5, skip_length=3),
    "no scalar": SoloConnectionConfig(rank=5, homotopy_parameter=None),
    "sparse": SoloConnectionConfig(rank=20, sparsity=0.6),
    "one link": SoloConnectionConfig(rank=5, links=((2, 5),)),
    "picked links": SoloConnectionConfig(rank=5, links=[[1, 4], [2, 4], [4, 6], [3, 5]]),
    "all to last": SoloConnectionConfig(rank=5, links="all_to_last"),
    "own autoencoders": SoloConnectionConfig(rank=5, shared_autoencoder=False),
    "layer norm": SoloConnectionConfig(rank=5, layer_norm=True),
    "fixed, own, normed, sparse": SoloConnectionConfig(
        rank=5, train_autoencoder=False, shared_autoencoder=False, layer_norm=True, sparsity=0.3
    ),
    "with lora": SoloConnectionConfig(rank=5, lora=LoraConfig(rank=2)),
}


# --- the equations -------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_block_outputs_follow_the_equations(model, variant):
    """The plain loop of the module head, with each block's own part recorded from the same forward."""
    config = VARIANTS[variant]
    stir(attach(model, config))
    solo, own, received, after = model.solo_connection, {}, {}, {}
    for number, block in enumerate(blocks_of(model), start=1):
        block.register_forward_pre_hook(lambda m, args, c=number: received.__setitem__(c, args[0]))
        block.register_forward_hook(lambda m, a, out, c=number: own.__setitem__(c, out), prepend=True)
        block.register_forward_hook(lambda m, a, out, c=number: after.__setitem__(c, out))
    logits_of(model)
    saved = {}
    with torch.no_grad():
        for c in range(1, 7):
            h = own[c]
            for connection in solo.connections:
                if connection.end != c:
                    continue
                part = connection if not config.shared_autoencoder else solo
                x = saved[connection.start]
                if config.layer_norm:
                    x = F.layer_norm(x, (32,), part.layer_norm.weight, part.layer_norm.bias)
                y = affine(part.decoder, connection.encoder_vector * affine(part.encoder, x))
                a = 1.0 if config.homotopy_parameter is None else connection.homotopy_parameter
                h = h + a * connection.homotopy_vector * y
            saved[c] = h
            torch.testing.assert_close(after[c], h, atol=1e-5, rtol=1e-5)
            if c < 6:
                assert torch.equal(received[c + 1], after[c])
    ends = {end for _, end in config.connections(6)}
    for c in range(1, 7):
        assert torch.equal(own[c], after[c]) == (c not in ends)


@pytest.mark.parametrize(
    ("k", "blocks", "expected"),
    [
        (2, 24, [(c - 2, c) for c in range(4, 25, 2)]),
        (4, 24, [(4, 8), (8, 12), (12, 16), (16, 20), (20, 24)]),
        (6, 24, [(6, 12), (12, 18), (18, 24)]),
        (1, 3, [(1, 2), (2, 3)]),
        (2, 5, [(2, 4)]),
        (3, 6, [(3, 6)]),
    ],
)
def test_connections_of_a_skip_length(k, blocks, expected):
    assert list(SoloConnectionConfig(skip_length=k).connections(blocks)) == expected


@given(k=st.integers(1, 20), blocks=st.integers(1, 60))
def test_the_rule_of_the_skip_length(k, blocks):
    config = SoloConnectionConfig(skip_length=k)
    expected = [(c - k, c) for c in range(1, blocks + 1) if c % k == 0 and c > k]
    if expected:
        assert list(config.connections(blocks)) == expected
    else:
        with pytest.raises(AdapterError, match="no possible connection"):
            config.connections(blocks)


def test_hidden_states_asked_of_the_model_are_those_after_the_addition(tiny_gpt2):
    ids = some_ids()
    tiny_gpt2(ids, output_hidden_states=True)  # Hugging Face installs its recorder now, before ours
    stir(attach(tiny_gpt2, SoloConnectionConfig(rank=4)))
    seen = {}
    for number, block in enumerate(blocks_of(tiny_gpt2)[1:]):
        block.register_forward_pre_hook(lambda m, args, c=number: seen.__setitem__(c, args[0]))
    states = tiny_gpt2(ids, output_hidden_states=True).hidden_states
    for number, received in seen.items():
        assert torch.equal(states[number + 1], received)


def test_dropout_is_on_the_input_of_the_encoder(tiny_gpt2):
    for dropout, random in ((0.0, False), (0.5, True)):
        stir(attach(tiny_gpt2, SoloConnectionConfig(rank=4, dropout=dropout)))
        tiny_gpt2.solo_connection.train()
        assert torch.equal(logits_of(tiny_gpt2), logits_of(tiny_gpt2)) != random
        tiny_gpt2.eval()
        assert torch.equal(logits_of(tiny_gpt2), logits_of(tiny_gpt2))
        detach(tiny_gpt2)
    solo = stir(attach(tiny_gpt2, SoloConnectionConfig(rank=4, dropout=0.5, layer_norm=True))).solo_connection.train()
    normalised, entered = [], []
    solo.layer_norm.register_forward_hook(lambda module, args, output: normalised.append(output))
    solo.dropout.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    logits_of(tiny_gpt2)
    assert len(entered) == len(solo.connections) > 0
    assert all(torch.equal(a, b) for a, b in zip(normalised, entered, strict=True)), "after the layer norm"
    assert SoloConnectionConfig().dropout == 0.1
    assert SoloConnectionConfig(sparsity=0.5).dropout == 0.01
    assert SoloConnectionConfig(sparsity=0.5, dropout=0.2).dropout == 0.2


# --- the start -----------------------------------------------------------------------


@given(
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e20, 3e38]),
    a=st.floats(allow_nan=False, allow_infinity=False, width=32),
    sparse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_start_is_the_base_for_any_finite_parameters(model, scale, a, sparse, seed):
    model = copy.deepcopy(model)
    before = logits_of(model)
    attach(model, SoloConnectionConfig(rank=8, homotopy_parameter=a, sparsity=0.5 if sparse else 0.0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.solo_connection.named_parameters():
            if not name.endswith(("homotopy_vector", "homotopy_parameter")):
                parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * scale)
                assert parameter.isfinite().all()
    assert torch.equal(logits_of(model), before)


def test_overflow_is_hidden_only_while_the_homotopy_vector_is_zero(tiny_gpt2):
    before = logits_of(tiny_gpt2)
    attach(tiny_gpt2, SoloConnectionConfig(rank=4))
    with torch.no_grad():
        tiny_gpt2.solo_connection.decoder.weight.fill_(float("nan"))
        assert torch.equal(logits_of(tiny_gpt2), before)
        tiny_gpt2.solo_connection.connections[1].homotopy_vector[3] = 1e-3
    assert logits_of(tiny_gpt2).isnan().any()


@given(values=st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), seed=st.integers(0, 99))
def test_masking_leaves_gradients_right(tiny_gpt2, values, seed):
    if not hasattr(tiny_gpt2, "solo_connection"):
        attach(tiny_gpt2, SoloConnectionConfig(rank=4))
    connection = tiny_gpt2.solo_connection.connections[0]
    with torch.no_grad():
        connection.homotopy_vector.zero_()
        connection.homotopy_vector[: len(values)] = torch.tensor(values)
        connection.homotopy_parameter.fill_(0.7)
    y = torch.randn(3, 32, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    v, a = connection.homotopy_vector, connection.homotopy_parameter
    got = torch.autograd.grad(connection.gate(y).square().sum() + connection.gate(y).sum(), (y, v, a))
    plain = torch.autograd.grad((a * (v * y)).square().sum() + (a * (v * y)).sum(), (y, v, a))
    for one, other in zip(got, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_start_values(tiny_gpt2):
    config = SoloConnectionConfig(rank=32, homotopy_parameter=0.5)
    solo = attach(tiny_gpt2, config).solo_connection
    for maps in (solo.encoder, solo.decoder):
        assert maps.weight.mean().abs().item() < 0.003
        assert maps.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert (maps.bias == 0).all()
    assert not torch.equal(solo.encoder.weight, solo.decoder.weight.T)
    for connection in solo.connections:
        assert (connection.encoder_vector == 1).all()
        assert (connection.homotopy_vector == 0).all()
        assert connection.homotopy_parameter.item() == 0.5
        assert connection.homotopy_parameter.shape == (1,)


def test_the_dense_default_gives_a_gradient_to_the_homotopy_vectors_only_at_the_first_step(model):
    attach(model, SoloConnectionConfig(rank=4))
    model(input_ids=some_ids(), labels=some_ids()).loss.backward()
    for name, parameter in trainable_parameters(model).items():
        assert (
            parameter.grad.abs().max().item() > 0 if name.endswith("homotopy_vector") else (parameter.grad == 0).all()
        )
    torch.optim.SGD(trainable_parameters(model).values(), lr=1.0).step()
    model.zero_grad()
    model(input_ids=some_ids(), labels=some_ids()).loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in trainable_parameters(model).values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_trained_parameter_is_used_once_v_is_not_zero(model, variant):
    """No connection is allocated but unused (a fault of the author's code)."""
    stir(attach(model, VARIANTS[variant]))
    model(input_ids=some_ids(), labels=some_ids()).loss.backward()
    for name, parameter in trainable_parameters(model).items():
        if "lora_A" not in name:  # zero until lora_B moves
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


# --- sparse and fixed ----------------------------------------------------------------


@given(sparsity=st.floats(0.01, 0.99), rank=st.integers(1, 32), seed=st.integers(0, 50))
def test_the_mask_is_binary_exact_and_leaves_the_weights_their_start(tiny_gpt2, sparsity, rank, seed):
    attach(tiny_gpt2, SoloConnectionConfig(rank=rank, sparsity=sparsity, init_seed=seed))
    solo = tiny_gpt2.solo_connection
    for maps, shape in ((solo.encoder, (rank, 32)), (solo.decoder, (32, rank))):
        weight = maps.dense_weight()
        assert weight.shape == maps.mask.shape == shape
        assert maps.mask.dtype == torch.bool
        assert (~maps.mask).sum().item() == round(sparsity * 32 * rank)
        assert maps.values.numel() == maps.mask.sum().item()
        assert (weight[~maps.mask] == 0).all()
        assert torch.equal(weight[maps.mask], maps.values)
        assert maps.values.abs().max().item() < 0.12 if maps.values.numel() else True  # six deviations: no rescaling
    detach(tiny_gpt2)


def test_the_masks_of_encoder_and_decoder_differ_and_follow_the_seed(tiny_gpt2):
    masks = []
    for seed in (0, 0, 1):
        solo = attach(tiny_gpt2, SoloConnectionConfig(rank=16, sparsity=0.5, init_seed=seed)).solo_connection
        assert not torch.equal(solo.encoder.mask, solo.decoder.mask.T)
        masks.append(solo.encoder.mask)
        detach(tiny_gpt2)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_hidden_entries_never_train(tiny_gpt2):
    stir(attach(tiny_gpt2, SoloConnectionConfig(rank=16, sparsity=0.6)))
    solo = tiny_gpt2.solo_connection
    before = solo.encoder.dense_weight().detach()
    optimizer = torch.optim.AdamW(trainable_parameters(tiny_gpt2).values(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        tiny_gpt2(input_ids=some_ids(), labels=some_ids()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = solo.encoder.dense_weight().detach()
    assert (after[~solo.encoder.mask] == 0).all()
    assert (after != before)[solo.encoder.mask].all()


@pytest.mark.parametrize("settings", [{}, {"sparsity": 0.5}, {"shared_autoencoder": False, "layer_norm": True}])
def test_a_fixed_autoencoder_stays_as_drawn_and_is_saved(tiny_gpt2, settings, tmp_path):
    base = copy.deepcopy(tiny_gpt2)
    config = SoloConnectionConfig(rank=4, train_autoencoder=False, **settings)
    attach(tiny_gpt2, config)
    names = {name.rpartition(".")[2] for name in trainable_parameters(tiny_gpt2)}
    assert names == {"encoder_vector", "homotopy_vector", "homotopy_parameter"}
    with torch.no_grad():  # as if another version of torch had drawn others
        for connection in tiny_gpt2.solo_connection.connections:
            connection.homotopy_vector.fill_(1.0)
        for name, parameter in tiny_gpt2.solo_connection.named_parameters():
            if "coder." in name:
                parameter.add_(0.5)
    save(tiny_gpt2, tmp_path)
    assert torch.equal(logits_of(load(base, tmp_path)), logits_of(tiny_gpt2))


# --- counts --------------------------------------------------------------------------


@given(
    width=st.integers(2, 64),
    blocks=st.integers(2, 12),
    rank=st.integers(1, 64),
    k=st.integers(1, 6),
    sparsity=st.one_of(st.just(0.0), st.floats(0, 0.99)),
)
def test_counts_equal_the_closed_form(width, blocks, rank, k, sparsity):
    assume(rank <= width and 2 * k <= blocks)
    config = SoloConnectionConfig(rank=rank, skip_length=k, sparsity=sparsity)
    count = parameter_counts(attach(meta_gpt2(width, blocks), config))
    n = blocks // k - 1
    entries = 2 * (width * rank - round(sparsity * width * rank))
    assert count.adapter == entries + rank + width + n * (width + 1 + rank)
    assert count.adapter == config.closed_form_parameters(width, blocks)
    assert count.trainable == count.adapter
    assert abs(entries - 2 * width * rank * (1 - sparsity)) <= 1


@given(
    shared=st.booleans(),
    trained=st.booleans(),
    norm=st.booleans(),
    scalar=st.booleans(),
    links=st.sampled_from([None, "all_to_last", ((1, 3), (3, 6), (2, 6))]),
    sparsity=st.sampled_from([0.0, 0.25]),
    lora=st.sampled_from([None, LoraConfig(rank=2)]),
)
def test_counts_of_the_variants_equal_their_closed_form(shared, trained, norm, scalar, links, sparsity, lora):
    config = SoloConnectionConfig(
        rank=6,
        shared_autoencoder=shared,
        train_autoencoder=trained,
        layer_norm=norm,
        homotopy_parameter=0.1 if scalar else None,
        links=links,
        sparsity=sparsity,
        lora=lora,
    )
    count = parameter_counts(attach(meta_gpt2(16, 6, heads=2), config))
    assert count.adapter == config.closed_form_parameters(16, 6)
    if not trained:
        n = len(config.connections(6))
        assert count.adapter == n * (16 + 6 + scalar) + (6 * 2 * 2 * 2 * 16 if lora else 0)


# --- the hooks -----------------------------------------------------------------------


def test_no_state_outlives_a_forward(model):
    attach(model, SoloConnectionConfig(rank=4))
    outputs = []
    for block in blocks_of(model):
        block.register_forward_hook(lambda m, a, out: outputs.append(weakref.ref(out)))
    gc.disable()  # at once, without a collection
    try:
        logits_of(model)
        assert len(outputs) == 6
        assert not [reference for reference in outputs if reference() is not None]
    finally:
        gc.enable()
    assert _RUNNING.states == []


def test_states_are_dropped_when_a_forward_fails(model):
    reference = logits_of(stir(attach(model, SoloConnectionConfig(rank=4))))

    def fail(*_):
        raise RuntimeError("in the middle")

    handle = blocks_of(model)[4].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        logits_of(model, seed=8)
    assert _RUNNING.states == []
    handle.remove()
    assert torch.equal(logits_of(model), reference)


def test_a_forward_starts_from_nothing_even_if_the_last_was_interrupted(tiny_gpt2):
    """After a KeyboardInterrupt torch calls no hook; what it left goes with the next forward, of any model."""
    reference = logits_of(stir(attach(tiny_gpt2, SoloConnectionConfig(rank=4))))

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = tiny_gpt2.transformer.h[4].register_forward_pre_hook(interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            logits_of(tiny_gpt2, seed=8)
        assert len(_RUNNING.states) == 2  # of the model and its decoder
    handle.remove()
    assert torch.equal(logits_of(tiny_gpt2), reference)
    assert _RUNNING.states == []


def test_a_forward_inside_a_forward_has_its_own_state(model):
    """Of the same model, of a copy, and of the decoder alone; the outer one goes on with what it had."""
    stir(attach(model, SoloConnectionConfig(rank=4, links="all_to_last")))
    twin, inner, depth = stir(copy.deepcopy(model), seed=2), [], [0]
    expected = [logits_of(network, seed=8) for network in (model, twin)]
    reference, alone = logits_of(model), decoder_of(model)(some_ids(seed=8)).last_hidden_state

    def call_again(*_):
        if not depth[0]:
            depth[0] += 1
            inner.extend(logits_of(network, seed=8) for network in (model, twin))
            inner.append(decoder_of(model)(some_ids(seed=8)).last_hidden_state)
            depth[0] -= 1

    blocks_of(model)[3].register_forward_pre_hook(call_again)
    assert torch.equal(logits_of(model), reference)
    assert all(torch.equal(one, other) for one, other in zip(inner, [*expected, alone], strict=True))


def test_a_decoder_called_without_its_model_has_the_connections(model):
    attach(model, SoloConnectionConfig(rank=4))
    before = decoder_of(model)(some_ids()).last_hidden_state
    stir(model)
    assert not torch.equal(decoder_of(model)(some_ids()).last_hidden_state, before)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_a_whole_block_is_refused(tiny_gpt2, reentrant):
    """It calls the hooks again in the backward pass, when the state is gone: the branch would have no gradient."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper

    implementation = CheckpointImpl.REENTRANT if reentrant else CheckpointImpl.NO_REENTRANT
    stir(attach(tiny_gpt2, SoloConnectionConfig(rank=4)))
    tiny_gpt2.transformer.h[5] = checkpoint_wrapper(tiny_gpt2.transformer.h[5], implementation)
    with pytest.raises(AdapterError, match=r"block 6 runs again.*activation_checkpointing_enable"):
        tiny_gpt2(input_ids=some_ids(), labels=some_ids()).loss.backward()


def two_blocks(kind):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    disentangled = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
    special = {
        "deberta-v2": {**disentangled, "type_vocab_size": 0, "position_buckets": 4},
        "llama": {"pad_token_id": 0},
    }
    auto = AutoModelForSequenceClassification if kind == "deberta-v2" else AutoModelForCausalLM
    torch.manual_seed(0)
    return auto.from_config(AutoConfig.for_model(kind, vocab_size=97, **sizes, **special.get(kind, {}))).eval()


def compiles(model, config, backend, train=False):
    """Without a graph break, with the logits and gradients of the uncompiled model, in any thread."""
    stir(attach(model, config).train(train))
    results = []
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for network in (model, compiled):
        model.zero_grad()
        torch.manual_seed(2)
        logits = network(input_ids=some_ids()).logits
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad for p in trainable_parameters(model).values())])
    assert _RUNNING.states == []
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    with ThreadPoolExecutor(2) as pool:
        seeds = list(range(4))
        together = list(
            pool.map(lambda seed: compiled(input_ids=some_ids(seed=seed)).logits, seeds if not train else ())
        )
    for seed, logits in zip(seeds, together, strict=False):
        torch.testing.assert_close(logits, model(input_ids=some_ids(seed=seed)).logits, atol=1e-5, rtol=1e-4)


ONE_LINK = SoloConnectionConfig(rank=4, links=((1, 2),), sparsity=0.5, layer_norm=True, lora=LoraConfig(rank=2))


@pytest.mark.parametrize("train", [False, True])
def test_torch_compile_captures_a_forward_without_a_graph_break(train):
    compiles(two_blocks("gpt2"), ONE_LINK, "eager", train)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama", "deberta-v2"])
def test_inductor_compiles_the_whole_forward(kind):
    compiles(two_blocks(kind), ONE_LINK, "inductor")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "deberta-v2"])
def test_dynamo_captures_other_architectures_too(kind):
    compiles(two_blocks(kind), SoloConnectionConfig(rank=4, links=((1, 2),)), "eager")


def test_a_copy_uses_its_own_encoder(model):
    stir(attach(model, SoloConnectionConfig(rank=4)))
    twin = copy.deepcopy(model)
    reference = logits_of(model)
    with torch.no_grad():
        twin.solo_connection.encoder.weight.mul_(-3)
    assert torch.equal(logits_of(model), reference)
    assert not torch.equal(logits_of(twin), reference)
    own = {id(parameter) for parameter in twin.solo_connection.parameters()}
    twin(input_ids=some_ids(), labels=some_ids()).loss.backward()
    assert all(parameter.grad is None for parameter in model.solo_connection.parameters())
    assert {id(p) for p in twin.parameters() if p.grad is not None} == own


def test_checkpointing_runs_each_branch_once(model):
    attach(model, SoloConnectionConfig(rank=4))
    model.activation_checkpointing_enable()
    model.train()
    calls = []
    original = model.solo_connection.branch
    model.solo_connection.branch = lambda *args: (calls.append(1), original(*args))[1]
    model(input_ids=some_ids(), labels=some_ids()).loss.backward()
    assert len(calls) == 2


def test_one_module_at_the_root_holds_everything(model):
    attach(model, SoloConnectionConfig(rank=4))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False) if "solo_connection" in name]
    assert all(name.startswith("solo_connection.") for name in names)
    own = {id(parameter) for parameter in model.solo_connection.parameters()}
    below = [p for child, m in model.named_children() if child != "solo_connection" for p in m.parameters()]
    assert not own & {id(parameter) for parameter in below}
    assert len(names) == 4 + 3 * 2


def test_layer_drop_in_training_is_survived(tiny_bart):
    attach(tiny_bart, SoloConnectionConfig(rank=4, links="all_to_last"))
    tiny_bart.train()
    tiny_bart.model.decoder.layerdrop = 0.6
    torch.manual_seed(0)
    for _ in range(5):
        loss = tiny_bart(input_ids=some_ids(), labels=some_ids()).loss
        assert loss.isfinite()


# --- merge, report -------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["k=2", "with lora"])
def test_merge_is_refused_with_the_reason(tiny_gpt2, variant):
    stir(attach(tiny_gpt2, VARIANTS[variant]))
    reference = logits_of(tiny_gpt2)
    with pytest.raises(AdapterError, match=r"earlier block's output.*no weight"):
        merge(tiny_gpt2)
    assert torch.equal(logits_of(unmerge(tiny_gpt2)), reference)


def test_report_state(tiny_gpt2):
    attach(tiny_gpt2, SoloConnectionConfig(rank=4, homotopy_parameter=0.25))
    with torch.no_grad():
        tiny_gpt2.solo_connection.connections[1].homotopy_vector[:2] = torch.tensor([3.0, 4.0])
    assert report_state(tiny_gpt2) == {
        "homotopy_parameter[2->4]": 0.25,
        "homotopy_vector_norm[2->4]": 0.0,
        "homotopy_parameter[4->6]": 0.25,
        "homotopy_vector_norm[4->6]": 5.0,
    }
    attach(detach(tiny_gpt2), SoloConnectionConfig(rank=4, homotopy_parameter=None, links=((1, 6),)))
    assert report_state(tiny_gpt2) == {"homotopy_vector_norm[1->6]": 0.0}


# --- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 1.5}, "rank=1.5"),
        ({"skip_length": 0}, "skip_length=0"),
        ({"skip_length": True}, "skip_length=True"),
        ({"sparsity": 1.0}, "sparsity=1.0"),
        ({"sparsity": -0.1}, "sparsity=-0.1"),
        ({"sparsity": math.nan}, "sparsity=nan"),
        ({"homotopy_parameter": math.inf}, "homotopy_parameter=inf"),
        ({"homotopy_parameter": math.nan}, "homotopy_parameter=nan"),
        ({"homotopy_parameter": "0.1"}, "homotopy_parameter='0.1'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": -1}, "dropout=-1"),
        ({"train_autoencoder": 1}, "train_autoencoder=1"),
        ({"shared_autoencoder": None}, "shared_autoencoder=None"),
        ({"layer_norm": "yes"}, "layer_norm='yes'"),
        ({"links": ((4, 2),)}, "4->2"),
        ({"links": ((3, 3),)}, "3->3"),
        ({"links": ((0, 3),)}, "0->3"),
        ({"links": ((1, 2, 3),)}, "(1, 2, 3)"),
        ({"links": ((1, 2.0),)}, "(1, 2.0)"),
        ({"links": ()}, "links=()"),
        ({"links": ((1, 2), (1, 2))}, "links="),
        ({"links": "all"}, "links='all'"),
        ({"links": 3}, "links=3"),
        ({"init_seed": -1}, "init_seed=-1"),
        ({"lora": "yes"}, "lora='yes'"),
        ({"lora": {"rank": 0}}, "rank=0"),
        ({"lora": {"size": 3}}, "size"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, field):
    with pytest.raises(ConfigError) as error:
        SoloConnectionConfig(**settings)
    assert field in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 33}, r"rank=33.*width 32"),
        ({"rank": 4, "skip_length": 6}, r"skip_length=6.*12 blocks.*has 6"),
        ({"rank": 4, "skip_length": 4}, r"skip_length=4.*8 blocks.*has 6"),
        ({"rank": 4, "links": ((2, 7),)}, r"2->7.*1 to 6"),
        ({"rank": 4, "homotopy_parameter": 1e300}, r"homotopy_parameter=1e\+300.*float32"),
        ({"rank": 4, "lora": LoraConfig(targets=("nothing",))}, "nothing"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_and_changes_nothing(tiny_gpt2, settings, message):
    structure = str(tiny_gpt2)
    with pytest.raises(AdapterError, match=message):
        attach(tiny_gpt2, SoloConnectionConfig(**settings))
    assert str(tiny_gpt2) == structure
    assert all(parameter.requires_grad for parameter in tiny_gpt2.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_gpt2.modules())
    attach(tiny_gpt2, SoloConnectionConfig(rank=4))


def test_lists_and_dicts_as_json_gives_them_are_accepted():
    config = SoloConnectionConfig(links=[[14, 18]], lora={"rank": 2, "targets": ["query"]})
    assert config.links == ((14, 18),)
    assert config.lora == LoraConfig(rank=2, targets=("query",))
    assert dataclasses.replace(config, rank=3).lora == config.lora


# --- half precision ------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "leaves"), [("float32", True), ("model", False)])
def test_the_homotopy_parameter_leaves_its_start_in_a_bfloat16_model(model, wanted, leaves):
    attach(model.to(torch.bfloat16), SoloConnectionConfig(rank=4, adapter_dtype=wanted))
    parameters = trainable_parameters(model)
    scalars = [p for name, p in parameters.items() if name.endswith("homotopy_parameter")]
    start = torch.tensor([0.1]).to(scalars[0].dtype)
    assert all(torch.equal(scalar, start) for scalar in scalars)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4)
    for seed in range(20):
        model(input_ids=some_ids(seed=seed), labels=some_ids(seed=seed)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(scalar, start) != leaves for scalar in scalars)
