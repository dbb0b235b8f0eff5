"""`replicate predict`: text for meaning representations, from a saved adapter on its backbone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.commands.export import making
from replication.commands.outputs import check_output
from replication.corpora.schema import group_references, linearise, parse_mr, read_csv
from replication.errors import AdapterError, ConfigError, DataError, printable
from replication.fileio import read_json, read_jsonl
from replication.predictions import Prediction, write_predictions
from replication.terminal import examples, working

if TYPE_CHECKING:
    from replication.backbones import Backbone

FORMATS = ".jsonl, .csv or .txt"
# What DecodingConfig fills in, for the help text: importing it would import torch. A test compares the two.
DEFAULTS_SHOWN = {
    "beams": "10",
    "length_penalty": "0.8",
    "no_repeat_ngram": "4",
    "max_new_tokens": "64",
    "batch_size": "8",
}


def register(app: typer.Typer) -> None:
    """Add `predict` to the root command."""
    adapter = "--adapter runs/quick/lora/adapter/seed-18\n--backbone microworld-gpt2"
    epilog = examples(
        "dvc pull data.dvc && dvc repro finetune@lora  # trains the adapter: minutes",
        f"replicate predict {adapter}\n--mr 'name[Blue Lantern], eatType[pub]'",
    )
    app.command("predict", epilog=epilog)(predict)


def predict(
    adapter: Annotated[Path, typer.Option(help="Folder with adapter_config.json and adapter_model.safetensors.")],
    backbone: Annotated[
        str | None,
        typer.Option(help="Named backbone the adapter was trained on. Needed unless the adapter names it."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the backbone's weights.", show_default="weights/<backbone>")
    ] = None,
    mr: Annotated[
        list[str] | None,
        typer.Option(help=r"Meaning representation, 'name\[The Mill], eatType\[pub]'; may be repeated."),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Meaning representations in a file: .jsonl with the field mr, .csv with the column mr "
            "(the E2E release's form), or .txt with one a line.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write predictions as jsonl to this file.")] = None,
    beams: Annotated[int | None, typer.Option(help="Beams; 1 is greedy.", show_default=DEFAULTS_SHOWN["beams"])] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            help="A text scores log-probability / tokens ** this.", show_default=DEFAULTS_SHOWN["length_penalty"]
        ),
    ] = None,
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(
            help="No n-gram of this size twice in a text; 0 allows all.",
            show_default=DEFAULTS_SHOWN["no_repeat_ngram"],
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest text in tokens.", show_default=DEFAULTS_SHOWN["max_new_tokens"]),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Texts generated side by side.", show_default=DEFAULTS_SHOWN["batch_size"]),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Generate text for meaning representations from a saved adapter."""
    check_output("--output", output)
    requests = _requests(mr or [], input_file)
    backbone = _backbone_name(adapter, backbone)
    given = {
        "beams": beams,
        "length_penalty": length_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
    }
    rows = _generate(adapter, backbone, weights, requests, {k: v for k, v in given.items() if v is not None})
    if output is not None:
        write_predictions(output, rows)
        typer.echo(f"{len(rows)} predictions written to {output}", err=True)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output is None:
        shown = "\n\n".join(f"{row['mr']}\n  {row['prediction'] or '(no text)'}" for row in rows)
        typer.echo(printable(shown))


def _generate(
    adapter: Path, name: str, weights: Path | None, requests: dict[str, list[str]], settings: dict[str, Any]
) -> list[Prediction]:
    """Load the backbone, put the adapter on it, and decode; what is cheap to check is checked first."""
    from replication.backbones import get_backbone

    backbone = get_backbone(name)
    if backbone.task_class != "causal_lm":
        raise ConfigError(f"--backbone {name}: predict needs a causal language model, not {backbone.task_class}")
    directory = _weights_directory(backbone, weights)

    with working(f"loading {name}"):
        from replication.backbones import load_model, load_tokenizer
        from replication.methods import load
        from replication.methods.shared.saving import check_saved
        from replication.training.decoding import DecodingConfig, generate
        from replication.training.device import default_device
        from replication.training.progress import progress_bar

        config = DecodingConfig(**settings)
        check_saved(adapter)  # a damaged adapter is reported before gigabytes of weights are read
        tokenizer = load_tokenizer(name, directory)
        model = load(load_model(name, directory), adapter).to(default_device())
    contexts = [linearise(parse_mr(text)) for text in requests]
    with progress_bar("generate", total=len(contexts)) as advance:
        texts = generate(model, tokenizer, contexts, config, separator=backbone.separator, progress=advance)
    return [
        {"mr": text, "context": context, "prediction": prediction, "references": references}
        for (text, references), context, prediction in zip(requests.items(), contexts, texts, strict=True)
    ]


def _backbone_name(adapter: Path, requested: str | None) -> str:
    """The requested backbone, or the one in the adapter's configuration."""
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise AdapterError(
            f"{path}: no such file; {making(adapter)}--adapter takes a folder that replication.methods.save wrote"
        )
    config = read_json(path)
    named = config.get("backbone") if isinstance(config, dict) else None
    if requested is None and not isinstance(named, str):
        raise ConfigError(f"{path} names no backbone: pass the one the adapter was trained on with --backbone NAME")
    if requested is not None and isinstance(named, str) and named != requested:
        raise ConfigError(f"--backbone {requested}: per {path} the adapter was trained on {named}")
    return requested if requested is not None else str(named)


def _weights_directory(backbone: Backbone, requested: Path | None) -> Path | None:
    """Folder to load from; None lets a hub backbone come from the hub or its cache."""
    directory = requested if requested is not None else Path("weights") / backbone.name
    if directory.is_dir():
        return directory
    if requested is None and backbone.source == "hub":
        return None
    raise DataError(
        f"{directory}: no such folder of weights for {backbone.name}; make it with `{backbone.made_by}`, "
        "or name another folder with --weights"
    )


def _requests(mrs: Iterable[str], path: Path | None) -> dict[str, list[str]]:
    """Meaning representations in order of first appearance, each with the references of its file."""
    requests: dict[str, list[str]] = {}
    for number, mr in enumerate(mrs, start=1):
        requests.setdefault(_checked(mr, f"--mr {number}"), [])
    for mr, references in _read(path) if path is not None else ():
        requests.setdefault(mr, []).extend(references)
    if not requests:
        problem = f"{path} holds no meaning representation" if path else "nothing to generate"
        raise ConfigError(f"{problem}: give --mr 'name[...], eatType[...]' or --input FILE ({FORMATS})")
    return requests


def _checked(mr: object, location: str) -> str:
    if not isinstance(mr, str):
        raise DataError(f"{location}: the meaning representation must be a string, found {mr!r}")
    try:
        parse_mr(mr)
    except DataError as error:
        raise DataError(f"{location}: {error}") from error
    return mr.strip()


def _read(path: Path) -> Iterable[tuple[str, list[str]]]:
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv, ".txt": _from_txt}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"--input {path}: unknown kind of file {path.suffix!r}; valid are {FORMATS}")
    return reader(path)


def _from_jsonl(path: Path) -> Iterator[tuple[str, list[str]]]:
    rows = read_jsonl(path)
    for number, row in zip(_filled_lines(path), rows, strict=True):
        location = f"{path}, line {number}"
        if not isinstance(row, dict) or "mr" not in row:
            raise DataError(f"{location}: expected an object with the field 'mr'")
        references = row.get("references", [])
        if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
            raise DataError(f"{location}: field 'references' must be a list of strings, found {references!r}")
        yield _checked(row["mr"], location), references


def _from_csv(path: Path) -> Iterable[tuple[str, list[str]]]:
    """The release's files: `mr,ref` rows, or the single column `MR` of its test set without references."""
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    header = next(_cells(reader, path), [])
    if [column.lower() for column in header] != ["mr"]:
        return group_references(read_csv(path))
    mrs: list[tuple[str, list[str]]] = []
    for row in filter(None, _cells(reader, path)):
        location = f"{path}, line {reader.line_num}"
        if len(row) > 1:
            raise DataError(f"{location}: {len(row)} columns where the header has 1; quote the commas")
        mrs.append((_checked(row[0], location), []))
    return mrs


def _cells(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not well-formed CSV ({error}); quote the cells") from error


def _from_txt(path: Path) -> Iterator[tuple[str, list[str]]]:
    lines = _text(path).split("\n")
    for number in _filled_lines(path):
        yield _checked(lines[number - 1], f"{path}, line {number}"), []


def _filled_lines(path: Path) -> list[int]:
    return [number for number, line in enumerate(_text(path).split("\n"), start=1) if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
