"""Errors a user can act on: each message names the file or field, the problem, and how to fix it."""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

IMPORT_POLL_SECONDS = 0.05
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ReplicationError(Exception):
    """Base class of this project's errors; the command line prints the message and exits with 2."""


class ConfigError(ReplicationError, ValueError):
    """A setting is invalid; raised when the configuration is constructed, before any work."""


class DataError(ReplicationError, ValueError):
    """A data file is missing, corrupt, or holds a row that cannot be used; names the file and the row."""


class ProgramError(ReplicationError, RuntimeError):
    """An external program (Java) did not start, died or gave no usable answer; holds its output."""


class AdapterError(ReplicationError, ValueError):
    """A method cannot be attached, merged, saved or loaded as requested."""


class CheckpointError(ReplicationError, ValueError):
    """A checkpoint belongs to another configuration or is damaged."""


class TrainingError(ReplicationError, RuntimeError):
    """Training cannot continue, for example because the loss is not a number; names the step and the batch."""


class Stopped(BaseException):
    """Signal `number` ends the work; `done` says what was kept. The command line exits with 128 + number."""

    def __init__(self, number: int, done: str = "") -> None:
        super().__init__(number, done)
        self.number, self.done = number, done

    def __str__(self) -> str:
        kept = f" ({self.done})" if self.done else ""
        return f"stopped by {signal.Signals(self.number).name}{kept}; run the same command again to continue"


def on_signals(handle: Callable[[int, FrameType | None], None]) -> None:
    """Let `handle` take SIGINT, SIGTERM and SIGHUP; one that the parent had ignored (nohup) stays ignored.

    One that comes within an import waits for its end: libraries go on where a part of them could not be imported,
    which would lose the signal and leave half a module.
    """

    @functools.wraps(handle)
    def take(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            signal.signal(signal.SIGALRM, lambda _, later: take(number, later))
            signal.setitimer(signal.ITIMER_REAL, IMPORT_POLL_SECONDS)
        else:
            handle(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, take)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def stop(number: int, _: FrameType | None = None) -> NoReturn:
    """Stop at once: for `on_signals`."""
    raise Stopped(number)


class ReplicationWarning(UserWarning):
    """Something was not done that the settings ask for; the message says how to have it done."""


def printable(text: str) -> str:
    """`text` with U+FFFD for control characters, bidirectional ones too, but newline and tab: they steer a terminal."""
    return _CONTROLS.sub("\ufffd", text)
