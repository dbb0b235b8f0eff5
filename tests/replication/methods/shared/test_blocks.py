"""Blocks, width and task head of the families the project uses."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from replication.errors import AdapterError
from replication.methods import attach, trainable_parameters
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.shared.blocks import describe_base, find_decoder, head_parameters

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}


def build(kind, model_type, **settings):
    with torch.device("meta"):
        config = AutoConfig.for_model(model_type, vocab_size=30, **{**SIZES, **settings})
        return kind.from_config(config)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("gpt2", {}),
        ("llama", {"pad_token_id": 0}),
        ("mistral", {"num_key_value_heads": 2}),
        ("opt", {"ffn_dim": 24, "word_embed_proj_dim": 8}),
        ("gpt_neox", {}),
        ("qwen2", {"num_key_value_heads": 2}),
        ("phi", {}),
        ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 2}),
    ],
)
def test_causal_models(model_type, settings):
    model = build(AutoModelForCausalLM, model_type, **settings)
    stack = find_decoder(model)
    assert (len(stack.blocks), stack.width) == (3, 16)
    assert stack.blocks in [tuple(child) for child in stack.owner.children() if isinstance(child, nn.ModuleList)]
    assert head_parameters(model) == {}
    assert describe_base(model) == {"class": type(model).__name__, "width": 16, "blocks": 3, "vocabulary": 30}


def test_bart_gives_the_blocks_of_its_decoder(tiny_bart):
    stack = find_decoder(tiny_bart)
    assert stack.blocks == tuple(tiny_bart.model.decoder.layers)
    assert stack.owner is tiny_bart.model.decoder
    assert stack.width == 32
    assert head_parameters(tiny_bart) == {}


@pytest.mark.parametrize(
    ("model_type", "settings", "head"),
    [
        ("deberta-v2", {"type_vocab_size": 0}, {"pooler.dense", "classifier"}),
        ("bert", {}, {"classifier", "bert.pooler.dense"}),
        ("roberta", {}, {"classifier.dense", "classifier.out_proj"}),
        ("mpnet", {}, {"classifier.dense", "classifier.out_proj"}),
        ("llama", {"pad_token_id": 0}, {"score"}),
        ("gpt2", {"pad_token_id": 0}, {"score"}),
    ],
)
@pytest.mark.parametrize("config", [FullConfig(), FrozenConfig(), LoraConfig(rank=2)])
def test_a_task_head_trains_with_every_method(model_type, settings, head, config):
    model = build(AutoModelForSequenceClassification, model_type, **settings)
    names = head_parameters(model)
    assert {name.rpartition(".")[0] for name in names} == head
    attach(model, config)
    assert set(names) <= set(trainable_parameters(model))
    if config.method == "frozen":
        assert set(names) == set(trainable_parameters(model))


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "mpnet"])
def test_a_language_head_is_not_a_task_head(model_type):
    assert head_parameters(build(AutoModelForMaskedLM, model_type)) == {}


def test_a_model_without_blocks_is_refused_by_name():
    with pytest.raises(AdapterError, match=r"Linear.*no list of transformer blocks"):
        find_decoder(nn.Linear(2, 2))
    with pytest.raises(AdapterError, match=r"Sequential.*hidden_size"):
        find_decoder(nn.Sequential(nn.Sequential(), Listed()))
    assert describe_base(nn.Linear(2, 2)) == {"class": "Linear", "width": None, "blocks": None, "vocabulary": None}
    assert head_parameters(nn.Linear(2, 2)) == {}


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2)])


# --- heads that the class keeps elsewhere ------------------------------------------------------------


T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
DISTIL = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}


@pytest.mark.parametrize(
    ("kind", "model_type", "settings", "modules"),
    [
        (AutoModelForQuestionAnswering, "t5", T5, {"qa_outputs"}),
        (AutoModelForSequenceClassification, "t5", T5, {"classification_head.dense", "classification_head.out_proj"}),
        (AutoModelForSeq2SeqLM, "t5", T5, set()),
        (AutoModelForMaskedLM, "distilbert", DISTIL, set()),
        (AutoModelForMaskedLM, "electra", SIZES, set()),
        (AutoModelForAudioClassification, "whisper", WHISPER, {"projector", "classifier"}),
        (AutoModelForSequenceClassification, "distilbert", DISTIL, {"pre_classifier", "classifier"}),
        (
            AutoModelForPreTraining,
            "electra",
            SIZES,
            {"discriminator_predictions.dense", "discriminator_predictions.dense_prediction"},
        ),
    ],
)
def test_heads_are_what_is_outside_the_pretrained_body(kind, model_type, settings, modules):
    with torch.device("meta"):
        model = kind.from_config(AutoConfig.for_model(model_type, vocab_size=30, **settings))
    assert {name.rpartition(".")[0] for name in head_parameters(model)} == modules


class OnABody(nn.Module):
    """A classifier of one's own on pretrained bodies."""

    def __init__(self, *bodies):
        super().__init__()
        self.towers = nn.ModuleDict({f"body{number}": body for number, body in enumerate(bodies)})
        self.classifier = nn.Linear(16, 2)
        self.scale = nn.Parameter(torch.ones(1))


def test_a_module_of_ones_own_trains_what_is_beside_its_pretrained_bodies():
    body, other = build(AutoModel, "bert"), build(AutoModel, "gpt2")
    for bodies in ((body,), (body, other)):
        assert set(head_parameters(OnABody(*bodies))) == {"scale", "classifier.weight", "classifier.bias"}
    assert head_parameters(OnABody()) == {}
