"""Laws that hold for every method on GPT-2, Llama and BART: their bodies are in `replication.testing.laws`."""

import contextlib
import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.errors import AdapterError
from replication.methods import adapter_parameters, attach, detach, load, merge, save, trainable_parameters, unmerge
from replication.methods.adapter_h import AdapterHConfig
from replication.methods.adapter_l import AdapterLConfig
from replication.methods.frozen import FrozenConfig
from replication.methods.ft_top2 import FtTop2Config
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.random_lora import RandomLoraConfig
from replication.methods.solo_connection import SoloConnectionConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.testing import laws as laws
from replication.testing.laws import some_ids, state_of

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
    "adapter_h": AdapterHConfig(bottleneck=4),
    "adapter_l": AdapterLConfig(bottleneck=4),
    "ft_top2": FtTop2Config(),
}
MODULES = ("lora", "solo", "solo_sparse", "solo_own_autoencoders", "weight_lora")
MAIN = ("full", "frozen", "lora", "solo", "solo_sparse", "solo_with_lora")


@pytest.fixture(params=["tiny_gpt2", "tiny_llama", "tiny_bart"])
def model(request):
    return request.getfixturevalue(request.param)


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
    bart = laws.is_encoder_decoder(model)
    others = {} if bart else {"position_ids": torch.arange(ids.shape[1])[None] + shift}
    config = CONFIGS[name]
    if hasattr(config, "init_seed"):
        config = dataclasses.replace(config, init_seed=seed)
    laws.starts_as_the_base(model, config, ids, mask, **others)


@pytest.mark.parametrize("name", CONFIGS)
def test_training_changes_adapter_parameters_only(model, name):
    laws.trains_its_own_parameters_only(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_under_another_seed_gives_the_same_logits(model, name, tmp_path):
    laws.loads_what_it_saves(model, CONFIGS[name], tmp_path / "adapter")


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_and_unloaded_it_is_a_plain_model(model, name, tmp_path):
    laws.merges_into_a_plain_model(model, CONFIGS[name], tmp_path)


@pytest.mark.parametrize("name", MAIN)
def test_cached_decoding_gives_the_uncached_logits_and_text(model, name):
    laws.decodes_with_a_cache(model, CONFIGS[name])


@pytest.mark.parametrize("name", MAIN)
@settings(max_examples=8)  # for each of 18 pairs of a model and a method
@given(prompt=prompts())
def test_padding_does_not_reach_the_real_tokens(model, name, prompt):
    laws.ignores_padding(model, CONFIGS[name], *prompt)


@pytest.mark.parametrize("name", MAIN)
def test_a_deep_copy_is_independent(model, name):
    laws.copies_independently(model, CONFIGS[name])


@pytest.mark.parametrize("name", MODULES)
def test_threads_do_not_mix(model, name):
    laws.keeps_threads_apart(model, CONFIGS[name])


@pytest.mark.parametrize("name", MODULES)
def test_a_replica_of_data_parallel_uses_its_own_parameters(model, name):
    laws.works_as_a_replica(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_no_parameter_is_a_scalar(tiny_gpt2, name):
    """FSDP2 refuses those; test_sharded.py shards every method."""
    assert all(parameter.dim() for parameter in attach(tiny_gpt2, CONFIGS[name]).parameters())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "frozen"])
def test_gradient_checkpointing_gives_the_same_gradients(model, name, reentrant):
    laws.checkpoints_the_same_gradients(model, CONFIGS[name], reentrant)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_bfloat16_model(model, name, order, tmp_path):
    laws.keeps_bfloat16(model, CONFIGS[name], before=order == "before", directory=tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_cast_after_attaching_is_of_one_dtype_and_comes_apart(tiny_gpt2, name, tmp_path):
    """As the documentation of attach says, adapters too: it runs, has gradients, saves, loads, unmerges, detaches."""
    base = laws.logits_of(tiny_gpt2.to(torch.bfloat16), some_ids())
    model = laws.stir(attach(tiny_gpt2, CONFIGS[name]), size=0.0 if CONFIGS[name].trains_base else 0.1).to(
        torch.float16
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    if name != "frozen":
        laws.loss_of(model, some_ids()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in trainable_parameters(model).values())
    stirred = laws.logits_of(model, some_ids())
    with contextlib.suppress(AdapterError):  # methods that cannot be merged
        unmerge(merge(model))
    again = load(detach(copy.deepcopy(model)), save(model, tmp_path)).to(torch.float16)
    for one in (model, again):
        assert torch.equal(laws.logits_of(one, some_ids()), stirred)
    torch.testing.assert_close(laws.logits_of(detach(model), some_ids()).to(base), base, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_are_float32_and_move_in_models_of_half_precision(model, name):
    laws.trains_in_float32(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_autocast(model, name):
    laws.works_under_autocast(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_detach_gives_the_base_model_back(model, name):
    laws.detaches_completely(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_attach_leaves_the_global_random_state_alone_and_is_repeatable(model, name):
    laws.attaches_repeatably(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_attach_works_without_memory_on_the_meta_device(model, name):
    laws.attaches_without_memory(model, CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_is_saved_or_loaded_on_the_meta_device(model, name):
    with torch.device("meta"):
        twin = type(model)(model.config)
    attach(twin, CONFIGS[name])
    with pytest.raises(AdapterError, match="meta device"):
        load(twin, "nowhere")
    if name != "frozen":
        with pytest.raises(AdapterError, match="meta device"):
            save(twin, "nowhere")


@pytest.mark.parametrize("name", CONFIGS)
def test_attaching_twice_is_refused_with_the_fix(tiny_gpt2, name):
    laws.refuses_a_second_method(tiny_gpt2, CONFIGS[name])


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
