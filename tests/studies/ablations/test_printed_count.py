from collections.abc import Mapping

import pytest

from replication.counting import parameter_counts
from replication.methods import attach
from replication.methods.solo_connection import SoloConnectionConfig
from studies.ablations import printed_count


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
