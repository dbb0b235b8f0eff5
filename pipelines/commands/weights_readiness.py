"""Which backbones' weights are present, which can be fetched and how, and what reading their tokenizers needs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pipelines.commands.findings import Finding, Probe, over_network
from pipelines.shared.paths import weights_directory
from replication.backbones import Backbone
from replication.backbones.hub_weights import INSTALL_SENTENCEPIECE, cache_folder, missing_sentencepiece
from replication.backbones.packaged_weights import find_wheel


def backbone_weights(root: Path, backbone: Backbone, probe: Probe | None) -> Finding:
    """Weights of one backbone that a profile uses, and the command that makes them."""
    name, folder = backbone.name, weights_directory(backbone.name)
    fix: tuple[str, ...] = (backbone.command(),)
    if holds_model(root / folder):
        return Finding(name, "ok", f"in {folder.as_posix()}")
    if backbone.source == "pretrained":
        return Finding(name, "pipeline", "pretrained by the pipeline")
    if backbone.package is not None:
        if find_wheel(backbone.package) is not None:
            return Finding(name, "pipeline", "package downloaded; the pipeline converts it")
        answer = probe.package(backbone.package.requirement) if probe else None
        return over_network(name, "not downloaded; on the package registry", fix, answer, asked=probe is not None)
    if in_hub_cache(backbone):
        return Finding(name, "pipeline", "in the hub cache; the pipeline copies it")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return Finding(name, "missing", "not downloaded, and HF_HUB_OFFLINE is set", ("unset HF_HUB_OFFLINE", *fix))
    where = "not downloaded; on the model hub"
    if backbone.pickled is not None:
        where += f" without safetensors: {backbone.pickled.name} is checked and converted"
    if backbone.gated:
        fix = (f"hf auth login  # after accepting the licence: huggingface.co/{backbone.hub_id}", *fix)
    answer = probe.model(backbone) if probe else None
    return over_network(name, where, fix, answer, asked=probe is not None)


def sentencepiece(root: Path, backbone: Backbone) -> Finding:
    """The packages that read a published SentencePiece tokenizer, until it is converted."""
    missing = missing_sentencepiece()
    if not backbone.sentencepiece or holds_model(root / weights_directory(backbone.name)) or not missing:
        return Finding("sentencepiece", "ok", "installed, or not needed")
    text = f"not installed: {', '.join(missing)}; the tokenizer of {backbone.name} is read with them"
    return Finding("sentencepiece", "missing", text, (INSTALL_SENTENCEPIECE,))


def unused_weights(root: Path, backbone: Backbone) -> Finding:
    """A known backbone that no profile trains: for counting, or for a user's own runs."""
    present = holds_model(root / weights_directory(backbone.name)) or in_hub_cache(backbone)
    return Finding(backbone.name, "unused", f"{'present' if present else 'not present'}; no profile uses it")


def holds_model(folder: Path) -> bool:
    """Whether `folder` holds a configuration and safetensors."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def in_hub_cache(backbone: Backbone) -> bool:
    """Whether the hub's cache has the pinned revision, in a form that is read."""
    if backbone.hub_id is None or find_spec("huggingface_hub") is None:
        return False
    folder, pickled = cache_folder(backbone), backbone.pickled
    return holds_model(folder) or (
        pickled is not None and (folder / "config.json").is_file() and (folder / pickled.name).is_file()
    )
