"""Stage `search`: the learning rate of one method, by the same procedure as for every other method of its plan.

Rates are compared by the loss on a held-out part of the training split; neither dev rows nor test examples are read.
Every candidate is tried with the plan's first seed; the two best are tried with its other seeds, and the lower mean
wins. While the winner is the smallest or the largest rate tried, one more beyond it is tried.

Writes searches/<profile>/<case>.json, which is committed and read by the report. Its outcome is a decision and must not
change because a float differs elsewhere: the stage is frozen, and runs when its file is absent or by
`make search CASE=...`. A person writes the rate into params.yaml, or an experiment takes it over from the file, by
`learning_rate: {search: <case>}`. A search that was stopped continues with the remaining trials.
"""

from __future__ import annotations

import random
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.experiment import Experiment, resolve_search
from pipelines.shared.lock import discard_others, held
from pipelines.shared.paths import Rows, read_rows, search_path
from pipelines.shared.preflight import require
from pipelines.shared.settings import Search, load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.errors import ConfigError, TrainingError
from replication.fileio import read_json, remove_leftovers, sha256_json, write_json
from replication.records import machine_conditions, versions

Losses = dict[float, dict[int, float | None]]
"""Learning rate -> seed -> held-out loss (None: training diverged)."""


def main(
    params: Params,
    case: Annotated[str, typer.Option(help="A name under `searches`.")],
    dry_run: DryRun = False,
) -> None:
    """Search one method's learning rate."""
    settings = load_settings(params)
    chosen = resolve_search(settings, case)
    search = chosen.search
    assert search is not None
    if dry_run:
        say(f"would try learning rates {list(search.learning_rates)} for {case}, {search.steps} steps each")
        return
    require(chosen)
    path = search_path(chosen.profile, case)
    with held(chosen.lock, case):
        remove_leftovers(path.parent, path.name)
        remove_leftovers(chosen.scratch)
        result = search_learning_rate(chosen, search)
        described = {**settings.search_case(case).model_dump(mode="json"), "settings": dict(chosen.settings)}
        write_json(path, {**described, **search.model_dump(mode="json"), **result})
        shutil.rmtree(chosen.scratch / "search", ignore_errors=True)  # what was tried, kept until the result is
    say(f"{case}: best learning rate {result['best']:g}")


def search_learning_rate(experiment: Experiment, search: Search) -> dict[str, Any]:
    """Run every trial of the plan; returns the trials, by rate and seed, and the best rate."""
    train, held_out = hold_out(read_rows(experiment.prepared, "train"), search)
    plan = {**experiment.identity(search.seeds[0], "search"), "search": search.model_dump(mode="json")}
    folder = experiment.scratch / "search" / sha256_json(plan)[:12]
    discard_others(folder.parent, [folder.name], experiment.key)
    losses: Losses = {}
    while (trial := next_trial(losses, search)) is not None:
        rate, seed = trial
        losses.setdefault(rate, {})[seed] = remembered(experiment, folder, train, held_out, rate, seed)
    return {
        "tried": [
            {"learning_rate": rate, "held_out_loss": mean_loss(losses[rate]), "by_seed": losses[rate]}
            for rate in sorted(losses)
        ],
        "best": best_rate(losses, search),
        "code_sha256": experiment.code("search"),
        "versions": versions(),
        "conditions": machine_conditions(experiment.threads).model_dump(),
    }


def next_trial(losses: Losses, search: Search) -> tuple[float, int] | None:
    """The next rate and seed to try: the candidates, the two best again, then beyond an edge; None if decided."""
    first, *others = search.seeds
    for rate in search.learning_rates:
        if rate not in losses:
            return rate, first
    for rate in two_best(losses, first):
        for seed in others:
            if seed not in losses[rate]:
                return rate, seed
    further = beyond_edge(sorted(losses), best_rate(losses, search))
    extended = len(losses) - len(search.learning_rates)
    return None if further is None or extended >= search.extensions else (further, first)


def two_best(losses: Losses, seed: int) -> list[float]:
    """The two rates with the least loss under this seed, those that diverged left out."""
    finite = [(by_seed[seed], rate) for rate, by_seed in losses.items() if by_seed[seed] is not None]
    return [rate for _, rate in sorted(finite)[:2]]


def mean_loss(by_seed: Mapping[int, float | None]) -> float | None:
    """Mean over the seeds tried; None if training diverged with one of them."""
    values = [loss for loss in by_seed.values() if loss is not None]
    return statistics.fmean(values) if len(values) == len(by_seed) else None


def best_rate(losses: Losses, search: Search) -> float:
    """The rate with the least mean loss among those tried with every seed; the smaller one on a tie.

    TrainingError if there is none, because every one diverged.
    """
    means = {rate: mean_loss(by_seed) for rate, by_seed in losses.items() if len(by_seed) == len(search.seeds)}
    finite = [(loss, rate) for rate, loss in means.items() if loss is not None]
    if not finite:
        raise TrainingError(f"every learning rate diverged: {sorted(losses)}; offer smaller ones under `search`")
    return min(finite)[1]


def beyond_edge(rates: Sequence[float], best: float) -> float | None:
    """One more rate when the best of these ascending ones lies at an edge, as far again as its neighbour; else None."""
    if best == rates[0]:
        return float(f"{rates[0] * rates[0] / rates[1]:.3g}")
    if best == rates[-1]:
        return float(f"{rates[-1] * rates[-1] / rates[-2]:.3g}")
    return None


def hold_out(rows: Rows, search: Search) -> tuple[list[Any], list[Any]]:
    """Split whole sources away from the training rows, so that no context, passage, premise or document is on both
    sides.
    """
    sources = sorted({source_of(row) for row in rows})
    random.Random(search.seeds[0]).shuffle(sources)
    held: set[str] = set()
    count = 0
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[source_of(row)] = sizes.get(source_of(row), 0) + 1
    for source in sources:
        if count >= search.held_out_examples:
            break
        held.add(source)
        count += sizes[source]
    train = [row for row in rows if source_of(row) not in held]
    if not train:
        raise ConfigError(f"held_out_examples={search.held_out_examples}: nothing is left of {len(rows)} training rows")
    return train, [row for row in rows if source_of(row) in held]


def source_of(row: Any) -> str:
    """The text of a row, of a question with a passage the passage."""
    return str(next(row[field] for field in ("context", "passage", "text", "question", "document") if field in row))


def remembered(
    experiment: Experiment, folder: Path, train: Rows, held_out: Rows, rate: float, seed: int
) -> float | None:
    """`held_out_loss`, read back from `folder` where an earlier start with the same identity measured it."""
    identity = {**experiment.identity(seed, "search"), "rate": rate}
    path = folder / f"rate-{rate:g}-seed-{seed}-{sha256_json(identity)[:12]}.json"
    if not path.is_file():
        checkpoint = path.with_suffix("")
        write_json(path, held_out_loss(experiment, train, held_out, rate, seed, checkpoint, identity))
        shutil.rmtree(checkpoint, ignore_errors=True)
    loss: float | None = read_json(path)
    shown = "diverged" if loss is None else f"held-out loss {loss:.4f}"
    say(f"{experiment.key}: rate {rate:g}, seed {seed}: {shown}")
    return loss


def held_out_loss(
    experiment: Experiment,
    train: Rows,
    held_out: Rows,
    rate: float,
    seed: int,
    checkpoint: Path,
    identity: dict[str, Any],
) -> float | None:
    """Loss after the search's steps at this rate; None if training diverged."""
    from pipelines.shared.fitting import fit

    title = f"search {experiment.key}, seed {seed}"
    try:
        return fit(
            experiment.with_training(learning_rate=rate),
            train,
            held_out,
            seed=seed,
            title=title,
            checkpoint_directory=checkpoint,
            identity=identity,
        ).result.dev_loss
    except TrainingError as error:
        say(f"{experiment.key}: rate {rate:g}, seed {seed}: {error}")
        return None


if __name__ == "__main__":
    run_stage(main)
