"""`replicate export`: a saved LoRA or WeightLoRA as a folder that stock PEFT loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.errors import AdapterError, ConfigError
from replication.fileio import read_json
from replication.terminal import examples, working

if TYPE_CHECKING:
    from replication.backbones import Backbone

# How the names of Hugging Face's model classes end, and the task `load_model` builds them for.
_TASKS = {
    "ForSequenceClassification": "sequence_classification",
    "ForQuestionAnswering": "question_answering",
    "ForMaskedLM": "masked_lm",
    "ForCausalLM": "causal_lm",
    "LMHeadModel": "causal_lm",
    "ForConditionalGeneration": "seq2seq_lm",
}
_LAST_LAYERS = ("classifier.weight", "score.weight", "out_proj.weight")


def register(app: typer.Typer) -> None:
    """Add `export` to the root command."""
    epilog = examples(
        "dvc pull data.dvc && dvc repro finetune@lora  # trains the adapter: minutes",
        "replicate export runs/quick/lora/adapter/seed-18\n--backbone microworld-gpt2 --output peft-lora",
    )
    app.command("export", epilog=epilog)(export)


def export(
    adapter: Annotated[Path, typer.Argument(help="Folder that replication.methods.save or a run wrote.")],
    backbone: Annotated[str, typer.Option(help="Named backbone the adapter was trained on.")],
    output: Annotated[Path, typer.Option(help="Folder for PEFT's adapter_config.json and adapter_model.safetensors.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the backbone's weights.", show_default="weights/<backbone>")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a trained lora, random_lora, weight_lora or weight_lora_plus as a plain PEFT LoRA."""
    from replication.backbones import get_backbone

    known = get_backbone(backbone)
    if output.resolve() == adapter.resolve():
        raise ConfigError(f"--output {output}: is the adapter's own folder; choose another")
    task, labels = _task_of(adapter, known)

    with working(f"exporting {adapter}"):
        import torch

        from replication.backbones import load_model
        from replication.methods import load
        from replication.methods.shared.saving import check_saved
        from replication.peft_export import export_peft_lora

        check_saved(adapter)  # a damaged adapter is reported before gigabytes of weights are read
        more: dict[str, Any] = {} if labels is None else {"num_labels": labels}
        with torch.random.fork_rng(devices=[]):
            model = load(load_model(backbone, _weights(known, weights), task=task, **more), adapter)
        export_peft_lora(model, output, base=known.hub_id)
    if as_json:
        typer.echo(json.dumps({"backbone": known.name, "adapter": str(adapter), "output": str(output)}))
        return
    typer.echo(f"PEFT LoRA of {known.name} written to {output}: load it with PeftModel.from_pretrained(base, {output})")


def making(adapter: Path) -> str:
    """How to make the adapter of a run, which no clone has: a run's folder is runs/<profile>/<experiment>/adapter/."""
    match adapter.parts:
        case (*_, "runs", profile, experiment, "adapter", _):
            file = "" if profile == "quick" else f"pipelines/{profile}/dvc.yaml:"
            return f"`dvc repro {file}finetune@{experiment}` makes that of this run; or "
    return ""


def _task_of(adapter: Path, backbone: Backbone) -> tuple[str, int | None]:
    """Task and number of labels of the model that was trained, from what was saved."""
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; {making(adapter)}pass a folder written by replication.methods.save")
    config: Any = read_json(path)
    base = config.get("base") if isinstance(config, dict) else None
    name = base.get("class") if isinstance(base, dict) else None
    if not isinstance(name, str):
        raise AdapterError(f"{path}: field 'base.class' is missing; pass a folder written by replication.methods.save")
    task = next((task for end, task in _TASKS.items() if name.endswith(end)), None)
    if task not in backbone.tasks:
        raise ConfigError(
            f"--backbone {backbone.name}: per {path} the adapter was trained on a {name}; this backbone can be built "
            f"for: {', '.join(backbone.tasks)}"
        )
    return task, _labels(adapter / "adapter_model.safetensors") if task == "sequence_classification" else None


def _labels(weights: Path) -> int:
    """Rows of the task head's last layer."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                if name.endswith(_LAST_LAYERS) and ".lora_" not in name:
                    return int(handle.get_slice(name).get_shape()[0])
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{weights}: not a complete safetensors file ({error})") from error
    raise AdapterError(f"{weights}: holds no task head, but the adapter was trained on a classification model")


def _weights(backbone: Backbone, requested: Path | None) -> Path | None:
    """Folder to load from; None lets a hub backbone come from the hub or its cache."""
    directory = requested if requested is not None else Path("weights") / backbone.name
    return None if requested is None and backbone.source == "hub" and not directory.is_dir() else directory
