"""The words and small tables of the report page; `report.py` puts them into the template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from analysis.cells import CellVerdict
from analysis.decision import ALPHA, LEAST_SEEDS, POWER, SIGN_FLIP_SEEDS
from analysis.drawing import FONTS, INK, Drawing
from analysis.labels import backbone_name, experiment_labels, score_name
from analysis.published import PublishedTable, Source
from analysis.records import Experiment, of_generation
from analysis.results import ResultRow
from analysis.sections import Section
from analysis.tables import Block, Cell, format_score
from analysis.wording import percent
from replication.fileio import sha256_bytes

EXAMPLES = 4
REFERENCES_SHOWN = 3
CORPORA_NAMED = 2
MISSING_NAMED = 3
PAPERS = (("verdicts", "Verdicts"), ("about", "What this is"), ("solo", "Solo Connection"),
          ("weightlora", "WeightLoRA"))  # fmt: skip
CONTENTS = (("corpora", "Corpora"), ("reading", "How to read"), ("cost", "Cost"),
            ("conditions", "Seeds and conditions"), ("deviations", "Deviations"), ("sources", "Sources"))  # fmt: skip
TALLIES = {
    "quick": "Toy models on a synthetic corpus: nothing here says whether a paper holds.",
    "cpu": "Other backbones than the papers' and fewer steps: a verdict holds for these settings alone, and none is a "
    "reproduction of a printed figure.",
}
SOLO_CONTENTS = (("results", "Results"), ("figures", "Figures"), ("claims", "Claims"), ("examples", "Examples"))
ABOUT = {
    "quick": (
        "The quick profile runs every stage of the pipeline for both papers in minutes: it pretrains a small GPT-2, "
        "DeBERTa, BART and Llama on an embedded synthetic corpus, fine-tunes them with each method, predicts and "
        "scores. "
        "It is for teaching, testing and seeing that the methods work.",
        "It is not a reproduction of any printed figure: the models, the corpora and the number of steps are all other "
        "than the papers'. Its scores say nothing about GPT-2 on E2E NLG or DeBERTaV3 on GLUE, and no verdict on a "
        "paper "
        "is drawn from them.",
    ),
    "cpu": (
        "The cpu profile fine-tunes weights that install from a package registry on real corpora, on two processor "
        "cores: SmolLM2-135M, not GPT-2, on a part of E2E NLG for Solo Connection; MiniLM-L6, not DeBERTaV3-base, and "
        "SmolLM2-135M, not Llama-3.1-8B, on GLUE and other tasks for WeightLoRA.",
        "It is not a reproduction of any printed figure: the backbones are others, and the training steps are fewer. "
        "What the papers claim of one method against another is judged here, for both papers, where the runs allow it; "
        "each verdict holds for these backbones, this part of the data and these settings alone. No printed score is "
        "judged: every absolute figure stays not comparable.",
    ),
    "paper": (
        "The paper profile uses the papers' backbones, corpora, recipes and decoding. Its means are compared with "
        "printed cells within tolerances that were fixed before any run, and with the WeightLoRA authors' own logs, "
        "whose single runs have no tolerance.",
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
    """Profile, corpora (counted where there are many) and backbones in one line."""
    records = [experiment.record for experiment in experiments if experiment.record]
    corpora = sorted({record.corpus.label for record in records}) or ["no corpus yet"]
    if len(corpora) > CORPORA_NAMED:
        corpora = [f"{len(corpora)} corpora"]
    backbones = [backbone_name(name) for name in dict.fromkeys(record.backbone for record in records)]
    return " · ".join([f"{profile} profile", *corpora, *backbones])


def contents(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Places on the page and what the table of contents calls them."""
    return [*PAPERS, *((section.key, section.title) for section in sections), *CONTENTS]


def tally(profile: str, counts: str) -> str:
    """The first line of the page: how many verdicts of which kind, and what the profile is."""
    return f"{profile} profile: {counts or 'no claims'}. {TALLIES.get(profile, '')}".strip()


def about(profile: str) -> tuple[str, ...]:
    """What the page is and is not."""
    return ABOUT.get(profile, (f"Results of the {profile} profile. It is no reproduction of a printed figure.",))


def warnings(
    experiments: Sequence[Experiment], rows: Sequence[ResultRow], broken: Sequence[str], tolerances: Sequence[str] = ()
) -> list[str]:
    """What is missing or broken, so that no gap goes unseen.

    `broken` are further files that could not be read, `tolerances` what `cells.tolerance_warnings` says.
    """
    found = [] if experiments else ["There are no runs: `make reproduce` makes those of the quick profile."]
    missing = [experiment.name for experiment in experiments if experiment.status == "missing"]
    for experiment in experiments:
        if experiment.status == "missing" and len(missing) > MISSING_NAMED:
            continue
        if experiment.status != "complete":
            found.append(f"{experiment.name} ({experiment.status}): {'; '.join(experiment.problems)}.")
    if len(missing) > MISSING_NAMED:
        found.append(f"{len(missing)} of {len(experiments)} experiments have not been run: {', '.join(missing)}.")
    found += [*broken, *tolerances]
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
        "Scores are on the official scripts' scale: BLEU 0.72, accuracy 0.86, where papers print 72 and 86. Higher is "
        "better for all of them; Matthews, Pearson and Spearman are correlations.",
        "± is the sample standard deviation over training seeds: would another run score alike? It is "
        "not shown for one seed.",
        "“95 % over items” resamples the test items: would other items score alike? The two "
        "uncertainties are separate; "
        "a difference between methods has to be larger than both to mean anything.",
        "“Adapter parameters” are what a method adds and trains, without a task head. Both ratios are of "
        "adapter "
        "parameters, to LoRA's on the same backbone and to full fine-tuning's.",
        "A task tests a claim about WeightLoRA only where LoRA clearly beats the frozen backbone, whose task head "
        "alone "
        "is trained; otherwise it is inconclusive: did not learn.",
        "Standings of published figures: paper, read in the paper, or quoted from it and found again in what its "
        "authors publish; authors_code, from the authors' repositories: logs, measurement files, scripts; third_party, "
        "posted, counted or measured by others; unverified, quoted without a copy at hand; unreadable, a digit could "
        "not be read. What else is known of a figure stands as a note in paper_results.",
    ]
    if why_not is not None:
        lines.append("The printed rows stand apart because they cannot be compared with this profile. " + why_not)
    return lines


def decision_rule() -> list[str]:
    """The rule of `decision.py` in brief: what decides a comparison, the family, the seeds, the power."""
    level, power = percent(ALPHA, 0), percent(POWER, 0)
    return [
        "A comparison is one method minus another on one metric, on the same test items and over shared seeds. It is "
        "supported (or contradicted) only when both tests exclude zero, or the margin that the claim names, in that "
        "direction; otherwise it is inconclusive.",
        "Items: the paired bootstrap over test items of the difference of the seeds' means, two-sided, its p-value "
        f"adjusted by Holm, at {level}. Seeds: the paired 95 % t-interval over seeds. Each alone is blind to the "
        "other's noise.",
        "Holm's family is every item-level p-value that could decide a claim of one paper in one profile: comparisons "
        f"with equal budgets, {LEAST_SEEDS} or more shared seeds and scores of single items, for WeightLoRA on a task "
        "that LoRA learned. A claim with a margin puts two p-values into it.",
        f"With fewer than {LEAST_SEEDS} shared seeds a comparison is inconclusive and enters no family. A sign-flip "
        "test of n seeds has no p below 2 / 2ⁿ, so at three seeds it can never pass 0.25: it is shown from "
        f"{SIGN_FLIP_SEEDS} seeds on, beside the rule and not as part of it.",
        f"“Detectable from” is the smallest true difference that both tests together find with {power} probability, "
        "given the spread over these seeds and items and the size of the family. An effect below it can be real and "
        "still be inconclusive.",
        "A training loss has no test items: there the interval over seeds decides alone. Parameters are counted, so "
        "nothing is tested.",
    ]


def tied(text: str) -> str:
    """Table text that breaks between a value and its spread, never inside either."""
    for loose, fast in (
        ("± ", "±\u00a0"),
        (" to ", " to\u00a0"),
        (" %", "\u00a0%"),
        (" kFLOP", "\u00a0kFLOP"),
        (" MFLOP", "\u00a0MFLOP"),
        (" GFLOP", "\u00a0GFLOP"),
        (" TFLOP", "\u00a0TFLOP"),
        (" PFLOP", "\u00a0PFLOP"),
        ("≈ ", "≈\u00a0"),
        ("ROUGE-L", "ROUGE\u2011L"),
    ):
        text = text.replace(loose, fast)
    return text


def inline_svg(drawing: Drawing) -> Markup:
    """A figure for the page: unique ids, ink in the page's text colour, a title and a description."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = svg.replace(f"font-family: {FONTS}; ", "").replace(f" {FONTS}", " sans-serif")  # the page's style names them
    prefix = "f" + sha256_bytes(drawing.name.encode())[:6]  # short: every marker and line names it
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(INK, "currentColor")
    title, description = (Markup.escape(text) for text in (drawing.title, drawing.alternative))
    named = f'role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc"'
    inside = f'<title id="{prefix}-title">{title}</title>\n<desc id="{prefix}-desc">{description}</desc>'
    return Markup(re.sub(r"<svg ([^>]*)>", lambda tag: f"<svg {named} {tag[1]}>\n{inside}", svg, count=1))


def examples(experiments: Sequence[Experiment], count: int = EXAMPLES) -> list[Example]:
    """Items of the generation task, spread evenly, with every experiment's prediction of its first seed."""
    experiments = of_generation(experiments)
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
    seeds = sorted({next(iter(e.predictions)) for e in of_generation(experiments) if e.predictions})
    return f"Test items spread evenly over the test set, not picked; seed {', '.join(map(str, seeds))}."


def cells_block(
    judged: Sequence[CellVerdict], experiments: Sequence[Experiment], tables: Sequence[PublishedTable]
) -> Block:
    """Measured means against printed cells; no rows in a profile that may not be compared."""
    places = {table.id: table.place for table in tables}
    labels = experiment_labels(experiments)
    rows = tuple(
        (
            labels[cell.experiment],
            f"{cell.label} ({places[cell.table]})",
            score_name(cell.metric),
            format_score(cell.measured),
            Cell(cell.printed, standing=cell.standing),
            f"± {cell.half_width:g}",
            cell.word.replace("_", " "),
            cell.reason,
        )
        for cell in judged
        if cell.experiment is not None and cell.measured is not None
    )
    headers = ("Run", "Printed row", "Metric", "Measured", "Printed", "Tolerance", "Verdict", "Why")
    return Block("Against printed cells, within paper_results/tolerances.json", headers, rows, key="cells")


def sources(tables: Sequence[PublishedTable], further: Sequence[Source] = ()) -> list[Source]:
    """Everything the page quotes."""
    listed = [source for table in tables for source in table.sources.values()]
    listed.append(
        Source(
            citation="Official E2E metric scripts (Python mteval mode): definitions of the five scores",
            url="https://github.com/tuetschek/e2e-metrics",
        )
    )
    return list({source.citation: source for source in (*listed, *further)}.values())
