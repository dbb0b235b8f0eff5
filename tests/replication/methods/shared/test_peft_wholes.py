"""PEFT types that live in the whole model: the laws of every method, and PEFT's own wrapper as oracle."""

import copy

import pytest
import torch
from peft import get_peft_model

from replication.errors import AdapterError, ConfigError
from replication.methods import adapter_parameters, attach, detach, load, merge, save, trainable_parameters
from replication.methods.lora import LoraConfig
from replication.methods.peft_baselines import PeftBaselineConfig, peft_config
from replication.methods.shared.peft_wholes import EXEMPT, WHOLES
from replication.peft_export import export_peft_lora
from replication.testing import laws
from replication.testing.tiny_models import TINY_MODELS

torch.set_num_threads(1)

VIRTUAL = {"num_virtual_tokens": 4}
SETTINGS = {
    **dict.fromkeys(("prompt_tuning", "p_tuning", "multitask_prompt_tuning", "prefix_tuning", "cartridge"), VIRTUAL),
    "cpt": {"cpt_token_ids": [4, 5, 6, 7]},
    "adaption_prompt": {"adapter_len": 3},
    "shadow": {"r": 2},
    "poly": {"r": 2},
    "trainable_tokens": {"token_indices": list(range(3, 97))},
}
# Where PEFT can place them: Poly has no layer for Conv1D, X-LoRA loads experts into bodies called `model`.
MODELS = {
    **dict.fromkeys(SETTINGS, ("gpt2", "llama", "bart")),
    **dict.fromkeys(("cpt", "adaption_prompt", "shadow"), ("gpt2", "llama")),
    "poly": ("llama", "bart"),
    "xlora": ("llama",),
}
FAST = {
    "p_tuning": "gpt2",
    "cartridge": "gpt2",
    "adaption_prompt": "gpt2",
    "shadow": "llama",
    "poly": "llama",
    "trainable_tokens": "gpt2",
    "xlora": "llama",
}
FAST_LAWS = ("loads what it saves", "detaches completely")


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    folders = {}
    for seed, name in enumerate(("one", "two")):
        model = laws.stir(attach(TINY_MODELS["llama"](), LoraConfig(rank=2)), seed=seed)
        folders[name] = str(export_peft_lora(model, tmp_path_factory.mktemp(name)))
    return folders


@pytest.fixture
def config_of(experts):
    def config(name):
        if name == "adamss":
            pytest.importorskip("sklearn", reason="not run: adamss needs scikit-learn")
        return PeftBaselineConfig(name=name, settings={**SETTINGS, "xlora": {"adapters": experts}}.get(name, {}))

    return config


@pytest.mark.parametrize(("name", "model"), FAST.items())
@pytest.mark.parametrize("law", FAST_LAWS)
def test_the_first_laws(name, model, law, config_of):
    laws.LAWS[law](TINY_MODELS[model](), config_of(name))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [(name, model) for name, models in MODELS.items() for model in models])
def test_every_law_holds_or_is_exempt_for_a_reason(name, model, config_of):
    results = laws.check_method(config_of(name), [model])
    assert [str(result) for result in results if result.fault] == []
    assert {result.law: result.exempt for result in results if result.exempt} == EXEMPT.get(name, {})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "law"), [(name, law) for name, exempt in EXEMPT.items() for law in exempt])
def test_no_law_is_exempt_that_holds(name, law, config_of):
    if law == "keeps threads apart":
        pytest.skip("a race: it may hold by chance, or wait for a minute")
    with pytest.raises((AssertionError, AdapterError, RuntimeError)):
        laws.LAWS[law](TINY_MODELS["llama"](), config_of(name))


@pytest.mark.parametrize("name", ["adaption_prompt", "shadow", "poly", "trainable_tokens", "xlora"])
@torch.no_grad()
def test_the_logits_are_those_of_pefts_own_class(name, config_of, tiny_llama):
    base, ids = copy.deepcopy(tiny_llama), laws.some_ids()
    config = config_of(name)
    model = laws.stir(attach(tiny_llama, config))
    whole = WHOLES.get(name)
    filled_in = whole.fields(name, config.settings, base) if whole else {}
    if name == "poly":
        filled_in |= {"target_modules": ["q_proj", "k_proj", "v_proj"]}
    base.config.use_cache = name != "xlora"  # PEFT's X-LoRA wants it off
    filled_in["task_type"] = "CAUSAL_LM"
    theirs = get_peft_model(base, peft_config(name, config.settings, **filled_in)).eval()
    ours, target = model.state_dict(), theirs.state_dict()
    for key in adapter_parameters(model):
        end = key.removeprefix("model.") if name in ("shadow", "xlora") and "layers.0" not in key else key
        found = [own for own in target if own.endswith(end.replace("xlora_classifier", "internal_xlora_classifier"))]
        assert found, key
        target[found[0]].copy_(ours[key])
    task = {"task_ids": torch.zeros(2, dtype=torch.long)} if name == "poly" else {}
    torch.testing.assert_close(model(input_ids=ids).logits, theirs(input_ids=ids, **task).logits, atol=1e-6, rtol=0)


def test_the_mixture_of_xlora_trains_and_its_experts_do_not(config_of, tiny_llama):
    attach(tiny_llama, config_of("xlora"))
    assert all("xlora_classifier" in name for name in trainable_parameters(tiny_llama))
    assert tiny_llama.config.use_cache is False
    ids = laws.some_ids()
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 1}
    cached = tiny_llama.generate(input_ids=ids, use_cache=True, **options)
    assert torch.equal(cached, tiny_llama.generate(input_ids=ids, use_cache=False, **options))
    assert detach(tiny_llama).config.use_cache is True


def test_xlora_says_what_it_needs(tmp_path, tiny_llama, tiny_gpt2, config_of):
    with pytest.raises(ConfigError, match=r"settings.adapters must be given: .*export_peft_lora"):
        PeftBaselineConfig(name="xlora")
    with pytest.raises(ConfigError, match=r"settings.adapters=\[\]"):
        PeftBaselineConfig(name="xlora", settings={"adapters": []})
    gone = PeftBaselineConfig(name="xlora", settings={"adapters": {"one": str(tmp_path)}})
    before = laws.state_of(tiny_llama)
    with pytest.raises(AdapterError, match=r"adapter_config\.json: no such file; settings\.adapters"):
        attach(tiny_llama, gone)
    assert tiny_llama.config.use_cache is True
    assert before.keys() == tiny_llama.state_dict().keys()
    with pytest.raises(AdapterError, match="GPT2LMHeadModel is none"):
        attach(tiny_gpt2, config_of("xlora"))


def test_the_auxiliary_loss_of_shadow_is_pefts(tiny_llama):
    base, ids = copy.deepcopy(tiny_llama), laws.some_ids()
    settings = {"r": 2, "auxiliary_loss_weight": 0.0}
    plain = attach(copy.deepcopy(base), PeftBaselineConfig(name="shadow", settings=settings))
    model = attach(tiny_llama, PeftBaselineConfig(name="shadow", settings={"r": 2, "auxiliary_loss_weight": 0.5}))
    tuner = model._replication_shadow.tuner
    with torch.no_grad():
        model.eval()(input_ids=ids)
        loss, without = model(input_ids=ids, labels=ids).loss, plain.eval()(input_ids=ids, labels=ids).loss
        state = tuner.shadow_projection["default"](
            tuner.shadow_backbone["default"](inputs_embeds=model.get_input_embeddings()(ids)).last_hidden_state
        )
        tuner._seed_shadow_state = state
        expected = without + 0.5 * tuner.shadow_auxiliary_loss(ids)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("poly", {"n_tasks": 2}, "settings.n_tasks=2: must be 1"),
        ("multitask_prompt_tuning", {"num_tasks": 3}, "settings.num_tasks=3: must be 1"),
        ("cpt", {}, "settings.cpt_token_ids must be given"),
        ("trainable_tokens", {}, "settings.token_indices must be given"),
        ("prompt_tuning", {"num_virtual": 3}, r"unknown setting\(s\) num_virtual; valid are .*num_virtual_tokens"),
    ],
)
def test_bad_settings_name_the_field(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        PeftBaselineConfig(name=name, settings=settings)


def test_they_find_their_modules_themselves():
    with pytest.raises(ConfigError, match="targets='query': prompt_tuning finds its modules itself"):
        PeftBaselineConfig(name="prompt_tuning", targets="query")


def test_what_does_not_fit_leaves_the_model_as_it_was(tiny_bart):
    before = str(tiny_bart)
    for name, message in (("adaption_prompt", "Unsupported model type .*bart"), ("shadow", "has one")):
        with pytest.raises(AdapterError, match=message):
            attach(tiny_bart, PeftBaselineConfig(name=name, settings=SETTINGS[name]))
    with pytest.raises(AdapterError, match=r"token_indices=\[97\]: must be ids of tokens from 0 to 96"):
        attach(tiny_bart, PeftBaselineConfig(name="trainable_tokens", settings={"token_indices": [97]}))
    assert str(tiny_bart) == before
    with pytest.raises(AdapterError, match="poly cannot be merged"):
        merge(attach(tiny_bart, PeftBaselineConfig(name="poly", settings=SETTINGS["poly"])))


def test_tied_rows_merge_everywhere(tiny_gpt2, tmp_path):
    model = laws.stir(
        attach(tiny_gpt2, PeftBaselineConfig(name="trainable_tokens", settings={"token_indices": [5, 6]}))
    )
    after = laws.logits_of(model, laws.some_ids())
    save(model, tmp_path)
    torch.testing.assert_close(laws.logits_of(merge(model), laws.some_ids()), after, atol=1e-5, rtol=1e-4)
    assert torch.equal(laws.logits_of(load(TINY_MODELS["gpt2"](), tmp_path), laws.some_ids()), after)
