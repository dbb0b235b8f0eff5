"""What the stage programs share: their options, their errors, and small lines that say what is going on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from replication.errors import ReplicationError

Params = Annotated[Path, typer.Option(help="The profile's params.yaml.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check every setting, say what would be done, do nothing.")]


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, flush=True)


def run_stage(main: Callable[..., Any]) -> None:
    """Run a stage program; an expected error prints its message to stderr and exits with 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
