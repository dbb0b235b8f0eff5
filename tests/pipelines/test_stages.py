"""The stage definitions: the same for all profiles, every command constructed and checked without data or downloads."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipelines.settings import load_settings
from replication.fileio import read_json

PROFILES = {"quick": Path(), "cpu": Path("pipelines/cpu"), "paper": Path("pipelines/paper")}


def stages_of(root: Path, profile: str) -> list:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return repo.stage.load_all(str(root / PROFILES[profile] / "dvc.yaml"))


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_profiles_share_the_stage_definitions(project_root, profile):
    own = project_root / PROFILES[profile] / "dvc.yaml"
    assert own.resolve() == (project_root / "dvc.yaml").resolve(), f"{own} must be a link to the root dvc.yaml"
    assert own.read_bytes() == (project_root / "dvc.yaml").read_bytes()


@pytest.mark.parametrize("profile", PROFILES)
def test_params_have_the_same_sections_and_name_themselves(project_root, profile):
    path = project_root / PROFILES[profile] / "params.yaml"
    settings = load_settings(path)
    assert settings.profile == profile
    assert (path.parent / settings.root).resolve() == project_root
    assert project_root / settings.params_file == path
    assert set(yaml.safe_load(path.read_text())) == set(yaml.safe_load((project_root / "params.yaml").read_text()))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_command_is_constructed_and_valid(project_root, monkeypatch, profile):
    monkeypatch.chdir(project_root)
    settings = load_settings(PROFILES[profile] / "params.yaml")
    stages = stages_of(project_root, profile)
    names = [stage.name for stage in stages]
    for kind in ("finetune", "generate", "score"):
        assert {name for name in names if name.startswith(f"{kind}@")} == {
            f"{kind}@{key}" for key in settings.experiments
        }
    searches = [
        f"python -m pipelines.search --params {settings.params_file} --experiment {key}" for key in settings.experiments
    ]
    assert all(Path(stage.wdir).resolve() == project_root for stage in stages)
    for command in [stage.cmd for stage in stages] + searches:
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        app = typer.Typer()
        app.command()(importlib.import_module(words[2]).main)
        result = CliRunner().invoke(app, [*words[3:], "--dry-run"])
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception!r}"
        assert "would" in result.output or "no search" in result.output


@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_stages_write_the_same_place(project_root, profile):
    places = [out.fs_path for stage in stages_of(project_root, profile) for out in stage.outs]
    assert len(places) == len(set(places))
    assert all(not place.endswith("cost") for place in places), "what a run cost is never an output"


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_learning_rates_are_those_the_search_chose(project_root, profile):
    settings = load_settings(project_root / PROFILES[profile] / "params.yaml")
    tried = {}
    for key, experiment in settings.experiments.items():
        found = read_json(project_root / "runs" / profile / key / "search.json")
        if experiment.method == "frozen":
            continue
        assert experiment.learning_rate == found["best"], key
        rates = [row["learning_rate"] for row in found["tried"]]
        assert set(settings.search.learning_rates) <= set(rates)
        assert len(rates) <= len(settings.search.learning_rates) + 1
        tried[key] = found["steps"]
    assert len(set(tried.values())) == 1, "every method gets the same number of search steps"


@pytest.mark.parametrize("profile", PROFILES)
def test_methods_within_a_task_get_the_same_budget(project_root, profile):
    settings = load_settings(project_root / PROFILES[profile] / "params.yaml")
    for experiment in settings.experiments.values():
        assert set(experiment.model_dump()) == {
            "backbone",
            "task",
            "method",
            "settings",
            "learning_rate",
            "seeds",
        }
    assert "steps" in settings.training, "the number of steps is a setting of the profile, not of a method"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stage_depends_on_its_own_experiment_alone(project_root, profile):
    keys = set(load_settings(project_root / PROFILES[profile] / "params.yaml").experiments)
    for stage in stages_of(project_root, profile):
        kind, _, key = stage.name.partition("@")
        if kind not in ("finetune", "generate", "score"):
            continue
        named = {name.split(".")[1] for dep in stage.deps for name in getattr(dep, "params", []) if "." in name}
        folders = {Path(dep.def_path).parts for dep in stage.deps if not getattr(dep, "params", None)}
        used = named | {parts[2] for parts in folders if parts[:1] == ("runs",)}
        assert used <= {key}, f"{stage.name} would rerun when another experiment is edited"
        assert kind != "finetune" or used == {key}
        assert keys >= {key}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_stage_is_frozen(project_root, profile):
    # A frozen stage without its output is an error: a new experiment could not be run.
    assert not [stage.name for stage in stages_of(project_root, profile) if stage.frozen]
