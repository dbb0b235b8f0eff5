"""The predictions that are compared with the WeightLoRA authors' measured files, those of GPT-2 Medium, and the check.

Sources of the first series' settings: Vepricov/Weight_Lora, additional_experiments/run_memory.py and
scripts/run_memory_deberta_glue.sh (commit a84161d): DeBERTaV3-base on MNLI (3 classes), batch 64, every parameter
frozen but the adapters, the head too; src/config.py: texts padded to 128 tokens; memory is
torch.cuda.max_memory_allocated() / 2**30. The adapter is `AdapterLayer` of Vepricov/WLoRA, src/utils.py (commit
5296369), the nearest version that could be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from replication.memory.profiled import measured_peak
from replication.memory.workloads import OutputWeightedLoraConfig, Workload, predict, training_step
from replication.methods import MethodConfig, config_to_dict, method_config

MOST = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 18, 24, 30, 33, 34, 35, 36)
"""Every point where the authors' curve bends, and some between, where it is straight."""
FEW = (1, 3, 18, 33, 36)
"""Enough for a slope where it is known to be one."""
QKV = ("query", "key", "value")


@dataclass(frozen=True)
class Series:
    """Predictions that differ only in the number of adapters; `adapters` None: one prediction with all."""

    key: str
    about: str
    method: MethodConfig
    adapters: tuple[int, ...] | None = None
    order: str = "bottom"
    shared: Mapping[str, Any] = field(default_factory=dict)

    def workloads(self) -> list[Workload]:
        """One workload for each number of adapters."""
        return [
            Workload(method=self.method, adapters=count, order=self.order, **self.shared)
            for count in self.adapters or (None,)
        ]


_MNLI = {"backbone": "deberta-v3-base", "batch": 64, "length": 128, "labels": 3}
_THEIRS = {**_MNLI, "train_head": False}
_E2E = {"backbone": "gpt2-medium", "batch": 8, "length": 512}
_PHASE_2 = method_config("weight_lora", rank=8, keep=5)


def all_series() -> list[Series]:
    """Every series of measurements/full_scale/memory.json."""
    theirs = [
        Series(f"authors_layer_r{rank}", "the authors' script: their layer, from block 0 upwards, head frozen",
               OutputWeightedLoraConfig(rank=rank), counts, shared=_THEIRS)
        for rank, counts in ((8, MOST), (32, FEW), (64, (1, 18, 33)), (128, (1, 18, 33)), (256, (1, 18, 33, 36)))
    ]  # fmt: skip
    return [
        *theirs,
        Series("gpt2_medium_full", "full fine-tuning", method_config("full"), shared=_E2E),
        Series("gpt2_medium_lora", "LoRA r=4 on query and value", method_config("lora"), shared=_E2E),
        *(
            Series(f"gpt2_medium_solo_k{skip}", f"Solo Connection r=120, k={skip}",
                   method_config("solo_connection", skip_length=skip), shared=_E2E)
            for skip in (2, 4, 6)
        ),
        Series("authors_layer_r8_top", "the same layer, from the last block downwards",
               OutputWeightedLoraConfig(rank=8), (1, 3, 18, 36), "top", _THEIRS),
        Series("lora_r8", "LoRA with dropout 0.05, from block 0 upwards, head trained",
               method_config("lora", rank=8, dropout=0.05, targets=QKV), (1, 36), shared=_MNLI),
        Series("weight_lora_r8", "WeightLoRA's phase 2, survivors from block 0 upwards, head trained",
               _PHASE_2, (1, 36), shared=_MNLI),
        Series("weight_lora_r8_top", "WeightLoRA's phase 2, survivors from the last block downwards, head trained",
               _PHASE_2, (1, 5, 10, 36), "top", _MNLI),
        Series("weight_lora_r8_phase1", "WeightLoRA's phase 1: all adapters and their weights train",
               _PHASE_2, shared=_MNLI),
    ]  # fmt: skip


def predictions(
    known: Mapping[str, Any] | None = None, report: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Each series as JSON values: its settings, and one row of bytes for each number of adapters.

    Rows of `known`, a series by key as this function gave it, are taken over where the settings are the same.
    """
    for series in all_series():
        described = describe(series)
        before = (known or {}).get(series.key, {})
        same = {name: before.get(name) for name in described} == described
        rows = {row["adapters"]: row for row in before.get("rows", ())} if same else {}
        for workload in series.workloads():
            if workload.adapters not in rows:
                rows[workload.adapters] = {"adapters": workload.adapters, **predict(workload).to_dict()}
                report(
                    f"{series.key}: {workload.adapters or 'all'} adapters, {rows[workload.adapters]['total']:,} bytes"
                )
        wanted = [workload.adapters for workload in series.workloads()]
        yield {**described, "rows": [rows[count] for count in wanted]}


def describe(series: Series) -> dict[str, Any]:
    """Settings of a series as JSON values."""
    settings = series.workloads()[0].to_dict()
    for name in ("adapters", "changes"):
        del settings[name]
    settings["method"] = {k: list(v) if isinstance(v, tuple) else v for k, v in settings["method"].items()}
    return {"key": series.key, "about": series.about, **settings}


_SMALL = {
    "microworld-gpt2": {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    "microworld-deberta": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "microworld-bart": {"dropout": 0.1, "attention_dropout": 0.1},
    "microworld-llama": {"attention_dropout": 0.1},
}
_CHECKED: tuple[tuple[str, MethodConfig, dict[str, Any]], ...] = (
    ("full", method_config("full"), {}),
    ("lora", method_config("lora"), {}),
    ("solo_connection", method_config("solo_connection", rank=24, skip_length=1), {}),
    ("weight_lora, phase 1", method_config("weight_lora", keep=3), {}),
    ("weight_lora, 3 left at the bottom", method_config("weight_lora", keep=3), {"adapters": 3}),
    ("weight_lora, 3 left at the top", method_config("weight_lora", keep=3), {"adapters": 3, "order": "top"}),
)


def checked_workloads() -> list[tuple[str, Workload]]:
    """Small models of each architecture with each method, on which the predictor is held against the profiler."""
    return [
        (name, Workload(backbone, method, 8, 64, fused_dropout=False, changes=changes, attention=None, **more))
        for backbone, changes in _SMALL.items()
        for name, method, more in _CHECKED
        if not (method.method == "solo_connection" and backbone == "microworld-deberta")  # no decoder
    ]


def checks(report: Callable[[str], None] = lambda text: None) -> Iterator[dict[str, Any]]:
    """Predicted and measured bytes above the start of a step, for every small workload."""
    for name, workload in checked_workloads():
        torch.manual_seed(0)
        predicted, measured = predict(workload).above_start, measured_peak(lambda: training_step(workload))  # noqa: B023
        report(f"{workload.backbone}, {name}: predicted {predicted:,}, measured {measured:,}")
        yield {
            "backbone": workload.backbone,
            "what": name,
            "method": config_to_dict(workload.method),
            "batch": workload.batch,
            "length": workload.length,
            "predicted_bytes": predicted,
            "measured_bytes": measured,
        }
