"""One verdict per claim of both papers from the runs of one profile; what each variant of the analysis would say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from analysis.judge import solo_claims, weightlora_claims
from analysis.judge.bench import Bench, Judged
from analysis.judge.comparable import Setting, setting_of
from analysis.judge.decision import LEAST_SEEDS, VERDICTS, verdict_text
from analysis.judge.study import Analysis, Study
from analysis.load.paper_files import DIRECTORY
from analysis.load.paper_folder import Published, load_published
from analysis.load.published import Claim, PaperName
from analysis.load.runs import Experiment
from analysis.load.searches import Memory, read_memory, read_searches, unequal_searches

JUDGES: dict[str, Callable[[Bench, Claim], Judged]] = {**solo_claims.JUDGES, **weightlora_claims.JUDGES}
"""The claim's key -> its judge."""


@dataclass(frozen=True)
class JudgedBench(Bench):
    """A bench with its verdicts."""

    @cached_property
    def verdicts(self) -> list[Judged]:
        """One verdict per claim of either paper, in the order of claims.yaml."""
        return judge(self.study, self.published, self.memory)

    def of_paper(self, paper: PaperName) -> list[Judged]:
        """The verdicts on one paper's claims."""
        return [judged for judged in self.verdicts if judged.claim.paper == paper]

    @cached_property
    def sensitivity(self) -> list[Sensitivity]:
        """What other analyses would have said of every claim that compares runs; empty where nothing is tested."""
        return [] if self.never_tests else sensitivity(self.study, self.published, self.verdicts, self.memory)


def load_bench(
    profile: str,
    experiments: Sequence[Experiment],
    searches: str | Path | None = None,
    measurements: str | Path | None = None,
    published: str | Path = DIRECTORY,
) -> JudgedBench:
    """The bench of one profile's experiments; its folders of searches and measurements may be absent."""
    found, broken = read_searches(searches)
    memory, problems = read_memory(measurements)
    everything = load_published(published)
    study = Study.of(experiments, found, profile, everything.judgement)
    unequal_ones = unequal_searches(study.experiments, found)
    return JudgedBench(study, everything, memory, (*broken, *problems, *unequal_ones))


def judge(study: Study, published: Published | None = None, memory: Memory | None = None) -> list[Judged]:
    """One verdict per claim of either paper, in the order of claims.yaml."""
    bench = Bench(study, published or load_published(), memory)
    claims = [claim for paper in bench.published.claims.papers for claim in bench.published.claims.of(paper)]
    return [JUDGES[claim.key](bench, claim) for claim in claims]


@dataclass(frozen=True)
class Sensitivity:
    """What one claim's verdict would be under other analyses: (analysis, verdict) pairs, the judged one first; of
    tasks that are pooled, (`CoLA on MiniLM-L6`, verdict without it) too.
    """

    claim: Claim
    variants: tuple[tuple[str, str], ...]
    by_task: tuple[tuple[str, str], ...] = ()

    @property
    def decisive(self) -> tuple[tuple[str, str], ...]:
        """The tasks without which the verdict is another, with that verdict."""
        return tuple((task, verdict) for task, verdict in self.by_task if verdict != self.variants[0][1])


VARIANTS: tuple[tuple[str, Analysis], ...] = (
    ("every task, learned or not", Analysis(gate=False)),
    ("processors ignored", Analysis(processors=False)),
    ("the test over seeds alone", Analysis(test="seeds")),
    ("the test over seeds and items alone", Analysis(test="seeds and items")),
)


def sensitivity(
    study: Study, published: Published, verdicts: Sequence[Judged], memory: Memory | None = None
) -> list[Sensitivity]:
    """For every claim with a comparison: without the gate, by one test alone, with every two seeds left out, and, of
    tasks that are pooled, without each.
    """
    compared = [judged for judged in verdicts if any(case.findings for case in judged.cases)]
    if not compared:
        return []
    seeds = sorted(
        {s for judged in compared for case in judged.cases for f in case.findings for s in f.difference.seeds}
    )

    def under(analysis: Analysis) -> dict[str, str]:
        found = judge(replace(study, analysis=analysis), published, memory)
        return {judged.claim.id: judged.verdict_shown for judged in found}

    alone = [(name, under(analysis)) for name, analysis in VARIANTS]
    pairs = {pair: under(Analysis(left_out=pair)) for pair in combinations(seeds, 2)}
    pooled = {judged.claim.id: _pooled(judged, study) for judged in compared}
    fewer = {
        setting: under(Analysis(without=(setting,)))
        for setting in study.settings
        if setting in set().union(*pooled.values())
    }
    variants = []
    for judged in compared:
        key = judged.claim.id
        fewer_seeds = combinations(_seeds(judged), 2) if (judged.seeds or 0) >= LEAST_SEEDS + 2 else ()
        by_pair = [pairs[pair][key] for pair in fewer_seeds]  # of fewer seeds no pair leaves enough for a verdict
        by_task = {study.title(setting): fewer[setting][key] for setting in pooled[key]}
        more = ("two seeds fewer", _tally(by_pair)), ("one task fewer", _named(by_task))
        variants.append(
            Sensitivity(
                judged.claim,
                (
                    ("as judged", judged.verdict_shown),
                    *((name, found[key]) for name, found in alone),
                    *more,
                ),
                tuple(by_task.items()),
            )
        )
    return variants


def _seeds(judged: Judged) -> list[int]:
    """Every seed of its comparisons, ascending."""
    findings = [finding for case in judged.cases for finding in case.findings]
    return sorted({seed for finding in findings for seed in finding.difference.seeds})


def _pooled(judged: Judged, study: Study) -> list[Setting]:
    """The tasks that its primary comparisons pool; none where each is of one task."""
    settings = {experiment.name: setting_of(experiment) for experiment in study.experiments}
    each = ({settings[run] for run in case.runs} for case in judged.cases if case.role == "primary")
    found = set().union(*(tasks for tasks in each if len(tasks) > 1))
    return [setting for setting in study.settings if setting in found]


def _named(verdicts: Mapping[str, str]) -> str:
    """`contradicted (4 of 5 tasks), cannot tell (without MNLI)`: the tasks that turn the commonest verdict by name."""
    if not verdicts:
        return "–"
    (usual, times), *others = Counter(verdicts.values()).most_common()
    parts = [f"{usual} ({times} of {len(verdicts)} tasks)"]
    for verdict, _ in others:
        names = [title.split(" on ")[0] for title, found in verdicts.items() if found == verdict]
        parts.append(f"{verdict} (without {' or '.join(names)})")
    return ", ".join(parts)


def _tally(verdicts: Sequence[str]) -> str:
    """`cannot tell (28 of 28 pairs)`; several kinds each with their number; a dash without any."""
    order = [verdict_text(verdict) for verdict in VERDICTS]
    counts = sorted(Counter(verdicts).items(), key=lambda entry: order.index(entry[0].split(":")[0]))
    return ", ".join(f"{verdict} ({count} of {len(verdicts)} pairs)" for verdict, count in counts) or "–"


def verdict_list(verdicts: Sequence[Judged], *, brief: bool = False) -> str:
    """Verdicts as a Markdown list: the verdict, the claim and the reason, followed by the observations.

    `brief` leaves out untested cases, which the reason names.
    """
    lines = []
    for judged in verdicts:
        left_out = {case.text for case in judged.cases if case.untested is not None} if brief else set()
        lines.append(
            f"- **Claim {judged.claim.number}: {judged.verdict_shown}.** {judged.claim.text} {judged.reason}\n"
        )
        lines += [f"  - {line}\n" for line in (*judged.observed, *judged.draws) if line not in left_out]
    return "".join(lines)
