"""The rows of the curves, as they grow, in Accelerate's trackers DVCLive and TensorBoard; off unless asked for.

A tracker writes to its own folder alone: DVCLive saves no experiment, writes no dvc.yaml and starts no repository.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.errors import ConfigError

DVCLIVE, TENSORBOARD = "dvclive", "tensorboard"
TRACKERS = (DVCLIVE, TENSORBOARD)


def check_trackers(names: Sequence[str]) -> None:
    """ConfigError for a name that is none, and for a tracker that is not installed, with the line that installs it."""
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"track: {name!r} is no tracker; valid names are {', '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            install = f"pip install -c constraints.txt {name}"
            raise ConfigError(f"track: {name} is not installed; to install it run: {install}")


@dataclass(frozen=True)
class Track:
    """Trackers by name, and the folder that gets one folder of each; ConfigError for one that cannot be used."""

    names: tuple[str, ...]
    directory: Path

    def __post_init__(self) -> None:
        check_trackers(self.names)
        above = (Path.cwd(), *Path.cwd().parents)
        git = next((folder for folder in above if (folder / ".git").exists()), None)
        if DVCLIVE in self.names and git and not any((folder / ".dvc").exists() for folder in above):
            raise ConfigError(f"track: dvclive would make {git} a DVC repository; run `dvc init` there first")


@contextmanager
def tracked(track: Track | None, *, start: int | None = None) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Yield `log(row)`, which hands the numbers of a row to every tracker and returns the row.

    What an earlier run left in a tracker's folder goes, unless this one continues it after step `start`.
    """
    with ExitStack() as stack:
        trackers = [_start(name, track.directory / name, start) for name in dict.fromkeys(track.names)] if track else []
        for tracker in trackers:
            stack.callback(tracker.finish)

        def log(row: dict[str, Any]) -> dict[str, Any]:
            values = {name: value for name, value in row.items() if name != "step" and value is not None}
            for tracker in trackers:
                tracker.log(values, step=row["step"])
            return row

        yield log


def _start(name: str, folder: Path, start: int | None) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import DVCLiveTracker, TensorBoardTracker

    PartialState()  # which the trackers ask for the main process
    if start is None:
        shutil.rmtree(folder, ignore_errors=True)
    tracker: Any
    if name == DVCLIVE:
        options = {"save_dvc_exp": False, "dvcyaml": None, "report": None}
        tracker = DVCLiveTracker(name, dir=str(folder), resume=start is not None, **options)
    else:
        purge = None if start is None else start + 1
        tracker = TensorBoardTracker(name, folder.parent, purge_step=purge)
    tracker.start()
    return tracker
