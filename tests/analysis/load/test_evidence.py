import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.evidence import OUTPUTS, content_md5, lock_file, read_lock, repro, without_code
from analysis.load.runs import load_experiment, load_profile
from replication.fileio import read_json, read_jsonl, sha256_file, write_json, write_jsonl, write_text
from replication.predictions import compact, gold

SEEDS = (18, 52, 1917)
LOCKS = {"quick": "dvc.lock", "cpu": "pipelines/cpu/dvc.lock"}


def write_lock(run, path="dvc.lock"):
    """dvc.lock as `dvc repro` leaves it after all three stages of the run."""
    root, inside = run.parents[2], f"runs/{run.parent.name}/{run.name}"
    gold_file = {"path": "gold/quick/task.jsonl", "hash": "md5", "md5": content_md5(root / "gold/quick/task.jsonl")}
    code = {"path": "replication/methods/lora.py", "hash": "md5", "md5": "0" * 32, "size": 1}
    adapter = {"path": f"{inside}/adapter", "hash": "md5", "md5": "a" * 32 + ".dir"}
    out = {
        name: {"path": f"{inside}/{name}", "hash": "md5", "md5": content_md5(run / name)}
        for names in OUTPUTS.values()
        for name in names
    }
    cmd = {"cmd": "python -m pipelines.x", "params": {"params.yaml": {"tasks.x": {"note": "- path: runs/x\n\n  y"}}}}
    stages = {
        f"finetune@{run.name}": {**cmd, "deps": [code], "outs": [adapter, out["training"]]},
        f"predict@{run.name}": {**cmd, "deps": [gold_file, code, adapter], "outs": [out["predictions"]]},
        f"score@{run.name}": {
            "cmd": "x",
            "deps": [gold_file, out["predictions"], code],
            "outs": [out["metrics.json"], out["scores.json"]],
        },
    }
    stages = json.loads(json.dumps(stages))  # nothing shared: DVC writes no anchors
    write_text(root / path, yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))


def finish(run):
    """Make a made-up run what the pipeline writes now: compact rows, a gold file, all hashes, metrics.json."""
    for path in sorted((run / "predictions").glob("seed-*.jsonl")):
        rows = read_jsonl(path)
        golden = write_jsonl(run.parents[2] / "gold" / "quick" / "task.jsonl", gold(rows))
        write_jsonl(path, compact(rows))
    adapters = {
        str(seed): read_json(run / "training" / f"seed-{seed}" / "record.json")["adapter"]["sha256"] for seed in SEEDS
    }
    decoding = {"adapter_sha256": adapters, "gold": "gold/quick/task.jsonl", "gold_sha256": sha256_file(golden)}
    write_json(run / "predictions" / "decoding.json", decoding)
    hashes = {str(seed): sha256_file(run / "predictions" / f"seed-{seed}.jsonl") for seed in SEEDS}
    scores = {**read_json(run / "scores.json"), "predictions_sha256": hashes}
    write_json(run / "scores.json", scores)
    names = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
    write_json(run / "metrics.json", {name: scores[name] for name in names})


@pytest.fixture
def run(quick_runs, tmp_path):
    """A finished run without a dvc.lock."""
    folder = shutil.copytree(quick_runs / "lora", tmp_path / "runs" / "quick" / "lora")
    finish(folder)
    return folder


@pytest.fixture
def locked(run):
    write_lock(run)
    return run


def change(path, edit):
    content = read_json(path)
    edit(content)
    write_json(path, content)


def assert_stale(run, *texts):
    found = load_experiment(run)
    assert found.status == "stale", (found.status, found.problems)
    for text in texts:
        assert any(text in problem for problem in found.problems), (text, found.problems)
    assert found.differences


def test_a_finished_run_is_complete_with_and_without_a_lock(run):
    assert (load_experiment(run).status, load_experiment(run).problems) == ("complete", ())
    write_lock(run)
    assert (load_experiment(run).status, load_experiment(run).problems) == ("complete", ())
    shutil.rmtree(run / "adapter")
    assert load_experiment(run).status == "complete", "an adapter that is absent is no difference"


@pytest.mark.parametrize("profile", LOCKS)
def test_the_committed_runs_are_those_their_lock_names(project_root, profile):
    lock = read_lock(project_root / "runs" / profile)
    assert lock.path == project_root / LOCKS[profile]
    compared = 0
    for folder in sorted((project_root / "runs" / profile).iterdir()):
        for stage, names in OUTPUTS.items():
            for name in names:
                wanted = lock.outs[f"{stage}@{folder.name}"][f"runs/{profile}/{folder.name}/{name}"]
                assert content_md5(folder / name) == wanted
                compared += 1
    assert compared >= 100


# --- each forgery, by the hashes in the files alone


def test_an_adapter_of_another_run_beside_the_old_predictions(run):
    def retrained(record):
        record["result"]["final_loss"] = 0.5
        record["adapter"]["sha256"] = "1" * 64

    change(run / "training" / "seed-52" / "record.json", retrained)
    assert_stale(
        run, "decoding.json, adapter_sha256.52: ", "has 111111111111...; the predictions are another adapter's"
    )
    assert "`dvc repro predict@lora`" in load_experiment(run).problems[0]


def test_an_adapter_that_decoding_json_does_not_name(run):
    change(run / "predictions" / "decoding.json", lambda c: c["adapter_sha256"].pop("52"))
    assert_stale(run, "adapter_sha256.52: nothing, but")


def test_means_that_are_not_those_of_scores_json(run):
    change(run / "metrics.json", lambda c: c.update(BLEU=0.99))
    assert_stale(run, "metrics.json, BLEU: 0.99, but", "`dvc repro -s score@lora` scores again")
    change(run / "metrics.json", lambda c: c.pop("BLEU"))
    assert_stale(run, "metrics.json, BLEU: nothing, but")
    write_json(run / "metrics.json", [])
    assert_stale(run, "metrics.json, content: list")


def test_predictions_that_changed_after_scoring(run):
    path = run / "predictions" / "seed-52.jsonl"
    write_jsonl(path, [{**row, "prediction": "one class"} for row in read_jsonl(path)])
    assert_stale(
        run, "predictions/seed-52.jsonl, sha256: ", "it has changed since; `dvc repro -s score@lora` scores again"
    )


def test_a_gold_file_that_changed_after_predicting(run):
    path = run.parents[2] / "gold" / "quick" / "task.jsonl"
    write_jsonl(path, [{**row, "references": ["another"]} for row in read_jsonl(path)])
    assert_stale(run, "gold/quick/task.jsonl, sha256: ", "prepared again after this run; `dvc repro predict@lora`")
    assert load_experiment(run).metrics is not None


# --- what only dvc.lock shows


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("training/seed-18/record.json", lambda c: c["result"].update(final_loss=0.5)),
        ("training/seed-18/record.json", lambda c: c["counts"].update(adapter=13)),
        ("training/seed-18/record.json", lambda c: c.update(tolerances_sha256="0" * 64)),
    ],
)
def test_an_edited_record_is_seen_by_the_lock_alone(run, file, edit):
    write_lock(run)
    change(run / file, edit)
    assert_stale(run, "runs/quick/lora/training, md5: ", "dvc repro finetune@lora", "dvc commit finetune@lora")
    (run.parents[2] / "dvc.lock").unlink()
    assert load_experiment(run).status == "complete"


def test_scores_and_means_edited_alike(locked):
    names = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")

    def best(scores):
        scores.update(dict.fromkeys(names, 0.99), spread=dict.fromkeys(names, 0.0))
        scores["seeds"] = {seed: dict.fromkeys(names, 0.99) for seed in scores["seeds"]}

    change(locked / "scores.json", best)
    write_json(locked / "metrics.json", dict.fromkeys(names, 0.99))
    assert_stale(locked, "scores.json, md5: ", "metrics.json, md5: ")


def test_a_renewed_adapter_in_the_lock_beside_the_old_predictions(locked):
    path = locked.parents[2] / "dvc.lock"
    content = yaml.safe_load(path.read_text())
    content["stages"]["finetune@lora"]["outs"][0]["md5"] = "b" * 32 + ".dir"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    assert_stale(locked, "predict@lora, adapter: aaaaaaaaaaaa..., but finetune@lora wrote bbbbbbbbbbbb...")


def test_renewed_predictions_beside_the_old_scores(locked):
    path = locked.parents[2] / "dvc.lock"
    content = yaml.safe_load(path.read_text())
    (one,) = [dep for dep in content["stages"]["score@lora"]["deps"] if dep["path"].endswith("predictions")]
    one["md5"] = "b" * 32 + ".dir"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    assert_stale(locked, "score@lora, predictions: bbbbbbbbbbbb..., but predict@lora wrote")


def test_the_worst_status_counts(locked):
    change(locked / "metrics.json", lambda c: c.update(BLEU=0.99))
    (locked / "training" / "seed-18" / "curves.csv").unlink()
    assert_stale(locked, "curves.csv: not there yet")
    (locked / "training" / "seed-52" / "curves.csv").write_text("{")
    assert load_experiment(locked).status == "failed"


def test_a_lock_that_is_being_written_never_stops_the_reading(locked):
    path = locked.parents[2] / "dvc.lock"
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        assert load_experiment(locked).status in ("complete", "stale", "failed")
    path.write_bytes(b"\xff\xfe{")
    found = load_experiment(locked)
    assert found.status == "failed"
    assert "dvc.lock: cannot be read" in found.problems[0]
    path.write_text("stages: [1, {2: 3}]\n")
    assert load_experiment(locked).status == "complete"


def test_a_profile_with_stages_of_its_own_has_its_own_lock(run):
    root = run.parents[2]
    assert lock_file(run.parent) == root / "dvc.lock"
    write_text(root / "pipelines" / "quick" / "dvc.yaml", "stages: {}\n")
    assert lock_file(run.parent) == root / "pipelines" / "quick" / "dvc.lock"
    write_lock(run, "pipelines/quick/dvc.lock")
    change(run / "training" / "seed-18" / "record.json", lambda c: c["counts"].update(adapter=13))
    assert_stale(run, "pipelines/quick/dvc.lock has")
    assert repro(Path("runs/cpu/x"), "score") == "dvc repro -s pipelines/cpu/dvc.yaml:score@x"


def test_a_stale_run_is_in_no_verdict(quick_runs, tmp_path):
    """What selects the complete runs leaves it out, and it stands in the list of problems."""
    from analysis.show.comparison import comparison

    root = shutil.copytree(quick_runs, tmp_path / "runs" / "quick").parents[1]
    before = comparison("quick", root)
    finish(root / "runs" / "quick" / "lora")
    change(root / "runs" / "quick" / "lora" / "metrics.json", lambda c: c.update(BLEU=0.99))
    after = comparison("quick", root)
    assert {e.name: e.status for e in load_profile(root / "runs" / "quick")}["lora"] == "stale"
    assert any(problem.startswith("lora (stale): ") for problem in after["comparison"]["problems"])
    assert "lora" not in {cell["experiment"] for cell in after["comparison"]["published_vs_measured"]}
    assert "lora" in {cell["experiment"] for cell in before["comparison"]["published_vs_measured"]}


# --- laws


@pytest.fixture(scope="module")
def shared(quick_runs, tmp_path_factory):
    """A finished run with a lock; whoever changes a file puts it back."""
    run = shutil.copytree(quick_runs / "lora", tmp_path_factory.mktemp("one") / "runs" / "quick" / "lora")
    finish(run)
    write_lock(run)
    return run


@given(data=st.data())
def test_a_changed_byte_of_any_file_is_seen(shared, data):
    files = sorted(path for part in ("training", "predictions") for path in (shared / part).rglob("*.*"))
    files = [path for path in files if path.is_file()]
    path = data.draw(st.sampled_from([*files, shared / "scores.json", shared / "metrics.json"]))
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != content[position]))
    try:
        path.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
        found = load_experiment(shared)
        assert found.status in ("stale", "failed")
        assert found.differences or found.status == "failed"
    finally:
        path.write_bytes(content)
    assert load_experiment(shared).status == "complete"


NAMES = st.text("ab.-é0", min_size=1, max_size=4).filter(lambda name: name.strip("."))


@given(files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=9), max_size=6))
def test_the_hash_of_a_folder_is_dvcs(tmp_path_factory, files):
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    folders = {parts[:end] for parts in files for end in range(1, len(parts))}
    files = {parts: content for parts, content in files.items() if parts not in folders}
    root, tree = tmp_path_factory.mktemp("folder"), Tree()
    for parts, content in files.items():
        root.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
        root.joinpath(*parts).write_bytes(content)
        tree.add(parts, Meta(), HashInfo("md5", content_md5(root.joinpath(*parts))))
    tree.digest()
    assert content_md5(root) == tree.hash_info.value


@pytest.mark.parametrize("profile", LOCKS)
def test_a_lock_without_its_code_has_the_same_hashes_of_runs(project_root, profile):
    text = (project_root / LOCKS[profile]).read_text(encoding="utf-8")
    lock = read_lock(project_root / "runs" / profile)
    whole = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    assert lock.outs.keys() == whole.keys()
    assert len(without_code(text)) < len(text) / 2
    for name, stage in whole.items():
        for part, found in (("outs", lock.outs[name]), ("deps", lock.deps[name])):
            wanted = {entry["path"]: entry["md5"] for entry in stage.get(part, ()) if "md5" in entry}
            ours = {path: md5 for path, md5 in wanted.items() if path.startswith(("runs/", "gold/"))}
            assert {path: md5 for path, md5 in found.items() if path in ours} == ours


def test_a_lock_of_another_form_is_read_whole(run):
    write_lock(run)
    path = run.parents[2] / "dvc.lock"
    content = yaml.safe_load(path.read_text())
    path.write_text(json.dumps(content))
    assert load_experiment(run).status == "complete"
    change(run / "training" / "seed-18" / "record.json", lambda c: c["counts"].update(adapter=13))
    assert_stale(run, "training, md5: ")
