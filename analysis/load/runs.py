"""Find runs under a root, read their records, and check how complete each one is.

A record of another schema version, a planned seed without a record, two records for one cell, and files that do not
belong together (`analysis.load.evidence`) are problems that name file and field; no such experiment counts as complete.

Layout: `<root>/<profile>/<experiment>/` with training/seed-<s>/{record.json, curves.csv, selection.json},
predictions/seed-<s>.jsonl, scores.json (in older runs: metrics.json), and cost/*.json, which may be absent: no output
of the pipeline. gold/<profile>/<task>.jsonl next to the root has the labels of each item; runs whose prediction
rows hold it need none.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.load.evidence import Mismatch, differences, gold_difference, lock_file, read_decoding
from analysis.load.names import SELECTING, backbone_name, method_label, task_name
from analysis.load.paper_files import METRICS, first_fault
from analysis.load.selection import Selection, read_selection
from replication.errors import DataError
from replication.fileio import listed, read_json
from replication.metrics import names as metric_names
from replication.predictions import full_rows, read_predictions
from replication.records import Cost, RunRecord, read_costs, read_record

GENERATION = "generation"
_ROUNDING = 1e-6


class Metrics(BaseModel):
    """scores.json: means over seeds, spread, every seed; the official scripts' own scale (BLEU 0.7203).

    A file without `form`, `metrics` and `primary` holds the five E2E metrics of a generation task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    profile: str
    experiment: str
    form: str = GENERATION
    items: int = Field(ge=1)
    metrics: tuple[str, ...] = Field(METRICS, min_length=1)
    primary: str = METRICS[0]
    means: dict[str, float | None]
    spread: dict[str, float | None]
    seeds: dict[int, dict[str, float | None]] = Field(min_length=1)
    approximate: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    predictions_sha256: dict[int, str] = {}
    evaluation: str = ""

    @model_validator(mode="before")
    @classmethod
    def _gather_means(cls, content: Any) -> Any:
        """In the file each mean is a field with its metric's name."""
        if not isinstance(content, dict):
            return content
        names = content.get("metrics", list(METRICS))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"metrics is {names!r}; expected a list of names")
        absent = [name for name in names if name not in content]
        if absent:
            raise ValueError(f"{absent[0]} is missing; metrics names {', '.join(names)}")
        rest = {key: value for key, value in content.items() if key not in names}
        return {**rest, "metrics": names, "means": {name: content[name] for name in names}}

    @model_validator(mode="after")
    def _means_are_means(self) -> Metrics:
        if self.primary not in self.metrics:
            raise ValueError(f"primary is {self.primary!r}; metrics names {', '.join(self.metrics)}")
        known = metric_names(self.form)
        if unknown := [metric for metric in self.metrics if metric not in known]:
            raise ValueError(
                f"metrics names {unknown[0]!r}, which replication/metrics does not define for {self.form}; "
                f"valid names: {', '.join(known) or 'none'}"
            )
        for metric in self.metrics:
            absent = [seed for seed, scores in self.seeds.items() if metric not in scores]
            if absent:
                raise ValueError(f"seeds.{absent[0]} has no {metric}")
            values, mean = self.values(metric), self.means[metric]
            if (mean is None) != (values is None):
                raise ValueError(f"{metric} is {mean}, but its seeds have {values}")
            if values is not None and mean is not None and abs(math.fsum(values) / len(values) - mean) > _ROUNDING:
                raise ValueError(f"{metric} is {mean}, which is not the mean of its seeds {values}")
        return self

    def values(self, metric: str) -> list[float] | None:
        """One score per seed, in the file's order; None if a seed has no score (METEOR without Java)."""
        present = [value for scores in self.seeds.values() if (value := scores[metric]) is not None]
        return present if len(present) == len(self.seeds) else None


def scores_file(directory: Path) -> Path:
    """The file with every seed's scores: older runs have only metrics.json."""
    path, older = directory / "scores.json", directory / "metrics.json"
    if path.is_file() or not older.is_file():
        return path
    try:
        content = read_json(older)
    except DataError:
        return older
    return path if isinstance(content, dict) and "seeds" not in content else older


def read_metrics(path: str | Path, directory: Path | None = None) -> Metrics:
    """scores.json, checked; DataError names file and field. `directory` is the experiment it must belong to."""
    try:
        metrics = Metrics.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}") from error
    if directory is not None:
        check_place(path, metrics.profile, metrics.experiment, directory)
    return metrics


def check_place(path: str | Path, profile: str, experiment: str, directory: Path) -> None:
    """DataError if a file names another experiment than its folder."""
    directory = directory.resolve()
    if (profile, experiment) != (directory.parent.name, directory.name):
        folder = f"{directory.parent.name}/{directory.name}"
        raise DataError(f"{path}: profile and experiment are {profile}/{experiment}, but its folder is {folder}")


Row = Mapping[str, Any]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


# form -> field of the prediction, field of the truth, each with its check; rows of other forms need only an id
FIELDS: dict[str, tuple[tuple[str, Callable[[Any], bool], str], tuple[str, Callable[[Any], bool], str]]] = {
    "classification": (("prediction", _whole, "a whole number"), ("label", _whole, "a whole number")),
    "multiple_choice": (("prediction", _whole, "a whole number"), ("label", _whole, "a whole number")),
    "regression": (("prediction", _number, "a finite number"), ("label", _number, "a finite number")),
    "question_answering": (("prediction", _text, "a text"), ("answers", _texts, "a list of texts")),
    "summarisation": (("prediction", _text, "a text"), ("references", _texts, "a list of texts")),
}


def read_rows(path: str | Path, form: str | None) -> list[Row]:
    """Rows in file order; DataError names file, line and field. `form` None: recognised by the first row's fields."""
    if form is None:
        form = _form_of(path)
    if form == GENERATION:
        return cast(list[Row], read_predictions(path))
    rows = full_rows(path)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        location = f"{path}, line {number}"
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
            raise DataError(f"{location}: field 'id' is missing or no text")
        if row["id"] in seen:
            raise DataError(f"{location}: duplicate id {row['id']!r}; expected one line per item")
        seen.add(row["id"])
        for name, holds, wanted in FIELDS.get(form, ()):
            if name not in row or not holds(row[name]):
                raise DataError(f"{location}: field {name!r} is {row.get(name)!r}; a {form} row has {wanted} there")
    return cast(list[Row], rows)


def questions(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    """Inputs and labels, item by item: equal for runs on the same items."""
    return tuple(_question(row) for row in rows)


def _question(row: Row) -> tuple[str, ...]:
    if "mr" in row:
        return (row["mr"], *row["references"])
    truth = next((row[name] for name in ("label", "answers", "references") if name in row), None)
    return (row["id"], repr(truth), str(row.get("subset", "")))


def _form_of(path: str | Path) -> str:
    """The form that the first row's fields fit."""
    rows = full_rows(path)
    first = rows[0] if rows and isinstance(rows[0], Mapping) else {}
    if "mr" in first or not first:
        return GENERATION
    if "answers" in first:
        return "question_answering"
    if "references" in first:
        return "summarisation"
    if "scores" in first or "log_likelihoods" in first:
        return "multiple_choice"
    return "classification" if _whole(first.get("prediction")) else "regression"


Status = Literal["complete", "incomplete", "stale", "failed", "missing", "removed"]
SAME_FOR_EVERY_SEED = ("backbone", "task", "method", "method_config", "training", "corpus")  # fields of the records
OWN_SEEDS = ("init_seed", "selection_seed")
_SEED_NAME = re.compile(r"seed-(0|[1-9]\d*)(\.jsonl)?")


@dataclass(frozen=True)
class Planned:
    """An experiment in params.yaml: its position in the tables if it has not run, and its search case."""

    backbone: str
    task: str
    method: str
    form: str = GENERATION
    settings: Mapping[str, Any] = field(default_factory=dict)
    corpus: str = ""
    search: str | None = None
    seeds: tuple[int, ...] = ()


Plan = Mapping[str, Planned]


@dataclass(frozen=True)
class Experiment:
    """One experiment: backbone x task x method with its seeds. Dictionaries are keyed by seed, ascending.

    `differences`: what makes it stale; `problems` has them as sentences among all others.
    """

    profile: str
    name: str
    directory: Path
    status: Status
    problems: tuple[str, ...] = ()
    differences: tuple[Mismatch, ...] = ()
    records: Mapping[int, RunRecord] = field(default_factory=dict)
    curves: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    predictions: Mapping[int, list[Any]] = field(default_factory=dict)
    metrics: Metrics | None = None
    selections: Mapping[int, Selection] = field(default_factory=dict)
    planned: Planned | None = None

    @property
    def record(self) -> RunRecord | None:
        """The first seed's record: method, settings and corpus are the same for every seed, counts need not be."""
        return next(iter(self.records.values()), None)

    @property
    def form(self) -> str:
        """The task's form; without output the plan's, and without a plan a generation task."""
        if self.record is not None:
            return self.record.corpus.form
        if self.metrics is not None:
            return self.metrics.form
        return self.planned.form if self.planned else GENERATION

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that left anything."""
        scored = self.metrics.seeds if self.metrics else {}
        return tuple(sorted({*self.records, *self.curves, *self.predictions, *scored}))


def discover(root: str | Path, profile: str | None = None) -> list[Experiment]:
    """Every experiment under `root` that left results, by profile and name."""
    root = Path(root)
    profiles = [root / profile] if profile else _subdirectories(root)
    found = [experiment for directory in profiles for experiment in load_profile(directory)]
    return [experiment for experiment in found if experiment.status != "missing"]


def params_file(profile_directory: Path) -> Path:
    """The params.yaml of the profile whose runs are in `profile_directory`, beside its dvc.lock."""
    return lock_file(profile_directory).with_name("params.yaml")


def _planned_seeds(profile_directory: Path) -> dict[str, tuple[int, ...]] | None:
    """Experiment -> seeds, from the params.yaml of the project around the runs; None where it has no such profile."""
    file = params_file(profile_directory)
    content = _parsed(file) if file.is_file() else None
    if not isinstance(content, Mapping) or content.get("profile") != profile_directory.absolute().name:
        return None
    entries = content.get("experiments") or {}
    if not isinstance(entries, Mapping):
        raise DataError(f"{file}: experiments is no mapping of names to settings")
    return {str(name): _seeds_of(entry, f"{file}: experiments.{name}") for name, entry in entries.items()}


def _seeds_of(entry: Any, where: str) -> tuple[int, ...]:
    if entry is not None and not isinstance(entry, Mapping):
        raise DataError(f"{where} is no mapping of settings")
    seeds = (entry or {}).get("seeds") or []
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise DataError(f"{where}.seeds: {seeds!r} is no list of whole numbers")
    return tuple(seeds)


def _parsed(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"{file}: not valid YAML ({error})") from error


def load_profile(directory: str | Path, experiments: Sequence[str] | Plan | None = None) -> list[Experiment]:
    """Experiments of one profile's folder (`runs/quick`): those named, in that order, or all there are.

    Held to a plan that is given, or else to the params.yaml of the project around them: one without a seed that it
    names is `incomplete`, and `removed` is one that params.yaml no longer has.
    """
    directory = Path(directory)
    names = experiments if experiments is not None else [folder.name for folder in _subdirectories(directory)]
    if isinstance(experiments, Mapping):
        return one_record_a_cell([load_experiment(directory / name, planned) for name, planned in experiments.items()])
    seeds = _planned_seeds(directory)
    found = [load_experiment(directory / name, seeds=(seeds or {}).get(name, ())) for name in names]
    if seeds is not None:
        note = f"{params_file(directory)} has no such experiment; delete the folder, or put the experiment back"
        found = [
            one
            if one.name in seeds or one.status == "missing"
            else replace(one, status="removed", problems=(note, *one.problems))
            for one in found
        ]
    return one_record_a_cell(found)


def one_record_a_cell(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments, those marked as failed that repeat an earlier one's cell.

    A cell is backbone, task, method, all settings and the seed: counted twice it would pass for two runs.
    """
    first: dict[str, Path] = {}
    checked = []
    for experiment in experiments:
        twice = []
        for seed, record in experiment.records.items():
            path = experiment.directory / "training" / f"seed-{seed}" / "record.json"
            other = first.setdefault(_cell_of(record), path)
            if other != path:
                twice.append(f"{path}, seed: the same backbone, task, method, settings and seed as {other}; remove one")
        if twice:
            experiment = replace(experiment, status="failed", problems=(*twice, *experiment.problems))
        checked.append(experiment)
    return checked


def _cell_of(record: RunRecord) -> str:
    """What distinguishes two runs; the seed of the initial weights follows the run's seed."""
    config = {name: value for name, value in record.method_config.items() if name != "init_seed"}
    parts = record.backbone, record.task, record.corpus.name, record.method, config, record.training, record.seed
    return json.dumps(parts, sort_keys=True, default=str)


def load_experiment(directory: str | Path, planned: Planned | None = None, seeds: tuple[int, ...] = ()) -> Experiment:
    """Read one experiment folder, whatever state it is in; `seeds`, or those of `planned`, must be there.

    Status: `complete`; `incomplete` (a part is not there yet); `stale` (a part was made from another version of the
    part before it, or edited since); `failed` (a file is broken or contradicts another); `missing` (no part at all).
    The worst counts. `problems` name the files.
    """
    directory = Path(directory)
    reader = _Reader(directory)
    records = reader.per_seed("training", lambda path: _read_record(path, directory), "record.json")
    curves = reader.per_seed("training", read_curves, "curves.csv")
    first = next(iter(records.values()), None)
    selects = first is not None and first.method in SELECTING
    selections = reader.per_seed("training", read_selection, "selection.json") if selects else {}
    decoding = reader.checked(lambda: read_decoding(directory)) or {}
    reprepared = reader.checked(lambda: gold_difference(directory, decoding))
    read = partial(read_rows, form=first.corpus.form if first else None)
    predictions = reader.per_seed("predictions", read) if reprepared is None else {}  # rows and answers do not fit
    metrics = reader.read(scores_file(directory), lambda path: read_metrics(path, directory))
    if not records and not predictions and metrics is None and not reader.broken and reprepared is None:
        absent = ("no results yet",)
        return Experiment(directory.parent.name, directory.name, directory, "missing", absent, planned=planned)
    reader.compare(records, predictions, metrics, planned.seeds if planned else seeds)
    outdated = [reprepared] if reprepared is not None else []
    outdated += reader.checked(lambda: differences(directory, records, decoding, metrics)) or []
    status: Status = (
        "failed" if reader.broken else "stale" if outdated else "incomplete" if reader.absent else "complete"
    )
    return Experiment(
        profile=directory.parent.name,
        name=directory.name,
        directory=directory,
        status=status,
        problems=(*reader.broken, *map(str, outdated), *reader.absent),
        differences=tuple(outdated),
        records=records,
        curves=curves,
        predictions=predictions,
        metrics=metrics,
        selections=selections,
        planned=planned,
    )


def read_curves(path: str | Path) -> pd.DataFrame:
    """curves.csv: (n_logged, n_columns) numbers, steps ascending; DataError names file, row and column."""
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: not a table of comma-separated values ({' '.join(str(error).split())})") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: a row has more values than the header has columns; the file is damaged")
    absent = [name for name in ("step", "loss", "dev_loss", "learning_rate") if name not in frame.columns]
    if absent:
        raise DataError(f"{path}: column {absent[0]!r} is missing; columns are {listed(map(str, frame.columns))}")
    for name in frame.columns:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = frame.index[numbers.isna() & frame[name].notna()]
        if len(wrong):
            value = frame[name][wrong[0]]
            raise DataError(f"{path}, row {wrong[0] + 2}, column {listed([name])}: {value!r} is not a number")
        frame[name] = numbers
    if frame["step"].isna().any() or not frame["step"].is_monotonic_increasing:
        raise DataError(f"{path}: column 'step' has gaps or goes back; the file is damaged")
    return frame


def read_all_costs(directory: str | Path) -> dict[str, dict[int, Cost]]:
    """cost/<stage>.json of one experiment: stage -> seed -> cost. Empty if there are none."""
    stages = {}
    for path in sorted(Path(directory).glob("cost/*.json")):
        costs = read_costs(path)
        wrong = [seed for seed in costs if not seed.isdecimal()]
        if wrong:
            raise DataError(f"{path}: seeds are whole numbers, found {wrong[0]!r}")
        stages[path.stem] = {int(seed): cost for seed, cost in costs.items()}
    return stages


def disk_use(directory: str | Path) -> int:
    """Bytes of all files below a folder; a link counts as the file it names."""
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())


class _Reader:
    """Reads the parts of one experiment; remembers what was absent and what was broken."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.absent: list[str] = []
        self.broken: list[str] = []

    def read(self, path: Path, read: Any) -> Any:
        """The result of `read(path)`, or None."""
        if not path.exists():
            self.absent.append(f"{path}: not there yet")
            return None
        try:
            return read(path)
        except DataError as error:
            self.broken.append(str(error))
            return None

    def checked(self, compute: Callable[[], Any]) -> Any:
        """`compute()`, or None where a file is broken."""
        try:
            return compute()
        except DataError as error:
            if str(error) not in self.broken:
                self.broken.append(str(error))
            return None

    def per_seed(self, part: str, read: Any, inside: str = "") -> dict[int, Any]:
        """Seed -> the result of `read`, for each `seed-<s>` entry of one part (or the file inside it) it can read."""
        folder = self.directory / part
        if not folder.is_dir():
            if f"{folder}: not there yet" not in self.absent:
                self.absent.append(f"{folder}: not there yet")
            return {}
        found = {}
        for path in folder.iterdir():
            match = _SEED_NAME.fullmatch(path.name)
            if match:
                value = self.read(path / inside if inside else path, read)
                if value is not None:
                    found[int(match[1])] = value
        return dict(sorted(found.items()))

    def compare(
        self,
        records: Mapping[int, RunRecord],
        predictions: Mapping[int, list[Row]],
        metrics: Metrics | None,
        planned: Iterable[int] = (),
    ) -> None:
        """Note every planned seed that is missing, seeds missing in one part, and items that do not agree."""
        parts: dict[str, Iterable[int]] = {"training": records, "predictions": predictions}
        if metrics is not None:
            parts[scores_file(self.directory).name] = metrics.seeds
        seeds = sorted({*planned, *(seed for part in parts.values() for seed in part)})
        for name, part in parts.items():
            missing = [seed for seed in seeds if seed not in part]
            if missing and list(part):
                self.absent.append(f"{self.directory / name}: no seed {', '.join(map(str, missing))}")
        if len({questions(rows) for rows in predictions.values()}) > 1:
            self.broken.append(f"{self.directory / 'predictions'}: the seeds have different items")
        self.compare_records(records)
        forms = {record.corpus.form for record in records.values()}
        if metrics is not None and forms and forms != {metrics.form}:
            where = scores_file(self.directory)
            self.broken.append(f"{where}: form is {metrics.form}, but the records have {', '.join(sorted(forms))}")
        counts = {len(rows) for rows in predictions.values()}
        if metrics is not None and counts and counts != {metrics.items}:
            where = scores_file(self.directory)
            self.broken.append(f"{where}: items is {metrics.items}, but predictions hold {sorted(counts)}")

    def compare_records(self, records: Mapping[int, RunRecord]) -> None:
        """Note every seed that was trained otherwise than most, and every adapter that is another seed's."""
        usual = {name: _most([_settings(record, name) for record in records.values()]) for name in SAME_FOR_EVERY_SEED}
        adapters: dict[str, int] = {}
        for seed, record in records.items():
            path = self.directory / "training" / f"seed-{seed}" / "record.json"
            for name in SAME_FOR_EVERY_SEED:
                if _settings(record, name) != usual[name]:
                    self.broken.append(f"{path}, {name}: differs from the other seeds'; a run has one for all seeds")
            if record.adapter is not None and record.counts.trainable:
                other = adapters.setdefault(record.adapter.sha256, seed)
                if other != seed:
                    self.broken.append(f"{path}, adapter: the file of seed {other} again; a copy is no second run")


def _most(values: Sequence[Any]) -> Any:
    """The commonest of values that need not be hashable, the first of equally common ones; None of none."""
    return max(values, key=values.count, default=None)


def _settings(record: RunRecord, name: str) -> Any:
    """A field of the record, of the method's configuration without the seeds of its own draws."""
    value = getattr(record, name)
    return {k: v for k, v in value.items() if k not in OWN_SEEDS} if name == "method_config" else value


def _read_record(path: Path, directory: Path) -> RunRecord:
    check_schema(path)
    record = read_record(path)
    check_place(path, record.profile, record.experiment, directory)
    if path.parent.name != f"seed-{record.seed}":
        raise DataError(f"{path}, seed: {record.seed} is in a folder named {path.parent.name}")
    return record


def check_schema(path: str | Path) -> None:
    """DataError if a record is of a schema version that this code does not read, before its fields are looked at."""
    content = read_json(path)
    known = get_args(RunRecord.model_fields["schema_version"].annotation)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(content, dict) and version not in known:
        given = "missing" if version is None else f"is {version!r}"
        raise DataError(
            f"{path}, schema_version: {given}, this release reads {' and '.join(map(str, known))}; read it with the "
            "release that wrote it, or run the stage again"
        )


def _subdirectories(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def experiment_labels(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Experiment -> what to call it: the method with its settings, then backbone and task where they differ, and
    the experiment's name where two would still be alike.
    """
    labels = {experiment.name: _label(experiment) for experiment in experiments}
    records = [(experiment.name, experiment.record) for experiment in experiments if experiment.record]
    if len({record.backbone for _, record in records}) > 1:
        for name, record in records:
            labels[name] += f", {backbone_name(record.backbone)}"
    if len({record.corpus.name for _, record in records}) > 1:
        for name, record in records:
            labels[name] += f", {task_name(record.corpus.name)}"
    shared = Counter(labels.values())
    return {name: label if shared[label] == 1 else f"{label} [{name}]" for name, label in labels.items()}


def _label(experiment: Experiment) -> str:
    record: RunRecord | None = experiment.record
    return experiment.name if record is None else method_label(record.method, record.method_config)
