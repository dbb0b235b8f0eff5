"""The words of the report: what a profile is, what is missing, how to read it, how a claim is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analysis.judge.best import RULE
from analysis.judge.decision import ALPHA, LEAST_SEEDS, MEANING, POWER, VERDICTS, verdict_text
from analysis.judge.number_format import listed, percent
from analysis.judge.study import Row, Study, learned_rule
from analysis.load.names import ARROW, backbone_name
from analysis.load.paper_files import Source
from analysis.load.paper_folder import Published
from analysis.load.published import PublishedTable
from analysis.load.runs import Experiment, experiment_labels
from replication.metrics.registry import named

EXAMPLES = 4
REFERENCES_SHOWN = 3
CORPORA_NAMED = 2
MISSING_NAMED = 3
TALLIES = {
    "quick": "Toy models on a synthetic corpus: these results do not show whether a paper's claims hold.",
    "cpu": "Other backbones than the papers' and fewer steps: a verdict holds only for these settings, and none is a "
    "reproduction of a published figure.",
}
ABOUT = {
    "quick": (
        "The quick profile runs every stage of the pipeline for both papers in minutes: it pretrains a small GPT-2, "
        "DeBERTa, BART and Llama on an embedded synthetic corpus, fine-tunes them with each method, predicts and "
        "scores. It is for teaching, testing and seeing that the methods work.",
        "It is not a reproduction of any published figure: the models, the corpora and the number of steps all differ "
        "from the papers'. Its scores say nothing about GPT-2 on E2E NLG or DeBERTaV3 on GLUE, and no verdict on a "
        "paper is drawn from them.",
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


def tally(profile: str, counts: str) -> str:
    """The first line of the page: how many verdicts of which kind, and what the profile is."""
    return f"{profile} profile: {counts or 'no claims'}. {TALLIES.get(profile, '')}".strip()


def about(profile: str) -> tuple[str, ...]:
    """What the page shows and does not show."""
    return ABOUT.get(profile, (f"Results of the {profile} profile. It is not a reproduction of a published figure.",))


class Notice(NamedTuple):
    """A warning, and what of it a reader opens."""

    text: str
    more: str = ""


def warnings(
    experiments: Sequence[Experiment], rows: Sequence[Row], broken: Sequence[str], tolerances: Sequence[str] = ()
) -> list[Notice]:
    """What is missing or broken, so that every gap is visible.

    `broken` are further files that could not be read, `tolerances` the result of `tolerance_warnings`.
    """
    none = [] if experiments else ["There are no runs: `make reproduce` makes those of the quick profile."]
    found = [Notice(text) for text in none]
    missing = [experiment.name for experiment in experiments if experiment.status == "missing"]
    for experiment in experiments:
        if experiment.status == "missing" and len(missing) > MISSING_NAMED:
            continue
        if experiment.status != "complete":
            found.append(Notice(f"{experiment.name} ({experiment.status}): {'; '.join(experiment.problems)}."))
    if len(missing) > MISSING_NAMED:
        found.append(
            Notice(f"{len(missing)} of {len(experiments)} experiments have not been run.", f"{', '.join(missing)}.")
        )
    found += [Notice(text) for text in (*broken, *tolerances)]
    if any("METEOR" in row.missing for row in rows):
        found.append(
            Notice("METEOR was not measured, because there was no Java; the other scores do not depend on it.")
        )
    if any(row.approximate for row in rows):
        found.append(
            Notice("ROUGE-L and CIDEr are approximate (≈): without Java a pure-Python tokenizer prepares their texts.")
        )
    return found


def reading(why_not: str | None, rows: Sequence[Row] = ()) -> list[str]:
    """How to read the table of these rows, and the figures."""
    metrics = [named(name, row.form, row.protocol) for row in rows for name in row.metrics]
    lower = dict.fromkeys(f"{one.label} ({one.scale})" for one in metrics if not one.higher_is_better)
    but = f", but lower for {listed(list(lower))}" if lower else " for all of them"
    lines = [
        "Scores are on the official scripts' scale: BLEU 0.72, accuracy 0.86, where papers report 72 and 86. Higher is "
        f"better{but}; Matthews, Pearson and Spearman are correlations.",
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
        "A training loss has no test items: there the t-test over seeds decides. Parameters are counted; of "
        "memory every repeat of a measurement must lie on one side: nothing is tested.",
    ]


def examples(study: Study, count: int = EXAMPLES) -> list[Example]:
    """Items of the generation task, spread evenly, with every compared experiment's prediction of its first seed."""
    experiments = study.generation.compared
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
    seeds = sorted({next(iter(e.predictions)) for e in study.generation.compared if e.predictions})
    return f"Test items spread evenly over the test set, not picked; seed {', '.join(map(str, seeds))}."


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
