"""Stage `search`: the learning rate of one method, from the same candidates as every other method of its plan.

The candidates are compared by the loss on a held-out part of the training split; neither dev rows nor reported items
are read. When the best is the smallest or the largest, one more candidate is tried beyond it.

Writes searches/<profile>/<case>.json, which is committed and read by the report. Its outcome is a decision, written
into params.yaml by a person, and must not change because a float differs elsewhere: the stage is frozen, and
`make search CASE=...` runs it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.plan import Plan, plan_search, training_config
from pipelines.settings import Search, load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from pipelines.tasks import Rows, read_rows
from replication.errors import ConfigError, TrainingError
from replication.fileio import write_json


def main(
    params: Params,
    case: Annotated[str, typer.Option(help="A name under `searches`.")],
    dry_run: DryRun = False,
) -> None:
    """Search one method's learning rate."""
    settings = load_settings(params)
    plan = plan_search(settings, case)
    search = settings.search[settings.search_case(case).plan]
    if dry_run:
        say(f"would try learning rates {list(search.learning_rates)} for {plan.key}, {search.steps} steps each")
        return
    result = search_learning_rate(plan, search)
    say(f"{plan.key}: best learning rate {result['best']:g}")
    described = settings.search_case(case).model_dump(mode="json")
    path = Path("searches") / settings.profile / f"{case}.json"
    write_json(path, {**described, **search.model_dump(mode="json"), **result})


def search_learning_rate(plan: Plan, search: Search) -> dict[str, Any]:
    """Try every candidate, then one beyond an edge winner; returns what was tried and the best."""
    train, held_out = hold_out(read_rows(plan.prepared, "train"), search)
    losses = {rate: held_out_loss(plan, search, train, held_out, rate) for rate in search.learning_rates}
    further = beyond_edge(losses)
    if further is not None:
        losses[further] = held_out_loss(plan, search, train, held_out, further)
    return {
        "tried": [{"learning_rate": rate, "held_out_loss": losses[rate]} for rate in sorted(losses)],
        "best": best_rate(losses),
    }


def hold_out(rows: Rows, search: Search) -> tuple[list[Any], list[Any]]:
    """Split whole sources away from the training rows, so that no context, premise or document is on both sides."""
    sources = sorted({source_of(row) for row in rows})
    random.Random(search.seed).shuffle(sources)
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
    """The text that a row asks about."""
    return str(next(row[field] for field in ("context", "text", "question", "document") if field in row))


def held_out_loss(plan: Plan, search: Search, train: Rows, held_out: Rows, rate: float) -> float | None:
    """Loss after `search.steps` steps at this rate; None when training diverged."""
    from pipelines.fitting import fit

    steps = search.steps
    training = training_config(
        plan.settings,
        plan.experiment.task,
        rate,
        steps=steps,
        warmup_steps=min(plan.training.warmup_steps, steps // 10),
        eval_every=steps,
        checkpoint_every=steps,
    )
    try:
        fitted = fit(plan, train, held_out, training, seed=search.seed, title=f"search {plan.key}, rate {rate:g}")
    except TrainingError as error:
        say(f"{plan.key}: rate {rate:g} diverged ({error})")
        return None
    say(f"{plan.key}: rate {rate:g}, held-out loss {fitted.result.dev_loss:.4f}")
    return fitted.result.dev_loss


def best_rate(losses: dict[float, float | None]) -> float:
    """The rate with the least loss; the smaller one on a tie. TrainingError when every candidate diverged."""
    finite = [(loss, rate) for rate, loss in losses.items() if loss is not None]
    if not finite:
        raise TrainingError(f"every learning rate diverged: {sorted(losses)}; offer smaller ones under `search`")
    return min(finite)[1]


def beyond_edge(losses: dict[float, float | None]) -> float | None:
    """One more candidate when the best lies at an edge, as far again as its neighbour; None when it lies inside."""
    rates = sorted(losses)
    best = best_rate(losses)
    if best == rates[0]:
        return rates[0] * rates[0] / rates[1]
    if best == rates[-1]:
        return rates[-1] * rates[-1] / rates[-2]
    return None


if __name__ == "__main__":
    run_stage(main)
