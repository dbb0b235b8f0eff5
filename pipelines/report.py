"""Stage `report`: records and published figures become tables, figures and one page. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from pipelines.settings import load_settings
from pipelines.stage import DryRun, Params, run_stage, say


def main(params: Params, dry_run: DryRun = False) -> None:
    """Build the profile's report."""
    settings = load_settings(params)
    output = Path("reports") / settings.profile
    if dry_run:
        say(f"would build {output}/index.html from {len(settings.experiments)} experiments")
        return
    from analysis.report import build_report

    page = build_report(
        profile=settings.profile,
        runs=Path("runs") / settings.profile,
        output=output,
        experiments=list(settings.experiments),
        deviations=list(settings.deviations),
    )
    say(f"report: {page}")


if __name__ == "__main__":
    run_stage(main)
