"""Finding projections by role or name in each family of models, and replacing modules."""

import copy
import re

import pytest
import torch
import transformers
from torch import nn

from replication.errors import AdapterError
from replication.methods import attach, detach, merge, trainable_parameters
from replication.methods.lora import LoraConfig, LoraLinear, lora_layers
from replication.methods.shared.projections import FUSED, find_projections


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


# --- fused projections ------------------------------------------------------------------

BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 40}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
FUSED_MODELS = {
    "bloom": ("bloom", {}),
    "codegen": ("codegen", {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4}),
    "deberta": ("deberta", {"type_vocab_size": 0}),
    "falcon": ("falcon", {"multi_query": False, "new_decoder_architecture": False}),
    "falcon, one key": ("falcon", {"multi_query": True, "new_decoder_architecture": False}),
    "falcon, grouped": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2}),
    "gpt_bigcode": ("gpt_bigcode", {"multi_query": False}),
    "gpt_bigcode, one key": ("gpt_bigcode", {"multi_query": True}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox_japanese": ("gpt_neox_japanese", {}),
    "modernbert": ("modernbert", SPECIAL),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}),
    "persimmon": ("persimmon", {"qk_layernorm": False}),
    "phi3": ("phi3", {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}),
}


def body(model_type, **settings):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**BODY, **settings})
    return AutoModel.from_config(config, attn_implementation="eager").eval()


def states(model, ids=((5, 6, 9),)):
    return model(input_ids=torch.tensor(ids)).last_hidden_state


def rows_that_are_read(model, fused, output):
    """Role -> output features of the module `fused`, found from what the attention does with them.

    `output` gets the attention's result. Where the values are the same at all positions the result is the values,
    whatever the weights: they are read off. What else at position 0 moves the result of position 1 are keys.
    """
    modules, seen = dict(model.named_modules()), {}

    def result(features):
        hooks = [
            modules[fused].register_forward_hook(lambda module, args, out: features),
            modules[output].register_forward_pre_hook(lambda module, args: seen.update(result=args[0])),
        ]
        states(model, ((5, 6),))
        for hook in hooks:
            hook.remove()
        return seen["result"][0, 1]

    numbers = torch.arange(modules[fused].weight.numel() // 32, dtype=torch.float32)
    value = sorted(set(result((numbers / 8).expand(1, 2, -1)).mul(8).round().int().tolist()))
    features = torch.randn(1, 2, len(numbers), generator=torch.Generator().manual_seed(4)).requires_grad_()
    (moved,) = torch.autograd.grad(result(features).square().sum(), features)
    key = [i for i in range(len(numbers)) if moved[0, 0, i] != 0 and i not in value]
    return {"query": [i for i in range(len(numbers)) if i not in key + value], "key": key, "value": value}


class Unfused(nn.Module):
    """A fused projection as one nn.Linear a role."""

    def __init__(self, fused, rows):
        super().__init__()
        weight = fused.weight if isinstance(fused, nn.Linear) else fused.weight.T
        self.rows, self.parts = rows, nn.ModuleDict()
        for role, indices in rows.items():
            part = self.parts[role] = nn.Linear(weight.shape[1], len(indices))
            part.weight.data.copy_(weight[indices])
            part.bias.data.copy_(torch.zeros(()) if fused.bias is None else fused.bias[indices])

    def forward(self, x):
        result = x.new_empty(*x.shape[:-1], sum(map(len, self.rows.values())))
        for role, indices in self.rows.items():
            result[..., indices] = self.parts[role](x)
        return result


@pytest.mark.parametrize("name", FUSED_MODELS)
@torch.no_grad()
def test_lora_on_a_role_of_a_fused_projection_is_lora_on_the_unfused_one(name):
    model_type, settings = FUSED_MODELS[name]
    model = body(model_type, **settings)
    roles = ("query", "key", "value")
    found, outputs = find_projections(model, roles), list(find_projections(model, ("output",)))
    with torch.enable_grad():
        rows = rows_that_are_read(model, next(iter(found)), outputs[0])
    numbers = torch.arange(sum(map(len, rows.values())))[:, None]
    for slices in found.values():
        assert {piece.label: sorted(piece.rows(numbers).flatten().tolist()) for piece in slices} == rows
        assert [piece.start for piece in slices] == sorted(piece.start for piece in slices)
    base, unfused = states(model), copy.deepcopy(model)
    for module in found:
        unfused.set_submodule(module, Unfused(unfused.get_submodule(module), rows))
    torch.testing.assert_close(states(unfused), base, atol=1e-5, rtol=1e-4)
    for targets in (("query",), ("key",), ("value",), roles):
        reference = copy.deepcopy(unfused)
        stir(attach(model, LoraConfig(rank=2, targets=targets, dropout=0.0)), size=0.3)
        for module, layer in lora_layers(model).items():
            for piece, update in layer.updates():
                reference.get_submodule(module).parts[piece.label].weight += update.delta()
        expected, adapted = states(reference), states(model)
        assert not torch.allclose(adapted, base, atol=1e-3)
        torch.testing.assert_close(adapted, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(states(merge(model)), expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(states(detach(model)), base)


def test_every_layout_names_a_class_that_is_there():
    import importlib

    families = ("bloom", "codegen", "dbrx", "deberta", "falcon", "gpt_bigcode", "gpt_neox", "gpt_neox_japanese")
    families += ("minimax", "modernbert", "mpt", "persimmon", "phi3", "phi4_multimodal")
    modules = [importlib.import_module(f"transformers.models.{name}.modeling_{name}") for name in families]
    for key in FUSED:
        assert any(hasattr(module, key.partition(".")[0]) for module in modules), key


def test_a_layout_that_does_not_divide_the_outputs_is_refused(monkeypatch):
    model = body("bloom")
    model.h[0].self_attention.num_heads = 5
    with pytest.raises(AdapterError, match=r"query_key_value: 96 outputs.*5 groups of 3.*BloomAttention"):
        attach(model, LoraConfig(rank=2, targets=("query",)))


@pytest.mark.parametrize(
    ("model_type", "settings", "names"),
    [
        ("phi", {}, ("q_proj", "k_proj", "v_proj", "self_attn.dense")),
        ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 2}, ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("gptj", {"rotary_dim": 4}, ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("albert", {"embedding_size": 8}, tuple(f"attention.{end}" for end in ("query", "key", "value", "dense"))),
    ],
)
@torch.no_grad()
def test_roles_find_projections_with_names_of_their_own(model_type, settings, names):
    model = body(model_type, **settings)
    before = states(model)
    for role, name in zip(("query", "key", "value", "output"), names, strict=True):
        stir(attach(model, LoraConfig(rank=2, targets=(role,))))
        found = list(lora_layers(model))
        assert len(found) == (1 if model_type == "albert" else 2)  # ALBERT's blocks share their weights
        assert all(module.endswith("." + name) for module in found)
        assert not torch.equal(states(model), before)
        detach(model)


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


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("out_proj", "layers.0.self_attn.out_proj: MultiheadAttention"),
        ("linear1", "layers.0.linear1: TransformerEncoderLayer"),
    ],
)
def test_a_projection_whose_weight_is_read_instead_is_refused(target, name):
    """In evaluation an encoder of torch takes a fast path past its own modules."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    with pytest.raises(AdapterError, match=f"{re.escape(name)} reads its weight and does not call it"):
        attach(model, LoraConfig(rank=2, targets=(target,)))


@pytest.mark.parametrize("kind", ["MambaForCausalLM", "FalconMambaForCausalLM", "JambaForCausalLM"])
def test_so_are_those_of_mamba(kind):
    made, sizes = getattr(transformers, kind), {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 30}
    with torch.device("meta"):
        model = made(made.config_class(**sizes, state_size=4, intermediate_size=32, num_attention_heads=2))
    with pytest.raises(AdapterError, match=r"dt_proj: .*MambaMixer reads its weight"):
        attach(model, LoraConfig(rank=1, targets=("dt_proj",)))


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 30, "intermediate_size": 32}
HALF = {"num_attention_heads": 2, "num_key_value_heads": 2}
STATES = {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 4}
LED = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
ATTENTION_ALONE = [
    ("falcon_h1", "output", {**SMALL, **HALF, **STATES}, {"model.layers.*.self_attn.o_proj"}),
    ("rwkv", "key", {**SMALL, "attention_hidden_size": 16}, {"rwkv.blocks.*.attention.key"}),
    ("ctrl", "output", {"n_embd": 16, "n_layer": 2, "n_head": 2}, {"transformer.h.*.multi_head_attention.dense"}),
]


@pytest.mark.parametrize(("model_type", "role", "settings", "names"), ATTENTION_ALONE)
def test_a_role_finds_attention_alone(model_type, role, settings, names):
    """Not the output of a state-space mixer, nor the key of a feedforward network."""
    config = transformers.AutoConfig.for_model(model_type, **settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert {re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in find_projections(model, (role,))} == names


def test_the_output_of_every_attention_of_an_encoder_decoder():
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "attention_window": 4}
    config = transformers.LEDConfig(**LED, **heads, vocab_size=30)
    with torch.device("meta"):
        model = transformers.LEDForConditionalGeneration(config)
    assert len(find_projections(model, ("output",))) == len(find_projections(model, ("query",))) == 6


class Pair(nn.Module):
    """A module of one's own, whose name says nothing."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, 4))


def test_in_a_module_of_ones_own_a_query_beside_it_makes_an_output():
    model = nn.ModuleDict({"one": Pair("q_proj", "out_proj"), "two": Pair("out_proj"), "head_attn": Pair("o_proj")})
    assert list(find_projections(model, ("output",))) == ["one.out_proj", "head_attn.o_proj"]
    assert list(find_projections(model, ("two.out_proj",))) == ["two.out_proj"]
