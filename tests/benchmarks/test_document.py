"""docs/benchmarks.md holds what the committed results hold."""

from benchmarks.document import DOCUMENT, with_tables


def test_the_tables_are_those_of_the_committed_results():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run `python -m benchmarks document`"
