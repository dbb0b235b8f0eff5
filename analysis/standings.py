"""Standings of printed figures: how sure it is that a figure was printed as it stands here, as one letter each."""

from __future__ import annotations

# name -> letter, what it means.
STANDINGS: dict[str, tuple[str, str]] = {
    "paper": ("p", "read in the paper"),
    "authors_code": ("a", "from the authors' repositories and logs"),
    "third_party": ("t", "counted, measured or posted by others"),
    "unverified": ("u", "quoted without a copy at hand"),
    "unreadable": ("x", "unreadable: a digit could not be read"),
}


def letter(standing: str | None) -> str:
    """The letter beside a figure; a standing that is not known is spelt out."""
    return STANDINGS[standing][0] if standing in STANDINGS else str(standing or "")


def meaning(standing: str) -> str:
    """What the standing says, in a few words."""
    return STANDINGS[standing][1] if standing in STANDINGS else standing.replace("_", " ")
