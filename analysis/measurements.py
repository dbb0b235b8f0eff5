"""measurements/<profile>/memory.json: peak memory of phase 2 at several K, each measured in a fresh process."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.scores import first_fault
from replication.errors import DataError
from replication.fileio import read_json


class MemoryRow(BaseModel):
    """Peak bytes at one K: in phase 2 from a checkpoint; of the model at rest; with every adapter trained."""

    model_config = ConfigDict(frozen=True)

    keep: int = Field(ge=1)
    phase2_peak_bytes: int = Field(ge=0)
    baseline_bytes: int | None = Field(None, ge=0)
    all_adapters_peak_bytes: int | None = Field(None, ge=0)


class Memory(BaseModel):
    """One series of measurements on one backbone."""

    model_config = ConfigDict(frozen=True)

    backbone: str
    batch: int
    length: int
    rank: int | None = None
    adapters: int | None = None
    rows: tuple[MemoryRow, ...] = Field(min_length=1)


def read_memory(directory: str | Path | None) -> tuple[Memory | None, list[str]]:
    """memory.json of one profile's folder (`measurements/quick`), rows by K; None, and why, where there is none."""
    path = Path(directory) / "memory.json" if directory is not None else None
    if path is None or not path.is_file():
        return None, []
    try:
        memory = Memory.model_validate(read_json(path))
    except DataError as error:
        return None, [str(error)]
    except ValidationError as error:
        return None, [f"{path}, {first_fault(error)}"]
    return memory.model_copy(update={"rows": tuple(sorted(memory.rows, key=lambda row: row.keep))}), []
