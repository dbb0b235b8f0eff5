"""The library: methods, corpora, metrics, training, decoding. Knows no run folder, no DVC, no published figure.

The names in `__all__` are what most users need; each imports its module on first use, so that importing this package
imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replication.counting import print_trainable_parameters
    from replication.methods import (
        adapter_parameters,
        attach,
        attached_config,
        detach,
        load,
        merge,
        merge_and_unload,
        method_config,
        method_names,
        push_to_hub,
        save,
        trainable_parameters,
        unmerge,
    )
    from replication.peft_export import export_peft_lora
    from replication.selecting import Selection
    from replication.trainer import SelectionCallback

_METHODS = "replication.methods"
_HOME = {
    "Selection": "replication.selecting",
    "SelectionCallback": "replication.trainer",
    "adapter_parameters": _METHODS,
    "attach": _METHODS,
    "attached_config": _METHODS,
    "detach": _METHODS,
    "export_peft_lora": "replication.peft_export",
    "load": _METHODS,
    "merge": _METHODS,
    "merge_and_unload": _METHODS,
    "method_config": _METHODS,
    "method_names": _METHODS,
    "print_trainable_parameters": "replication.counting",
    "push_to_hub": _METHODS,
    "save": _METHODS,
    "trainable_parameters": _METHODS,
    "unmerge": _METHODS,
}

__all__ = [
    "Selection",
    "SelectionCallback",
    "adapter_parameters",
    "attach",
    "attached_config",
    "detach",
    "export_peft_lora",
    "load",
    "merge",
    "merge_and_unload",
    "method_config",
    "method_names",
    "print_trainable_parameters",
    "push_to_hub",
    "save",
    "trainable_parameters",
    "unmerge",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
