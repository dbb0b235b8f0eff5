import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def read_back():
    """The reader of descriptions that the grammar's own tests hold against it: every (slot, value) that a text says."""
    path = Path(__file__).with_name("test_grammar.py")
    spec = importlib.util.spec_from_file_location("microworld_reader", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_back
