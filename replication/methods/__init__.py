"""Fine-tuning methods behind one interface: put one on a Hugging Face model, train, save, reload.

model = attach(model, method_config("solo_connection", rank=120))
optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=2e-4)
...                                            # your own loop, or the Hugging Face Trainer (docs/training_elsewhere.md)
save(model, "adapter")
model = load(fresh_base_model, "adapter")

One method per file, found by its name: to add one, put a file here. Shared code is in `shared`; what the selecting
methods (WeightLoRA, WeightLoRA+, the random control) share is in `selection`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replication.methods.shared.base import (
        MethodConfig,
        adapter_parameters,
        attach,
        attached_config,
        config_from_dict,
        config_to_dict,
        detach,
        merge,
        merge_and_unload,
        method_config,
        report_state,
        trainable_parameters,
        unmerge,
    )
    from replication.methods.shared.hub import push_to_hub
    from replication.methods.shared.registry import method_class, method_names, register_method
    from replication.methods.shared.saving import load, read_config, save

__all__ = [
    "MethodConfig",
    "adapter_parameters",
    "attach",
    "attached_config",
    "config_from_dict",
    "config_to_dict",
    "detach",
    "load",
    "merge",
    "merge_and_unload",
    "method_class",
    "method_config",
    "method_names",
    "push_to_hub",
    "read_config",
    "register_method",
    "report_state",
    "save",
    "trainable_parameters",
    "unmerge",
]
_HOME = {
    "push_to_hub": "hub",
    **dict.fromkeys(("load", "read_config", "save"), "saving"),
    **dict.fromkeys(("method_class", "method_names", "register_method"), "registry"),
}


def __getattr__(name: str) -> Any:
    """Import lazily, so that importing this package does not import torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.shared.{_HOME.get(name, 'base')}"), name)
