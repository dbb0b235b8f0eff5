"""The `replicate` command. Every sub-command is a plug-in of the entry-point group `replication.commands`."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from replication.errors import ReplicationError

GROUP = "replication.commands"


def build_app() -> typer.Typer:
    """Collect the commands of all installed packages, in alphabetical order."""
    app = typer.Typer(
        name="replicate",
        help="Replication and analysis of two parameter-efficient fine-tuning papers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def main() -> None:
    """Run the command line; an expected error prints its message to stderr and exits with 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # bars of one second would drown our own
    try:
        build_app()()
    except ReplicationError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {_escaped(error)}")
        sys.exit(2)


def _escaped(error: ReplicationError) -> str:
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
