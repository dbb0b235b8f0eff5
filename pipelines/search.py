"""Search the learning rate of one method, from the same candidates as every other method: `make search`.

The candidates are compared by the loss on a held-out part of the training split; neither dev nor test split is read.
When the best is the smallest or the largest, one more candidate is tried beyond it.

Writes runs/<profile>/<experiment>/search.json, which is committed and read by the report. Not a DVC stage: its
outcome is a decision, written into params.yaml by a person, and must not change because a float differs elsewhere.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.plan import Plan, plan_experiment, training_config
from pipelines.settings import Search, load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from replication.errors import ConfigError, TrainingError
from replication.fileio import write_json

if TYPE_CHECKING:
    from replication.examples import TextPair


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Search one experiment's learning rate."""
    plan = plan_experiment(load_settings(params), experiment)
    search = plan.settings.search
    if search is None:
        say(f"{plan.key}: no search in this profile; the rate is {plan.experiment.learning_rate:g}")
        if not dry_run:
            write_json(plan.run / "search.json", {"tried": [], "best": None, "reason": "the rate is the recipe's"})
        return
    if dry_run:
        say(f"would try learning rates {list(search.learning_rates)} for {plan.key}, {search.steps} steps each")
        return
    if plan.experiment.method == "frozen":
        result: dict[str, Any] = {"tried": [], "best": None, "reason": "nothing is trained"}
    else:
        result = search_learning_rate(plan, search)
        say(f"{plan.key}: best learning rate {result['best']:g}")
    write_json(plan.run / "search.json", {**search.model_dump(mode="json"), **result})


def search_learning_rate(plan: Plan, search: Search) -> dict[str, Any]:
    """Try every candidate, then one beyond an edge winner; returns what was tried and the best."""
    from pipelines.fitting import load_pairs

    pairs, _ = load_pairs(plan)
    train, held_out = hold_out(pairs, search)
    losses = {rate: held_out_loss(plan, search, train, held_out, rate) for rate in search.learning_rates}
    further = beyond_edge(losses)
    if further is not None:
        losses[further] = held_out_loss(plan, search, train, held_out, further)
    best = best_rate(losses)
    return {
        "tried": [{"learning_rate": rate, "held_out_loss": losses[rate]} for rate in sorted(losses)],
        "best": best,
    }


def hold_out(pairs: list[TextPair], search: Search) -> tuple[list[TextPair], list[TextPair]]:
    """Split whole contexts away from the training pairs, so that no meaning representation is on both sides."""
    contexts = sorted({pair.context for pair in pairs})
    random.Random(search.seed).shuffle(contexts)
    held: set[str] = set()
    count = 0
    sizes: dict[str, int] = {}
    for pair in pairs:
        sizes[pair.context] = sizes.get(pair.context, 0) + 1
    for context in contexts:
        if count >= search.held_out_examples:
            break
        held.add(context)
        count += sizes[context]
    train = [pair for pair in pairs if pair.context not in held]
    if not train:
        raise ConfigError(f"search.held_out_examples={search.held_out_examples}: nothing is left of {len(pairs)} pairs")
    return train, [pair for pair in pairs if pair.context in held]


def held_out_loss(
    plan: Plan, search: Search, train: list[TextPair], held_out: list[TextPair], rate: float
) -> float | None:
    """Loss after `search.steps` steps at this rate; None when training diverged."""
    from pipelines.fitting import fit

    steps = search.steps
    training = training_config(
        plan.settings,
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
