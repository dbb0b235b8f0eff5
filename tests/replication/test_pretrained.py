"""`save_pretrained` of a model with a method, as Trainer calls it: loaded by `load`, by stock PEFT, and by Trainer."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from replication import attach, attached_config, detach, load, merge_and_unload, method_config, save
from replication.errors import AdapterError
from replication.methods import read_config
from replication.methods.selection import present_updates, remove_adapters
from replication.methods.shared.saving import saved_state
from replication.testing.laws import is_encoder_decoder, logits_of, some_ids, stir

VERA = method_config("peft_baselines", name="vera", settings={"r": 4}, targets=("c_attn",))
CONFIGS = {
    "solo_connection": method_config("solo_connection", rank=4),
    "lora": method_config("lora", rank=2),
    "weight_lora": method_config("weight_lora", rank=2, keep=2),
    "random_lora": method_config("random_lora", rank=2, keep=2),
    "vera": VERA,
    "full": method_config("full"),
}
PEFT_LOADS = ("lora", "weight_lora", "random_lora")


def trainer(model, folder, **options):
    rows = [{"input_ids": row, "labels": row} for row in some_ids(rows=8)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_trainer_writes_is_loaded(tiny_gpt2, tmp_path, name):
    """The final folder and a checkpoint, by `load`; a LoRA by stock PEFT too."""
    base = copy.deepcopy(tiny_gpt2)
    model = attach(tiny_gpt2, CONFIGS[name])
    run = trainer(model, tmp_path)
    run.train()
    run.save_model(tmp_path / "final")
    trained = logits_of(model.eval(), some_ids())
    assert not torch.equal(trained, logits_of(base, some_ids()))
    for folder in (tmp_path / "final", tmp_path / "checkpoint-4"):
        loaded = load(copy.deepcopy(base), folder)
        assert attached_config(loaded) == CONFIGS[name]
        assert torch.equal(logits_of(loaded, some_ids()), trained)
        if name in PEFT_LOADS:
            stock = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
            torch.testing.assert_close(logits_of(stock, some_ids()), trained, atol=1e-5, rtol=1e-5)


def test_adapters_that_a_selection_removed_stay_removed(tiny_gpt2, tmp_path):
    """Their names are not in the file: the description's structure says what is left."""
    base = copy.deepcopy(tiny_gpt2)
    model = stir(attach(tiny_gpt2, CONFIGS["weight_lora"]))
    remove_adapters(model, [0, 1, 2, 5])
    model.save_pretrained(tmp_path)
    expected = logits_of(model, some_ids())
    loaded = load(copy.deepcopy(base), tmp_path)
    assert list(present_updates(loaded)) == list(present_updates(model))
    assert torch.equal(logits_of(loaded, some_ids()), expected)
    stock = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(logits_of(stock, some_ids()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["lora", "vera"])
def test_trainer_resumes_and_takes_the_best_checkpoint(tiny_gpt2, tmp_path, name):
    base = copy.deepcopy(tiny_gpt2)
    whole = attach(copy.deepcopy(base), CONFIGS[name])
    trainer(whole, tmp_path / "whole").train()
    resumed = stir(attach(copy.deepcopy(base), CONFIGS[name]))
    run = trainer(resumed, tmp_path / "whole", eval_strategy="steps", eval_steps=2, load_best_model_at_end=True)
    run.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    best = load(copy.deepcopy(base), run.state.best_model_checkpoint)
    assert torch.equal(logits_of(resumed.eval(), some_ids()), logits_of(best, some_ids()))
    if run.state.best_model_checkpoint.endswith("-4"):
        assert torch.equal(logits_of(resumed, some_ids()), logits_of(whole.eval(), some_ids()))


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_bart"])
@pytest.mark.parametrize("name", ["lora", "full"])
def test_other_architectures(request, fixture, name, tmp_path):
    model = request.getfixturevalue(fixture)
    base = copy.deepcopy(model)
    stir(attach(model, CONFIGS[name])).save_pretrained(tmp_path)
    expected = logits_of(model, some_ids())
    assert torch.equal(logits_of(load(copy.deepcopy(base), tmp_path), some_ids()), expected)
    if name == "full":
        assert torch.equal(logits_of(type(model).from_pretrained(tmp_path).eval(), some_ids()), expected)
    elif not is_encoder_decoder(model):
        stock = PeftModel.from_pretrained(base, tmp_path).eval()
        torch.testing.assert_close(logits_of(stock, some_ids()), expected, atol=1e-5, rtol=1e-5)


def test_the_folder_holds_the_trained_part_alone(tiny_gpt2, tmp_path):
    model = attach(tiny_gpt2, CONFIGS["solo_connection"])
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "model.safetensors"}
    assert set(load_file(tmp_path / "model.safetensors")) == set(saved_state(model))
    for kind in (type(model), AutoModelForCausalLM):
        with pytest.raises(KeyError, match="base_model_name_or_path"):
            kind.from_pretrained(tmp_path)  # never random weights without an error


def test_hugging_faces_own_is_back_afterwards_and_a_copy_saves_itself(tiny_gpt2, tmp_path):
    model = attach(tiny_gpt2, CONFIGS["lora"])
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        stir(twin).save_pretrained(tmp_path / "twin")
        loaded = load(detach(copy.deepcopy(model)), tmp_path / "twin")
        assert torch.equal(logits_of(loaded, some_ids()), logits_of(twin, some_ids()))
    for plain in (detach(copy.deepcopy(model)), merge_and_unload(copy.deepcopy(model))):
        assert "save_pretrained" not in vars(plain)


def test_one_folder_holds_one_adapter(tiny_gpt2, tmp_path):
    """Whatever was saved there before, the last one is loaded."""
    for name in ("lora", "solo_connection", "full", "lora"):
        model = attach(copy.deepcopy(tiny_gpt2), CONFIGS[name])
        save(model, tmp_path)
        other = attach(copy.deepcopy(tiny_gpt2), CONFIGS["weight_lora"])
        assert attached_config(load(copy.deepcopy(tiny_gpt2), tmp_path)) == CONFIGS[name]
        other.save_pretrained(tmp_path)
        assert attached_config(load(copy.deepcopy(tiny_gpt2), tmp_path)) == CONFIGS["weight_lora"]
        model.save_pretrained(tmp_path)
        assert attached_config(load(copy.deepcopy(tiny_gpt2), tmp_path)) == CONFIGS[name]


def test_what_peft_has_trained_on_is_what_is_loaded(tiny_llama, tmp_path):
    """PEFT writes over its own files alone: the folder then holds the earlier adapter beside the later one."""
    stir(attach(copy.deepcopy(tiny_llama), CONFIGS["lora"])).save_pretrained(tmp_path)
    theirs = PeftModel.from_pretrained(copy.deepcopy(tiny_llama), tmp_path, is_trainable=True)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    theirs.save_pretrained(tmp_path)
    expected = logits_of(theirs.eval(), some_ids())
    torch.testing.assert_close(logits_of(load(tiny_llama, tmp_path), some_ids()), expected, atol=1e-5, rtol=1e-5)


def test_a_damaged_folder_is_refused(tiny_gpt2, tmp_path):
    model = attach(copy.deepcopy(tiny_gpt2), CONFIGS["lora"])
    model.save_pretrained(tmp_path)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(AdapterError, match=r"model\.safetensors: damaged"):
        load(tiny_gpt2, tmp_path)


def test_given_tensors_are_written_and_other_processes_write_nothing(tiny_gpt2, tmp_path):
    model = attach(tiny_gpt2, CONFIGS["lora"])
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()
    with pytest.warns(UserWarning, match="no adapter written: state_dict has no transformer"):
        model.save_pretrained(tmp_path / "other", state_dict={})
    assert not (tmp_path / "other").exists()
    given = {name: torch.full_like(tensor, 0.5) for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=given)
    assert all(bool((tensor == 0.5).all()) for tensor in load_file(tmp_path / "model.safetensors").values())


def test_what_peft_cannot_hold_is_said(tiny_gpt2, tmp_path):
    tiny_gpt2.transformer.h[1].attn = tiny_gpt2.transformer.h[0].attn
    model = attach(tiny_gpt2, CONFIGS["lora"])
    with pytest.warns(UserWarning, match="not written in PEFT's format: .*several positions"):
        model.save_pretrained(tmp_path)
    assert read_config(tmp_path) == CONFIGS["lora"]
    assert not (tmp_path / "adapter_model.safetensors").exists()


def test_pefts_description_names_the_base(tiny_gpt2, tmp_path):
    tiny_gpt2.save_pretrained(tmp_path / "base")
    base = type(tiny_gpt2).from_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(base, CONFIGS["lora"]).save_pretrained(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tmp_path / "base")
