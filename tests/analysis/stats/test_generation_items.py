"""Item sums of generated texts, against the metrics that write metrics.json and against pycocoevalcap, item by item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.bootstrap import bootstrap_replicates
from analysis.stats.generation_items import APPROXIMATE, GENERATION_SCORES, generation_statistics
from analysis.stats.items import item_statistics, statistic_of
from replication.metrics import approximate_tokenizer
from replication.metrics.bleu import bleu_from_statistics
from replication.metrics.reference_loss import reference_loss
from replication.metrics.scores import score_e2e

OF_TEXT = ("BLEU", "CIDEr", "NIST", "ROUGE_L")
WORDS = ("the", "mill", "serves", "cheap", "food", "near", "a", "river", "pub", "it's", "£20-25", ".")
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=2, max_size=8)


def rows_of(pairs):
    return [{"prediction": said, "references": list(references)} for said, references in pairs]


def official(pairs):
    return score_e2e([said for said, _ in pairs], [list(references) for _, references in pairs], java=None).values


def test_every_metric_but_meteor_has_item_statistics():
    assert set(GENERATION_SCORES) == {*OF_TEXT, "reference_loss"}
    rows = rows_of([("a pub", ["the pub"]), ("a mill", ["the mill"])])
    assert generation_statistics("METEOR", rows) is None
    assert generation_statistics("BLEU", []) is None
    assert item_statistics("METEOR", "generation", rows) is None
    assert set(APPROXIMATE) == {"ROUGE_L", "CIDEr"}


@settings(max_examples=40, deadline=None)
@given(items)
@pytest.mark.parametrize("metric", OF_TEXT)
def test_the_sum_over_items_gives_the_corpus_score(metric, pairs):
    found = item_statistics(metric, "generation", rows_of(pairs))
    assert len(found) == len(pairs)
    score = statistic_of(metric, "generation")(found.sum(axis=0))
    assert score == pytest.approx(official(pairs)[metric], rel=1e-9, abs=1e-12)


losses = st.tuples(st.floats(0, 1e4), st.integers(1, 500))


@given(st.lists(losses, min_size=1, max_size=8))
def test_the_sum_over_items_gives_the_reference_loss(pairs):
    rows = [{"prediction": "", "references": [], "reference_nll": nll, "reference_tokens": n} for nll, n in pairs]
    found = item_statistics("reference_loss", "generation", rows)
    assert found.tolist() == [[nll, n] for nll, n in pairs]
    score = statistic_of("reference_loss", "generation")(found.sum(axis=0))
    assert score == pytest.approx(reference_loss(rows), rel=1e-12)
    assert item_statistics("reference_loss", "generation", [*rows, {"prediction": "", "references": []}]) is None


@settings(max_examples=30, deadline=None)
@given(items)
def test_items_have_pycocoevalcaps_own_scores(pairs):
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said = approximate_tokenizer.tokenize([text for text, _ in pairs])
    references = [approximate_tokenizer.tokenize(texts) for _, texts in pairs]
    rouge = [Rouge().calc_score([text], texts) for text, texts in zip(said, references, strict=True)]
    assert generation_statistics("ROUGE_L", rows_of(pairs))[:, 0] == pytest.approx(np.array(rouge), abs=1e-12)
    if any(text.strip() for texts in references for text in texts):
        _, cider = Cider().compute_score(dict(enumerate(references)), {i: [text] for i, text in enumerate(said)})
        assert generation_statistics("CIDEr", rows_of(pairs))[:, 0] == pytest.approx(cider, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_bleu_of_many_sums_is_bleu_of_each(seed):
    """Also where nothing matched, nothing could match, or the prediction is empty."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-2, 30, size=(12, 10)).astype(float)
    sums[:, :4] = np.maximum(sums[:, :4], 0)
    sums[:, 8:] = np.abs(sums[:, 8:])
    sums[0, 8:] = 0
    expected = [bleu_from_statistics(row) for row in sums]
    assert GENERATION_SCORES["BLEU"](sums) == pytest.approx(np.array(expected), rel=1e-12)


def test_nist_and_cider_keep_the_full_reference_set_in_every_resample():
    """Drawing the first item alone does not make its words common: its weights stay those of all four items."""
    pairs = [(f"{word} pub", [f"the {word} pub", "a pub"]) for word in ("mill", "river", "cheap", "food")]
    for metric in ("NIST", "CIDEr"):
        rows = generation_statistics(metric, rows_of(pairs))
        score = GENERATION_SCORES[metric]
        alone = official(pairs[:1])[metric]
        assert float(score(rows[:1].sum(axis=0))) > alone
    replicates = bootstrap_replicates(rows, score, resamples=20, seed=1)
    draws = np.random.default_rng(1).integers(4, size=(20, 4))
    assert replicates == pytest.approx(rows[draws, 0].mean(axis=1))


def test_nist_replicates_are_the_definition_with_fixed_weights():
    """Written out: information of matched n-grams from the full references, then the sums of the drawn items."""
    pairs = [
        ("the mill serves food", ["the mill serves cheap food", "cheap food near the river"]),
        ("a pub near the river", ["a cheap pub", "a pub near a mill"]),
        ("food", ["the food"]),
    ]
    rows = generation_statistics("NIST", rows_of(pairs))
    weighted = rows[[0, 0, 2]].sum(axis=0)
    gain = sum(weighted[order] / (weighted[5 + order] or 1) for order in range(5))
    ratio = weighted[5] / weighted[-1]
    penalty = 1.0 if ratio >= 1 else np.exp(np.log(0.5) / np.log(1.5) ** 2 * np.log(ratio) ** 2)
    assert GENERATION_SCORES["NIST"](weighted) == pytest.approx(gain * penalty)
    assert rows[0, 5:].tolist() == [4, 3, 2, 1, 0, 5]
    # "the": the corpus has 19 reference words, of which 3 are "the"; one order only in item 3 ("food", 4 times)
    corpus = [word for _, references in pairs for text in references for word in text.split()]
    assert rows[2, 0] == pytest.approx(np.log2(len(corpus) / corpus.count("food")))


def test_statistics_are_kept_and_cannot_be_changed():
    rows = rows_of([("a pub", ["the pub"]), ("a mill", ["the mill"])])
    found = generation_statistics("BLEU", rows)
    assert generation_statistics("BLEU", rows) is found
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
