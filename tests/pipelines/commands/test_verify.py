"""`replicate verify` on copies of committed runs: what agrees, and each way in which it can not."""

import json
import shutil

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.load.selection import Selection
from pipelines.commands import verify as module
from pipelines.commands.verify import register, same
from pipelines.commands.verify_counts import check_adapters, final_structure, vocabulary
from pipelines.shared.settings import load_settings
from replication.errors import AdapterError
from replication.fileio import read_json, read_jsonl, sha256_file, write_json, write_jsonl, write_text
from replication.methods.weight_lora import WEIGHT_LORA, WEIGHT_LORA_PLUS

RUNS = ("lora", "sentiment-lora", "sentiment-weight-lora-plus", "llama-sentiment-random-lora",
        "sentiment-baseline-majority", "sentiment-adalora")  # fmt: skip
NO_JAVA = ("CIDEr", "METEOR", "ROUGE_L")


@pytest.fixture
def home(tmp_path, monkeypatch, project_root):
    """A checkout with some committed runs, their lock and gold files; no weights, no corpora, no adapters, no Java."""
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copy(project_root / name, tmp_path / name)
    shutil.copytree(project_root / "gold" / "quick", tmp_path / "gold" / "quick")
    for name in RUNS:
        source, target = project_root / "runs" / "quick" / name, tmp_path / "runs" / "quick" / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("adapter", "cost"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("replication.metrics.java.find_java", lambda environment=None: None)
    return tmp_path


@pytest.fixture
def command():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return lambda *arguments: CliRunner().invoke(app, ["verify", *map(str, arguments)])


def verified(command, name, code):
    """The one experiment `name`, with the exit code that is expected."""
    result = command("--json", "--only", name)
    assert result.exit_code == code, result.output
    (one,) = json.loads(result.stdout)["experiments"]
    return one


def edit(path, change):
    content = read_json(path)
    change(content)
    write_json(path, content)


def mismatches(one):
    return {
        ((found["file"] or found["problem"]).split("/", 3)[-1], found["field"]): found for found in one["mismatches"]
    }


def test_committed_runs_agree_and_what_cannot_be_recomputed_is_counted(home, command):
    result = command("--only", "sentiment-*", "--only", "llama-sentiment-random-lora", "--only", "lora")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "ok: quick/sentiment-lora: 12 files compared, 5 scores and 12 counts recomputed" in lines
    assert "ok: quick/sentiment-weight-lora-plus: 15 files compared, 5 scores and 24 counts recomputed" in lines
    assert "ok: quick/sentiment-baseline-majority: 6 files compared, 3 scores and 5 counts recomputed" in lines
    assert "not run: quick/sentiment-dora" in lines
    assert "ok: quick/lora: 12 files compared, 10 scores and 12 counts recomputed" in lines
    assert any(line == f"  not recomputed: {', '.join(NO_JAVA)}: no Java" for line in lines)
    totals = [line for line in lines if "not recomputed: total of seed" in line and "pretraining.txt" in line]
    assert sum(line.count("total of seed") for line in totals) == 15
    assert len(totals) == 5  # the reason once an experiment
    assert lines[-3].startswith("6 experiments ok, 0 with a mismatch, 0 incomplete, 10 not run;")
    assert lines[-1] == "18 not recomputed"


def test_a_vocabulary_comes_from_the_weights_or_is_trained_again(home, command, project_root):
    settings = load_settings("params.yaml")
    shutil.copytree(project_root / "data" / "microworld", home / "data" / "microworld")
    trained = vocabulary(settings, "microworld-gpt2")
    one = verified(command, "lora", 0)
    assert one["counts"] == 15
    write_json(home / "weights" / "microworld-gpt2" / "config.json", {"vocab_size": trained + 1})
    record = home / "runs" / "quick" / "lora" / "training" / "seed-18" / "record.json"
    total = read_json(record)["counts"]["total"]
    found = mismatches(verified(command, "lora", 1))["training/seed-18/record.json", "counts.total"]
    assert (found["expected"], found["found"]) == (total + 96, total)  # one row of the embedding


def test_scores_that_the_predictions_do_not_give(home, command):
    run = home / "runs" / "quick" / "sentiment-lora"
    right = read_json(run / "scores.json")["seeds"]["18"]["accuracy"]  # of this clone: other processors, other runs

    def best(scores):
        scores.update(accuracy=0.99, spread={"accuracy": 0.0})
        scores["seeds"] = {seed: {"accuracy": 0.99} for seed in scores["seeds"]}

    edit(run / "scores.json", best)
    write_json(run / "metrics.json", {"accuracy": 0.99})
    for lock in (True, False):
        if not lock:
            (home / "dvc.lock").unlink()
        one = verified(command, "sentiment-lora", 1)
        assert one["state"] == "mismatch"
        found = mismatches(one)
        assert (("metrics.json", "md5") in found) is lock
        wrong = found["scores.json", "seeds.18.accuracy"]
        assert (wrong["expected"], wrong["found"]) == (right, 0.99)
        assert {field for file, field in found if file == "scores.json"} >= {"accuracy", "spread.accuracy"}
    assert one["not_recomputed"][0]["what"] == "dvc.lock"
    assert command("--only", "sentiment-lora").exit_code == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("items", 239), ("notes", ["seed 18: none"]), ("missing", ["METEOR"])],
)
def test_other_fields_of_scores_that_the_predictions_do_not_give(home, command, field, value):
    (home / "dvc.lock").unlink()
    edit(home / "runs" / "quick" / "sentiment-lora" / "scores.json", lambda c: c.update({field: value}))
    assert ("scores.json", field) in mismatches(verified(command, "sentiment-lora", 1))


def test_predictions_of_one_class_whose_hash_was_renewed(home, command):
    run = home / "runs" / "quick" / "sentiment-lora"
    path = run / "predictions" / "seed-18.jsonl"
    write_jsonl(path, [{**row, "prediction": 1} for row in read_jsonl(path)])
    edit(run / "scores.json", lambda c: c["predictions_sha256"].update({"18": sha256_file(path)}))
    found = mismatches(verified(command, "sentiment-lora", 1))
    assert found["predictions", "md5"]
    assert found["scores.json", "seeds.18.accuracy"]["expected"] < 0.6


@pytest.mark.parametrize("name", ["sentiment-lora", "sentiment-weight-lora-plus", "sentiment-baseline-majority"])
@pytest.mark.parametrize("field", ["adapter", "importance", "head", "trainable", "total"])
def test_a_count_that_the_architecture_does_not_give(home, command, project_root, name, field):
    shutil.copytree(project_root / "data" / "microworld-tasks", home / "data" / "microworld-tasks")
    (home / "dvc.lock").unlink()
    path = next((home / "runs" / "quick" / name / "training").glob("*/record.json"))
    right = read_json(path)["counts"][field]
    edit(path, lambda c: c["counts"].update({field: right + 1}))
    found = mismatches(verified(command, name, 1))
    assert [key for key in found if key[1].startswith("counts.")] == [
        (f"training/{path.parent.name}/record.json", f"counts.{field}")
    ]
    wrong = found[f"training/{path.parent.name}/record.json", f"counts.{field}"]
    assert (wrong["expected"], wrong["found"]) == (right, right + 1)


def test_counts_at_the_start(home, command):
    (home / "dvc.lock").unlink()
    path = home / "runs" / "quick" / "sentiment-weight-lora-plus" / "training" / "seed-18" / "record.json"
    edit(path, lambda c: c["counts_at_start"].update(importance=1))
    found = mismatches(verified(command, "sentiment-weight-lora-plus", 1))
    assert list(found) == [("training/seed-18/record.json", "counts_at_start.importance")]
    edit(path, lambda c: c.pop("counts_at_start"))
    assert verified(command, "sentiment-weight-lora-plus", 1)["state"] == "mismatch"


@pytest.mark.parametrize(
    ("name", "change", "file", "field"),
    [
        (
            "sentiment-weight-lora-plus",
            lambda c: (c["survivors"].pop(), c["final_ranks"].popitem()),
            "record.json",
            "counts.adapter",
        ),
        ("sentiment-weight-lora-plus", lambda c: c["survivors"].pop(), "selection.json", "survivors"),
        (
            "sentiment-weight-lora-plus",
            lambda c: c.update(final_ranks=dict.fromkeys(c["final_ranks"], 1)),
            "selection.json",
            "survivors",
        ),
        (
            "sentiment-weight-lora-plus",
            lambda c: c.update(
                survivors=[a["index"] for a in c["adapters"]], final_ranks={a["index"]: 8 for a in c["adapters"]}
            ),
            "selection.json",
            "survivors",
        ),
        (
            "llama-sentiment-random-lora",
            lambda c: c["adapters"][0].update(module="other"),
            "selection.json",
            "survivors",
        ),
    ],
)
def test_a_selection_that_the_counts_do_not_follow_from(home, command, name, change, file, field):
    (home / "dvc.lock").unlink()
    folder = home / "runs" / "quick" / name / "training" / "seed-18"
    edit(folder / "selection.json", change)
    assert (f"training/seed-18/{file}", field) in mismatches(verified(command, name, 1))


def test_an_adapter_that_is_there_and_another(home, command):
    path = home / "runs" / "quick" / "sentiment-lora" / "adapter" / "seed-18" / "adapter_model.safetensors"
    write_text(path, "other")
    found = mismatches(verified(command, "sentiment-lora", 1))
    assert found["adapter/seed-18/adapter_model.safetensors", "bytes"]["found"] == 5
    assert ("adapter/seed-18/adapter_model.safetensors", "sha256") in found
    write_text(path.with_name("adapter_config.json"), "another")
    path.unlink()
    assert ("adapter", "md5") in mismatches(verified(command, "sentiment-lora", 1)), "its other files count"


def test_what_the_lock_names_and_what_it_does_not(home, command):
    (home / "runs" / "quick" / "sentiment-lora" / "metrics.json").unlink()
    found = mismatches(verified(command, "sentiment-lora", 1))
    assert found["metrics.json", "md5"]["found"] is None
    text = (home / "dvc.lock").read_text().replace("score@sentiment-adalora:", "score@other:")
    (home / "dvc.lock").write_text(text)
    one = verified(command, "sentiment-adalora", 0)
    assert any("has no entry of score@sentiment-adalora" in left["why"] for left in one["not_recomputed"])


def test_a_broken_file_is_a_mismatch_and_an_unfinished_run_is_none(home, command):
    run = home / "runs" / "quick" / "sentiment-lora"
    (home / "dvc.lock").unlink()
    shutil.rmtree(run / "training" / "seed-18")
    one = verified(command, "sentiment-lora", 0)
    assert (one["state"], one["mismatches"]) == ("incomplete", [])
    assert any("no seed 18" in problem for problem in one["problems"])
    (run / "scores.json").write_text("{")
    one = verified(command, "sentiment-lora", 1)
    assert any("scores.json: not valid JSON" in found["problem"] for found in one["mismatches"])


def test_a_run_that_is_not_planned_is_checked_too(home, command):
    run = home / "runs" / "quick" / "sentiment-lora"
    shutil.copytree(run, run.with_name("mine"))
    result = command("--json")
    assert result.exit_code == 1
    (mine,) = [one for one in json.loads(result.stdout)["experiments"] if one["experiment"] == "mine"]
    assert any("its folder is quick/mine" in found["problem"] for found in mine["mismatches"])


def test_a_run_whose_experiment_is_gone_is_removed_and_not_ok(home, command):
    file, name = home / "params.yaml", "sentiment-baseline-majority"
    file.write_text("".join(row for row in file.read_text().splitlines(True) if not row.startswith(f"  {name}:")))
    for other in RUNS:
        if other != name:
            shutil.rmtree(home / "runs" / "quick" / other)
    lines = command().stdout.splitlines()
    assert f"removed: quick/{name}: 6 files compared, 3 scores and 5 counts recomputed" in lines
    assert lines[-3].startswith("0 experiments ok, 0 with a mismatch, 0 incomplete, ")
    assert lines[-3].endswith("not run, 1 that params.yaml no longer has;")


def test_an_unknown_backbone_or_corpus_is_not_recomputed(home, command):
    (home / "dvc.lock").unlink()
    for path in (home / "runs" / "quick" / "sentiment-lora" / "training").glob("*/record.json"):
        edit(path, lambda c: c.update(backbone="my-own"))
    one = verified(command, "sentiment-lora", 0)
    assert one["counts"] == 0
    assert sum("my-own" in left["why"] for left in one["not_recomputed"]) == 3


def test_a_metric_measured_without_java_is_recomputed_without(home, command, monkeypatch):
    """Where there is Java, scores that were measured without are still compared with scores without."""
    from replication.metrics import score_systems

    seen = []

    def watched(protocol, systems, *, java, progress):
        seen.append(java)
        return score_systems(protocol, systems, java=None, progress=progress)

    monkeypatch.setattr("replication.metrics.score_systems", watched)
    path = home / "runs" / "quick" / "lora" / "scores.json"
    edit(path, lambda c: c.update(approximate=["ROUGE_L", "CIDEr"]))
    verified(command, "lora", 1)
    assert seen == [None]


@given(value=st.floats(0.01, 100), change=st.floats(1e-7, 1))
def test_numbers_agree_to_nine_digits(value, change):
    assert same(value, value * (1 + 1e-11))
    assert not same(value, value * (1 + change))
    assert not same(value, None)
    assert same(None, None)


# --- the end of a training, from the settings and selection.json


PRESETS = [
    ("random_lora", None),
    *(("weight_lora", name) for name in (None, *WEIGHT_LORA)),
    *(("weight_lora_plus", name) for name in (None, *WEIGHT_LORA_PLUS)),
]


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_the_structure_after_training_follows_from_the_selection(method, preset):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from replication.counting import parameter_counts
    from replication.examples import Encoded
    from replication.methods import attach, method_config
    from replication.training.config import TrainingConfig
    from replication.training.loop import train

    settings = {} if preset is None else {"preset": preset, "targets": ("query", "key", "value")}
    if method == "weight_lora":
        settings |= {"keep": 2, "weight_learning_rate": 5.0}
        settings |= {} if preset is not None and "2025_02" in preset else {"selection_steps": 4}
    if method == "weight_lora_plus":
        settings |= {"keep": None, "selection_steps": 3, "expand_every": 2, "expansions": 2}
    if method == "random_lora":
        settings |= {"keep": 2}
    config = method_config(method, rank=2, **settings)

    def model():
        torch.manual_seed(0)
        sizes = {"vocab_size": 31, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
        return attach(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval(), config)

    training = TrainingConfig(steps=9, warmup_steps=0, learning_rate=0.01, batch_size=2, eval_every=9, threads=1)
    generator = torch.Generator().manual_seed(0)
    rows = [Encoded(torch.randint(1, 31, (6,), generator=generator).tolist(), [0, 1, 1, 1, 1, 1]) for _ in range(4)]
    trained, callback = model(), config.training_callback(training)
    train(trained, rows, rows, training, seed=3, pad_id=0, callback=callback)
    selection = Selection.model_validate(json.loads(json.dumps(callback.summary())))
    again = model()
    check_adapters(again, config, selection)
    config.restructure(again, final_structure(config, selection))
    assert parameter_counts(again) == parameter_counts(trained)
    assert {name: p.requires_grad for name, p in again.named_parameters()} == {
        name: p.requires_grad for name, p in trained.named_parameters()
    }
    more = selection.model_copy(update={"survivors": tuple(range(len(selection.adapters)))})
    if method == "random_lora" or config.milestones(len(selection.adapters)):
        with pytest.raises(AdapterError, match="survivors"):
            check_adapters(model(), config, more)


def test_the_command_is_installed(project_root):
    assert 'verify = "pipelines.commands.verify:register"' in (project_root / "pyproject.toml").read_text()
    assert module.__doc__.startswith("`replicate verify`")
