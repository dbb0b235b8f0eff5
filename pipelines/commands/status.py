"""`replicate status`: which stages of one profile are not up to date and why, and what lies about that no stage made.

One `dvc status` of the profile's own dvc.yaml: a bare one in the root folder reads every profile's.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import typer

from pipelines.commands.selection import settings_of
from replication.errors import DataError
from replication.terminal import WIDTH, examples, working

SHOWN = 4  # names in a line
NOT_RECORDED = "not in dvc.lock"  # DVC calls an output of such a stage "modified" where it is there
# What belongs to one stage alone: a folder or file of its own, or its entry in params.yaml.
OWN = (
    r"(\b(?:runs|prepared|gold|searches)/[^/ ]+/|\bweights/|\b(?:experiments|searches|tasks|backbones)\.){}(?=[./: ]|$)"
)


def register(app: typer.Typer) -> None:
    """Add `status` to the `replicate` command."""
    app.command("status", epilog=examples("replicate status", "replicate status --profile cpu --json"))(status)


def status(
    profile: Annotated[
        str | None, typer.Option(help="quick, cpu or paper (default: quick, or as in --params).")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="The profile's params.yaml, instead of its name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which stages of a profile are not up to date, with the reasons, and folders that no experiment owns."""
    from pipelines.commands.sweep import dvc_file, status_of

    settings = settings_of(profile, params)
    file = dvc_file(settings)
    with working(f"comparing {settings.profile} with dvc.lock"):
        recorded = locked_stages(file)
        changes = {
            stage: reasons(found) if stage in recorded else [NOT_RECORDED] for stage, found in status_of(file).items()
        }
    removed = without_experiment(settings.profile, settings.experiments)
    if as_json:
        found = {"profile": settings.profile, "changed": changes, "removed": [path.as_posix() for path in removed]}
        print(json.dumps(found, indent=2))
        return
    print(f"{settings.profile}: {f'{len(changes)} stages are not up to date' if changes else 'up to date'}")
    for line in lines(changes):
        print(fill(line, WIDTH, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False))
    for path in removed:
        print(f"{path}: no such experiment in {settings.params_file};\n  delete the folder, or put the experiment back")


def locked_stages(file: Path) -> set[str]:
    """Names of the stages that the dvc.lock beside `file` has; none without one. DataError if it is damaged."""
    from dvc.utils.serialize import ParseError, load_yaml

    lock = file.with_name("dvc.lock")
    if not lock.is_file():
        return set()
    try:
        return set(load_yaml(str(lock))["stages"])
    except (ParseError, KeyError, TypeError) as error:
        fix = f"run `git checkout {lock}`, or wait for the `dvc repro` that writes it"
        raise DataError(f"{lock}: has no stages that can be read ({error!r}); {fix}") from error


def without_experiment(profile: str, experiments: Collection[str]) -> list[Path]:
    """Run folders of experiments that params.yaml no longer has."""
    runs = Path("runs") / profile
    folders = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    return [path for path in folders if path.name not in experiments and not path.name.startswith(".")]


def reasons(found: Sequence[Any]) -> list[str]:
    """What `dvc status --json` says of one stage: `modified replication/training`, `deleted runs/x/y/adapter`."""
    said = []
    for part in found:
        if not isinstance(part, Mapping):  # "changed command"
            said.append(str(part))
            continue
        for paths in part.values():
            for path, state in paths.items():
                fields = state.items() if isinstance(state, Mapping) else ((None, state),)
                said += [f"{word} {path}{f': {field}' if field else ''}" for field, word in fields]
    return said


def lines(changes: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for the stages of a kind that have the same reasons, names of their own left out of these."""
    alike: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for name, said in changes.items():
        stage, _, key = name.partition("@")
        own = re.compile(OWN.format(re.escape(key)))
        shared = (own.sub(r"\g<1>*", text) if key else text for text in said)
        alike[stage, tuple(dict.fromkeys(shared))].append(key)
    return [f"  {stage}{_names(keys)}: {', '.join(said)}" for (stage, said), keys in alike.items()]


def _names(keys: Sequence[str]) -> str:
    if not any(keys):
        return ""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f" {', '.join(keys[:SHOWN])}{more}"
