"""Which profile and which of its experiments a command is about: `--profile`, `--params` and `--only`."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.shared.settings import Settings, load_settings
from replication.errors import ConfigError

ONLY = "Experiments: a shell pattern of names such as 'qa-*', or backbone:, task:, method: or paper: and a pattern."
PAPERS = {True: "solo", False: "weightlora"}  # whether an experiment generates from E2E's inputs
FIELDS = ("paper", "backbone", "task", "method")


def settings_of(profile: str | None, params: Path | None) -> Settings:
    """The profile's settings; ConfigError lists the profiles."""
    profiles = {"quick": Path("params.yaml")} if Path("params.yaml").is_file() else {}
    profiles |= {file.parent.name: file for file in sorted(Path("pipelines").glob("*/params.yaml"))}
    if not profiles and params is None:
        raise ConfigError(f"{Path.cwd()}: no params.yaml; run the command in the project's root folder")
    name = "quick" if profile is None else profile
    if params is None and name not in profiles:
        raise ConfigError(f"--profile {name!r}: no such profile; valid profiles: {', '.join(profiles)}")
    file = params or profiles[name]
    settings = load_settings(file)
    if profile is not None and settings.profile != profile:
        raise ConfigError(f"{file}: profile is {settings.profile}, not {profile}; leave out --profile or --params")
    if file.resolve() != Path(settings.params_file).resolve():
        raise ConfigError(
            f"{file}: params_file is {settings.params_file}, which is another file; set it to this one, "
            "relative to the project's root, and run in that folder"
        )
    return settings


def select(settings: Settings, patterns: Sequence[str]) -> list[str]:
    """Experiments that match a pattern (`ONLY`), in the order of params.yaml; all of them without patterns."""
    names = list(settings.experiments)
    found: set[str] = set()
    for pattern in patterns:
        field, _, wanted = pattern.rpartition(":")
        if field not in ("", *FIELDS):
            raise ConfigError(f"--only {pattern}: no field {field!r}; fields: {', '.join(FIELDS)}, or a name alone")
        values = {name: fields_of(settings, name)[field] if field else (name,) for name in names}
        hits = {name for name in names if any(fnmatch.fnmatchcase(value, wanted) for value in values[name])}
        if not hits:
            known = list(dict.fromkeys(value for name in names for value in values[name]))
            near = difflib.get_close_matches(re.sub(r"[*?\[\]]", "", wanted), known, n=5, cutoff=0.4)
            fix = f"did you mean {', '.join(near)}?" if near else f"{field or 'experiment'}s: {', '.join(known)}"
            raise ConfigError(f"--only {pattern}: no experiment of {settings.params_file} matches; {fix}")
        found |= hits
    return [name for name in names if not patterns or name in found]


def fields_of(settings: Settings, key: str) -> dict[str, tuple[str, ...]]:
    """What `--only field:pattern` is held against: a task goes by its own name and its corpus's."""
    row = settings.experiments[key]
    task = settings.tasks[row.task]
    paper = PAPERS[task.form == "generation"]
    return {"paper": (paper,), "backbone": (row.backbone,), "task": (row.task, task.corpus), "method": (row.method,)}


def tasks_of(settings: Settings, selected: Sequence[str]) -> set[str]:
    """The tasks of these experiments."""
    return {settings.experiments[key].task for key in selected}
