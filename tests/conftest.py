"""Shared fixtures: tiny models of the stock Hugging Face classes, and the corpora mirror where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_configure(config: pytest.Config) -> None:
    """Use the mirror of real corpora next to the checkout unless the caller named one."""
    default = ROOT.parent / "shared" / "data"
    if "REPLICATION_MIRROR" not in os.environ and default.is_dir():
        os.environ["REPLICATION_MIRROR"] = str(default)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture
def committed_results() -> None:
    """Skip where the results in the work tree are not the committed ones: `make reproduce` makes others on another
    processor, and what is written about the committed ones does not hold for them.
    """
    command = ["git", "status", "--porcelain", "--", "runs", "searches", "measurements"]
    if subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout:
        pytest.skip("the results in this work tree are not the committed ones")


@pytest.fixture
def mirror() -> Path:
    """Folder of verified corpora; tests of real input are skipped without it."""
    folder = os.environ.get("REPLICATION_MIRROR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("not run: REPLICATION_MIRROR is not a folder of real corpora")
    return Path(folder)


@pytest.fixture
def tiny_gpt2():
    from replication.testing.tiny_models import tiny_gpt2

    return tiny_gpt2()


@pytest.fixture
def tiny_llama():
    from replication.testing.tiny_models import tiny_llama

    return tiny_llama()


@pytest.fixture
def tiny_bart():
    from replication.testing.tiny_models import tiny_bart

    return tiny_bart()


@pytest.fixture(scope="session")
def loopback():
    """tests/loopback_hub.py as a module."""
    spec = importlib.util.spec_from_file_location("loopback_hub", ROOT / "tests" / "loopback_hub.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["loopback_hub"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def published_models(loopback, tmp_path_factory):
    """Tiny models under the real names: a hub that is not running, and the folder of their architectures."""
    folder = tmp_path_factory.mktemp("published")
    hub = loopback.LoopbackHub()
    loopback.publish_tiny_models(hub, folder)
    return hub, folder / "configs"


@pytest.fixture
def model_hub(loopback, published_models, tmp_path, monkeypatch):
    """A running hub of the tiny models, which this process uses, with an empty cache; a test may change its files."""
    from replication.backbones import BACKBONES, loading

    original, configs = published_models
    copies = {key: replace(entry, files=dict(entry.files)) for key, entry in original.repositories.items()}
    monkeypatch.setattr(loading, "CONFIGS", loading.CONFIGS)
    for name in loopback.TINY:
        monkeypatch.setitem(BACKBONES, name, BACKBONES[name])
    loopback.use_tiny_models(configs)
    with loopback.serve(loopback.LoopbackHub(copies)) as running:
        loopback.reach(running, monkeypatch, tmp_path)
        yield running
