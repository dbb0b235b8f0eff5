import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.selection import (
    Adapter,
    Selection,
    agreement_of_seeds,
    position_agreement,
    positions,
    read_selection,
    shared_fraction,
    short_names,
)
from replication.errors import DataError


def content(**changes):
    adapters = [
        {"index": i, "module": f"layer.{i // 3}.{role}", "label": "whole", "block": i // 3, "role": role}
        for i, role in enumerate(("query", "key", "value") * 2)
    ]
    base = {
        "method": "weight_lora", "keep": 2, "selection_steps": 2, "adapters": adapters,
        "trace": {"steps": [1, 2], "weights": [[1.0] * 6, [0, 0, 2.0, 0, 0, 1.5]]}, "projections": [2], "removed_at": 2,
        "survivors": [2, 5], "final_ranks": {"2": 8, "5": 8}, "expansions": [],
    }  # fmt: skip
    return {**base, **changes}


def test_a_file_is_read_with_names_of_its_survivors(tmp_path):
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(content()), encoding="utf-8")
    selection = read_selection(path)
    assert selection.kept == {"layer.0.value", "layer.1.value"}
    assert short_names(selection.adapters) == ("q0", "k0", "v0", "q1", "k1", "v1")
    assert selection.final_ranks == {2: 8, 5: 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"survivors": [2, 6]}, "adapter 6 is none of the 6"),
        ({"survivors": [2, 2]}, "duplicate adapter"),
        ({"trace": {"steps": [1], "weights": []}}, "1 steps but 0 rows"),
        ({"trace": {"steps": [1], "weights": [[1.0]]}}, "1 weights for 6 adapters"),
        ({"adapters": content()["adapters"][1:]}, "indices are not 0 to 4"),
        ({"final_ranks": {"9": 8}}, "adapter 9"),
        ({"keep": "many"}, "keep"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes, message):
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(content(**changes)), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_selection(path)


def test_no_k_and_no_end_are_allowed():
    selection = Selection.model_validate(content(keep=None, selection_steps=None))
    assert selection.keep is None


def test_slices_of_one_module_are_different_adapters():
    """GPT-2's c_attn holds query, key and value."""
    adapters = [
        Adapter(index=i, module="h.0.c_attn", label=role, block=0, role=role)
        for i, role in enumerate(("query", "value"))
    ]
    assert [adapter.key for adapter in adapters] == ["h.0.c_attn[query]", "h.0.c_attn[value]"]


def test_the_stacks_of_an_encoder_decoder_are_told_apart():
    stems = ("model.encoder.layers.{}.self_attn.q_proj", "model.decoder.layers.{}.self_attn.q_proj",
             "model.decoder.layers.{}.encoder_attn.q_proj")  # fmt: skip
    modules = [stem.format(block) for stem in stems for block in range(2)]
    adapters = [Adapter(index=i, module=m, label="whole", block=i % 2, role="query") for i, m in enumerate(modules)]
    assert [group for group, _ in positions(adapters)] == ["enc q", "enc q", "dec q", "dec q", "cross q", "cross q"]


SETS = st.sets(st.integers(0, 35), min_size=5, max_size=5)


@given(SETS, SETS)
def test_overlap_is_symmetric_and_never_less_than_agreement_by_position(a, b):
    first, second = sorted(a), sorted(b)
    shared = shared_fraction(first, second)
    assert shared == shared_fraction(second, first) == len(a & b) / 5
    assert 0 <= position_agreement(first, second) <= shared <= 1
    assert (shared == 1) == (a == b)


def test_the_authors_figure_understates_agreement(authors):
    """CoLA and MNLI at K=5: 4 of 5 shared, 0.4 by position."""
    a, b = (authors.logs.row(task, 5).selected.value for task in ("cola", "mnli"))
    assert (shared_fraction(a, b), position_agreement(a, b)) == (0.8, 0.4)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="empty set"):
        shared_fraction([], ["a"])
    with pytest.raises(ValueError, match="equal lengths"):
        position_agreement(["a"], ["a", "b"])


def test_agreement_of_seeds_is_over_pairs():
    assert agreement_of_seeds([{"a", "b"}]) is None
    assert agreement_of_seeds([{"a", "b"}, {"a", "b"}, {"a", "c"}]) == pytest.approx((1 + 0.5 + 0.5) / 3)
