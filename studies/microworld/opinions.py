"""The microworld's sentiment task: opinions of one sentence whose verdict decides, with negation and contrast.

An opinion holds a remark about one thing (the soup, the staff) and a verdict on the visit. The label is the verdict's
side. Every verdict and every remark occurs both plain and negated, which turns its side round, and the remark agrees
with the verdict (`and`, `so`, `because`) or speaks against it (`but`, `although`), each as often for both labels: no
single word tells the label.
"""

from __future__ import annotations

from studies.microworld.facts import Item
from studies.microworld.grammar import VALUES, Draw, capitalised

NEGATIVE, POSITIVE = range(2)

_FOODS, _PLACES, _PEOPLE = ("fresh", "tasty", "good"), ("clean", "pleasant", "warm"), ("kind", "friendly", "polite")
_BAD_FOODS, _BAD_PLACES, _BAD_PEOPLE = ("stale", "bland", "bad"), ("dirty", "noisy", "cold"), ("rude", "slow", "cross")
# Thing and verb -> (words against it, words for it).
THINGS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    **{(thing, "was"): (_BAD_FOODS, _FOODS) for thing in ("the soup", "the bread", "the fish", "the cake")},
    **{(thing, "was"): (_BAD_PLACES, _PLACES) for thing in ("the room", "the garden", "the table by the door")},
    **{(thing, "were"): (_BAD_PEOPLE, _PEOPLE) for thing in ("the staff", "the waiters", "the owners")},
}
# (plain, negated) ways to say a verdict; the negated one has the other side.
VERDICTS: dict[int, tuple[tuple[str, str], ...]] = {
    POSITIVE: (
        ("the evening was a pleasure", "the evening was not a pleasure"),
        ("I would come back", "I would not come back"),
        ("my friends were happy", "my friends were not happy"),
        ("it was worth the money", "it was not worth the money"),
        ("I could recommend it", "I could not recommend it"),
        ("I would send a friend there", "I would not send a friend there"),
    ),
    NEGATIVE: (
        ("the evening was a mistake", "the evening was not a mistake"),
        ("I would stay away", "I would not stay away"),
        ("my friends were sorry", "my friends were not sorry"),
        ("it was a waste of money", "it was not a waste of money"),
        ("we were bored", "we were not bored"),
        ("I would warn a friend", "I would not warn a friend"),
    ),
}
# {V}: the verdict, {R}: the remark.
AGREEING = ("{R}, and {V}.", "{R}, so {V}.", "{V}, because {R}.", "{V}, as {R}.")
OPPOSING = ("{R}, but {V}.", "although {R}, {V}.", "{V}, although {R}.", "{V}, but {R}.")


def draw_sentiment(draw: Draw, label: int) -> Item:
    """One opinion of `label`; its key is the pair of remark and verdict, whatever the place and the form."""
    form, agrees = (draw.pick(AGREEING), True) if draw.chance(0.5) else (draw.pick(OPPOSING), False)
    verdict = _verdict(draw, label)
    thing, said = _remark(draw, label if agrees else 1 - label)
    remark = f"{thing} at {draw.pick(VALUES['name'])} {said}"
    text = capitalised(form.format(R=remark, V=verdict))
    return Item({"text": text, "pair": None, "label": label}, frozenset({f"{thing} {said} | {verdict}"}))


def _verdict(draw: Draw, side: int) -> str:
    negated = draw.chance(0.5)
    return draw.pick(VERDICTS[side ^ negated])[negated]


def _remark(draw: Draw, side: int) -> tuple[str, str]:
    thing, verb = draw.pick(tuple(THINGS))
    negated = draw.chance(0.5)
    word = draw.pick(THINGS[thing, verb][side ^ negated])
    return thing, f"{verb} {'not ' if negated else ''}{word}"
