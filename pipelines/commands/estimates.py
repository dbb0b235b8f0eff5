"""What each experiment of a profile takes: GPU memory, hours, disk; predicted without weights, data or a GPU.

Memory is that of `replicate memory`: one training step at the full batch and length, in fp32 and with bf16 autocast
over fp32 weights. It takes seconds for each case, so the cases of the paper profile are kept in `FILE`; `replicate
plan` predicts what is not there, `--save` writes it down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.shared.experiment import Experiment, described
from pipelines.shared.settings import BASELINE, Settings
from replication.backbones import BACKBONES
from replication.fileio import read_json, write_text

FILE = Path("measurements/full_scale/plan.json")
PRECISIONS = {"fp32": "no", "bf16": "bf16"}
"""Column -> `mixed_precision` of the training settings."""
GIBI = 2**30


@dataclass(frozen=True)
class Card:
    """A kind of card: bytes of memory and its peak in floating-point operations a second, dense, by precision."""

    name: str
    memory: int
    peak: Mapping[str, float]
    model: str


CARDS = (
    Card("24 GB", 24 * GIBI, {"fp32": 35.6e12, "bf16": 71e12}, "RTX 3090"),
    Card("80 GB", 80 * GIBI, {"fp32": 67e12, "bf16": 989e12}, "H100 SXM"),
)
"""Peaks from NVIDIA's data sheets: GA102 whitepaper; H100 datasheet (BF16 there with sparsity: 1,979)."""
SHARE = 0.3
"""Part of the peak that training reaches; an assumption."""
HEADROOM, CONTEXT = 1.1, 1 * GIBI
"""What the prediction cannot see: rounding and fragmentation of the allocator, CUDA's own memory."""
COPIES = 3
"""Copies of published weights on the disk: in the hub's cache, in weights/, in DVC's cache."""
DATASET_BYTES = {
    "nyu-mll/glue": 0.2e9,
    "rajpurkar/squad": 0.02e9,
    "rajpurkar/squad_v2": 0.02e9,
    "EdinburghNLP/xsum": 0.6e9,
    "abisee/cnn_dailymail": 0.9e9,
}
"""About what the hub's Parquet files of a repository take, from its card."""
ASSUMPTION = (
    f"Hours: training, full-length texts, {SHARE:.0%} of the peak of {' or '.join(card.model for card in CARDS)}."
)


@dataclass(frozen=True)
class Estimate:
    """One experiment: bytes of GPU memory by precision, operations, bytes it leaves on the disk; None: not predicted.

    `approximate`: predicted from a similar method.
    """

    key: str
    backbone: str
    corpus: str
    precision: str
    memory: Mapping[str, int] | None
    operations: float | None
    disk: float | None
    approximate: bool = False

    def fits(self, memory: int) -> bool | None:
        """Whether it fits a card of `memory` bytes in the profile's precision; None: not predicted."""
        return None if self.memory is None else self.memory[self.precision] * HEADROOM + CONTEXT <= memory

    def hours(self, card: Card) -> float | None:
        """All seeds, on one such card."""
        return None if self.operations is None else self.operations / (SHARE * card.peak[self.precision]) / 3600


def case_of(experiment: Experiment) -> dict[str, Any]:
    """What decides memory and operations of one step, as JSON values."""
    task = experiment.form.model_task
    return {
        "backbone": experiment.backbone.name,
        "task": task,
        "labels": experiment.num_labels if task == "sequence_classification" else 2,
        "batch": experiment.training.batch_size,
        "length": experiment.training.max_length,
        "method": experiment.method,
        "settings": dict(experiment.settings),
    }


def known_cases(root: Path) -> dict[str, dict[str, Any]]:
    """The predictions kept in `FILE`, by case; empty without the file."""
    path = root / FILE
    rows = read_json(path)["cases"] if path.is_file() else []
    return {_identity(row["case"]): row for row in rows}


def _identity(case: Mapping[str, Any]) -> str:
    return json.dumps(case, sort_keys=True)


def estimates(
    settings: Settings,
    selected: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> list[Estimate]:
    """One estimate for each experiment in `selected`; a case not in `known` is predicted, or left open."""
    made: dict[str, Mapping[str, Any]] = dict(known)
    found = []
    for key in selected:
        experiment = described(settings, key)
        case = case_of(experiment)
        identity = _identity(case)
        if identity not in made and predict is not None and experiment.method != BASELINE:
            made[identity] = predict(case)
        found.append(_estimate(experiment, made.get(identity)))
    return found


def _estimate(experiment: Experiment, row: Mapping[str, Any] | None) -> Estimate:
    training, seeds = experiment.training, len(experiment.seeds)
    precision = "fp32" if training.mixed_precision == PRECISIONS["fp32"] else "bf16"  # bf16_weights takes less still
    shared = (experiment.key, experiment.backbone.name, str(experiment.corpus["name"]), precision)
    if experiment.method == BASELINE:
        return Estimate(*shared, dict.fromkeys(PRECISIONS, 0), 0.0, 0.0)
    if row is None:
        return Estimate(*shared, None, None, None)
    tokens = training.steps * training.accumulation_steps * training.batch_size * training.max_length * seeds
    through = 0 if experiment.method == "frozen" else 2 * row["parameters"]
    operations = 0 if not row["trained"] else tokens * (2 * row["parameters"] + through + 2 * row["trained"])
    disk = 2 * seeds * 4.0 * row["trained"]  # in runs/ and in DVC's cache
    return Estimate(*shared, row["bytes"], float(operations), disk, row["approximate"])


# --- predictions


def predict_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `FILE`: bytes at the peak by precision, parameters in products, parameters trained.

    A question answering model counts as a classifier of the same body, whose head is larger by a few MB; PEFT's other
    tuners as LoRA on the same projections; a random choice as LoRA on the first K, through which the gradient has the
    longest way. Imports torch; takes seconds.
    """
    import torch

    from replication.backbones import backbone_config
    from replication.memory import Workload, predict_step
    from replication.memory.workloads import training_step
    from replication.methods import method_config

    kept = case["settings"].get("keep") if case["method"] == "random_lora" else None
    approximate = case["method"] in ("peft_baselines", "random_lora")
    method = (
        method_config("lora", rank=8, dropout=0.05, targets=("query", "key", "value"))
        if approximate
        else method_config(case["method"], **case["settings"])
    )
    unpadded = getattr(backbone_config(case["backbone"]), "pad_token_id", None) is None
    workload = Workload(
        case["backbone"],
        method,
        case["batch"],
        case["length"],
        kept,
        task="sequence_classification" if case["task"] == "question_answering" else case["task"],
        labels=case["labels"],
        changes={"pad_token_id": 0} if unpadded else {},
    )

    def with_autocast() -> Any:
        step = training_step(workload)

        def loss(model: Any, batch: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return step.loss(model, batch)

        return replace(step, loss=loss)

    parameters, trained, total = _counts(workload)
    if not trained:  # evaluation alone, which takes little more than the weights
        return {
            "case": dict(case),
            "parameters": parameters,
            "trained": 0,
            "bytes": dict.fromkeys(PRECISIONS, 4 * total),
            "approximate": True,
        }
    return {
        "case": dict(case),
        "parameters": parameters,
        "trained": trained,
        "bytes": {
            "fp32": predict_step(lambda: training_step(workload), fused_dropout=True).total,
            "bf16": predict_step(with_autocast, fused_dropout=True).total,
        },
        "approximate": approximate,
    }


def _counts(workload: Any) -> tuple[int, int, int]:
    """Parameters that take part in a product for each token, that are trained, and all; on the meta device."""
    from replication.backbones import build_empty
    from replication.methods import attach, trainable_parameters

    model: Any = build_empty(workload.backbone, task=workload.form, num_labels=workload.labels)
    output = model.get_output_embeddings()
    inputs = model.get_input_embeddings().weight
    total = sum(parameter.numel() for parameter in model.parameters())
    looked_up = 0 if output is not None and output.weight is inputs else inputs.numel()
    trained = trainable_parameters(attach(model, workload.method)).values()
    return total - looked_up, sum(parameter.numel() for parameter in trained), total


def save_cases(
    root: Path, settings: Settings, known: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]
) -> int:
    """Write `FILE` for every experiment of the profile, predicting what `known` lacks; returns the number of cases."""
    import torch
    import transformers

    cases: dict[str, dict[str, Any]] = {}
    for key in settings.experiments:
        experiment = described(settings, key)
        if experiment.method != BASELINE:
            cases.setdefault(_identity(case_of(experiment)), case_of(experiment))
    rows = []
    for number, (identity, case) in enumerate(cases.items(), start=1):
        rows.append(known[identity] if identity in known else predict_case(case))
        say(f"{number} of {len(cases)}: {case['backbone']}, {case['method']}")
    head = {
        "made_by": f"replicate plan --profile {settings.profile} --save",
        "unit": "bytes of device memory at the peak of one training step with AdamW, by precision",
        "versions": {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__},
    }
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    text = json.dumps(head, indent=2).removesuffix("\n}") + f',\n  "cases": [\n{lines}\n  ]\n}}\n'
    write_text(root / FILE, text)
    return len(rows)


# --- sums


def download_bytes(backbones: Iterable[str], repositories: Iterable[str]) -> float:
    """About what is downloaded from the hub for these backbones and dataset repositories."""
    weights = sum(BACKBONES[name].published_bytes for name in set(backbones))
    return weights + sum(DATASET_BYTES.get(name, 0.0) for name in set(repositories))


def spread(hours: Iterable[float], cards: int) -> float:
    """Hours until all are done on `cards` cards, one experiment a card, the longest first."""
    busy = [0.0] * cards
    for one in sorted(hours, reverse=True):
        busy[busy.index(min(busy))] += one
    return max(busy)
