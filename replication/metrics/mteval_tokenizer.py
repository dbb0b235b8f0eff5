"""Words as BLEU and NIST count them: the basic tokenisation of NIST's mteval-v13a, in lower case.

Source of the rules: metrics/pymteval.py of the E2E NLG challenge's evaluation scripts
(tuetschek/e2e-metrics), the "Python mteval mode". Punctuation other than apostrophe, comma, period and
hyphen is always a token; a comma or a period does unless it sits between two digits; a hyphen does after
a digit. Only ASCII digits and ASCII symbols count: a pound sign stays attached to its number.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Order matters: "&amp;lt;" becomes "&lt;" and then "<", as in the original.
_REPLACEMENTS = (
    ("<skipped>", ""),
    ("-\n", ""),
    ("\n", " "),
    ("&quot;", '"'),
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
)
_SYMBOL = re.compile(r"([{-~\[-` -&(-+:-@/])")
_STOP_AFTER_NON_DIGIT = re.compile(r"([^0-9])([.,])")
_STOP_BEFORE_NON_DIGIT = re.compile(r"([.,])([^0-9])")
_HYPHEN_AFTER_DIGIT = re.compile(r"([0-9])(-)")


def tokenize(text: str) -> list[str]:
    """Lower-case words of one segment.

    A segment without words gives one empty word, `[""]`: the original counts an empty prediction as one
    word long.
    """
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    return [word for piece in text.split() for word in _words(piece)] or [""]


@lru_cache(maxsize=1 << 16)
def _words(piece: str) -> tuple[str, ...]:
    """Words of what stands between white space: no rule looks further, and corpora repeat their pieces."""
    # The padding lets the patterns below see a neighbour at both ends.
    text = _SYMBOL.sub(r" \1 ", f" {piece} ")
    text = _STOP_AFTER_NON_DIGIT.sub(r"\1 \2 ", text)
    text = _STOP_BEFORE_NON_DIGIT.sub(r" \1 \2", text)
    text = _HYPHEN_AFTER_DIGIT.sub(r"\1 \2 ", text)
    # Lower case word by word, after splitting: the case of a Greek final sigma depends on what follows it.
    return tuple(word.lower() for word in text.split())
