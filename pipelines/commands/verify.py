"""`replicate verify`: whether the results of a profile follow from their files.

For each experiment: adapter, record, predictions, answers, scores and dvc.lock belong together
(`analysis.load.evidence`); every score, mean and spread is recomputed from the predictions; every parameter count is
recomputed from the backbone's architecture. A recomputed score agrees if it equals the written one to 9 significant
digits: another processor may add floats in another order. Needs no weights and no network; METEOR, and ROUGE-L and
CIDEr on the official tokens, need Java. What cannot be recomputed is listed and counted, and is no mismatch.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.selection import ONLY, select, settings_of
from replication.errors import printable
from replication.terminal import examples, working

if TYPE_CHECKING:
    from analysis.load.evidence import Mismatch
    from analysis.load.runs import Experiment, Metrics
    from pipelines.commands.verify_counts import Recount
    from pipelines.shared.settings import Settings
    from replication.metrics import Scores

SCHEMA_VERSION = 1
Tell = Callable[[str], None]


def register(app: typer.Typer) -> None:
    """Add `verify` to the `replicate` command."""
    epilog = examples("replicate verify --only 'qa-*'", "replicate verify --profile cpu --only 'cola-*' --json")
    app.command("verify", epilog=epilog)(verify)


def verify(
    profile: Annotated[
        list[str] | None, typer.Option(help="quick, cpu or paper; may be repeated (default: quick).")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help=ONLY)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recompute every score from the predictions and every count from the architecture; exit code 1 on a mismatch."""
    found = []
    with working("reading") as tell:
        for name in dict.fromkeys(profile or ["quick"]):
            for one in verified(settings_of(name, None), only or [], tell):
                found.append(one)
                if not as_json:
                    print(printable("\n".join(one.lines())), flush=True)
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, **totals(found)}, indent=2, ensure_ascii=False))
    else:
        print(summary(found))
    raise typer.Exit(1 if any(one.state == "mismatch" for one in found) else 0)


@dataclass
class Verified:
    """What was compared and recomputed of one experiment. `not_recomputed`: what, and why."""

    profile: str
    experiment: str
    state: str = "ok"
    files: int = 0
    scores: int = 0
    counts: int = 0
    differences: list[Mismatch] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_recomputed: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """One line, and one for each mismatch and each value that could not be recomputed."""
        name = f"{self.profile}/{self.experiment}"
        if self.state in ("not run", "incomplete"):
            yield f"{self.state}: {name}"
        else:
            checked = f"{self.files} files compared, {self.scores} scores and {self.counts} counts recomputed"
            yield f"{self.state}: {name}: {checked}"
        yield from (f"  mismatch: {difference}" for difference in self.differences)
        yield from (f"  {'mismatch' if self.state == 'mismatch' else 'problem'}: {text}" for text in self.problems)
        for reason in dict.fromkeys(why for _, why in self.not_recomputed):
            what = ", ".join(name for name, why in self.not_recomputed if why == reason)
            yield f"  not recomputed: {what}: {reason}"

    def as_json(self) -> dict[str, Any]:
        """The fields; a mismatch that is no difference of two values has only `problem`."""
        told = [
            {
                "file": one.file.as_posix(),
                "field": one.field,
                "expected": one.expected,
                "found": one.found,
                "problem": str(one),
            }
            for one in self.differences
        ]
        told += [{"file": None, "field": None, "expected": None, "found": None, "problem": p} for p in self.problems]
        return {
            "profile": self.profile,
            "experiment": self.experiment,
            "state": self.state,
            "files": self.files,
            "scores": self.scores,
            "counts": self.counts,
            "mismatches": told if self.state == "mismatch" else [],
            "problems": [] if self.state == "mismatch" else self.problems,
            "not_recomputed": [{"what": what, "why": why} for what, why in self.not_recomputed],
        }


def totals(found: Sequence[Verified]) -> dict[str, Any]:
    """Counts over all experiments, and each of them."""
    return {
        "ok": sum(one.state == "ok" for one in found),
        "mismatch": sum(one.state == "mismatch" for one in found),
        "incomplete": sum(one.state == "incomplete" for one in found),
        "not_run": sum(one.state == "not run" for one in found),
        "removed": sum(one.state == "removed" for one in found),
        "files": sum(one.files for one in found),
        "scores": sum(one.scores for one in found),
        "counts": sum(one.counts for one in found),
        "not_recomputed": sum(len(one.not_recomputed) for one in found),
        "experiments": [one.as_json() for one in found],
    }


def summary(found: Sequence[Verified]) -> str:
    """The last lines."""
    total = totals(found)
    removed = f", {total['removed']} that params.yaml no longer has" if total["removed"] else ""
    return (
        f"{total['ok']} experiments ok, {total['mismatch']} with a mismatch, {total['incomplete']} incomplete, "
        f"{total['not_run']} not run{removed};\n{total['files']} files compared, {total['scores']} scores and "
        f"{total['counts']} counts recomputed,\n{total['not_recomputed']} not recomputed"
    )


def verified(settings: Settings, patterns: Sequence[str], tell: Tell = lambda text: None) -> Iterator[Verified]:
    """Each experiment of the profile: those in params.yaml, then other folders of runs; `patterns` select some."""
    from analysis.load.runs import load_experiment, load_profile
    from pipelines.commands.verify_counts import Recount
    from pipelines.report import planned

    runs, plan = Path("runs") / settings.profile, planned(settings)
    names = select(settings, patterns)
    if not patterns:
        folders = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        names += [name for name in folders if name not in plan and not name.startswith(".")]
    tell(f"{settings.profile}: reading {len(names)} experiments")
    recount = Recount(settings)
    loaded = {one.name: one for one in load_profile(runs, {name: plan[name] for name in names if name in plan})}
    loaded |= {name: load_experiment(runs / name) for name in names if name not in plan}
    for name in names:
        found = check(loaded[name], recount, tell)
        if name not in plan and found.state != "mismatch":
            found.state = "removed"
        yield found


def check(experiment: Experiment, recount: Recount, tell: Tell) -> Verified:
    """Everything that can be compared and recomputed of one experiment."""
    found = Verified(experiment.profile, experiment.name)
    if experiment.status == "missing":
        found.state = "not run"
        return found
    found.differences += experiment.differences
    check_files(experiment, found)
    if experiment.status == "failed":
        found.problems += [text for text in experiment.problems if text not in map(str, experiment.differences)]
    elif experiment.status == "incomplete":
        found.problems += experiment.problems
    if experiment.metrics is not None and set(experiment.metrics.seeds) <= set(experiment.predictions):
        check_scores(experiment, experiment.metrics, found, lambda step: tell(f"{experiment.name}: {step}"))
    elif experiment.metrics is not None:
        found.not_recomputed.append(("scores", "the predictions cannot be read"))
    for seed in experiment.records:
        check_counts(experiment, seed, recount, found)
    wrong = found.differences or experiment.status == "failed"
    found.state = "mismatch" if wrong else "incomplete" if experiment.status == "incomplete" else "ok"
    return found


def check_files(experiment: Experiment, found: Verified) -> None:
    """Adapters that are present are those the records name; what dvc.lock names is there."""
    from analysis.load.evidence import OUTPUTS, Mismatch, content_md5, read_lock, repro
    from pipelines.shared.paths import adapter_file
    from replication.errors import DataError
    from replication.fileio import sha256_file

    directory = experiment.directory
    found.files += sum(1 for part in ("training", "predictions") for _ in (directory / part).rglob("*.*"))
    found.files += sum((directory / name).is_file() for name in OUTPUTS["score"])
    for seed, record in experiment.records.items():
        path = directory / "adapter" / f"seed-{seed}" / adapter_file(record.method)
        if record.adapter is not None and path.is_file():
            found.files += 1
            source = f"{directory / 'training' / f'seed-{seed}' / 'record.json'} has"
            fix = f"`{repro(directory, 'finetune')}` trains it again"
            now = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            for name, value in now.items():
                if value != (wanted := getattr(record.adapter, name)):
                    found.differences.append(Mismatch(path, name, wanted, value, source, fix))
    try:
        lock = read_lock(directory.parent)
    except DataError:
        return  # the experiment has failed for it
    if lock is None:
        found.not_recomputed.append(("dvc.lock", "there is none; only hashes in the files were compared"))
        return
    inside = directory.absolute().relative_to(lock.root).as_posix()
    adapter = directory / "adapter"  # absent in a clone; its weights are compared above, here its other files too
    written = lock.outs.get(f"finetune@{directory.name}", {}).get(f"{inside}/adapter")
    if written and not found.differences and (present := content_md5(adapter)) not in (None, written):
        fix = f"`dvc checkout`, or `{repro(directory, 'finetune')}` trains it again"
        found.differences.append(Mismatch(adapter, "md5", written, present, f"{lock.path} has", fix))
    for stage, names in OUTPUTS.items():
        entry = lock.outs.get(f"{stage}@{directory.name}", {})
        for name in names:
            wanted = entry.get(f"{inside}/{name}")
            if wanted is None and (directory / name).exists():
                why = f"has no entry of {stage}@{directory.name} for it"
                found.not_recomputed.append((str(directory / name), f"{lock.path} {why}"))
            elif wanted is not None and not (directory / name).exists():
                fix = f"`git checkout`, or `{repro(directory, stage)}`"
                found.differences.append(Mismatch(directory / name, "md5", wanted, None, f"{lock.path} has", fix))


def check_scores(experiment: Experiment, metrics: Metrics, found: Verified, tell: Tell) -> None:
    """Every number of scores.json, from the predictions."""
    from analysis.load.evidence import Mismatch, repro
    from analysis.load.runs import scores_file
    from pipelines.score import over_seeds
    from replication.corpora.registry import describe
    from replication.errors import ReplicationError
    from replication.metrics import leading, score_systems

    path, record = scores_file(experiment.directory), experiment.record
    fix = f"`{repro(experiment.directory, 'score')}` scores again"
    try:
        protocol = "e2e" if record is None else record.corpus.metric or describe(record.corpus.name)["metric"]
        systems = {f"seed {seed}": experiment.predictions[seed] for seed in metrics.seeds}
        scored = score_systems(protocol, systems, java=None if metrics.approximate else "auto", progress=tell)
        lead = leading(protocol).name
    except ReplicationError as error:
        found.not_recomputed.append(("scores", str(error)))
        return
    results = {seed: scored[f"seed {seed}"] for seed in metrics.seeds}
    first = next(iter(results.values()))
    left = without_java(metrics, first)
    found.not_recomputed += [(name, "no Java") for name in left]

    def compare(name: str, expected: object, written: object, number: bool = False) -> None:
        found.scores += number
        if not same(expected, written):
            source = "the predictions give"
            found.differences.append(Mismatch(path, name, expected, written, source, fix))

    compare("metrics", list(first.values), list(metrics.metrics))
    compare("primary", lead, metrics.primary)
    compare("items", first.items, metrics.items)
    if not left:
        compare("approximate", list(first.approximate), list(metrics.approximate))
        compare("missing", list(first.missing), list(metrics.missing))
    notes = [f"seed {seed}: {note}" for seed, scores in results.items() for note in scores.notes]
    compare("notes", notes, list(metrics.notes))
    for name in first.values:
        if name in left or name not in metrics.metrics:
            continue
        values = [scores.values[name] for scores in results.values()]
        for seed, value in zip(results, values, strict=True):
            compare(f"seeds.{seed}.{name}", value, metrics.seeds[seed][name], number=True)
        compare(name, over_seeds(values, statistics.fmean), metrics.means[name], number=True)
        spread = over_seeds(values, statistics.stdev) if len(values) > 1 else None
        compare(f"spread.{name}", spread, metrics.spread.get(name), number=True)


def without_java(metrics: Metrics, scored: Scores) -> list[str]:
    """Metrics that were measured with Java, of which there is none here."""
    here, then = {*scored.approximate, *scored.missing}, {*metrics.approximate, *metrics.missing}
    return sorted(here - then) if scored.approximate and not metrics.approximate else []


def same(expected: object, written: object) -> bool:
    """Equal; numbers to 9 significant digits."""
    if isinstance(expected, float) and isinstance(written, int | float):
        return math.isclose(expected, written, rel_tol=1e-9, abs_tol=1e-12)
    return expected == written


def check_counts(experiment: Experiment, seed: int, recount: Recount, found: Verified) -> None:
    """Every parameter count of one seed's record, from the architecture."""
    from analysis.load.evidence import Mismatch, repro
    from pipelines.commands.verify_counts import FIELDS, NotRecomputedError, differences
    from replication.errors import AdapterError

    record, selection = experiment.records[seed], experiment.selections.get(seed)
    try:
        counted = recount.counted(record, selection)
    except NotRecomputedError as error:
        found.not_recomputed.append((f"counts of seed {seed}", str(error)))
        return
    except AdapterError as error:
        file = experiment.directory / "training" / f"seed-{seed}" / ("selection.json" if selection else "record.json")
        name, source = ("survivors" if selection else "method_config"), f"{record.method} on {record.backbone} has"
        fix = f"`{repro(experiment.directory, 'finetune')}` trains it again"
        found.differences.append(Mismatch(file, name, "others", str(error), source, fix))
        return
    found.differences += differences(experiment, seed, counted)
    if counted.unknown:
        names = ", ".join(name for name in FIELDS if name in counted.unknown)
        found.not_recomputed.append((f"{names} of seed {seed}", counted.why))
    found.counts += (len(FIELDS) - len(counted.unknown)) * (2 if record.counts_at_start is not None else 1)
