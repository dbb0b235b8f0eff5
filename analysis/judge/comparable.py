"""What a run is to a comparison: its setting, K and variant, and whether two runs may be compared.

Pure functions of loaded experiments; what is computed from several runs is in `study`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.load.names import backbone_name, task_name
from analysis.load.runs import Experiment, questions
from replication.fileio import read_json
from replication.metrics import named
from replication.records import RunRecord

Setting = tuple[str, str]  # backbone and task: runs are compared only within one setting
# What two runs must share to be compared: the same work on the same data.
BUDGET = ("steps", "batch_size", "accumulation_steps", "max_length")
PLAIN_SOLO: Mapping[str, Any] = {
    "sparsity": 0.0, "links": None, "lora": None, "layer_norm": False, "homotopy_parameter": 0.1,
    "train_autoencoder": True, "shared_autoencoder": True,
}  # fmt: skip


def protocol_of(experiment: Experiment) -> str | None:
    """The metric of the corpus card (squad_v1, rouge), which distinguishes metrics of the same name, or None."""
    return experiment.record.corpus.metric if experiment.record else None


def more_is_better(experiment: Experiment, metric: str) -> bool:
    """Whether a higher score of this run's metric is the better one."""
    return named(metric, experiment.form, protocol_of(experiment)).higher_is_better


def differ_in_items(first: Experiment, second: Experiment) -> bool:
    """Whether both have predictions, on different items."""
    rows = [next(iter(experiment.predictions.values()), []) for experiment in (first, second)]
    return all(rows) and questions(rows[0]) != questions(rows[1])


def shared_seeds(first: Experiment, second: Experiment) -> list[int]:
    """Seeds that both runs have scores of, ascending."""
    a, b = first.metrics, second.metrics
    return [] if a is None or b is None else sorted(set(a.seeds) & set(b.seeds))


def processor_of(experiment: Experiment, seed: int) -> str | None:
    """What floats depend on: processor, its instructions and the linear algebra library; None without a record."""
    record = experiment.records.get(seed)
    if record is None:
        return None
    conditions = record.conditions
    return f"{conditions.cpu}, {conditions.blas}, torch {conditions.torch_build}"


def differ_in_processor(first: Experiment, second: Experiment, seed: int) -> bool:
    """Whether two runs of one seed were made on different types of processor."""
    processors = {processor_of(experiment, seed) for experiment in (first, second)} - {None}
    return len(processors) > 1


def unequal(first: Experiment, second: Experiment) -> str | None:
    """Why two runs must not be compared: different data, budget or decoding. None when they may be."""
    a, b = first.record, second.record
    if a is None or b is None:
        return "one of the runs left no record"
    if (a.corpus.sha256, a.corpus.train_examples) != (b.corpus.sha256, b.corpus.train_examples):
        return f"{first.name} and {second.name} were not trained on the same data"
    for name in BUDGET:
        ours, theirs = a.training.get(name), b.training.get(name)
        if ours != theirs:
            return f"unequal {name.replace('_', ' ')}: {first.name} {ours}, {second.name} {theirs}"
    decoded = [_decoding(experiment) for experiment in (first, second)]
    if None not in decoded and decoded[0] != decoded[1]:
        return f"{first.name} and {second.name} were decoded with other settings"
    return None


def setting_of(experiment: Experiment) -> Setting:
    """Backbone and task of an experiment, from its record or else from the plan."""
    record, planned = experiment.record, experiment.planned
    if record is not None:
        return record.backbone, record.task
    return (planned.backbone, planned.task) if planned else ("unknown backbone", "unknown task")


def keep_of(experiment: Experiment) -> int | None:
    """K, for the methods that keep K adapters."""
    record = experiment.record
    keep = record.method_config.get("keep") if record else None
    return int(keep) if keep is not None else None


def preset_of(experiment: Experiment) -> str | None:
    """The variant of the authors' code that it ran; None for the paper's own method, named or not."""
    preset = experiment.record.method_config.get("preset") if experiment.record else None
    return None if preset == "paper" else preset


def setting_title(experiments: Sequence[Experiment], setting: Setting) -> str:
    """`CoLA on MiniLM-L6`."""
    names = [e.record.corpus.name for e in experiments if e.record is not None and setting_of(e) == setting]
    planned = [e.planned.corpus for e in experiments if e.planned and e.planned.corpus and setting_of(e) == setting]
    return f"{task_name(next(iter([*names, *planned]), setting[1]))} on {backbone_name(setting[0])}"


def base_parameters(record: RunRecord) -> int:
    """Parameters of the backbone without the method's: those that full fine-tuning trains."""
    if record.method in ("full", "frozen", "ft_top2"):
        return record.counts.total
    return record.counts.total - record.counts.adapter - record.counts.importance


def reference_loras(experiments: Sequence[Experiment]) -> dict[Setting, Experiment]:
    """The LoRA run that ratios refer to, by backbone and task; of several a complete one before others, the one called
    `lora`, else the first.
    """
    loras = [e for e in experiments if e.record is not None and e.record.method == "lora"]
    ordered = sorted(loras, key=lambda e: (e.status != "complete", e.name != "lora"))
    return {setting_of(experiment): experiment for experiment in reversed(ordered)}


def is_reading(experiment: Experiment, rank: int, skip_length: int) -> bool:
    """Whether a Solo run is the plain dense method with this rank and skip length, nothing else changed."""
    record = experiment.record
    if record is None or record.method != "solo_connection":
        return False
    config = record.method_config
    return (config.get("rank"), config.get("skip_length")) == (rank, skip_length) and is_plain(record)


def is_plain(record: RunRecord) -> bool:
    """False for a Solo run with a part taken out, added or frozen; its rank and skip length are free."""
    return record.method != "solo_connection" or all(
        record.method_config.get(name, value) == value for name, value in PLAIN_SOLO.items()
    )


def variant_of(experiment: Experiment) -> object:
    """What makes two runs of one method different cases of a claim: K and preset, of Solo Connection every setting."""
    record = experiment.record
    config = dict(record.method_config) if record else {}
    if record is not None and record.method == "solo_connection":
        return repr(sorted((name, value) for name, value in config.items() if name != "init_seed"))
    return config.get("keep"), preset_of(experiment)


def _decoding(experiment: Experiment) -> object | None:
    path = experiment.directory / "predictions" / "decoding.json"
    content = read_json(path) if path.is_file() else None
    decoding = content.get("decoding") if isinstance(content, dict) else None
    if not isinstance(decoding, dict):
        return decoding
    return {name: value for name, value in decoding.items() if name != "references_scored"}  # not of the text
