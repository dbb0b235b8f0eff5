"""The named models of both papers and of the small profiles: how each is built, loaded and tokenised.

A backbone's architecture stands in `backbone_configs/<name>.json`, so it can be built and counted without
weights. Weights come from a hub (pinned revision), from a package (pinned sha256), or from the pipeline's own
pretraining.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError
from replication.fileio import read_json
from replication.loading import check_architecture, check_complete, loading_error, location, quiet_transformers
from replication.packaged_weights import PACKAGES, PackagedWeights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "backbone_configs"
TASKS = {
    "gpt2": ("causal_lm", "sequence_classification"),
    "llama": ("causal_lm", "sequence_classification"),
    "bart": ("seq2seq_lm", "sequence_classification"),
    "deberta-v2": ("sequence_classification", "question_answering", "masked_lm"),
    "bert": ("sequence_classification", "question_answering", "masked_lm"),
    "mpnet": ("sequence_classification", "question_answering", "masked_lm"),
}
"""Architecture (Hugging Face's model_type) -> the tasks it can be built for; the first is the usual one."""
_AUTO_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "masked_lm": "AutoModelForMaskedLM",
    "question_answering": "AutoModelForQuestionAnswering",
    "sequence_classification": "AutoModelForSequenceClassification",
}
_NEW_HEADS = ("sequence_classification", "question_answering")
"""Tasks whose head a checkpoint may lack, because fine-tuning trains it."""


@dataclass(frozen=True)
class Backbone:
    """One named model.

    `source`: "hub" (`hub_id` at `revision`), "package" (`package`), or "pretrained" (made by the pipeline).
    `separator`: the token between context and completion, and after it. `printed_parameters`: the size as the
    papers print it. `made_by`: the pipeline's command that writes its folder of weights; None for a backbone
    that no profile uses. `note` belongs into every table that shows the backbone.
    """

    name: str
    architecture: str
    source: str
    separator: str
    hub_id: str | None = None
    revision: str | None = None
    package: PackagedWeights | None = None
    printed_parameters: str | None = None
    made_by: str | None = None
    gated: bool = False
    note: str = ""

    @property
    def hub_command(self) -> str:
        """Command that puts the pinned revision into the local hub cache."""
        return f"hf download {self.hub_id} --revision {self.revision}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks this backbone can be built for."""
        return TASKS[self.architecture]

    @property
    def task_class(self) -> str:
        """The usual task: "causal_lm", "seq2seq_lm" or "sequence_classification"."""
        return self.tasks[0]

    @property
    def pretraining_task(self) -> str:
        """The language modelling task that a fresh model of this architecture is pretrained with."""
        return next(task for task in ("causal_lm", "seq2seq_lm", "masked_lm") if task in self.tasks)


def _hub(name: str, architecture: str, separator: str, hub_id: str, revision: str, **more: Any) -> Backbone:
    return Backbone(name, architecture, "hub", separator, hub_id=hub_id, revision=revision, **more)


END = "<|endoftext|>"
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _hub("gpt2", "gpt2", END, "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
        _hub(
            "gpt2-medium",
            "gpt2",
            END,
            "openai-community/gpt2-medium",
            "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
            printed_parameters="354.92M",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@gpt2-medium",
        ),
        _hub(
            "gpt2-large",
            "gpt2",
            END,
            "openai-community/gpt2-large",
            "32b71b12589c2f8d625668d2335a01cac3249519",
            printed_parameters="774.03M",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@gpt2-large",
        ),
        _hub(
            "llama-3.1-8b",
            "llama",
            "<|end_of_text|>",
            "meta-llama/Llama-3.1-8B",
            "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@llama-3.1-8b",
            gated=True,
        ),
        _hub(
            "bart-large",
            "bart",
            "</s>",
            "facebook/bart-large",
            "cb48c1365bd826bd521f650dc2e0940aee54720c",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@bart-large",
        ),
        _hub(
            "deberta-v3-base",
            "deberta-v2",
            "[SEP]",
            "microsoft/deberta-v3-base",
            "8ccc9b6f36199bec6961081d44eb72fb3f7353f3",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@deberta-v3-base",
        ),
        Backbone(
            "smollm2-135m",
            "llama",
            "package",
            END,
            package=PACKAGES["smollm2-135m"],
            made_by="dvc repro pipelines/cpu/dvc.yaml:pretrain@smollm2-135m",
            note="SmolLM2-135M-Instruct from a 4-bit package, dequantised to fp32: close to the published "
            "checkpoint, not equal to it.",
        ),
        Backbone(
            "microworld-gpt2",
            "gpt2",
            "pretrained",
            END,
            made_by="dvc repro pretrain@microworld-gpt2",
            note="A small GPT-2 pretrained by this project on the embedded synthetic corpus.",
        ),
        Backbone(
            "minilm-l6",
            "bert",
            "package",
            "[SEP]",
            package=PACKAGES["minilm-l6"],
            note="all-MiniLM-L6-v2, a BERT fine-tuned to embed sentences: it is not DeBERTa.",
        ),
        Backbone(
            "mpnet-base",
            "mpnet",
            "package",
            "</s>",
            package=PACKAGES["mpnet-base"],
            note="all-mpnet-base-v2, an MPNet fine-tuned to embed sentences: it is not DeBERTa.",
        ),
        Backbone(
            "microworld-deberta",
            "deberta-v2",
            "pretrained",
            "[SEP]",
            made_by="dvc repro pretrain@microworld-deberta",
            note="A small DeBERTa (v3 attention) pretrained by this project on the embedded synthetic corpus.",
        ),
        Backbone(
            "microworld-bart",
            "bart",
            "pretrained",
            "</s>",
            made_by="dvc repro pretrain@microworld-bart",
            note="A small BART pretrained by this project on the embedded synthetic corpus.",
        ),
        Backbone(
            "microworld-llama",
            "llama",
            "pretrained",
            END,
            made_by="dvc repro pretrain@microworld-llama",
            note="A small Llama pretrained by this project on the embedded synthetic corpus.",
        ),
    )
}


def get_backbone(name: str) -> Backbone:
    """The backbone called `name`; ConfigError lists the names there are."""
    if name not in BACKBONES:
        raise ConfigError(f"backbone {name!r} is unknown; known are: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]


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


def separator_id(tokenizer: PreTrainedTokenizerBase, separator: str) -> int:
    """Token id of `separator`; ConfigError when the tokenizer does not read it as exactly one token."""
    ids = tokenizer.encode(separator, add_special_tokens=False)
    if len(ids) != 1 or separator not in tokenizer.get_vocab():
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise ConfigError(
            f"separator {separator!r}: this tokenizer reads it as {len(ids)} tokens ({pieces}); it has to be "
            "one token of the vocabulary, or context and completion cannot be told apart"
        )
    return int(ids[0])
