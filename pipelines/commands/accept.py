"""`replicate accept`: keep results although their code was edited, once a sample shows that no value has changed.

Stages depend on folders of code, so an edited docstring makes every run of a profile stale. This command runs a sample
of cells, shortened, with the commit that made or last accepted them and with the working tree, on this machine. The
sample covers every task form, every named setting of a method and every backbone of the stale stages, for each version
of the code that made them. It compares prepared rows, tensors, curves, predictions and scores. If all are equal, it
writes the new hashes of the code to dvc.lock, and those of settings that mean the same as before. Hashes of data and of
outputs stay, absent outputs included. If one value differs, it names the file and changes nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipelines.commands.accept_cells import differences, run_cells, source_differences
from pipelines.commands.selection import settings_of
from pipelines.commands.sweep import dvc_file
from pipelines.shared.code import ACCEPTED, PACKAGES, code_sha256
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import Settings
from pipelines.shared.stage import say
from replication.errors import ConfigError, ReplicationError
from replication.fileio import read_json, sha256_file, write_json
from replication.terminal import WIDTH, examples, working

CORPUS_FIELDS = ("corpus", "source", "train_examples", "dev_examples", "test_items", "selection_seed")
"""What the prepare stage takes from a task's settings."""
UNCOMMITTED = "0" * 40


def register(app: typer.Typer) -> None:
    """Add `accept` to the `replicate` command."""
    epilog = examples("replicate accept --dry-run", "replicate accept --profile cpu --dry-run --json")
    app.command("accept", epilog=epilog)(accept)


def accept(
    profile: Annotated[
        str | None, typer.Option(help="quick, cpu or paper (default: quick, or as in --params).")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="The profile's params.yaml, instead of its name.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the stale stages and the sample; run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Keep the results of edited code: run a sample with old and new code, compare, renew dvc.lock; exit code 1 when a
    value differs.
    """
    settings = settings_of(profile, params)
    with working("reading dvc.lock"):
        before = code_files()
        stale, left = stale_stages(settings)
        plans = sample(settings, stale, left)
    found: list[str] = []
    accepted: list[StaleStage] = []
    if not dry_run:
        with working("running the sample") as spin:
            tell = spin if as_json else say
            for plan in plans:
                tell(f"{plan.commit[:12]}: {', '.join(plan.experiments)} for {len(plan.stages)} stages")
            found = compare(settings, plans, tell, left)
        if edited := sorted({name for name, _ in before ^ code_files()}):
            raise ReplicationError(f"{edited[0]} was edited while the cells ran; nothing accepted, run accept again")
        if not found:
            accepted = [stage for plan in plans for stage in plan.stages if stage.name not in left]
        renew(settings, accepted)
    outcome = {
        "profile": settings.profile,
        "sample": {plan.commit: plan.experiments for plan in plans},
        "accepted": [stage.name for stage in accepted],
        "left": left,
        "differences": found,
    }
    if as_json:
        print(json.dumps(outcome))
    else:
        report(outcome, dry_run)
    raise typer.Exit(1 if found else 0)


def report(outcome: Mapping[str, Any], dry_run: bool) -> None:
    """The outcome for a person."""
    for name, reason in outcome["left"].items():
        say(f"left stale: {name}: {reason}")
    if dry_run and not outcome["sample"]:
        say(f"{outcome['profile']}: nothing to accept, no result has other code than it ran with")
    elif dry_run:
        for commit, experiments in outcome["sample"].items():
            text = f"would compare with {commit[:12]}: {', '.join(experiments)}"
            say(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    elif outcome["differences"]:
        for line in outcome["differences"]:
            say(f"differs: {line}")
        say(f"nothing accepted: {len(outcome['differences'])} files differ; run the stale stages again")
    else:
        say(f"{outcome['profile']}: {len(outcome['accepted'])} stages accepted, {len(outcome['left'])} left stale")


def code_files() -> set[tuple[str, str]]:
    """Every file of code in the working tree, with its hash."""
    paths = (path for package in PACKAGES for path in Path(package).rglob("*") if path.suffix in (".py", ".json"))
    return {(path.as_posix(), sha256_file(path)) for path in paths if path.is_file()}


# --- what is stale


@dataclass
class StaleStage:
    """A stage in dvc.lock whose code has changed since; `dvc` is DVC's own object of it.

    `tags`: what a sampled cell has to have to speak for it. `commit`: the one that last wrote its entry.
    """

    name: str
    dvc: Any
    commit: str
    tags: frozenset[str]
    experiment: str | None = None


def stale_stages(settings: Settings) -> tuple[list[StaleStage], dict[str, str]]:
    """Stages that are stale only because of their code, and by name why others stay stale."""
    file = dvc_file(settings)
    lock = file.with_suffix(".lock")
    if not lock.is_file():
        raise ConfigError(f"{lock}: no such file: nothing of this profile has run, so there is nothing to accept")
    commits = last_changed(lock)
    entries = yaml.load(lock.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    stale, left = [], {}
    for stage in load_stages(file):
        kind, _, key = stage.name.partition("@")
        if kind == "report" or stage.frozen or stage.name not in commits:
            continue
        entry = entries[stage.name]
        if not code_changed(stage, entry):
            continue
        reason = why_not(settings, stage, entry.get("params", {}))
        if reason:
            left[stage.name] = reason
        else:
            experiment = key if kind in ("finetune", "predict", "score") else None
            tags = frozenset(needed_tags(settings, kind, key))
            stale.append(StaleStage(stage.name, stage, commits[stage.name], tags, experiment))
    return stale, left


def load_stages(file: Path) -> list[Any]:
    """DVC's objects of all stages, with the hashes of dvc.lock."""
    from dvc.repo import Repo

    with Repo(str(Path.cwd())) as repo:
        return list(repo.stage.load_all(str(file.resolve())))


def last_changed(lock: Path) -> dict[str, str]:
    """Stage name -> the last commit that changed its entry in dvc.lock; ConfigError when the file is not committed."""
    answer = _git("blame", "--root", "-l", "-s", "--", lock.as_posix())
    if answer.returncode != 0:
        raise ConfigError(f"{lock}: {answer.stderr.strip() or 'git blame failed'}; accept needs the git history")
    commits = [line.split(maxsplit=1)[0] for line in answer.stdout.splitlines()]
    if UNCOMMITTED in commits:
        raise ConfigError(f"{lock}: has changes that are not committed; commit them, or `git checkout {lock}`")
    age = commit_ages()
    found: dict[str, str] = {}
    name = ""
    for text, commit in zip(lock.read_text(encoding="utf-8").splitlines(), commits, strict=True):
        if re.fullmatch(r"  \S+:", text):
            name = text.strip().rstrip(":")
        if name and (name not in found or age[commit] < age[found[name]]):
            found[name] = commit
    return found


def commit_ages() -> dict[str, int]:
    """Every commit up to HEAD, numbered from the newest."""
    return {commit: number for number, commit in enumerate(_git("rev-list", "HEAD").stdout.split())}


def code_changed(stage: Any, entry: Mapping[str, Any]) -> bool:
    """Whether the command or the code among the dependencies differs from the stage's entry in dvc.lock."""
    code = [dep for dep in stage.deps if is_code(dep)]
    locked = {dep["path"] for dep in entry["deps"] if dep["path"].startswith(PACKAGES)}
    other = locked != {dep.def_path for dep in code}
    return other or stage.cmd_changed or any(dep.workspace_status() for dep in code)


def is_code(dep: Any) -> bool:
    """Whether a dependency is part of the project's code; a params.yaml under pipelines/ is not."""
    from dvc.dependency import ParamsDependency

    return not isinstance(dep, ParamsDependency) and str(dep.def_path).startswith(PACKAGES)


def why_not(settings: Settings, stage: Any, params: Mapping[str, Any]) -> str | None:
    """Why a stage whose code has changed cannot be accepted; None if it can. `params`: those in dvc.lock."""
    from dvc.dependency import ParamsDependency

    for out in stage.outs:
        if not out.hash_info:
            return f"dvc.lock has no output {out.def_path}; run the stage"
    for dep in stage.deps:
        state = dep.workspace_status()
        if isinstance(dep, ParamsDependency):
            if state and not same_settings(settings, stage.name, params.get(settings.params_file, {})):
                return f"its settings in {dep.def_path} have changed: {', '.join(state[str(dep)])}"
        elif not is_code(dep) and not dep.hash_info:
            if not dep.exists:
                return f"dvc.lock has no dependency {dep.def_path}, and the file is absent; run the stage"
        elif not is_code(dep) and "modified" in state.values():
            return f"{dep.def_path} has changed"
    return None


def same_settings(settings: Settings, stage: str, before: Mapping[str, Any]) -> bool:
    """Whether settings that are written differently than in dvc.lock mean the same as when the stage ran."""
    kind, _, key = stage.partition("@")
    if kind == "prepare":
        old, new = before.get(f"tasks.{key}", {}), settings.task(key).model_dump(mode="json")
        return all(_but_code(old).get(name) == _but_code(new)[name] for name in CORPUS_FIELDS)
    if kind == "pretrain":
        old = before.get(f"backbones.{key}", before.get("backbones", {}).get(key, {}))
        new = yaml.safe_load(Path(settings.params_file).read_text(encoding="utf-8"))["backbones"][key]
        return _but_code(old) == _but_code(new) and before.get("threads") == settings.threads
    if kind in ("finetune", "predict"):
        return not record_differences(settings, key)
    return False


def _but_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the name of a file of code, which is a dependency."""
    return {name: "code" if str(value).startswith(PACKAGES) else value for name, value in values.items()}


def record_differences(settings: Settings, key: str) -> list[str]:
    """Fields of the experiment's committed records that differ from what its settings resolve to now."""
    from replication.methods.shared.base import config_settings

    experiment = resolve(settings, key)
    records = experiment.run.glob("training/*/record.json")
    folders = {int(path.parent.name.removeprefix("seed-")): path for path in records}
    if set(folders) != set(experiment.seeds):
        return ["seeds"]
    wrong = set()
    for seed, path in folders.items():
        record = read_json(path)
        now = {
            "backbone": experiment.backbone.name,
            "task": experiment.task,
            "method": experiment.method,
            "method_config": config_settings(experiment.methods[seed]),
        }
        if experiment.baseline is None:
            now["training"] = json.loads(json.dumps(experiment.training.to_dict()))
        for name, value in now.items():
            old = record[name]
            if isinstance(value, dict):  # a field missing in the record had its default
                wrong |= {f"{name}.{part}" for part in old if value.get(part, "absent") != old[part]}
            elif value != old:
                wrong.add(name)
    decoding = experiment.run / "predictions" / "decoding.json"
    old, new = read_json(decoding)["decoding"] if decoding.is_file() else {}, experiment.options.recorded()
    wrong |= {f"decoding.{part}" for part in old if new.get(part, "absent") != old[part]}
    return sorted(wrong)


# --- the sample


@dataclass
class Plan:
    """Cells to run with one version of the code and with the working tree, and the stages they speak for."""

    commit: str
    stages: list[StaleStage] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)


def needed_tags(settings: Settings, kind: str, key: str) -> Iterator[str]:
    """What a cell has to have to speak for a stage."""
    if kind == "pretrain":
        yield f"backbone {key}"
        return
    if kind == "prepare":
        yield f"form {settings.task(key).form}"
        return
    row = settings.experiment(key)
    yield f"form {settings.task(row.task).form}"
    if kind != "score":
        yield f"method {row.method} {row.settings}"


def offered_tags(settings: Settings, key: str) -> set[str]:
    """What a cell of this experiment has."""
    row = settings.experiment(key)
    form = settings.task(row.task).form
    return {f"form {form}", f"method {row.method} {row.settings}", f"backbone {row.backbone}"}


def sample(settings: Settings, stale: Sequence[StaleStage], left: dict[str, str]) -> list[Plan]:
    """For each version of the code, experiments that cover the tags of its stages; `left` gets stages without any."""
    plans: dict[str, Plan] = {}
    age = commit_ages()
    for stage in stale:
        files = _git("ls-tree", "-r", stage.commit, "--", *PACKAGES).stdout.splitlines()
        version = "\n".join(file for file in files if file.endswith((".py", ".json")))
        plan = plans.setdefault(version, Plan(stage.commit))
        plan.commit = min(plan.commit, stage.commit, key=age.__getitem__)  # the newest: it has the most experiments
        plan.stages.append(stage)
    for plan in plans.values():
        missing = {tag for stage in plan.stages for tag in stage.tags}
        own = [stage.experiment for stage in plan.stages if stage.experiment]
        known = experiments_at(settings, plan.commit)
        for key in [key for key in dict.fromkeys([*own, *settings.experiments]) if key in known]:
            if missing & offered_tags(settings, key):
                plan.experiments.append(key)
                missing -= offered_tags(settings, key)
        for stage in plan.stages:
            if stage.tags & missing:
                left[stage.name] = f"no experiment of {plan.commit[:12]} has {', '.join(sorted(stage.tags & missing))}"
        plan.stages = [stage for stage in plan.stages if stage.name not in left]
    return [plan for plan in plans.values() if plan.stages]


def experiments_at(settings: Settings, commit: str) -> set[str]:
    """Names of the experiments at a commit."""
    shown = _git("show", f"{commit}:{settings.params_file}")
    return set(yaml.safe_load(shown.stdout).get("experiments", {})) if shown.returncode == 0 else set()


def compare(settings: Settings, plans: Sequence[Plan], tell: Any, left: dict[str, str]) -> list[str]:
    """Every file of the sampled cells whose values differ between old and new code.

    A version that cannot run its cells leaves its stages stale; ReplicationError when the working tree cannot.
    """
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="accept-") as scratch:
        new = Path(scratch) / "new"
        wanted = sorted({key for plan in plans for key in plan.experiments})
        failed = run_cells(Path.cwd(), settings.params_file, wanted, new, tell) if wanted else {}
        if failed:
            name, error = next(iter(failed.items()))
            raise ReplicationError(f"{name} fails with the working tree: {error}")
        for plan in plans:
            old = Path(scratch) / plan.commit
            with worktree(plan.commit, Path(scratch) / f"tree-{plan.commit}") as tree:
                failed = run_cells(tree, settings.params_file, plan.experiments, old, tell)
            if failed:
                name, error = next(iter(failed.items()))
                left.update({stage.name: f"{name} fails with {plan.commit[:12]}: {error}" for stage in plan.stages})
                continue
            lines = source_differences(old, new)
            lines += [line for key in plan.experiments for line in differences(old, new, settings.profile, key)]
            found += [f"{plan.commit[:12]}: {line}" for line in lines]
    return found


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, in a folder that is removed afterwards."""
    added = _git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    if added.returncode != 0:
        raise ConfigError(f"{commit[:12]}: {added.stderr.strip()}; accept needs the project's whole git history")
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


# --- dvc.lock


def renew(settings: Settings, accepted: Sequence[StaleStage]) -> None:
    """Write the present hashes of code and settings of these stages to dvc.lock, and accepted_code.json."""
    from dvc.dependency import ParamsDependency
    from dvc.stage.serialize import to_single_stage_lockfile
    from dvc.utils.serialize import modify_yaml

    if not accepted:
        return
    for stage in accepted:
        for dep in stage.dvc.deps:
            if is_code(dep) or isinstance(dep, ParamsDependency) or not dep.hash_info:
                dep.save()
    with modify_yaml(str(dvc_file(settings).with_suffix(".lock"))) as content:
        for stage in accepted:
            content["stages"][stage.name] = to_single_stage_lockfile(stage.dvc)
    keep_code_hashes(settings, [stage.name for stage in accepted])


def keep_code_hashes(settings: Settings, names: Sequence[str]) -> None:
    """Map the hash of the present code to that in the accepted records, so that a new run has equal bytes."""
    recorded: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        stage, _, key = name.partition("@")
        pattern = {"finetune": "training/*/record.json", "predict": "predictions/decoding.json"}.get(stage)
        if pattern is None:
            continue
        now = code_sha256(stage, settings.experiment(key).method)
        for path in (Path("runs") / settings.profile / key).glob(pattern):
            recorded[now][read_json(path).get("code_sha256") or now] += 1
    path = Path(settings.params_file).with_name(ACCEPTED)
    kept = read_json(path) if path.is_file() else {}
    found = kept | {now: counts.most_common(1)[0][0] for now, counts in recorded.items()}
    methods = {row.method for row in settings.experiments.values()}
    present = {code_sha256(stage, method) for stage in ("finetune", "predict") for method in methods}
    write_json(path, {now: found[now] for now in sorted(present & set(found)) if found[now] != now})


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
