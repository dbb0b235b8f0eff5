import base64
import hashlib

import pytest

from analysis.show.blocks import Block, Cell
from analysis.show.render import cell_html, column_classes, policy, sort_attribute


@pytest.mark.parametrize(
    ("cell", "html"),
    [
        ("a < b", "a &lt; b"),
        (Cell("0.5", best=True), '<strong class="best">0.5<span class="hidden"> (best)</span></strong>'),
        (Cell("0.7", standing="paper"), '<abbr title="read in the paper">0.7<sup>p</sup></abbr>'),
        (Cell("<i>", standing='odd"one'), '<abbr title="odd&#34;one">&lt;i&gt;<sup>odd&#34;one</sup></abbr>'),
        ("0.5 ± 0.1", "0.5 ±\u00a00.1"),
    ],
)
def test_a_cell_shows_its_marks_and_escapes_its_text(cell, html):
    assert cell_html(cell) == html


def test_the_policy_allows_one_script_by_its_hash_and_no_request():
    found = policy("alert(1)")
    digest = base64.b64encode(hashlib.sha256(b"alert(1)").digest()).decode()
    assert f"script-src 'sha256-{digest}'" in found
    assert found.startswith("default-src 'none';")
    assert "http" not in found
    assert policy("alert(2)") != found


@pytest.mark.parametrize(
    ("text", "attribute"),
    [("12", ""), ("1,234", ""), ("0.5 ± 0.1", ""), ("≈ 0.5", ""), ("not run", ""), ("66 %", ""), ("1,363 s", ""),
     ("912 MB", ' data-v="9.12e+08"'), ("618 GFLOP", ' data-v="6.18e+11"')],
)  # fmt: skip
def test_only_numbers_with_a_unit_that_counts_carry_a_value_to_sort_by(text, attribute):
    assert sort_attribute(text) == attribute


def test_columns_are_set_by_what_they_hold():
    rows = (("m", "1", "text", "x" * 60, "0.1"), ("n", "2", "more text", "y", f"{'task, ' * 9}task: 0.003; task: 0.01"))
    block = Block("c", ("a", "b", "c", "d", "e"), rows)
    assert list(map(str, column_classes(block))) == ["", "", ' class="t"', ' class="w"', ' class="w"']
