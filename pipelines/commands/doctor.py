"""`replicate doctor`: what this machine can run, and the command that fixes each missing requirement.

A summary of at most 12 lines; with `--full` every requirement, and every command.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.errors import ConfigError
from replication.terminal import console as standard_output
from replication.terminal import examples, working

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.commands.findings import Finding
    from pipelines.commands.readiness import Examination, Profile
    from replication.backbones import Backbone

PROBE_SECONDS = 20.0


def register(app: typer.Typer) -> None:
    """Add `doctor` to the root command."""
    app.command("doctor", epilog=examples("replicate doctor", "replicate doctor --full"))(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Also check the corpus URLs, the model hub and the package registry.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show every requirement and every command.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="The project folder (default: found from the current folder).")
    ] = None,
) -> None:
    """Show what this machine can run; exit code 0 if the quick profile can run, 1 if not."""
    with working("examining this machine"):
        from pipelines.commands.readiness import examine

        found = examine(project_folder(root), OnlineProbe() if online else None)
    if as_json:
        typer.echo(json.dumps(as_dict(found), ensure_ascii=False))
    else:
        show_summary(found)
        if full:
            show(found)
    raise typer.Exit(0 if found.profiles[0].state == "ready" else 1)


def project_folder(root: Path | None = None, start: Path | None = None) -> Path:
    """`root`, or the nearest project folder from `start` (default: the current folder) upwards, or that of this code.

    A project folder holds params.yaml and pipelines/; ConfigError if there is none.
    """
    here = (start or Path.cwd()).resolve()
    candidates = [here, *here.parents, Path(__file__).resolve().parents[2]] if root is None else [root.resolve()]
    for folder in candidates:
        if (folder / "params.yaml").is_file() and (folder / "pipelines").is_dir():
            return folder
    raise ConfigError(f"{candidates[0]}: not a project folder (params.yaml, pipelines/); pass it with --root")


class OnlineProbe:
    """Requests headers, lists of files and versions only; downloads nothing. Asks the same only once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], str | None] = {}

    def _once(self, key: tuple[str, ...], ask: Callable[[], str | None]) -> str | None:
        if key not in self._answers:
            self._answers[key] = ask()
        return self._answers[key]

    def url(self, address: str) -> str | None:
        """None if `address` answers a HEAD request, else the reason."""
        return self._once(("url", address), lambda: self._url(address))

    def _url(self, address: str) -> str | None:
        import http.client
        import urllib.error
        import urllib.request

        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            return f"answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            return f"not reached ({error.reason})"
        except (OSError, http.client.HTTPException) as error:
            return f"not reached ({error})"

    def model(self, backbone: Backbone) -> str | None:
        """None if the hub gives this user the pinned revision in a form that is read, else the reason."""
        return self._once(("model", backbone.name), lambda: self._model(backbone))

    def _model(self, backbone: Backbone) -> str | None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        from replication.backbones.hub_weights import listed_files, needed_files
        from replication.errors import DataError

        repository, revision = str(backbone.hub_id), str(backbone.revision)
        try:
            # A gated repository lists its files to everybody and gives them to some.
            get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision), timeout=PROBE_SECONDS)
            needed_files(backbone, listed_files(backbone, timeout=PROBE_SECONDS))
        except DataError as error:
            return str(error)
        except Exception as error:  # the hub's client raises its own errors, its transport's and the system's
            return _refusal(error)
        return None

    def dataset(self, repository: str, revision: str) -> str | None:
        """None if the hub has this revision of the dataset, else the reason."""
        return self._once(("dataset", repository, revision), lambda: self._dataset(repository, revision))

    def _dataset(self, repository: str, revision: str) -> str | None:
        import huggingface_hub

        try:
            huggingface_hub.HfApi().dataset_info(repository, revision=revision, timeout=PROBE_SECONDS)
        except Exception as error:  # as above
            return _refusal(error)
        return None

    def package(self, requirement: str) -> str | None:
        """None if pip's registry lists `name==version`, else the reason."""
        name, _, version = requirement.partition("==")
        command = [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return "not reached (no answer)"
        if answer.returncode != 0:
            return "not reached, or without this package"
        return None if version in answer.stdout.replace(",", " ").split() else f"without version {version}"


def _refusal(error: Exception) -> str:
    kind = type(error).__name__
    return {
        "GatedRepoError": "gated: this user has no access",
        "RepositoryNotFoundError": "the hub has no such repository, or this user may not see it",
        "RevisionNotFoundError": "the hub has no such revision",
    }.get(kind, f"not reached ({kind})")


def as_dict(found: Examination) -> dict[str, Any]:
    """JSON form; `can_run` is also true if only the network is needed, which `state` shows."""
    from pipelines.commands.planning import as_dict as plan_as_dict

    return {
        "root": str(found.root),
        "machine": asdict(found.machine),
        "software": [asdict(finding) for finding in found.software],
        "corpora": [asdict(finding) for finding in found.corpora],
        "weights": [asdict(finding) for finding in found.weights],
        "profiles": {
            profile.name: {
                "state": profile.state,
                "can_run": profile.can_run,
                "command": profile.command,
                "unmet": [asdict(need) for need in profile.needs if need.state != "ok"],
            }
            for profile in found.profiles
        },
        "plan": None if found.plan is None else plan_as_dict(found.plan),
    }


def show_summary(found: Examination) -> None:
    """What this machine can run and what is in the way, in at most 12 lines of 80 columns."""
    from rich.markup import escape

    console = standard_output()
    for title, text in summary_lines(found):
        room = 70 if title != "Fix" else len(text)  # a command is never cut
        text = text if len(text) <= room else f"{text[: room - 3]}..."
        console.print(f"[bold]{escape(title):9}[/] {escape(text)}", soft_wrap=True)


def summary_lines(found: Examination) -> list[tuple[str, str]]:
    """(title, text) of each line of the summary."""
    from pipelines.commands.planning import summary

    machine = found.machine
    memory = f"{machine.memory / 1e9:.0f} GB" if machine.memory else "unknown"
    lines = [
        (
            "Machine",
            f"{machine.threads} threads, {machine.device}, memory {memory}, disk {machine.disk_free / 1e9:.0f} GB free",
        ),
        ("Software", "; ".join(_short(need) for need in found.software)),
    ]
    for profile in found.profiles:
        lines.append((profile.name, _status(profile)))
    if found.plan is not None:
        lines += [("", text) for text in summary(found.plan)]
    blocked = next((need for profile in found.profiles for need in profile.needs if need.state == "missing"), None)
    if blocked is not None:
        lines.append(("Fix", f"{blocked.name}: {blocked.fix[0] if blocked.fix else blocked.text}"))
    lines.append(("More", "replicate doctor --full; replicate plan --profile paper"))
    return lines


def _short(need: Finding) -> str:
    quoted = need.text.partition('"')[2].partition('"')[0]  # of `java -version`
    return f"{need.name} {quoted or need.text.partition(':')[0].partition(';')[0].removesuffix(' in constraints.txt')}"


def _status(profile: Profile) -> str:
    stops = "network" if profile.can_run else "missing"
    names = dict.fromkeys(need.name for need in profile.needs if need.state == stops)
    return {
        "ready": f"can run: {profile.command}",
        "needs network": f"can run, needs network for {len(names)}: {profile.command}",
        "blocked": f"cannot run: {', '.join(names)}",
    }[profile.state]


def show(found: Examination) -> None:
    """The screen: at most 80 columns, except for a command that is longer, which is never broken."""
    from rich.markup import escape

    console = standard_output()
    machine = found.machine
    memory = f"{machine.memory / 1e9:.1f} GB" if machine.memory else "unknown"
    facts = [
        f"Python {machine.python} on {machine.system}, {machine.threads} threads, device {machine.device}",
        f"memory {memory}, disk {machine.disk_free / 1e9:.1f} GB free",
    ]
    console.print("[bold]Machine[/]")
    for fact in facts:
        console.print(f"  {escape(fact)}")
    for title, findings in (("", found.software), ("Corpora", found.corpora), ("Weights", found.weights)):
        _section(console, title, findings)
    console.print("[bold]Profiles[/]")
    for profile in found.profiles:
        colour = {"ready": "green", "needs network": "yellow", "blocked": "red"}[profile.state]
        stops = "network" if profile.can_run else "missing"
        why = ", ".join(need.name for need in profile.needs if need.state == stops)
        status = {
            "ready": "can run",
            "needs network": f"can run, needs network for {why}",
            "blocked": f"cannot run: {why}",
        }[profile.state]
        command = f"\n[bold]{profile.command}[/]" if profile.can_run else ""
        console.print(_row(colour, profile.name, status + command))
    _commands(console, found)


_MARKS = {
    "ok": "green",
    "unused": "dim",
    "pipeline": "green",
    "network": "yellow",
    "limited": "yellow",
    "missing": "red",
}


def _section(console: Console, title: str, findings: Iterable[Finding]) -> None:
    from rich.markup import escape

    if title:
        console.print(f"[bold]{title}[/]")
    for finding in findings:
        console.print(_row(_MARKS[finding.state], finding.name, escape(finding.text)))


def _row(colour: str, name: str, text: str) -> Any:
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(width=18)
    grid.add_column()
    mark = {"green": "+", "dim": " ", "yellow": "~", "red": "-"}[colour]
    grid.add_row(f"[{colour}]{mark}[/]", name, text)
    return grid


def _commands(console: Console, found: Examination) -> None:
    """Each unmet requirement once, equal ones together, each command on its own line, ready to copy."""
    from rich.markup import escape

    texts: dict[str, str] = {}
    alike: dict[str, dict[str, None]] = {}
    commands: dict[str, dict[str, None]] = {}
    for need in (need for profile in found.profiles for need in profile.needs if need.fix):
        text = texts.setdefault(need.name, need.text)
        alike.setdefault(text, {})[need.name] = None
        commands.setdefault(text, {}).update(dict.fromkeys(need.fix))
    if not texts:
        console.print("Nothing to fix.")
        return
    console.print("[bold]How to fix it[/]" + ("" if found.root == Path.cwd() else f"  (run in {found.root})"))
    for text, names in alike.items():
        console.print(f"  {escape(', '.join(names))}: {escape(text)}")
        for command in commands[text]:
            console.print(f"    [bold]{escape(command)}[/]", soft_wrap=True)
