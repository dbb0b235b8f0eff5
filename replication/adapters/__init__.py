"""Fine-tuning methods behind one interface: put one on a Hugging Face model, train, save, reload.

model = attach(model, method_config("solo_connection", rank=120))
optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=2e-4)
...                                            # the user's own loop, or the Hugging Face Trainer
save(model, "adapter")
model = load(fresh_base_model, "adapter")
"""

from replication.adapters.base import (
    METHODS,
    MethodConfig,
    adapter_parameters,
    attach,
    attached_config,
    config_from_dict,
    config_to_dict,
    detach,
    merge,
    method_config,
    report_state,
    trainable_parameters,
    unmerge,
)
from replication.adapters.baseline import BaselineConfig
from replication.adapters.frozen import FrozenConfig
from replication.adapters.full import FullConfig
from replication.adapters.lora import LoraConfig
from replication.adapters.peft_baselines import PeftBaselineConfig
from replication.adapters.random_lora import RandomLoraConfig
from replication.adapters.saving import load, read_config, save
from replication.adapters.solo_connection import SoloConnectionConfig
from replication.adapters.weight_lora import WeightLoraConfig
from replication.adapters.weight_lora_plus import WeightLoraPlusConfig

__all__ = [
    "METHODS",
    "BaselineConfig",
    "FrozenConfig",
    "FullConfig",
    "LoraConfig",
    "MethodConfig",
    "PeftBaselineConfig",
    "RandomLoraConfig",
    "SoloConnectionConfig",
    "WeightLoraConfig",
    "WeightLoraPlusConfig",
    "adapter_parameters",
    "attach",
    "attached_config",
    "config_from_dict",
    "config_to_dict",
    "detach",
    "load",
    "merge",
    "method_config",
    "read_config",
    "report_state",
    "save",
    "trainable_parameters",
    "unmerge",
]
