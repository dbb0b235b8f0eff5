"""Finding projections by role or name in each family of models, and replacing modules."""

import pytest
import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods import attach, detach, merge, trainable_parameters
from replication.methods.lora import LoraConfig, LoraLinear, lora_layers


def logits_of(model, seed=3):
    ids = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(input_ids=ids).logits


def stir(model, seed=1, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model


def classifier(name, **settings):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**sizes, "vocab_size": 50, "num_labels": 3, **settings})
    return AutoModelForSequenceClassification.from_config(config).eval()


DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "type_vocab_size": 0,
}


@pytest.mark.parametrize(
    ("model_type", "names", "settings"),
    [
        ("deberta-v2", ("query_proj", "key_proj", "value_proj", "attention.output.dense"), DEBERTA),
        ("bert", ("query", "key", "value", "attention.output.dense"), {}),
        ("mpnet", ("q", "k", "v", "o"), {}),
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj"), {"pad_token_id": 0, "intermediate_size": 32}),
    ],
)
def test_roles_find_the_projections_of_every_family(model_type, names, settings):
    model = classifier(model_type, **settings)
    before = logits_of_ids(model)
    for role, name in zip(("query", "key", "value", "output"), names, strict=True):
        attach(model, LoraConfig(rank=2, targets=(role,)))
        found = list(lora_layers(model))
        assert len(found) == 2
        assert all(module.endswith("." + name) for module in found)
        assert torch.equal(logits_of_ids(model), before)
        stir(model)
        assert not torch.equal(logits_of_ids(model), before)
        detach(model)
        model.load_state_dict(classifier(model_type, **settings).state_dict())  # the head was stirred, too


def logits_of_ids(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 12).view(2, 4)).logits


def test_bart_is_wrapped_in_encoder_decoder_and_cross_attention(tiny_bart):
    attach(tiny_bart, LoraConfig(rank=2))
    kinds = {name.split("layers")[0] + name.split(".")[4] for name in lora_layers(tiny_bart)}
    assert kinds == {"model.encoder.self_attn", "model.decoder.self_attn", "model.decoder.encoder_attn"}
    assert len(lora_layers(tiny_bart)) == 2 * (2 + 6 + 6)


def test_a_task_head_is_never_a_target():
    from transformers import BartConfig, BartForSequenceClassification

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = BartForSequenceClassification(BartConfig(vocab_size=20, d_model=8, **sizes, **heads))
    attach(model, LoraConfig(rank=2, targets=("output",)))  # the head has an out_proj, too
    assert lora_layers(model)
    assert not any("classification_head" in name for name in lora_layers(model))
    assert "classification_head.out_proj.weight" in trainable_parameters(model)


def test_cross_attention_of_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, add_cross_attention=True))
    attach(model, LoraConfig(rank=2))
    pieces = {name: [(p.label, p.start, p.stop) for p in layer.slices] for name, layer in lora_layers(model).items()}
    assert pieces == {
        "transformer.h.0.attn.c_attn": [("query", 0, 8), ("value", 16, 24)],
        "transformer.h.0.crossattention.c_attn": [("value", 8, 16)],
        "transformer.h.0.crossattention.q_attn": [("query", 0, 8)],
    }


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (("mlp.c_fc",), ["mlp.c_fc"]),
        (("c_proj",), ["attn.c_proj", "mlp.c_proj"]),
        (("output", "mlp.c_proj"), ["attn.c_proj", "mlp.c_proj"]),
        (("c_attn", "query"), ["attn.c_attn"]),
        (("transformer.h.3.mlp.c_fc",), ["transformer.h.3.mlp.c_fc"]),
    ],
)
def test_any_other_target_is_the_end_of_a_module_name(tiny_gpt2, targets, found):
    before = logits_of(tiny_gpt2)
    attach(tiny_gpt2, LoraConfig(rank=2, targets=targets))
    for name in lora_layers(tiny_gpt2):
        assert any(name.endswith(end) for end in found)
    assert len(lora_layers(tiny_gpt2)) == (1 if "transformer" in found[0] else 6 * len(found))
    assert torch.equal(logits_of(tiny_gpt2), before)
    after = logits_of(stir(tiny_gpt2))
    torch.testing.assert_close(logits_of(merge(tiny_gpt2)), after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("targets", [("q_proj",), ("query", "nonsense"), ("attn",), ("_attn",)])
def test_a_target_that_matches_nothing_lists_what_there_is(tiny_gpt2, targets):
    structure = str(tiny_gpt2)
    with pytest.raises(AdapterError, match=r"transformer\.h\.\*\.attn\.c_attn.*lm_head") as error:
        attach(tiny_gpt2, LoraConfig(rank=2, targets=targets))
    assert repr(targets[-1]) in str(error.value)
    assert "query, key, value, output" in str(error.value)
    assert str(tiny_gpt2) == structure
    assert all(parameter.requires_grad for parameter in tiny_gpt2.parameters())


def test_a_module_in_two_places_stays_shared():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = self.first

        def forward(self, x):
            return self.second(self.first(x))

    model = attach(Twice(), LoraConfig(rank=2, targets=("first",)))
    assert isinstance(model.first, LoraLinear)
    assert model.second is model.first
    assert detach(model).second is model.first
    assert isinstance(model.first, nn.Linear)
