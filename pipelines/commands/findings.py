"""What `replicate doctor` finds: one need, how it stands, what mends it; and how the network is asked about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["ok", "unused", "pipeline", "network", "limited", "lacking"]


class Probe(Protocol):
    """Asks the network, for `--online`; each answer is None for yes, otherwise the reason for no."""

    def url(self, address: str) -> str | None:
        """Whether a file can be had from `address`."""

    def hub(self, repository: str, revision: str) -> str | None:
        """Whether the model hub gives this revision to this user."""

    def package(self, requirement: str) -> str | None:
        """Whether the package registry offers `name==version`."""


@dataclass(frozen=True)
class Finding:
    """One need of a profile, and how it stands.

    `state`: "ok"; "unused" (by every profile); "pipeline" (a stage makes it here); "network" (a stage downloads
    it); "limited" (goes on with less); "lacking" (stops the profile). `mend`: shell commands, or why there are none.
    """

    name: str
    state: State
    text: str
    mend: tuple[str, ...] = ()


def over_network(name: str, where: str, mend: Iterable[str], answer: str | None, *, asked: bool) -> Finding:
    """A need that a stage downloads; `answer` is why it cannot, None if it can, and counts once `asked`."""
    if not asked:
        return Finding(name, "network", where, tuple(mend))
    if answer is None:
        return Finding(name, "network", f"{where}, which answers", tuple(mend))
    return Finding(name, "lacking", f"{where}: {answer}", tuple(mend))
