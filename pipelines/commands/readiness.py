"""What each profile requires, what this machine is missing, and the commands that fix it.

Reads files and versions only; uses the network only if a probe is given.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipelines.commands.corpus_readiness import corpus_findings, unobtainable_tasks
from pipelines.commands.estimates import known_cases
from pipelines.commands.findings import Finding, Probe
from pipelines.commands.machine import Machine, drift, java_version, read_machine
from pipelines.commands.planning import Plan, make_plan
from pipelines.commands.weights_readiness import backbone_weights, sentencepiece, unused_weights
from pipelines.shared.settings import Settings, Task, load_settings
from replication.backbones import BACKBONES, Backbone
from replication.errors import ConfigError

PROFILES = {
    "quick": Path("params.yaml"),
    "cpu": Path("pipelines/cpu/params.yaml"),
    "paper": Path("pipelines/paper/params.yaml"),
}
DISK_GIGABYTES = {"quick": 1, "cpu": 4}
"""Disk space a profile takes: weights in their folder, in DVC's cache and as downloaded, checkpoints, runs.

What the paper profile takes follows from its experiments (`planning`).
"""


@dataclass(frozen=True)
class Profile:
    """One profile's requirements and the command that runs it."""

    name: str
    command: str
    needs: tuple[Finding, ...]

    @property
    def state(self) -> Literal["ready", "needs network", "blocked"]:
        """The state that the worst requirement allows."""
        states = {need.state for need in self.needs}
        if "missing" in states:
            return "blocked"
        return "needs network" if "network" in states else "ready"

    @property
    def can_run(self) -> bool:
        """Whether it would run to the end, given network access if it needs that."""
        return self.state != "blocked"


@dataclass(frozen=True)
class Examination:
    """Everything `replicate doctor` shows; `plan` is that of the paper profile, None if its settings are broken."""

    root: Path
    machine: Machine
    software: tuple[Finding, ...]
    corpora: tuple[Finding, ...]
    weights: tuple[Finding, ...]
    profiles: tuple[Profile, ...]
    plan: Plan | None = None


def examine(root: Path, probe: Probe | None = None) -> Examination:
    """Check everything the profiles below `root` require; a broken params.yaml is an unmet requirement."""
    machine = read_machine(root)
    software = (dvc_command(root), torch_package(machine), java(), pinned_versions(root))
    profiles, corpora, weights, plan = [], {}, {}, None
    for name, file in PROFILES.items():
        pipeline = "" if file.parent == Path() else f"{file.parent.as_posix()}/dvc.yaml"
        needs, command = list(software), f"dvc repro {pipeline}".strip()
        if name == "paper":
            needs.append(accelerator(machine))
        else:
            needs.append(disk(DISK_GIGABYTES[name], machine))
        try:
            settings = load_settings(root / file)
        except ConfigError as error:
            verb = "diff" if (root / file).is_file() else "checkout --"
            fix = (f"git {verb} {file.as_posix()}",)
            needs.append(Finding(f"{name} settings", "missing", str(error), fix))
        else:
            for finding in corpus_findings(root, used_tasks(settings), pipeline, probe):
                corpora[finding.name] = finding
                needs.append(finding)
            for backbone in used_backbones(settings):
                weights[backbone.name] = backbone_weights(root, backbone, probe)
                needs.append(weights[backbone.name])
                reader = sentencepiece(root, backbone)
                if reader.state != "ok":
                    needs.append(reader)
            if name == "paper":
                plan = make_plan(root, settings, list(settings.experiments), known_cases(root), probe)
                needs.append(disk(plan.disk / 1e9, machine))
            if unobtainable_tasks(settings, root):
                command = f"make reproduce-{name}"  # `dvc repro` would end at the task that cannot be prepared
        profiles.append(Profile(name, command, tuple(needs)))
    unused = [unused_weights(root, known) for known in BACKBONES.values() if known.name not in weights]
    found = (*weights.values(), *unused)
    return Examination(root, machine, software, tuple(corpora.values()), found, tuple(profiles), plan)


def profile_file(root: Path, profile: str) -> Path:
    """The params.yaml of a profile below `root`; ConfigError lists the profiles."""
    known = {**PROFILES, **{path.parent.name: path.relative_to(root) for path in root.glob("pipelines/*/params.yaml")}}
    if profile not in known:
        raise ConfigError(f"--profile {profile}: no such profile; valid profiles: {', '.join(known)}")
    return known[profile]


def used_tasks(settings: Settings) -> list[tuple[str, Task]]:
    """(key, task) for the tasks of the profile's experiments."""
    used = {experiment.task for experiment in settings.experiments.values()}
    return [(key, task) for key, task in settings.tasks.items() if key in used]


def used_backbones(settings: Settings) -> list[Backbone]:
    """The known backbones of the profile's experiments."""
    used = {experiment.backbone for experiment in settings.experiments.values()}
    return [BACKBONES[key] for key in settings.backbones if key in used and key in BACKBONES]


# --- software and machine


def dvc_command(root: Path) -> Finding:
    """DVC runs every profile; its stages call `python`, which must also be this environment's."""
    if find_spec("dvc") is None:
        return Finding("DVC", "missing", "not installed", (_INSTALL,))
    bin_folder = Path(sys.executable).parent
    if shutil.which("dvc") == str(bin_folder / "dvc"):
        return Finding("DVC", "ok", "on the PATH")
    activate = bin_folder / "activate"
    inside = activate.is_relative_to(root)
    fix = f". {activate.relative_to(root) if inside else activate}"
    if not activate.is_file():
        fix = f'export PATH="{bin_folder}:$PATH"'
    return Finding("DVC", "limited", "installed, but the PATH finds another `dvc`", (fix,))


_INSTALL = "python -m pip install -e . -c constraints.txt"


def torch_package(machine: Machine) -> Finding:
    """Every training and decoding stage needs torch."""
    if machine.torch is None:
        return Finding("torch", "missing", "cannot be imported", (_INSTALL,))
    return Finding("torch", "ok", machine.torch)


def java() -> Finding:
    """METEOR and the official tokenizer are Java programs."""
    version = java_version()
    if version is not None:
        return Finding("Java", "ok", version)
    text = "none: METEOR will be missing, ROUGE-L and CIDEr approximate"
    fix = "brew install openjdk" if platform.system() == "Darwin" else "apt-get install default-jre-headless"
    return Finding("Java", "limited", text, (fix,))


def pinned_versions(root: Path) -> Finding:
    """Results are bitwise reproducible only with the versions of constraints.txt."""
    differing = drift(root / "constraints.txt")
    if differing is None:
        return Finding(
            "versions", "limited", "no constraints.txt to compare with", ("git checkout -- constraints.txt",)
        )
    if not differing:
        return Finding("versions", "ok", "as pinned in constraints.txt")
    text = f"not as pinned: {', '.join(differing)}; results may differ"
    return Finding("versions", "limited", text, (_INSTALL,))


def disk(wanted: float, machine: Machine) -> Finding:
    """Disk space for what a profile writes, in GB."""
    free = machine.disk_free / 1e9
    if free >= wanted:
        return Finding("disk", "ok", f"{free:.1f} GB free")
    text = f"{free:.1f} GB free, {wanted:.0f} GB needed"
    return Finding("disk", "missing", text, ("dvc gc --workspace  # removes cached files of other commits",))


def accelerator(machine: Machine) -> Finding:
    """The paper profile trains models of up to 8 billion parameters."""
    if machine.accelerator:
        return Finding("accelerator", "ok", machine.device)
    if shutil.which("nvidia-smi") and machine.torch:
        text = f"an NVIDIA card, but torch {machine.torch} does not use it"
        version = machine.torch.partition("+")[0]
        return Finding("accelerator", "missing", text, (f"pip install --force-reinstall torch=={version}",))
    fix = ("no command: use a machine where torch sees a CUDA or Apple GPU",)
    return Finding("accelerator", "missing", "none", fix)
