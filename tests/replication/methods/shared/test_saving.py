"""The saved form: what it holds, that it repeats, and a clear error for every way it can be wrong."""

import copy
import hashlib
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from replication.errors import AdapterError
from replication.fileio import sha256_file
from replication.methods import (
    attach,
    attached_config,
    detach,
    load,
    method_config,
    read_config,
    save,
    trainable_parameters,
)
from replication.methods.frozen import FrozenConfig
from replication.methods.lora import LoraConfig
from replication.methods.shared.saving import FIELDS
from replication.methods.solo_connection import SoloConnectionConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.testing.laws import logits_of, some_ids, stir

SOLO = SoloConnectionConfig(rank=4, sparsity=0.5, lora=LoraConfig(rank=2))


@pytest.fixture
def saved(tiny_gpt2, tmp_path):
    model = attach(copy.deepcopy(tiny_gpt2), SOLO)
    return save(model, tmp_path / "deep" / "adapter")


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder, change):
    """Other tensors in a folder as earlier releases wrote it: without a checksum."""
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    forget_checksum(folder)


def forget_checksum(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}))


def refused(model, folder, message):
    structure = str(model)
    with pytest.raises(AdapterError, match=message) as error:
        load(model, folder)
    assert str(folder) in str(error.value)
    assert str(model) == structure
    assert attached_config(model) is None
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_configuration_says_what_it_is(saved, tiny_gpt2):
    written = json.loads((saved / "adapter_config.json").read_text())
    attach(tiny_gpt2, SOLO)
    assert written["format_version"] == 1
    assert written["method"] == "solo_connection"
    assert written["config"]["rank"] == 4
    assert written["config"]["lora"]["targets"] == ["query", "value"]
    assert written["base"] == {"class": "GPT2LMHeadModel", "width": 32, "blocks": 6, "vocabulary": 97}
    assert written["parameter_count"] == sum(p.numel() for p in trainable_parameters(tiny_gpt2).values())
    assert written["sha256"] == hashlib.sha256((saved / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert set(written) <= set(FIELDS)
    assert read_config(saved) == SOLO


def test_only_the_adapter_is_written_and_the_mask_with_it(saved, tiny_gpt2):
    names = set(load_file(saved / "adapter_model.safetensors"))
    attach(tiny_gpt2, SOLO)
    masks = {"solo_connection.encoder.mask", "solo_connection.decoder.mask"}
    assert names == set(trainable_parameters(tiny_gpt2)) | masks
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_saving_again_writes_the_same_bytes_and_replaces_another_method(saved, tiny_gpt2):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    twin = copy.deepcopy(tiny_gpt2)
    save(attach(twin, FrozenConfig()), saved)
    assert read_config(saved) == FrozenConfig()
    save(attach(tiny_gpt2, SOLO), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_mask_drawn_differently_is_loaded_as_saved(saved, tiny_gpt2):
    edit_tensors(
        saved,
        lambda tensors: tensors["solo_connection.encoder.mask"].copy_(tensors["solo_connection.encoder.mask"].flip(1)),
    )
    load(tiny_gpt2, saved)
    flipped = load_file(saved / "adapter_model.safetensors")["solo_connection.encoder.mask"]
    assert torch.equal(tiny_gpt2.solo_connection.encoder.mask, flipped)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(saved, tiny_gpt2, name):
    (saved / name).unlink()
    refused(tiny_gpt2, saved, f"{name}: no such file")


def test_a_file_in_place_of_the_folder_is_named(saved, tiny_gpt2):
    refused(tiny_gpt2, saved / "adapter_model.safetensors", "adapter_model.safetensors: is a file; name the folder")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_tensor_file_is_named(saved, tiny_gpt2, kept):
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tiny_gpt2, saved, r"adapter_model\.safetensors: not a complete safetensors file")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_a_configuration_that_is_not_json_is_named(saved, tiny_gpt2, text):
    (saved / "adapter_config.json").write_text(text)
    refused(tiny_gpt2, saved, r"adapter_config\.json: (not valid JSON|must hold a JSON object)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "'format_version' is 2; this version reads 1"),
        ({"format_version": "1"}, "'format_version' is '1', expected int"),
        ({"method": "lorra"}, r"'lorra'.*frozen, ft_top2, full, lora"),
        ({"method": None}, "'method' is None"),
        ({"config": {"rank": 4, "size": 1}}, "size.*rank"),
        ({"config": {"rank": 0}}, "rank=0"),
        ({"config": {"rank": 400}}, "rank=400.*width 32"),
        ({"config": None}, "'config' is None"),
        ({"base": {"class": "GPT2LMHeadModel", "width": 64, "blocks": 6}}, "'base.width' is 64.*32"),
        ({"base": {"class": "GPT2LMHeadModel", "width": 32, "blocks": 12}}, "'base.blocks' is 12.*6"),
        ({"base": {"class": "GPT3", "width": 32, "blocks": 6}}, "'base.class' is 'GPT3'.*GPT2LMHeadModel"),
        ({"base": {}}, "'base.class' is None"),
        ({"rank": 4, "Method": "lora"}, r"unknown field\(s\) Method, rank; valid fields are format_version, method"),
        ({"base": {"class": "GPT2LMHeadModel", "width": 32, "blocks": 6, "heads": 2}}, r"base\.heads; valid.*width"),
        ({"card": "E2E"}, "field 'card' is 'E2E', expected dict"),
        ({"sha256": None}, "field 'sha256' is None, expected str"),
        ({"sha256": "0" * 64}, r"adapter_model\.safetensors: damaged or exchanged"),
    ],
)
def test_a_wrong_field_is_named(saved, tiny_gpt2, changes, message):
    edit_config(saved, **changes)
    refused(tiny_gpt2, saved, message)


@settings(max_examples=15)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(saved, tiny_gpt2, place, bit):
    """Wherever it is: in the header, a name or a value."""
    path = saved / "adapter_model.safetensors"
    before = path.read_bytes()
    data = bytearray(before)
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    refused(tiny_gpt2, saved, r"adapter_model\.safetensors: (damaged or exchanged|not a complete)")
    path.write_bytes(before)


def test_a_folder_without_a_checksum_is_read_as_before(saved, tiny_gpt2):
    forget_checksum(saved)
    (saved / "README.md").unlink()
    assert attached_config(load(tiny_gpt2, saved)) == SOLO


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(saved, tiny_gpt2, value):
    edit_tensors(saved, lambda tensors: tensors["solo_connection.encoder.bias"].__setitem__(2, value))
    refused(tiny_gpt2, saved, r"'solo_connection\.encoder\.bias' has 1 value\(s\) that are NaN or infinite")


def test_another_base_is_refused(saved, tiny_llama):
    refused(tiny_llama, saved, r"base\.class.*LlamaForCausalLM")


def test_another_base_of_the_same_shape_is_told_by_its_name(tiny_gpt2, tmp_path):
    tiny_gpt2.name_or_path = "openai-community/gpt2"
    base = copy.deepcopy(tiny_gpt2)
    save(attach(tiny_gpt2, LoraConfig(rank=2)), tmp_path)
    for name, warned in (("openai-community/gpt2", False), ("", False), ("someone/gpt2-tuned", True)):
        twin = copy.deepcopy(base)
        twin.name_or_path = name
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load(twin, tmp_path)
        told = [str(w.message) for w in caught if "the adapter was trained on openai-community/gpt2" in str(w.message)]
        assert bool(told) == warned


def test_missing_and_unexpected_tensors_are_named(saved, tiny_gpt2):
    def rename(tensors):
        tensors["solo_connection.other"] = tensors.pop("solo_connection.encoder.bias")

    edit_tensors(saved, rename)
    refused(tiny_gpt2, saved, r"missing solo_connection\.encoder\.bias; unexpected solo_connection\.other")


def test_many_missing_tensors_are_counted(saved, tiny_gpt2):
    edit_tensors(saved, lambda tensors: tensors.clear())
    refused(tiny_gpt2, saved, r"missing .* and \d+ more")


def test_a_wrong_shape_is_named(saved, tiny_gpt2):
    def shrink(tensors):
        tensors["solo_connection.encoder.bias"] = torch.zeros(3)

    edit_tensors(saved, shrink)
    refused(tiny_gpt2, saved, r"'solo_connection\.encoder\.bias' has shape \(3,\), expected \(4,\)")


def test_a_wrong_kind_of_number_is_named(saved, tiny_gpt2):
    def change(tensors):
        tensors["solo_connection.encoder.mask"] = tensors["solo_connection.encoder.mask"].float()

    edit_tensors(saved, change)
    refused(tiny_gpt2, saved, r"encoder\.mask' is torch.float32, expected torch.bool")


@pytest.mark.parametrize("method", ["adapter_h", "adapter_l"])
def test_a_width_that_no_tensor_has_room_for_is_refused_before_memory_is_asked_for(method, tiny_gpt2, tmp_path):
    folder = save(attach(copy.deepcopy(tiny_gpt2), method_config(method, bottleneck=2)), tmp_path / "adapter")
    content = json.loads((folder / "adapter_config.json").read_text())
    content["config"]["bottleneck"] = 10**7
    (folder / "adapter_config.json").write_text(json.dumps(content))
    refused(tiny_gpt2, folder, "field 'bottleneck' is above")


def test_a_model_that_carries_a_method_is_refused_and_kept(saved, tiny_gpt2):
    attach(tiny_gpt2, LoraConfig(rank=2))
    with pytest.raises(AdapterError, match=r"already carries method 'lora'.*detach"):
        load(tiny_gpt2, saved)
    assert attached_config(tiny_gpt2) == LoraConfig(rank=2)


def test_nothing_is_saved_of_a_training_that_diverged(saved, tiny_gpt2):
    model = load(tiny_gpt2, saved)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with torch.no_grad():
        next(iter(trainable_parameters(model).values())).fill_(torch.nan)
    with pytest.raises(AdapterError, match=r"nothing is saved.*NaN"):
        save(model, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_readme_of_somebody_else_is_kept(saved, tiny_gpt2):
    card = (saved / "README.md").read_text()
    save(load(tiny_gpt2, saved), saved)
    assert (saved / "README.md").read_text() == card
    (saved / "README.md").write_text("my notes")
    save(tiny_gpt2, saved)
    assert (saved / "README.md").read_text() == "my notes"


def test_a_file_in_the_way_of_the_folder_is_named(saved, tiny_gpt2, tmp_path):
    (tmp_path / "file").write_text("")
    model = attach(tiny_gpt2, LoraConfig(rank=2))
    with pytest.raises(AdapterError, match=r"file/adapter_config\.json.*move it away"):
        save(model, tmp_path / "file")


def test_what_is_no_model_is_refused(saved):
    with pytest.raises(AdapterError, match="needs the base model, got str"):
        load("gpt2", saved)


def test_saving_without_a_method_is_refused(tiny_gpt2, tmp_path):
    with pytest.raises(AdapterError, match="attach"):
        save(tiny_gpt2, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_model_saves_what_it_was_compiled_from(saved, tiny_gpt2, tmp_path):
    folder = save(torch.compile(attach(tiny_gpt2, SOLO)), tmp_path / "compiled")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in saved.iterdir()}


# --- the vocabulary ------------------------------------------------------------


def test_an_adapter_of_a_resized_vocabulary_fits_the_resized_base_alone(tiny_gpt2, tmp_path):
    base, resized = copy.deepcopy(tiny_gpt2), copy.deepcopy(tiny_gpt2)
    resized.resize_token_embeddings(101, mean_resizing=False)
    folder = save(attach(copy.deepcopy(resized), LoraConfig(rank=2)), tmp_path)
    refused(base, folder, r"base\.vocabulary' is 101.*has 97.*resize_token_embeddings\(101\)")
    load(resized, folder)
    folder = save(attach(copy.deepcopy(base), LoraConfig(rank=2)), tmp_path)
    refused(copy.deepcopy(detach(resized)), folder, r"base\.vocabulary' is 97.*has 101")


def test_a_file_that_does_not_say_the_vocabulary_is_loaded(saved, tiny_gpt2):
    base = json.loads((saved / "adapter_config.json").read_text())["base"]
    del base["vocabulary"]  # as in earlier releases
    edit_config(saved, base=base)
    load(tiny_gpt2, saved)


# --- learned scalars, and sharded models ------------------------------------------------------------

WITH_SCALARS = {
    "solo": SoloConnectionConfig(rank=2),
    "weight_lora": WeightLoraConfig(rank=2, keep=2, targets=("query",), selection_steps=None),
}
GOLDEN = {
    "solo": "e81917a6c0a78748fc13a05f36b059deb6dbbf4f1d26613102b714a957634ebd",
    "weight_lora": "42220607e5217f731e9937a07f76770324b268e0cb430bb43bbd1aa0ae02efb6",
}


def numbered(model):
    """Every trained parameter gets values of its own, the same with any version of torch."""
    with torch.no_grad():
        for number, parameter in enumerate(trainable_parameters(model).values()):
            parameter.copy_((torch.arange(parameter.numel()) / 64 + number).view(parameter.shape))
    return model


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_files_hold_scalars_as_they_always_did_and_both_shapes_load(tiny_gpt2, name, tmp_path):
    """FSDP2 wants a dimension in memory. The hash is of a file written when learned scalars had shape () there, too."""
    model = numbered(attach(copy.deepcopy(tiny_gpt2), WITH_SCALARS[name]))
    assert all(parameter.dim() for parameter in model.parameters())
    save(model, tmp_path)
    assert sha256_file(tmp_path / "adapter_model.safetensors") == GOLDEN[name]

    def add_a_dimension(tensors):
        scalars = [key for key, tensor in tensors.items() if tensor.shape == ()]
        assert scalars
        tensors.update({key: tensors[key].reshape(1) for key in scalars})

    reference = logits_of(model, some_ids())
    assert torch.equal(logits_of(load(copy.deepcopy(tiny_gpt2), tmp_path), some_ids()), reference)
    edit_tensors(tmp_path, add_a_dimension)
    assert torch.equal(logits_of(load(copy.deepcopy(tiny_gpt2), tmp_path), some_ids()), reference)


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone: enough for FSDP2 to make DTensors."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", WITH_SCALARS)
def test_a_sharded_model_saves_the_files_of_the_whole_one(tiny_gpt2, one_process, name, tmp_path):
    from torch.distributed.fsdp import fully_shard

    base, model = copy.deepcopy(tiny_gpt2), stir(attach(tiny_gpt2, WITH_SCALARS[name]))
    whole, reference = save(copy.deepcopy(model), tmp_path / "whole"), logits_of(model, some_ids())
    for module in (*model.transformer.h, model):
        fully_shard(module, mesh=one_process)
    for _ in range(2):  # sharded, and gathered after a forward
        folder = save(model, tmp_path / "sharded")
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
        assert torch.equal(logits_of(model, some_ids()), reference)
    assert torch.equal(logits_of(load(base, folder), some_ids()), reference)


def test_a_sharded_base_is_refused(tiny_gpt2, one_process):
    from torch.distributed.fsdp import fully_shard

    fully_shard(tiny_gpt2.transformer.h[0], mesh=one_process)
    with pytest.raises(AdapterError, match="attach first, then shard"):
        attach(tiny_gpt2, LoraConfig(rank=2))
