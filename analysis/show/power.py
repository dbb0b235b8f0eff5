"""`replicate power`: given a spread, how many seeds and test examples a difference needs, as a table and a curve.

The spread comes from numbers or from two runs of a profile. `replicate power --json` prints one object with these keys,
which do not change within `schema_version` 1:

- `rule`: alpha, comparisons, level (alpha / comparisons), power (the target), least_seeds, p_value (text);
- `source`: of two runs profile, first, second, metric and seeds; null for numbers;
- `spread`: training, common, own (`stats.power.Spread`), seed_deviation, item_error, seeds, examples;
- `rows`: difference, power (number of seeds -> probability), seeds_needed, examples_needed (null: none suffices, or not
  known);
- `limits`: any_seeds and any_examples, the smallest differences found with any number of seeds on these examples, and
  with any number of examples by these seeds (null: not known).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from replication.terminal import console as _console
from replication.terminal import examples, working

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.show.drawing import Drawing
    from analysis.stats.power import Spread

SCHEMA_VERSION = 1
SEED_COUNTS = (3, 5, 8, 10, 12, 20)
STEPS = (0.5, 1, 1.5, 2, 3, 5)  # differences shown by default, in margins of the measure


@dataclass(frozen=True)
class Source:
    """The two runs that a spread was measured on."""

    profile: str
    first: str
    second: str
    metric: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One true difference: its power by number of seeds, and what the target takes; None: no number suffices."""

    difference: float
    power: dict[int, float]
    seeds_needed: int | None
    examples_needed: int | None

    def as_json(self) -> dict[str, Any]:
        """The row with stable keys."""
        power = {str(seeds): value for seeds, value in self.power.items()}
        return {"difference": self.difference, "power": power, "seeds_needed": self.seeds_needed,
                "examples_needed": self.examples_needed}  # fmt: skip


@dataclass(frozen=True)
class Design:
    """A spread, the number of seeds it was measured with, and how many comparisons are decided together."""

    spread: Spread
    seeds: int
    comparisons: int = 1
    source: Source | None = None

    @property
    def level(self) -> float:
        """Alpha of Holm's first step, the strictest: that of a single comparison divided by their number."""
        from analysis.judge.decision import ALPHA

        return ALPHA / self.comparisons

    @property
    def item_noise(self) -> bool:
        """Whether the test examples contribute to the noise."""
        return self.spread.common > 0 or self.spread.own > 0

    def row(self, difference: float) -> Row:
        """Power and needs of one true difference."""
        from analysis.judge.decision import LEAST_SEEDS, POWER
        from analysis.stats.power import items_needed, power, seeds_needed

        spread, level = self.spread, self.level
        return Row(
            difference,
            {count: power(difference, spread, count, level) for count in SEED_COUNTS},
            seeds_needed(difference, spread, level, POWER, LEAST_SEEDS),
            items_needed(difference, spread, self.seeds, level, POWER) if self.items_count else None,
        )

    @property
    def items_count(self) -> bool:
        """Whether a number of test examples can be worked out: it is known, and they are noisy."""
        return self.spread.items is not None and self.item_noise

    @cached_property
    def any_seeds(self) -> float:
        """The smallest difference found with any number of seeds on these examples."""
        from analysis.judge.decision import POWER
        from analysis.stats.power import MOST, smallest_detectable

        return smallest_detectable(self.spread, MOST, self.level, POWER)

    @cached_property
    def any_examples(self) -> float | None:
        """The smallest difference found by these seeds with any number of test examples; None if not known."""
        from analysis.judge.decision import POWER
        from analysis.stats.power import MOST, smallest_detectable

        if not self.items_count:
            return None
        return smallest_detectable(self.spread.with_items(MOST), self.seeds, self.level, POWER)

    def as_json(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What `--json` prints."""
        from analysis.judge.decision import ALPHA, LEAST_SEEDS, POWER, RULE

        spread, source = self.spread, self.source
        return {
            "schema_version": SCHEMA_VERSION,
            "rule": {"alpha": ALPHA, "comparisons": self.comparisons, "level": self.level, "power": POWER,
                     "least_seeds": LEAST_SEEDS, "p_value": RULE.p_value.strip()},
            "source": None if source is None else {**vars(source), "seeds": list(source.seeds)},
            "spread": {"training": spread.training, "common": spread.common, "own": spread.own,
                       "seed_deviation": spread.seed_deviation(), "item_error": spread.item_error(self.seeds),
                       "seeds": self.seeds, "examples": spread.items},
            "rows": [row.as_json() for row in rows],
            "limits": {"any_seeds": self.any_seeds, "any_examples": self.any_examples},
        }  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add `power` to the `replicate` command."""
    epilog = examples(
        "replicate power --seed-sd 0.02 --item-error 0.003 --items 630\n--difference 0.01",
        "replicate power --profile cpu --first mrpc-600-weight-lora\n--second mrpc-600-lora",
    )
    app.command("power", epilog=epilog)(power)


def power(
    seed_sd: Annotated[float | None, typer.Option(help="Standard deviation of the seeds' differences.")] = None,
    item_error: Annotated[
        float | None, typer.Option(help="Bootstrap's standard error of the mean difference; 0 without test examples.")
    ] = None,
    items: Annotated[int | None, typer.Option(help="Test examples that --item-error was measured on.")] = None,
    seeds_measured: Annotated[
        int | None, typer.Option(help="Seeds of the measurement; 'examples needed' is for so many. Default: 3.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Take the spread from two runs of this profile.")] = None,
    first: Annotated[str | None, typer.Option(help="With --profile: the first run, such as lora.")] = None,
    second: Annotated[str | None, typer.Option(help="With --profile: the run it is compared with.")] = None,
    metric: Annotated[str | None, typer.Option(help="With --profile: the measure. Default: the primary one.")] = None,
    difference: Annotated[
        list[float] | None, typer.Option(help="A true difference; repeatable. Default: half to five margins.")
    ] = None,
    comparisons: Annotated[int, typer.Option(help="Comparisons decided together (Holm): alpha / this number.")] = 1,
    curve: Annotated[Path | None, typer.Option(help="Write the power curves to this .svg or .png file.")] = None,
    root: Annotated[Path, typer.Option(help="Folder that holds runs/.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """How many seeds and test examples a difference needs, from numbers or from the spread of two runs."""
    numbers = {"--seed-sd": seed_sd, "--item-error": item_error, "--items": items, "--seeds-measured": seeds_measured}
    names = {"--profile": profile, "--first": first, "--second": second, "--metric": metric}
    given, named = ([option for option, value in part.items() if value is not None] for part in (numbers, names))
    if given and named:
        _refuse(f"{given[0]} and {named[0]}: give the spread either by numbers or by two runs, not both")
    if comparisons < 1:
        _refuse(f"--comparisons {comparisons}: the number of comparisons decided together, 1 or more")
    for value in difference or ():
        if not (math.isfinite(value) and value > 0):
            _refuse(f"--difference {value:g}: a true difference above zero, on the measure's own scale, such as 0.01")
    if curve is not None and curve.suffix not in (".svg", ".png"):
        _refuse(f"--curve {curve}: the file's name must end in .svg or .png")
    if curve is not None and not curve.parent.is_dir():
        _refuse(f"--curve {curve}: no folder {curve.parent}; create it, or name a file elsewhere")
    with working("computing power"):
        if named:
            design = from_runs(root, profile, first, second, metric, comparisons)
        else:
            design = from_numbers(seed_sd, item_error, items, seeds_measured, comparisons)
        margin = _margin(design.source.metric if design.source else None)
        rows = [design.row(value) for value in sorted(set(difference or [round(step * margin, 12) for step in STEPS]))]
        drawing = None if curve is None else _write_curve(design, curve)
    if as_json:
        print(json.dumps(design.as_json(rows), indent=2, ensure_ascii=False))
        return
    show(design, rows)
    if drawing is not None:
        _say(_console(), f"Curve: {curve}. {drawing.alternative}")


def from_numbers(
    seed_sd: float | None,
    item_error: float | None,
    items: int | None = None,
    seeds_measured: int | None = None,
    comparisons: int = 1,
) -> Design:
    """A design from numbers; ConfigError names the option and the fix.

    How much of the examples' noise is each seed's own is not known from numbers: all counts as common to the seeds.
    """
    for option, value, meaning in (
        ("--seed-sd", seed_sd, "the standard deviation of the seeds' differences"),
        ("--item-error", item_error, "the standard error of the mean difference over test examples"),
    ):
        if value is None:
            other = ", or --profile, --first and --second" if option == "--seed-sd" else ", 0 without test examples"
            _refuse(f"{option} is missing; give {meaning}{other}")
        if not (math.isfinite(value) and value >= 0):
            _refuse(f"{option} {value:g}: {meaning} is zero or more")
    assert seed_sd is not None
    assert item_error is not None
    if seed_sd == 0 and item_error == 0:
        _refuse("--seed-sd 0 and --item-error 0: without noise every difference is found; give one above zero")
    if items is not None and items < 2:
        _refuse(f"--items {items}: a spread over test examples needs 2 at least; leave it out where it is not known")
    seeds = 3 if seeds_measured is None else seeds_measured
    if seeds < 2:
        _refuse(f"--seeds-measured {seeds}: a standard deviation over seeds needs 2 at least")
    from analysis.stats.power import Spread

    return Design(Spread.measured(seed_sd, item_error, seeds, items=items), seeds, comparisons)


def from_runs(
    root: Path,
    profile: str | None,
    first: str | None,
    second: str | None,
    metric: str | None = None,
    comparisons: int = 1,
) -> Design:
    """A design with the spread of two runs' difference; ConfigError names the option and what is valid."""
    for option, value in (("--profile", profile), ("--first", first), ("--second", second)):
        if value is None:
            _refuse(f"{option} is missing; two runs are named by --profile, --first and --second")
    assert profile is not None
    assert first is not None
    assert second is not None
    folder = root / "runs" / profile
    if folder.parent != root / "runs" or not folder.is_dir():
        there = sorted(path.name for path in (root / "runs").glob("*") if path.is_dir())
        _refuse(f"--profile {profile}: no folder {folder}; profiles with runs: {', '.join(there) or 'none'}")
    valid = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for option, name in (("--first", first), ("--second", second)):
        if name not in valid:
            _refuse(f"{option} {name}: no such run in {folder}; valid names: {', '.join(valid) or 'none'}")
    if first == second:
        _refuse(f"--second {second}: the same run as --first; name another one")
    return _measured(profile, folder, first, second, metric, comparisons)


def _measured(profile: str, folder: Path, first: str, second: str, metric: str | None, comparisons: int) -> Design:
    from analysis.judge.comparable import differ_in_items, shared_seeds
    from analysis.judge.decision import LEAST_SEEDS
    from analysis.judge.study import Study
    from analysis.load.runs import load_profile

    runs = load_profile(folder, [first, second])
    for option, run in zip(("--first", "--second"), runs, strict=True):
        if run.status != "complete" or run.metrics is None:
            why = f"; {run.problems[0]}" if run.problems else ""
            _refuse(f"{option} {run.name}: is {run.status}; name a run that is complete{why}")
    ours, other = runs
    a, b = ours.metrics, other.metrics
    assert a is not None
    assert b is not None
    both = [name for name in a.metrics if name in b.metrics]
    if metric is not None and metric not in both:
        _refuse(f"--metric {metric}: not a measure of both runs; valid names: {', '.join(both) or 'none'}")
    if metric is None and a.primary != b.primary:
        _refuse(f"--second {second}: its primary measure is {b.primary}, that of {first} {a.primary}; name a --metric")
    seeds = shared_seeds(ours, other)
    if len(seeds) < LEAST_SEEDS:
        shown = ", ".join(map(str, seeds)) or "none"
        _refuse(
            f"--second {second}: shares {len(seeds)} seeds with {first} ({shown}); a spread needs {LEAST_SEEDS} "
            "at least: name another run, or give --seed-sd and --item-error"
        )
    if a.items != b.items or differ_in_items(ours, other):
        _refuse(f"--second {second}: not scored on the test examples of {first}; name two runs of one task")
    study, wanted = Study.of(runs, profile=profile), metric or a.primary
    found = study.difference(ours, other, wanted)
    if found is None:
        _refuse(f"--metric {wanted}: not scored for every shared seed; valid names: {', '.join(both)}")
    if found.confounded:
        _refuse(
            f"--second {second}: made on another type of processor than {first} (seeds "
            f"{', '.join(map(str, found.dropped))}), so that the spread is not that of training alone; repeat one of "
            "the runs, or give --seed-sd and --item-error"
        )
    if found.spread is None:
        with_items = [name for name in both if study.paired(ours, other, name, found.seeds) is not None]
        _refuse(
            f"--metric {wanted}: {found.why_undecidable}, so that the noise of the test examples is not known; "
            f"valid names: {', '.join(with_items) or 'none'}"
        )
    if found.spread.error(len(found.seeds)) == 0:
        _refuse(f"--second {second}: its scores equal those of {first} on every seed; there is no spread to plan with")
    source = Source(profile, first, second, wanted, found.seeds)
    return Design(found.spread, len(found.seeds), comparisons, source)


def _margin(metric: str | None) -> float:
    """The margin of the measure; for another one, or for numbers alone, the median of all measures' margins."""
    import statistics

    from analysis.load.judgement import load_judgement

    margins = {name: found.keeps_within for name, found in load_judgement().measures.items()}
    return margins.get(metric or "", statistics.median(margins.values()))


def _refuse(message: str) -> NoReturn:
    from replication.errors import ConfigError

    raise ConfigError(message)


# --- shown -------------------------------------------------------------------


def show(design: Design, rows: Sequence[Row]) -> None:
    """Print the table and what it means, for a terminal of 80 columns or more."""
    console = _console()
    for line in [*spread_lines(design), rule_line(design)]:
        _say(console, line)
    console.print()
    console.print(_table(design, rows))
    console.print()
    for line in notes(design, rows):
        _say(console, line)


def rule_line(design: Design) -> str:
    """Alpha, target and rule in one line."""
    from analysis.judge.decision import ALPHA, POWER
    from analysis.judge.number_format import percent

    shared = f" / {design.comparisons} = {design.level:.2g}" if design.comparisons > 1 else ""
    return f"Rule: larger of two p-values, two-sided alpha {ALPHA:g}{shared}, power {percent(POWER, 0)}."


def spread_lines(design: Design) -> list[str]:
    """Where the spread comes from, and its two numbers."""
    from analysis.load.names import score_name

    source, spread = design.source, design.spread
    lines = []
    if source is not None:
        lines.append(f"{source.first} minus {source.second}, {score_name(source.metric)}, {source.profile} profile")
    examples = "" if spread.items is None else f", {spread.items:,} examples"
    return [
        *lines,
        f"Seeds:    {spread.seed_deviation():.3g}, standard deviation of one seed's difference ({design.seeds} seeds)",
        f"Examples: {spread.item_error(design.seeds):.3g}, standard error of the mean difference{examples}",
    ]


def notes(design: Design, rows: Sequence[Row]) -> list[str]:
    """What the columns mean, and why no number suffices where none does."""
    from analysis.judge.decision import LEAST_SEEDS

    spread = design.spread
    lines = [
        "Power is the chance that the rule finds a true difference, rounded down. The two p-values: a paired t-test "
        "over seeds, and one whose variance also holds the noise of the test examples."
    ]
    examples = "these examples" if spread.items is None else f"these {spread.items:,} examples"
    lines.append(f"Seeds needed: on {examples}, {LEAST_SEEDS} or more. Examples needed: with {design.seeds} seeds.")
    if any(row.seeds_needed is None for row in rows):
        lines.append(
            f"No number of seeds suffices below {design.any_seeds:.2g}: the noise of the test examples is common to "
            "all seeds, so that more seeds do not reduce it. More examples do."
        )
    if not design.item_noise:
        lines.append("Examples do not matter here: --item-error is 0.")
    elif spread.items is None:
        lines.append("Examples needed is not known: --items says on how many --item-error was measured.")
    elif design.any_examples is not None and any(row.examples_needed is None for row in rows):
        lines.append(
            f"No number of examples suffices below {design.any_examples:.2g} with {design.seeds} seeds: another "
            "training run gives another score on any examples. More seeds help."
        )
    if design.source is None and design.item_noise:
        lines.append(
            "All noise of the examples is taken as common to the seeds, which is cautious; of two runs (--profile) "
            "the part that is each seed's own is measured."
        )
    return lines


def power_text(value: float) -> str:
    """Whole per cent, rounded down, so that 80 % is shown only where the target is reached: `<1 %`, `>99 %`."""
    if value < 0.01:
        return "<1 %"
    return ">99 %" if value > 0.99 else f"{math.floor(100 * value + 1e-9)} %"


def _table(design: Design, rows: Sequence[Row]) -> Any:
    from rich.table import Table

    from analysis.judge.decision import POWER

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("True\ndifference", justify="right", no_wrap=True)
    for count in SEED_COUNTS:
        table.add_column(f"{count}\nseeds", justify="right", no_wrap=True)
    for what in ("Seeds", "Examples"):
        table.add_column(f"{what}\nneeded", justify="right", no_wrap=True)
    decimals = max(3, *(_decimals(row.difference) for row in rows))
    for row in rows:
        cells = [
            f"[green]{power_text(value)}[/]" if value >= POWER else power_text(value) for value in row.power.values()
        ]
        examples = needed(row.examples_needed) if design.items_count else "–"
        table.add_row(f"{row.difference:.{decimals}f}", *cells, needed(row.seeds_needed), examples)
    return table


def needed(count: int | None) -> str:
    """`1,234`; `none` where no number suffices."""
    return "none" if count is None else f"{count:,}"


def _decimals(value: float) -> int:
    """Decimals that show a value as it was given, six at most."""
    return len(f"{value:.6f}".rstrip("0").partition(".")[2])


def _say(console: Console, text: str) -> None:
    """A sentence or more, folded between words."""
    import textwrap

    console.print(textwrap.fill(text, console.width, break_on_hyphens=False), markup=False, soft_wrap=True)


def _write_curve(design: Design, path: Path) -> Drawing:
    """The curves as SVG, with title and description inside, or as PNG."""
    from analysis.show.claim_figures import power_curves
    from replication.fileio import write_bytes, write_text

    drawing = power_curves(design.spread, design.seeds, design.level)
    if path.suffix == ".png":
        write_bytes(path, drawing.png)
    else:
        write_text(path, described(drawing))
    return drawing


def described(drawing: Drawing) -> str:
    """A figure's SVG for a file of its own: its title and its description are read out where it cannot be seen."""
    from html import escape

    inside = f'<title id="title">{escape(drawing.title)}</title>\n<desc id="desc">{escape(drawing.alternative)}</desc>'
    named = 'role="img" aria-labelledby="title" aria-describedby="desc"'
    return re.sub(r"<svg ([^>]*)>", lambda tag: f"<svg {named} {tag[1]}>\n{inside}", drawing.svg, count=1)
