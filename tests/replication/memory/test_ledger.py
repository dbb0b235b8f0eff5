"""Peaks of allocation lists: sums, components, and the laws of a running maximum."""

from hypothesis import given
from hypothesis import strategies as st

from replication.memory.ledger import PASSING, RESIDENT, Event, MemoryPrediction, Peak, peak_of, shares


@st.composite
def histories(draw):
    """Allocations and releases in an order that can happen."""
    sizes = draw(st.lists(st.integers(0, 1000), max_size=20))
    events, live = [], []
    for number, size in enumerate(sizes):
        while live and draw(st.booleans()):
            gone = live.pop(draw(st.integers(0, len(live) - 1)))
            events.append(Event(gone, -sizes[gone], "backward"))
        events.append(Event(number, size, "forward"))
        live.append(number)
    return sizes, events


@given(histories())
def test_the_peak_is_the_largest_prefix_sum_and_is_what_is_live(history):
    sizes, events = history
    peak = peak_of(events)
    sums = [sum(event.bytes for event in events[:end]) for end in range(len(events) + 1)]
    assert peak.bytes == max(sums)
    assert sum(sizes[storage] for storage in peak.storages) == peak.bytes


@given(histories(), st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_components_share_the_peak_without_rest(history, gradients, saved):
    sizes, events = history
    peak = peak_of(events)
    found = shares(peak, dict(enumerate(sizes)), gradients, saved)
    assert set(found) == set(PASSING)
    assert sum(found.values()) == peak.bytes
    assert found["gradients"] <= sum(size for number, size in enumerate(sizes) if number in gradients)


@given(histories(), st.integers(0, 1000))
def test_one_more_allocation_never_lowers_the_peak(history, size):
    sizes, events = history
    assert peak_of([Event(len(sizes), size, "forward"), *events]).bytes >= peak_of(events).bytes


def test_the_first_of_equal_peaks_counts_and_nothing_is_a_peak_of_nothing():
    events = [Event(0, 5, "forward"), Event(0, -5, "backward"), Event(1, 5, "update")]
    assert peak_of(events) == Peak(5, frozenset({0}), "forward")
    assert peak_of([]) == Peak(0, frozenset(), "")


@given(st.lists(st.integers(0, 10**12), min_size=7, max_size=7))
def test_components_add_up_to_the_total(numbers):
    parts = dict(zip((*RESIDENT, *PASSING), numbers, strict=True))
    prediction = MemoryPrediction(**parts, phase="forward", saved_after_forward=0, all_gradients=0)
    assert prediction.total == sum(numbers) == prediction.to_dict()["total"]
    assert prediction.above_start == sum(numbers[4:])
