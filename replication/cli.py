"""The `replicate` command. Every sub-command is a plug-in of the entry-point group `replication.commands`.

Exit codes: 0 done; 1 the command found a problem (it says which); 2 it could not do what was asked (arguments, files,
settings); 3 a fault of the program, with a traceback; 128 + n stopped by signal n.
"""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from replication.errors import ReplicationError, Stopped, on_signals, printable, stop
from replication.fileio import system_fault
from replication.terminal import examples, working

GROUP = "replication.commands"


class Commands(TyperGroup):
    """Loads a command when it is asked for: `--version`, completion and most commands then start without torch."""

    @staticmethod
    def entries() -> dict[str, EntryPoint]:
        """Entry points by name, which is the command's, in alphabetical order."""
        return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, without loading any."""
        return list(self.entries())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None if no package has one of this name."""
        entry = self.entries().get(cmd_name)
        if entry is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = load_command(cmd_name, entry.load())
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in Typer, whose suggestions for a misspelt name are made from the loaded commands."""
        if args and args[0] not in self.entries():
            for name in self.entries():
                self.commands.setdefault(name, typer.main.get_command(_bare()))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of all commands needs them loaded: some seconds."""
        with working("loading"):
            for name in self.entries():
                self.get_command(ctx, name)
        super().format_help(ctx, formatter)


def _bare() -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)  # with a callback a single command keeps its name
    return app


def load_command(name: str, register: Any) -> Any:
    """The command or group `name` that an entry point's function adds to an app."""
    app = _bare()
    register(app)
    return typer.main.get_group(app).commands[name]


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"replicate {version('peft-replication')}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """`replicate` with the commands of all installed packages."""
    app = typer.Typer(
        name="replicate",
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog=examples("replicate doctor", "replicate compare --profile cpu", "replicate show cpu/mrpc-600-lora"),
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        """Replication and analysis of two parameter-efficient fine-tuning papers."""

    return app


def main() -> None:
    """Run the command line; an expected error prints its message to stderr and exits with 2, a fault with 3."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # bars of one second would drown our own
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller, as `2>&-` does
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")  # LC_ALL=C: a dash that cannot be printed is no reason to stop
    on_signals(stop)
    try:
        build_app()()
    except Stopped as signalled:
        print(signalled, file=sys.stderr, flush=True)
        sys.exit(128 + signalled.number)
    except ReplicationError as error:
        _refuse(str(error))
    except Exception as error:
        if (text := system_fault(error)) is None:
            sys.excepthook(*sys.exc_info())
            sys.exit(3)
        _refuse(text)


def _refuse(text: str) -> NoReturn:
    from rich.markup import escape

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(printable(text))}")
    sys.exit(2)


if __name__ == "__main__":
    main()
