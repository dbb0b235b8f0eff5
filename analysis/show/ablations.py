"""measurements/ablations/<name>.json: what a fault seen in the authors' code changes, measured on the quick profile.

One file per fault, written by `make ablations` (studies/ablations/), read and drawn here. A cell of a table is text, a
number, or one value per seed, shown as mean ± sample standard deviation; a seed without a value (null) diverged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.judge.number_format import format_count, format_score
from analysis.load.paper_files import first_fault
from analysis.show.blocks import Block
from analysis.show.drawing import COLOURS, LINES, MARKERS, SPARE_COLOURS, Drawing, add_legend, new_figure, styled
from analysis.stats.seeds import summarise_seeds
from replication.errors import DataError
from replication.fileio import read_json
from replication.records import Conditions

DIRECTORY = Path("measurements/ablations")
LARGE = 1e4  # from here on a mean is shown in powers of ten

Seeds = dict[Annotated[str, Field(pattern=r"^\d+$")], float | None]
Cell = str | int | float | Seeds
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Series(_Part):
    """A line of a figure: y over x, with the least and the greatest seed where several were run."""

    label: str
    x: tuple[float, ...] = Field(min_length=1)
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Series:
        for name in ("y", "low", "high"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.x):
                raise ValueError(f"series {self.label!r}: {name} has {len(values)} values for {len(self.x)} of x")
        return self


class LineFigure(_Part):
    """Lines over one axis."""

    title: str
    caption: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    series: tuple[Series, ...] = Field(min_length=1)


class Ablation(_Part):
    """One fault and its measured effect.

    `source`: where the fault was found; `instead`: what this project does. `seeds` are those of each training
    run (empty if nothing is trained). `settings` and `inputs` (sha256 of what was read) decide the result;
    `settings_sha256` is over both.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z_]+$")
    paper: Literal["solo_connection", "weight_lora"]
    title: str
    fault: str
    source: str
    instead: str
    profile: Literal["quick", "none"]
    data: str
    backbone: str | None
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    inputs: dict[str, Sha256]
    settings_sha256: Sha256
    headers: tuple[str, ...] = Field(min_length=2)
    rows: tuple[tuple[Cell, ...], ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    figure: LineFigure | None = None
    shows: str = Field(min_length=1)
    does_not_show: str = Field(min_length=1)
    versions: dict[str, str]
    conditions: Conditions

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Ablation:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.headers):
                raise ValueError(f"rows: row {number} has {len(row)} cells for {len(self.headers)} headers")
            for cell in row:
                if isinstance(cell, dict) and not set(cell) <= {str(seed) for seed in self.seeds}:
                    raise ValueError(f"rows: row {number} has seeds {sorted(cell)}, the ablation {self.seeds}")
        if self.seeds and len(set(self.seeds)) < 3:
            raise ValueError(f"seeds: {len(set(self.seeds))}; a training result needs at least three")
        return self


def read_ablation(path: str | Path) -> Ablation:
    """One file, checked; DataError names file and field."""
    try:
        found = Ablation.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}; `make ablations` writes it again") from error
    if found.name != Path(path).stem:
        raise DataError(f"{path}, name: {found.name!r} is not the file's own")
    return found


def load_ablations(directory: str | Path = DIRECTORY) -> list[Ablation]:
    """Every committed result, Solo Connection's first, then by name; none where the folder is absent."""
    found = [read_ablation(path) for path in sorted(Path(directory).glob("*.json"))]
    return sorted(found, key=lambda ablation: (ablation.paper, ablation.name))


# --- tables ------------------------------------------------------------------


def show_cell(cell: Cell) -> str:
    """Text as it is, whole numbers in groups of three, floats with four digits, seeds as mean ± spread."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, dict):
        return _show_seeds(list(cell.values()))
    return format_count(cell) if isinstance(cell, int) else f"{cell:.4g}"


def _show_seeds(values: Sequence[float | None]) -> str:
    finite = [value for value in values if value is not None]
    if not finite:
        return f"diverged ({len(values)} of {len(values)} seeds)" if values else "not measured"
    summary = summarise_seeds(finite)
    if len(set(values)) == 1 and len(values) > 1:
        return f"{finite[0]:.4g} in every seed"
    if abs(summary.mean) < LARGE:
        shown = format_score(summary)
    else:
        spread = "" if summary.standard_deviation is None else f" ± {summary.standard_deviation:.1e}"
        shown = f"{summary.mean:.1e}{spread}"
    lost = len(values) - len(finite)
    return f"{shown} ({lost} of {len(values)} diverged)" if lost else shown


def ablation_block(ablation: Ablation) -> Block:
    """The table of one fault, with what it shows and what not as its last notes."""
    where = ablation.data if ablation.backbone is None else f"{ablation.backbone}, {ablation.data}"
    seeds = f", seeds {', '.join(map(str, ablation.seeds))}" if ablation.seeds else ", nothing trained"
    profile = "quick profile, " if ablation.profile == "quick" else ""
    notes = [*ablation.notes]
    if any(isinstance(cell, dict) for row in ablation.rows for cell in row):
        notes.append("Mean ± sample standard deviation over seeds.")
    notes += [f"Shows: {ablation.shows}", f"Does not show: {ablation.does_not_show}"]
    return Block(
        caption=f"{ablation.title} ({profile}{where}{seeds})",
        headers=ablation.headers,
        rows=tuple(tuple(show_cell(cell) for cell in row) for row in ablation.rows),
        notes=tuple(notes),
    )


def ablation_blocks(ablations: Sequence[Ablation], paper: str | None = None) -> list[Block]:
    """The tables of one paper, or of both."""
    return [ablation_block(ablation) for ablation in ablations if paper in (None, ablation.paper)]


def summary_block(ablations: Sequence[Ablation]) -> Block:
    """One line per fault: description, what is done instead, measurement."""
    names = {"solo_connection": "Solo Connection", "weight_lora": "WeightLoRA"}
    rows = [(names[a.paper], a.fault, a.source, a.instead, a.shows, a.does_not_show) for a in ablations]
    headers = ("Paper", "Fault", "Known from", "Here instead", "Shows", "Does not show")
    return Block("Faults of the authors' code, and what each changes on toys", headers, tuple(rows))


# --- figures -----------------------------------------------------------------


def ablation_figures(ablations: Sequence[Ablation]) -> list[Drawing]:
    """A drawing for every fault whose result has a figure."""
    return [_draw(ablation, ablation.figure) for ablation in ablations if ablation.figure is not None]


@styled
def _draw(ablation: Ablation, wanted: LineFigure) -> Drawing:
    figure, (axes,) = new_figure(1, (6.4, 3.4))
    colours = (COLOURS["full"], COLOURS["lora"], COLOURS["solo_connection"], *SPARE_COLOURS, "#888888")
    for number, line in enumerate(wanted.series):
        colour = colours[number % len(colours)]
        xs = [x for x, y in zip(line.x, line.y, strict=True) if y is not None]
        heights = [y for y in line.y if y is not None]
        look, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
        axes.plot(xs, heights, label=line.label, color=colour, markersize=4, linestyle=look, marker=marker)
        if line.low is not None and line.high is not None:
            ends = zip(line.x, line.low, line.high, strict=True)
            band = [(x, low, high) for x, low, high in ends if low is not None and high is not None]
            x, low, high = ([point[part] for point in band] for part in range(3))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(wanted.title)
    axes.set_xlabel(wanted.x_label)
    axes.set_ylabel(wanted.y_label)
    if wanted.log_x:
        axes.set_xscale("log")
    if wanted.log_y:
        axes.set_yscale("log")
    add_legend(figure, [axes])
    lines = "; ".join(f"{line.label}: {_ends(line)}" for line in wanted.series)
    return Drawing(
        name=f"ablation_{ablation.name}",
        title=wanted.title,
        caption=f"{wanted.caption} {ablation.shows} It does not show: {ablation.does_not_show}",
        alternative=f"Line chart of {wanted.y_label} against {wanted.x_label}. {lines}.",
        figure=figure,
    )


def _ends(line: Series) -> str:
    known = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
    if not known:
        return "no value"
    (x0, y0), (x1, y1) = known[0], known[-1]
    return f"{y0:.3g} at {x0:g}" if len(known) == 1 else f"{y0:.3g} at {x0:g}, {y1:.3g} at {x1:g}"
