"""The named models of both papers and of the small profiles.

A backbone's architecture is in `configs/<name>.json`, so it can be built and counted without weights. Weights come
from a hub (pinned revision), from a package (pinned sha256), or from the pipeline's own pretraining.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.backbones.packaged_weights import PACKAGES, PackagedWeights
from replication.errors import ConfigError

TASKS = {
    "gpt2": ("causal_lm", "sequence_classification"),
    "llama": ("causal_lm", "sequence_classification"),
    "bart": ("seq2seq_lm", "sequence_classification"),
    "deberta-v2": ("sequence_classification", "question_answering", "masked_lm"),
    "bert": ("sequence_classification", "question_answering", "masked_lm"),
    "mpnet": ("sequence_classification", "question_answering", "masked_lm"),
}
"""Architecture (Hugging Face's model_type) -> the tasks it can be built for; the first is the usual one."""


@dataclass(frozen=True)
class PickledFile:
    """The one file of weights of a revision without safetensors; `source` says where size and sha256 come from."""

    name: str
    size: int
    sha256: str
    source: str


@dataclass(frozen=True)
class Backbone:
    """One named model.

    `source`: "hub" (`hub_id` at `revision`), "package" (`package`), or "pretrained" (made by the pipeline).
    `separator`: the token between context and completion, and after it. `published_parameters`: the size as
    published. `made_by`: the pipeline's command that writes its folder of weights; None for a backbone
    that no profile uses. `parameters` without task heads, `stored`: bytes of each in the published files. `pickled`:
    the file that is converted where the revision has no safetensors. `sentencepiece`: the published tokenizer is read
    with it. `note` belongs into every table that shows the backbone.
    """

    name: str
    architecture: str
    source: str
    separator: str
    hub_id: str | None = None
    revision: str | None = None
    package: PackagedWeights | None = None
    published_parameters: str | None = None
    made_by: str | None = None
    gated: bool = False
    parameters: int | None = None
    stored: int = 4
    pickled: PickledFile | None = None
    sentencepiece: bool = False
    note: str = ""

    @property
    def hub_command(self) -> str:
        """Command that puts the pinned revision into the local hub cache; ConfigError for a backbone on no hub."""
        if self.hub_id is None:
            raise ConfigError(f"backbone {self.name} is not on a hub")
        return f"hf download {self.hub_id} --revision {self.revision}"

    @property
    def published_bytes(self) -> int:
        """About what the hub's files of weights take; 0 if not known."""
        return (self.parameters or 0) * self.stored

    def command(self, directory: str | Path | None = None) -> str:
        """Command that writes the backbone's weights to `directory` (of a profile: to its own folder of weights)."""
        if self.made_by is not None:
            return self.made_by
        folder = directory or f"weights/{self.name}"
        module, call = ("packaged_weights", "fetch_package") if self.package else ("hub_weights", "fetch_hub_weights")
        return f"python -c \"from replication.backbones.{module} import {call}; {call}('{self.name}', '{folder}')\""

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
            published_parameters="354.92M",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@gpt2-medium",
            parameters=354_823_168,
        ),
        _hub(
            "gpt2-large",
            "gpt2",
            END,
            "openai-community/gpt2-large",
            "32b71b12589c2f8d625668d2335a01cac3249519",
            published_parameters="774.03M",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@gpt2-large",
            parameters=774_030_080,
        ),
        _hub(
            "llama-3.1-8b",
            "llama",
            "<|end_of_text|>",
            "meta-llama/Llama-3.1-8B",
            "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@llama-3.1-8b",
            parameters=8_030_261_248,
            gated=True,
            stored=2,
        ),
        _hub(
            "bart-large",
            "bart",
            "</s>",
            "facebook/bart-large",
            "cb48c1365bd826bd521f650dc2e0940aee54720c",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@bart-large",
            parameters=406_291_456,
            stored=2,
        ),
        _hub(
            "deberta-v3-base",
            "deberta-v2",
            "[SEP]",
            "microsoft/deberta-v3-base",
            "8ccc9b6f36199bec6961081d44eb72fb3f7353f3",
            made_by="dvc repro pipelines/paper/dvc.yaml:pretrain@deberta-v3-base",
            parameters=183_831_552,
            stored=2,
            sentencepiece=True,
            pickled=PickledFile(
                "pytorch_model.bin",
                371_146_213,
                "691d48a2800b926a19e3051def466fc2cca4f59a15e42ce4a0cf7f1b380b5e33",
                source="github.com/fangxinly/huaweibei, release reproducibility-20261008, list of files; more public "
                "repositories record the same. The hub's own record of the revision is compared at every fetch.",
            ),
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
            made_by="dvc repro pipelines/cpu/dvc.yaml:pretrain@minilm-l6",
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
    """The backbone called `name`; ConfigError lists the valid names."""
    if name not in BACKBONES:
        raise ConfigError(f"backbone {name!r} is unknown; known are: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]
