import pytest

from analysis.show.blocks import Block
from analysis.show.page import Section
from replication.errors import ConfigError


@pytest.mark.parametrize("key", ["", "Full", "full scale", "1st", "a_b"])
def test_a_key_that_is_no_place_on_a_page_is_refused(key):
    with pytest.raises(ConfigError, match="section key"):
        Section(key, "Title")


def test_tables_get_keys():
    blocks = (Block("a", ("x",), (("1",),)), Block("b", ("x",), (("1",),), key="own"))
    assert [block.key for block in Section("full-scale", "Title", (), blocks).named_blocks] == ["full-scale_1", "own"]
