from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.search import best_rate, beyond_edge, hold_out
from pipelines.settings import Search
from replication.errors import ConfigError, TrainingError

search = Search(learning_rates=(0.1, 0.2), steps=5, held_out_examples=4, seed=3)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=6, max_size=12),
    seed=st.integers(0, 99),
    field=st.sampled_from(["context", "text", "question", "document"]),
)
def test_no_source_is_on_both_sides_and_no_row_is_lost(sizes, seed, field):
    rows = [{field: f"source {i}", "label": j} for i, size in enumerate(sizes) for j in range(size)]
    train, held_out = hold_out(rows, search.model_copy(update={"seed": seed}))
    assert not {row[field] for row in train} & {row[field] for row in held_out}
    assert sorted(map(repr, train + held_out)) == sorted(map(repr, rows))
    assert 4 <= len(held_out) < 4 + max(sizes)


def test_holding_out_everything_is_refused():
    with pytest.raises(ConfigError, match="held_out_examples"):
        hold_out([{"text": "one"}, {"text": "two"}], search)


@given(losses=st.dictionaries(st.floats(1e-5, 1), st.floats(0, 9) | st.none(), min_size=2, max_size=5))
def test_the_best_rate_has_the_least_loss_and_an_edge_is_extended(losses):
    if all(loss is None for loss in losses.values()):
        with pytest.raises(TrainingError, match="diverged"):
            best_rate(losses)
        return
    best = best_rate(losses)
    assert losses[best] == min(loss for loss in losses.values() if loss is not None)
    further = beyond_edge(losses)
    inside = min(losses) < best < max(losses)
    assert (further is None) == inside
    if further is not None:
        assert further < min(losses) or further > max(losses)
