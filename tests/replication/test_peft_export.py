"""The export: stock PEFT gives the same logits, for every method, architecture and moment."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from replication.errors import AdapterError
from replication.examples import Encoded
from replication.methods import attach, load, merge, save, trainable_parameters
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig, lora_layers
from replication.methods.peft_baselines import PeftBaselineConfig
from replication.methods.random_lora import RandomLoraConfig
from replication.methods.selection import remove_adapters, set_pair
from replication.methods.solo_connection import SoloConnectionConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.peft_export import export_peft_lora, one_pair
from replication.training.config import TrainingConfig
from replication.training.loop import train

torch.set_num_threads(1)

SIZES = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


def bert():
    config = BertConfig(**SIZES, num_attention_heads=2, max_position_embeddings=16, num_labels=3)
    return BertForSequenceClassification(config)


def deberta():
    disentangled = {"relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"]}
    config = DebertaV2Config(**SIZES, num_attention_heads=2, max_position_embeddings=16, num_labels=3, **disentangled)
    return DebertaV2ForSequenceClassification(config)


def llama():
    config = LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, num_labels=3)
    return LlamaForSequenceClassification(config)


def bart():
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"vocab_size": 31, "d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    tokens = {"max_position_embeddings": 16, "eos_token_id": 2, "num_labels": 3}
    return BartForSequenceClassification(BartConfig(**sizes, **layers, **tokens))


def gpt2():
    config = GPT2Config(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2, pad_token_id=0, num_labels=3)
    return GPT2ForSequenceClassification(config)


def gpt_neox():  # query, key and value interleaved by head
    return GPTNeoXForSequenceClassification(GPTNeoXConfig(**SIZES, num_attention_heads=4, num_labels=3, pad_token_id=0))


BUILDERS = {"bert": bert, "deberta": deberta, "llama": llama, "bart": bart, "gpt2": gpt2, "gpt_neox": gpt_neox}
METHODS = {
    "lora": LoraConfig(rank=3, alpha=5, targets=("query", "key", "value")),
    "random_lora": RandomLoraConfig(rank=3, alpha=5, keep=4),
    "weight_lora": WeightLoraConfig(rank=3, alpha=5, keep=4, selection_steps=3, weight_learning_rate=0.5),
    "weight_lora_plus": WeightLoraPlusConfig(
        rank=2, alpha=5, keep=4, selection_steps=3, expand_every=1, expansions=2, weight_learning_rate=0.5
    ),
}
TRAINING = TrainingConfig(steps=7, warmup_steps=0, learning_rate=0.02, batch_size=4, log_every=7)
ROWS = torch.randint(3, 31, (8, 6), generator=torch.Generator().manual_seed(0))
ROWS[:, -1] = 2  # BART classifies at the last end mark
EXAMPLES = [Encoded(row, [1] * 6) for row in ROWS.tolist()]


@pytest.fixture(params=BUILDERS)
def model(request):
    return made(request.param)


def made(name):
    torch.manual_seed(0)
    return BUILDERS[name]().eval()


def first_token_modulo_three(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits, batch["input_ids"][:, 0] % 3, reduction="sum"), torch.tensor(len(logits))


def trained(model, config):
    attach(model, config)
    callback = config.training_callback(TRAINING)
    train(model, EXAMPLES, [], TRAINING, seed=1, pad_id=0, callback=callback, loss_function=first_token_modulo_three)
    updates = [update for layer in lora_layers(model).values() for _, update in layer.updates()]
    for place, update in enumerate(updates):  # seven updates hardly move the weights of models as small as these
        if hasattr(update, "importance_weight"):
            update.importance_weight.data.add_(0.4 * (place + 1) * (-1) ** place)
    return model


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=ROWS).logits


def stir(model, size=0.2):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) * size)
    return model


def read(folder):
    return json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")


# --- stock PEFT as oracle -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_stock_peft_gives_the_same_logits(model, method, tmp_path):
    base = copy.deepcopy(model)
    trained(model, METHODS[method])
    before = copy.deepcopy(model.state_dict())
    assert export_peft_lora(model, tmp_path / "out") == tmp_path / "out"
    assert (logits_of(model) - logits_of(base)).abs().max() > 1e-3
    theirs = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_an_expanded_pair_keeps_its_scale(name, tmp_path):
    model = trained(made(name), METHODS["weight_lora_plus"])
    layers = lora_layers(model)
    pairs = [update for layer in layers.values() for _, update in layer.updates()]
    assert [len(update.lora_A) for update in pairs] == [8]  # 4 adapters of rank 2, then 2 of 4, then 1 of 8
    config, tensors = read(export_peft_lora(model, tmp_path))
    assert config["target_modules"] == list(layers)
    assert config["r"] == 8
    assert config["lora_alpha"] == 8 * 5 / 2
    assert len([key for key in tensors if "lora_A" in key]) == 1
    weight = pairs[0].importance_weight.item()
    assert weight > 1.2
    (folded,) = [tensor for key, tensor in tensors.items() if "lora_B" in key]
    expected = torch.zeros_like(folded)
    ((piece, update),) = next(iter(layers.values())).updates()
    expected[piece.start : piece.stop] = update.lora_B.detach() * weight
    torch.testing.assert_close(folded, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_and_loaded_adapter_exports_the_same_files(method, tmp_path):
    model, fresh = made("gpt2"), made("gpt2")
    trained(model, METHODS[method])
    save(model, tmp_path / "saved")
    export_peft_lora(model, tmp_path / "one")
    export_peft_lora(load(fresh, tmp_path / "saved"), tmp_path / "other")
    export_peft_lora(merge(model), tmp_path / "merged")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "other" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()


def test_slices_of_one_projection_become_one_pair(tiny_gpt2, tmp_path):
    base = copy.deepcopy(tiny_gpt2)
    stir(attach(tiny_gpt2, RandomLoraConfig(rank=3, alpha=6, keep=9, targets=("query", "value"))))
    config, tensors = read(export_peft_lora(tiny_gpt2, tmp_path, base="somebody/gpt2"))
    assert config["fan_in_fan_out"]
    assert config["base_model_name_or_path"] == "somebody/gpt2"
    assert config["modules_to_save"] is None
    ranks = {name: 3 * len(layer.slices) for name, layer in lora_layers(tiny_gpt2).items()}
    assert set(ranks.values()) == {3, 6}
    for name, rank in ranks.items():
        assert config["rank_pattern"].get(name, config["r"]) == rank
        assert config["alpha_pattern"].get(name, config["lora_alpha"]) == 2 * rank
        lora_B = tensors[f"base_model.model.{name}.lora_B.weight"]
        assert lora_B.shape == (96, rank)
        assert (lora_B[32:64] == 0).all()  # the key is not adapted
        if rank == 6:
            assert (lora_B[:32, 3:] == 0).all()
            assert (lora_B[64:, :3] == 0).all()
    theirs = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(logits_of(theirs), logits_of(tiny_gpt2), atol=1e-5, rtol=0)


def test_the_encoder_decoder_model_without_a_head(tiny_bart, tmp_path):
    base = copy.deepcopy(tiny_bart)
    stir(attach(tiny_bart, WeightLoraConfig(rank=2, targets=("query", "value", "fc1"), keep=5)))
    theirs = PeftModel.from_pretrained(base, export_peft_lora(tiny_bart, tmp_path)).eval()
    torch.testing.assert_close(logits_of(theirs), logits_of(tiny_bart), atol=1e-5, rtol=0)


def test_a_bfloat16_pair_is_written_in_float32(tmp_path):
    base = made("llama").to(torch.bfloat16)
    model = stir(attach(copy.deepcopy(base), WeightLoraConfig(rank=2, keep=5)))
    _, tensors = read(export_peft_lora(model, tmp_path))
    assert {tensor.dtype for key, tensor in tensors.items() if "lora_" in key} == {torch.float32}
    theirs = PeftModel.from_pretrained(base, tmp_path).eval()  # with a bfloat16 head; ours is float32
    torch.testing.assert_close(logits_of(theirs).float(), logits_of(model), atol=0.1, rtol=0.1)


# --- the pair -------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    ranks=st.lists(st.integers(1, 8), min_size=3, max_size=3),
    weights=st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3),
    alpha=st.floats(0.5, 64),
    removed=st.sets(st.integers(0, 2), max_size=2),
)
def test_one_pair_is_the_sum_of_the_slices(ranks, weights, alpha, removed):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=5, n_positions=4, n_embd=8, n_layer=1, n_head=1)
    model = attach(GPT2ForSequenceClassification(config).eval(), WeightLoraConfig(rank=2, alpha=alpha, keep=3))
    layer = model.transformer.h[0].attn.c_attn
    for (_, update), rank, weight in zip(layer.updates(), ranks, weights, strict=True):
        set_pair(update, torch.randn(rank, 8), torch.randn(8, rank))
        update.importance_weight.data.fill_(weight)
    remove_adapters(model, removed)
    lora_A, lora_B, scale = one_pair(layer)
    assert lora_A.shape == (sum(rank for i, rank in enumerate(ranks) if i not in removed), 8)
    x = torch.randn(3, 8)
    expected = (layer(x) - layer.base_layer(x)).detach()
    torch.testing.assert_close(x @ lora_A.T @ lora_B.T * scale, expected, atol=1e-3, rtol=1e-3)


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (FullConfig(), "full"),
        (FrozenConfig(), "frozen"),
        (SoloConnectionConfig(rank=2), "solo_connection"),
        (PeftBaselineConfig(name="dora", settings={"r": 2}, targets=("c_attn",)), "peft_baselines"),
    ],
)
def test_other_methods_are_refused(tiny_gpt2, tmp_path, config, method):
    with pytest.raises(AdapterError, match=f"method {method} cannot be exported"):
        export_peft_lora(attach(tiny_gpt2, config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_export_is_refused(tmp_path):
    with pytest.raises(AdapterError, match="carries no method"):
        export_peft_lora(made("bert"), tmp_path)
    model = attach(made("bert"), WeightLoraConfig(rank=2, keep=2))
    remove_adapters(model, range(6))
    with pytest.raises(AdapterError, match="no adapter left"):
        export_peft_lora(model, tmp_path)
    with torch.device("meta"):
        empty = attach(bert(), LoraConfig(rank=2))
    with pytest.raises(AdapterError, match="meta device"):
        export_peft_lora(empty, tmp_path)


def test_a_saved_adapter_is_not_overwritten_but_an_export_is(tmp_path):
    model = attach(made("bert"), LoraConfig(rank=2))
    save(model, tmp_path / "saved")
    with pytest.raises(AdapterError, match="would overwrite"):
        export_peft_lora(model, tmp_path / "saved")
    export_peft_lora(model, tmp_path / "out")
    _, first = read(tmp_path / "out")
    stir(model)
    _, second = read(export_peft_lora(model, tmp_path / "out"))
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_a_projection_in_two_places_is_refused(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(4, 4)
            self.again = nn.ModuleDict({"key": self.query})

    with pytest.raises(AdapterError, match="several positions"):
        export_peft_lora(attach(Twice(), LoraConfig(rank=1, targets=("query",))), tmp_path)
