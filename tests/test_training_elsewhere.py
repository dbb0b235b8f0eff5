"""docs/training_elsewhere.md: every block runs, in order, and does what the text says."""

import gc
import importlib.util
import re
import sys

import torch

import replication
from replication.methods.selection import present_updates


def test_the_pages_blocks_run(project_root, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("library_use", project_root / "tests" / "test_library_use.py")
    library_use = importlib.util.module_from_spec(spec)
    sys.modules["library_use"] = library_use
    spec.loader.exec_module(library_use)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    library_use.save_base(tmp_path / "gpt2")
    gc.freeze()  # the Trainer collects garbage whenever it starts
    rows = library_use.examples(40)
    batches = [{name: torch.stack([row[name] for row in rows[i : i + 4]]) for name in rows[0]} for i in range(0, 40, 4)]
    names = {"dataset": rows, "batches": batches}
    page = (project_root / "docs" / "training_elsewhere.md").read_text(encoding="utf-8")
    trained, resumed, own, accelerated = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    for source in (trained, resumed, own):
        exec(compile(source, "training_elsewhere.md", "exec", dont_inherit=True), names)
        assert len(present_updates(names["model"])) == 2
        assert names["config"].unfinished(names["model"]) is None
    assert re.match(r"trainable params: [\d,]+ \|\| all params: [\d,]+ \|\| trainable%: \d", capsys.readouterr().out)
    reset_accelerate()
    exec(compile(accelerated, "training_elsewhere.md", "exec", dont_inherit=True), names)
    assert names["selection"].updates == 7  # what the state has
    reset_accelerate()
    gc.unfreeze()


def reset_accelerate():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def test_what_the_page_imports_is_public():
    for name in ("Selection", "SelectionCallback", "print_trainable_parameters", "trainable_parameters"):
        assert name in replication.__all__
        assert callable(getattr(replication, name))
