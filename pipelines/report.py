"""Stage `report`: records and published figures become tables, figures and one page. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.shared.experiment import described
from pipelines.shared.lock import held
from pipelines.shared.settings import Settings, load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.fileio import remove_leftovers


def main(params: Params, dry_run: DryRun = False) -> None:
    """Build the profile's report."""
    settings = load_settings(params)
    output = Path("reports") / settings.profile
    if dry_run:
        say(f"would build {output}/index.html from {len(settings.experiments)} experiments")
        return
    say(f"report: {build(settings)}")


def build(settings: Settings) -> Path:
    """Build the report, alone on its folder; returns the page."""
    from analysis.show.report import build_report

    with held(Path("checkpoints") / settings.profile / "report.lock", f"reports/{settings.profile}"):
        remove_leftovers("reports", settings.profile)
        return build_report(**arguments(settings))


def arguments(settings: Settings) -> dict[str, Any]:
    """What `build_report` takes for a profile."""
    return {
        "profile": settings.profile,
        "runs": Path("runs") / settings.profile,
        "output": Path("reports") / settings.profile,
        "experiments": planned(settings),
        "deviations": list(settings.deviations),
        "searches": Path("searches") / settings.profile,
        "measurements": Path("measurements") / settings.profile,
        "processes": 2,
    }


def planned(settings: Settings) -> dict[str, Any]:
    """Each experiment of the profile, whether it has run or not."""
    from analysis.load.runs import Planned

    plan = {}
    for key, row in settings.experiments.items():
        experiment = described(settings, key)
        plan[key] = Planned(
            experiment.backbone.name,
            experiment.task,
            experiment.method,
            experiment.form.name,
            dict(experiment.settings),
            experiment.corpus["name"],
            row.case,
            seeds=experiment.seeds,
        )
    return plan


if __name__ == "__main__":
    run_stage(main)
