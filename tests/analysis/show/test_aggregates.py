import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.show.aggregates import aggregates, aggregates_block


def rows_of(block):
    return {row[0]: dict(zip(block.headers, row, strict=True)) for row in block.rows}


def test_the_middle_half_of_seeds_and_tasks_is_averaged(task_study):
    found = {entry.label: entry for entry in aggregates(task_study)}
    lora = next(entry for entry in found.values() if entry.method == "lora")
    assert (lora.tasks, lora.seeds, lora.backbone) == (("cola", "rte"), (18, 52, 1917), "minilm-l6")
    runs = {e.name: e.metrics for e in task_study.experiments}
    scores = [
        [runs[f"my-{task}-lora"].seeds[seed][runs[f"my-{task}-lora"].primary] for task in lora.tasks]
        for seed in lora.seeds
    ]
    assert lora.over_tasks.estimate == pytest.approx(stats.trim_mean(np.array(scores), 0.25, axis=None))
    assert lora.over_tasks.low <= lora.over_tasks.estimate <= lora.over_tasks.high
    assert json.loads(json.dumps(lora.to_dict()))["tasks"] == ["cola", "rte"]


def test_a_method_that_lacks_a_task_or_seeds_has_no_aggregate(write_task_runs, tmp_path):
    root = tmp_path / "runs"
    write_task_runs(root, tasks=("cola", "rte"), methods=("lora",), items=30)
    write_task_runs(root, tasks=("cola",), methods=("dora",), items=30)
    runs = write_task_runs(root, tasks=("cola", "rte"), methods=("adalora",), items=30, seeds=(18, 52))
    assert [entry.method for entry in aggregates(Study.of(load_profile(runs)))] == ["lora"]


def test_the_table_sets_methods_beside_each_other_and_says_that_it_describes(task_study):
    entries = aggregates(task_study)
    block = aggregates_block(task_study)
    assert [line[0] for line in block.rows] == [entry.label for entry in entries]
    assert len(block.rows) > 1
    shown = dict(zip(block.headers, block.rows[0], strict=True))
    assert (shown["Backbone"], shown["Tasks"], shown["Seeds"]) == ("MiniLM-L6", "CoLA, RTE", "3")
    assert float(shown["Interquartile mean"]) == pytest.approx(entries[0].over_tasks.estimate, abs=1e-4)
    assert any("Descriptive: with few tasks (here 2)" in note for note in block.notes)
    assert "runs/cpu/my-cola-lora/training/seed-{18,52,1917}/record.json" in block.records
    alone = dataclasses.replace(
        task_study, experiments=tuple(e for e in task_study.experiments if e.name.endswith("-lora"))
    )
    assert [entry.method for entry in aggregates(alone)] == ["lora"]
    assert (aggregates_block(alone).rows, aggregates_block(alone).records) == ((), ())


def test_trivial_baselines_stand_first_over_tasks_where_each_task_has_one(tasks_module, tmp_path):
    runs = tasks_module.write_task_runs(tmp_path, tasks=("cola", "rte"), methods=("frozen", "lora"))
    tasks_module.write_baseline(runs, "cola")
    assert "Best trivial baseline" not in rows_of(aggregates_block(Study.of(load_profile(runs))))
    tasks_module.write_baseline(runs, "rte")
    study = Study.of(load_profile(runs))
    block = aggregates_block(study)
    assert [row[0] for row in block.rows] == ["Best trivial baseline", "Frozen backbone", "LoRA (r=8)"]
    means = [row.scores[row.primary].mean for row in study.rows if row.method == "baseline_majority"]
    assert float(block.rows[0][2]) == pytest.approx(sum(means) / 2, abs=1e-4)
    assert (block.rows[0][3], block.rows[0][5]) == ("not measured", "one seed")


def test_one_task_is_no_aggregate(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks=("cola",), methods=("lora",), items=30)
    assert aggregates(Study.of(load_profile(runs))) == []


def test_peft_s_tuners_are_methods_of_their_own(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path / "runs", tasks=("cola", "rte"), methods=("lora", "dora", "adalora"), items=30)
    assert {entry.method for entry in aggregates(Study.of(load_profile(runs)))} == {"lora", "dora", "adalora"}
