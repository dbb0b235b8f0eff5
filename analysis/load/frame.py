"""One tidy pandas frame of every score: `frame()`, or `from analysis import results_frame`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.load.constant import constant_seeds
from analysis.load.judgement import load_judgement
from analysis.load.names import method_key, method_label, planned_end
from analysis.load.runs import Experiment, discover
from replication.errors import DataError

RUNS = Path(__file__).resolve().parents[2] / "runs"
COLUMNS = (
    "profile", "backbone", "task", "method", "seed", "metric", "value", "primary", "experiment", "label", "corpus",
    "form", "rank", "K", "adapter_parameters", "items", "status", "role", "constant",
)  # fmt: skip


def frame(runs: str | Path = RUNS, profile: str | None = None) -> pd.DataFrame:
    """One row per experiment, seed and metric, with `COLUMNS`, from the folder that holds <profile>/<experiment>/.

    `value` is on the metric scripts' own scale (BLEU 0.72, accuracy 0.86), missing where a metric was not measured.
    `primary` marks the metric that leads its task. `rank` and `K` (kept adapters), those of the last step, are missing
    for methods without them; `adapter_parameters` are that seed's. `role` is what the runs enter
    (`paper_results/judgement.yaml`): compared, gate, draws, pilot or earlier.
    `constant`: this seed predicts the same for every example. An experiment without scores has no row. For example, the
    mean of each method on each task:

    >>> results = frame(profile="quick").query("primary and status == 'complete'")
    >>> results.groupby(["task", "method"])["value"].mean()

    DataError when the folder, or the profile in it, does not exist.
    """
    folder = Path(runs) / (profile or "")
    if not folder.is_dir():
        known = sorted(path.name for path in Path(runs).iterdir() if path.is_dir()) if Path(runs).is_dir() else []
        hint = f"profiles with runs: {', '.join(known)}" if known else "one profile: results_frame(profile=...)"
        raise DataError(f"{folder}: no such folder; {hint}")
    return frame_of(discover(runs, profile))


def frame_of(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """The frame of experiments that were read already."""
    role = load_judgement().role
    records: list[dict[str, Any]] = []
    for experiment in experiments:
        record, metrics = experiment.record, experiment.metrics
        if metrics is None:
            continue
        config = record.method_config if record else {}
        kept, rank = planned_end(record.method, config) if record else (None, None)
        if record and record.method == "peft_baselines":
            rank = config["settings"].get("target_r", config["settings"].get("r"))
        about = {
            "profile": experiment.profile,
            "backbone": record.backbone if record else None,
            "task": record.task if record else None,
            "method": method_key(record.method, config) if record else None,
            "experiment": experiment.name,
            "label": method_label(record.method, config) if record else experiment.name,
            "corpus": record.corpus.name if record else None,
            "form": experiment.form,
            "rank": rank,
            "K": kept,
            "items": metrics.items,
            "status": experiment.status,
            "role": role(experiment.profile, experiment.name),
        }
        alike = constant_seeds(experiment)
        for seed, scores in metrics.seeds.items():
            trained = experiment.records[seed].counts.adapter if seed in experiment.records else None
            of_seed = {**about, "seed": seed, "constant": seed in alike, "adapter_parameters": trained}
            for metric in metrics.metrics:
                primary = metric == metrics.primary
                records.append({**of_seed, "metric": metric, "value": scores[metric], "primary": primary})
    found = pd.DataFrame(records, columns=list(COLUMNS))
    whole = dict.fromkeys(("seed", "rank", "K", "adapter_parameters", "items"), "Int64")
    return found.astype({**whole, "value": "float64", "primary": "bool", "constant": "bool"})
