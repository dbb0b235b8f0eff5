"""XSum (Narayan et al. 2018) and CNN/DailyMail 3.0.0 (See et al. 2017), scored on the test split.

The hub's XSum is a loading script on its main branch, so its Parquet copy is read. The mirror's documents are
few and are separate corpora.

Which ROUGE-L leads: BART's table (Lewis et al. 2020) was made with files2rouge, a wrapper of ROUGE-1.5.5, whose ROUGE-L
compares sentence by sentence; rouge-score calls that ROUGE-Lsum, and CNN/DailyMail leads with it. An XSum summary is
one sentence, where both are the same as long as the prediction is one too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from replication.corpora.assembly import RealCorpus
from replication.corpora.hub import HubCorpus
from replication.corpora.sourcefiles import parse_jsonl
from replication.corpora.task_corpus import CorpusCard, Row
from replication.errors import DataError

XSUM_LICENCE = "texts copyright BBC; dataset for research use"
CNN_LICENCE = "dataset card Apache-2.0; article texts copyright CNN and DailyMail"
_ROUGE = {
    "xsum": ("rouge", "one a summary"),
    "cnn_dailymail": ("rouge_lsum", "end at line breaks and by the rules of replication/metrics/sentences.py"),
}
"""Corpus -> its metrics by the one that leads, and where its sentences end."""


def parse_xsum(location: str, text: str) -> Iterator[Row]:
    """Rows of JSON lines {document, summary, optional id}; DataError names `location`, line and field."""
    for number, value in parse_jsonl(location, text):
        missing = [name for name in ("document", "summary") if not isinstance(value, dict) or name not in value]
        if missing:
            raise DataError(f"{location}, line {number}: no field {' or '.join(missing)}; fetch the file again")
        known = {"id": str(value["id"])} if "id" in value else {}
        yield {**known, "document": value["document"], "summary": value["summary"]}


def parse_cnn_dailymail(location: str, text: str) -> Iterator[Row]:
    """Rows of CSV with the columns article, highlights and id; line breaks inside quotes are kept."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = ("article", "highlights", "id")
    line = 1
    try:
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise DataError(f"{location}, line 1: column {' and '.join(missing)} is missing; fetch the file again")
        line = reader.line_num + 1
        for value in reader:
            if None in value or None in value.values():
                raise DataError(
                    f"{location}, line {line}: not {len(columns)} columns; the file was cut off, fetch it again"
                )
            yield {"id": value["id"], "document": value["article"], "summary": value["highlights"]}
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{location}, line {line}: not well-formed CSV ({error}); the file may be cut off, fetch it again"
        ) from error


def _xsum_row(part: str, raw: dict[str, Any]) -> Row:
    return {"id": raw["id"], "document": raw["document"], "summary": raw["summary"]}


def _cnn_row(part: str, raw: dict[str, Any]) -> Row:
    return {"id": raw["id"], "document": raw["article"], "summary": raw["highlights"]}


def _card(name: str, label: str, licence: str, note: str, comparable: bool) -> CorpusCard:
    metric, sentences = _ROUGE[name.removesuffix("_subset")]
    return CorpusCard(
        name, label, "summarisation", metric, None, "test", comparable, licence, note,
        evaluation={"sentences": sentences},
    )  # fmt: skip


_SPLITS = {"train": ("train",), "test": ("test",)}
_ALL = (
    RealCorpus(
        card=_card(
            "xsum",
            "XSum",
            XSUM_LICENCE,
            "One-sentence summaries; the complete test split. Empty documents are kept.",
            True,
        ),
        counts={"train": 204_045, "test": 11_334},
        hub=HubCorpus("EdinburghNLP/xsum", None, None, _SPLITS),
        hub_row=_xsum_row,
        fallback="xsum_subset",
    ),
    RealCorpus(
        card=_card(
            "cnn_dailymail",
            "CNN/DailyMail 3.0.0",
            CNN_LICENCE,
            "Highlights, a sentence a line; not anonymised; the complete test split. Empty highlights are kept and "
            "score 0.",
            True,
        ),
        counts={"train": 287_113, "test": 11_490},
        hub=HubCorpus("abisee/cnn_dailymail", "96df5e686bee6baa90b8bee7c28b81fa3fa6223d", "3.0.0", _SPLITS),
        hub_row=_cnn_row,
        fallback="cnn_dailymail_subset",
    ),
    RealCorpus(
        card=_card(
            "xsum_subset",
            "XSum, 1,926 test documents",
            XSUM_LICENCE,
            "Trained on 926 and scored on 1,000 other documents, all of XSum's official test split; the training "
            "documents have their line breaks folded into spaces. Never compares with XSum.",
            False,
        ),
        counts={"train": 926, "test": 1000},
        files={
            "train": ("xsum-test-extra.jsonl", parse_xsum),
            "test": ("xsum-test-1000.jsonl", parse_xsum),
        },
    ),
    RealCorpus(
        card=_card(
            "cnn_dailymail_subset",
            "CNN/DailyMail, 1,000 documents",
            CNN_LICENCE,
            "Trained on the first 500 validation documents and scored on the first 500 test documents of version "
            "3.0.0. Never compares with CNN/DailyMail.",
            False,
        ),
        counts={"train": 500, "test": 500},
        files={
            "train": ("cnn-dailymail-validation-500.csv", parse_cnn_dailymail),
            "test": ("cnn-dailymail-test-500.csv", parse_cnn_dailymail),
        },
    ),
)
CORPORA = {corpus.card.name: corpus for corpus in _ALL}
