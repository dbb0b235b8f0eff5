"""Records of a run. The record is reproducible and versioned; the cost is neither and is kept separately.

Imports neither torch nor transformers: reading records is cheap. `machine_conditions` and `peak_memory`
look at torch, the first by importing it, the second only where it is already loaded.
"""

from __future__ import annotations

import csv
import io
import math
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from replication.errors import DataError
from replication.fileio import read_json, write_json, write_text

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy", "peft", "peft-replication")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A git commit: the revision of a hub repository."""
Count = Annotated[int, Field(ge=0)]
Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Corpus(_Strict):
    """Which rows a run was trained and evaluated on.

    `reported_split` is the split of the corpus that test_items were taken from; `comparable`: whether it is the
    whole official one, a condition for comparison with a published figure (None: the profile decides). `sha256` says
    what the rows were read from: a file by its hash, a repository of the hub by its commit (`files`, `revisions`).
    """

    name: str
    label: str
    form: str = "generation"
    metric: str | None = None
    reported_split: str = "test"
    comparable: bool | None = None
    licence: str = ""
    note: str = ""
    train_examples: Count
    dev_examples: Count
    test_items: Count
    sha256: dict[str, Sha256 | Commit] = Field(min_length=1)

    @property
    def files(self) -> dict[str, str]:
        """sha256 of each source file."""
        return {name: identity for name, identity in self.sha256.items() if len(identity) == 64}

    @property
    def revisions(self) -> dict[str, str]:
        """Commit of each source repository of the hub."""
        return {name: identity for name, identity in self.sha256.items() if len(identity) == 40}


class ParameterCounts(_Strict):
    """`trainable` is the sum of adapter, importance and head."""

    adapter: Count
    importance: Count
    head: Count
    trainable: Count
    total: Count


class Result(_Strict):
    """Results of training; losses are per target token (None: nothing trained, no dev set)."""

    steps: Count
    tokens_seen: Count
    final_loss: float | None
    dev_loss: float | None


class FrozenPrefix(_Strict):
    """A deviation: at the end of training this many blocks ran, with the embeddings, in evaluation mode, their dropout
    off, because the prefix cache was on (replication/training/prefix_cache.py).
    """

    blocks: Count


class AdapterFile(_Strict):
    """The saved adapter."""

    bytes: Count
    sha256: Sha256


class Conditions(_Strict):
    """Conditions other than the code that affect the last bits of a float: same conditions, same record."""

    cpu: str
    blas: str
    threads: Annotated[int, Field(ge=1)]
    torch_build: str
    processes: Annotated[int, Field(ge=2)] | None = None  # that shared every batch, where there were several

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class RunRecord(_Strict):
    """record.json, schema version 1: all that is needed to repeat a run, and nothing that two runs differ in.

    No time, no path of a machine (refused), no git revision: those are in `Cost`.
    """

    schema_version: Literal[1] = 1
    profile: str
    experiment: str
    backbone: str
    backbone_sha256: Sha256 | None = None  # of the weights a pipeline stage made or unpacked
    task: str
    method: str
    method_config: dict[str, Any]
    training: dict[str, Any]
    decoding: dict[str, Any] | None
    seed: Count
    training_seed: Count | None = None  # if `seed` only draws the adapters
    corpus: Corpus
    counts: ParameterCounts
    counts_at_start: ParameterCounts | None = None  # where training changed them: adapters removed or expanded
    result: Result
    frozen_prefix: FrozenPrefix | None = None
    adapter: AdapterFile | None
    code_sha256: Sha256 | None = None  # of the code that made the run, or of earlier code accepted as equal
    versions: dict[str, str]
    conditions: Conditions
    tolerances_sha256: Sha256

    @model_validator(mode="after")
    def _repeats_elsewhere(self) -> RunRecord:
        for field, value in _leaves(self.model_dump()):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field} is {value}; a record holds finite numbers")
            if isinstance(value, str) and _is_machine_path(value):
                raise ValueError(f"{field} is the path {value!r}, which differs between machines; use a name or a hash")
        return self


class Cost(_Strict):
    """One seed's entry of a cost file: the resources of the run on this machine; not reproducible.

    A process's peak memory never falls, so several seeds in one process share it.
    """

    seconds: Annotated[float, Field(ge=0)]  # by the clock: other work on the machine counts
    cpu_seconds: Annotated[float, Field(ge=0)] | None = None  # processor time of the process, all threads
    tokens_per_second: Annotated[float, Field(ge=0)] | None = None
    peak_memory_bytes: Count
    peak_cuda_memory_bytes: Count | None = None
    machine: dict[str, Any]
    git_revision: str | None


def write_record(path: str | Path, record: RunRecord) -> Path:
    """Write the given fields to record.json; the bytes depend only on the record."""
    return write_json(path, record.model_dump(mode="json", exclude_unset=True))


def read_record(path: str | Path) -> RunRecord:
    """Read record.json; DataError names the file and every invalid field."""
    return _validated(RunRecord, read_json(path), path)


def write_costs(path: str | Path, costs: Mapping[Any, Cost]) -> Path:
    """Write a cost file: seed -> cost."""
    return write_json(path, {str(seed): cost.model_dump(mode="json") for seed, cost in costs.items()})


def read_costs(path: str | Path) -> dict[str, Cost]:
    """Read a cost file; DataError names the file and every invalid field."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of seeds, got {type(content).__name__}")
    return {seed: _validated(Cost, cost, f"{path}, seed {seed}") for seed, cost in content.items()}


def write_curves(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write curves.csv: columns as they first appear, floats with 9 significant digits, None blank."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return write_text(path, text.getvalue())


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the installed packages that decide a result, without importing them."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_conditions(threads: int | None = None) -> Conditions:
    """Hardware and software of this process; `threads` if training used another number than torch's current."""
    import torch

    build = torch.__config__.show()
    capability = re.search(r"CPU capability usage: (.+)", build)
    products = "" if has_bfloat16_kernels() else ", bfloat16 products in float32"
    return Conditions(
        cpu=_cpu_name(),
        blas=_blas(build),
        threads=threads or torch.get_num_threads(),
        torch_build=f"{torch.__version__}, CPU capability {capability[1] if capability else 'unknown'}{products}",
    )


def has_bfloat16_kernels() -> bool:
    """Whether torch multiplies bfloat16 matrices with this processor's vector units."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False


def peak_memory() -> tuple[int, int | None]:
    """Peak bytes of this process so far, and of CUDA (None without it).

    The first never falls: a later phase measured in the same process shows at least the earlier one's peak.
    """
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resident = usage if sys.platform == "darwin" else usage * 1024  # macOS counts bytes, Linux kilobytes
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return resident, torch.cuda.max_memory_allocated() if torch is not None and cuda else None


def resident_memory() -> int | None:
    """Bytes resident now; None if unknown without another package."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()


def git_revision(directory: str | Path = ".") -> str | None:
    """Commit of the checkout, with "-dirty" when tracked files differ from it; None outside git."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changes else commit


def _git(directory: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _validated(model: type[Model], content: Any, where: str | Path) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()]
        raise DataError(f"{where}: {'; '.join(faults)}. Run the stage that writes it again") from error


def _leaves(value: Any, field: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{field}.{key}" if field else str(key))
    else:
        yield field, value


def _is_machine_path(text: str) -> bool:
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return absolute or text.startswith(("~/", "file:"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas(build: str) -> str:
    """Name and version of the matrix library, from torch's description of its build."""
    name = re.search(r"BLAS_INFO=(\w+)", build)
    mkl = re.search(r"Math Kernel Library Version ([\w.]+)", build)
    text = name[1] if name else "unknown"
    return f"{text} {mkl[1]}" if mkl and text == "mkl" else text
