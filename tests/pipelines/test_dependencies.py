"""dvc.yaml names all that a stage's result depends on: the modules it imports, the project files it opens."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grimp
import pytest
import yaml

import replication
from replication.methods.shared.registry import method_names

STAGES = ("prepare", "pretrain", "finetune", "predict", "score", "search", "report")
PACKAGES = ("analysis", "pipelines", "replication", "studies")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)


@pytest.fixture(scope="module")
def stages(project_root):
    return yaml.safe_load((project_root / "dvc.yaml").read_text())["stages"]


def dependencies(stages, stage: str, **values: str) -> list[str]:
    """The stage's dependencies with `${...}` filled in; an unknown value stays as it is written."""
    found = stages[stage].get("do", stages[stage])["deps"]
    for name, value in values.items():
        found = [dep.replace(f"${{{name}}}", value) for dep in found]
    return found


def covered(path: str, deps: list[str]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


def file_of(root: Path, module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py"))


def imported(graph, root: Path, *modules: str) -> set[str]:
    """Files of the project that these modules import, themselves included."""
    found = set(modules).union(*(graph.find_upstream_modules(module) for module in modules))
    return {file_of(root, module) for module in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_everything_it_imports(graph, stages, project_root, stage):
    deps = dependencies(stages, stage)
    left = {file for file in imported(graph, project_root, f"pipelines.{stage}") if not covered(file, deps)}
    assert left == set()


@pytest.mark.parametrize("stage", ["finetune", "predict", "search"])
@pytest.mark.parametrize("method", method_names())
def test_a_stage_depends_on_everything_its_method_imports(graph, stages, project_root, stage, method):
    deps = dependencies(stages, stage, **{"item.method": method})
    used = imported(graph, project_root, f"replication.methods.{method}")
    assert {file for file in used if not covered(file, deps)} == set()
    assert not covered("replication/methods/a_new_method.py", deps), "a new method would rerun every experiment"


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_exists_in_the_project(stages, project_root, stage):
    code = [dep for dep in dependencies(stages, stage) if dep.startswith(PACKAGES) and "$" not in dep]
    assert code
    assert [dep for dep in code if not (project_root / dep).exists()] == []


def test_what_runs_before_every_module_of_a_package_is_no_code(project_root):
    """No stage depends on these two files."""
    assert [type(node) for node in ast.parse((project_root / "pipelines/__init__.py").read_text()).body] == [ast.Expr]
    body = ast.parse((project_root / "replication/__init__.py").read_text()).body
    lazy = (ast.Expr, ast.Import, ast.ImportFrom, ast.If, ast.Assign, ast.FunctionDef)  # names for users, on first use
    assert all(isinstance(node, lazy) for node in body)
    imported = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    assert imported <= {"importlib", "typing"}
    names = re.compile(r"^ *(?:from replication import (.*)|import replication$)", re.MULTILINE)
    for path in (path for package in PACKAGES for path in (project_root / package).rglob("*.py")):
        if path.name != "card.py":  # its text shows readers how to load
            for found in names.findall(path.read_text(encoding="utf-8")):
                assert not set(replication.__all__) & set(re.findall(r"\w+", found)), f"{path}: import from its home"
