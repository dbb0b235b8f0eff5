"""The report page: its sections, texts and templates.

The page loads nothing: no request at all, and of scripts one, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.judge.best import RULE
from analysis.judge.decision import ALPHA, LEAST_SEEDS, MEANING, POWER, VERDICTS, verdict_text
from analysis.judge.number_format import format_score, percent
from analysis.judge.published_vs_measured import CellVerdict
from analysis.judge.study import Row, Study, learned_rule
from analysis.load.names import ARROW, backbone_name, score_name
from analysis.load.paper_files import Source, letter, meaning
from analysis.load.paper_folder import Published
from analysis.load.published import PublishedTable
from analysis.load.runs import Experiment, experiment_labels
from analysis.show.ablations import ablation_blocks, ablation_figures, load_ablations, summary_block
from analysis.show.blocks import Block, Cell, is_numeric, sort_value
from analysis.show.drawing import FONTS, INK, Drawing
from analysis.show.full_scale_counts import parameters_block, shares_block
from analysis.show.full_scale_memory import (
    checks_block,
    gpt2_block,
    memory_block,
    memory_drawing,
    memory_words,
    orders_block,
)
from replication.errors import ConfigError
from replication.fileio import sha256_bytes


@dataclass(frozen=True)
class Section:
    """A section of the page below the two papers: its title, a paragraph or more, tables and figures.

    `key` is its anchor on the page (`#<key>`) and begins the names of its tables' files; ConfigError unless it is lower
    case letters, digits and hyphens.
    """

    key: str
    title: str
    intro: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    drawings: tuple[Drawing, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.key):
            raise ConfigError(f"section key {self.key!r}: lower case letters, digits and hyphens, such as full-scale")

    @property
    def named_blocks(self) -> tuple[Block, ...]:
        """The tables, each with a key: its own, or the section's with a number."""
        return tuple(
            block if block.key else block.named(f"{self.key}_{number}")
            for number, block in enumerate(self.blocks, start=1)
        )


EXAMPLES = 4
REFERENCES_SHOWN = 3
CORPORA_NAMED = 2
MISSING_NAMED = 3
PAPERS = (("verdicts", "Verdicts"), ("about", "What this is"), ("solo", "Solo Connection"),
          ("weightlora", "WeightLoRA"))  # fmt: skip
CONTENTS = (("corpora", "Corpora"), ("reading", "How to read"), ("cost", "Cost"),
            ("conditions", "Seeds and conditions"), ("deviations", "Deviations"), ("sources", "Sources"))  # fmt: skip
TALLIES = {
    "quick": "Toy models on a synthetic corpus: these results do not show whether a paper's claims hold.",
    "cpu": "Other backbones than the papers' and fewer steps: a verdict holds only for these settings, and none is a "
    "reproduction of a published figure.",
}
SOLO_CONTENTS = (("results", "Results"), ("figures", "Figures"), ("claims", "Claims"), ("examples", "Examples"))
ABOUT = {
    "quick": (
        "The quick profile runs every stage of the pipeline for both papers in minutes: it pretrains a small GPT-2, "
        "DeBERTa, BART and Llama on an embedded synthetic corpus, fine-tunes them with each method, predicts and "
        "scores. "
        "It is for teaching, testing and seeing that the methods work.",
        "It is not a reproduction of any published figure: the models, the corpora and the number of steps all differ "
        "from the papers'. Its scores say nothing about GPT-2 on E2E NLG or DeBERTaV3 on GLUE, and no verdict on a "
        "paper "
        "is drawn from them.",
    ),
    "cpu": (
        "The cpu profile fine-tunes weights that install from a package registry on real corpora, on two processor "
        "cores: SmolLM2-135M, not GPT-2, on a part of E2E NLG for Solo Connection; MiniLM-L6, not DeBERTaV3-base, and "
        "SmolLM2-135M, not Llama-3.1-8B, on GLUE and other tasks for WeightLoRA.",
        "It is not a reproduction of any published figure: the backbones differ, and the training steps are fewer. "
        "The claims of both papers that compare methods are tested where the runs allow it; "
        "each verdict holds for these backbones, this part of the data and these settings only. No published score is "
        "judged: every absolute figure stays not comparable.",
    ),
    "paper": (
        "The paper profile uses the papers' backbones, corpora, recipes and decoding. Its means are compared with "
        "published cells within tolerances that were fixed before any run, and with the WeightLoRA authors' own logs, "
        "whose single runs have no tolerance.",
    ),
}


@dataclass(frozen=True)
class Example:
    """One test item with its references and each experiment's prediction."""

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
    """Anchors on the page and their names in the table of contents."""
    return [*PAPERS, *((section.key, section.title) for section in sections), *CONTENTS]


def tally(profile: str, counts: str) -> str:
    """The first line of the page: how many verdicts of which kind, and what the profile is."""
    return f"{profile} profile: {counts or 'no claims'}. {TALLIES.get(profile, '')}".strip()


def about(profile: str) -> tuple[str, ...]:
    """What the page shows and does not show."""
    return ABOUT.get(profile, (f"Results of the {profile} profile. It is not a reproduction of a published figure.",))


def warnings(
    experiments: Sequence[Experiment], rows: Sequence[Row], broken: Sequence[str], tolerances: Sequence[str] = ()
) -> list[str]:
    """What is missing or broken, so that every gap is visible.

    `broken` are further files that could not be read, `tolerances` the result of `tolerance_warnings`.
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
        "Scores are on the official scripts' scale: BLEU 0.72, accuracy 0.86, where papers report 72 and 86. Higher is "
        "better for all of them; Matthews, Pearson and Spearman are correlations.",
        "± is the sample standard deviation over training seeds: would another run have a similar score? It is "
        "not shown for one seed.",
        "“95 % over items” resamples the test items: would other items give a similar score? The two "
        "uncertainties are separate; the rule for differences uses both.",
        RULE,
        ARROW,
        "“One class in 2 of 3 seeds” (or one choice, one text, one number): in these seeds the model gives the same "
        "prediction for every example.",
        "“Adapter parameters” are what a method adds and trains, without a task head. Both ratios are of "
        "adapter "
        "parameters, to LoRA's on the same backbone and to full fine-tuning's.",
        "A task tests a claim about WeightLoRA only where LoRA clearly beats the frozen backbone, whose task head "
        "alone "
        "is trained.",
        "Standings of published figures: paper, read in the paper, or quoted from it and found again in what its "
        "authors publish; authors_code, from the authors' repositories: logs, measurement files, scripts; third_party, "
        "posted, counted or measured by others; unverified, quoted without a copy at hand; unreadable, a digit could "
        "not be read. Further notes on a figure are in paper_results.",
    ]
    if why_not is not None:
        lines.append(
            "The published rows are shown separately because they cannot be compared with this profile. " + why_not
        )
    return lines


def decision_rule(published: Published) -> list[str]:
    """The decision rule: kinds of verdicts, the test, the family, the power."""
    level, power, share = percent(ALPHA, 0), percent(POWER, 0), percent(published.judgement.almost_all.share, 0)
    return [
        "Verdicts: " + "; ".join(f"{verdict_text(verdict)}: {MEANING[verdict]}" for verdict in VERDICTS) + ".",
        "A comparison is one method minus another on one metric, on the same test items and over shared seeds. Its p "
        "is the larger of two: the paired t-test over the seeds' differences, and a t-test of their mean with the "
        "variance s²/n + se² (s over seeds; se of the item bootstrap; Welch-Satterthwaite degrees of freedom). The "
        "spread over seeds does not contain the noise of the test items, which all seeds share.",
        "A claim over tasks is decided by its primary comparison: seed by seed the mean over the learned tasks, items "
        f"resampled within tasks, at {level}. Single tasks are secondary, adjusted by Holm among themselves. “Keeps "
        "the metric” means shown to be worse by less than the margin; the margin of a pooled comparison is the mean of "
        f"its tasks' margins. “Almost all cases” means ahead of every rival in {share} of the tasks, and trailing in "
        "none.",
        f"With fewer than {LEAST_SEEDS} shared seeds a comparison cannot tell. A seed whose runs were made on "
        "different types of processor is left out.",
        f"“Could detect” is the smallest true difference found with {power} probability, given the spread over these "
        "seeds and items and the number of comparisons adjusted together.",
        f"Learned: {learned_rule(published.judgement)}",
        "A training loss has no test items: there the t-test over seeds decides. Parameters are counted, memory is "
        "measured once: nothing is tested.",
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


def examples(study: Study, count: int = EXAMPLES) -> list[Example]:
    """Items of the generation task, spread evenly, with every experiment's prediction of its first seed."""
    experiments = study.generation.experiments
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


def examples_note(study: Study) -> str:
    """Which seed the examples are of."""
    seeds = sorted({next(iter(e.predictions)) for e in study.generation.experiments if e.predictions})
    return f"Test items spread evenly over the test set, not picked; seed {', '.join(map(str, seeds))}."


def cells_block(
    judged: Sequence[CellVerdict], experiments: Sequence[Experiment], tables: Sequence[PublishedTable]
) -> Block:
    """Measured means against published cells; no rows in a profile that may not be compared."""
    locations = {table.id: table.location for table in tables}
    labels = experiment_labels(experiments)
    rows = tuple(
        (
            labels[cell.experiment],
            f"{cell.label} ({locations[cell.table]})",
            score_name(cell.metric),
            format_score(cell.measured),
            Cell(cell.published, standing=cell.standing),
            f"± {cell.half_width:g}",
            cell.verdict.replace("_", " "),
            cell.reason,
        )
        for cell in judged
        if cell.experiment is not None and cell.measured is not None
    )
    headers = ("Run", "Published row", "Metric", "Measured", "Published", "Tolerance", "Verdict", "Why")
    return Block("Against published cells, within paper_results/tolerances.json", headers, rows, key="cells")


def sources(tables: Sequence[PublishedTable], further: Sequence[Source] = ()) -> list[Source]:
    """Everything the page cites."""
    listed = [source for table in tables for source in table.sources.values()]
    listed.append(
        Source(
            citation="Official E2E metric scripts (Python mteval mode): definitions of the five scores",
            url="https://github.com/tuetschek/e2e-metrics",
        )
    )
    return list({source.citation: source for source in (*listed, *further)}.values())


TEMPLATES = Path(__file__).parent / "templates"
WIDE = 48  # characters from which a text column gets room


def render(template: str, **values: object) -> str:
    """A template with the page's style and its one script; lines end without spaces."""
    environment = Environment(
        loader=PackageLoader("analysis.show"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"tied": tied, "cell": cell_html, "column": column_class, "sorted_by": sort_attribute}
    style, script = (_read(name) for name in ("style.css", "sort.js"))
    text = environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=Markup(policy(script)), **values
    )
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def policy(script: str) -> str:
    """The page's policy: no request at all, and of scripts the one with this text, by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def cell_html(text: str) -> Markup:
    """A cell's text with its marks: best of its column, standing of a published figure."""
    shown = escape(tied(text))
    if not isinstance(text, Cell):
        return shown
    if text.best:
        shown = Markup('<strong class="best">{}<span class="hidden"> (best)</span></strong>').format(shown)
    if text.standing:
        mark = Markup('<abbr title="{}">{}<sup>{}</sup></abbr>')
        shown = mark.format(meaning(text.standing), shown, letter(text.standing))
    return shown


def column_class(block: Block, index: int) -> Markup:
    """A column's alignment: numbers to the right, text (t) to the left, long text (w) with room. As an attribute."""
    name = _kind(block, index) if index else ""
    return Markup(f' class="{name}"') if name else Markup()


@lru_cache(maxsize=1024)
def _kind(block: Block, index: int) -> str:
    if is_numeric(block, index):
        return ""
    return "w" if max((len(row[index]) for row in block.rows), default=0) > WIDE else "t"


def sort_attribute(text: str) -> Markup:
    """`data-v` for a number whose unit changes its order (kB and MB): the column's sort key."""
    value = sort_value(text)
    plain = sort_value(text.split(" ")[0] if not text.startswith("≈") else text)
    return Markup() if value is None or value == plain else Markup(f' data-v="{value:.6g}"')


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def full_scale_counts(profile: str) -> Section | None:
    """Every published parameter count, recounted: the same for each profile, since nothing is trained."""
    return Section(
        key="full-scale-counts",
        title="Parameters at full scale",
        intro=(
            "Every published parameter count, recounted on the real architectures without memory: "
            "no weights, no training, the same in every profile. `make count-full-scale` repeats it.",
        ),
        blocks=(parameters_block(), shares_block()),
    )


def full_scale_memory(profile: str) -> Section | None:
    """Predicted peak memory at the papers' shapes, and the authors' measured files."""
    return Section(
        key="full-scale-memory",
        title="Memory at full scale, predicted",
        intro=memory_words(),
        blocks=(memory_block(), orders_block(), gpt2_block(), checks_block()),
        drawings=(memory_drawing(),),
    )


def ablations(profile: str) -> Section | None:
    """Effects of faults in the authors' code: measured on the quick profile's toy models, so shown only there."""
    found = load_ablations() if profile == "quick" else []
    if not found:
        return None
    return Section(
        key="ablations",
        title="Faults of the authors' code, measured",
        intro=(
            "Each fault that could change a result as a separate experiment, on this profile's small models and "
            "embedded corpora or from published files. `make ablations` repeats them; IMPLEMENTATION_DETAILS lists "
            "what is done instead.",
        ),
        blocks=(summary_block(found), *ablation_blocks(found)),
        drawings=tuple(ablation_figures(found)),
    )


FURTHER: tuple[Callable[[str], Section | None], ...] = (full_scale_counts, full_scale_memory, ablations)


def further_sections(profile: str) -> list[Section]:
    """Every section of `FURTHER` that applies to the profile, in order."""
    return [section for make in FURTHER if (section := make(profile)) is not None]
