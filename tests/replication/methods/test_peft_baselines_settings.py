"""Names and settings of PEFT's rivals: what is known, what is refused and with which words."""

import pytest

from replication.errors import ConfigError
from replication.methods.peft_baselines import DEFAULTS, complete_settings, peft_config, peft_type, rival_names


def test_the_rivals_of_the_paper_and_more_are_known():
    names = rival_names()
    assert {"adalora", "dora", "rslora", "loha", "lokr", "vera", "ia3", "boft", "oft", "lora"} <= set(names)
    assert not {"prompt_tuning", "prefix_tuning", "p_tuning", "xlora", "adaption_prompt"} & set(names)
    assert peft_type("dora") == peft_type("rslora") == "lora"


def test_defaults_are_those_of_the_papers_controls():
    assert complete_settings("dora", {}) == {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
    assert complete_settings("adalora", {})["target_r"] == 8
    assert complete_settings("loha", {"r": 4}) == {"r": 4, "alpha": 32}
    assert DEFAULTS["lora"]["r"] == 8


def test_a_switch_of_lora_is_set_by_the_name():
    assert peft_config("dora", {"r": 2}, target_modules="x").use_dora
    assert peft_config("rslora", {"r": 2}, target_modules="x").use_rslora
    plain = peft_config("lora", {"r": 2}, target_modules="x")
    assert not plain.use_dora
    assert not plain.use_rslora


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"name='doar': unknown; valid names are .*adalora.*dora.*vera"):
        complete_settings("doar", {})
    with pytest.raises(ConfigError, match=r"name=\['dora'\]"):
        complete_settings(["dora"], {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prompt_tuning", "virtual tokens"),
        ("prefix_tuning", "virtual tokens"),
        ("p_tuning", "virtual tokens"),
        ("adaption_prompt", "prompt tokens"),
        ("xlora", "trained before"),
    ],
)
def test_what_cannot_be_injected_says_why(name, reason):
    with pytest.raises(ConfigError, match=f"name='{name}' cannot be injected in place: .*{reason}"):
        complete_settings(name, {})


def test_an_unknown_keyword_lists_the_fields():
    with pytest.raises(ConfigError, match=r"dora: unknown setting\(s\) rank; valid are .*lora_alpha.*, r,"):
        complete_settings("dora", {"rank": 8})
    with pytest.raises(ConfigError, match=r"adalora: unknown setting\(s\) r; valid are .*init_r.*target_r"):
        complete_settings("adalora", {"r": 8})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dora", {"target_modules": ["x"]}, "settings.target_modules cannot be given: use `targets`"),
        ("dora", {"modules_to_save": ["x"]}, "task head"),
        ("lora", {"bias": "all"}, "detach"),
        ("lora", {"use_dora": True}, "name='dora'"),
        ("ia3", {"feedforward_modules": ["fc2"]}, "feedforward"),
        ("vera", {}, r"settings.r must be given: .*1024.*256"),
        ("dora", {"r": 0}, "settings.r=0"),
        ("dora", {"r": True}, "settings.r=True"),
        ("dora", {"r": 2.0}, "settings.r=2.0"),
        ("adalora", {"init_r": -1}, "settings.init_r=-1"),
        ("loha", {"alpha": 0}, "settings.alpha=0"),
        ("dora", {"lora_alpha": "32"}, "settings.lora_alpha='32'"),
        ("dora", {"lora_dropout": 1.0}, "settings.lora_dropout=1.0"),
        ("vera", {"r": 4, "vera_dropout": -0.1}, "settings.vera_dropout=-0.1"),
        ("lora", {"init_lora_weights": "eva"}, "needs data"),
        ("dora", {"r": {1, 2}}, "must be JSON values"),
        ("dora", {"lora_alpha": float("nan")}, "must be JSON values"),
        ("dora", [("r", 8)], "must be a mapping"),
    ],
)
def test_bad_settings_are_refused_with_a_reason(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        complete_settings(name, settings)


def test_pefts_own_refusal_is_passed_on():
    with pytest.raises(ConfigError, match=r"adalora: PEFT refuses the settings: .*orth_reg_weight"):
        peft_config("adalora", {"orth_reg_weight": -1.0, "total_step": 9}, target_modules="x")
