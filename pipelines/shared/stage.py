"""Shared by the stage programs: options, error handling, and short progress lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.processes import leave, run_once, writes
from pipelines.shared.signals import obey
from replication.errors import ReplicationError, Stopped, printable
from replication.fileio import system_fault

# Loading a checkpoint takes a second; its bar would drown the bars of the steps that take minutes.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

Params = Annotated[Path, typer.Option(help="The profile's params.yaml.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check every setting and show what would be done, without doing it.")
]


def say(text: str) -> None:
    """One line of progress, at once, made `printable`; of several processes rank 0 speaks."""
    if writes():
        print(printable(text), flush=True)


def run_stage(main: Callable[..., Any], *, distributed: bool = False) -> None:
    """Run a stage program; an expected error prints its message to stderr and exits with 2, a signal n with 128 + n.

    Started by `torchrun`, a stage that is not `distributed` runs once, in rank 0.
    """
    if not distributed:
        run_once()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    obey()
    try:
        app()
    except Stopped as signalled:
        print(signalled, file=sys.stderr, flush=True)
        sys.exit(128 + signalled.number)
    except ReplicationError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Exception as error:
        if (text := system_fault(error)) is None:
            raise
        print(f"error: {printable(text)}", file=sys.stderr, flush=True)
        sys.exit(2)
    finally:
        leave()
