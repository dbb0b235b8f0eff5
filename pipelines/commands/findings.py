"""What `replicate doctor` finds: the requirements of a profile, their state, and the commands that fix them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from replication.backbones import Backbone

State = Literal["ok", "unused", "pipeline", "network", "limited", "missing"]


class Probe(Protocol):
    """Checks over the network, for `--online`; each returns None if available, otherwise the reason."""

    def url(self, address: str) -> str | None:
        """Whether a file can be downloaded from `address`."""

    def model(self, backbone: Backbone) -> str | None:
        """Whether this user can fetch the backbone's pinned revision from the model hub."""

    def dataset(self, repository: str, revision: str) -> str | None:
        """Whether the hub has this revision of a dataset."""

    def package(self, requirement: str) -> str | None:
        """Whether the package registry offers `name==version`."""


@dataclass(frozen=True)
class Finding:
    """One requirement of a profile and its state.

    `state`: "ok"; "unused" (by every profile); "pipeline" (a stage makes it here); "network" (a stage downloads
    it); "limited" (runs, with less); "missing" (the profile cannot run). `fix`: shell commands, or why there are none.
    """

    name: str
    state: State
    text: str
    fix: tuple[str, ...] = ()


def over_network(name: str, where: str, fix: Iterable[str], answer: str | None, *, asked: bool) -> Finding:
    """A requirement that a stage downloads. `answer` is the result of the online check, used only if `asked`."""
    if not asked:
        return Finding(name, "network", where, tuple(fix))
    if answer is None:
        return Finding(name, "network", f"{where}, which answers", tuple(fix))
    return Finding(name, "missing", f"{where}: {answer}", tuple(fix))
