import hashlib

import pytest

from studies.ablations.bench import Trial


@pytest.fixture(autouse=True)
def _at_the_root(project_root, monkeypatch):
    """Where the ablations read the authors' files."""
    monkeypatch.chdir(project_root)


class FakeBench:
    """Trains nothing: scores follow from the method and the settings alone; one seed may diverge."""

    def __init__(self, lost=None):
        self.lost, self.calls = lost, []
        self.train_rows = [{"id": number} for number in range(70)]

    def train(self, method, *, seed, learning_rate, rows=None, scored=True, **training):
        self.calls.append((method, seed, learning_rate, len(self.train_rows if rows is None else rows), training))
        if seed == self.lost:
            return Trial(None, None, 1, 1)
        text = f"{method}{learning_rate}{training}"
        score = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) / 2**16
        survivors = [0, 1, 2] if getattr(method, "rank_by", "signed") == "signed" else [0, 1, 3]
        trace = {"steps": [19, 20], "weights": [[1.0, 0.9, 0.8, -2.0], [1.0, 0.9, 0.8, 0.0]]}
        return Trial(0.5, score, 1, 1, {"survivors": survivors, "trace": trace})


@pytest.fixture
def fake_bench():
    return FakeBench
