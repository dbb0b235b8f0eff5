"""A stage that is told to stop: after the training step, with a checkpoint; at once where nothing trains."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pipelines.shared import processes
from replication.errors import Stopped, on_signals

WATCH_SECONDS = 1.0
DVC_VARIABLE = "DVC_STAGE"


@dataclass
class _Training:
    """Whether signals wait for the end of a step, and the one that does."""

    waits: bool = False
    noted: int = 0


_training = _Training()


def take(number: int, _: FrameType | None = None) -> None:
    """Note the first signal while a model trains; stop at once otherwise, and at a second one."""
    if not _training.waits or _training.noted:
        raise Stopped(number)
    _training.noted = number
    text = f"{signal.Signals(number).name}: stopping after this step, with a checkpoint; once more: at once\n"
    os.write(2, text.encode())  # print is not safe here: the signal may have come inside another print


@contextmanager
def between_steps() -> Iterator[Callable[[], int] | None]:
    """For the block, signals wait; yields the function for `train(stop=...)`, the number of the one that waits or 0.

    Of several processes each would stop after another step, so there a signal ends them at once: yields None.
    """
    if processes.count() > 1:
        yield None
        return
    _training.waits, _training.noted = True, 0
    try:
        yield lambda: _training.noted
        if _training.noted:  # it came during the last step, whose checkpoint is written
            raise Stopped(_training.noted)
    finally:
        _training.waits, _training.noted = False, 0


def obey() -> None:
    """Take signals as above; end with the DVC that started this stage, which passes no signal on."""
    on_signals(take)
    if DVC_VARIABLE in os.environ and processes.count() == 1:
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
