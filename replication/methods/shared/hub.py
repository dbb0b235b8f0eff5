"""Uploading a saved adapter with its model card to the Hugging Face hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from replication.corpora.fetch import asked_again
from replication.errors import AdapterError
from replication.fileio import write_json, write_text
from replication.methods.shared.card import CARD_NAME, card_facts, render_card
from replication.methods.shared.saving import (
    CONFIG_NAME,
    PRETRAINED_CONFIG_NAME,
    PRETRAINED_WEIGHTS_NAME,
    WEIGHTS_NAME,
    read_description,
    read_tensors,
    save,
    saved_files,
)

UPLOADED = (
    *(CONFIG_NAME, WEIGHTS_NAME, PRETRAINED_CONFIG_NAME, PRETRAINED_WEIGHTS_NAME),
    *("config.json", "generation_config.json"),
)
"""Files of a folder that are uploaded, with the card: not a Trainer's optimizer, and nothing pickled."""


def push_to_hub(
    adapter: nn.Module | str | Path,
    repo_id: str,
    *,
    card: Mapping[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload adapter",
) -> str:
    """Upload an attached model's adapter, or a folder that `save` or Trainer wrote, in one commit; returns its address.

    `card`: facts for the model card, over those that the folder has; the folder itself is not changed. The repository
    is made if it is missing. `token`: by default the one of `hf auth login` or HF_TOKEN. AdapterError for a folder that
    is no undamaged adapter, before anything is sent, and where the hub refuses or cannot be reached.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        if isinstance(adapter, nn.Module):
            save(adapter, folder, card=card)
        else:
            _prepare(Path(adapter), folder, card or {})
        return _upload(folder, repo_id, private, token, revision, commit_message)


def _prepare(source: Path, folder: Path, card: Mapping[str, Any]) -> None:
    """A copy of what is uploaded, with the card of its description and these facts."""
    config, weights = saved_files(source)
    description = read_description(config)
    read_tensors(weights, description)
    facts = card_facts({**description.get("card", {}), **card})
    folder.mkdir()
    for name in UPLOADED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    described = {**description, **({"card": facts} if facts else {})}
    write_json(folder / config.name, described)
    write_text(folder / CARD_NAME, render_card(described))


def _upload(
    folder: Path, repo_id: str, private: bool | None, token: str | None, revision: str | None, commit_message: str
) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    api = HfApi(token=token)
    try:
        asked_again(partial(api.create_repo, repo_id, private=private, exist_ok=True))
        if revision is not None:
            asked_again(partial(api.create_branch, repo_id, branch=revision, exist_ok=True))
        whole = {"repo_id": repo_id, "folder_path": folder, "revision": revision, "commit_message": commit_message}
        done = asked_again(partial(api.upload_folder, **whole))
    except HFValidationError as error:
        raise AdapterError(f"repo_id={repo_id!r}: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise AdapterError(
                f"{repo_id}: the hub refuses the upload ({status}): no token, or one that may not write there; run "
                "`hf auth login` with a token that has write access, or set HF_TOKEN"
            ) from None
        raise AdapterError(f"{repo_id}: the hub answers {status}: {error.server_message or error}") from error
    except (HTTPError, OSError) as error:  # no connection, or HF_HUB_OFFLINE
        raise AdapterError(
            f"{repo_id}: the hub cannot be reached ({type(error).__name__}); check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE"
        ) from error
    except (RuntimeError, ValueError) as error:  # huggingface_hub's, of a file or of the card's header
        raise AdapterError(f"{repo_id}: the upload failed: {error}") from error
    return str(done.commit_url)
