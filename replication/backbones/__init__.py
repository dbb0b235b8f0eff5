"""The named models: what they are (`catalogue`), building and loading them (`loading`), where weights come from."""

from replication.backbones.catalogue import BACKBONES, END, TASKS, Backbone, get_backbone
from replication.backbones.loading import (
    backbone_config,
    build_empty,
    build_fresh,
    load_model,
    load_tokenizer,
    prepare_tokenizer,
)

__all__ = [
    "BACKBONES",
    "END",
    "TASKS",
    "Backbone",
    "backbone_config",
    "build_empty",
    "build_fresh",
    "get_backbone",
    "load_model",
    "load_tokenizer",
    "prepare_tokenizer",
]
