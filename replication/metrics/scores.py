"""The five E2E scores together: one or several systems against the same references, with or without Java.

With Java every score is the official one. Without it BLEU and NIST stay exact, METEOR is missing (never
replaced), and ROUGE-L and CIDEr use `approximate_tokenizer` and are labelled approximate. Measured against
the official tokenizer: the same ROUGE-L and CIDEr on the scripts' own example (10 items); the same tokens
for 99.91 % of the 51,426 references of the E2E release; and, with the first human reference scored against
the others on the 616 test items that have several, ROUGE-L within 0.00001 (0.6381) and CIDEr 0.0001 too
high (1.8572).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from replication.errors import DataError
from replication.metrics import approximate_tokenizer, mteval_tokenizer, ptb_tokenizer
from replication.metrics.bleu import bleu_from_statistics, statistics_from_counts
from replication.metrics.cider import cider
from replication.metrics.java import JavaChoice, resolve_java
from replication.metrics.meteor import Meteor
from replication.metrics.ngrams import ReferenceCounts, count_references
from replication.metrics.nist import nist_from_counts
from replication.metrics.rouge_l import rouge_l

METRICS = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
"""Keys of every result, in the official scripts' order."""

SHORT = 4
"""A prediction of fewer words has, in the official NIST, a negative number of n-grams (BLEU: under three)."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class E2EScores:
    """Scores of one system, and how far they are the official ones."""

    values: dict[str, float | None]
    """One entry per name in METRICS; BLEU, METEOR and ROUGE_L of 0 to 1, CIDEr of 0 to 10; None where
    missing."""
    items: int
    approximate: tuple[str, ...]
    """Metrics computed by the official formula on another tokenisation."""
    missing: tuple[str, ...]
    tokenizer: str
    """What tokenised the texts for METEOR, ROUGE-L and CIDEr."""
    notes: tuple[str, ...] = ()
    """Properties of the predictions that a reader of the scores should know."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the five keys, then items, approximate, missing, tokenizer and notes."""
        return {
            **self.values,
            "items": self.items,
            "approximate": list(self.approximate),
            "missing": list(self.missing),
            "tokenizer": self.tokenizer,
            "notes": list(self.notes),
        }


def e2e_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, java: JavaChoice = "auto"
) -> dict[str, float | None]:
    """BLEU, NIST, METEOR, ROUGE_L and CIDEr of raw texts; `references[i]` lists those of `predictions[i]`.

    METEOR is None without Java; `score_e2e` also says what is approximate. DataError names the first
    unusable item.
    """
    return score_e2e(predictions, references, java=java).values


def score_e2e(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    java: JavaChoice = "auto",
    progress: Progress | None = None,
) -> E2EScores:
    """`e2e_scores` with what is approximate or missing. `java`: "auto", a path, or None to score without."""
    return score_many({"": predictions}, references, java=java, progress=progress)[""]


def score_many(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    java: JavaChoice = "auto",
    progress: Progress | None = None,
) -> dict[str, E2EScores]:
    """Score several systems (name -> predictions), counting the references and starting METEOR only once.

    `progress` is called with a few words before each step. DataError: lengths differ, an item without a
    reference, something that is not text. ReplicationError: a Java program failed.
    """
    say = progress or (lambda step: None)
    for name, predictions in systems.items():
        check_items(predictions, references, name)
    say("looking for Java")
    program = resolve_java(java)
    with ExitStack() as stack:
        meteor = stack.enter_context(Meteor(program)) if program and systems else None
        say("counting the references")
        counted = [count_references(texts) for texts in references]
        say("tokenising the references")
        flat = _tokenize([text for texts in references for text in texts], program)
        remaining = iter(flat)
        tokenized = [[next(remaining) for _ in texts] for texts in references]
        return {
            name: _score_system(name, predictions, counted, tokenized, program, meteor, say)
            for name, predictions in systems.items()
        }


def _score_system(
    name: str,
    predictions: Sequence[str],
    counted: Sequence[ReferenceCounts],
    references: Sequence[Sequence[str]],
    java: str | None,
    meteor: Meteor | None,
    say: Progress,
) -> E2EScores:
    where = f" of {name}" if name else ""
    say(f"BLEU and NIST{where}")
    words = [mteval_tokenizer.tokenize(text) for text in predictions]
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    values["BLEU"] = bleu_from_statistics(statistics_from_counts(words, counted).sum(axis=0))
    values["NIST"] = nist_from_counts(words, counted)
    say(f"tokenising the predictions{where}")
    tokenized = _tokenize(predictions, java)
    say(f"ROUGE-L and CIDEr{where}")
    values["ROUGE_L"] = rouge_l(tokenized, references)
    values["CIDEr"] = cider(tokenized, references)
    if meteor is not None:
        say(f"METEOR{where} (Java; its first answer takes some seconds)")
        values["METEOR"] = meteor.corpus_score(tokenized, references)
    return E2EScores(
        values=values,
        items=len(predictions),
        approximate=() if java else ("ROUGE_L", "CIDEr"),
        missing=() if java else ("METEOR",),
        tokenizer="Stanford PTBTokenizer (Java)" if java else "pure-Python Penn Treebank rules (no Java)",
        notes=_notes(words),
    )


def _tokenize(texts: Sequence[str], java: str | None) -> list[str]:
    return ptb_tokenizer.tokenize(texts, java) if java else approximate_tokenizer.tokenize(texts)


def _notes(words: Sequence[Sequence[str]]) -> tuple[str, ...]:
    notes = []
    empty = sum(tokens == [""] for tokens in words)
    if empty:
        notes.append(f"{empty} of {len(words)} predictions are empty")
    short = sum(len(tokens) < SHORT for tokens in words)
    if short:
        notes.append(
            f"{short} of {len(words)} predictions have fewer than {SHORT} words; the official script "
            "subtracts n-grams for them, so BLEU and NIST can be too high, BLEU even above 1"
        )
    return tuple(notes)


def check_items(predictions: Sequence[str], references: Sequence[Sequence[str]], name: str = "") -> None:
    """Raise DataError naming the first item that cannot be scored."""
    where = f"{name}: " if name else ""
    for what, value in (("predictions", predictions), ("references", references)):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise DataError(f"{where}{what} is {type(value).__name__}; give a list, one entry per item")
    if len(predictions) != len(references):
        raise DataError(
            f"{where}{len(predictions)} predictions but references for {len(references)} items; "
            "give one list of references per prediction, in the same order"
        )
    if not predictions:
        raise DataError(f"{where}no predictions; there is nothing to score")
    for index, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
        if not isinstance(prediction, str):
            raise DataError(f"{where}predictions[{index}] is {type(prediction).__name__}, not text")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise DataError(f"{where}references[{index}] is {type(texts).__name__}; give a list of texts")
        if not texts:
            raise DataError(f"{where}references[{index}] is empty; every item needs at least one reference")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{where}references[{index}][{number}] is {type(text).__name__}, not text")
