"""The microworld's acceptability task: sentences of its grammar, and the same kind of sentence with one slip.

The slips are chosen so that no reading saves the sentence: a verb of the wrong number, the wrong article, a first
verb, an article or an `of` left out, two words the wrong way round. Half of all sentences have two places as their
subject, so that each form of a verb is right in one sentence and wrong in another.
"""

from __future__ import annotations

import re

from replication.corpora.schema import MeaningRepresentation
from studies.microworld.facts import ASKED, SINGULAR_NAMES, Item, described, drawn_value, item_of, meaning, stated
from studies.microworld.grammar import Draw, capitalised, series

UNACCEPTABLE, ACCEPTABLE = range(2)
PLURAL = {
    "is": "are",
    "has": "have",
    "does": "do",
    "serves": "serve",
    "offers": "offer",
    "costs": "cost",
    "welcomes": "welcome",
}
SINGULAR = {plural: singular for singular, plural in PLURAL.items()}
_VERBS = "|".join((*PLURAL, *SINGULAR))
_WITH_OBJECT = "|".join(form for verb in ("serves", "offers") for form in (verb, PLURAL[verb]))
# (what is looked for, what takes its place); each is wrong in any context.
_SWAPPED = tuple(
    (pattern, r"\2 \1")
    for pattern in (
        rf"\b({_WITH_OBJECT}) ([A-Z]\w+)(?= food)",
        r"\b(an?) ([\w-]+)",
        r"\b(the) (city|centre|riverside)\b",
        r"\b(out) (of)\b",
        r"\b(less|more) (than)\b",
        r"\b(by) (customers)\b",
        r"\b(not) (welcome)\b",
        r"\b(prices) (of)\b",
    )
)
_LEFT_OUT = (
    (r"\b(is|has) an? ", r"\1 "),
    (r"\bout of ", "out "),
    (r"\b(prices|rating) of ", r"\1 "),
    (r"\b(in|by) the ", r"\1 "),
)


def draw_acceptability(draw: Draw, label: int) -> Item:
    """One sentence of `label`; its keys are the meaning representations of the places it mentions."""
    text, places = draw_sentence(draw)
    if label == UNACCEPTABLE:
        while (wrong := slip_of(text, draw)) is None:
            text, places = draw_sentence(draw)
        text = wrong
    return item_of({"text": text, "pair": None, "label": label}, places)


def draw_sentence(draw: Draw) -> tuple[str, list[MeaningRepresentation]]:
    """A text without a mistake, and what it states of each place."""
    return _of_two(draw) if draw.chance(0.5) else _of_one(draw)


def slip_of(text: str, draw: Draw) -> str | None:
    """`text` with one slip, or None if the slip that was drawn finds nothing to get wrong."""
    return draw.pick(_SLIPS)(text, draw)


def plural(predicate: str) -> str:
    """`serve Italian food` for `serves Italian food`, `are pubs` for `is a pub`."""
    verb, _, rest = predicate.partition(" ")
    if verb == "is" and (noun := re.fullmatch(r"an? (.*)", rest)):
        return f"are {noun[1]}s"
    return f"{PLURAL[verb]} {rest}"


def _of_one(draw: Draw) -> tuple[str, list[MeaningRepresentation]]:
    slots = draw.some(ASKED, draw.pick((1, 2, 2, 3)))
    facts = {slot: drawn_value(draw, slot)[0] for slot in slots}
    place = meaning({"name": draw.pick(SINGULAR_NAMES), **facts})
    return described(place, draw), [place]


def _of_two(draw: Draw) -> tuple[str, list[MeaningRepresentation]]:
    facts = {slot: drawn_value(draw, slot)[0] for slot in draw.some(ASKED, draw.pick((1, 2, 2, 3)))}
    names = draw.some(SINGULAR_NAMES, 2)
    subject = draw.pick(("{} and {}", "both {} and {}", "{} and its neighbour {}")).format(*names)
    said = [plural(stated(slot, value, draw)) for slot, value in facts.items()]
    return capitalised(f"{subject} {series(said)}."), [meaning({"name": name, **facts}) for name in names]


def _wrong_number(text: str, draw: Draw) -> str | None:
    found = _one(text, rf"\b({_VERBS})\b", draw)
    return found and _with(text, found, {**PLURAL, **SINGULAR}[found[0]])


def _wrong_article(text: str, draw: Draw) -> str | None:
    found = _one(text, r"\ban?(?= )", draw)
    return found and _with(text, found, "an" if found[0] == "a" else "a")


def _no_verb(text: str, draw: Draw) -> str | None:
    # The first verb alone: a later one may be understood from the first ("is cheap and near the river").
    found = re.search(rf"\b({_VERBS}) ", text)
    return found and _with(text, found, "")


def _left_out(text: str, draw: Draw) -> str | None:
    pattern, instead = draw.pick(_LEFT_OUT)
    found = _one(text, pattern, draw)
    return found and _with(text, found, found.expand(instead))


def _swapped(text: str, draw: Draw) -> str | None:
    pattern, instead = draw.pick(_SWAPPED)
    found = _one(text, pattern, draw)
    return found and _with(text, found, found.expand(instead))


def _one(text: str, pattern: str, draw: Draw) -> re.Match[str] | None:
    found = list(re.finditer(pattern, text))
    return draw.pick(found) if found else None


def _with(text: str, found: re.Match[str], instead: str) -> str:
    return text[: found.start()] + instead + text[found.end() :]


_SLIPS = (_wrong_number, _wrong_number, _wrong_article, _no_verb, _left_out, _swapped, _swapped)
