"""Building and loading a named model and its tokenizer, with checks of its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.backbones.catalogue import Backbone, get_backbone
from replication.errors import ConfigError, DataError
from replication.examples import separator_id
from replication.fileio import read_json

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"
_AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "masked_lm": "AutoModelForMaskedLM",
    "question_answering": "AutoModelForQuestionAnswering",
    "sequence_classification": "AutoModelForSequenceClassification",
}
_NEW_HEADS = ("sequence_classification", "question_answering")
"""Tasks whose head may be missing in a checkpoint, because fine-tuning trains it."""
# Explicit: by default transformers prompts at the terminal whether a repository's code may run.
_NO_CODE = {"trust_remote_code": False}


def backbone_config(name: str, **changes: Any) -> PretrainedConfig:
    """Architecture of `name` with `changes`, e.g. `vocab_size=400`; ConfigError for an unknown field."""
    from transformers import AutoConfig

    fields = dict(read_json(CONFIGS / f"{get_backbone(name).name}.json")["config"])
    known = AutoConfig.for_model(fields["model_type"]).to_dict()
    for field in changes:
        if field not in known or field == "model_type":
            raise ConfigError(f"backbone {name}: a {fields['model_type']} configuration has no field {field!r}")
    return AutoConfig.for_model(**{**fields, **changes})


def build_empty(name: str, task: str | None = None, *, num_labels: int = 2) -> PreTrainedModel:
    """The real architecture on torch's meta device: every shape and name, no memory. For counting.

    `num_labels` sizes the head of a sequence classification model. ConfigError if there is no such task.
    """
    import torch

    config, auto = _for_task(name, task, num_labels)
    with torch.device("meta"):
        return auto.from_config(config).eval()


def build_fresh(name: str, **changes: Any) -> PreTrainedModel:
    """Random fp32 weights from torch's current seed, for the backbone's pretraining task; evaluation mode."""
    import torch

    _, auto = _for_task(name, get_backbone(name).pretraining_task, 2)
    return auto.from_config(backbone_config(name, **changes), dtype=torch.float32).eval()


def _for_task(name: str, task: str | None, num_labels: int) -> tuple[PretrainedConfig, Any]:
    import transformers

    backbone = get_backbone(name)
    task = backbone.task_class if task is None else task
    if task not in backbone.tasks:
        raise ConfigError(f"backbone {name}: no task {task!r}; it can be built for: {', '.join(backbone.tasks)}")
    config = backbone_config(name)
    if task == "sequence_classification":
        if num_labels < 1:
            raise ConfigError(f"num_labels={num_labels}: a classification head needs at least 1")
        config.num_labels = num_labels
    return config, getattr(transformers, _AUTO_CLASSES[task])


def load_config(folder: Path) -> PretrainedConfig:
    """The configuration in `folder`, as it is there."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, **_NO_CODE)


def pretrained_parameters(name: str, config: PretrainedConfig) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Names and shape of each parameter that a checkpoint of `name` has to hold: all but a task head's.

    The first name is that of the model for the backbone's usual task; others are those of shared parameters, and each
    without the model's prefix, as a checkpoint of the bare body has them.
    """
    import torch
    import transformers

    task = get_backbone(name).task_class
    with torch.device("meta"):
        model = getattr(transformers, _AUTO_CLASSES[task]).from_config(config)
    body = f"{model.base_model_prefix}."
    names: dict[int, list[str]] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for full, parameter in model.named_parameters(remove_duplicate=False):
        if task in _NEW_HEADS and not full.startswith(body):
            continue
        shapes[id(parameter)] = tuple(parameter.shape)
        names.setdefault(id(parameter), []).append(full)
    for same in names.values():
        same += [full.removeprefix(body) for full in same if full.startswith(body)]
    return [(tuple(same), shapes[key]) for key, same in names.items()]


def load_model(
    name: str,
    directory: str | Path | None = None,
    *,
    task: str | None = None,
    num_labels: int = 2,
    dtype: torch.dtype | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """The pretrained model in evaluation mode: from `directory`, or a hub backbone's pinned revision.

    Parameters are float32, or `dtype`: bfloat16 has the values of a cast from float32 and takes half the memory at the
    peak of loading. Buffers are float32. Only safetensors are read and no remote code runs; a pinned revision without
    safetensors is first converted (`hub_weights`). If the checkpoint has no head for classification or question
    answering, the head gets random values from torch's current seed. Any other missing weight, a missing folder or
    another model is a DataError. `attention`: transformers' `attn_implementation`; a ConfigError names one that the
    architecture does not have, or that needs a missing package.
    """
    import torch

    wanted, auto = _for_task(name, task, num_labels)
    where = location(get_backbone(name), directory)
    task = task or get_backbone(name).task_class
    if directory is None and get_backbone(name).pickled is not None:  # transformers would look for another revision
        raise loading_error(get_backbone(name), where, OSError("no safetensors"))
    more: dict[str, Any] = {"num_labels": num_labels} if task == "sequence_classification" else {}
    if attention is not None:
        check_attention(name, attention, task)
        more["attn_implementation"] = attention
    try:
        with quiet_transformers():
            model, report = auto.from_pretrained(
                **where, **more, dtype=dtype or torch.float32, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise loading_error(get_backbone(name), where, error) from error
    check_architecture(get_backbone(name), wanted, model.config, where)
    check_complete(model, report, where, may_lack_head=task in _NEW_HEADS)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.float()
    return model.eval()


def check_attention(name: str, attention: str, task: str | None = None) -> None:
    """ConfigError unless the backbone can be built, without memory, with this `attn_implementation`."""
    import torch

    config, auto = _for_task(name, task, 2)
    try:
        with quiet_transformers(), torch.device("meta"):
            auto.from_config(config, attn_implementation=attention)
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"training setting attention={attention!r}: {name} cannot use it ({reason})") from error


def load_tokenizer(name: str, directory: str | Path | None = None) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer from where `load_model` reads, checked and padded by `prepare_tokenizer`."""
    backbone = get_backbone(name)
    return read_tokenizer(backbone, location(backbone, directory))


def read_tokenizer(backbone: Backbone, where: dict[str, Any]) -> PreTrainedTokenizerBase:
    """`load_tokenizer` from the location arguments of `from_pretrained`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(**{**where, **_NO_CODE})
    except Exception as error:
        raise loading_error(backbone, where, error) from error
    return prepare_tokenizer(tokenizer, backbone.separator)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, separator: str) -> PreTrainedTokenizerBase:
    """Check that `separator` is exactly one token; pad with it if the tokenizer has no padding token.

    Works in place. Padding is decided only here; masks keep it out of every loss and attention.
    """
    separator_id(tokenizer, separator)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = separator
    return tokenizer


# --- locating files and explaining errors ------------------------------------------------------------


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars and load reports; missing weights are checked and raised here."""
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
    """The location arguments of `from_pretrained`; DataError if the folder is missing."""
    fix = f"create it with `{backbone.command(directory)}`"
    if directory is None:
        if backbone.source != "hub":
            raise DataError(f"backbone {backbone.name} is not on a hub: pass a folder with its weights; {fix}")
        return {"pretrained_model_name_or_path": backbone.hub_id, "revision": backbone.revision, **_NO_CODE}
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {what}; weights of {backbone.name} are expected there: {fix}")
    return {"pretrained_model_name_or_path": str(folder), "local_files_only": True, **_NO_CODE}


def loading_error(backbone: Backbone, where: dict[str, Any], error: Exception) -> DataError:
    """A DataError that explains `error`, raised by `from_pretrained`, and how to fix it."""
    path = where["pretrained_model_name_or_path"]
    reason = " ".join(str(error).split()) or type(error).__name__
    if "revision" not in where:
        return DataError(
            f"{path}: weights of {backbone.name} cannot be loaded ({reason}); delete the folder and create it "
            f"again with `{backbone.command(path)}`"
        )
    kinds = {type(link).__name__ for link in _causes(error)}
    if backbone.gated and kinds & {"GatedRepoError", "RepositoryNotFoundError"}:
        fix = f"accept the licence at https://huggingface.co/{backbone.hub_id}, then `hf auth login`"
    elif kinds & {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectError",
        "ConnectTimeout",
        "ReadTimeout",
    }:
        login = " (this model is gated: accept its licence there first)" if backbone.gated else ""
        fix = (
            "the hub is not reached and the cache has no copy: with network and without HF_HUB_OFFLINE, "
            f"run `{backbone.hub_command}`{login}"
        )
    elif backbone.pickled is not None and "safetensors" in reason:
        fix = f"this revision has no safetensors; `{backbone.command()}` converts it once: pass the folder it writes"
    elif "safetensors" in reason:
        fix = "only safetensors are read; pin a revision that has them"
    else:
        fix = f"check it with `{backbone.hub_command}`"
    return DataError(f"{path} at revision {backbone.revision}: cannot be loaded ({reason}). To fix it: {fix}")


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def check_architecture(backbone: Backbone, wanted: Any, found: Any, where: dict[str, Any]) -> None:
    """DataError unless the configuration `found` belongs to the backbone; `wanted` None: the catalogue's."""
    wanted = backbone_config(backbone.name) if wanted is None else wanted
    fields = ["model_type"]
    if backbone.source != "pretrained":  # those are as large as the pipeline made them
        fields += ["hidden_size", "num_hidden_layers", "vocab_size"]
    for field in fields:
        has, needs = getattr(found, field), getattr(wanted, field)
        if has != needs:
            path = where["pretrained_model_name_or_path"]
            raise DataError(f"{path}: not {backbone.name}: {field} is {has}, expected {needs}")


def check_complete(model: Any, report: dict[str, Any], where: dict[str, Any], *, may_lack_head: bool) -> None:
    """DataError unless the checkpoint filled the model; `from_pretrained` would continue with random values."""
    body = f"{model.base_model_prefix}."
    missing = sorted(key for key in report["missing_keys"] if not may_lack_head or key.startswith(body))
    if missing:
        path = where["pretrained_model_name_or_path"]
        raise DataError(
            f"{path}: {len(missing)} tensors of the model are missing (first: {missing[0]}); the checkpoint "
            "is incomplete or of another model"
        )
