"""`replicate count`: how many parameters a method trains on a backbone, without weights or memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer
import yaml

from replication.errors import AdapterError, ConfigError
from replication.fileio import YamlLoader
from replication.terminal import console as standard_output
from replication.terminal import examples, working

RATIO_OF = "adapter"


def register(app: typer.Typer) -> None:
    """Add `count` to the root command."""
    epilog = examples(
        "replicate count --backbone gpt2-medium --method lora --set rank=4",
        "replicate count --backbone gpt2-medium --method solo_connection\nrank=120 skip_length=2 --json",
    )
    app.command("count", epilog=epilog)(count)


def count(
    backbone: Annotated[str, typer.Option(help="Named backbone, e.g. gpt2-medium.")],
    method: Annotated[str, typer.Option(help="full, frozen, lora, solo_connection, ...")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Setting of the method; may be repeated."),
    ] = None,
    more_settings: Annotated[
        list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Further settings.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="causal_lm, seq2seq_lm or sequence_classification; left out: the backbone's usual one."),
    ] = None,
    labels: Annotated[int, typer.Option(help="Classes of a sequence classification head.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count a method's parameters on the real architecture of a backbone."""
    fields = parse_settings([*(settings or []), *(more_settings or [])])
    with working(f"counting {method} on {backbone}"):
        report = count_report(backbone, method, fields, task, labels)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        print_report(report)


def count_report(
    backbone: str, method: str, settings: dict[str, Any], task: str | None = None, num_labels: int = 2
) -> dict[str, Any]:
    """The command's output as JSON values. ConfigError or AdapterError for what cannot be built."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from replication.backbones import build_empty, get_backbone
    from replication.counting import parameter_counts
    from replication.methods import attach, config_to_dict, method_config

    known = get_backbone(backbone)
    config = method_config(method, **settings)
    model = build_empty(backbone, task, num_labels=num_labels)
    full = sum(parameter.numel() for parameter in model.parameters())
    counts = parameter_counts(attach(model, config)).to_dict()
    try:
        reference = build_empty(backbone, task, num_labels=num_labels)
        lora = parameter_counts(attach(reference, method_config("lora", rank=4, targets=("query", "value")))).adapter
    except AdapterError:
        lora = None
    fields = config_to_dict(config)
    fields.pop("method")
    return {
        "backbone": backbone,
        "task": task or known.task_class,
        "method": method,
        "config": fields,
        **counts,
        "full": full,
        "published": published_size(known.published_parameters, full),
        "ratio_of": RATIO_OF,
        "ratio_to_full": counts["adapter"] / full,
        "lora_r4_query_value": lora,
        "ratio_to_lora_r4_query_value": counts["adapter"] / lora if lora else None,
        "note": known.note,
    }


def published_size(text: str | None, counted: int) -> dict[str, Any] | None:
    """The published size ("354.92M") as a number, and how much it exceeds the count."""
    if text is None:
        return None
    parameters = round(float(text.removesuffix("M")) * 1_000_000)
    return {"text": text, "parameters": parameters, "difference": parameters - counted}


class _Loader(YamlLoader):
    """YAML 1.2's plain values: 1e-3 is a number, 010 is no octal, `on` no truth value, nothing a date."""


_Loader.yaml_implicit_resolvers = {}
_SIGNS = "-+0123456789."
for _tag, _pattern, _first in (
    ("null", r"null|~", "n~"),
    ("bool", r"true|false|True|False", "tfTF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", _SIGNS),
    ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", _SIGNS),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"({_pattern})$"), list(_first))


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Every FIELD=VALUE in one dict; ConfigError for one that cannot be read or a field given twice."""
    settings: dict[str, Any] = {}
    for text in texts:
        field, value = parse_setting(text)
        if field in settings:
            raise ConfigError(f"--set {text}: {field} is given twice")
        settings[field] = value
    return settings


def parse_setting(text: str) -> tuple[str, Any]:
    """("rank", 120) from "rank=120"; ("targets", ("query", "value")) from "targets=query,value".

    The value is YAML. One with commas, but without brackets or quotes, is a list; lists become tuples.
    """
    field, equals, value = text.partition("=")
    field, value = field.strip(), value.strip()
    if not equals or not field.isidentifier():
        raise ConfigError(f"--set {text}: write FIELD=VALUE, for example --set rank=4")
    if not value:
        raise ConfigError(f"--set {text}: no value; write {field}=null for none")
    if "," in value and value[0] not in "[{\"'":
        value = f"[{value}]"
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"--set {text}: the value is not valid YAML ({problem})") from error
    return field, _tuples(parsed)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def print_report(report: dict[str, Any]) -> None:
    """The report as a table that fits 80 columns."""
    from rich.markup import escape
    from rich.table import Table

    console = standard_output()
    table = Table(title=f"{report['method']} on {report['backbone']} ({report['task']})", title_justify="left")
    table.add_column("parameters")
    table.add_column("count", justify="right")
    table.add_column("what it is")
    for name, meaning in _MEANINGS.items():
        table.add_row(name, f"{report[name]:,}", meaning)
    table.add_section()
    table.add_row("adapter / full", _percent(report["ratio_to_full"]), f"of {report['full']:,}, all of the model's")
    lora = report["lora_r4_query_value"]
    if lora:
        table.add_row(
            "adapter / LoRA",
            _percent(report["ratio_to_lora_r4_query_value"]),
            f"of {lora:,}: r=4 on query and value",
        )
    else:
        table.add_row("adapter / LoRA", "-", "LoRA r=4 does not fit this model")
    console.print(table)
    console.print(f"Both ratios are of `{RATIO_OF}`: head and importance weights are left out.")
    if report["published"]:
        published = report["published"]
        side = "more" if published["difference"] > 0 else "fewer"
        console.print(
            f"Full model: {report['full']:,} counted; {published['text']} published, "
            f"{abs(published['difference']):,} {side}."
        )
    settings = " ".join(f"{name}={json.dumps(value)}" for name, value in report["config"].items())
    console.print(escape(f"Settings: {settings or 'none'}"))
    if report["note"]:
        console.print(escape(report["note"]))


_MEANINGS = {
    "adapter": "trained by the method in the model's body",
    "importance": "trained importance weights, one an adapter",
    "head": "trained task head",
    "trainable": "adapter + importance + head",
    "total": "model with the method attached",
}


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.4g} %" if ratio < 10 else f"{ratio:,.0f} times"
