"""Parameter counts of a run from its backbone's architecture and its record's settings, without weights.

For a method that removes or expands adapters, `selection.json` says which remain and at which rank; the counts at the
end follow from that. A backbone pretrained in the pipeline has the vocabulary its tokenizer was trained to: it is read
from the weights' configuration, or the tokenizer is trained again, which takes a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.load.evidence import Difference, repro
from analysis.load.runs import Experiment
from analysis.load.selection import Selection
from pipelines.shared.paths import weights_directory
from pipelines.shared.settings import BASELINE, Settings
from replication.errors import AdapterError, ConfigError, DataError
from replication.fileio import read_json
from replication.records import RunRecord

FIELDS = ("adapter", "importance", "head", "trainable", "total")


class NotRecomputedError(Exception):
    """Why a count cannot be recomputed here."""


class Recount:
    """Counts of the runs of one profile; equal architectures, methods and selections are counted once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._counted: dict[str, tuple[dict[str, int], dict[str, int]]] = {}

    def differences(self, experiment: Experiment, seed: int) -> list[Difference]:
        """Counts of one seed's record that the architecture does not give; NotRecomputedError if it cannot tell."""
        record, selection = experiment.records[seed], experiment.selections.get(seed)
        folder = experiment.directory / "training" / f"seed-{seed}"
        fix = f"`{repro(experiment.directory, 'finetune')}` trains it again"
        try:
            start, end = self._counts(record, selection)
        except AdapterError as error:
            file = folder / ("selection.json" if selection else "record.json")
            source = f"{record.backbone} has"
            return [Difference(file, "survivors" if selection else "method_config", "another", str(error), source, fix)]
        recorded = {"counts": record.counts, "counts_at_start": record.counts_at_start or record.counts}
        path, source = folder / "record.json", f"{record.method} on {record.backbone} has"
        return [
            Difference(path, f"{name}.{field}", counts[field], getattr(recorded[name], field), source, fix)
            for name, counts in (("counts", end), ("counts_at_start", start))
            for field in FIELDS
            if getattr(recorded[name], field) != counts[field]
            and not (name == "counts_at_start" and record.counts_at_start is None and start == end)
        ]

    def _counts(self, record: RunRecord, selection: Selection | None) -> tuple[dict[str, int], dict[str, int]]:
        """Counts at the start and at the end of training."""
        config = dict(record.method_config)
        if record.method != "random_lora":  # whose seeds draw the adapters, of which some are wider than others
            config.pop("init_seed", None)
        kept = selection and (selection.survivors, selection.final_ranks, [a.model_dump() for a in selection.adapters])
        parts = (record.backbone, record.corpus.name, record.corpus.form, record.method, config, kept)
        key = json.dumps(parts, sort_keys=True, default=str)
        if key not in self._counted:
            self._counted[key] = self._count(record, selection)
        return self._counted[key]

    def _count(self, record: RunRecord, selection: Selection | None) -> tuple[dict[str, int], dict[str, int]]:
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
        model = self._backbone(record)
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

    def _backbone(self, record: RunRecord) -> Any:
        """The architecture on the meta device, with its task's head."""
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
        size = vocabulary(self.settings, record.backbone) if backbone.source == "pretrained" else None
        if size is not None and size != model.config.vocab_size:
            model.config.vocab_size = size
            with torch.device("meta"):
                model = type(model)(model.config).eval()
        return model


def check_adapters(model: Any, config: Any, selection: Selection) -> None:
    """AdapterError unless the selection is one that this method can make on this model."""
    from replication.methods.selection import describe_adapters

    if [adapter.model_dump() for adapter in selection.adapters] != describe_adapters(model):
        raise AdapterError("adapters: other modules than the method wraps")
    milestones = getattr(config, "milestones", None)
    ends = milestones(len(selection.adapters))[-1:] if milestones else []
    most, rank = (ends[0].keep, ends[0].rank) if ends else (config.keep, config.rank)
    if most is not None and len(selection.survivors) > most:
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
    return {
        "survivors": present,
        "ranks": {str(index): selection.final_ranks.get(index, config.rank) for index in present},
        "fixed_weights": fixed,
        "frozen_pairs": losers if config.freeze_losers else [],
    }


def vocabulary(settings: Settings, backbone: str) -> int:
    """Size of the vocabulary of a backbone that is pretrained in the pipeline."""
    path = weights_directory(backbone) / "config.json"
    if path.is_file():
        content = read_json(path)
        if isinstance(content, Mapping) and isinstance(content.get("vocab_size"), int):
            return int(content["vocab_size"])
    if backbone not in settings.backbones:
        raise NotRecomputedError(
            f"{settings.params_file} has no backbone {backbone}, whose vocabulary decides the count"
        )
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
