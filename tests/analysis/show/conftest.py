"""Shared by the tests that build a whole report."""

import pytest

from analysis.show.drawing import Drawing


@pytest.fixture(scope="module")
def without_png():
    """No PNG is drawn: half the time of a report's figures; test_figures.py and test_drawing.py draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "png", b"")
        yield
