"""`replicate count-published`: every parameter count of the papers again, on the real architectures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from replication.fileio import write_json
from replication.terminal import examples, working


def register(app: typer.Typer) -> None:
    """Add `count-published` to the root command."""
    epilog = examples("replicate count-published", "replicate count-published --json")
    app.command("count-published", epilog=epilog)(count_published)


def count_published(
    output: Annotated[
        Path | None, typer.Option(help="File to write, e.g. measurements/full_scale/parameters.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recount the published parameter counts, without weights or memory; the report compares them."""
    with working("counting on the real architectures"):
        content = published_counts()
    if output is not None:
        write_json(output, content)
    if as_json:
        typer.echo(json.dumps(content, ensure_ascii=False))
        return
    for cell in content["cells"]:
        count = f"{cell['count']:,}" if cell["count"] is not None else "-"
        typer.echo(f"{cell['id']:42} {count:>14}  {cell['how']}")
    for row in content["solo_grid"]:
        share = 1 - row["solo"] / row["lora"]
        typer.echo(f"{row['backbone']}, k={row['skip_length']}: {row['solo']:,}, {100 * share:.1f} % fewer than LoRA")


def published_counts() -> dict[str, Any]:
    """The content of measurements/full_scale/parameters.json."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from studies.published_counts import cells, solo_grid

    return {
        "schema_version": 1,
        "made_by": "replicate count-published --output measurements/full_scale/parameters.json",
        "about": "Parameters counted on the real architectures (meta device, no weights) or by closed forms.",
        "cells": [cell.to_dict() for cell in cells()],
        "solo_grid": solo_grid(),
    }
