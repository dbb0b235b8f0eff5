"""What each trained ablation makes of its trials, on a bench that trains nothing; the schema takes every result."""

import json

import pytest

from analysis.show.ablations import Ablation, ablation_block
from studies.ablations import dropout_and_range, first_projection, ranking, unequal_settings
from studies.ablations.__main__ import described_fault, described_findings


def result(plan, found):
    sha = "0" * 64
    conditions = {"cpu": "c", "blas": "b", "threads": 1, "torch_build": "t"}
    value = Ablation(**described_fault(plan), **described_findings(found), settings=dict(plan.settings), inputs={},
                     settings_sha256=sha, versions={}, conditions=conditions)  # fmt: skip
    return Ablation.model_validate(json.loads(value.model_dump_json()))


@pytest.mark.parametrize("module", [dropout_and_range, first_projection, ranking, unequal_settings])
@pytest.mark.parametrize("lost", [None, 52])
def test_every_measure_fills_its_table(fake_bench, module, lost):
    found = module.measure(module.ABLATION, fake_bench(lost))
    block = ablation_block(result(module.ABLATION, found))
    assert all(len(row) == len(block.headers) for row in block.rows)
    assert any("diverged" in cell for row in block.rows for cell in row) == (lost is not None)
