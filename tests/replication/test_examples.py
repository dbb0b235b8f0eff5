"""Encoding, batches and data order."""

import itertools

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
    steps_per_epoch,
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
    learned = [token for token, mask in zip(encoded.input_ids, encoded.loss_mask, strict=True) if mask]
    assert learned == target
    assert encoded.loss_mask == sorted(encoded.loss_mask)  # zeros, then ones: the learned part is the tail
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
def test_free_text_is_learned_whole_and_cut_at_its_end(text, max_length):
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


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


@given(lengths=LENGTHS, window=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_visits_no_example_twice_and_drops_only_the_incomplete_window(lengths, window, seed):
    if window > len(lengths):
        return
    per_epoch = steps_per_epoch(len(lengths), window)
    assert per_epoch == len(lengths) // window
    for epoch in range(2):
        steps = range(1 + epoch * per_epoch, 1 + (epoch + 1) * per_epoch)
        visited = [i for step in steps for i in indices_of_step(step, lengths, window, seed)]
        assert len(visited) == len(set(visited)) == per_epoch * window
        assert set(visited) <= set(range(len(lengths)))


@given(lengths=LENGTHS, window=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_a_bucketed_epoch_visits_every_example_once_in_windows_of_even_size(lengths, window, seed):
    per_epoch = steps_per_epoch(len(lengths), window, "bucketed")
    for epoch in range(2):
        steps = range(1 + epoch * per_epoch, 1 + (epoch + 1) * per_epoch)
        windows = [indices_of_step(step, lengths, window, seed, "bucketed") for step in steps]
        assert sorted(i for chosen in windows for i in chosen) == list(range(len(lengths)))
        sizes = {len(chosen) for chosen in windows}
        assert max(sizes) <= window
        assert max(sizes) - min(sizes) <= 1


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=128), seed=st.integers(0, 99))
def test_a_pool_of_buckets_pads_as_little_as_the_sorted_corpus(lengths, seed):
    """128 examples in windows of 4 are one pool, which is sorted as a whole."""

    def padded(windows):
        return sum(len(chosen) * max(lengths[i] for i in chosen) for chosen in windows)

    steps = range(1, 1 + steps_per_epoch(len(lengths), 4, "bucketed"))
    bucketed = [indices_of_step(step, lengths, 4, seed, "bucketed") for step in steps]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    starts = [0, *itertools.accumulate(sorted((len(chosen) for chosen in bucketed), reverse=True))]
    assert padded(bucketed) == padded([order[a:b] for a, b in itertools.pairwise(starts)])


@pytest.mark.parametrize("batching", ["random", "bucketed"])
def test_epochs_and_seeds_have_orders_of_their_own(batching):
    lengths, epoch = [1] * 48, steps_per_epoch(48, 8, batching)

    def order(epoch_number, seed):
        first = 1 + epoch_number * epoch
        return tuple(indices_of_step(step, lengths, 8, seed, batching) for step in range(first, first + epoch))

    assert len({order(0, 1), order(1, 1), order(0, 2)}) == 3
    assert order(0, 1) == order(0, 1)


def test_windows_of_one_epoch_come_in_no_order_of_length():
    lengths = [1] * 40 + [9] * 40
    first = [lengths[indices_of_step(step, lengths, 4, 1, "bucketed")[0]] for step in range(1, 21)]
    assert first not in (sorted(first), sorted(first, reverse=True))


def test_every_field_of_every_example_counts_in_the_fingerprint():
    base = [Encoded([1, 2], [0, 1]), Encoded([3], [1])]
    others = [base[::-1], base[:1], [Encoded([1, 2], [1, 1]), base[1]], [Encoded([1, 9], [0, 1]), base[1]]]
    assert len({fingerprint(examples) for examples in [base, *others]}) == 5
    assert fingerprint(base) == fingerprint(list(base))


def test_a_window_across_two_pools_holds_examples_of_like_length():
    """Pools are sorted up and down in turn; 625 lengths in windows of 16 have one window across two pools."""
    lengths = tuple(range(1, 626))
    windows = [indices_of_step(step, lengths, 16, 0, "bucketed") for step in range(1, 41)]
    assert max(max(window) - min(window) for window in windows) < 300
