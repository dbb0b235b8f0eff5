"""The plan of a profile: what is missing for each experiment and what it takes; what one card or eight can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.commands.corpus_readiness import corpus_findings
from pipelines.commands.estimates import (
    ASSUMPTION,
    CARDS,
    COPIES,
    SEARCH,
    SHARE,
    Card,
    Estimate,
    download_bytes,
    estimates,
    spread,
)
from pipelines.commands.findings import Finding, Probe
from pipelines.commands.weights_readiness import backbone_weights, holds_model, sentencepiece
from pipelines.shared.paths import weights_directory
from pipelines.shared.settings import Row, Settings
from replication.backbones import BACKBONES
from replication.corpora.registry import REAL

GIGA = 1e9
MANY = 8
"""Cards of the largest kind in the last line of the summary."""


@dataclass(frozen=True)
class Line:
    """One experiment, or one search: its estimate, and the findings that are not ready."""

    estimate: Estimate
    missing: tuple[Finding, ...]


@dataclass(frozen=True)
class Plan:
    """Everything `replicate plan` shows; `download` and `disk` in bytes, of what is not there yet."""

    profile: str
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    download: float
    disk: float

    def fitting(self, memory: int) -> list[Estimate]:
        """What fits a card of this memory, searches too."""
        return [line.estimate for line in self.lines if line.estimate.fits(memory)]

    def runnable(self, memory: int) -> int:
        """How many experiments fit such a card."""
        return sum(not estimate.is_search for estimate in self.fitting(memory))

    def hours(self, card: Card, cards: int = 1) -> float:
        """Hours of what fits, on `cards` such cards, one experiment a card."""
        return spread((estimate.hours(card) or 0.0 for estimate in self.fitting(card.memory)), cards)

    @property
    def experiments(self) -> int:
        """How many experiments the plan is about, searches apart."""
        return sum(not line.estimate.is_search for line in self.lines)

    @property
    def open(self) -> list[str]:
        """Experiments whose memory is not predicted."""
        return [line.estimate.key for line in self.lines if line.estimate.memory is None]

    @property
    def memory(self) -> tuple[int, int] | None:
        """Smallest and largest prediction, each in the profile's precision."""
        found = [one.memory[one.precision] for one in (line.estimate for line in self.lines) if one.memory is not None]
        return (min(found), max(found)) if found else None


def make_plan(
    root: Path,
    settings: Settings,
    selected: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    probe: Probe | None = None,
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> Plan:
    """The plan of these experiments; without `predict`, what is not in `known` is left open."""
    found = estimates(settings, selected, known, predict)
    pipeline = Path(settings.params_file).with_name("dvc.yaml").as_posix()
    pipeline = "" if pipeline == "dvc.yaml" else pipeline
    rows = [row_of(settings, estimate.key) for estimate in found]
    tasks = {row.task: settings.tasks[row.task] for row in rows}
    corpora = {
        key: finding for key, task in tasks.items() for finding in corpus_findings(root, [(key, task)], pipeline, probe)
    }
    names = dict.fromkeys(row.backbone for row in rows)
    weights = {name: backbone_weights(root, BACKBONES[name], probe) for name in names if name in BACKBONES}
    reader = {name: need for name in weights if (need := sentencepiece(root, BACKBONES[name])).state == "missing"}
    lines = []
    for estimate, row in zip(found, rows, strict=True):
        needs = [weights.get(row.backbone), reader.get(row.backbone), corpora.get(row.task)]
        missing = tuple(need for need in needs if need is not None and need.state in ("network", "missing", "limited"))
        lines.append(Line(estimate, missing))
    absent = [name for name in weights if not holds_model(root / weights_directory(name))]
    fetched = [name for name in absent if weights[name].state in ("network", "missing")]
    repositories = {
        str(hub.hub_id)
        for key, task in tasks.items()
        if corpora[key].state in ("network", "missing") and task.corpus in REAL and (hub := REAL[task.corpus].hub)
    }
    download = download_bytes(fetched, repositories)
    made = download_bytes(absent, ())
    runs = [estimate.disk or 0.0 for estimate in found]
    checkpoint = max(runs, default=0.0)  # of one experiment at a time: the trained weights and AdamW's two moments
    data = download_bytes((), repositories)
    return Plan(
        settings.profile,
        tuple(lines),
        tuple(_merged([finding for line in lines for finding in line.missing])),
        download,
        COPIES * made + sum(runs) + checkpoint + 3 * data,
    )


def row_of(settings: Settings, name: str) -> Row:
    """The experiment, or the case of `search@<case>`."""
    case = name.removeprefix(SEARCH)
    return settings.experiments[name] if case == name else settings.searches[case]


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of one name and text as one; where more than two stages make what is missing, the command of all."""
    fixes: dict[tuple[str, str], dict[str, None]] = {}
    states = {(finding.name, finding.text): finding for finding in findings}
    for finding in findings:
        fixes.setdefault((finding.name, finding.text), {}).update(dict.fromkeys(finding.fix))
    found = []
    for key, finding in states.items():
        fix = list(fixes[key])
        if len(fix) > 2 and all("prepare@" in command for command in fix):
            fix = [fix[0].partition("@")[0] + "  # every corpus, with network"]
        found.append(replace(finding, fix=tuple(fix)))
    return found


def as_dict(found: Plan) -> dict[str, Any]:
    """JSON form."""
    return {
        "profile": found.profile,
        "assumption": ASSUMPTION,
        "summary": {
            "experiments": found.experiments,
            "searches": len(found.lines) - found.experiments,
            "download_bytes": round(found.download),
            "disk_bytes": round(found.disk),
            "not_predicted": found.open,
            "cards": [
                {
                    "card": card.name,
                    "model": card.model,
                    "cards": cards,
                    "experiments": found.runnable(card.memory),
                    "hours": round(found.hours(card, cards), 2),
                    "too_large": _too_large(found, card),
                }
                for card, cards in _machines()
            ],
        },
        "missing": [
            {"name": need.name, "state": need.state, "text": need.text, "fix": list(need.fix)}
            for need in found.findings
        ],
        "experiments": [_line(line) for line in found.lines if not line.estimate.is_search],
        "searches": [_line(line) for line in found.lines if line.estimate.is_search],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "experiment": line.estimate.key,
        "backbone": line.estimate.backbone,
        "corpus": line.estimate.corpus,
        "precision": line.estimate.precision,
        "memory_bytes": line.estimate.memory,
        "approximate": line.estimate.approximate,
        "hours": {card.name: line.estimate.hours(card) for card in CARDS},
        "fits": {card.name: line.estimate.fits(card.memory) for card in CARDS},
        "missing": [need.name for need in line.missing],
    }


def _machines() -> list[tuple[Card, int]]:
    return [*((card, 1) for card in CARDS), (CARDS[-1], MANY)]


def _too_large(found: Plan, card: Card) -> list[str]:
    return [line.estimate.key for line in found.lines if line.estimate.fits(card.memory) is False]


def summary(found: Plan) -> list[str]:
    """At most five lines of at most 69 characters: what it takes in all, and what one card or eight can run."""
    memory = found.memory
    gpu = f", GPU {memory[0] / GIGA:.0f} to {memory[1] / GIGA:.0f} GB" if memory else ""
    lines = [
        f"{found.experiments} experiments: download {_gigabytes(found.download)}, disk {_gigabytes(found.disk)}{gpu}"
    ]
    for card, cards in _machines():
        name = f"{cards} cards of {card.name}" if cards > 1 else f"{card.name} card"
        share = f" (at {SHARE:.0%} of the peak)" if cards > 1 else ""
        lines.append(
            f"{name}: {found.runnable(card.memory)} of {found.experiments} experiments, "
            f"{hours_text(found.hours(card, cards))} h{share}"
        )
    if found.open:
        lines.append(f"not predicted: {len(found.open)}; replicate plan --profile {found.profile}")
    return lines


def _gigabytes(size: float) -> str:
    return f"{size / GIGA:.1f} GB" if size < 10 * GIGA else f"{size / GIGA:.0f} GB"


def hours_text(hours: float | None) -> str:
    """Hours with one decimal below 10; a question mark if not predicted."""
    if hours is None:
        return "?"
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"
