"""`replicate plan`: what each experiment lacks, what a card can run, the same in JSON; datasets are asked as such."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from pipelines.commands import plan as module
from pipelines.commands import weights_readiness
from pipelines.commands.doctor import OnlineProbe
from pipelines.commands.estimates import FILE, known_cases
from pipelines.commands.planning import as_dict, make_plan, summary
from pipelines.commands.readiness import PROFILES
from pipelines.shared.settings import load_settings
from replication.backbones import BACKBONES
from replication.corpora.registry import REAL
from replication.errors import ConfigError
from replication.fileio import write_bytes


@pytest.fixture
def home(tmp_path, monkeypatch, project_root):
    """A checkout with the profiles and the kept predictions; no mirror, no caches."""
    from huggingface_hub import constants

    root = tmp_path / "checkout"
    for file in (*PROFILES.values(), FILE):
        write_bytes(root / file, (project_root / file).read_bytes())
    monkeypatch.chdir(root)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return root


def made(home, *patterns, probe=None):
    from pipelines.commands.selection import select

    settings = load_settings(home / PROFILES["paper"])
    return make_plan(home, settings, select(settings, patterns), known_cases(home), probe)


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    return CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def put_model(folder):
    write_bytes(folder / "config.json", b"{}")
    write_bytes(folder / "model.safetensors", b"")


def test_one_line_for_each_experiment_in_80_columns(home):
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    settings = load_settings(home / PROFILES["paper"])
    rows = [line for line in lines if line.split(" ")[0] in settings.experiments]
    assert [row.split()[0] for row in rows] == list(settings.experiments)
    assert sum(line.startswith("search@") for line in lines) == len(settings.searches)
    assert max(len(line) for line in lines if not line.startswith("    ")) <= 80
    assert "30% of the peak" in result.stdout
    llama = next(row for row in rows if row.startswith("llama-cola-lora"))
    assert llama.split()[5] == "-", "too large for 24 GB"


def test_only_and_json(home):
    result = run("--only", "cola-*", "--json")
    assert len(result.stdout.splitlines()) == 1
    found = json.loads(result.stdout)
    assert [entry["experiment"] for entry in found["experiments"]][:2] == ["cola-lora", "cola-weight-lora"]
    assert {entry["backbone"] for entry in found["experiments"]} == {"deberta-v3-base"}
    assert [entry["experiment"] for entry in found["searches"]] == ["search@glue-frozen"]
    assert found == json.loads(json.dumps(as_dict(made(home, "cola-*"))))
    assert found["experiments"][0]["missing"] == ["deberta-v3-base", "glue"]
    assert "30% of the peak" in found["assumption"]
    with pytest.raises(ConfigError, match="no experiment"):
        made(home, "colla")
    assert isinstance(run("--profile", "papper").exception, ConfigError)


def test_what_is_missing_shrinks_as_it_arrives(home, monkeypatch):
    before = made(home, "cola-lora", "xsum-lora")
    assert [need.name for need in before.lines[1].missing] == ["bart-large", "xsum"]
    assert before.download == pytest.approx(2 * 183_831_552 + 2 * 406_291_456 + 0.2e9 + 0.6e9)
    put_model(home / "weights" / "deberta-v3-base")
    after = made(home, "cola-lora", "xsum-lora")
    assert [need.name for need in after.lines[0].missing] == ["glue"]
    assert before.download - after.download == pytest.approx(2 * 183_831_552)
    assert before.disk - after.disk == pytest.approx(3 * 2 * 183_831_552)


def test_llama_takes_three_copies_of_16_gigabytes(home):
    assert 48e9 < made(home, "llama-cola-lora").disk < 50e9


def test_eight_cards_take_at_least_an_eighth_of_the_hours(home):
    whole = as_dict(made(home))["summary"]["cards"]
    one, large, eight = whole
    assert (one["cards"], large["cards"], eight["cards"]) == (1, 1, 8)
    assert one["experiments"] < large["experiments"] == eight["experiments"]
    assert large["hours"] / 8 <= eight["hours"] < large["hours"] / 4
    assert not any(key.startswith("cola") for key in one["too_large"])
    assert all(len(line) <= 69 for line in summary(made(home)))


def test_missing_packages_count_for_their_experiments_alone(home, monkeypatch):
    monkeypatch.setattr(weights_readiness, "missing_sentencepiece", lambda: ["protobuf"])
    found = made(home, "cola-lora", "xsum-lora")
    assert "sentencepiece" in [need.name for need in found.lines[0].missing]
    assert "sentencepiece" not in [need.name for need in found.lines[1].missing]


def test_without_kept_predictions_the_doctor_leaves_memory_open_and_plan_predicts(home, monkeypatch):
    (home / FILE).unlink()
    assert made(home, "cola-lora").open == ["cola-lora"]
    row = {
        "parameters": 1,
        "trained": 1,
        "bytes": dict.fromkeys(("fp32", "bf16", "bf16_weights"), 10**9),
        "approximate": False,
    }
    monkeypatch.setattr(module, "predict_case", lambda case: row)
    result = run("--only", "cola-lora", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["experiments"][0]["memory_bytes"]["fp32"] == 10**9


# --- online, against a hub on 127.0.0.1


@pytest.fixture
def hub(home, loopback, tmp_path, monkeypatch):
    served = loopback.LoopbackHub()
    for known in (known for known in BACKBONES.values() if known.hub_id):
        files = {"config.json": b"{}", "model.safetensors": b"x"}
        if known.pickled:
            monkeypatch.setitem(
                BACKBONES,
                known.name,
                replace(
                    known, pickled=replace(known.pickled, size=1, sha256=loopback.hashlib.sha256(b"x").hexdigest())
                ),
            )
            files = {"config.json": b"{}", "pytorch_model.bin": b"x", "spm.model": b"y"}
        served.add(known.hub_id, loopback.Repository(known.revision, files))
    for real in (real.hub for real in REAL.values() if real.hub):
        repository = loopback.Repository(real.revision or "a" * 40, {"data.parquet": b"x"}, kind="datasets")
        served.add(real.hub_id, repository)
    with loopback.serve(served) as running:
        loopback.reach(running, monkeypatch, tmp_path)
        yield running


def test_everything_answers_and_datasets_are_asked_as_datasets(home, hub):
    found = made(home, probe=OnlineProbe())
    states = {need.name: (need.state, need.text) for need in found.findings}
    for name in ("glue", "squad", "squad_v2", "xsum", "cnn_dailymail", "deberta-v3-base", "llama-3.1-8b"):
        assert states[name][0] == "network", (name, states[name])
        assert "which answers" in states[name][1]
    asked = [path for _, path in hub.asked]
    assert "/api/datasets/EdinburghNLP/xsum/revision/refs/convert/parquet" in asked
    assert not any(path.startswith("/api/models/nyu-mll") for path in asked)
    assert asked.count("/api/datasets/nyu-mll/glue/revision/" + REAL["cola"].hub.revision) == 1, (
        "asked once for 8 tasks"
    )
    assert hub.files_sent() == [], "nothing is downloaded"


def test_a_gated_model_a_missing_revision_and_no_safetensors_are_told_apart(home, hub):
    def repository(name):
        return hub.repositories[f"models/{BACKBONES[name].hub_id}"]

    repository("llama-3.1-8b").gated = True
    repository("gpt2-large").revision = "0" * 40
    repository("bart-large").files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    del hub.repositories["datasets/nyu-mll/glue"]
    found = {need.name: need for need in made(home, probe=OnlineProbe()).findings}
    assert "gated: this user has no access" in found["llama-3.1-8b"].text
    assert any(command.startswith("hf auth login") for command in found["llama-3.1-8b"].fix)
    assert "no such revision" in found["gpt2-large"].text
    assert "no model.safetensors" in found["bart-large"].text
    assert "no such repository" in found["glue"].text
    assert {found[name].state for name in ("llama-3.1-8b", "gpt2-large", "bart-large", "glue")} == {"missing"}


@pytest.mark.parametrize("arguments", [("--profile", "cpu"), ("--only", "qqp-*")])
def test_predictions_of_the_whole_paper_profile_alone_are_kept(home, arguments):
    before = (home / FILE).read_bytes()
    result = run("--save", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert "the whole paper profile" in str(result.exception)
    assert (home / FILE).read_bytes() == before
