"""`replicate score`: scores of predictions in files, as the official scripts give them (docs/scoring.md).

Exit codes: 0 every metric that this machine can compute; 1 METEOR's Java program failed, the other scores stand; 2 an
input that cannot be scored, which the message names.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.commands.outputs import check_output
from replication.errors import ConfigError, DataError
from replication.terminal import console, examples, working

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from replication.metrics import Metric, Scores
    from replication.metrics.comparison import Difference
    from replication.metrics.metric import Rows

score_app = typer.Typer(name="score", help="Score predictions as the official scripts do.", no_args_is_help=True)

Predictions = Annotated[
    Path | None, typer.Option("--predictions", "-p", help="File of predictions; - is standard input.")
]
References = Annotated[
    Path | None,
    typer.Option("--references", "-r", help="File of references or labels; not needed where predictions hold them."),
]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", "-s", metavar="NAME=FILE", help="One of several systems, compared with the first."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
PerExample = Annotated[
    Path | None, typer.Option("--per-example", metavar="FILE", help="Write the scores of each item as JSON lines.")
]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", metavar="N", min=0, help="95 % intervals from N resamples of the items.")
]


def register(app: typer.Typer) -> None:
    """Add `score` and its sub-commands to the root command."""
    app.add_typer(score_app, name="score")


@dataclass(frozen=True)
class _Output:
    """What the options ask for."""

    as_json: bool
    per_example: Path | None
    resamples: int

    def __post_init__(self) -> None:
        """Refuse a file that cannot be written."""
        check_output("--per-example", self.per_example)


@dataclass
class _Result:
    protocol: str
    systems: Mapping[str, Scores]
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def _epilog(*commands: str) -> str:
    return examples(*(f"replicate score {command}" for command in commands))


@score_app.command(
    "e2e",
    epilog=_epilog(
        "e2e -p runs/quick/lora/predictions/seed-18.jsonl",
        "e2e\n-s solo=runs/quick/solo_connection/predictions/seed-18.jsonl\n"
        "-s lora=runs/quick/lora/predictions/seed-18.jsonl --bootstrap 200",
    ),
)
def score_e2e_command(
    predictions: Predictions = None,
    references: References = None,
    systems: Systems = None,
    as_json: AsJson = False,
    per_example: PerExample = None,
    bootstrap: Bootstrap = 0,
    java: Annotated[
        bool, typer.Option("--java/--no-java", help="--no-java scores as on a machine without Java.")
    ] = True,
) -> None:
    """BLEU, NIST, METEOR, ROUGE-L and CIDEr as in the E2E challenge's scripts (Python mteval mode).

    Files: plain text (one prediction a line; references separated by blank lines), CSV or TSV of input and text, JSON.
    """
    files = _files(predictions, systems)
    rows, notes = _generated(files, references)
    line = "E2E challenge scripts, Python mteval mode: BLEU-4, NIST-5; METEOR 1.5; ROUGE-L and CIDEr-D of pycocoevalcap"
    _score("e2e", line, rows, notes, _Output(as_json, per_example, bootstrap), java=java)


@score_app.command("rouge", epilog=_epilog("rouge\n-p runs/quick/headlines-lora/predictions/seed-18.jsonl"))
def score_rouge_command(
    predictions: Predictions = None,
    references: References = None,
    systems: Systems = None,
    as_json: AsJson = False,
    per_example: PerExample = None,
    bootstrap: Bootstrap = 0,
) -> None:
    """ROUGE-1, 2, L and Lsum of summaries by Google's rouge-score.

    Files as those of `replicate score e2e`, items named by "id": plain text has one summary a line.
    """
    rows, notes = _generated(_files(predictions, systems), references)
    line = (
        "rouge-score with Porter stemming, F-measure, best reference; rougeL: whole texts; rougeLsum: sentence by "
        "sentence, split at newlines and by the rules of replication/metrics/sentences.py"
    )
    _score("rouge", line, rows, notes, _Output(as_json, per_example, bootstrap))


@score_app.command(
    "glue",
    epilog=_epilog("glue --task sst2\n-p runs/quick/sentiment-lora/predictions/seed-18.jsonl"),
)
def score_glue_command(
    task: Annotated[
        str,
        typer.Option(
            "--task", "-t", help="cola, mnli, mnli_matched, mnli_mismatched, mrpc, qnli, qqp, rte, sst2, stsb or wnli."
        ),
    ],
    predictions: Predictions = None,
    references: References = None,
    systems: Systems = None,
    as_json: AsJson = False,
    per_example: PerExample = None,
    bootstrap: Bootstrap = 0,
) -> None:
    """The official metrics of a GLUE task.

    Predictions: a GLUE submission (index, prediction; classes by name or number), one value a line, or JSON rows.
    Labels: the task's own TSV file, one a line, or JSON rows with "label".
    """
    from replication.metrics.guard import CLASSES, check_classes
    from replication.metrics.task_files import labelled

    known = sorted({*CLASSES, "stsb", "mnli_matched", "mnli_mismatched"})
    if task not in known:
        raise ConfigError(f"--task {task}: unknown; known are: {', '.join(known)}")
    rows = {name: labelled(path, references, task) for name, path in _files(predictions, systems).items()}
    base = task.split("_")[0]
    for system in rows.values():
        check_classes(base, system)
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES.get(base, ())))
    protocol = "accuracy" if task in ("wnli", "mnli_matched", "mnli_mismatched") else task
    _score(protocol, f"GLUE {task}: {classes or 'numbers'}", rows, (), _Output(as_json, per_example, bootstrap))


@score_app.command(
    "squad",
    epilog=_epilog("squad -p runs/quick/qa-lora/predictions/seed-18.jsonl"),
)
def score_squad_command(
    predictions: Predictions = None,
    references: References = None,
    systems: Systems = None,
    na_prob: Annotated[
        Path | None,
        typer.Option("--na-prob", help="JSON of question id: probability of no answer, for the best threshold (v2)."),
    ] = None,
    as_json: AsJson = False,
    per_example: PerExample = None,
    bootstrap: Bootstrap = 0,
) -> None:
    """Exact match and F1 of SQuAD 1.1 or 2.0, which the data set says; of 2.0 HasAns, NoAns and the best threshold.

    Predictions: the official dictionary of question id: answer, or rows with "id" and "prediction_text". References:
    the official JSON, or rows with "id" and "answers".
    """
    from replication.corpora.evaluation import SQUAD
    from replication.metrics.task_files import answered

    files = _files(predictions, systems)
    if na_prob and len(files) > 1:
        raise ConfigError("--na-prob belongs to one system; put no_answer_probability into the rows of several")
    read = {name: answered(path, references, na_prob) for name, path in files.items()}
    protocol = f"squad_v{max(version for _, version in read.values())}"
    rows = {name: found for name, (found, _) in read.items()}
    _score(protocol, f"{SQUAD[protocol]}; fractions", rows, (), _Output(as_json, per_example, bootstrap))


@score_app.command("choice", epilog=_epilog("choice\n-p runs/quick/llama-choice-lora/predictions/seed-18.jsonl"))
def score_choice_command(
    predictions: Predictions = None,
    references: References = None,
    systems: Systems = None,
    as_json: AsJson = False,
    per_example: PerExample = None,
    bootstrap: Bootstrap = 0,
) -> None:
    """acc and acc_norm of multiple choice, as lm-evaluation-harness names them.

    Rows hold "label", "log_likelihoods" and "lengths" (a number for each choice); numbers of choices alone give acc.
    """
    from replication.metrics.task_files import labelled

    rows = {name: labelled(path, references, None) for name, path in _files(predictions, systems).items()}
    scored = all("log_likelihoods" in row for system in rows.values() for row in system)
    line = "acc: the choice of the greatest log-likelihood; acc_norm: of the greatest log-likelihood over its length"
    plain = "accuracy of the predicted choices; no log-likelihoods, so no acc_norm"
    output = _Output(as_json, per_example, bootstrap)
    _score("acc" if scored else "accuracy", line if scored else plain, rows, (), output)


def _files(predictions: Path | None, systems: list[str] | None) -> dict[str, Path]:
    """Name of each system -> its file; a single one has the name ""."""
    if (predictions is None) == (not systems):
        raise ConfigError("pass one file with --predictions FILE, or several with --system NAME=FILE")
    if predictions is not None:
        return {"": predictions}
    files: dict[str, Path] = {}
    for entry in systems or ():
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"--system {entry}: expected NAME=FILE")
        if name in files:
            raise ConfigError(f"--system {entry}: the name {name} is taken")
        files[name] = Path(path)
    return files


def _generated(files: Mapping[str, Path], references: Path | None) -> tuple[dict[str, Rows], tuple[str, ...]]:
    from replication.metrics.score_files import read_items

    rows: dict[str, Rows] = {}
    notes: list[str] = []
    for name, path in files.items():
        items = read_items(path, references)
        notes += items.notes
        names: Sequence[str | int] = items.inputs or range(len(items.predictions))
        triples = zip(names, items.predictions, items.references, strict=True)
        rows[name] = [{"id": item, "prediction": said, "references": golds} for item, said, golds in triples]
    return rows, tuple(notes)


def _score(
    protocol: str, line: str, systems: Mapping[str, Rows], notes: tuple[str, ...], output: _Output, *, java: bool = True
) -> None:
    from replication.fileio import write_jsonl
    from replication.metrics import reported, score_systems
    from replication.metrics.comparison import Difference, aligned, ends, item_scores, replicates

    systems = aligned(systems, ("label", "answers"))
    _same_references(systems)
    with working("scoring") as say:
        scores = score_systems(protocol, systems, java="auto" if java else None, progress=say, keep_going=True)
        first, *others = systems
        metrics = [metric for metric in reported(protocol) if metric.name in scores[first].values]
        result = _Result(line, scores)
        drawn = {}
        if output.resamples:
            for name, rows in systems.items():
                say(f"resampling {name}".strip())
                drawn[name] = replicates(metrics, rows, output.resamples)
                result.intervals[name] = {metric: ends(values) for metric, values in drawn[name].items()}
        for name in others:
            for metric in metrics:
                a, b = scores[name].values[metric.name], scores[first].values[metric.name]
                both = drawn and metric.name in drawn[name]
                interval = ends(drawn[name][metric.name] - drawn[first][metric.name]) if both else (None, None)
                if a is not None and b is not None:
                    result.differences.append(Difference(name, first, metric.name, a - b, *interval))
        if output.per_example:
            say("scoring each example")
            named = ((name, row) for name, rows in systems.items() for row in item_scores(metrics, rows))
            write_jsonl(output.per_example, ({**({"system": name} if name else {}), **row} for name, row in named))
    if output.as_json:
        typer.echo(json.dumps(_as_json(result, notes), ensure_ascii=False, indent=2))
    else:
        _print(result, metrics, notes)
    if failed := {name: why for found in scores.values() for name, why in found.failed.items()}:
        for name, why in failed.items():
            print(f"score: {name} is missing: {why}", file=sys.stderr)
        raise typer.Exit(1)


def _same_references(systems: Mapping[str, Rows]) -> None:
    """DataError where a text has other references than the first system's; their order does not matter."""
    (first, rows), *others = systems.items()
    for name, theirs in others:
        for one, other in zip(rows, theirs, strict=True):
            if sorted(one.get("references", ())) != sorted(other.get("references", ())):
                raise DataError(f"{name}, item {one['id']!r}: its references are not those of {first}")


def _as_json(result: _Result, notes: tuple[str, ...]) -> dict[str, Any]:
    """Of one system its scores and what they are; of several `systems` by name and `differences` from the first."""
    systems = {}
    for name, scores in result.systems.items():
        found = scores.to_dict()
        found["notes"] += notes
        if result.intervals:
            found["intervals"] = {metric: list(pair) for metric, pair in result.intervals[name].items()}
        systems[name] = found
    if list(systems) == [""]:
        return {**systems[""], "protocol": result.protocol}
    differences = [difference.to_dict() for difference in result.differences]
    return {"protocol": result.protocol, "systems": systems, "differences": differences}


def _print(result: _Result, metrics: Sequence[Metric], notes: tuple[str, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console()
    first = next(iter(result.systems.values()))
    out.print(_scores_table(result, metrics))
    if result.differences:
        table = Table(title=f"Differences from {escape(result.differences[0].against)} on the same items")
        for heading in ("metric", "system", "difference", "95 % interval"):
            table.add_column(heading)
        for found in result.differences:
            interval = "-" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
            table.add_row(found.metric, escape(found.system), f"{found.difference:+.4f}", interval)
        out.print(table)
    out.print(f"Protocol: {result.protocol}.", markup=False)
    if any(metric.java != "no" for metric in metrics):
        out.print(f"Tokenizer of METEOR, ROUGE_L and CIDEr: {first.tokenizer}.", markup=False)
    if first.approximate or (first.missing and not first.failed):
        out.print("BLEU and NIST are exact. Install a Java runtime (Debian: default-jre-headless) for the rest.")
    for name, scores in result.systems.items():
        for note in scores.notes:
            out.print(f"Note{f' on {name}' if name else ''}: {note}.", markup=False)
    for note in notes:
        out.print(f"Note: {note}.", markup=False)


def _scores_table(result: _Result, metrics: Sequence[Metric]) -> Table:
    """A column a system; of more than two, which 80 columns do not hold, a row each."""
    from rich.markup import escape
    from rich.table import Table

    first = next(iter(result.systems.values()))
    across, down = (list(result.systems), []) if len(result.systems) <= 2 else ([], list(result.systems))
    table = Table("metric", title=f"Scores of {first.items:,} items")
    if down:
        table.add_column("system", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
    for name in across:
        table.add_column(escape(name) or "score", justify="right")
    table.add_column("status")
    for metric in metrics:
        for name in down:
            cell = _cell(result, name, metric.name)
            table.add_row(metric.name, escape(name), cell, _status(result.systems[name], metric.name))
        if across:
            cells = [_cell(result, name, metric.name) for name in across]
            said = dict.fromkeys(_status(result.systems[name], metric.name) for name in across)
            table.add_row(metric.name, *cells, "; ".join(said))
    return table


def _cell(result: _Result, name: str, metric: str) -> str:
    value = result.systems[name].values[metric]
    pair = result.intervals.get(name, {}).get(metric)
    text = "-" if value is None else f"{value:.4f}"
    return f"{text} [{pair[0]:.4f}, {pair[1]:.4f}]" if pair else text


def _status(scores: Scores, metric: str) -> str:
    if metric in scores.failed:
        return "missing: its Java program failed"
    if metric in scores.approximate:
        return "approximate: not the official tokenizer"
    return "missing: needs Java" if metric in scores.missing else "official"
