"""The ablations that are computed from committed files or by arithmetic: nothing is trained."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.counting import parameter_counts
from replication.methods import attach
from replication.methods.solo_connection import SoloConnectionConfig
from studies.ablations import inner_products, memory_constant, overlap, printed_count


@pytest.fixture(autouse=True)
def _at_the_root(project_root, monkeypatch):
    monkeypatch.chdir(project_root)


def test_position_by_position_understates_the_dossiers_example():
    found = overlap.measure(overlap.ABLATION, None)
    assert "CoLA and MNLI at K=5 share 0.8 as sets, 0.4 by position" in found.shows
    for row in found.rows:
        assert row[3] <= row[2]
    assert [row[1] for row in found.rows[:3]] == [21, 21, 21]


@given(lists=st.lists(st.permutations("abcd").map(lambda p: sorted(p[:2])), min_size=2, max_size=5))
def test_an_overlap_by_position_never_exceeds_that_of_sets(lists):
    shared, by_position, differ = overlap.compared(lists)
    assert 0 <= by_position <= shared <= 1
    assert (differ == 0) == (abs(shared - by_position) < 1e-12)


def test_the_constant_makes_every_saving_smaller():
    rows = memory_constant.measure(memory_constant.ABLATION, None).rows
    assert rows[0][0] == 8
    assert rows[0][4] == "10.1 % / 8.0 %"  # (13.062 - 11.738) / 13.062, and with 3.5 more below
    for row in rows:
        for cell in row[2:]:
            measured, drawn = (float(part.removesuffix(" %")) for part in cell.split(" / "))
            assert drawn < measured


def test_raw_products_put_the_selected_first_and_normalised_ones_do_not():
    rows = inner_products.measure(inner_products.ABLATION, None).rows
    among = {(kind, keep): count for kind, keep, count, *_ in rows}
    assert among["raw", 5] > among["normalised", 5]
    assert among["raw", 10] > among["normalised", 10]
    assert all(len(row[5].split(", ")) == row[1] for row in rows)


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_the_printed_count_is_the_built_ones_plus_what_does_not_exist(tiny_gpt2, sparsity):
    config = SoloConnectionConfig(rank=8, skip_length=2, sparsity=sparsity)
    built = parameter_counts(attach(tiny_gpt2, config)).adapter
    used = len(config.connections(6))
    hidden = 2 * config.masked_entries(32)
    assert printed_count.as_printed(config, 32, used) == built + hidden
    assert printed_count.as_printed(config, 32, used + 3) == built + hidden + 3 * (32 + 1 + 8)


def test_the_table_of_counts_has_the_dossiers_figures():
    found = printed_count.measure(printed_count.ABLATION, None)
    assert {259_499, 315_605, 316_685} <= {row[3] for row in found.rows}
    assert isinstance(printed_count.ABLATION.settings, Mapping)
