"""Where sentences end, by rules: no model and no downloaded data.

A sentence ends at a newline (CNN/DailyMail's highlights have one a line), and after . ! or ? with what closes it,
before white space; not after a period that belongs to

- a word of ABBREVIATIONS ("Mr.", "Sept.", "vs."), or "No." before a digit,
- a single letter, as an initial ("George W. Bush"), the pronoun I apart,
- letters with a period each ("U.S.", "a.m.", "e.g.").

So a sentence that does end with such a word is joined to the next one. The usual recipe finds the ends with NLTK's
punkt, a trained model, which decides by the next word there.
"""

from __future__ import annotations

import re

_LISTED = (
    # titles and ranks
    "mr mrs ms messrs dr prof rev hon st jr sr gen col lt maj capt cmdr cpl sgt adm insp supt gov sen rep reps pres "
    # months; May is a word of its own
    "jan feb mar apr jun jul aug sept sep oct nov dec "
    # firms, addresses, references, measures
    "inc ltd co corp bros dept univ assn ave blvd rd mt ft vs etc al cf approx est fig figs vol pp oz lb lbs"
)
ABBREVIATIONS = frozenset(_LISTED.split())
"""In lower case, without the period."""
_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+")
_LAST_WORD = re.compile(r"[\w.]+(?:['’][\w.]+)*$")
_NUMBER = re.compile(r"no \d", re.IGNORECASE)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without surrounding white space, none of them empty."""
    return [sentence for line in text.split("\n") for sentence in _sentences(line)]


def _sentences(line: str) -> list[str]:
    pieces, start = [], 0
    for match in _END.finditer(line):
        if not (match[0].rstrip() == "." and _goes_on(line[start : match.start()], line[match.end() :])):
            pieces.append(line[start : match.end()])
            start = match.end()
    return [piece.strip() for piece in [*pieces, line[start:]] if piece.strip()]


def _goes_on(before: str, after: str) -> bool:
    """Whether the period between `before` and `after` belongs to the word before it."""
    found = _LAST_WORD.search(before)
    word = found[0] if found else ""
    initial = len(word) == 1 and word.isalpha() and word != "I"
    listed = word.lower() in ABBREVIATIONS or _NUMBER.fullmatch(f"{word} {after[:1]}") is not None
    return initial or listed or _DOTTED.fullmatch(word) is not None
