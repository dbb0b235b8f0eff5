"""What tables and figures call a run's method, backbone, task and metrics, and in which order methods stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.names import (
    BACKBONE_NAMES,
    METHOD_NAMES,
    METHOD_ORDER,
    PART_NAMES,
    SELECTING,
    TASK_NAMES,
)
from replication.metrics import label_of
from replication.records import RunRecord

if TYPE_CHECKING:
    from analysis.records import Experiment


def backbone_name(backbone: str) -> str:
    """`MiniLM-L6` for minilm-l6; a backbone without a name is called as it is."""
    return BACKBONE_NAMES.get(backbone, backbone)


def task_name(corpus: str) -> str:
    """`CoLA` for cola; a part of a corpus has a name that says so, a corpus without a name keeps its own."""
    return TASK_NAMES.get(corpus) or PART_NAMES.get(corpus, corpus)


def score_name(metric: str) -> str:
    """`Matthews correlation` for matthews_correlation, as its metric says; any other measure keeps its own name."""
    return label_of(metric) or metric


def method_key(method: str, config: Mapping[str, Any]) -> str:
    """The method by which colours and rows are told apart: PEFT's own name for its tuners (`dora`), the kind of a
    baseline (`baseline_cosine`).
    """
    if method == "baseline":
        return f"baseline_{config.get('kind', '')}"
    return str(config.get("name", method)) if method == "peft_baselines" else method


def method_order(key: str) -> tuple[int, str]:
    """Sorts methods as tables list them; methods without a place come last, by name."""
    return (METHOD_ORDER.index(key) if key in METHOD_ORDER else len(METHOD_ORDER), key)


def method_label(method: str, config: Mapping[str, Any]) -> str:
    """The method with the settings that tell variants apart: `WeightLoRA (r=8, K=3)`."""
    key = method_key(method, config)
    name = METHOD_NAMES.get(key, key.replace("_", " "))
    details = _details(method, config)
    return f"{name} ({', '.join(details)})" if details else name


def experiment_labels(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Experiment -> what to call it: the method with its settings, then backbone and task where they differ, and
    the experiment's name where two would still be alike.
    """
    labels = {experiment.name: _label(experiment) for experiment in experiments}
    records = [(experiment.name, experiment.record) for experiment in experiments if experiment.record]
    if len({record.backbone for _, record in records}) > 1:
        for name, record in records:
            labels[name] += f", {backbone_name(record.backbone)}"
    if len({record.corpus.name for _, record in records}) > 1:
        for name, record in records:
            labels[name] += f", {task_name(record.corpus.name)}"
    shared = Counter(labels.values())
    return {name: label if shared[label] == 1 else f"{label} [{name}]" for name, label in labels.items()}


def _label(experiment: Experiment) -> str:
    record: RunRecord | None = experiment.record
    return experiment.name if record is None else method_label(record.method, record.method_config)


def _details(method: str, config: Mapping[str, Any]) -> list[str]:
    """The settings that tell variants apart: rank, kept adapters, skip length, and whatever is not the default."""
    if method == "peft_baselines":
        settings = config.get("settings") or {}
        rank = settings.get("target_r") if config.get("name") == "adalora" else settings.get("r")
        return [f"r={rank}"] if rank is not None else []
    details = [f"r={config['rank']}"] if "rank" in config else []
    if method == "solo_connection":
        return details + _solo_details(config)
    if method in SELECTING and config.get("keep") is not None:
        details.append(f"K={config['keep']}")
    if config.get("preset") not in (None, "paper"):
        return [*details, str(config["preset"])]
    if config.get("rank_by", "signed") != "signed":
        details.append(f"by {config['rank_by']}")
    if config.get("remove_losers") is False:
        details.append("losers kept")
    if method == "weight_lora" and config.get("selection_steps", 0) is None:
        details.append("selection without end")
    if method == "weight_lora_plus" and config.get("expansion") not in (None, "qr"):
        details.append(f"{config['expansion']} expansion")
    return details


def _solo_details(config: Mapping[str, Any]) -> list[str]:
    details = []
    links = config.get("links")
    if isinstance(links, str):
        details.append(links.replace("_", " "))
    elif links:
        details.append("links " + " ".join(f"{start}→{end}" for start, end in links))
    elif "skip_length" in config:
        details.append(f"k={config['skip_length']}")
    if config.get("sparsity"):
        details.append(f"sparse {config['sparsity']:g}")
    parameter = config.get("homotopy_parameter", 0.1)
    if parameter is None:
        details.append("no homotopy parameter")
    elif parameter != 0.1:
        details.append(f"a={parameter:g}")
    if config.get("train_autoencoder") is False:
        details.append("fixed random E and D")
    if config.get("shared_autoencoder") is False:
        details.append("own E and D per link")
    if config.get("layer_norm"):
        details.append("layer norm")
    if config.get("lora"):
        details.append("with LoRA")
    return details
