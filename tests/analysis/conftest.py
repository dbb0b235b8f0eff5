"""`write_runs` and `write_task_runs` write made-up runs folders; the others are shared by tests that only read."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest


def _module(name="synthetic_runs"):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_runs():
    return _module().write_runs


@pytest.fixture(scope="session")
def quick_runs(write_runs, tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("synthetic") / "runs", items=16)


@pytest.fixture(scope="session")
def paper_runs(write_runs, tmp_path_factory):
    """Every row of the paper profile that a verdict needs, on GPT-2 Medium's and Large's counts."""
    root = tmp_path_factory.mktemp("synthetic_paper") / "runs"
    base = {"rank": 120, "skip_length": 2}
    write_runs(
        root,
        profile="paper",
        experiments=("full", "frozen", "lora", "solo-k2", "solo-none"),
        items=16,
        label="E2E NLG, official release v1.0.0",
        backbone="gpt2-medium",
        blocks=24,
        counts={"full": 354_823_168, "lora": 393_216, "solo-k2": 259_499, "solo-none": 259_488},
        settings={"solo-k2": base, "solo-none": {**base, "homotopy_parameter": None}},
        quality={"solo-k2": 0.99, "lora": 0.80},
        base_parameters=354_823_168,
    )
    write_runs(
        root,
        profile="paper",
        experiments=("large-lora", "large-solo"),
        items=16,
        label="E2E NLG, official release v1.0.0",
        backbone="gpt2-large",
        blocks=36,
        counts={"large-lora": 737_280, "large-solo": 315_605},
        methods={"large-lora": "lora"},
        settings={"large-solo": {**base, "skip_length": 6}},
        base_parameters=774_030_080,
    )
    return root / "paper"


@pytest.fixture(scope="session")
def tasks_module():
    return _module("synthetic_tasks")


@pytest.fixture(scope="session")
def write_task_runs(tasks_module):
    return tasks_module.write_task_runs


@pytest.fixture(scope="session")
def task_runs(write_task_runs, tmp_path_factory):
    """The cpu profile on two tasks, of which LoRA learns one."""
    root = tmp_path_factory.mktemp("synthetic_tasks") / "runs"
    methods = ("frozen", "lora", "weight_lora-k3", "weight_lora_plus", "random_lora-k3", "dora")
    return write_task_runs(root, tasks=("cola", "rte"), methods=methods, quality={"rte": 0.55})


@pytest.fixture(scope="session")
def authors():
    from analysis.load.authors import load_authors

    return load_authors()


@pytest.fixture(scope="session")
def task_study(task_runs):
    """The study of `task_runs`; its bootstrap replicates are shared."""
    from analysis.judge.study import Study
    from analysis.load.runs import load_profile

    return Study.of(load_profile(task_runs))


@pytest.fixture
def published_folder(tmp_path):
    """A copy of `paper_results/` that a test may change."""
    import shutil

    from analysis.load.paper_files import DIRECTORY

    return shutil.copytree(DIRECTORY, tmp_path / "paper_results")


@pytest.fixture
def change(published_folder):
    """`change(name, edit)` rewrites one YAML file of `published_folder` with `edit` applied to its content."""
    import json

    import yaml

    def rewrite(name, edit):
        path = published_folder / f"{name}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")  # JSON is YAML, its text in quotes

    return rewrite


@pytest.fixture(scope="session")
def altered():
    """`altered(experiment, change, seeds)`: its records, of these seeds or all, with the fields of `change(record)`."""

    def of(experiment, change, seeds=None):
        records = {
            seed: record.model_copy(update=change(record)) if seeds is None or seed in seeds else record
            for seed, record in experiment.records.items()
        }
        return dataclasses.replace(experiment, records=records)

    return of


@pytest.fixture(scope="session")
def moved(altered):
    """`moved(experiment, seeds)`: these seeds as if they had been run on another type of processor."""

    def to_another(record):
        return {"conditions": record.conditions.model_copy(update={"cpu": "Another CPU"})}

    return lambda experiment, seeds: altered(experiment, to_another, seeds)
