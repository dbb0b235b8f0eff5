"""The data behind the figures as csv, one observation a line: for `dvc plots` and for anyone's own drawing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.judge.study import Study
from analysis.load.runs import GENERATION, Experiment
from replication.fileio import replaced_directory, write_text


def write_plots(output: Path, experiments: Sequence[Experiment], study: Study) -> None:
    """losses.csv, task_losses.csv, homotopy.csv and scores.csv in `output`/plots."""
    losses: list[dict[str, Any]] = []
    homotopy: list[dict[str, Any]] = []
    task_losses: list[dict[str, Any]] = []
    for experiment in experiments:
        generates = experiment.form == GENERATION
        for seed, curve in experiment.curves.items():
            where = {"experiment": experiment.name, "seed": seed}
            for record in curve.to_dict("records"):
                (losses if generates else task_losses).append(
                    {**where, **{k: record[k] for k in ("step", "loss", "dev_loss", "learning_rate")}}
                )
                for name, value in record.items() if generates else ():
                    kind, bracket, link = str(name).partition("[")
                    if bracket and pd.notna(value):
                        homotopy.append(
                            {
                                **where,
                                "step": record["step"],
                                "connection": link[:-1],
                                "quantity": kind,
                                "value": value,
                            }
                        )
    scores = [
        {"experiment": row.experiment, "adapter": row.counts["adapter"][1], "BLEU": round(summary.mean, 6)}
        for row in study.generation.rows_as_given
        if (summary := row.scores.get("BLEU"))
    ]
    columns = {
        "losses": ["experiment", "seed", "step", "loss", "dev_loss", "learning_rate"],
        "task_losses": ["experiment", "seed", "step", "loss", "dev_loss", "learning_rate"],
        "homotopy": ["experiment", "seed", "step", "connection", "quantity", "value"],
        "scores": ["experiment", "adapter", "BLEU"],
    }
    with replaced_directory(output / "plots") as folder:
        for name, data in (
            ("losses", losses),
            ("task_losses", task_losses),
            ("homotopy", homotopy),
            ("scores", scores),
        ):
            frame = pd.DataFrame(data, columns=columns[name])
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
