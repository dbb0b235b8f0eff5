"""`replicate compare`: claims with their verdicts, and what was measured beside what was published.

`--json` prints one object with these keys, which do not change within `schema_version` 1:

- `profile`; `comparable` (whether its figures may stand beside printed ones) and `why_not_comparable`;
- `claims`: id, paper, number, claim, word (supported, contradicted, inconclusive, not_tested), reason, profile,
  comparison (what the effect is of), metric, effect, over_items and over_seeds (ends of 95 % intervals), adjusted_p,
  detectable, seeds, seed_count, cases (sentences), comparisons, counted, runs, needs, rule, source, standing;
- `comparisons` of a claim, one a comparison of a case: comparison, case, profile, tested, runs, and the numbers of
  `decision.Finding.to_dict` (name, metric, effect, supported_above, contradicted_below, seeds, by_seed, over_items,
  over_seeds, approximate, p_items, p_holm, family, sign_flip_p, smallest_detectable, word, why);
- `published_beside_measured`: printed_row, method, metric, published, published_spread, standing, standing_means,
  source, measured, experiment, verdict (within_tolerance, direction_only, not_reproduced, not_comparable, not_run,
  unreadable);
- `problems`: what could not be read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.beside import BesideCell
    from analysis.claim_rows import ClaimRow

SCHEMA_VERSION = 1
WIDTH = 80  # of what goes to a file or a pipe
COLOURS = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def register(app: typer.Typer) -> None:
    """Add `compare` to the `replicate` command."""
    app.command("compare")(compare)


PROFILES = ("quick", "cpu", "paper")


def compare(
    profile: Annotated[str, typer.Option(help="The profile to compare: quick, cpu or paper.")] = "quick",
    root: Annotated[Path, typer.Option(help="Folder that holds runs/, searches/ and measurements/.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Set the papers' claims and printed figures beside what was measured."""
    from analysis.commands import empty_state
    from replication.errors import DataError

    if len(Path(profile).parts) != 1 or profile in ("..", "."):
        raise DataError(f"--profile {profile!r}: a profile is one name, such as quick")
    runs = root / "runs"
    if profile not in PROFILES and not (runs / profile).is_dir():
        raise DataError(f"--profile {profile!r}: there is none; there are {', '.join(PROFILES)}")
    if not (runs / profile).is_dir() and not as_json:
        print(empty_state(runs, profile))
        return
    found = comparison(profile, root)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        found.show()


class Comparison:
    """The comparison of one profile; `as_json` and `show` give the same."""

    def __init__(
        self,
        profile: str,
        claims: Sequence[ClaimRow],
        cells: Sequence[BesideCell],
        why_not: str | None,
        problems: Sequence[str],
    ) -> None:
        self.profile, self.claims, self.cells = profile, tuple(claims), tuple(cells)
        self.why_not, self.problems = why_not, tuple(problems)

    def as_json(self) -> dict[str, Any]:
        """The keys that the module's docstring lists."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "comparable": self.why_not is None,
            "why_not_comparable": self.why_not,
            "claims": [row.as_json() for row in self.claims],
            "published_beside_measured": [cell.as_json() for cell in self.cells],
            "problems": list(self.problems),
        }

    def show(self) -> None:
        """Print it for a terminal of 80 columns or more."""
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=False)
        if not console.is_terminal:
            console.width = WIDTH
        _show_claims(console, self.profile, self.claims)
        _show_cells(console, self.cells, self.why_not)
        for problem in self.problems:
            console.print(problem, markup=False, style="yellow", soft_wrap=True)


def comparison(profile: str, root: str | Path = ".") -> Comparison:
    """Claims and printed cells of one profile, from runs/, searches/ and measurements/ under `root`."""
    from analysis.beside import beside_cells
    from analysis.cells import judge_cells
    from analysis.claim_rows import claim_rows
    from analysis.published import load_claims, load_tables, load_tolerances
    from analysis.records import load_profile
    from analysis.results import result_rows
    from analysis.verdicts import judge
    from analysis.weightlora_section import load_weightlora

    runs, searches, measurements = (Path(root) / name / profile for name in ("runs", "searches", "measurements"))
    loaded = load_profile(runs)
    tables, tolerances = load_tables(), load_tolerances()
    weightlora = load_weightlora(profile, loaded, searches, measurements)
    seeds_of = {experiment.name: experiment.seeds for experiment in loaded}
    claims = [
        *claim_rows(judge(loaded, load_claims(), tolerances), profile, seeds_of),
        *claim_rows(weightlora.verdicts, profile, seeds_of),
    ]
    cells = beside_cells(tables, result_rows(loaded), judge_cells(loaded, tables, tolerances, profile))
    problems = [f"{e.name} ({e.status}): {problem}" for e in loaded for problem in e.problems]
    return Comparison(profile, claims, cells, tolerances.why_not_comparable(profile), [*problems, *weightlora.broken])


def _show_claims(console: Console, profile: str, claims: Sequence[ClaimRow]) -> None:
    from rich.markup import escape

    from analysis.claim_rows import counts_line

    console.print(f"[bold]{escape(profile)} profile: {counts_line(claims)}[/]")
    paper = ""
    for row in claims:
        if row.paper != paper:
            paper = row.paper
            console.print(f"\n[bold underline]{escape(paper)}[/]")
        verdict = row.verdict
        colour = COLOURS.get(verdict.word, "default")
        console.print(f"{verdict.claim.number}. [bold {colour}]{row.shown_word}[/]: {escape(verdict.claim.text)}")
        seeds = f" [{row.seeds_line}, {row.profile} profile]" if row.seeds_line else f" [{row.profile} profile]"
        if row.headline:
            _indented(console, row.headline + seeds)
        _indented(console, verdict.reason, "dim")


def _show_cells(console: Console, cells: Sequence[BesideCell], why_not: str | None) -> None:
    """A table for each printed row: five metrics fit 80 columns, thirteen columns do not."""
    from rich.table import Table
    from rich.text import Text

    from analysis.labels import score_name
    from analysis.standings import letter, meaning

    if not cells:
        return
    console.print("\n[bold underline]Published beside measured, on the scripts' scale[/]")
    if why_not is not None:
        console.print(Text(f"Not comparable with this profile. {why_not}", style="dim"))
    for source, row in dict.fromkeys((cell.source, cell.row) for cell in cells):
        group = [cell for cell in cells if (cell.source, cell.row) == (source, row)]
        run = next((cell.experiment for cell in group if cell.experiment), None)
        console.print(Text(f"\n{row} ({source}) beside {run or 'no run'}", style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name, justify in (("Metric", "left"), ("Published", "right"), ("Measured", "right"), ("Verdict", "left")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for cell in group:
            printed = cell.printed if cell.spread is None else f"{cell.printed} ± {cell.spread}"
            words = cell.word.replace("_", " ")
            table.add_row(score_name(cell.metric), f"{printed} {letter(cell.standing)}", cell.measured, words)
        console.print(table)
    legend = "; ".join(f"{letter(name)} {meaning(name)}" for name in dict.fromkeys(cell.standing for cell in cells))
    console.print(Text(f"\nStanding of a published figure: {legend}.", style="dim"))


def _indented(console: Console, text: str, style: str = "") -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text, style=style), (0, 0, 0, 3), expand=False))
