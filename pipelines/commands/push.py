"""`replicate push`: the adapter of a run to the Hugging Face hub, with its scores in the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.load.runs import read_metrics, scores_file
from pipelines.shared.records import data_of
from replication.commands.export import making
from replication.errors import AdapterError, ConfigError
from replication.records import read_record
from replication.terminal import examples, working

REPORTED = "Measured by this project with the paper's settings; its report judges each score against the published one."
UNREPORTED = (
    "Measured with the settings of the profile {}, which are not the paper's: compares with no published score."
)


def register(app: typer.Typer) -> None:
    """Add `push` to the `replicate` command."""
    app.command("push", epilog=examples("replicate push runs/quick/lora --seed 18 --dry-run --json"))(push)


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/<profile>/<experiment>.")],
    seed: Annotated[int, typer.Option(help="The seed whose adapter is uploaded.")],
    repo: Annotated[str | None, typer.Option(help="Repository on the hub, e.g. me/lora-e2e; made if missing.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make it private, if it is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the model card and upload nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Upload one seed's adapter, with data, profile and scores in its model card. Log in first: `hf auth login`."""
    record = read_record(run / "training" / f"seed-{seed}" / "record.json").model_dump(mode="json")
    facts = run_facts(run, seed, record)
    adapter = run / "adapter" / f"seed-{seed}"
    with working(f"reading {run}" if dry_run else f"uploading {adapter}"):
        from replication.methods import push_to_hub
        from replication.methods.shared.card import card_facts, render_card
        from replication.methods.shared.saving import read_description, saved_files

        if dry_run:
            path = saved_files(adapter)[0]
            known = read_description(path) if path.is_file() else described(record)
            shown = render_card({**known, "card": card_facts({**known.get("card", {}), **facts})})
            typer.echo(json.dumps({"card": shown}) if as_json else shown.rstrip())
            return
        if repo is None:
            raise ConfigError("--repo: name the repository, such as me/lora-e2e, or print the card with --dry-run")
        if not adapter.is_dir():
            raise AdapterError(f"{adapter}: no such folder; {making(adapter)}name another run or seed")
        address = push_to_hub(adapter, repo, card=facts, private=private or None)
    typer.echo(json.dumps({"repo": repo, "adapter": str(adapter), "commit": address}) if as_json else address)


def run_facts(run: Path, seed: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of one seed of a run; without scores where the run has none yet."""
    facts = {"profile": record["profile"], "experiment": record["experiment"], "seed": seed}
    facts["standing"] = REPORTED if record["profile"] == "paper" else UNREPORTED.format(record["profile"])
    facts["data"] = data_of(record["corpus"])
    path = scores_file(run)
    if not path.is_file():
        return facts
    metrics = read_metrics(path, run)
    if seed not in metrics.seeds:
        raise ConfigError(f"--seed {seed}: {path} has scores of the seeds {', '.join(map(str, metrics.seeds))}")
    scores = {
        f"{name} (approximate)" if name in metrics.approximate else name: value
        for name, value in metrics.seeds[seed].items()
    }
    return {**facts, "scores": scores}


def described(record: Mapping[str, Any]) -> dict[str, Any]:
    """A description for the card of an adapter that is not here, as in a clone."""
    return {
        "method": record["method"],
        "config": record["method_config"],
        "base": {"class": record["backbone"]},
        "parameter_count": record["counts"]["trainable"],
    }
