"""`replicate export`: from a saved adapter and a named backbone to a folder for stock PEFT."""

import json

import pytest
import torch
import typer
from peft import PeftModel
from typer.testing import CliRunner

from replication.backbones import build_fresh, load_model
from replication.commands.export import register
from replication.errors import AdapterError, ConfigError, DataError
from replication.methods import attach, save, trainable_parameters
from replication.methods.frozen import FrozenConfig
from replication.methods.lora import LoraConfig
from replication.methods.weight_lora import WeightLoraConfig

NAME = "microworld-gpt2"


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    build_fresh(NAME, vocab_size=40, pad_token_id=0).save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def stirred(model):
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape) * 0.02)
    return model


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None]).logits


@pytest.mark.parametrize(
    ("task", "more", "config"),
    [
        (None, {}, LoraConfig(rank=2)),
        ("sequence_classification", {"num_labels": 5}, WeightLoraConfig(rank=2, keep=3)),
    ],
)
def test_the_export_gives_the_logits_of_the_adapter(tmp_path, weights, task, more, config):
    base = load_model(NAME, weights, task=task, **more)
    model = stirred(attach(load_model(NAME, weights, task=task, **more), config))
    save(model, tmp_path / "adapter")
    state = torch.get_rng_state()
    result = run(tmp_path / "adapter", "--backbone", NAME, "--weights", weights, "--output", tmp_path / "peft")
    assert result.exception is None, result.exception
    assert torch.equal(torch.get_rng_state(), state)
    assert f"PEFT LoRA of {NAME} written to" in result.stdout
    theirs = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=0)


def test_refusals_name_the_option_or_the_file(tmp_path, weights):
    saved = save(attach(load_model(NAME, weights), LoraConfig(rank=2)), tmp_path / "adapter")
    given = [saved, "--backbone", NAME, "--weights", weights]
    cases = [
        ([*given, "--output", saved], ConfigError, "own folder"),
        ([saved, "--backbone", "gpt5", "--output", tmp_path / "x"], ConfigError, "'gpt5' is unknown"),
        ([saved, "--backbone", "bart-large", "--output", tmp_path / "x"], ConfigError, "GPT2LMHeadModel"),
        ([tmp_path / "none", *given[1:], "--output", tmp_path / "x"], AdapterError, "none/adapter_config.json"),
        ([*given[:3], "--weights", tmp_path / "no", "--output", tmp_path / "x"], DataError, "no such folder"),
    ]
    for arguments, kind, message in cases:
        error = run(*arguments).exception
        assert isinstance(error, kind), error
        assert message in str(error)
    assert not (tmp_path / "x").exists()


def test_other_methods_and_damage_are_refused(tmp_path, weights):
    saved = save(attach(load_model(NAME, weights), FrozenConfig()), tmp_path / "adapter")
    given = [saved, "--backbone", NAME, "--weights", weights, "--output", tmp_path / "x"]
    assert "frozen cannot be exported" in str(run(*given).exception)
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps({**config, "base": None}))
    assert "'base.class' is missing" in str(run(*given).exception)
    (saved / "adapter_config.json").write_text(
        json.dumps(config).replace("GPT2LMHeadModel", "GPT2ForSequenceClassification")
    )
    assert "no task head" in str(run(*given).exception)
    (saved / "adapter_model.safetensors").write_bytes(b"x")
    assert "not a complete safetensors file" in str(run(*given).exception)
