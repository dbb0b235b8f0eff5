"""Every stage program on a cut-down quick profile: what is written, that it repeats, that failures keep results, and
that DVC knows every project file a stage opens.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
import pipelines.memory as memory
import pipelines.predict as predict
import pipelines.prepare as prepare
import pipelines.pretrain as pretrain
import pipelines.report as report
import pipelines.score as score
import pipelines.search as search
import pipelines.shared.fitting as fitting
import replication.training.loop as training
from analysis.load.searches import read_memory
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.corpora.task_corpus import EVALUATION
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, sha256_file
from replication.predictions import full_rows, read_predictions
from replication.records import read_costs, read_record

pytestmark = pytest.mark.slow  # CI runs every stage at full length, and every form in `make rehearse`
PARAMS = Path("params.yaml")
EXPERIMENTS = ("frozen", "lora", "solo_connection")
SELECTING = "sentiment-weight-lora"
TASKS = (SELECTING, "sentiment-dora", "headlines-lora", "qa-lora", "llama-choice-lora")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a tiny profile, its corpus prepared and its backbone pretrained for three steps."""
    root = Path(__file__).resolve().parents[2]
    home = tmp_path_factory.mktemp("project")
    shutil.copytree(root / "paper_results", home / "paper_results")
    content = yaml.safe_load((root / "params.yaml").read_text())
    source = str(root / "data/microworld")
    content["tasks"]["microworld-e2e"].update(source=source, train_examples=12, dev_examples=3, test_items=3)
    content["backbones"]["microworld-gpt2"]["source"] = source
    short = {"steps": 3, "batch_size": 2, "warmup_steps": 1, "eval_every": 2, "checkpoint_every": 1}
    content["backbones"]["microworld-gpt2"]["pretraining"]["training"].update(short)
    content["training"].update(short)
    content["decoding"].update(beams=2, max_new_tokens=6, references_scored=2)
    content["search"]["e2e"].update(steps=1, held_out_examples=2)
    content["experiments"] = {key: content["experiments"][key] for key in EXPERIMENTS + TASKS}
    for key, experiment in content["experiments"].items():
        experiment["seeds"] = [18, 52] if key in EXPERIMENTS else [18]
    content["methods"]["weight_lora"]["k3"].update(keep=2, selection_steps=3)
    content["memory"] = {"experiment": SELECTING, "keep": [4], "batch_size": 2, "length": 24, "repeats": 2}
    rows = str(root / "data/microworld-tasks")
    for key in {content["experiments"][key]["task"] for key in TASKS}:
        content["tasks"][key].update(source=rows, train_examples=12, dev_examples=4, test_items=6)
        content["tasks"][key]["training"].update(short, steps=6, log_every=1)
    for key in {content["experiments"][key]["backbone"] for key in TASKS}:
        content["backbones"][key]["source"] = rows
        content["backbones"][key]["pretraining"]["training"].update(short)
    (home / PARAMS).write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        experiments = content["experiments"].values()
        for task in sorted({experiment["task"] for experiment in experiments}):
            prepare.main(PARAMS, task)
        for backbone in sorted({experiment["backbone"] for experiment in experiments}):
            pretrain.main(PARAMS, backbone)
        yield home


@pytest.fixture(scope="module")
def finished(home):
    for key in EXPERIMENTS + TASKS:
        finetune.main(PARAMS, key)
        predict.main(PARAMS, key)
        score.main(PARAMS, key)
    report.main(PARAMS)
    return home


def repeatable(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "cost" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_output_is_there_and_valid(finished):
    for key in EXPERIMENTS:
        run = finished / "runs/quick" / key
        metrics = read_json(run / "scores.json")
        assert set(metrics["seeds"]) == {"18", "52"}
        assert metrics["BLEU"] is not None
        assert metrics["metrics"] == ["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "reference_loss"]
        assert metrics["reference_loss"] > 0
        for seed in (18, 52):
            record = read_record(run / f"training/seed-{seed}/record.json")
            assert (record.experiment, record.seed, record.corpus.label) == (key, seed, "embedded synthetic corpus")
            assert record.backbone_sha256 == sha256_file(finished / "weights/microworld-gpt2/model.safetensors")
            assert record.result.steps == (0 if key == "frozen" else 3)
            assert record.counts.adapter == {"frozen": 0, "lora": 12288, "solo_connection": 2739}[key]
            assert len(read_predictions(run / f"predictions/seed-{seed}.jsonl")) == 3
            assert (run / f"adapter/seed-{seed}/adapter_model.safetensors").is_file()
        costs = read_costs(run / "cost/training.json")
        assert set(costs) == {"18", "52"}
        assert all(cost.seconds > 0 and cost.cpu_seconds > 0 for cost in costs.values())
    assert "embedded synthetic corpus" in (finished / "reports/quick/index.html").read_text()
    assert not list(finished.rglob(".*.replaced"))


@pytest.mark.parametrize("key", TASKS)
def test_tasks_of_every_form_leave_predictions_and_their_own_metrics(finished, key):
    run = finished / "runs/quick" / key
    metrics = read_json(run / "scores.json")
    assert metrics["items"] == 6
    assert metrics["primary"] in metrics["metrics"]
    assert all(metrics[name] is not None for name in metrics["metrics"])
    assert bool(metrics.get("evaluation")) == (metrics["form"] in EVALUATION)
    path = run / "predictions/seed-18.jsonl"
    rows = read_jsonl(path)
    assert not {"label", "answers", "references"} & set(rows[0]), "labels are only in the gold file"
    assert predict.predict(resolve(load_settings(PARAMS), key), 18) == full_rows(path)
    assert metrics["predictions_sha256"]["18"] == sha256_file(path)
    record = read_record(run / "training/seed-18/record.json")
    assert [row["id"] for row in rows] == [row["id"] for row in read_jsonl(prepared_of(finished, key))]
    assert (record.corpus.form, record.corpus.comparable) == (metrics["form"], False)
    assert record.result.steps == 6
    assert (run / "training/seed-18/selection.json").exists() == (key == SELECTING)


def prepared_of(home: Path, key: str) -> Path:
    task = yaml.safe_load((home / PARAMS).read_text())["experiments"][key]["task"]
    return home / "prepared/quick" / task / "test.jsonl"


def test_weight_lora_leaves_only_its_survivors(finished):
    folder = finished / "runs/quick" / SELECTING / "training/seed-18"
    record, chosen = read_record(folder / "record.json"), read_json(folder / "selection.json")
    pair = 2 * 4 * 96
    assert record.counts_at_start.adapter == 18 * pair
    assert record.counts_at_start.importance == 18
    assert record.counts.adapter == len(chosen["survivors"]) * pair <= 2 * pair
    assert record.counts.importance == 0
    assert chosen["removed_at"] == 3


@pytest.mark.parametrize("killed_at", [2, 5], ids=["in phase 1", "in phase 2"])
def test_a_run_killed_in_either_phase_ends_with_the_same_bytes(finished, monkeypatch, killed_at):
    run = finished / "runs/quick" / SELECTING
    before, real = repeatable(run), training.save_checkpoint
    shutil.rmtree("checkpoints", ignore_errors=True)  # finished seeds, which a start would take

    def dies(directory, identity, checkpoint):
        path = real(directory, identity, checkpoint)
        if checkpoint.step == killed_at:
            raise KeyboardInterrupt
        return path

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            finetune.main(PARAMS, SELECTING)
    finetune.main(PARAMS, SELECTING)
    assert repeatable(run) == before


def test_a_second_run_gives_the_same_bytes(finished):
    run = finished / "runs/quick/solo_connection"
    before = repeatable(run)
    finetune.main(PARAMS, "solo_connection")
    predict.main(PARAMS, "solo_connection")
    score.main(PARAMS, "solo_connection")
    assert repeatable(run) == before


def test_a_stage_that_fails_keeps_earlier_results_and_finished_seeds(finished, monkeypatch):
    run = finished / "runs/quick/lora"
    before, trained = repeatable(run), []
    real = fitting.fit

    def fails_on_the_second(*arguments, seed, **named):
        trained.append(seed)
        if seed == 52 and trained.count(52) == 1:
            raise KeyboardInterrupt
        return real(*arguments, seed=seed, **named)

    monkeypatch.setattr(finetune, "fit", fails_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        finetune.main(PARAMS, "lora")
    assert repeatable(run) == before
    finetune.main(PARAMS, "lora")
    assert trained == [18, 52, 52], "the seed that was complete is not trained again"
    assert repeatable(run) == before


def test_search_tries_the_same_rates_for_each_method(home):
    found = {}
    for key in ("lora", "solo_connection"):
        search.main(PARAMS, key)
        found[key] = read_json(home / "searches/quick" / f"{key}.json")
    for key, result in found.items():
        tried = [row["learning_rate"] for row in result["tried"]]
        assert set(result["learning_rates"]) <= set(tried)
        assert result["best"] in tried
        assert result["method"] == key


def test_memory_is_measured_in_fresh_processes(home):
    memory.main(PARAMS)
    found = read_json(home / "measurements/quick/memory.json")
    assert found["adapters"] == 18
    assert [row["keep"] for row in found["rows"]] == [4]
    for row in found["rows"]:
        assert 1 <= len(row["survivors"]) <= row["keep"]
        assert len(row["phase2_peaks_bytes"]) == len(found["all_adapters_peaks_bytes"]) == 2
        assert 0 < row["baseline_bytes"] <= min(row["phase2_peaks_bytes"])
    series, problems = read_memory(home / "measurements/quick")
    assert problems == []
    assert [row.keep for row in series.rows] == [4]


def test_memory_of_phase_1_ends_after_its_selection_where_gradients_accumulate(home, tmp_path):
    settings = load_settings(PARAMS)
    plan = resolve(settings, settings.memory.experiment).with_training(accumulation_steps=2)
    found = memory.train_phase(plan, settings.memory, 1, 4, tmp_path)
    assert 1 <= len(found["survivors"]) <= 4
    assert [path.name for path in tmp_path.glob("step-*")] == [f"step-{memory.PHASE_1_STEPS:08d}"]


def test_predicting_with_another_tasks_gold_file_is_refused_before_any_work(finished, tmp_path):
    path = finished / "gold/quick/headlines.jsonl"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.split(b"\n", 1)[1])
        with pytest.raises(
            DataError, match=r"headlines\.jsonl and .*test\.jsonl hold different examples; .*prepare@headlines"
        ):
            predict.main(PARAMS, "headlines-lora")
    finally:
        path.write_bytes(kept)


def test_decoding_without_an_adapter_names_the_stage_that_makes_it(home, tmp_path):
    content = yaml.safe_load((home / PARAMS).read_text())
    content["experiments"]["other"] = content["experiments"]["lora"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match="dvc repro finetune@other"):
        predict.main(path, "other")


WATCHED = """
import importlib, json, os, runpy, sys

# What the project builds on is imported once; each stage then runs in a process of its own that has none of the
# project's modules yet.
for name in ("accelerate", "matplotlib.figure", "pandas", "peft", "pydantic", "scipy.stats", "torch", "transformers",
             "typer", "yaml"):
    importlib.import_module(name)
importlib.import_module("transformers").AutoTokenizer
assert not {"analysis", "pipelines", "replication"} & set(sys.modules)


def watched(output, arguments):
    seen = set()

    def note(event, about):
        if event == "open" and isinstance(about[0], str) and not (about[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            seen.add(os.path.abspath(about[0]))

    sys.addaudithook(note)
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, ended.code
    with open(output, "w") as handle:
        json.dump(sorted(seen), handle)


for output, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        try:
            watched(output, arguments)
        except BaseException as error:
            print(arguments, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, arguments
"""
# Opened by stages and yet no `deps`: the sections of params.yaml are `params`; dvc.yaml and accepted_code.json only
# decide which hash of the code a record carries, the egg-info which versions; a stage reads back its own scratch, whose
# names are hashes of what made it.
NOT_DEPENDENCIES = (
    "params.yaml",
    "dvc.yaml",
    "accepted_code.json",
    "peft_replication.egg-info",
    "checkpoints",
    ".cache",
)
# The report compares the runs, which are dependencies, with dvc.lock, which DVC writes after every stage: as a
# dependency it would make the report stale as soon as the report has run.
ALSO_OPENED = {"report": {"dvc.lock"}}
STAGE_OPTIONS = {
    "prepare": ("--task", "sentiment"),
    "pretrain": ("--backbone", "microworld-deberta"),
    "finetune": ("--experiment", SELECTING),
    "predict": ("--experiment", SELECTING),
    "score": ("--experiment", SELECTING),
    "search": ("--case", "lora"),
    "report": (),
}


def declared(root: Path, home: Path, stage: str, part: str) -> list[Path]:
    """The paths under `part` (deps, outs) of the stage that runs with STAGE_OPTIONS."""
    content = yaml.safe_load((home / PARAMS).read_text())
    key = next(iter(STAGE_OPTIONS[stage][1:]), "")
    section = {"prepare": "tasks", "pretrain": "backbones", "search": "searches"}.get(stage, "experiments")
    values = {"key": key, "profile": "quick"}
    values |= {f"item.{name}": str(value) for name, value in content[section].get(key, {}).items()}
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    found = stages[stage].get("do", stages[stage])[part]
    found = [path if isinstance(path, str) else next(iter(path)) for path in found]
    for name, value in values.items():
        found = [path.replace(f"${{{name}}}", value) for path in found]
    return [Path(path) for path in found]


@pytest.fixture(scope="module")
def opened_by(finished, tmp_path_factory):
    """Stage -> every file that it opens to read, its own modules among them."""
    root, folder = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("opened")
    (finished / "dvc.lock").write_text("stages: {}\n")
    stages = [
        (str(folder / f"{stage}.json"), [f"pipelines.{stage}", "--params", str(PARAMS), *options])
        for stage, options in STAGE_OPTIONS.items()
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WATCHED, json.dumps(stages)]
    done = subprocess.run(command, cwd=finished, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return lambda stage: map(Path, json.loads((folder / f"{stage}.json").read_text()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("stage", STAGE_OPTIONS)
def test_a_stage_depends_on_every_project_file_it_opens(finished, project_root, opened_by, stage):
    known = [*declared(project_root, finished, stage, "deps"), *declared(project_root, finished, stage, "outs")]
    known += [path.relative_to(project_root) for path in known if path.is_relative_to(project_root)]
    opened = set()
    for path in opened_by(stage):
        root = next((root for root in (finished, project_root) if path.is_relative_to(root)), None)
        if root is None or not path.is_file() or path.is_relative_to(project_root / ".venv"):
            continue
        inside = path.relative_to(root)
        if inside.parent.name == "__pycache__":
            inside = inside.parents[1] / f"{inside.name.split('.')[0]}.py"
        if inside.parts[0] not in NOT_DEPENDENCIES and inside.name not in NOT_DEPENDENCIES:
            opened.add(inside)
    assert Path("pipelines/shared/stage.py") in opened
    left = {str(path) for path in opened if not any(path.is_relative_to(dep) for dep in known)}
    left -= {"pipelines/__init__.py", "replication/__init__.py"}  # no code: test_dependencies.py
    assert ALSO_OPENED.get(stage, set()) <= left
    left -= ALSO_OPENED.get(stage, set())
    assert not left, sorted(left)
