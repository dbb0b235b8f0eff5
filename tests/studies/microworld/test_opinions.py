import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.microworld import SENTIMENT_LABELS
from studies.microworld.grammar import VALUES, Draw
from studies.microworld.opinions import THINGS, draw_sentiment

# How a reader takes each word, written apart from the generator.
GOOD = r"pleasure|come back|happy|worth|recommend|send|fresh|tasty|good|clean|pleasant|warm\b|kind|friendly|polite"
BAD = r"mistake|stay away|sorry|waste|bored|warn|stale|bland|bad|dirty|noisy|cold|rude|slow|cross"
AGREEING, OPPOSING = ("and", "so", "because", "as"), ("but", "although")
NAMES = "|".join(VALUES["name"])


def side(clause):
    good, bad = len(re.findall(GOOD, clause)), len(re.findall(BAD, clause))
    assert good + bad == 1, clause
    return bool(good) != (" not " in clause)


def clauses(text):
    """(remark, verdict, link) of an opinion."""
    text = text.removesuffix(".")
    if found := re.fullmatch(r"Although (.*), (.*)", text):
        return found[1], found[2], "although"
    one, link, other = re.fullmatch(r"(.*), (and|so|because|as|but|although) (.*)", text).groups()
    remark, verdict = (one, other) if re.search(NAMES, one) else (other, one)
    assert re.search(NAMES, remark)
    assert not re.search(NAMES, verdict)
    return remark, verdict, link


@given(st.integers(), st.sampled_from((0, 1)))
def test_the_verdict_decides(seed, label):
    draw = Draw(seed, "test")
    for _ in range(20):
        row = draw_sentiment(draw, label).row
        remark, verdict, link = clauses(row["text"])
        assert SENTIMENT_LABELS[row["label"]] == ("positive" if side(verdict) else "negative")
        assert row["label"] == label
        assert (side(remark) == side(verdict)) == (link in AGREEING), row["text"]
        assert link in (*AGREEING, *OPPOSING)
        assert row["pair"] is None
        assert len(row["text"].split()) <= 22


def test_no_word_tells_the_label():
    draw = Draw(0, "words")
    counts = [Counter(), Counter()]
    for index in range(2 * 2000):
        counts[index % 2].update(set(re.findall(r"[a-z]+", draw_sentiment(draw, index % 2).row["text"].lower())))
    for word in counts[0] | counts[1]:
        both = counts[0][word] + counts[1][word]
        if both >= 100:
            assert abs(counts[1][word] / both - 0.5) < 0.2, (word, counts[0][word], counts[1][word])


def test_a_key_names_what_is_said_and_not_of_whom():
    item = draw_sentiment(Draw(3, "key"), 1)
    (key,) = item.keys
    remark, verdict, _ = clauses(item.row["text"])
    said, key_verdict = key.split(" | ")
    assert key_verdict.lower() == verdict.lower()
    assert re.sub(rf" at (?:{NAMES})", "", remark).lower() == said.lower()
    assert item.meanings == ()


@pytest.mark.parametrize(("thing", "verb"), list(THINGS))
def test_things_agree_with_their_verbs(thing, verb):
    assert verb == ("were" if re.search(r"(staff|waiters|owners)$", thing) else "was")
