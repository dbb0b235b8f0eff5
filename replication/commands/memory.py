"""`replicate memory`: peak training memory predicted from shapes, and held against torch's profiler."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from replication.commands.count import parse_settings
from replication.commands.outputs import check_output
from replication.errors import DataError
from replication.fileio import read_json, write_text
from replication.terminal import examples, working

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the group `memory` to the root command."""
    group = typer.Typer(help="Peak training memory, predicted from shapes: no weights, no GPU.", no_args_is_help=True)
    shape = "--backbone gpt2-medium --method lora\n--batch 8 --length 512"
    group.command("predict", epilog=examples(f"replicate memory predict {shape}"))(predict)
    group.command("check", epilog=examples("replicate memory check"))(check)
    group.command("full-scale", epilog=examples("replicate memory full-scale"))(full_scale)
    app.add_typer(group, name="memory")


def predict(
    backbone: Annotated[str, typer.Option(help="Named backbone, e.g. gpt2-medium.")],
    method: Annotated[str, typer.Option(help="lora, solo_connection, ..., or authors_layer.")],
    batch: Annotated[int, typer.Option(help="Examples in a batch.")],
    length: Annotated[int, typer.Option(help="Tokens of an example.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Setting of the method; may be repeated.")
    ] = None,
    adapters: Annotated[int | None, typer.Option(help="Adapters left in the model; left out: all.")] = None,
    order: Annotated[str, typer.Option(help="Which stay: bottom (from block 0 upwards) or top.")] = "bottom",
    task: Annotated[str | None, typer.Option(help="Task of the head; left out: the backbone's usual one.")] = None,
    labels: Annotated[int, typer.Option(help="Classes of a classification head.")] = 2,
    attention: Annotated[str, typer.Option(help="eager or sdpa.")] = "eager",
    precision: Annotated[str, typer.Option(help="no (fp32), bf16 (autocast) or bf16_weights.")] = "no",
    cpu_masks: Annotated[bool, typer.Option(help="Dropout masks as a CPU keeps them: floats.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the peak of one training step (AdamW) on the real architecture of a backbone."""
    _quiet()
    from replication.memory.workloads import Workload, method_of
    from replication.memory.workloads import predict as predict_workload

    config = method_of(method, parse_settings(settings or []))
    workload = Workload(
        backbone, config, batch, length, adapters, order, task, labels,
        attention=attention, fused_dropout=not cpu_masks, precision=precision,
    )  # fmt: skip
    with working(f"predicting {method} on {backbone}"):
        result = predict_workload(workload).to_dict()
    if as_json:
        typer.echo(json.dumps({"workload": workload.to_dict(), **result}, ensure_ascii=False))
        return
    for name, value in result.items():
        typer.echo(
            f"{name:20} {value}" if isinstance(value, str) else f"{name:20} {value:>18,} {value / 2**30:8.3f} GiB"
        )
    typer.echo("Bytes of device memory in use at the peak of a step.")
    typer.echo("The resident size of a process is another, larger quantity.")


def check(as_json: AsJson = False) -> None:
    """Compare predictions for small models with the bytes that torch's profiler measures on this machine."""
    _quiet()
    from replication.memory.full_scale import checks

    with working("measuring") as say:
        rows = list(checks(say))
    if as_json:
        typer.echo(json.dumps({"rows": rows}, ensure_ascii=False))
        return
    for row in rows:
        predicted, measured = row["predicted_bytes"], row["measured_bytes"]
        typer.echo(f"{row['backbone']:18} {row['what']:33} {predicted:>10,} {measured:>10,} {predicted / measured:.3f}")


def full_scale(
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("measurements/full_scale/memory.json"),
    fresh: Annotated[bool, typer.Option(help="Predict everything again, also what the file holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write every prediction at full scale, and the check: minutes on one core. What the file has is kept."""
    _quiet()
    import torch
    import transformers

    from replication.memory.full_scale import all_series, checks, predictions

    content: dict[str, Any] = {
        "schema_version": 1,
        "made_by": "replicate memory full-scale",
        "unit": "bytes of device memory in use at the peak of one training step (fp32, AdamW), by component",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    check_output("--output", output)
    before = read_json(output) if output.is_file() and not fresh else {}
    if not isinstance(before, dict):
        raise DataError(f"{output}: holds no prediction of this command; name another file, or pass --fresh")
    if any(before.get(name) != value for name, value in content.items()):
        before = {}
    known = {series["key"]: series for series in before.get("series", ())}
    with working("predicting") as say:
        content |= {"checks": before.get("checks") or list(checks(say)), "series": []}
        for series in predictions(known, say):
            content["series"].append(series)
            rest = [known[s.key] for s in all_series()[len(content["series"]) :] if s.key in known]
            write_text(output, one_row_a_line({**content, "series": [*content["series"], *rest]}))
    typer.echo(json.dumps({"output": str(output), "series": len(content["series"])}) if as_json else str(output))


def one_row_a_line(value: Any, indent: str = "") -> str:
    """JSON in which an object without inner objects or lists is on one line."""
    deeper = indent + "  "
    if isinstance(value, dict) and any(isinstance(item, dict | list) for item in value.values()):
        items = [f"{deeper}{json.dumps(key)}: {one_row_a_line(item, deeper)}" for key, item in value.items()]
        text = "{\n" + ",\n".join(items) + f"\n{indent}}}"
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        text = "[\n" + ",\n".join(deeper + one_row_a_line(item, deeper) for item in value) + f"\n{indent}]"
    else:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if indent else text + "\n"


def _quiet() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import transformers

    transformers.utils.logging.set_verbosity_error()
