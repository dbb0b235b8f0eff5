"""The GPUs a process may use."""

from pipelines.commands.gpus import visible_gpus


def test_gpus_are_those_that_the_environment_allows_or_that_the_driver_lists(tmp_path, monkeypatch):
    for given, found in (("0, 2", ("0", "2")), ("", ()), ("-1", ()), ("GPU-1a", ("GPU-1a",))):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus() == found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == (), "no nvidia-smi"
    tool = tmp_path / "nvidia-smi"
    for script, found in (("echo GPU-1a; echo GPU-2b", ("GPU-1a", "GPU-2b")), ("echo no driver; exit 9", ())):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert visible_gpus() == found
