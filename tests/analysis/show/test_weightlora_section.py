"""The page with both papers in it."""

import json
import re

import pytest

from analysis.judge.claims import load_bench, verdict_list
from analysis.load.runs import Planned
from analysis.show.report import build_report
from replication.errors import DataError


def build(runs, output, **changes):
    return build_report(**{"profile": runs.name, "runs": runs, "output": output, "sections": (), **changes}).read_text(
        encoding="utf-8"
    )


def text_of(page):
    page = re.sub(r"<style>.*?</style>|<script>.*?</script>|<svg .*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").replace("\u2011", "-")


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr("analysis.show.report.draw_all", lambda *_: [])
    monkeypatch.setattr("analysis.show.report.WeightLora.drawings", lambda *_: [])
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 100)


@pytest.fixture
def searches(tasks_module, tmp_path):
    folder = tmp_path / "searches" / "cpu"
    tasks_module.write_search(folder, "glue-lora", method="lora", task="cola", backbone="minilm-l6")
    return folder


def test_both_papers_stand_on_one_page(write_runs, write_task_runs, tmp_path, quickly):
    runs = write_runs(tmp_path / "runs", items=6, seeds=[18])
    write_task_runs(
        tmp_path / "runs", profile="quick", backbone="microworld-deberta", tasks={"microworld_sentiment": "sst2"},
        methods=("frozen", "lora", "weight_lora-k3", "random_lora-k3"), items=30,
    )  # fmt: skip
    page = build(runs, tmp_path / "out")
    solo, weightlora = page.split('<section id="weightlora">')
    assert "microworld_sentiment" not in text_of(solo.split('<section id="solo">')[1])
    text = text_of(weightlora)
    assert "quick profile, small DeBERTa" in text
    assert "WeightLoRA (r=8, K=3)" in text
    assert "quick profile never tests a claim" in text
    assert weightlora.count('<span class="verdict not_tested">') == 4
    assert 'id="table-glue_microworld_deberta"' in weightlora
    assert "<code>runs/quick/my-microworld_sentiment-lora/training/seed-{18,52,1917}/record.json</code>" in weightlora
    assert (tmp_path / "out" / "tables" / "glue_microworld_deberta.tex").is_file()
    assert "Checks of the quick profile: pass" in text_of(solo)
    losses = (tmp_path / "out" / "plots" / "losses.csv").read_text(encoding="utf-8")
    assert "microworld_sentiment" not in losses
    assert "microworld_sentiment" in (tmp_path / "out" / "plots" / "task_losses.csv").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_page_of_task_runs_alone_has_everything(task_runs, searches, tasks_module, tmp_path):
    measurements = tmp_path / "measurements" / "cpu"
    tasks_module.write_memory(measurements)
    page = build(task_runs, tmp_path / "out", searches=searches, measurements=measurements)
    text = text_of(page)
    assert "searched on CoLA, the best of 3" in text
    assert "0.001: 0.5000" in text
    assert "inconclusive: did not learn" in text
    assert "CoLA on MiniLM-L6, K=3: WeightLoRA minus random" in text
    assert "phase-2 peak 412 MB" in text
    assert page.count("<svg ") == 7
    numbers = [int(number) for number in re.findall(r"<b>Figure (\d+)\.</b>", page)]
    assert numbers == list(range(1, 8))
    names = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == set(re.findall(r'<figure id="figure-([^"]+)">', page))


def test_experiments_that_have_not_run_stand_in_their_tables(task_runs, tmp_path, quickly):
    plan = {
        "lora": Planned("smollm2-135m", "e2e-part", "lora", corpus="e2e"),
        "my-cola-lora": Planned("minilm-l6", "cola", "lora", "classification", {"rank": 8}, "cola"),
        "squad-lora": Planned("minilm-l6", "squad", "lora", "question_answering", {"rank": 8}, "squad_v1"),
    }
    page = build(task_runs, tmp_path / "out", experiments=plan)
    solo, weightlora = page.split('<section id="weightlora">')
    assert "lora (missing)" in text_of(solo)
    assert "SQuAD" not in text_of(solo.split('<section id="solo">')[1])
    assert "SQuAD v1.1 †" in text_of(weightlora)
    assert "not run" in text_of(weightlora)


def test_many_missing_experiments_are_one_warning(tmp_path, quickly):
    plan = {f"my-cola-{i}": Planned("minilm-l6", "cola", "lora", "classification") for i in range(9)}
    text = text_of(build(tmp_path / "runs" / "cpu", tmp_path / "out", experiments=plan))
    assert "9 of 9 experiments have not been run: my-cola-0, my-cola-1" in text
    assert "No experiment of this paper has been run in this profile yet" in text


@pytest.mark.parametrize("profile", ["quick", "cpu", "paper"])
def test_every_profile_builds_without_any_runs(tmp_path, quickly, profile):
    text = text_of(build(tmp_path / "runs" / profile, tmp_path / "out"))
    assert f"{profile} profile" in text
    assert "The authors' own logs" in text


def test_broken_searches_and_measurements_are_named_without_this_machines_folders(task_runs, tmp_path, quickly):
    searches, measurements = tmp_path / "searches" / "cpu", tmp_path / "measurements" / "cpu"
    for folder, name in ((searches, "glue-lora.json"), (measurements, "memory.json")):
        folder.mkdir(parents=True)
        (folder / name).write_text("{", encoding="utf-8")
    page = build(task_runs, tmp_path / "out", searches=searches, measurements=measurements)
    assert "searches/cpu/glue-lora.json: not valid JSON" in text_of(page)
    assert "measurements/cpu/memory.json: not valid JSON" in text_of(page)
    assert str(tmp_path) not in page


def test_folders_of_another_profile_are_refused(task_runs, tmp_path):
    with pytest.raises(DataError, match="holds profile 'quick', not 'cpu'"):
        build_report(profile="cpu", runs=task_runs, output=tmp_path, searches=tmp_path / "quick")


def test_claims_are_sentences(task_runs):
    from analysis.load.runs import load_profile

    lines = verdict_list(load_bench("cpu", load_profile(task_runs)).of_paper("weightlora")).splitlines()
    assert lines[0].startswith("- **Claim 1: ")
    assert sum(line.startswith("- **Claim") for line in lines) == 4
    assert any(line.startswith("  - CoLA on MiniLM-L6") for line in lines)


def test_a_broken_selection_is_shown_with_the_reason(write_task_runs, tmp_path, quickly):
    runs = write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("weight_lora-k3",), items=10, seeds=(18,))
    path = runs / "my-cola-weight_lora-k3" / "training" / "seed-18" / "selection.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "survivors": [99]}), encoding="utf-8")
    text = text_of(build(runs, tmp_path / "out"))
    assert "my-cola-weight_lora-k3 (failed)" in text
    assert "adapter 99 is none of the 18" in text
