"""Checkpoints of a training run: tensors as safetensors, everything else as JSON; nothing is ever unpickled.

A run owns one folder and keeps the latest checkpoint in it:

    <folder>/step-00000300/tensors.safetensors    model/<parameter>, optimizer/<parameter>/<state>
    <folder>/step-00000300/state.json             step, identity, random states, counters, curves

A checkpoint is written aside, flushed and renamed; the older one is deleted only after the new one is complete. So at
every moment at least one whole checkpoint is there, once there has been one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from replication.errors import CheckpointError, DataError
from replication.fileio import (
    read_json,
    replaced_directory,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_json,
)
from replication.training.parallel import gathered, split_as

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """State to continue after `step` updates: named tensors, and a state of JSON values."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def configuration_hash(identity: Mapping[str, Any]) -> str:
    """16 hex digits that name a configuration, for example as the name of its checkpoint folder."""
    return sha256_json(_as_json(identity))[:16]


def save_checkpoint(directory: str | Path, identity: Mapping[str, Any], checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into the run's folder, then remove the others. Returns its own folder."""
    directory = Path(directory)
    path = directory / f"step-{checkpoint.step:08d}"
    with replaced_directory(path) as aside:
        save_file(checkpoint.tensors, aside / TENSORS)
        state = {
            "format": FORMAT,
            "step": checkpoint.step,
            "identity": _as_json(identity),
            "tensors_sha256": sha256_file(aside / TENSORS),
            **checkpoint.state,
        }
        write_json(aside / STATE, {**state, "sha256": sha256_json(_as_json(state))})
        for name in (TENSORS, STATE):  # on the disk before the older checkpoint is deleted
            with (aside / name).open("rb") as handle:
                os.fsync(handle.fileno())
    for other in _folders(directory):
        if other != path:
            shutil.rmtree(other)
    return path


def load_checkpoint(directory: str | Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The latest whole checkpoint of this very configuration, or None if there is none yet.

    A damaged one is skipped, with a warning, for an older one if there is one. CheckpointError
    when it was made by another configuration (each differing field is named) or when all are damaged.
    """
    directory = Path(directory)
    for leftover in directory.glob(".step-*"):  # of a run that was killed while writing
        shutil.rmtree(leftover, ignore_errors=True)
    damages: list[str] = []
    for path in reversed(_folders(directory)):
        try:
            state = _read_state(path)
            _refuse_other_configuration(path, state["identity"], _as_json(identity))
            checkpoint = Checkpoint(state["step"], _read_tensors(path, state["tensors_sha256"]), state)
        except _DamageError as damage:
            damages.append(str(damage))
            continue
        if damages:
            warnings.warn(f"{'; '.join(damages)}: going on from {path} instead", stacklevel=2)
        return checkpoint
    if damages:
        raise CheckpointError(f"{'; '.join(damages)}. Delete {directory} to restart the run")
    return None


def discard_checkpoints(directory: str | Path) -> None:
    """Remove a finished run's folder; no error when there is none."""
    shutil.rmtree(directory, ignore_errors=True)


def model_fingerprint(model: torch.nn.Module) -> str:
    """sha256 over what training does not change (frozen parameters, buffers) and shapes of trained parameters."""
    lines = []
    frozen = [(name, p, p.requires_grad) for name, p in model.named_parameters()]
    for name, tensor, trained in sorted([*frozen, *((n, b, False) for n, b in model.named_buffers())], key=_first):
        content = "trained" if trained else sha256_bytes(_raw_bytes(tensor))
        lines.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} {content}\n")
    return sha256_bytes("".join(lines).encode())


def pack_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, names: Iterable[str], *, keep: bool = True
) -> dict[str, torch.Tensor]:
    """The named parameters and their optimizer states under flat names, on the CPU. Where FSDP2 has sharded them, all
    processes call this together; one that does not `keep` them gets an empty dict.
    """
    parameters = dict(model.named_parameters())
    tensors = {}
    for name in names:
        found = {f"model/{name}": parameters[name]}
        found |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state.get(parameters[name], {}).items()}
        for key, value in found.items():
            whole = gathered(torch.as_tensor(value))
            if keep:
                tensors[key] = _detached(whole)
    return tensors


def unpack_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `pack_tensors` took, by name, into a model and an optimizer built as they were.

    Names, not positions: a parameter that has no optimizer state yet, or was added in another order, cannot
    shift its neighbours. CheckpointError if a name or a shape does not fit.
    """
    parameters = dict(model.named_parameters())
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        name, _, part = (rest, "", "") if kind == "model" else rest.rpartition("/")
        if name not in parameters or (kind == "model" and parameters[name].shape != tensor.shape):
            raise CheckpointError(f"the checkpoint holds {key} of shape {tuple(tensor.shape)}; the model does not")
        if kind == "optimizer":
            states.setdefault(name, {})[part] = tensor
        else:
            with torch.no_grad():
                parameters[name].copy_(split_as(tensor, parameters[name]))
    groups = optimizer.state_dict()["param_groups"]
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    positions = {id(p): position for position, p in enumerate(optimized)}
    by_position = {
        positions[id(parameters[name])]: {key: split_as(value, parameters[name]) for key, value in state.items()}
        for name, state in states.items()
        if id(parameters[name]) in positions  # a callback may have taken one out of the optimizer
    }
    optimizer.load_state_dict({"state": by_position, "param_groups": groups})


class _DamageError(Exception):
    """A file of a checkpoint that cannot be read whole."""


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = read_json(path / STATE)
        written = {key: value for key, value in state.items() if key != "sha256"}
        whole = state["sha256"] == sha256_json(written)
    except (DataError, KeyError, AttributeError, OSError) as error:
        raise _DamageError(f"{path / STATE} is damaged ({error})") from error
    if not whole:
        raise _DamageError(f"{path / STATE} is damaged (its checksum does not fit)")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {state['format']}, this version reads {FORMAT}; "
            f"delete {path.parent} to restart the run"
        )
    return state


def _read_tensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    file = path / TENSORS
    try:
        if sha256_file(file) != sha256:
            raise _DamageError(f"{file} is damaged (its checksum does not fit)")
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _DamageError(f"{file} is damaged ({error})") from error


def _refuse_other_configuration(path: Path, saved: Any, current: Any) -> None:
    if found := _differences(saved, current):
        raise CheckpointError(
            f"{path} was made by another configuration: {'; '.join(found)}. Restore these settings, or "
            f"delete {path.parent} to restart, or use a separate folder for each configuration"
        )


def _differences(saved: Any, current: Any, field: str = "") -> list[str]:
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = [*saved, *(key for key in current if key not in saved)]
        return [
            line
            for key in keys
            for line in _differences(
                saved.get(key, "absent"), current.get(key, "absent"), f"{field}.{key}" if field else key
            )
        ]
    return [] if saved == current else [f"{field} is {saved!r} there and {current!r} now"]


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))


def _as_json(value: Any) -> Any:
    """`value` after a round trip through JSON: tuples become lists, keys become text."""
    return json.loads(json.dumps(value))


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _raw_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _first(item: tuple[str, torch.Tensor, bool]) -> str:
    return item[0]
