"""The stage definitions: the same for all profiles, every command constructed and checked without data or downloads."""

from __future__ import annotations

import functools
import importlib
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipelines.shared.experiment import method_settings, resolve
from pipelines.shared.settings import load_settings
from replication.fileio import read_json

PROFILES = {"quick": Path(), "cpu": Path("pipelines/cpu"), "paper": Path("pipelines/paper")}


@functools.cache
def stages_of(root: Path, profile: str) -> list:
    """As DVC reads them; for tests that only look."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return repo.stage.load_all(str(root / PROFILES[profile] / "dvc.yaml"))


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_profiles_share_the_stage_definitions(project_root, profile):
    own = project_root / PROFILES[profile] / "dvc.yaml"
    assert not own.is_symlink(), "git hands DVC the text of a link, and `dvc params diff` comes back empty"
    assert own.read_bytes() == (project_root / "dvc.yaml").read_bytes()


@pytest.mark.parametrize("profile", PROFILES)
def test_params_have_the_same_sections_and_name_themselves(project_root, profile):
    path = project_root / PROFILES[profile] / "params.yaml"
    settings = load_settings(path)
    assert settings.profile == profile
    assert (path.parent / settings.root).resolve() == project_root
    assert project_root / settings.params_file == path
    assert set(yaml.safe_load(path.read_text())) == set(yaml.safe_load((project_root / "params.yaml").read_text()))


def one_of_each_kind(settings, stages):
    """Commands of the stages; of experiments with equal backbone, method, settings and form the first one's."""
    first = {}
    for stage in stages:
        kind, _, key = stage.name.partition("@")
        row = settings.experiments.get(key) if kind in ("finetune", "predict", "score") else None
        same = (row.backbone, row.method, row.settings, settings.tasks[row.task].form) if row else key
        first.setdefault((kind, same), stage.cmd)
    return list(first.values())


@pytest.mark.parametrize(
    "profile", [pytest.param(name, marks=[] if name == "quick" else pytest.mark.slow) for name in PROFILES]
)
def test_every_stage_command_is_constructed_and_valid(project_root, monkeypatch, profile):
    monkeypatch.chdir(project_root)
    settings = load_settings(PROFILES[profile] / "params.yaml")
    stages = stages_of(project_root, profile)
    names = [stage.name for stage in stages]
    for kind in ("finetune", "predict", "score"):
        assert {name for name in names if name.startswith(f"{kind}@")} == {
            f"{kind}@{key}" for key in settings.experiments
        }
    assert {name for name in names if name.startswith("search@")} == {f"search@{key}" for key in settings.searches}
    assert all(Path(stage.wdir).resolve() == project_root for stage in stages)
    read_once = functools.cache(load_settings)
    for command in one_of_each_kind(settings, stages):
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        module = importlib.import_module(words[2])
        monkeypatch.setattr(module, "load_settings", read_once)
        app = typer.Typer()
        app.command()(module.main)
        result = CliRunner().invoke(app, [*words[3:], "--dry-run"])
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception!r}"
        assert "would" in result.output


@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_stages_write_the_same_place(project_root, profile):
    places = [out.fs_path for stage in stages_of(project_root, profile) for out in stage.outs]
    assert len(places) == len(set(places))
    assert all(not place.endswith("cost") for place in places), "what a run cost is never an output"


@pytest.mark.parametrize("profile", PROFILES)
def test_learning_rates_are_those_the_search_chose(project_root, profile):
    settings = load_settings(project_root / PROFILES[profile] / "params.yaml")
    for key, experiment in settings.experiments.items():
        if experiment.search is None:
            generates = settings.task(experiment.task).form == "generation"
            nothing_to_train = experiment.method == "baseline" or (experiment.method == "frozen" and generates)
            assert profile == "paper" or nothing_to_train, f"{key} has a rate that no search chose"
            continue
        found = read_json(project_root / "searches" / profile / f"{experiment.search}.json")
        assert experiment.learning_rate == found["best"], key
        assert (experiment.method, experiment.backbone) == (found["method"], found["backbone"]), key


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_of_a_search_plan_gets_the_same_candidates_and_steps(project_root, profile):
    settings = load_settings(project_root / PROFILES[profile] / "params.yaml")
    where = {}
    for key, case in settings.searches.items():
        plan = settings.search[case.plan]
        path = project_root / "searches" / profile / f"{key}.json"
        if not path.is_file():  # still to be run: then no experiment can have its rate
            assert key not in {experiment.search for experiment in settings.experiments.values()}, key
            continue
        found = read_json(path)
        described = {**case.model_dump(mode="json"), "settings": method_settings(settings, case, plan.steps)}
        assert {field: found[field] for field in described} == described, key
        rates = sorted(row["learning_rate"] for row in found["tried"])
        assert set(plan.learning_rates) <= set(rates), key
        extended = len(rates) - len(plan.learning_rates)
        inside = rates[0] < found["best"] < rates[-1]
        assert inside or extended == plan.extensions, f"{key}: the range is extended while the best lies at its edge"
        assert found["steps"] == plan.steps
        where.setdefault(case.plan, set()).add((case.backbone, case.task))
    assert all(len(places) == 1 for places in where.values()), "a plan compares on one backbone and one task"


@pytest.mark.parametrize("profile", PROFILES)
def test_methods_within_a_task_get_the_same_budget(project_root, profile):
    settings, found = load_settings(project_root / PROFILES[profile] / "params.yaml"), {}
    for key, row in settings.experiments.items():
        if row.method != "baseline":
            training = resolve(settings, key).training.to_dict()
            shared = {name: value for name, value in training.items() if name != "learning_rate"}
            found.setdefault((row.backbone, row.task), []).append(shared)
    assert max(map(len, found.values())) > 1
    for setting, trainings in found.items():
        assert all(training == trainings[0] for training in trainings), setting


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stage_depends_on_its_own_experiment_alone(project_root, profile):
    keys = set(load_settings(project_root / PROFILES[profile] / "params.yaml").experiments)
    for stage in stages_of(project_root, profile):
        kind, _, key = stage.name.partition("@")
        if kind not in ("finetune", "predict", "score"):
            continue
        named = {
            name.split(".")[1]
            for dep in stage.deps
            for name in getattr(dep, "params", [])
            if name.startswith("experiments.")
        }
        folders = {Path(dep.def_path).parts for dep in stage.deps if not getattr(dep, "params", None)}
        used = named | {parts[2] for parts in folders if parts[:1] == ("runs",)}
        assert used <= {key}, f"{stage.name} would rerun when another experiment is edited"
        assert kind != "finetune" or used == {key}
        assert keys >= {key}


@pytest.mark.parametrize("profile", PROFILES)
def test_stages_that_read_predictions_depend_on_the_gold_file_of_their_task(project_root, profile):
    settings = load_settings(project_root / PROFILES[profile] / "params.yaml")
    for stage in stages_of(project_root, profile):
        kind, _, key = stage.name.partition("@")
        reads = {dep.def_path for dep in stage.deps if str(dep.def_path).split("/")[0] == "gold"}
        if kind in ("predict", "score"):
            assert reads == {f"gold/{profile}/{settings.experiment(key).task}.jsonl"}
        if kind == "report":
            assert reads == {f"gold/{profile}"}
        if kind == "prepare":
            written = [out for out in stage.outs if out.def_path == f"gold/{profile}/{key}.jsonl"]
            assert len(written) == 1
            assert not written[0].use_cache, "git keeps it, so that a clone can score and report"


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_the_lock_names_what_the_stages_name(project_root, profile):
    """A stage that gains a dependency after it ran is stale in every clone."""
    lock = yaml.load((project_root / PROFILES[profile] / "dvc.lock").read_text(), yaml.CSafeLoader)["stages"]
    params_file = load_settings(project_root / PROFILES[profile] / "params.yaml").params_file
    for stage in stages_of(project_root, profile):
        if stage.name not in lock:
            assert profile != "quick" or stage.frozen, f"{stage.name} has not run: `make reproduce`"
            continue
        if stage.frozen:  # a decision that stands; it does not become stale
            continue
        files = {dep.def_path for dep in stage.deps if not getattr(dep, "params", None)}
        params = {name for dep in stage.deps for name in getattr(dep, "params", None) or []}
        entry = lock[stage.name]
        assert {dep["path"] for dep in entry["deps"]} == files, f"{stage.name}: `make accept`"
        assert set(entry.get("params", {}).get(params_file, {})) == params, f"{stage.name}: `make accept`"
        assert {out["path"] for out in entry["outs"]} == {out.def_path for out in stage.outs}, stage.name


@pytest.mark.parametrize("profile", PROFILES)
def test_only_searches_are_frozen(project_root, profile):
    # A frozen stage without its output is an error: a new experiment could not be run.
    for stage in stages_of(project_root, profile):
        assert stage.frozen == stage.name.startswith("search@"), stage.name


def test_the_quick_profile_has_at_most_forty_experiments(project_root):
    assert len(load_settings(project_root / "params.yaml").experiments) <= 40
