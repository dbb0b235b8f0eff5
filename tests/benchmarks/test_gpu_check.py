"""The GPU check on a CPU: all of it on tiny shapes, what makes it fail, and what it writes when the time is up."""

import importlib.util
import json
import subprocess
import sys
import time

import pytest
import torch

from replication.memory import workloads
from replication.methods.lora import LowRankUpdate


@pytest.fixture(scope="module")
def script(project_root):
    spec = importlib.util.spec_from_file_location("gpu_check", project_root / "benchmarks" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def report(script, tmp_path):
    made = script.Report(tmp_path / "out" / "check.json", 1.0, {"device": "none", "torch": "0"})
    made.started = time.monotonic()
    return made


def command(project_root, *arguments):
    script = project_root / "benchmarks" / "gpu_check.py"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, cwd=project_root)


on_a_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the training loop takes the GPU of this machine")


@pytest.mark.slow  # .ci/run runs the script
def test_the_whole_script_on_tiny_shapes(project_root, tmp_path):
    done = command(
        project_root, "--device", "cpu", "--tiny", "--output", str(tmp_path / "check.json"), "--minutes", "4"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "check.json").read_text())
    assert result["complete"]
    assert result["failed"] == []
    assert {name: bool(part["rows"]) for name, part in result["parts"].items()} == dict.fromkeys(
        ("methods", "losses", "memory", "speed"), True
    )
    assert {row["status"] for part in result["parts"].values() for row in part["rows"]} == {"passed"}
    cases = {row["case"] for row in result["parts"]["methods"]["rows"]}
    assert {f"gpt2, {name}, {p}" for name in ("lora", "solo", "full") for p in ("no", "bf16", "bf16_weights")} <= cases
    assert all(abs(row["ratio"] - 1) < 0.1 for row in result["parts"]["memory"]["rows"])
    ratios = [row["ratio_to_stock_peft"] for row in result["parts"]["speed"]["rows"]]
    assert all(ratio["stock PEFT LoRA"] == 1 and len(ratio) == 6 for ratio in ratios)
    assert "PARTIAL" not in done.stdout
    assert "methods" in done.stdout
    assert "[memory 3/3]" in done.stderr


@on_a_cpu
def test_without_a_gpu_it_says_so(project_root, tmp_path):
    done = command(project_root, "--output", str(tmp_path / "check.json"))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert "--device cpu --tiny" in done.stderr
    assert not (tmp_path / "check.json").exists()


@pytest.mark.parametrize("arguments", [("--device", "cpu"), ("--device", "tpu", "--tiny")])
def test_arguments_are_refused_before_torch_is_imported(project_root, arguments):
    done = command(project_root, *arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr


@pytest.mark.slow
def test_when_the_time_is_up_the_result_is_partial(project_root, tmp_path):
    """The watchdog ends the process whatever it does, with what there is."""
    done = command(project_root, "--device", "cpu", "--tiny", "--output", str(tmp_path / "c.json"), "--minutes", "0.01")
    assert done.returncode == 2
    result = json.loads((tmp_path / "c.json").read_text())
    assert not result["complete"]
    assert "PARTIAL" in done.stdout


def test_a_part_stops_at_its_share_and_names_what_it_left(script, report):
    def slow():
        time.sleep(0.2)
        return {}

    report.limit = 0.1 / script.SHARES["losses"]
    report.run_part("losses", {"first": slow, "second": slow})
    part = json.loads(report.output.read_text())["parts"]["losses"]
    assert [row["case"] for row in part["rows"]] == ["first"]
    assert part["not_run"] == ["second"]
    assert not report.complete
    assert report.status() == 2


@pytest.mark.slow
def test_the_status_is_one_for_a_failure_and_it_is_named(script, report):
    def broken():
        raise RuntimeError("kernel\n not found")

    def too_large():
        raise torch.OutOfMemoryError("needs more")

    for part in script.SHARES:
        report.run_part(part, {"good": dict, "large": too_large})
    assert (report.complete, report.status()) == (True, 0)
    report.run_part("memory", {"bad": broken})
    assert report.status() == 1
    assert report.failed == ["memory: bad"]
    printed = script.table(report.to_dict())
    assert "FAILED memory: bad: RuntimeError: kernel not found" in printed
    assert [row["status"] for row in report.parts["losses"]["rows"]] == ["passed", "skipped"]


@on_a_cpu
def test_adapters_in_half_precision_fail(script, monkeypatch):
    monkeypatch.setitem(script.METHODS, "lora", ("lora", {"rank": 2, "adapter_dtype": "model"}))
    row = script.one_case("case", lambda: script.exercise("gpt2", "lora", "bf16_weights", "cpu"))
    assert row["status"] == "failed"
    assert "not float32" in row["detail"]


@on_a_cpu
def test_a_wrong_merge_fails(script, monkeypatch):
    true = LowRankUpdate.delta
    monkeypatch.setattr(LowRankUpdate, "delta", lambda update: true(update) * 1000)
    row = script.one_case("case", lambda: script.exercise("gpt2", "lora", "no", "cpu"))
    assert "merged logits are" in row["detail"]


def test_a_wrong_prediction_fails(script, monkeypatch):
    shape = {"backbone": "microworld-gpt2", "batch": 2, "length": 16}
    assert "status" not in script.peak_memory("lora", {}, shape, "cpu")
    true = workloads.predict
    monkeypatch.setattr(workloads, "predict", lambda workload: true(workloads.Workload(
        workload.backbone, workload.method, 3 * workload.batch, workload.length, fused_dropout=False)))  # fmt: skip
    assert script.peak_memory("lora", {}, shape, "cpu")["status"] == "failed"


def test_other_losses_fail(script, monkeypatch):
    monkeypatch.setitem(script.SAME_LOSS, "no", -1.0)
    row = script.one_case("case", lambda: script.same_losses("microworld-gpt2", "lora", {"rank": 2}, "no", "cpu"))
    assert "relative difference" in row["detail"]


def test_at_full_size_every_part_has_cases(script):
    """Names only: nothing is built."""
    methods = script.method_cases("cuda", tiny=False)
    assert {"llama, peft dora, bf16", "bart, solo, bf16_weights", "llama, lora, fp16 with a gradient scaler"} <= set(
        methods
    )
    memory = script.memory_cases("cuda", tiny=False)
    for backbone in ("gpt2-medium", "deberta-v3-base", "bart-large"):
        assert any(case.startswith(backbone) and case.endswith(", no") for case in memory)
    assert "llama-3.1-8b, LoRA, bf16_weights" in memory
    assert len(script.loss_cases("cuda", tiny=False)) == 45
    assert sum(script.SHARES.values()) < 1
