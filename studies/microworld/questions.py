"""The microworld's question tasks: extractive answers, questions without one, and multiple choice.

A passage describes two or three places that give the same slot different values, so that an answer is found by the
place's name and not only by the slot. Answers are spans of the passage; in multiple choice the wrong choices are
other values of the same slot, one of them the other place's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from replication.corpora.schema import MeaningRepresentation
from studies.microworld.facts import KINDS, Item, item_of, meaning, shuffled, stated
from studies.microworld.grammar import PREDICATES, VALUES, Draw, capitalised, describe

LONG, SHORT = (36, 60), (18, 30)  # fewest and most words of a passage
CHOICES = 4
# Questions about one slot of the place N, and what an answer to them looks like in a description.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "eatType": ("what kind of place is {N}?", "what sort of place is {N}?"),
    "food": ("what food does {N} serve?", "what kind of food does {N} offer?"),
    "priceRange": ("how much does {N} cost?", "what are the prices at {N}?"),
    "customer rating": ("what is the customer rating of {N}?", "how do customers rate {N}?"),
    "area": ("where in the city is {N}?", "which part of the city is {N} in?"),
    "near": ("what is {N} near?", "which landmark is {N} close to?"),
}
# The values that can be asked for: those that a description gives in one way, as a phrase of its own.
ASKABLE: dict[str, tuple[str, ...]] = {
    **{slot: VALUES[slot] for slot in ("eatType", "food", "area", "near")},
    "priceRange": KINDS["priceRange"][1],
    "customer rating": KINDS["customer rating"][1],
}
_SPANS = {("food", "Fast food"): "fast food", ("area", "city centre"): "city centre|centre of the city"}
_CHOSEN = ("food", "near", "name")  # slots with four values that all exclude one another


@dataclass(frozen=True)
class _Passage:
    """Places of a passage, each with the offset and text of its description."""

    text: str
    places: tuple[dict[str, str], ...]
    parts: tuple[tuple[int, str], ...]

    def meanings(self) -> list[MeaningRepresentation]:
        return [meaning(place) for place in self.places]


def draw_question(draw: Draw, turn: int) -> Item:
    """A question with an answer in the passage; turn 0 asks for a value, turn 1 for the place that has it."""
    return _answerable(draw, turn, draw.pick((2, 3, 3)), 0)


def draw_unanswerable(draw: Draw, turn: int) -> Item:
    """Turns 0 and 1 as `draw_question`; turns 2 and 3 ask for what the same kind of passage does not say."""
    if turn < 2:
        return _answerable(draw, turn, 3, 1)
    while True:
        slot = draw.pick(tuple(ASKABLE))
        passage = _draw_passage(draw, slot, 3, 1, LONG)
        if turn == 2:
            without = next(place["name"] for place in passage.places if slot not in place)
            return item_of(_row(asking(slot, without, draw), passage, []), passage.meanings())
        given = {place.get(slot) for place in passage.places}
        if free := [value for value in ASKABLE[slot] if value not in given]:
            question = f"which place {stated(slot, draw.pick(free), draw)}?"
            return item_of(_row(question, passage, []), passage.meanings())


def _answerable(draw: Draw, turn: int, places: int, without: int) -> Item:
    while True:
        slot = draw.pick(tuple(ASKABLE))
        passage = _draw_passage(draw, slot, places, without, LONG)
        asked = draw.pick([index for index, place in enumerate(passage.places) if slot in place])
        name, value = passage.places[asked]["name"], passage.places[asked][slot]
        start, part = passage.parts[asked]
        found = list(re.finditer(rf"\b(?:{re.escape(name) if turn else span_pattern(slot, value)})(?!\w)", part))
        if len(found) != 1:  # "The pub" may refer to a pub again
            continue
        question = f"which place {stated(slot, value, draw)}?" if turn else asking(slot, name, draw)
        answers = [{"text": found[0][0], "start": start + found[0].start()}]
        return item_of(_row(question, passage, answers), passage.meanings())


def draw_choice(draw: Draw, answer: int) -> Item:
    """A passage of two places and a question in one text, and four choices of which number `answer` is right."""
    slot = draw.pick(_CHOSEN)
    shared = draw.pick(("food", "near")) if slot == "name" else slot
    passage = _draw_passage(draw, shared, 2, 0, SHORT)
    right, other = shuffled(draw, (0, 1))
    asked, taken = passage.places[right], passage.places[other][slot]
    said = (
        asking(slot, asked["name"], draw) if slot != "name" else f"which place {stated(shared, asked[shared], draw)}?"
    )
    free = [value for value in VALUES[slot] if value not in (asked[slot], taken)]
    wrong = shuffled(draw, [taken, *draw.some(free, CHOICES - 2)])
    choices = [choice_text(slot, value) for value in (*wrong[:answer], asked[slot], *wrong[answer:])]
    row = {"question": f"{passage.text} {capitalised(said)}", "choices": choices, "answer": answer}
    return item_of(row, passage.meanings())


def asking(slot: str, name: str, draw: Draw) -> str:
    """A question for `slot` of the place `name`, without a capital."""
    return draw.pick(QUESTIONS[slot]).format(N=name)


def span_pattern(slot: str, value: str) -> str:
    """Regular expression for how a description gives an askable value."""
    return _SPANS.get((slot, value), re.escape(value))


def choice_text(slot: str, value: str) -> str:
    """How a choice is written: `Italian food`, `North Gate`, `Blue Lantern`."""
    return PREDICATES[slot, value][0].partition(" ")[2] if slot == "food" else value


def _row(question: str, passage: _Passage, answers: list[dict]) -> dict:
    return {
        "question": capitalised(question),
        "context": passage.text,
        "answers": answers,
        "impossible": not answers,
    }


def _draw_passage(draw: Draw, slot: str, places: int, without: int, words: tuple[int, int]) -> _Passage:
    """At most `places` places with different values of `slot`, `without` of which do not give it."""
    while True:
        values = shuffled(draw, ASKABLE[slot])[: places - without]
        given = shuffled(draw, [*values, *[None] * without])
        names = shuffled(draw, VALUES["name"])
        told = [_place(draw, name, slot, value, words) for name, value in zip(names, given, strict=False)]
        parts = [describe(meaning(facts), draw) for facts in told]
        text = " ".join(parts)
        if words[0] <= len(text.split()) <= words[1]:
            starts = [sum(len(part) + 1 for part in parts[:index]) for index in range(len(parts))]
            return _Passage(text, tuple(told), tuple(zip(starts, parts, strict=True)))


def _place(draw: Draw, name: str, slot: str, value: str | None, words: tuple[int, int]) -> dict[str, str]:
    more = draw.pick((2, 3, 4) if words == LONG else (1, 1, 2)) + (value is None)
    others = draw.some([other for other in VALUES if other not in ("name", slot)], more)
    facts = {"name": name, **{other: draw.pick(VALUES[other]) for other in others}}
    return facts if value is None else {**facts, slot: value}
