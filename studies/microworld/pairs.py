"""The microworld's sentence-pair tasks: entailment, paraphrase and similarity.

Entailment: a premise describes one place, a hypothesis states one fact of it. The hypothesis is drawn first, from one
distribution for all three labels, and the premise is made around it with the same number of facts in each case, so
that neither half alone says anything about the label: it lies in whether the premise gives the hypothesis's slot, and
in whether it gives the same value.

Paraphrase: two texts of the same facts in other words, or of facts that differ in one value.

Similarity: two texts that each give a name and four facts; the score is the number of equal ones, 0 to 5.
"""

from __future__ import annotations

from studies.microworld.facts import ASKED, KINDS, Item, described, drawn_value, item_of, meaning, statement
from studies.microworld.grammar import VALUES, Draw

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
FACTS_COMPARED = 5  # of a similarity pair: the name and four more


def draw_entailment(draw: Draw, label: int) -> Item:
    """One pair of `label`; its key is the premise's meaning representation."""
    name, slot = draw.pick(VALUES["name"]), draw.pick(ASKED)
    value, others = drawn_value(draw, slot)
    near = {"near": draw.pick(VALUES["near"])} if draw.chance(0.4) else {}
    around = draw.pick((2, 3, 3)) + (label == NEUTRAL)  # so that every label's premises have as many facts
    told = {other: drawn_value(draw, other)[0] for other in draw.some([s for s in ASKED if s != slot], around)}
    if label != NEUTRAL:
        told[slot] = value if label == ENTAILMENT else draw.pick(others)
    premise = meaning({"name": name, **told, **near})
    text = described(premise, draw)
    return item_of({"text": text, "pair": statement(name, slot, value, draw), "label": label}, [premise])


def draw_paraphrase(draw: Draw, label: int) -> Item:
    """One pair of `label`; its keys are the meaning representations of both halves."""
    slots = draw.some(ASKED, draw.pick((2, 3, 3, 4)))
    first = {"name": draw.pick(VALUES["name"])}
    unlike: dict[str, tuple[str, ...]] = {}
    for slot in slots:
        first[slot], unlike[slot] = drawn_value(draw, slot)
    second = dict(first)
    if not label:
        changed = draw.pick(slots)
        second[changed] = draw.pick(unlike[changed])
    one, other = meaning(first), meaning(second)
    text = described(one, draw)
    pair = described(other, draw, unlike=text)
    return item_of({"text": text, "pair": pair, "label": label}, [one, other] if one != other else [one])


def draw_similarity(draw: Draw, equal: int) -> Item:
    """One pair with `equal` of its five facts in common; its keys are both meaning representations."""
    slots = ["name", *draw.some(ASKED, FACTS_COMPARED - 1)]
    same = draw.some(slots, equal)
    first, second = {}, {}
    for slot in slots:
        kind = draw.pick(KINDS.get(slot, (VALUES[slot],)))
        first[slot] = draw.pick(kind)
        second[slot] = first[slot] if slot in same else draw.pick([other for other in kind if other != first[slot]])
    one, other = meaning(first), meaning(second)
    text = described(one, draw)
    row = {"text": text, "pair": described(other, draw, unlike=text), "label": float(equal)}
    return item_of(row, [one, other] if one != other else [one])
