"""Weights from the model hub: a pinned revision as one stock checkpoint, equal bytes at every fetch.

Kept are the configuration as published, the tokenizer, and the pretrained tensors in the precision they are published
in: the body, and the output layer of a language model that has its own. A head for classification or question
answering is neither kept nor made: it starts from the seed of each run.

Only safetensors are read. One backbone's pinned revision has a pickled file alone: the catalogue names it with its size
and sha256, and it is read once, with `weights_only=True`, after both were checked.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.backbones.catalogue import Backbone, get_backbone
from replication.backbones.loading import (
    check_architecture,
    load_config,
    loading_error,
    location,
    pretrained_parameters,
    quiet_transformers,
    read_tokenizer,
)
from replication.corpora.fetch import asked_again
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, replaced_directory, sha256_file, write_bytes, write_json

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

SOURCE_FILE = "source.json"
"""Written next to the weights: the files they were made from, with their hashes."""
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILES = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spm.model",
)
SENTENCEPIECE = ("sentencepiece", "google.protobuf")
"""Modules that read spm.model where there is no tokenizer.json."""
INSTALL_SENTENCEPIECE = "python -m pip install -c constraints.txt sentencepiece protobuf"


@dataclass(frozen=True)
class HubFile:
    """One file of a revision; `sha256` None for a small file that the hub keeps without LFS."""

    size: int
    sha256: str | None


def fetch_hub_weights(name: str, directory: str | Path) -> Path:
    """Make `directory`: the hub backbone `name` at its pinned revision as one stock checkpoint.

    The hub's cache is used where it has the files, also without a network. ConfigError for a backbone that is on no
    hub; DataError if a file cannot be downloaded or is not the published one. `directory` is then as it was.
    """
    backbone = get_backbone(name)
    if backbone.source != "hub":
        raise ConfigError(f"backbone {name} is not on a hub; its weights are made by `{backbone.command()}`")
    directory = Path(directory)
    listing = repository_files(backbone)
    small, weights = needed_files(backbone, listing)
    check_sentencepiece(backbone, listing)
    paths = {file: _download(backbone, file, listing[file]) for file in small}
    if INDEX_FILE in weights:
        paths[INDEX_FILE] = _download(backbone, INDEX_FILE, listing[INDEX_FILE])
        weights = [INDEX_FILE, *shards(backbone, read_json(paths[INDEX_FILE]), listing)]
    paths |= {file: _download(backbone, file, listing[file]) for file in weights if file not in paths}
    with ExitStack() as stack:
        aside = stack.enter_context(replaced_directory(directory))
        config = _save_config(backbone, paths, aside)
        check_architecture(backbone, None, config, location(backbone, None))
        _save_tokenizer(backbone, {file: paths[file] for file in small}, aside)
        dropped = _save_weights(backbone, config, [paths[file] for file in weights if file != INDEX_FILE], aside, stack)
        write_json(aside / SOURCE_FILE, _source(backbone, listing, paths, dropped, aside))
    return directory


# --- which files


def repository_files(backbone: Backbone) -> dict[str, HubFile]:
    """The files of the pinned revision, from the hub, or from the hub's cache where the hub does not answer."""
    try:
        return asked_again(partial(listed_files, backbone))
    except DataError:
        raise
    except Exception as error:  # the hub's client raises its own errors, its transport's and the system's
        cached = cached_files(backbone)
        if cached:
            return cached
        raise loading_error(backbone, location(backbone, None), error) from error


def listed_files(backbone: Backbone, timeout: float | None = None) -> dict[str, HubFile]:
    """The files of the pinned revision as the hub lists them; raises what the hub's client raises."""
    import huggingface_hub

    info = huggingface_hub.HfApi().model_info(
        str(backbone.hub_id), revision=backbone.revision, files_metadata=True, timeout=timeout
    )
    if info.sha != backbone.revision:
        raise DataError(f"{backbone.hub_id}: the hub answered with revision {info.sha}, asked for {backbone.revision}")
    return {
        file.rfilename: HubFile(int(file.size or 0), file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
    }


def cached_files(backbone: Backbone) -> dict[str, HubFile]:
    """The files of the pinned revision in the hub's cache; empty if there are none.

    The cache names a file of LFS by its sha256.
    """
    found = {}
    for path in cache_folder(backbone).glob("*"):
        if path.is_file():
            blob = path.resolve().name
            found[path.name] = HubFile(path.stat().st_size, blob if re.fullmatch("[0-9a-f]{64}", blob) else None)
    return found


def cache_folder(backbone: Backbone) -> Path:
    """Where the hub's client keeps the files of the pinned revision; it need not exist."""
    from huggingface_hub import constants

    repository = "models--" + str(backbone.hub_id).replace("/", "--")
    return Path(constants.HF_HUB_CACHE) / repository / "snapshots" / str(backbone.revision)


def needed_files(backbone: Backbone, listing: Mapping[str, HubFile]) -> tuple[list[str], list[str]]:
    """(configuration and tokenizer, weights) among the files of a revision; DataError if something is missing.

    Weights are one safetensors file, the index of several, or the backbone's pickled file.
    """
    where = f"{backbone.hub_id} at revision {backbone.revision}"
    small = [file for file in (*CONFIG_FILES, *TOKENIZER_FILES) if file in listing]
    if "config.json" not in small:
        raise DataError(f"{where}: no config.json among {', '.join(sorted(listing)) or 'no files'}; pin another one")
    if WEIGHTS_FILE in listing:
        return small, [WEIGHTS_FILE]
    if INDEX_FILE in listing:
        return small, [INDEX_FILE]
    if backbone.pickled is None or backbone.pickled.name not in listing:
        raise DataError(
            f"{where}: no {WEIGHTS_FILE} and no {INDEX_FILE} among {', '.join(sorted(listing))}; pin a revision that "
            "has them: other formats are not read"
        )
    pinned, found = backbone.pickled, listing[backbone.pickled.name]
    if (found.size, found.sha256 or pinned.sha256) != (pinned.size, pinned.sha256):
        raise DataError(
            f"{where}: {pinned.name} is listed with {found.size} bytes and sha256 {found.sha256}, pinned are "
            f"{pinned.size} bytes and {pinned.sha256}; a pickled file is read only if it is the pinned one"
        )
    return small, [pinned.name]


def shards(backbone: Backbone, index: Any, listing: Mapping[str, HubFile]) -> list[str]:
    """The files that an index names, in order of their names."""
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    named = sorted({str(file) for file in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not named or (missing := [file for file in named if file not in listing]):
        what = f"names {', '.join(missing)}, not among the files" if named else "has no weight_map"
        raise DataError(f"{backbone.hub_id} at revision {backbone.revision}: {INDEX_FILE} {what}; pin another revision")
    return named


def check_sentencepiece(backbone: Backbone, listing: Mapping[str, HubFile]) -> None:
    """DataError unless the modules are installed that the tokenizer of this revision needs."""
    if "spm.model" not in listing or "tokenizer.json" in listing:
        return
    if missing := missing_sentencepiece():
        raise DataError(
            f"{backbone.name}: its tokenizer is a SentencePiece model; not installed: {', '.join(missing)}. To fix "
            f"it: `{INSTALL_SENTENCEPIECE}`"
        )


def missing_sentencepiece() -> list[str]:
    """Packages that reading spm.model needs and that are not installed."""
    names = {"google.protobuf": "protobuf"}
    return [names.get(module, module) for module in SENTENCEPIECE if not _installed(module)]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is absent, or hidden
        return False


# --- bytes


def _download(backbone: Backbone, file: str, expected: HubFile) -> Path:
    """The file in the hub's cache, whose bytes are those that the hub lists."""
    import huggingface_hub

    try:
        download = partial(huggingface_hub.hf_hub_download, str(backbone.hub_id), file, revision=backbone.revision)
        path = Path(asked_again(download))
    except Exception as error:  # as above
        raise loading_error(backbone, location(backbone, None), error) from error
    pinned = backbone.pickled.sha256 if backbone.pickled and backbone.pickled.name == file else expected.sha256
    size, digest = path.stat().st_size, sha256_file(path) if pinned else None
    if (size, digest) != (expected.size, pinned):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise DataError(
            f"{backbone.hub_id} at revision {backbone.revision}: {file} has {size} bytes and sha256 {digest}, expected "
            f"are {expected.size} and {pinned}; it was not read and is removed from the hub's cache. To fix it: run "
            f"`{backbone.command()}` again"
        )
    return path


def _save_config(backbone: Backbone, paths: Mapping[str, Path], folder: Path) -> PretrainedConfig:
    """Copy the configuration, each file a JSON object, and read it."""
    for file in (file for file in CONFIG_FILES if file in paths):
        write_bytes(folder / file, paths[file].read_bytes())
        if not isinstance(read_json(paths[file]), dict):
            raise DataError(f"{backbone.hub_id} at revision {backbone.revision}: {file} is no JSON object")
    try:
        return load_config(folder)
    except Exception as error:  # transformers, its validation and JSON raise their own kinds
        raise loading_error(backbone, location(backbone, None), error) from error


def _save_tokenizer(backbone: Backbone, paths: Mapping[str, Path], folder: Path) -> None:
    """Save the tokenizer as one tokenizer.json: what runs later needs no sentencepiece."""
    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        for file, path in paths.items():
            write_bytes(Path(name) / file, path.read_bytes())
        try:
            tokenizer = read_tokenizer(backbone, {"pretrained_model_name_or_path": name, "local_files_only": True})
        except DataError as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise loading_error(backbone, location(backbone, None), cause) from error
        tokenizer.save_pretrained(folder)


def _save_weights(
    backbone: Backbone, config: Any, sources: Sequence[Path], folder: Path, stack: ExitStack
) -> list[str]:
    """Write model.safetensors; returns the names of the tensors that are left out."""
    from safetensors.torch import save_file

    tensors = _tensors(backbone, sources, stack)
    kept: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for aliases, shape in pretrained_parameters(backbone.name, config):
        found = next((alias for alias in aliases if alias in tensors), None)
        if found is None:
            raise DataError(
                f"{backbone.hub_id} at revision {backbone.revision}: no tensor {aliases[0]} in "
                f"{', '.join(source.name for source in sources)}; the checkpoint is incomplete or of another model"
            )
        tensor = tensors[found]()
        if tuple(tensor.shape) != shape:
            raise DataError(
                f"{backbone.hub_id} at revision {backbone.revision}: {found} has the shape {tuple(tensor.shape)}, "
                f"the configuration says {shape}"
            )
        # A view or a second name of the same memory is copied: safetensors refuses both.
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        kept[aliases[0]] = tensor if whole else tensor.clone(memory_format=_contiguous())
        used.update(aliases)
    path = folder / WEIGHTS_FILE
    save_file(kept, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes files readable only by the owner
    return sorted(set(tensors) - used)


def _contiguous() -> torch.memory_format:
    import torch

    return torch.contiguous_format


def _tensors(backbone: Backbone, sources: Sequence[Path], stack: ExitStack) -> dict[str, Callable[[], torch.Tensor]]:
    """Name -> what reads the tensor; a safetensors file is mapped, not read, and stays open as long as `stack`."""
    import torch
    from safetensors import SafetensorError, safe_open

    found: dict[str, Callable[[], torch.Tensor]] = {}
    for source in sources:
        where = f"{backbone.hub_id} at revision {backbone.revision}: {source.name}"
        if source.suffix == ".safetensors":
            try:
                opened = stack.enter_context(safe_open(source, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise DataError(f"{where}: not a safetensors file ({error})") from error
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                found[name] = partial(opened.get_tensor, name)
            continue
        try:
            state = torch.load(source, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch raise their own kinds
            raise DataError(f"{where}: cannot be read with weights_only=True ({error})") from error
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise DataError(f"{where}: not a plain dictionary of tensors")
        for name, value in state.items():
            found[name] = partial(_itself, value)
    return found


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _source(
    backbone: Backbone, listing: Mapping[str, HubFile], paths: Mapping[str, Path], dropped: list[str], folder: Path
) -> dict[str, Any]:
    """Where the files of `folder` come from; nothing in it differs between two fetches."""
    pickled = backbone.pickled is not None and backbone.pickled.name in paths
    made = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "hub_id": backbone.hub_id,
        "revision": backbone.revision,
        "from": {
            file: {"bytes": listing[file].size, "sha256": listing[file].sha256 or sha256_file(path)}
            for file, path in sorted(paths.items())
        },
        "conversion": (
            f"{'pickled tensors read with weights_only=True' if pickled else 'tensors as published'}, without task "
            "heads, in one safetensors file; tokenizer in one tokenizer.json"
        ),
        "left_out": dropped,
        "files": {path.name: sha256_file(path) for path in made},
    }
