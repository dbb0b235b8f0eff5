"""What each trained ablation makes of its trials, on a bench that trains nothing; the schema takes every result."""

import hashlib
import json

import pytest

from analysis.show.ablations import Ablation, ablation_block
from studies.ablations import dropout_and_range, first_projection, ranking, unequal_settings
from studies.ablations.__main__ import described_fault, described_findings
from studies.ablations.bench import Trial
from studies.ablations.unequal_settings import BASE, LORA, MORE, RATE, WEIGHT_LORA, share_of


class FakeBench:
    """Scores follow only from the method and the settings; one seed may diverge."""

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


def result(plan, found):
    sha = "0" * 64
    conditions = {"cpu": "c", "blas": "b", "threads": 1, "torch_build": "t"}
    value = Ablation(**described_fault(plan), **described_findings(found), settings=dict(plan.settings), inputs={},
                     settings_sha256=sha, versions={}, conditions=conditions)  # fmt: skip
    return Ablation.model_validate(json.loads(value.model_dump_json()))


@pytest.mark.parametrize("module", [dropout_and_range, first_projection, ranking, unequal_settings])
@pytest.mark.parametrize("lost", [None, 52])
def test_every_measure_fills_its_table(module, lost, project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    found = module.measure(module.ABLATION, FakeBench(lost))
    block = ablation_block(result(module.ABLATION, found))
    assert all(len(row) == len(block.headers) for row in block.rows)
    assert any("diverged" in cell for row in block.rows for cell in row) == (lost is not None)


def test_ranking_sees_different_sets_and_negative_weights():
    found = ranking.measure(ranking.ABLATION, FakeBench())
    assert "negative in 6 of 6 runs" in found.shows
    assert "different sets in 6" in found.shows
    assert all(set(row[1].values()) == {1.0} for row in found.rows)
    assert all(set(row[2].values()) == {round(2 / 3, 6)} for row in found.rows)


def test_the_two_sides_get_what_the_labels_say():
    bench = FakeBench()
    found = unequal_settings.measure(unequal_settings.ABLATION, bench)
    steps = unequal_settings.ABLATION.settings["steps"]
    lora = [call for call in bench.calls if call[0].method == "lora"]
    assert {(rows, training["steps"]) for _, _, _, rows, training in lora} == {
        (50, steps),
        (70, round(steps * 28 / 15)),
    }
    assert sorted({rate for _, _, rate, _, _ in lora}) == [0.0002, 0.004]
    pairs = {(row[0], row[1]) for row in found.rows}
    assert (f"{LORA}: {RATE}", f"{LORA}: {BASE}") in pairs
    assert {(f"{WEIGHT_LORA}: {a}", f"{LORA}: {b}") for a in (BASE, MORE) for b in (BASE, MORE)} <= pairs
    for row in found.rows:
        assert row[4] == {seed: round(row[2][seed] - row[3][seed], 6) for seed in row[2]} or max(
            abs(row[4][seed] - (row[2][seed] - row[3][seed])) for seed in row[2]
        ) < 2e-6  # fmt: skip


def test_a_share_is_the_same_every_time_and_loses_no_order():
    rows = [{"id": number} for number in range(70)]
    assert share_of(rows, 5 / 7) == share_of(rows, 5 / 7)
    assert len(share_of(rows, 5 / 7)) == 50
