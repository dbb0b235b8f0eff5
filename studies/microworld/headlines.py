"""The microworld's summarisation task: a short report about a place, and the headline that gives its key facts.

The headline says what kind of place it is, its name, what happened, and where; price, rating and whether families are
welcome are only in the report, as are the remarks and any other place it names.
"""

from __future__ import annotations

from replication.corpora.schema import MeaningRepresentation
from studies.microworld.facts import Item, item_of, meaning, stated
from studies.microworld.grammar import AREAS, VALUES, Draw, capitalised, describe, noun_phrase, series

FEWEST_WORDS, MOST_WORDS = 40, 60
# What happened: in the report, in the headline.
EVENTS = (
    ("opened its doors", "opens"),
    ("closed for the winter", "closes"),
    ("won the prize of the city", "wins prize"),
    ("changed its menu", "changes menu"),
    ("hired a new cook", "hires cook"),
    ("lost its cook", "loses cook"),
    ("celebrated its tenth birthday", "turns ten"),
    ("was painted from top to bottom", "is painted"),
)
_DAYS = ("last Monday", "last Friday", "on Sunday", "yesterday", "two weeks ago", "on Tuesday")
_TALK = (
    "Many people from the office came to look.",
    "The staff were kind and nobody had to wait long.",
    "There was a long queue at the door.",
    "It was raining, so the street was quiet.",
    "The owner said that it had been a busy year.",
    "The market next door was closed that day.",
    "Students and travellers talked about it until the evening.",
    "An old friend of the owner played some music.",
)
_DETAILS = ("priceRange", "customer rating", "familyFriendly")


def draw_headline(draw: Draw, _label: int) -> Item:
    """One report and its headline; its key is the place's meaning representation."""
    facts = {"name": draw.pick(VALUES["name"]), "eatType": draw.pick(VALUES["eatType"])}
    facts["food"] = draw.pick(VALUES["food"])
    where = draw.pick(("area", "near"))
    facts[where] = draw.pick(VALUES[where])
    details = {slot: draw.pick(VALUES[slot]) for slot in draw.some(_DETAILS, 2)}
    place = meaning({**facts, **details})
    report, short = draw.pick(EVENTS)
    others = [_aside(draw, facts["name"])] if draw.chance(0.5) else []
    while True:
        document = _document(draw, facts, details, report, others)
        if FEWEST_WORDS <= len(document.split()) <= MOST_WORDS:
            break
    row = {"document": document, "summary": headline(facts, short)}
    return item_of(row, [place])


def headline(facts: dict[str, str], event: str) -> str:
    """`Italian pub Blue Lantern opens by the riverside`."""
    food = "fast food" if facts["food"] == "Fast food" else facts["food"]
    where = AREAS[facts["area"]][0] if "area" in facts else f"near {facts['near']}"
    return capitalised(f"{food} {facts['eatType']} {facts['name']} {event} {where}")


def _aside(draw: Draw, not_this: str) -> str:
    name = draw.pick([other for other in VALUES["name"] if other != not_this])
    return describe(MeaningRepresentation((("name", name), ("eatType", draw.pick(VALUES["eatType"])))), draw)


def _document(draw: Draw, facts: dict[str, str], details: dict[str, str], event: str, others: list[str]) -> str:
    inside = draw.chance(0.5)  # the food before the noun, or in a sentence of its own
    where = "area" if "area" in facts else "near"
    noun = noun_phrase(facts, ("food",) if inside else (), draw)
    place = stated(where, facts[where], draw).removeprefix("is ")
    told = [] if inside else [stated("food", facts["food"], draw)]
    told += [stated(slot, value, draw) for slot, value in details.items()]
    lead = f"{draw.pick(_DAYS)} {facts['name']}, {noun} {place}, {event}."
    follow = f"{draw.pick((facts['name'], 'the ' + facts['eatType']))} {series(told)}."
    first, *rest = draw.some(_TALK, draw.pick((2, 3, 4)))
    sentences = [first, lead] if draw.chance(0.5) else [lead, first]
    return " ".join(capitalised(sentence) for sentence in (*sentences, follow, *others, *rest))
