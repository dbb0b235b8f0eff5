"""Preflight: everything a training needs and writes, tried before its first step; no numbers are learned.

It opens the inputs by their hashes, tokenises every split, builds the architecture with its head and the method on
torch's meta device, compares lengths with the model's positions, writes each output with placeholder numbers into the
folder it will be in, reads it back, and compares the disk with what checkpoints and adapters will take. `finetune` and
`search` call `require`; `replicate preflight` shows the report. Random states are as before.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.shared import processes
from pipelines.shared.cost import Start, seed_cost, write_cost
from pipelines.shared.experiment import Experiment
from pipelines.shared.fitting import Fitted
from pipelines.shared.paths import corpus_of, prepared_hashes, read_rows, weights_sha256
from pipelines.shared.records import outcome, training_record
from replication.corpora.rows import odd_rows
from replication.errors import DataError, ReplicationError
from replication.fileio import PARTIAL, read_json, write_json
from replication.tasks import get_form
from replication.tasks.base import Fit

if TYPE_CHECKING:
    from torch import nn

SPLITS = ("train", "dev", "test")
ADAM_STATES = 2
"""Tensors of a parameter's size that AdamW keeps and a checkpoint holds, besides the parameter."""
SPARE = 64 * 2**20
"""Bytes for everything that is small: records, curves, predictions."""


@dataclass(frozen=True)
class Split:
    """How one split fits: its rows, what they give (examples or inputs), the longest, rows that are cut, odd rows."""

    rows: int
    examples: int
    longest: int
    truncated: int
    odd: Mapping[str, int]


@dataclass
class Report:
    """What was found. `problems` name the file or field and the fix; bytes of one seed's adapter and checkpoint, what
    the experiment takes on the disk at most, and what is free there.
    """

    experiment: str
    problems: list[str] = field(default_factory=list)
    splits: dict[str, Split] = field(default_factory=dict)
    trainable: int | None = None
    adapter_bytes: int | None = None
    checkpoint_bytes: int | None = None
    disk_bytes: int | None = None
    free_bytes: int | None = None
    seconds: float = 0.0


def require(experiment: Experiment) -> Report:
    """The report; DataError lists all problems."""
    from pipelines.shared.stage import say

    report = preflight(experiment)
    if report.problems:
        raise DataError(f"{experiment.key}: preflight, nothing is trained: {'; '.join(report.problems)}")
    say(f"{experiment.key}: preflight {shown(report)}")
    return report


def shown(report: Report) -> str:
    """A report without problems in one line."""
    parts = []
    for name, split in report.splits.items():
        cut = f", {100 * split.truncated / split.rows:.1f} % cut" if split.truncated else ""
        odd = "".join(f", {number} {kind}" for kind, number in split.odd.items())
        parts.append(f"{name} {split.rows:,} rows{cut}{odd}")
    if report.disk_bytes is not None and report.free_bytes is not None:
        parts.append(f"{report.disk_bytes / 1e9:.2f} of {report.free_bytes / 1e9:.1f} GB")
    return f"{'; '.join(parts)} ({report.seconds:.1f} s)"


def preflight(experiment: Experiment) -> Report:
    """Try everything; a problem hides only what depends on it. A search reads only the training split and writes no
    record.
    """
    from replication.training.determinism import capture_random_states, restore_random_states

    report, started, random = Report(experiment.key), time.perf_counter(), capture_random_states()
    try:
        _examine(experiment, report)
    finally:
        restore_random_states(random)
    report.seconds = time.perf_counter() - started
    return report


def _examine(experiment: Experiment, report: Report) -> None:
    searches, model, hashes, writable = experiment.search is not None, None, None, False
    with noted(report):
        weights_sha256(experiment.weights)
    with noted(report):
        if experiment.baseline is None:
            model = build(experiment)
            measure(experiment, model, report)
    with noted(report):
        hashes = prepared_hashes(experiment.prepared)
    for name in SPLITS[:1] if searches else SPLITS:
        with noted(report):
            if hashes is not None:
                report.splits[name], fit = read_split(experiment, name, hashes[f"{name}.jsonl"])
                if model is not None:
                    check_lengths(experiment, model, name, fit)
    with noted(report):
        check_folder(experiment.scratch)
        check_folder(Path("searches") / experiment.profile if searches else experiment.run)
        writable = not searches
    with noted(report):
        if writable and hashes is not None and (model is not None or experiment.baseline is not None):
            with probe(experiment.run) as folder:
                write_outputs(experiment, model, folder)


@contextmanager
def noted(report: Report) -> Iterator[None]:
    """A block whose expected error becomes a problem of the report."""
    try:
        yield
    except (ReplicationError, OSError) as error:
        report.problems.append(" ".join(str(error).split()))


# --- model


def build(experiment: Experiment) -> nn.Module:
    """The architecture with the task's head and the method on it, without memory."""
    from replication.backbones import build_empty
    from replication.methods import attach

    base = build_empty(experiment.backbone.name, task=experiment.form.model_task, num_labels=experiment.num_labels)
    return attach(base, experiment.methods[experiment.seeds[0]])


def measure(experiment: Experiment, model: nn.Module, report: Report) -> None:
    """Bytes that the run writes; DataError if the disk has less.

    A training holds two checkpoints while it writes the second, and the prefix cache up to its bound. Each seed's
    adapter is there twice before the old results are replaced: in checkpoints/ and in runs/.
    """
    from replication.methods.shared.saving import saved_state

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    report.trainable = sum(parameter.numel() for parameter in trained)
    report.adapter_bytes = sum(tensor.numel() * tensor.element_size() for tensor in saved_state(model).values())
    sizes = (parameter.numel() * parameter.element_size() for parameter in trained)
    report.checkpoint_bytes = (1 + ADAM_STATES) * sum(sizes)
    if experiment.search is not None:  # which keeps numbers alone
        return
    cache = int((experiment.training.prefix_cache or 0) * 2**30)
    report.disk_bytes = 2 * report.checkpoint_bytes + 2 * len(experiment.seeds) * report.adapter_bytes + cache + SPARE
    report.free_bytes = shutil.disk_usage(existing(experiment.scratch)).free
    if report.free_bytes < report.disk_bytes:
        raise DataError(
            f"{experiment.scratch}: {report.free_bytes / 1e9:.2f} GB are free, {report.disk_bytes / 1e9:.2f} GB needed "
            f"(two checkpoints of {report.checkpoint_bytes / 1e9:.2f} GB, {2 * len(experiment.seeds)} adapters of "
            f"{report.adapter_bytes / 1e9:.2f} GB, a prefix cache of {cache / 1e9:.2f} GB): make room, or run fewer "
            "seeds at a time"
        )


# --- data


def read_split(experiment: Experiment, name: str, sha256: str) -> tuple[Split, Fit]:
    """How the rows of one prepared split fit; DataError names the split and the row that cannot be used."""
    path = experiment.prepared / f"{name}.jsonl"
    rows = read_rows(experiment.prepared, name)
    if experiment.baseline is not None:
        if name == "test":
            experiment.form.gold(rows)
        return Split(len(rows), 0, 0, 0, odd_rows(experiment.form.name, rows)), Fit(len(rows), (), 0)
    try:
        fit = _fit(
            experiment.form.name, experiment.backbone.name, experiment.weights.resolve(), path.resolve(), sha256,
            experiment.options,
        )  # fmt: skip
        if name == "test":
            experiment.form.gold(rows)
    except ReplicationError as error:
        raise DataError(f"{path}: {error}") from error
    odd = odd_rows(experiment.form.name, rows)
    return Split(len(rows), len(fit.lengths), fit.longest, fit.truncated, odd), fit


@lru_cache(maxsize=64)
def _fit(form: str, backbone: str, weights: Path, path: Path, sha256: str, options: Any) -> Fit:
    """Several methods and seeds share a split: it is tokenised once a process."""
    from replication.backbones import load_tokenizer

    tokenizer = load_tokenizer(backbone, weights)
    return get_form(form).fit(tokenizer, read_rows(path.parent, path.stem), options)


def check_lengths(experiment: Experiment, model: Any, name: str, fit: Fit) -> None:
    """That every example fits the model's positions, and that the training examples fill a batch."""
    from replication.tasks.base import check_positions
    from replication.training.checks import check_before_training

    where = f"{experiment.prepared / f'{name}.jsonl'}, {experiment.where}"
    examples = [range(length) for length in fit.lengths]
    try:
        if name == "test":
            longest = "max_source_length" if hasattr(experiment.options, "max_source_length") else "max_length"
            check_positions(model, fit.lengths, longest)
        else:
            trains = name == "train" and any(parameter.requires_grad for parameter in model.parameters())
            splits = ([], examples) if name == "dev" else (examples, [])
            check_before_training(model, *splits, experiment.training, processes.count(), trains=trains)
    except ReplicationError as error:
        raise DataError(f"{where}: {error}") from error


# --- outputs


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def check_folder(folder: Path) -> bool:
    """True if a file can be written where `folder` is or will be."""
    parent = existing(folder)
    blocked = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocked is not None:
        raise DataError(f"{blocked}: is a file where a folder is needed; move it away")
    try:
        with tempfile.NamedTemporaryFile(dir=parent, prefix=".preflight.", suffix=PARTIAL):
            return True
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); give write access to {parent}") from error


@contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """An empty folder on the disk of `folder`, which is removed again."""
    with tempfile.TemporaryDirectory(dir=existing(folder), prefix=".preflight.", suffix=PARTIAL) as path:
        yield Path(path)


def write_outputs(experiment: Experiment, model: nn.Module | None, folder: Path) -> None:
    """Every file of a run but the adapter, with placeholder numbers, each read back; DataError names file and field."""
    from replication.methods.selection import present_updates, report
    from replication.records import read_costs, read_record, versions, write_curves, write_record

    fitted = placeholder(experiment, model)
    corpus, adapter = corpus_of(experiment.prepared), {"bytes": 0, "sha256": "0" * 64}
    for seed in experiment.seeds:
        record = training_record(experiment, seed, outcome(experiment, fitted), adapter, corpus)
        read_record(write_record(folder / "record.json", record))
    with write_curves(folder / "curves.csv", fitted.result.curves).open(newline="") as handle:
        if list(next(csv.DictReader(handle))) != list(fitted.result.curves[0]):
            raise DataError(f"{experiment.run}/training/*/curves.csv: reads back with other columns")
    config = experiment.methods[experiment.seeds[0]]
    if model is not None and hasattr(config, "keep"):
        kept = list(present_updates(model))[: config.keep or 0]  # random_lora has drawn its slots already
        read_json(write_json(folder / "selection.json", report(config, model, kept)))
    costs = {seed: seed_cost(Start(), 1.0) for seed in experiment.seeds}
    read_costs(write_cost(folder, "training", costs, threads=experiment.threads))
    read_json(write_json(folder / "decoding.json", {"decoding": experiment.options.recorded(), "versions": versions()}))


def placeholder(experiment: Experiment, model: nn.Module | None) -> Fitted:
    """A training that ended, with its real counts and made-up numbers."""
    from replication.counting import parameter_counts
    from replication.training.loop import TrainingResult

    if model is None:
        from pipelines.shared.baseline import nothing_fitted

        return nothing_fitted(experiment)
    counts = parameter_counts(model)
    row = {"step": 0, "loss": 1.0, "dev_loss": None, "learning_rate": 0.0}
    result = TrainingResult(
        steps=experiment.training.steps,
        tokens_seen=1,
        final_loss=1.0,
        dev_loss=1.0,
        curves=[row],
        update_seconds=1.0,
        peak_memory_bytes=0,
        peak_cuda_memory_bytes=None,
        frozen_blocks=None if experiment.training.prefix_cache is None else 0,
    )
    return Fitted(model, counts, counts, result, None)
