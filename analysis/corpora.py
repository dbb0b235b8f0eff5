"""The corpora behind a profile's runs, with their licences."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.blocks import Block
from analysis.labels import task_name
from analysis.provenance import record_paths
from analysis.records import Experiment
from replication.records import Corpus

# Of the two corpora whose records name none: the E2E dataset's own README (github.com/tuetschek/e2e-dataset), and this
# repository's licence for what it generates.
LICENCES = {"e2e": "CC BY-SA 4.0", "microworld": "Apache-2.0"}
FORMS = {
    "generation": "generation",
    "classification": "classification",
    "regression": "similarity",
    "question_answering": "question answering",
    "summarisation": "summarisation",
    "multiple_choice": "multiple choice",
}


def corpora_block(experiments: Sequence[Experiment]) -> Block:
    """One line a corpus: what it is, how much of it was used, which split was measured, its licence and its sha256."""
    found: dict[tuple[str, int, int, int], Corpus] = {}
    for experiment in experiments:
        if experiment.record is not None:
            corpus = experiment.record.corpus
            sizes = corpus.train_examples, corpus.dev_examples, corpus.test_items
            found.setdefault((corpus.name, *sizes), corpus)
    lines = tuple(
        (
            task_name(corpus.name),
            corpus.label,
            FORMS.get(corpus.form, corpus.form.replace("_", " ")),
            f"{corpus.train_examples:,}",
            f"{corpus.dev_examples:,}",
            f"{corpus.test_items:,}",
            corpus.reported_split,
            licence_of(corpus),
            "; ".join(f"{name} {digest[:12]}" for name, digest in corpus.sha256.items()),
        )
        for corpus in found.values()
    )
    headers = ("Corpus", "What it is", "Form", "Training examples", "Dev examples", "Items measured", "Split",
               "Licence", "sha256, first 12")  # fmt: skip
    return Block("Corpora and their licences", headers, lines, key="corpora", records=record_paths(experiments))


def licence_of(corpus: Corpus) -> str:
    """The licence that the record names, or the one known for its corpus."""
    return corpus.licence or LICENCES.get(corpus.name, "not stated")
