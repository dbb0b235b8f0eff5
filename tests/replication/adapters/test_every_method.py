"""Laws that hold for every method on GPT-2, Llama and BART."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.adapters import (
    FrozenConfig,
    FullConfig,
    LoraConfig,
    RandomLoraConfig,
    SoloConnectionConfig,
    WeightLoraConfig,
    WeightLoraPlusConfig,
    adapter_parameters,
    attach,
    attached_config,
    detach,
    load,
    merge,
    save,
    trainable_parameters,
    unmerge,
)
from replication.errors import AdapterError

SOLO = SoloConnectionConfig(rank=4)
CONFIGS = {
    "full": FullConfig(),
    "frozen": FrozenConfig(),
    "lora": LoraConfig(rank=2),
    "lora_everywhere": LoraConfig(rank=2, targets=("query", "key", "value", "output")),
    "solo": SOLO,
    "solo_sparse": SoloConnectionConfig(rank=8, sparsity=0.6),
    "solo_own_autoencoders": SoloConnectionConfig(rank=4, shared_autoencoder=False, layer_norm=True),
    "solo_fixed_to_last": SoloConnectionConfig(
        rank=4, train_autoencoder=False, links="all_to_last", homotopy_parameter=None
    ),
    "solo_with_lora": SoloConnectionConfig(rank=4, lora=LoraConfig(rank=2)),
    "weight_lora": WeightLoraConfig(rank=2, keep=2),
    "weight_lora_plus": WeightLoraPlusConfig(rank=2, expansions=1),
    "random_lora": RandomLoraConfig(rank=2, keep=2),
}
MAIN = ("full", "frozen", "lora", "solo", "solo_sparse", "solo_with_lora")


@pytest.fixture(params=["tiny_gpt2", "tiny_llama", "tiny_bart"])
def model(request):
    return request.getfixturevalue(request.param)


def is_bart(model):
    return model.config.is_encoder_decoder


def inputs_of(model, ids, mask=None):
    """The same token ids as a prompt, and for BART as source and target."""
    mask = torch.ones_like(ids) if mask is None else mask
    if is_bart(model):
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "decoder_input_ids": ids,
            "decoder_attention_mask": mask,
        }
    return {"input_ids": ids, "attention_mask": mask}


def logits_of(model, ids, mask=None, **others):
    with torch.no_grad():
        return model(**inputs_of(model, ids, mask), **others).logits


def some_ids(rows=2, length=7, seed=3):
    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def stir(model, seed=1, size=0.1):
    """Move every trained parameter, so that the adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            noise = torch.randn(parameter.shape, generator=generator) * size
            parameter.add_(noise.to(parameter.dtype))
    return model


def loss_of(model, ids):
    return model(**inputs_of(model, ids), labels=ids).loss


def train_steps(model, steps=3, seed=5):
    parameters = trainable_parameters(model)
    if not parameters:
        return model
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.01)
    model.train()
    for step in range(steps):
        loss_of(model, some_ids(seed=seed + step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def state_of(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@st.composite
def prompts(draw):
    """Token ids, and a mask with padding on either side of each row."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(2, 12))
    ids = draw(st.lists(st.integers(0, 96), min_size=rows * length, max_size=rows * length))
    mask = torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        padding = draw(st.integers(0, length - 1))
        left = draw(st.booleans())
        mask[row, :padding] = 0 if left else 1
        mask[row, length - padding :] = mask[row, length - padding :] if left else 0
    return torch.tensor(ids).view(rows, length), mask


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=10)  # for each of 27 pairs of a model and a method
@given(prompt=prompts(), shift=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_the_start_is_exactly_the_base_model(model, name, prompt, shift, seed):
    ids, mask = prompt
    others = {} if is_bart(model) else {"position_ids": torch.arange(ids.shape[1])[None] + shift}
    if attached_config(model):
        detach(model)
    before = logits_of(model, ids, mask, **others)
    config = CONFIGS[name]
    if hasattr(config, "init_seed"):
        config = dataclasses.replace(config, init_seed=seed)
    attach(model, config)
    assert torch.equal(logits_of(model, ids, mask, **others), before)


@pytest.mark.parametrize("name", CONFIGS)
def test_training_changes_adapter_parameters_only(model, name):
    attach(model, CONFIGS[name])
    trained = trainable_parameters(model)
    before = state_of(model)
    logits = logits_of(model, some_ids())
    train_steps(model)
    tied = {id(parameter) for parameter in trained.values()}
    changed = set()
    for key, value in model.state_dict(keep_vars=True).items():
        if not torch.equal(value, before[key]):
            changed.add(key)
            assert id(value) in tied, f"{key} changed but is not trained"
    assert set(trained) <= changed
    assert torch.equal(logits, logits_of(model, some_ids())) == (name == "frozen")


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_under_another_seed_gives_the_same_logits(model, name, tmp_path):
    base = copy.deepcopy(model)
    attach(model, CONFIGS[name])
    train_steps(model)
    save(model, tmp_path / "adapter")
    torch.manual_seed(12345)
    state = torch.random.get_rng_state()
    loaded = load(base, tmp_path / "adapter")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert attached_config(loaded) == CONFIGS[name]
    assert torch.equal(logits_of(loaded, some_ids()), logits_of(model, some_ids()))


@pytest.mark.parametrize("name", MAIN)
def test_cached_decoding_gives_the_uncached_logits_and_text(model, name):
    stir(attach(model, CONFIGS[name]))
    ids = some_ids(rows=3, length=9)
    whole = logits_of(model, ids)
    source = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if is_bart(model) else {}
    cache, pieces = None, []
    with torch.no_grad():
        for part in (ids[:, :4], ids[:, 4:5], ids[:, 5:8], ids[:, 8:]):
            key = "decoder_input_ids" if is_bart(model) else "input_ids"
            output = model(**source, **{key: part}, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)
    options = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False, "pad_token_id": 1}
    cached = model.generate(input_ids=ids, use_cache=True, **options)
    assert torch.equal(cached, model.generate(input_ids=ids, use_cache=False, **options))


@pytest.mark.parametrize("name", MAIN)
@settings(max_examples=8)  # for each of 18 pairs of a model and a method
@given(prompt=prompts())
def test_padding_does_not_reach_the_real_tokens(model, name, prompt):
    if attached_config(model) != CONFIGS[name]:
        stir(attach(model, CONFIGS[name]))
    ids, mask = prompt
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if is_bart(model):  # its positions cannot be given: pad on the right only
        ids = torch.where(mask == 1, ids, 1)
        keep = mask.sum(1)
        mask = (torch.arange(ids.shape[1])[None] < keep[:, None]).long()
    padded = logits_of(model, ids, mask, **({} if is_bart(model) else {"position_ids": positions}))
    for row in range(len(ids)):
        real = ids[row][mask[row] == 1][None]
        torch.testing.assert_close(padded[row][mask[row] == 1], logits_of(model, real)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MAIN)
def test_a_deep_copy_is_independent(model, name):
    stir(attach(model, CONFIGS[name]))
    reference = logits_of(model, some_ids())
    twin = copy.deepcopy(model)
    assert torch.equal(logits_of(twin, some_ids()), reference)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    train_steps(twin)
    assert torch.equal(logits_of(model, some_ids()), reference)
    moved = logits_of(twin, some_ids())
    assert torch.equal(moved, reference) == (name == "frozen")
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.fill_(float("nan"))
    assert torch.equal(logits_of(twin, some_ids()), moved)
    detach(model)
    assert torch.equal(logits_of(twin, some_ids()), moved)
    detach(twin)
    assert attached_config(twin) is None


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "frozen"])
def test_gradient_checkpointing_gives_the_same_gradients(model, name, reentrant):
    stir(attach(model, CONFIGS[name]))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        model.zero_grad()
        torch.manual_seed(8)  # the same dropout masks
        loss_of(model, some_ids()).backward()
        gradients.append({key: p.grad for key, p in trainable_parameters(model).items()})
    assert all(gradient is not None for gradient in gradients[1].values())
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_bfloat16_model(model, name, order, tmp_path):
    twin = copy.deepcopy(model).to(torch.bfloat16)
    before = logits_of(twin, some_ids())
    model = attach(twin, CONFIGS[name]) if order == "before" else attach(model, CONFIGS[name]).to(torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.equal(logits_of(model, some_ids()), before)
    after = logits_of(stir(train_steps(model), size=0.5), some_ids())
    assert after.isfinite().all()
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, before) == (name == "frozen")
    save(model, tmp_path)
    assert torch.equal(logits_of(load(detach_to_base(model), tmp_path), some_ids()), after)


@pytest.mark.parametrize("name", CONFIGS)
def test_autocast(model, name):
    def run(function, *arguments):
        with torch.autocast("cpu", torch.bfloat16):
            return function(*arguments)

    before = run(logits_of, model, some_ids())
    attach(model, CONFIGS[name])
    assert torch.equal(run(logits_of, model, some_ids()), before)
    stir(model)
    if name != "frozen":
        run(loss_of, model, some_ids()).backward()
        for parameter in trainable_parameters(model).values():
            assert parameter.grad.dtype == torch.float32
            assert parameter.grad.isfinite().all()
    after = run(logits_of, model, some_ids())
    assert after.dtype == before.dtype
    torch.testing.assert_close(after.float(), logits_of(model, some_ids()), atol=0.1, rtol=0.1)
    assert torch.equal(after, before) == (name == "frozen")


def detach_to_base(model):
    """A copy of the base; trained weights of `full` are overwritten by loading."""
    return detach(copy.deepcopy(model))


@pytest.mark.parametrize("name", CONFIGS)
def test_detach_gives_the_base_model_back(model, name):
    structure, before = str(model), state_of(model)
    model.get_input_embeddings().requires_grad_(False)
    trainable = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    reference = logits_of(model, some_ids())
    stir(attach(model, CONFIGS[name]), size=0.0 if name == "full" else 0.1)
    detach(model)
    assert str(model) == structure
    assert {key: tuple(v.shape) for key, v in before.items()} == {
        key: tuple(v.shape) for key, v in model.state_dict().items()
    }
    assert torch.equal(logits_of(model, some_ids()), reference)
    assert [key for key, parameter in model.named_parameters() if parameter.requires_grad] == trainable
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


@pytest.mark.parametrize("name", CONFIGS)
def test_attach_leaves_the_global_random_state_alone_and_is_repeatable(model, name):
    twin = copy.deepcopy(model)
    state = torch.random.get_rng_state()
    attach(model, CONFIGS[name])
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    attach(twin, CONFIGS[name])
    for one, other in zip(model.state_dict().items(), twin.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("name", CONFIGS)
def test_attach_works_without_memory_on_the_meta_device(model, name):
    with torch.device("meta"):
        twin = type(model)(model.config)
    attach(twin, CONFIGS[name])
    attach(model, CONFIGS[name])
    assert all(tensor.is_meta for tensor in twin.state_dict().values())
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert list(trainable_parameters(twin)) == list(trainable_parameters(model))
    with pytest.raises(AdapterError, match="meta device"):
        load(twin, "nowhere")
    if name != "frozen":
        with pytest.raises(AdapterError, match="meta device"):
            save(twin, "nowhere")


@pytest.mark.parametrize("name", CONFIGS)
def test_attaching_twice_is_refused_with_the_cure(tiny_gpt2, name):
    attach(tiny_gpt2, CONFIGS[name])
    reference = list(trainable_parameters(tiny_gpt2))
    with pytest.raises(AdapterError, match=r"detach\(model\)"):
        attach(tiny_gpt2, LoraConfig(rank=2))
    assert list(trainable_parameters(tiny_gpt2)) == reference


@pytest.mark.parametrize("call", [trainable_parameters, adapter_parameters, detach, merge, unmerge])
def test_calls_that_need_a_method_say_so(tiny_gpt2, call):
    with pytest.raises(AdapterError, match=r"attach\(model, config\)"):
        call(tiny_gpt2)


@pytest.mark.parametrize("name", ["full", "frozen"])
def test_merge_has_nothing_to_do_for_methods_without_modules(tiny_gpt2, name):
    attach(tiny_gpt2, CONFIGS[name])
    before = state_of(tiny_gpt2)
    assert unmerge(merge(tiny_gpt2)) is tiny_gpt2
    assert all(torch.equal(value, before[key]) for key, value in tiny_gpt2.state_dict().items())


@pytest.mark.long
@pytest.mark.parametrize("name", ["full", "lora", "solo", "solo_with_lora"])
def test_the_hugging_face_trainer_trains_only_the_adapter(tiny_gpt2, name, tmp_path):
    from transformers import Trainer, TrainingArguments

    attach(tiny_gpt2, CONFIGS[name])
    before, trained = state_of(tiny_gpt2), trainable_parameters(tiny_gpt2)
    rows = [{"input_ids": row, "labels": row} for row in some_ids(rows=8)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        activation_checkpointing=True,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model=tiny_gpt2, args=arguments, train_dataset=rows).train()
    own = {id(parameter) for parameter in trained.values()}
    changed = {k: v for k, v in tiny_gpt2.state_dict(keep_vars=True).items() if not torch.equal(v, before[k])}
    assert changed
    assert all(id(value) in own for value in changed.values())
