"""A method is found by its file's name, and only the one asked for is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replication.errors import ConfigError
from replication.methods.shared import registry
from replication.methods.shared.registry import NOT_METHODS, method_class, method_names, register_method


def loaded_after(code):
    """Modules of a fresh interpreter after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout))


def methods_in(modules):
    return {name.removeprefix("replication.methods.") for name in modules} & set(method_names())


def test_every_name_of_a_record_is_a_method_of_that_name():
    names = (
        "adapter_h",
        "adapter_l",
        "baseline",
        "frozen",
        "ft_top2",
        "full",
        "lora",
        "peft_baselines",
        "random_lora",
        "solo_connection",
        "weight_lora",
    )
    assert set(method_names()) >= {*names, "weight_lora_plus"}
    for name in method_names():
        assert method_class(name).method == name


BUILT_ON = {
    "lora": set(),
    "solo_connection": {"lora"},
    "weight_lora_plus": {"lora", "weight_lora"},
    "peft_baselines": set(),
}
# torch is imported once; each method then in a process of its own.
EACH_ALONE = """
import json, os, sys, torch
assert "replication" not in sys.modules
for name in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        from replication.methods import method_config
        method_config(name)
        print(json.dumps([name, sorted(sys.modules)]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_only_the_method_asked_for_is_imported():
    command = [sys.executable, "-c", EACH_ALONE, json.dumps(list(BUILT_ON))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {name: methods_in(set(modules)) for name, modules in map(json.loads, done.stdout.splitlines())}
    assert found == {name: {name, *others} for name, others in BUILT_ON.items()}


def test_listing_the_methods_imports_none_of_them_and_no_torch():
    modules = loaded_after("from replication.methods import method_names; method_names()")
    assert not methods_in(modules)
    assert not {"torch", "transformers", "peft"} & modules


def test_a_file_dropped_into_the_folder_is_found(tmp_path, monkeypatch):
    import replication.methods

    source = """
from dataclasses import dataclass
from typing import ClassVar
from replication.methods import MethodConfig, register_method

@register_method
@dataclass(frozen=True)
class DroppedConfig(MethodConfig):
    size: int = 3
    method: ClassVar[str] = "dropped_in"
"""
    (tmp_path / "dropped_in.py").write_text(source)
    (tmp_path / "empty.py").write_text("")
    monkeypatch.setattr(replication.methods, "__path__", [*replication.methods.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert "dropped_in" in method_names()
    try:
        assert method_class("dropped_in")(size=4).size == 4
        with pytest.raises(ConfigError, match=r"'empty': replication/methods/empty registers no such method"):
            method_class("empty")
    finally:
        for name in ("dropped_in", "empty"):
            sys.modules.pop(f"replication.methods.{name}", None)


def test_what_methods_are_built_from_is_no_method():
    for name in NOT_METHODS:
        assert (Path(registry.FOLDER) / name).is_dir() or (Path(registry.FOLDER) / f"{name}.py").is_file()
        with pytest.raises(
            ConfigError, match=r"unknown;.* valid names are adapter_h, adapter_l, baseline, frozen, ft_top2"
        ):
            method_class(name)
    with pytest.raises(ConfigError, match=r"did you mean 'lora'\?"):
        method_class("LoRA")


@pytest.mark.parametrize("name", ["../evil", "lora.py", "", "shared.base"])
def test_a_name_that_is_no_file_of_the_folder_is_refused(name):
    with pytest.raises(ConfigError, match="valid names are"):
        method_class(name)


def test_registering_makes_a_name_known(monkeypatch):
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    other = type("Other", (), {"method": "made_here"})
    assert register_method(other) is other
    assert method_class("made_here") is other
    assert "made_here" in method_names()
