"""`replicate push`: the card of a committed run, and the upload with its scores."""

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from pipelines.commands.push import register
from replication.errors import AdapterError, ConfigError, DataError
from replication.methods import attach, method_config, save


def push(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["push", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture
def run(project_root, tmp_path):
    folder = tmp_path / "runs/quick/lora"
    ignored = shutil.ignore_patterns("adapter", "predictions")
    return shutil.copytree(project_root / "runs/quick/lora", folder, ignore=ignored)


def test_the_card_of_a_run_without_its_adapter(run):
    text = push(run, "--seed", 18, "--dry-run")
    assert "| data | embedded synthetic corpus (microworld), 1,782 training examples |" in text
    assert "| trained parameters | 12,288 |" in text
    scores = json.loads((run / "scores.json").read_text())
    assert f"| BLEU | {scores['seeds']['18']['BLEU']:.6g} |" in text
    assert "not a reproduction of any published figure" in text
    (run / "scores.json").unlink()
    (run / "metrics.json").unlink()
    assert "None recorded here." in json.loads(push(run, "--seed", 18, "--dry-run", "--json"))["card"]


def test_the_adapter_is_uploaded_with_its_scores(run, tiny_gpt2, loopback, tmp_path, monkeypatch):
    save(attach(tiny_gpt2, method_config("lora")), run / "adapter/seed-18", card={"dev_loss": 1.5})
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with loopback.serve(loopback.LoopbackHub(writers={"hf_writer"})) as hub:
        loopback.reach(hub, monkeypatch, tmp_path)
        answer = json.loads(push(run, "--seed", 18, "--repo", "me/lora", "--json"))
    assert answer["commit"].startswith(hub.address)
    card = hub.repositories["models/me/lora"].files["README.md"].decode()
    for expected in ("| base | GPT2LMHeadModel, 6 blocks", "| last dev loss | 1.5000 |", "| CIDEr | "):
        assert expected in card


def test_a_run_is_named_from_within_its_folder_too(run, monkeypatch):
    monkeypatch.chdir(run)
    assert "| BLEU |" in push(".", "--seed", 18, "--dry-run")


def test_a_damaged_record_is_named(run):
    (run / "training/seed-18/record.json").write_text("{}")
    with pytest.raises(DataError, match=r"record\.json.*profile"):
        push(run, "--seed", 18, "--dry-run")


def test_what_is_missing_is_named(run):
    with pytest.raises(ConfigError, match="--repo: name the repository"):
        push(run, "--seed", 18)
    with pytest.raises(AdapterError, match=r"seed-18: no such folder; `dvc repro finetune@lora`"):
        push(run, "--seed", 18, "--repo", "me/lora")


@pytest.mark.parametrize("profile", ["smoke-paper", "mine"])
def test_only_the_paper_profile_is_said_to_have_its_settings(run, profile):
    for path in run.rglob("*.json"):
        path.write_text(path.read_text().replace('"profile": "quick"', f'"profile": "{profile}"'))
    shutil.move(run.parent, run.parents[1] / profile)
    text = push(run.parents[1] / profile / "lora", "--seed", 18, "--dry-run")
    assert f"Measured with the settings of the profile {profile}, which are not the paper's" in text
    assert "with the paper's settings" not in text
