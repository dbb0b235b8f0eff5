from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.microworld import ENTAILMENT_LABELS
from studies.microworld.grammar import Draw
from studies.microworld.pairs import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    draw_entailment,
    draw_paraphrase,
    draw_similarity,
)

# Values that a reader could believe of one place at once are never set against each other: the kinds, written apart.
KIND_OF = {
    **dict.fromkeys(("cheap", "moderate", "low", "average"), "words"),
    **dict.fromkeys(("less than £20", "£20-25", "more than £30"), "pounds"),
    **dict.fromkeys(("1 out of 5", "3 out of 5", "5 out of 5"), "stars"),
    "high": "words",
}
seeds = st.integers(-(2**70), 2**70)


def facts_of(text, read_back):
    said = read_back(text)
    facts = dict(said)
    assert len(facts) == len(said), text
    return facts


@given(seeds, st.sampled_from((ENTAILMENT, NEUTRAL, CONTRADICTION)))
def test_an_entailment_label_follows_from_the_two_texts(read_back, seed, label):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_entailment(draw, label)
        premise = facts_of(item.row["text"], read_back)
        hypothesis = facts_of(item.row["pair"], read_back)
        assert premise == dict(item.meanings[0].slots)
        assert hypothesis.pop("name", premise["name"]) == premise["name"]
        ((slot, value),) = hypothesis.items()
        assert slot != "near"
        if slot not in premise:
            right = "neutral"
        elif premise[slot] == value:
            right = "entailment"
        else:
            right = "contradiction"
            assert KIND_OF.get(value) == KIND_OF.get(premise[slot]), (premise[slot], value)
        assert ENTAILMENT_LABELS[item.row["label"]] == right
        assert item.row["label"] == label
        assert item.keys == {str(item.meanings[0])}


def test_neither_half_of_an_entailment_pair_tells_the_label(read_back):
    draw = Draw(0, "shares")
    slots, values, told, sizes, forms = ({label: Counter() for label in range(3)} for _ in range(5))
    for index in range(3 * 1500):
        item = draw_entailment(draw, index % 3)
        label = item.row["label"]
        ((slot, value),) = (fact for fact in read_back(item.row["pair"]) if fact[0] != "name")
        slots[label][slot] += 1
        values[label][slot, value] += 1
        told[label].update(fact for fact in item.meanings[0].slots if fact[0] != "name")
        sizes[label][len(item.meanings[0].slots)] += 1
        forms[label][item.row["pair"].split(" ")[0] in ("It", "This")] += 1
    for counters in (slots, values, told, sizes, forms):
        for key in set().union(*counters.values()):
            shares = [counters[label][key] / 1500 for label in range(3)]
            assert max(shares) - min(shares) < 0.06, (key, shares)  # four standard errors of a difference


@given(seeds, st.sampled_from((0, 1)))
def test_a_paraphrase_says_the_same_facts_in_another_text(read_back, seed, label):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_paraphrase(draw, label)
        one, other = (facts_of(item.row[half], read_back) for half in ("text", "pair"))
        assert item.row["text"] != item.row["pair"]
        assert item.row["label"] == label
        assert one.keys() == other.keys()
        changed = [slot for slot in one if one[slot] != other[slot]]
        assert len(changed) == 1 - label
        assert all(KIND_OF.get(one[slot]) == KIND_OF.get(other[slot]) and slot != "name" for slot in changed)
        assert len(item.keys) == 2 - label


@given(seeds, st.integers(0, 5))
def test_a_similarity_score_counts_the_equal_facts(read_back, seed, equal):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_similarity(draw, equal)
        one, other = (read_back(item.row[half]) for half in ("text", "pair"))
        assert len(one) == len(other) == 5
        assert item.row["label"] == pytest.approx(len(one & other))
        assert type(item.row["label"]) is float
        assert item.row["label"] == equal
        assert item.row["text"] != item.row["pair"]


@pytest.mark.parametrize("drawn", [draw_entailment, draw_paraphrase, draw_similarity])
def test_pairs_are_short(drawn):
    draw = Draw(1, "length")
    lengths = [len(drawn(draw, index % 2).row[half].split()) for index in range(300) for half in ("text", "pair")]
    assert max(lengths) <= 32
    assert sum(length > 24 for length in lengths) < 0.05 * len(lengths)
