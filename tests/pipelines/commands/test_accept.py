"""What is stale, what speaks for it, and what is written when no value differs and when one does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

import pipelines.commands.accept as accepting
from pipelines.commands.accept import keep_code_hashes, last_changed, record_differences
from pipelines.shared.code import code_sha256, made_by
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError, ReplicationError
from replication.fileio import read_json, write_json

EXPERIMENTS = ("sentiment-weight-lora", "sentiment-lora")
CODE = "replication/training/loop.py"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory, project_root):
    """A repository with the code, two finished experiments and a dvc.lock that is up to date with both."""
    home = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        name_the_author(patch)
        ignored = shutil.ignore_patterns("__pycache__", "adapter", "cost")
        for name in ("replication", "pipelines", "paper_results", *(f"runs/quick/{key}" for key in EXPERIMENTS)):
            shutil.copytree(project_root / name, name, ignore=ignored)
        Path("gold/quick").mkdir(parents=True)
        for name in ("dvc.yaml", ".dvcignore", "gold/quick/sentiment.jsonl"):
            shutil.copy(project_root / name, name)
        content = yaml.safe_load((project_root / "params.yaml").read_text())
        content["experiments"] = {key: content["experiments"][key] for key in EXPERIMENTS}
        content["tasks"] = {"sentiment": content["tasks"]["sentiment"]}
        content["backbones"] = {"microworld-deberta": content["backbones"]["microworld-deberta"]}
        searches = content["searches"].items()
        content["searches"] = {name: case for name, case in searches if case["backbone"] == "microworld-deberta"}
        del content["memory"]
        Path("params.yaml").write_text(yaml.safe_dump(content))
        data = ("data/microworld-tasks/rows", "prepared/quick/sentiment/rows", "weights/microworld-deberta/model")
        for name in (*data, *(f"runs/quick/{key}/adapter/weights" for key in EXPERIMENTS)):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text("x")
        git("init", "--quiet")
        subprocess.run(["dvc", "init", "--quiet"], check=True)
        stages = [f"{kind}@{key}" for key in EXPERIMENTS for kind in ("finetune", "predict", "score")]
        stages += ["prepare@sentiment", "pretrain@microworld-deberta"]
        subprocess.run(["dvc", "commit", "--quiet", "--force", *stages], check=True)
        git("add", ".")
        git("commit", "--quiet", "--message", "start")
    return home


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    """A copy of the template as working folder, whose cells are not run."""
    home = shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(home)
    name_the_author(monkeypatch)
    monkeypatch.setattr(accepting, "run_cells", fake_cells)
    return home


def name_the_author(patch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{role}_NAME", "Tester")
        patch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")


def fake_cells(tree, params_file, experiments, home, tell):
    """The committed results in place of a run; with the working tree, `changed` alters a curve."""
    for key in experiments:
        shutil.copytree(f"runs/quick/{key}", home / f"runs/quick/{key}")
        if home.name == "new" and Path("changed").exists():
            curves = home / f"runs/quick/{key}/training/seed-18/curves.csv"
            curves.write_text(curves.read_text().replace("0.", "1.", 1))
    shutil.copytree("gold", home / "gold")
    return {"finetune@sentiment-lora": "KeyError: 'x'"} if home.name != "new" and Path("fails").exists() else {}


def run(*options: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    accepting.register(app)
    result = CliRunner().invoke(app, ["accept", "--params", "params.yaml", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def edit(path: str = CODE) -> None:
    Path(path).write_text(Path(path).read_text() + "# A comment.\n")


def is_stale(stage: str) -> bool:
    """What DVC says."""
    return stage in json.loads(
        subprocess.run(["dvc", "status", "--json", stage], capture_output=True, text=True).stdout
    )


def test_nothing_is_stale_where_no_code_was_edited(project):
    before = Path("dvc.lock").read_bytes()
    outcome = json.loads(run("--json").stdout)
    assert (outcome["accepted"], outcome["sample"], outcome["differences"]) == ([], {}, [])
    assert Path("dvc.lock").read_bytes() == before


def test_settings_under_pipelines_are_no_code(project):
    folder = Path("pipelines/small")
    folder.mkdir()
    stage = {"cmd": "true", "wdir": "../..", "deps": ["pipelines/shared"], "params": [{f"{folder}/params.yaml": ["n"]}]}
    (folder / "params.yaml").write_text("n: 1")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage}}))
    subprocess.run(["dvc", "commit", "--quiet", "--force", folder / "dvc.yaml"], check=True)
    entry = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["one"]

    assert not accepting.code_changed(*accepting.load_stages(folder / "dvc.yaml"), entry)
    Path("pipelines/shared/code.py").write_text("edited")
    assert accepting.code_changed(*accepting.load_stages(folder / "dvc.yaml"), entry)


def test_an_edit_that_changes_no_value_is_accepted(project):
    before = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    edit()
    assert is_stale("finetune@sentiment-lora")
    result = run("--json")
    outcome = json.loads(result.stdout)
    assert result.exit_code == 0
    assert outcome["differences"] == []
    assert set(outcome["sample"].popitem()[1]) == set(EXPERIMENTS)
    changed = {name for name, stage in before.items() if any(CODE.startswith(dep["path"]) for dep in stage["deps"])}
    assert set(outcome["accepted"]) == changed
    assert not is_stale("finetune@sentiment-lora")
    after = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    for name, stage in after.items():
        assert stage["outs"] == before[name]["outs"], "hashes of outputs stay"
        moved = [dep["path"] for dep, old in zip(stage["deps"], before[name]["deps"], strict=True) if dep != old]
        assert moved == (["replication/training"] if name in changed else [])


def test_outputs_that_are_absent_keep_their_hashes(project):
    before = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    for folder in ("prepared", "weights", *(f"runs/quick/{key}/adapter" for key in EXPERIMENTS)):
        shutil.rmtree(folder)
    edit()
    assert json.loads(run("--json").stdout)["left"] == {}
    after = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert {name: stage["outs"] for name, stage in after.items()} == {name: s["outs"] for name, s in before.items()}


def test_one_value_that_differs_refuses_all_and_names_the_file(project):
    before = Path("dvc.lock").read_bytes()
    edit()
    Path("changed").touch()
    result = run()
    assert result.exit_code == 1
    assert "sentiment-lora/training/seed-18/curves.csv" in result.output
    assert Path("dvc.lock").read_bytes() == before
    assert not Path("accepted_code.json").exists()


def test_code_that_cannot_run_its_cells_any_more_leaves_them_stale(project):
    edit()
    Path("fails").touch()
    outcome = json.loads(run("--json").stdout)
    assert outcome["accepted"] == []
    assert "finetune@sentiment-lora fails with" in outcome["left"]["predict@sentiment-weight-lora"]


def test_code_that_is_edited_while_the_cells_run_is_not_accepted(project, monkeypatch):
    def edits(*arguments):
        edit("replication/tasks/base.py")
        return fake_cells(*arguments)

    edit()
    before = Path("dvc.lock").read_bytes()
    monkeypatch.setattr(accepting, "run_cells", edits)
    with pytest.raises(ReplicationError, match=r"replication/tasks/base\.py was edited while the cells ran"):
        accepting.accept(params=Path("params.yaml"), as_json=True)
    assert Path("dvc.lock").read_bytes() == before


def test_a_dependency_that_a_stage_no_longer_has_leaves_the_lock(project):
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    stages["stages"]["score"]["do"]["deps"].remove("replication/examples.py")
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    assert {"score@sentiment-lora", "score@sentiment-weight-lora"} == set(json.loads(run("--json").stdout)["accepted"])
    entry = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["score@sentiment-lora"]
    assert "replication/examples.py" not in {dep["path"] for dep in entry["deps"]}


def test_every_named_setting_of_a_stale_method_is_in_the_sample(project_root):
    settings = load_settings(project_root / "params.yaml")
    needed = {tag for key in settings.experiments for tag in accepting.needed_tags(settings, "finetune", key)}
    assert {f"method peft_baselines {name}" for name in ("dora", "adalora", "vera")} <= needed
    offered = {tag for key in settings.experiments for tag in accepting.offered_tags(settings, key)}
    assert needed <= offered


def test_a_dry_run_lists_the_sample_and_runs_nothing(project, monkeypatch):
    monkeypatch.setattr(accepting, "run_cells", None)
    before = Path("dvc.lock").read_bytes()
    edit()
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "would compare with" in result.output
    assert Path("dvc.lock").read_bytes() == before


def test_changed_data_and_changed_settings_stay_stale(project):
    edit()
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["experiments"]["sentiment-lora"]["learning_rate"] *= 2
    Path("params.yaml").write_text(yaml.safe_dump(content))
    (Path("runs/quick/sentiment-weight-lora/adapter") / "weights").write_text("y")
    outcome = json.loads(run("--json").stdout)
    assert "experiments.sentiment-lora" in outcome["left"]["finetune@sentiment-lora"]
    assert "adapter has changed" in outcome["left"]["predict@sentiment-weight-lora"]
    assert "finetune@sentiment-weight-lora" in outcome["accepted"]
    assert is_stale("finetune@sentiment-lora")


def test_a_profile_that_has_not_run_has_nothing_to_accept(project):
    Path("dvc.lock").unlink()
    with pytest.raises(ConfigError, match=r"dvc\.lock: no such file: nothing of this profile has run"):
        accepting.accept(params=Path("params.yaml"))


def test_a_lock_with_changes_that_are_not_committed_is_refused(project):
    edit("dvc.lock")
    with pytest.raises(ConfigError, match=r"dvc\.lock: has changes that are not committed"):
        last_changed(Path("dvc.lock"))


def test_the_commit_that_made_a_stage_is_the_last_that_changed_its_entry(project):
    first = git("rev-parse", "HEAD").strip()
    edit()
    run()
    git("commit", "--quiet", "--all", "--message", "accepted")
    second = git("rev-parse", "HEAD").strip()
    commits = last_changed(Path("dvc.lock"))
    assert commits["score@sentiment-lora"] == first
    assert commits["finetune@sentiment-lora"] == second


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["methods"]["lora"]["r4-qkv"].update(alpha=1), "method_config.alpha"),
        (lambda c: c["tasks"]["sentiment"]["training"].update(steps=7), "training.steps"),
        (lambda c: c["tasks"]["sentiment"]["options"].update(batch_size=1), "decoding.batch_size"),
        (lambda c: c["experiments"]["sentiment-lora"].update(seeds=[18]), "seeds"),
        (lambda c: c["methods"]["lora"].update({"r4-qkv": dict(c["methods"]["lora"]["r4-qkv"])}), None),
    ],
)
def test_settings_are_compared_with_the_records(project, change, named):
    content = yaml.safe_load(Path("params.yaml").read_text())
    change(content)
    Path("params.yaml").write_text(yaml.safe_dump(content))
    assert record_differences(load_settings("params.yaml"), "sentiment-lora") == ([named] if named else [])


def test_a_new_run_of_accepted_code_records_the_hash_of_the_code_before(project):
    now = code_sha256("finetune", "lora")
    write_json("accepted_code.json", {"b" * 64: "c" * 64})  # of code that is gone
    for path in Path("runs/quick/sentiment-lora/training").glob("*/record.json"):
        write_json(path, {**read_json(path), "code_sha256": "a" * 64})
    keep_code_hashes(load_settings("params.yaml"), ["finetune@sentiment-lora"])
    assert made_by("params.yaml", "finetune", "lora") == "a" * 64
    assert read_json("accepted_code.json") == {now: "a" * 64}
    assert made_by("elsewhere/params.yaml", "finetune", "lora") == now
