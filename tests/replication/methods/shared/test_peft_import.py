"""Folders of stock PEFT: `PeftModel.from_pretrained` on the same base is the oracle, to the last bit."""

import copy
import json
import re
import shutil

import peft
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
)

from replication.errors import AdapterError
from replication.methods import attach, attached_config, load, save, trainable_parameters
from replication.methods.lora import LoraConfig
from replication.methods.shared.saving import check_saved, read_config
from replication.methods.shared.virtual_tokens import cache_argument
from replication.peft_export import export_peft_lora
from replication.testing import laws
from replication.testing.tiny_models import TINY_MODELS

torch.set_num_threads(1)

SIZES = {"vocab_size": 97, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
BUILDERS = {
    **TINY_MODELS,
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)),
    "classifier": lambda: LlamaForSequenceClassification(TINY_MODELS["llama"]().config),
}
TASKS = {"bert": "SEQ_CLS", "classifier": "SEQ_CLS", "bart": "SEQ_2_SEQ_LM"}
TARGETS = {"gpt2": ["c_attn"], "bert": ["query", "value"]}
PAIR = {"r": 3, "lora_alpha": 5}
KINDS = {
    "lora": (peft.LoraConfig, PAIR),
    "regex": (peft.LoraConfig, {**PAIR, "target_modules": r".*\.1\..*(c_attn|query|q_proj)"}),
    "patterns": (peft.LoraConfig, {**PAIR, "rank_pattern": {r".*\.1\..*": 2}, "alpha_pattern": {r".*\.1\..*": 9}}),
    "rslora": (peft.LoraConfig, {**PAIR, "use_rslora": True}),
    "dora": (peft.LoraConfig, {**PAIR, "use_dora": True}),
    "pissa": (peft.LoraConfig, {**PAIR, "init_lora_weights": "pissa"}),
    "layers": (peft.LoraConfig, {**PAIR, "layers_to_transform": [1]}),
    "loha": (peft.LoHaConfig, {"r": 3}),
    "vera": (peft.VeraConfig, {"r": 5}),
    "ia3": (peft.IA3Config, {"feedforward_modules": []}),
    "vblora": (peft.VBLoRAConfig, {"num_vectors": 8, "vector_length": 8}),
    "tinylora": (peft.TinyLoraConfig, {}),
    "adalora": (peft.AdaLoraConfig, {"init_r": 3, "target_r": 2, "total_step": 9}),
    "prompt_tuning": (peft.PromptTuningConfig, {"num_virtual_tokens": 4}),
    "p_tuning": (peft.PromptEncoderConfig, {"num_virtual_tokens": 4, "encoder_hidden_size": 8}),
    "projected": (
        peft.PrefixTuningConfig,
        {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 8},
    ),
    "adaption_prompt": (peft.AdaptionPromptConfig, {"adapter_len": 3, "adapter_layers": 2}),
    "trainable_tokens": (peft.TrainableTokensConfig, {"token_indices": [3, 4, 5]}),
}
FAST = [
    *(
        (kind, "bert")
        for kind in ("patterns", "dora", "pissa", "loha", "vera", "ia3", "vblora", "p_tuning", "projected")
    ),
    *((kind, "llama") for kind in ("lora", "adaption_prompt")),
    *((kind, "gpt2") for kind in ("regex", "trainable_tokens")),
    *(("layers", "classifier"), ("prompt_tuning", "bart")),
]
SLOW = [(kind, model) for kind in KINDS for model in BUILDERS if (kind, model) not in FAST]
# PEFT has no layer, no cache or no attention there.
IMPOSSIBLE = [("loha", "gpt2"), ("projected", "bart"), *(("adaption_prompt", model) for model in ("bart", "bert"))]
IDS = torch.randint(3, 97, (2, 6), generator=torch.Generator().manual_seed(3))


def made(model):
    torch.manual_seed(0)
    return BUILDERS[model]().eval()


def stock(folder, kind, model, **changes):
    """A folder as PEFT writes it after training, with the head."""
    config_class, fields = KINDS[kind]
    names = {field.name for field in __import__("dataclasses").fields(config_class)}
    targets = {"target_modules": TARGETS.get(model, ["q_proj", "v_proj"])} if "target_modules" in names else {}
    targets = {} if kind in ("adaption_prompt", "trainable_tokens") else targets
    config = config_class(task_type=TASKS.get(model, "CAUSAL_LM"), **{**targets, **fields, **changes})
    wrapped = peft.get_peft_model(made(model), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    wrapped.save_pretrained(folder)
    return folder


def logits(model):
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    with torch.no_grad():
        return model(**inputs, **({"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {})).logits


def check(kind, model, folder):
    if kind == "projected" and cache_argument(made("llama").model) != "past_key_values":
        pytest.skip("PEFT 0.21.2 knows the cache by its name before transformers 5.24")
    stock(folder, kind, model)
    theirs = logits(peft.PeftModel.from_pretrained(made(model), folder).eval())
    base, state = made(model), torch.random.get_rng_state()
    ours = load(base, folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    found = logits(ours)
    torch.testing.assert_close(found, theirs if found.ndim == 2 else theirs[:, -6:], atol=1e-6, rtol=1e-6)
    return ours


@pytest.mark.parametrize(("kind", "model"), FAST)
def test_the_logits_are_those_of_from_pretrained(kind, model, tmp_path):
    ours = check(kind, model, tmp_path / "stock")
    plain = kind in ("lora", "regex", "layers")
    assert attached_config(ours).method == ("lora" if plain else "peft_baselines")
    assert trainable_parameters(ours)
    again = load(made(model), save(ours, tmp_path / "own"))
    assert torch.equal(logits(again), logits(ours))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "model"), [pair for pair in SLOW if pair not in IMPOSSIBLE])
def test_and_so_they_are_on_other_models(kind, model, tmp_path):
    if (kind, model) == ("layers", "bart"):
        pytest.skip("its layers are numbered in the encoder and the decoder")
    check(kind, model, tmp_path)


def test_a_folder_is_checked_before_its_base_is_loaded(plain, tmp_path):
    check_saved(plain)
    with pytest.raises(AdapterError, match=r"is an adapter of PEFT, .*use load\(model, folder\)"):
        read_config(plain)
    with pytest.raises(AdapterError, match="no such file"):
        check_saved(tmp_path)


def test_an_export_comes_back_as_it_was(tmp_path):
    model = laws.stir(attach(made("llama"), LoraConfig(rank=2, alpha=5, targets=("query", "value"))))
    folder = export_peft_lora(model, tmp_path)
    back = load(made("llama"), folder)
    assert torch.equal(logits(back), logits(model))
    config = attached_config(back)
    assert (config.method, config.rank, config.alpha) == ("lora", 2, 5)


# --- refusals: the file, the field, the fix -------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return stock(tmp_path_factory.mktemp("plain") / "stock", "lora", "llama")


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "stock")


def changed(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "LORRA"}, r"field 'peft_type' is 'LORRA'; the installed PEFT knows .*LORA"),
        ({"peft_type": "XLORA"}, r"field 'peft_type' is 'XLORA': .*from_pretrained"),
        ({"bias": "all"}, r"field 'bias' is 'all': .*merge_and_unload"),
        ({"layer_replication": [[0, 2]]}, "field 'layer_replication'"),
        ({"modules_to_save": ["lm_head"]}, r"field 'modules_to_save' has 'lm_head': only a task head"),
        ({"target_modules": ["nothing"]}, r"field 'target_modules' is .*matches no module of LlamaForCausalLM"),
        ({"target_modules": None}, "field 'target_modules' is null"),
        ({"target_modules": ["embed_tokens"]}, "cannot be attached: target 'model.embed_tokens'"),
        ({"target_modules": ["q_proj"]}, r"adapter_model\.safetensors: does not fit .*unexpected .*v_proj"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, r"does not fit .*missing .*o_proj\.lora_A"),
        ({"r": 2}, r"does not fit .*shape \(3, 32\), expected \(2, 32\)"),
        ({"rank_pattern": {"q_proj": 2}}, r"(?s)does not fit .*size mismatch"),
        (
            {"use_dora": True, "use_rslora": True},
            "dora and rslora at once: here they are two methods; .*from_pretrained",
        ),
        ({"init_lora_weights": "corda"}, r"settings.init_lora_weights='corda': needs data"),
    ],
)
def test_what_does_not_fit_names_the_field_and_leaves_the_model(folder, fields, message):
    model = made("llama")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(AdapterError, match=message) as caught:
        load(model, changed(folder, **fields))
    assert str(folder) in str(caught.value)
    assert attached_config(model) is None
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pickle_is_not_read(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin: is a pickle.*save_pretrained writes"):
        load(made("llama"), folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: no such file"):
        load(made("llama"), folder)


def test_a_tensor_of_the_base_is_not_replaced(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({**tensors, "base_model.model.lm_head.weight": torch.zeros(97, 32)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"lm_head\.weight' is another than the base's.*PeftModel\.from_pretrained"):
        load(made("llama"), folder)
    same = made("llama").lm_head.weight.detach().clone()
    save_file({**tensors, "base_model.model.lm_head.weight": same}, folder / "adapter_model.safetensors")
    assert attached_config(load(made("llama"), folder)) is not None
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * torch.nan}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=rf"tensor '{re.escape(name)}' has values that are not finite"):
        load(made("llama"), folder)


def test_the_feedforward_of_ia3_must_be_ours(tmp_path):
    fields = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["k_proj"]}
    folder = stock(tmp_path, "ia3", "llama", **fields)
    with pytest.raises(AdapterError, match="field 'feedforward_modules'"):
        load(made("llama"), folder)
    check("ia3", "llama", tmp_path / "sound")


def test_a_folder_without_a_head_leaves_the_head_of_the_model(folder):
    model = made("classifier")
    head = model.score.weight.detach().clone()
    assert torch.equal(load(model, folder).score.weight, head)


def test_attaching_to_a_peft_model_says_what_to_do(plain):
    wrapped = peft.PeftModel.from_pretrained(made("llama"), plain)
    with pytest.raises(
        AdapterError, match=r"PeftModelForCausalLM is PEFT's wrapper, with 'default' .*model\.unload\(\)"
    ):
        attach(wrapped, LoraConfig())
    with pytest.raises(AdapterError, match=r"layers\.0\.self_attn\.q_proj.*unload\(\)"):
        attach(wrapped.get_base_model(), LoraConfig())
    attach(wrapped.unload(), LoraConfig())
    prompted = peft.get_peft_model(made("llama"), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(AdapterError, match=r"model\.get_base_model\(\)"):
        load(prompted, plain)
    attach(prompted.get_base_model(), LoraConfig())
