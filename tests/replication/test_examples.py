"""Encoding, batches and data order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.examples import (
    Encoded,
    TextPair,
    collate,
    encode_pair,
    encode_pairs,
    encode_text,
    fingerprint,
    indices_of_step,
)

SEPARATOR = 256


class Bytes:
    """A tokenizer of bytes that would add a special token if it were let."""

    def encode(self, text, *, add_special_tokens=True):
        return ([999] if add_special_tokens else []) + list(text.encode())


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
WORDS = TEXT.filter(lambda text: text.strip())


@given(context=TEXT, completion=WORDS)
def test_a_pair_is_context_separator_completion_separator(context, completion):
    encoded = encode_pair(Bytes(), TextPair(context, completion), SEPARATOR, max_length=1000)
    target = [*(" " + completion).encode(), SEPARATOR]
    assert encoded.input_ids == [*context.encode(), SEPARATOR, *target]
    learnt = [token for token, mask in zip(encoded.input_ids, encoded.loss_mask, strict=True) if mask]
    assert learnt == target
    assert encoded.loss_mask == sorted(encoded.loss_mask)  # zeros, then ones: the learnt part is the tail
    assert encoded.dropped_tokens == 0


@given(context=TEXT, completion=WORDS, max_length=st.integers(2, 60))
def test_too_long_a_context_loses_its_start_and_never_the_completion(context, completion, max_length):
    pair, target = TextPair(context, completion), [*(" " + completion).encode(), SEPARATOR]
    if len(target) + 1 > max_length:
        with pytest.raises(DataError, match=f"max_length={max_length}"):
            encode_pair(Bytes(), pair, SEPARATOR, max_length)
        return
    encoded = encode_pair(Bytes(), pair, SEPARATOR, max_length)
    whole = [*context.encode(), SEPARATOR, *target]
    assert encoded.input_ids == whole[-max_length:]
    assert encoded.dropped_tokens == max(0, len(whole) - max_length)
    assert sum(encoded.loss_mask) == len(target)


def test_the_pair_at_fault_is_named():
    pairs = [TextPair("a", "b"), TextPair("name : x", " ")]
    with pytest.raises(DataError, match="pair 2: the completion of 'name : x' is blank"):
        encode_pairs(Bytes(), pairs, SEPARATOR, 10)
    assert encode_pairs(Bytes(), pairs[:1], SEPARATOR, 10)[0].text == "a => b"


@given(text=WORDS, max_length=st.integers(1, 40))
def test_free_text_is_learnt_whole_and_cut_at_its_end(text, max_length):
    encoded = encode_text(Bytes(), text, SEPARATOR, max_length)
    whole = [*text.encode(), SEPARATOR]
    assert encoded.input_ids == whole[:max_length]
    assert encoded.loss_mask == [1] * len(encoded)
    assert len(encoded) + encoded.dropped_tokens == len(whole)


def test_blank_free_text_is_refused():
    with pytest.raises(DataError, match="blank"):
        encode_text(Bytes(), "\n ", SEPARATOR, 10)


ENCODED = st.lists(st.tuples(st.integers(0, 96), st.integers(0, 1)), min_size=1, max_size=12).map(
    lambda tokens: Encoded([token for token, _ in tokens], [mask for _, mask in tokens])
)


@given(batch=st.lists(ENCODED, min_size=1, max_size=5), pad_id=st.integers(0, 96))
def test_a_batch_is_padded_on_the_right(batch, pad_id):
    tensors = collate(batch, pad_id)
    longest = max(map(len, batch))
    for i, example in enumerate(batch):
        n = len(example)
        assert tensors["input_ids"][i].tolist() == example.input_ids + [pad_id] * (longest - n)
        assert tensors["attention_mask"][i].tolist() == [1] * n + [0] * (longest - n)
        assert tensors["loss_mask"][i].tolist() == example.loss_mask + [0] * (longest - n)


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="no examples"):
        collate([], 0)


@given(examples=st.integers(1, 40), window=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_visits_no_example_twice_and_drops_only_the_incomplete_window(examples, window, seed):
    if window > examples:
        return
    per_epoch = examples // window
    for epoch in range(2):
        steps = range(1 + epoch * per_epoch, 1 + (epoch + 1) * per_epoch)
        visited = [i for step in steps for i in indices_of_step(step, examples, window, seed)]
        assert len(visited) == len(set(visited)) == per_epoch * window
        assert set(visited) <= set(range(examples))


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = indices_of_step(1, 50, 50, seed=1), indices_of_step(2, 50, 50, seed=1)
    assert len({first, second, indices_of_step(1, 50, 50, seed=2)}) == 3
    assert first == indices_of_step(1, 50, 50, seed=1)


def test_every_field_of_every_example_counts_in_the_fingerprint():
    base = [Encoded([1, 2], [0, 1]), Encoded([3], [1])]
    others = [base[::-1], base[:1], [Encoded([1, 2], [1, 1]), base[1]], [Encoded([1, 9], [0, 1]), base[1]]]
    assert len({fingerprint(examples) for examples in [base, *others]}) == 5
    assert fingerprint(base) == fingerprint(list(base))
