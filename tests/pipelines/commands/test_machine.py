"""What `replicate doctor` knows of the machine."""

import shutil
from types import SimpleNamespace

import pipelines.commands.corpus_readiness
import pipelines.commands.machine
import pipelines.commands.readiness
from pipelines.commands.machine import drift


def test_drift_compares_direct_dependencies_with_their_pins(tmp_path, monkeypatch):
    installed = {"torch": "2.13.0+cpu", "pyyaml": "6.0", "numpy": "1.26"}
    fake = SimpleNamespace(
        PackageNotFoundError=KeyError,
        requires=lambda name: ["torch", "PyYAML>=5", "numpy", "rich", 'pytest; extra == "dev"', "unpinned"],
        version=lambda name: installed[name],
    )
    monkeypatch.setattr(pipelines.commands.machine, "metadata", fake)
    pins = tmp_path / "constraints.txt"
    assert drift(pins) is None
    pins.write_text("# a comment\ntorch==2.13.0\npyyaml==6.0\nnumpy==2.3\nrich==15.0\npytest==9\n")
    assert drift(pins) == ["numpy 1.26 (pinned 2.3)", "rich absent (pinned 15.0)"]


def test_the_real_machine_can_be_read(project_root):
    machine = pipelines.commands.machine.read_machine(project_root)
    assert machine.threads >= 1
    assert machine.disk_free > 0
    assert machine.torch is not None
    assert shutil.disk_usage(project_root).total >= machine.disk_free
