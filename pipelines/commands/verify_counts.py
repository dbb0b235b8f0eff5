"""Parameter counts of a run from its backbone's architecture and its record's settings, without weights.

For a method that removes or expands adapters, `selection.json` says which remain and at which rank; the counts at the
end follow from that. A backbone pretrained in the pipeline has the vocabulary its tokenizer was trained to: it is read
from the weights' configuration, or the tokenizer is trained again, which takes a second. Without weights and corpus,
the counts that depend on the vocabulary are not recomputed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.load.evidence import Mismatch, repro
from analysis.load.runs import Experiment
from analysis.load.selection import Selection
from pipelines.shared.paths import weights_directory
from pipelines.shared.settings import BASELINE, Settings
from replication.errors import AdapterError, ConfigError, DataError
from replication.fileio import read_json
from replication.records import RunRecord

ANOTHER_SIZE = 300
"""Of a vocabulary: no architecture has it."""
FIELDS = ("adapter", "importance", "head", "trainable", "total")


class NotRecomputedError(Exception):
    """Why a count cannot be recomputed here."""


@dataclass(frozen=True)
class Counted:
    """Counts at the start and at the end of training. `unknown`: fields that depend on what is not here, and `why`."""

    start: Mapping[str, int]
    end: Mapping[str, int]
    unknown: frozenset[str] = frozenset()
    why: str = ""


class Recount:
    """Counts of the runs of one profile; equal architectures, methods and selections are counted once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._counted: dict[str, Counted] = {}

    def counted(self, record: RunRecord, selection: Selection | None) -> Counted:
        """Counts of one run. AdapterError: no such model; NotRecomputedError: unknown backbone, corpus or method."""
        config = dict(record.method_config)
        if record.method != "random_lora":  # whose seeds draw the adapters, of which some are wider than others
            config.pop("init_seed", None)
        kept = selection and selection.model_dump(exclude={"trace"})
        parts = (record.backbone, record.corpus.name, record.corpus.form, record.method, config, kept)
        key = json.dumps(parts, sort_keys=True, default=str)
        if key not in self._counted:
            self._counted[key] = self._count(record, selection)
        return self._counted[key]

    def _count(self, record: RunRecord, selection: Selection | None) -> Counted:
        try:
            size = vocabulary(self.settings, record.backbone)
        except NotRecomputedError as error:
            start, end = counts_with(record, selection, None)
            others = counts_with(record, selection, ANOTHER_SIZE)
            changed = {
                name
                for name in FIELDS
                for one, other in zip((start, end), others, strict=True)
                if one[name] != other[name]
            }
            return Counted(start, end, frozenset(changed), str(error))
        return Counted(*counts_with(record, selection, size))


def differences(experiment: Experiment, seed: int, counted: Counted) -> list[Mismatch]:
    """Counts in one seed's record that are not those of the architecture."""
    record = experiment.records[seed]
    path = experiment.directory / "training" / f"seed-{seed}" / "record.json"
    source = f"{record.method} on {record.backbone} has"
    fix = f"`{repro(experiment.directory, 'finetune')}` trains it again"
    parts = [("counts", record.counts, counted.end)]
    if record.counts_at_start is not None or counted.start != counted.end:
        parts.append(("counts_at_start", record.counts_at_start or record.counts, counted.start))
    return [
        Mismatch(path, f"{name}.{field}", expected[field], getattr(recorded, field), source, fix)
        for name, recorded, expected in parts
        for field in FIELDS
        if field not in counted.unknown and getattr(recorded, field) != expected[field]
    ]


def counts_with(
    record: RunRecord, selection: Selection | None, vocabulary_size: int | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Counts at the start and at the end of training; `vocabulary_size` None: that of the named architecture."""
    from replication.counting import Counts, parameter_counts
    from replication.methods import attach, config_from_dict
    from replication.methods.shared.registry import method_class

    try:
        method_class(record.method)
    except ConfigError as error:
        raise NotRecomputedError(str(error)) from error
    try:
        config: Any = config_from_dict({"method": record.method, **record.method_config})
    except (ConfigError, TypeError) as error:
        raise AdapterError(str(error)) from error
    model = architecture(record, vocabulary_size)
    if record.method == BASELINE:
        read = sum(parameter.numel() for parameter in model.base_model.parameters()) if config.uses_backbone else 0
        counts = Counts(adapter=0, importance=0, head=0, trainable=0, total=read).to_dict()
        return counts, counts
    attach(model, config)
    start = parameter_counts(model).to_dict()
    if selection is None:
        return start, start
    check_adapters(model, config, selection)
    config.restructure(model, final_structure(config, selection))
    return start, parameter_counts(model).to_dict()


def architecture(record: RunRecord, vocabulary_size: int | None) -> Any:
    """The run's backbone on the meta device, with its task's head."""
    import torch

    from replication.backbones import build_empty, get_backbone
    from replication.corpora.registry import describe
    from replication.tasks import get_form

    try:
        backbone, form = get_backbone(record.backbone), get_form(record.corpus.form)
        labels = form.num_labels(describe(record.corpus.name))
        model = build_empty(backbone.name, task=form.model_task, num_labels=labels)
    except (ConfigError, DataError) as error:
        raise NotRecomputedError(str(error)) from error
    if vocabulary_size is not None and vocabulary_size != model.config.vocab_size:
        model.config.vocab_size = vocabulary_size
        with torch.device("meta"):
            model = type(model)(model.config).eval()
    return model


def check_adapters(model: Any, config: Any, selection: Selection) -> None:
    """AdapterError unless the selection is one that this method can make on this model."""
    from replication.methods.selection import describe_adapters

    if [adapter.model_dump() for adapter in selection.adapters] != describe_adapters(model):
        raise AdapterError("adapters: other modules than the method wraps")
    most, rank = len(selection.adapters), config.rank
    if config.method == "random_lora":
        most = config.keep
    elif milestones := config.milestones(most):
        most, rank = milestones[-1].keep, milestones[-1].rank
    if len(selection.survivors) > most:
        raise AdapterError(f"{len(selection.survivors)} survivors, where at most {most} stay")
    wrong = {index: found for index, found in selection.final_ranks.items() if found != rank}
    if wrong or set(selection.final_ranks) != set(selection.survivors):
        raise AdapterError(f"final_ranks {selection.final_ranks}, where every survivor has rank {rank}")


def final_structure(config: Any, selection: Selection) -> dict[str, Any]:
    """What training leaves of the adapters: survivors, ranks, fixed importance weights, pairs that no longer train."""
    everyone, survivors = [adapter.index for adapter in selection.adapters], list(selection.survivors)
    if config.method == "random_lora":
        return {"survivors": survivors}
    ended = config.last_step() is not None
    present = survivors if ended and config.remove_losers else everyone
    losers = [index for index in present if index not in survivors] if ended else []
    fixed = present if ended or config.freeze_weights_after is not None else losers
    ranks = dict.fromkeys(everyone, config.rank)
    for expansion in selection.expansions:
        ranks |= dict.fromkeys(expansion.kept, expansion.rank_after)
    return {
        "survivors": present,
        "ranks": {str(index): rank for index, rank in (ranks | selection.final_ranks).items() if index in present},
        "fixed_weights": fixed,
        "frozen_pairs": losers if config.freeze_losers else [],
    }


def vocabulary(settings: Settings, backbone: str) -> int | None:
    """Size of the vocabulary of a backbone that is pretrained in the pipeline; None for any other."""
    from replication.backbones import get_backbone

    try:
        if get_backbone(backbone).source != "pretrained":
            return None
    except ConfigError as error:
        raise NotRecomputedError(str(error)) from error
    path = weights_directory(backbone) / "config.json"
    if path.is_file():
        content = read_json(path)
        if isinstance(content, Mapping) and isinstance(content.get("vocab_size"), int):
            return int(content["vocab_size"])
    if backbone not in settings.backbones:
        raise NotRecomputedError(f"{settings.params_file} has no {backbone}, whose vocabulary decides the counts")
    return _trained_vocabulary(settings.params_file, backbone)


@lru_cache
def _trained_vocabulary(params_file: str, backbone: str) -> int:
    from pipelines.pretrain import _contexts, _passages, pretraining_config, pretraining_texts
    from pipelines.shared.settings import load_settings
    from replication.backbones import get_backbone
    from replication.backbones.vocabularies import train_tokenizer

    settings, known = load_settings(params_file), get_backbone(backbone)
    chosen = settings.backbone(backbone)
    try:
        config = pretraining_config(chosen, known, settings.threads)
        passages = [passage for text in pretraining_texts(chosen) for passage in _passages(text)]
        contexts = _contexts(Path(chosen.source))
    except (ConfigError, DataError) as error:
        raise NotRecomputedError(f"no {weights_directory(backbone)}/config.json, and {error}") from error
    size = config.vocabulary_size if config is not None else 0
    return len(train_tokenizer([*passages, *contexts], size, known.separator, architecture=known.architecture))
