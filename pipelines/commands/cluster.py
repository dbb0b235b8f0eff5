"""Stages on a Ray cluster, for `replicate sweep --engine ray`.

The sweep and its `dvc repro` processes stay on one machine, so DVC decides what runs and writes dvc.lock as ever. A
stage's command is `python -m pipelines.<stage> ...`: a folder at the front of PATH has a `python` that hands the
command to the cluster as one task, prints what it prints, and exits as it does (`main`). The machines share a file
system: the project, its environment and its outputs have the same path on all of them.

Ray does not repeat a task whose node dies, since that node may still write: the cell fails, and the sweep's next run
goes on from its checkpoint.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.errors import ConfigError, printable
from replication.fileio import write_text

VARIABLE = "REPLICATION_RAY"
"""Address, processors and GPUs of a task as JSON, for `main`."""
CONNECT_SECONDS = 10.0
ON_GPU = ("pretrain", "finetune", "predict", "search")


@dataclass(frozen=True)
class RayCluster:
    """What a cell's process needs to use the cluster, and how many cells fit on it at a time."""

    environment: Mapping[str, str]
    places: int


def connect(address: str | None, threads: int, folder: Path) -> RayCluster:
    """Look at a running cluster: each stage takes `threads` of its processors and, where it trains or predicts and the
    cluster has GPUs, one of these. ConfigError if Ray is not installed, or no cluster answers.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--engine ray: ray is not installed; to install it run: pip install -c constraints.txt ray")
    there = address or os.environ.get("RAY_ADDRESS") or "auto"
    ray = _join(there)
    try:
        found = ray.cluster_resources()
    finally:
        ray.shutdown()
    gpus = int(found.get("GPU", 0))
    places = gpus or int(found.get("CPU", 0)) // threads
    if not places:
        raise ConfigError(
            f"--engine ray: the cluster {there} has {found.get('CPU', 0):g} processors and a stage takes {threads} "
            "(`threads` in params.yaml): add nodes, or lower threads"
        )
    launcher = (folder / "ray" / "python").absolute()
    write_text(launcher, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {__name__} "$@"\n')
    launcher.chmod(0o755)
    path = os.pathsep.join([str(launcher.parent), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    task = {"address": there, "num_cpus": threads, "num_gpus": min(gpus, 1), "launcher": str(launcher.parent)}
    return RayCluster({"PATH": path, VARIABLE: json.dumps(task)}, places)


def _join(address: str) -> Any:
    """The module `ray`, connected. Ray itself tries a port where nobody answers for minutes."""
    import ray

    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--engine ray: no cluster answers at {address} ({' '.join(str(error).split())}): start one with "
            "`ray start --head`, or name it with --address"
        ) from error
    return ray


def main(arguments: Sequence[str]) -> int:
    """Run `python <arguments>` on the cluster, in this folder, with this environment; its exit status."""
    task = json.loads(os.environ[VARIABLE])
    if not arguments[1:2] or arguments[1].rpartition(".")[2] not in ON_GPU:
        task["num_gpus"] = 0
    launcher = task.pop("launcher")
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != launcher)
    private = ("RAY_", VARIABLE, "CUDA_VISIBLE_DEVICES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(private)} | {"PATH": path}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ray = _join(task.pop("address"))
    lines = ray.remote(max_retries=0, **task)(run).remote([sys.executable, *arguments], str(Path.cwd()), environment)
    lost = "it ended without an exit status"
    try:
        for reference in lines:
            value = ray.get(reference)
            if isinstance(value, int):
                return value
            sys.stdout.buffer.write(value)
            sys.stdout.flush()
    except ray.exceptions.RayError as error:
        lost = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    finally:
        ray.cancel(lines, force=True)
        ray.shutdown()
    print(f"error: Ray lost this stage, run the sweep again to go on: {lost}", flush=True)  # after all that Ray says
    return 1


def run(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> Iterator[bytes | int]:
    """On the node: the lines that the command prints, then its exit status. It dies with the worker."""
    import ctypes
    import os
    import platform
    import signal
    import subprocess

    def end_with_worker() -> None:
        if platform.system() == "Linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    yield f"on {platform.node()}\n".encode()
    given = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, **given},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_worker,
    )
    assert process.stdout is not None
    for line in process.stdout:  # noqa: UP028 - Ray sends to the generator, which a file does not take
        yield line
    yield process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(2)
