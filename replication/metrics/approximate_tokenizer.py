"""Replacement for the official tokenizer without Java: the Penn Treebank rules of plain English.

In order: control characters are removed; quotes, dashes, brackets and currency signs take the official program's
spelling ("£" becomes "#", "(" becomes "-lrb-"); contractions split ("don't" -> do n't, "pub's" -> pub 's);
every other symbol is a token, except within a word or number ("family-friendly", "20-25", "1,000",
"U.S."); a period stays on a known abbreviation; case is lowered and punctuation dropped as in the official
tokenisation. Not covered: web addresses, telephone numbers, fractions, SGML, emoticons, and rarer
abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from replication.metrics.ptb_tokenizer import drop_punctuation

_SPELLING = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "«": '"',
        "»": '"',
        "–": "--",
        "—": "--",
        "…": "...",
        "£": "#",
        "€": "$",
        "¢": " cents ",
        "\u00ad": None,
        "\u00a0": " ",
    }
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TOKEN = re.compile(
    r"""
      (?:mr|mrs|ms|dr|st|jr|sr|inc|ltd|co|corp|vs|etc|e\.g|i\.e)\.(?=\s+\S)   # abbreviation, not at the end
    | (?:[a-z]\.){2,}                                    # U.S., a.m.
    | can(?=not\b)                                       # cannot -> can not
    | [^\W_]+?(?=n't\b)                                  # do|n't
    | n't\b
    | '(?:s|m|d|re|ve|ll)\b
    | (?<!\w)-?\d+(?:[.,:]\d+)*(?:-\d+(?:[.,:]\d+)*)*(?![^\W_]|[-/][^\W_])  # 1,000 or 20-25, not 5-star
    | [^\W_]+(?:(?:[-/_&.@]|'(?!(?:s|m|d|re|ve|ll)\b))[^\W_]+)*  # family-friendly, o'clock, and/or
    | \.{3,} | -{2,}
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenize(texts: Sequence[str]) -> list[str]:
    """Lower-case tokens of each text, joined by single blanks, punctuation dropped."""
    return [_tokenize_one(text) for text in texts]


def _tokenize_one(text: str) -> str:
    if not (text.isascii() and text.isprintable()):  # else nothing to replace
        text = _CONTROL.sub(" ", text).translate(_SPELLING)
    pieces = text.split()
    ends = [*[False] * (len(pieces) - 1), True]
    return " ".join(token for piece, end in zip(pieces, ends, strict=False) for token in _tokens(piece, end))


@lru_cache(maxsize=1 << 16)
def _tokens(piece: str, end: bool) -> tuple[str, ...]:
    """Tokens of what stands between white space; no rule but that of abbreviations sees what follows it."""
    found = (token.lower() for token in _TOKEN.findall(piece if end else f"{piece} x"))
    tokens = [_BRACKETS.get(token, token) for token in found if token != '"']
    return tuple(drop_punctuation(tokens if end else tokens[:-1]).split())
