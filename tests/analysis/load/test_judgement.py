"""The grid's comparisons: the file's own rules, and that the cpu profile runs exactly what it names."""

from __future__ import annotations

import pytest
import yaml

from analysis.load.judgement import load_judgement
from pipelines.shared.settings import load_settings
from replication.errors import DataError
from replication.fileio import write_text
from replication.metrics import leading


@pytest.fixture
def changed(project_root, tmp_path):
    """The file with one change, in a separate folder."""

    def write(change):
        content = yaml.safe_load((project_root / "paper_results/judgement.yaml").read_text())
        change(content)
        write_text(tmp_path / "judgement.yaml", yaml.safe_dump(content, sort_keys=False))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file["grid"][0].update(gate_seeds=[18]), "gate needs separate seeds"),
        (lambda file: file["measures"].pop("accuracy"), "sst2-1000 is judged by accuracy, which has no margins"),
        (lambda file: file["rule"].update(alpha=0.7), "alpha"),
        (lambda file: file["roles"]["cpu"].update(other=["x"]), "other"),
        (lambda file: file["rule"].update(aplha=0.05), "alpha"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(changed, change, words):
    with pytest.raises(DataError, match=words):
        load_judgement(changed(change))


def test_roles_go_by_pattern_and_profile():
    judgement = load_judgement()
    roles = {name: judgement.role("cpu", name) for name in (
        "gate-sst2-1000-lora", "mrpc-600-random-draws", "mrpc-600-random-lora", "mrpc-lora", "cola-2000-lora",
        "cola-lora", "sst2-lora", "sst2-1000-lora", "stsb-frozen", "e2e-frozen", "e2e-long-lora")}  # fmt: skip
    assert [name for name, role in roles.items() if role == "compared"] == [
        "mrpc-600-random-lora", "cola-2000-lora", "sst2-1000-lora", "e2e-long-lora"]  # fmt: skip
    assert roles["gate-sst2-1000-lora"] == "gate"
    assert roles["mrpc-600-random-draws"] == "draws"
    assert judgement.role("quick", "gate-sst2-1000-lora") == "compared"


@pytest.mark.parametrize("number", range(len(load_judgement().grid)))
def test_the_cpu_profile_holds_every_cell_of_the_grid_with_its_seeds(project_root, number):
    part, settings = load_judgement().grid[number], load_settings(project_root / "pipelines/cpu/params.yaml")
    judgement = load_judgement()
    cells = {"compared": {}, "gate": {}}
    for key, entry in settings.experiments.items():
        role = judgement.role("cpu", key)
        if entry.task in part.tasks and entry.backbone == part.backbone and role in cells:
            cells[role].setdefault((entry.task, entry.method), []).append(entry.seeds)
    for task, measure in part.tasks.items():
        assert leading(settings_metric(settings, task)).name == measure
        assert all(cells["compared"][task, method] == [part.seeds] for method in part.methods)
        if part.gate_seeds:
            assert all(cells["gate"][task, method] == [part.gate_seeds] for method in ("frozen", "lora"))
            assert cells["compared"][task, "baseline"] == [(0,)]


def settings_metric(settings, task):
    from replication.corpora.registry import describe

    return describe(settings.task(task).corpus)["metric"]
