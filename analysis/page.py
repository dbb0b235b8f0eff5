"""The words and small tables of the report page; `report.py` puts them into the template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from analysis.cells import CellComparison
from analysis.costs import format_bytes
from analysis.drawing import INK, Drawing
from analysis.published import PublishedTable, Source
from analysis.records import Experiment, Search
from analysis.results import BACKBONE_NAMES, ResultRow, experiment_labels
from analysis.tables import METRIC_NAMES, Block, format_count, format_score

EXAMPLES = 4
REFERENCES_SHOWN = 3
CONTENTS = (
    ("about", "What this is"), ("results", "Results"), ("reading", "How to read"), ("figures", "Figures"),
    ("claims", "Claims"), ("examples", "Examples"), ("cost", "Cost"), ("conditions", "Seeds and conditions"),
    ("deviations", "Deviations"), ("sources", "Sources"),
)  # fmt: skip
ABOUT = {
    "quick": (
        "The quick profile runs every stage of the pipeline in minutes: it pretrains a small GPT-2 on "
        "the embedded "
        "synthetic corpus, fine-tunes it with each method, decodes and scores. It is for teaching, "
        "testing and seeing "
        "that the methods work.",
        "It is not a reproduction of any printed figure: the model, the corpus and the number of steps "
        "are all other than "
        "the paper's. Its scores say nothing about GPT-2 on E2E NLG, and no verdict on the paper is "
        "drawn from them.",
    ),
    "cpu": (
        "The cpu profile fine-tunes SmolLM2-135M, not GPT-2, on a part of the real E2E NLG corpus, on "
        "two processor cores.",
        "It is not a reproduction of any printed figure: the backbone is another one, and only a part of "
        "the data and of "
        "the training steps is used. No verdict on the paper is drawn from it.",
    ),
    "paper": (
        "The paper profile uses the paper's backbone, corpus, recipe and decoding. Its means are "
        "compared with printed "
        "cells within tolerances that were fixed before any run.",
    ),
}


@dataclass(frozen=True)
class Example:
    """One test item with its references and what each experiment made of it."""

    context: str
    references: tuple[str, ...]
    more: int
    predictions: tuple[tuple[str, str], ...]


def subtitle(profile: str, experiments: Sequence[Experiment]) -> str:
    """Profile, corpus and backbone in one line."""
    records = [experiment.record for experiment in experiments if experiment.record]
    corpora = sorted({record.corpus.label for record in records}) or ["no corpus yet"]
    backbones = [BACKBONE_NAMES.get(name, name) for name in dict.fromkeys(record.backbone for record in records)]
    return " · ".join([f"{profile} profile", *corpora, *backbones])


def about(profile: str) -> tuple[str, ...]:
    """What the page is and is not."""
    return ABOUT.get(profile, (f"Results of the {profile} profile. It is no reproduction of a printed figure.",))


def warnings(experiments: Sequence[Experiment], rows: Sequence[ResultRow], broken: Sequence[str]) -> list[str]:
    """What is missing or broken, so that no gap goes unseen; `broken` are further files that could not be read."""
    found = [] if experiments else ["There are no runs: `make reproduce` makes those of the quick profile."]
    for experiment in experiments:
        if experiment.status != "complete":
            found.append(f"{experiment.name} ({experiment.status}): {'; '.join(experiment.problems)}.")
    found += broken
    if any("METEOR" in row.missing for row in rows):
        found.append("METEOR was not measured, because there was no Java; the other scores do not depend on it.")
    if any(row.approximate for row in rows):
        found.append(
            "ROUGE-L and CIDEr are approximate (≈): without Java a pure-Python tokenizer prepares their texts."
        )
    return found


def reading(why_not: str | None) -> list[str]:
    """How to read the table and the figures."""
    lines = [
        "Scores are on the official scripts' scale: BLEU 0.72, where papers print 72. Higher is better for all five.",
        "± is the sample standard deviation over training seeds: would another run score alike? It is "
        "not shown for one seed.",
        "“95 % over items” resamples the test items: would other items score alike? The two "
        "uncertainties are separate; "
        "a difference between methods has to be larger than both to mean anything.",
        "“Adapter parameters” are what a method adds and trains, without a task head. Both ratios are of "
        "adapter "
        "parameters, to LoRA's on the same backbone and to full fine-tuning's.",
        "Standings of printed figures: checked, found in two places the authors publish; read, read in "
        "the paper; quoted, "
        "read in the paper, which most likely takes it over from another; unverified, quoted without a "
        "copy at hand; "
        "reported, posted by a user; unreadable, a digit could not be read.",
    ]
    if why_not is not None:
        lines.append("The printed rows stand apart because they cannot be compared with this profile. " + why_not)
    return lines


def tied(text: str) -> str:
    """Table text that breaks between a value and its spread, never inside either."""
    for loose, fast in (
        ("± ", "±\u00a0"),
        (" to ", " to\u00a0"),
        (" %", "\u00a0%"),
        ("≈ ", "≈\u00a0"),
        ("ROUGE-L", "ROUGE\u2011L"),
    ):
        text = text.replace(loose, fast)
    return text


def inline_svg(drawing: Drawing) -> Markup:
    """A figure for the page: unique ids, ink in the page's text colour, a name for screen readers."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"[^A-Za-z0-9]", "-", drawing.name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(INK, "currentColor")
    label = str(Markup.escape(drawing.alternative))
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def examples(experiments: Sequence[Experiment], count: int = EXAMPLES) -> list[Example]:
    """Items spread evenly over the test set, with every experiment's prediction of its first seed."""
    labels = experiment_labels(experiments)
    firsts = {e.name: next(iter(e.predictions.values())) for e in experiments if e.predictions}
    if not firsts:
        return []
    lead = next(iter(firsts.values()))
    chosen = [lead[index * len(lead) // count] for index in range(min(count, len(lead)))]
    by_mr = {name: {row["mr"]: row["prediction"] for row in rows} for name, rows in firsts.items()}
    return [
        Example(
            context=row["context"],
            references=tuple(row["references"][:REFERENCES_SHOWN]),
            more=max(0, len(row["references"]) - REFERENCES_SHOWN),
            predictions=tuple(
                (labels[name], predictions[row["mr"]])
                for name, predictions in by_mr.items()
                if row["mr"] in predictions
            ),
        )
        for row in chosen
    ]


def examples_note(experiments: Sequence[Experiment]) -> str:
    """Which seed the examples are of."""
    seeds = sorted({next(iter(e.predictions)) for e in experiments if e.predictions})
    return f"Test items spread evenly over the test set, not picked; seed {', '.join(map(str, seeds))}."


def cost_block(experiments: Sequence[Experiment]) -> Block:
    """What a run costs by count: the same on every machine."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        record = experiment.record
        if record is None:
            continue
        losses = [r.result.dev_loss for r in experiment.records.values() if r.result.dev_loss is not None]
        rows.append(
            (
                labels[experiment.name],
                format_count(record.result.steps),
                format_count(record.result.tokens_seen),
                format_count(record.counts.trainable),
                format_count(record.counts.total),
                format_bytes(record.adapter.bytes) if record.adapter else "none",
                f"{sum(losses) / len(losses):.4f}" if losses else "not measured",
            )
        )
    headers = (
        "Experiment",
        "Steps",
        "Tokens seen",
        "Trainable parameters",
        "Total parameters",
        "Adapter file",
        "Final dev loss, mean over seeds",
    )
    return Block("Cost by count, each seed", headers, tuple(rows))


def seeds_block(experiments: Sequence[Experiment]) -> Block:
    """Which seeds each experiment has, with their BLEU."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        scores = experiment.metrics.seeds if experiment.metrics else {}
        shown = [
            f"{seed}: {value:.4f}" if (value := scores.get(seed, {}).get("BLEU")) is not None else f"{seed}: not scored"
            for seed in experiment.seeds
        ]
        rows.append((labels[experiment.name], experiment.status, ", ".join(shown) or "none"))
    return Block("BLEU of each seed", ("Experiment", "Status", "Seed: BLEU"), tuple(rows))


def search_block(searches: dict[str, Search], experiments: Sequence[Experiment]) -> Block:
    """Which learning rates were tried for each method and which is used."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        search = searches.get(experiment.name)
        if search is None or not search.tried:
            continue
        tried = ", ".join(
            f"{entry.learning_rate:g}: "
            f"{'diverged' if entry.held_out_loss is None else format(entry.held_out_loss, '.4f')}"
            for entry in search.tried
        )
        used = experiment.record.training.get("learning_rate") if experiment.record else None
        rows.append(
            (
                labels[experiment.name],
                f"{used:g}" if used else "unknown",
                f"{search.best:g}" if search.best else "none",
                tried,
            )
        )
    return Block(
        "Learning rates: the same candidates for every method, compared on a held-out part of the training split",
        ("Experiment", "Used", "Best", "Tried: loss on the held-out part"),
        tuple(rows),
    )


def conditions(experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
    """What the results were computed with; several values stand side by side where runs differ."""
    found: dict[str, set[str]] = {}
    for experiment in experiments:
        for record in experiment.records.values():
            values: dict[str, Any] = {**record.conditions.model_dump(), **record.versions}
            values["sha256 of the tolerances"] = record.tolerances_sha256
            for name, digest in record.corpus.sha256.items():
                values[f"sha256 of {name}"] = digest
            for name, value in values.items():
                found.setdefault(name.replace("_", " "), set()).add(str(value))
    return [(name, "; ".join(sorted(values))) for name, values in found.items()]


def cells_block(cells: Sequence[CellComparison]) -> Block:
    """Measured means against printed cells, for a profile that may be compared."""
    rows = tuple(
        (
            cell.label,
            cell.printed_row,
            METRIC_NAMES[cell.metric],
            format_score(cell.measured),
            cell.printed,
            f"± {cell.half_width:g}",
            "within" if cell.agrees else "outside",
        )
        for cell in cells
    )
    headers = ("Run", "Printed row", "Metric", "Measured", "Printed", "Tolerance", "Verdict")
    return Block("Against printed cells, within paper_results/tolerances.json", headers, rows)


def sources(tables: Sequence[PublishedTable]) -> list[Source]:
    """Everything the page quotes."""
    listed = [source for table in tables for source in table.sources.values()]
    listed.append(
        Source(
            citation="First author's development code of Solo Connection, branch dev-clora: equations and counts",
            url="https://github.com/harsh306/CLoRA",
        )
    )
    listed.append(
        Source(
            citation="Official E2E metric scripts (Python mteval mode): definitions of the five scores",
            url="https://github.com/tuetschek/e2e-metrics",
        )
    )
    return listed
