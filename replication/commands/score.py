"""`replicate score`: scores of predictions in files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replication.metrics import Scores

score_app = typer.Typer(name="score", help="Score predictions against references.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `score` and its sub-commands to the root command."""
    app.add_typer(score_app, name="score")


@score_app.command("e2e")
def score_e2e_command(
    predictions: Annotated[
        Path,
        typer.Option("--predictions", "-p", help="One prediction per line, or JSON lines with 'prediction'."),
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            "-r",
            help="One a line, items separated by a blank line; or JSON lines with 'references', or with 'mr' "
            "and 'ref'. Not needed when the predictions carry theirs.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    java: Annotated[
        bool, typer.Option("--java/--no-java", help="--no-java scores as on a machine without Java.")
    ] = True,
) -> None:
    """BLEU, NIST, METEOR, ROUGE-L and CIDEr as in the E2E challenge's scripts (Python mteval mode)."""
    from replication.metrics import score_e2e
    from replication.metrics.score_files import read_items

    items = read_items(predictions, references)
    with _progress() as say:
        scores = score_e2e(items.predictions, items.references, java="auto" if java else None, progress=say)
    if as_json:
        typer.echo(json.dumps(scores.to_dict(), ensure_ascii=False, indent=2))
    else:
        _print_table(scores)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A function that shows the step under way on stderr: a spinner on a terminal, else one line per step."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    status = console.status("reading") if console.is_terminal else nullcontext()
    with status as spinner:
        yield spinner.update if spinner is not None else lambda step: print(f"score: {step}", file=sys.stderr)


def _print_table(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"E2E scores of {scores.items} items")
    table.add_column("metric")
    table.add_column("score", justify="right")
    table.add_column("status")
    for metric, value in scores.values.items():
        status = "official"
        if metric in scores.approximate:
            status = "approximate: not the official tokenizer"
        elif metric in scores.missing:
            status = "missing: needs Java"
        table.add_row(metric, "-" if value is None else f"{value:.4f}", status)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"Tokenizer of METEOR, ROUGE_L and CIDEr: {scores.tokenizer}.", markup=False)
    if scores.approximate or scores.missing:
        console.print("BLEU and NIST are exact. Install a Java runtime (Debian: default-jre-headless) for the rest.")
    for note in scores.notes:
        console.print(f"Note: {note}.", markup=False)
