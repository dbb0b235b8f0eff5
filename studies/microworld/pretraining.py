"""Free text in the registers of the microworld's tasks, for the small backbones' pretraining.

Texts about places as in running text: descriptions said again in other words, questions with their
answers, two places compared, opinions with their outcome, headlines with their reports, and slips of the pen with
their correction. It holds no row of a task and no task's label words; what a task asks is a new use of the text, as
entailment is of English. Text with a mistake is in quotation marks and labelled as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from replication.corpora.schema import MeaningRepresentation
from studies.microworld.facts import ASKED, drawn_value, meaning, others_of, shuffled, stated
from studies.microworld.grammar import VALUES, Draw, capitalised, describe
from studies.microworld.grammaticality import draw_sentence, plural, slip_of
from studies.microworld.headlines import draw_headline
from studies.microworld.opinions import NEGATIVE, POSITIVE, draw_sentiment
from studies.microworld.questions import ASKABLE, asking, choice_text

FEWEST_WORDS, MOST_WORDS = 12, 70
Facts = Mapping[str, str]

_PEOPLE = ("my sister", "my brother", "a friend of mine", "our neighbour", "my teacher", "an old friend")
_AGAIN = ("in other words", "that is", "to say it again", "put differently")
_OUTCOME = {
    POSITIVE: (
        *("it was a good visit", "all in all we were glad", "we gave it five stars"),
        *("it was a fine evening", "we left with a smile"),
    ),
    NEGATIVE: (
        *("it was a bad visit", "all in all we were sad", "we gave it one star"),
        *("it was a poor evening", "we left with a frown"),
    ),
}
_UNKNOWN = "perhaps"
_UNSAID = ("nobody has said", "we were not told", "that is not known")
_ASKING = {  # the third person's verb -> the beginning of a question
    "is": "is {}",
    "has": "does {} have",
    "serves": "does {} serve",
    "offers": "does {} offer",
    "costs": "does {} cost",
    "welcomes": "does {} welcome",
}


@dataclass(frozen=True)
class Passage:
    """One line of text, the facts it may state of each place it names, and the keys of the opinions it quotes."""

    text: str
    meanings: tuple[MeaningRepresentation, ...] = ()
    keys: frozenset[str] = frozenset()


def draw_passage(draw: Draw) -> Passage:
    """One passage of 12 to 70 words."""
    while True:
        passage = draw.pick(_KINDS)(draw)
        if FEWEST_WORDS <= len(passage.text.split()) <= MOST_WORDS:
            return passage


def yes_no_question(name: str, predicate: str) -> str:
    """`does Blue Lantern serve Italian food?`"""
    verb, _, rest = predicate.partition(" ")
    if verb == "does":  # "does not welcome families"
        return f"does {name} {rest}?"
    return f"{_ASKING[verb].format(name)} {rest}?"


def _facts(draw: Draw, others: int, name: str | None = None) -> dict[str, str]:
    slots = draw.some(ASKED, others)
    return {"name": name or draw.pick(VALUES["name"]), **{slot: drawn_value(draw, slot)[0] for slot in slots}}


def _told(*sentences: str) -> str:
    return " ".join(capitalised(sentence) for sentence in sentences)


def _again(draw: Draw) -> Passage:
    place = meaning(_facts(draw, draw.pick((2, 3, 4))))
    second = describe(place, draw)
    if draw.chance(0.5):
        return Passage(_told(describe(place, draw), second), (place,))
    return Passage(_told(describe(place, draw), f"{draw.pick(_AGAIN)}, {_uncapitalised(second)}"), (place,))


def _uncapitalised(text: str) -> str:
    first = text.split(" ", 1)[0]
    return (
        text[0].lower() + text[1:] if first in ("There", "You", "Located", "In", "By", "Near", "Close", "Not") else text
    )


def _checked(draw: Draw) -> Passage:
    """A description and questions about it, in two of three passages cut short: `Cheap? Yes. Italian food? No.`"""
    facts = _facts(draw, draw.pick((2, 3, 3, 4)))
    style = draw.pick((_cut_short, _cut_short, _in_full))
    place = meaning(facts)
    return Passage(_told(describe(place, draw), *style(draw, facts)), (place,))


def _in_full(draw: Draw, facts: Facts) -> list[str]:
    short = draw.chance(0.6)  # a bare yes or no, or one that gives the fact as well
    lines = []
    for slot, value, answer in _claims(draw, facts)[: 4 if short else 2]:
        question = yes_no_question(draw.pick(("it", "it", facts["name"])), stated(slot, value, draw))
        if answer == _UNKNOWN:
            lines += [question, f"{_UNKNOWN if short else draw.pick(_UNSAID)}."]
        else:
            lines += [question, f"{answer}." if short else f"{answer}, it {stated(slot, facts[slot], draw)}."]
    return lines


def _cut_short(draw: Draw, facts: Facts) -> list[str]:
    lines = []
    for slot, value, answer in _claims(draw, facts):
        claim = stated(slot, value, draw)
        while claim.startswith(("does", "welcomes")):  # these cannot do without their verb
            claim = stated(slot, value, draw)
        lines += [f"{claim.partition(' ')[2]}?", f"{answer}."]
    return lines


def _claims(draw: Draw, facts: Facts) -> list[tuple[str, str, str]]:
    """(slot, value, `yes`, `no` or `perhaps`) of different claims about a place, in a drawn order."""
    claims = []
    for slot in ASKED:
        if slot not in facts:
            claims.append((slot, drawn_value(draw, slot)[0], _UNKNOWN))
        elif draw.chance(0.5):
            claims.append((slot, facts[slot], "yes"))
        else:
            claims.append((slot, draw.pick(others_of(slot, facts[slot])), "no"))
    return shuffled(draw, claims)


def _true_or_not(draw: Draw) -> Passage:
    facts = _facts(draw, draw.pick((2, 3, 3, 4)))
    place = meaning(facts)
    said = []
    for slot in draw.some([slot for slot in ASKED if slot in facts], 2):
        right, wrong = facts[slot], draw.pick(others_of(slot, facts[slot]))
        if draw.chance(0.5):
            said.append(f"it is true that it {stated(slot, right, draw)}.")
        else:
            said.append(f"it is not true that it {stated(slot, wrong, draw)}, for it {stated(slot, right, draw)}.")
    return Passage(_told(describe(place, draw), *said), (place,))


def _asked(draw: Draw) -> Passage:
    slot = draw.pick(tuple(ASKABLE))
    values = shuffled(draw, ASKABLE[slot])[:2]
    names = shuffled(draw, VALUES["name"])[:2]
    told = []
    for name, value in zip(names, values, strict=True):
        more = draw.some([other for other in ASKED if other != slot], draw.pick((1, 2)))
        told.append({"name": name, slot: value, **{other: drawn_value(draw, other)[0] for other in more}})
    places = [meaning(facts) for facts in told]
    lines = [describe(place, draw) for place in places]
    for facts in shuffled(draw, told):
        name, value = facts["name"], facts[slot]
        if draw.chance(0.5):
            short = slot != "area" and draw.chance(0.5)
            answer = choice_text(slot, value) if short else f"it {stated(slot, value, draw)}"
            lines += [asking(slot, name, draw), f"{answer}."]
        else:
            lines += [f"which place {stated(slot, value, draw)}?", f"{name}."]
    return Passage(_told(*lines), tuple(places))


def _compared(draw: Draw) -> Passage:
    slots = draw.some(ASKED, draw.pick((2, 2, 3)))
    names = shuffled(draw, VALUES["name"])[:2]
    one: dict[str, str] = {"name": names[0]}
    two: dict[str, str] = {"name": names[1]}
    lines = []
    for slot in slots:
        one[slot], others = drawn_value(draw, slot)
        two[slot] = one[slot] if draw.chance(0.5) else draw.pick(others)
        if one[slot] == two[slot]:
            lines.append(f"both {plural(stated(slot, one[slot], draw))}.")
        else:
            each = shuffled(draw, [one, two])
            lines.append(f"only {each[0]['name']} {stated(slot, each[0][slot], draw)}.")
    places = [meaning(one), meaning(two)]
    return Passage(_told(*(describe(place, draw) for place in places), *shuffled(draw, lines)), tuple(places))


def _opinion(draw: Draw) -> Passage:
    side = draw.pick((NEGATIVE, POSITIVE))
    opinion = draw_sentiment(draw, side)
    return Passage(_told(opinion.row["text"], f"{draw.pick(_OUTCOME[side])}."), keys=opinion.keys)


def _visits(draw: Draw) -> Passage:
    told: list[str] = []
    keys: frozenset[str] = frozenset()
    for person in shuffled(draw, _PEOPLE)[:2]:
        said = _opinion(draw)
        told += [f"{person} wrote to us.", said.text]
        keys |= said.keys
    return Passage(_told(*told), keys=keys)


def _news(draw: Draw) -> Passage:
    item = draw_headline(draw, 0)
    document, title = item.row["document"], item.row["summary"]
    if draw.chance(0.5):
        return Passage(_told(f"{title}.", document), item.meanings)
    return Passage(_told(document, f"the headline was {title}."), item.meanings)


def _slip(draw: Draw) -> Passage:
    while (wrong := slip_of((right := draw_sentence(draw))[0], draw)) is None:
        pass
    text, places = right
    first = f'{draw.pick(_PEOPLE)} wrote "{wrong.removesuffix(".")}" and saw the mistake.'
    return Passage(_told(first, f'it should be "{text.removesuffix(".")}".'), tuple(places))


def _marked(draw: Draw) -> Passage:
    lines = [f"{draw.pick(_PEOPLE)} wrote some lines."]
    told: list[MeaningRepresentation] = []
    for _ in range(draw.pick((2, 3))):
        text, places = draw_sentence(draw)
        wrong = slip_of(text, draw) if draw.chance(0.6) else None
        lines.append(f'"{(wrong or text).removesuffix(".")}" was {"wrong" if wrong else "right"}.')
        told += places
    return Passage(_told(*lines), tuple(told))


_KINDS: tuple[Callable[[Draw], Passage], ...] = (
    *(_again,) * 3,
    *(_checked,) * 12,
    *(_true_or_not,) * 1,
    *(_asked,) * 3,
    *(_compared,) * 2,
    *(_visits,) * 2,
    *(_news,) * 2,
    *(_slip, _marked, _marked),
)
