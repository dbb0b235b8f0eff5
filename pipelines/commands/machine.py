"""The machine a run meets: Python, torch, device, memory, disk, Java, and versions that are not as pinned."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from replication.metrics.java import find_java

PROJECT = "peft-replication"


@dataclass(frozen=True)
class Machine:
    """Hardware and software; sizes in bytes, None if unknown."""

    python: str
    system: str
    torch: str | None
    device: str
    accelerator: bool
    threads: int
    memory: int | None
    disk_free: int


def read_machine(folder: Path) -> Machine:
    """This machine; `disk_free` is of the file system that holds `folder`. Imports torch."""
    version, device, accelerator, threads = _torch()
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        torch=version,
        device=device,
        accelerator=accelerator,
        threads=threads,
        memory=_memory(),
        disk_free=shutil.disk_usage(folder).free,
    )


def _torch() -> tuple[str | None, str, bool, int]:
    try:
        import torch
    except (ImportError, OSError):  # OSError: one of its shared libraries does not load
        return None, "none", False, os.cpu_count() or 1
    if torch.cuda.is_available():
        return torch.__version__, f"cuda ({torch.cuda.get_device_name(0)})", True, torch.get_num_threads()
    if torch.backends.mps.is_available():
        return torch.__version__, "mps", True, torch.get_num_threads()
    return torch.__version__, "cpu", False, torch.get_num_threads()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def java_version() -> str | None:
    """First line of `java -version`, such as 'openjdk version "21.0.2"'; None without a Java that starts."""
    java = find_java()
    if java is None:
        return None
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, errors="replace")
    lines = [line for line in answer.stderr.splitlines() if "version" in line]
    return lines[0].strip() if lines else "version unknown"


def drift(constraints: Path) -> list[str] | None:
    """Direct dependencies that are installed in another version than pinned, as "name 1.2 (pinned 1.1)".

    None when there is nothing to compare: no such file, or the project itself is not installed.
    """
    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
        requirements = metadata.requires(PROJECT) or []
    except (OSError, metadata.PackageNotFoundError):
        return None
    pins = dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==\S+", line))
    pinned = {_normal(name): version for name, version in pins.items()}
    differing = []
    for requirement in requirements:
        name = _normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
        if "extra ==" in requirement or name not in pinned:
            continue
        found = _version(name)
        if found != pinned[name]:
            differing.append(f"{name} {found or 'absent'} (pinned {pinned[name]})")
    return differing


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]  # 2.13.0+cpu is 2.13.0
    except metadata.PackageNotFoundError:
        return None
