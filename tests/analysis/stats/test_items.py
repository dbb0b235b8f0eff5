"""Item statistics as the bootstrap asks for them; that they give the official score is a law of every metric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.bootstrap import bootstrap_replicates
from analysis.stats.items import is_approximate, item_statistics, statistic_of
from replication.errors import ConfigError
from replication.metrics import approximate_tokenizer, score_e2e
from replication.metrics.bleu import bleu_from_statistics

VERDICTS = ("the", "mill", "serves", "cheap", "food", "near", "a", "river", "pub", "it's", "£20-25", ".")
texts = st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=9).map(" ".join)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=2, max_size=8)


def rows_of(pairs):
    return [{"prediction": said, "references": list(references)} for said, references in pairs]


def labelled(pairs):
    return [{"id": str(i), "prediction": said, "label": true} for i, (said, true) in enumerate(pairs)]


def official(pairs):
    return score_e2e([said for said, _ in pairs], [list(references) for _, references in pairs], java=None).values


def test_three_classes_have_a_matthews_correlation_too():
    rng = np.random.default_rng(0)
    said, true = rng.integers(3, size=50), rng.integers(3, size=50)
    rows = labelled(zip(said.tolist(), true.tolist(), strict=True))
    sums = item_statistics("matthews_correlation", "classification", rows).sum(axis=0)
    one_said, one_true = np.eye(3)[said], np.eye(3)[true]

    def covariance(x, y):
        return ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).sum()

    spread = covariance(one_said, one_said) * covariance(one_true, one_true)
    expected = covariance(one_said, one_true) / np.sqrt(spread)
    assert statistic_of("matthews_correlation", "classification")(sums) == pytest.approx(expected)


def test_no_rows_no_java_and_no_loss_mean_no_statistics_but_an_unknown_metric_is_an_error():
    rows = rows_of([("a pub", ["the pub"]), ("a mill", ["the mill"])])
    assert item_statistics("accuracy", "classification", []) is None
    assert item_statistics("METEOR", "generation", rows) is None
    assert item_statistics("reference_loss", "generation", rows) is None
    half = [{**rows[0], "reference_nll": 1.0, "reference_tokens": 2}, rows[1]]
    assert item_statistics("reference_loss", "generation", half) is None
    with pytest.raises(ConfigError, match="valid names: BLEU, "):
        item_statistics("charm", "generation", rows)
    with pytest.raises(ConfigError, match="charm"):
        statistic_of("charm", "classification")


def test_a_score_that_is_undefined_is_zero():
    rows = labelled([(0, 0), (0, 0)])
    for name in ("f1", "matthews_correlation"):
        assert statistic_of(name, "classification")(item_statistics(name, "classification", rows).sum(axis=0)) == 0
    assert statistic_of("pearson", "regression")(item_statistics("pearson", "regression", rows).sum(axis=0)) == 0
    none_matched = [{**row, "subset": "mismatched"} for row in rows]
    sums = item_statistics("accuracy_matched", "classification", none_matched).sum(axis=0)
    assert statistic_of("accuracy_matched", "classification")(sums) == 0


def test_drawing_in_portions_changes_no_draw(monkeypatch):
    rows = np.random.default_rng(1).integers(2, size=(7, 2)).astype(float)

    def share(sums):
        return float(sums[0] / max(1.0, sums[1]))

    whole = bootstrap_replicates(rows, share, resamples=50, seed=3)
    monkeypatch.setattr("replication.metrics.resampling.DRAWS_AT_ONCE", 20)
    assert (bootstrap_replicates(rows, share, resamples=50, seed=3) == whole).all()


def test_rouge_l_and_cider_are_approximate():
    found = {name: is_approximate(name, "generation") for name in ("BLEU", "NIST", "ROUGE_L", "CIDEr")}
    assert found == {"BLEU": False, "NIST": False, "ROUGE_L": True, "CIDEr": True}


@settings(max_examples=30, deadline=None)
@given(items)
def test_items_have_pycocoevalcaps_own_scores(pairs):
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said = approximate_tokenizer.tokenize([text for text, _ in pairs])
    references = [approximate_tokenizer.tokenize(texts) for _, texts in pairs]
    rouge = [Rouge().calc_score([text], texts) for text, texts in zip(said, references, strict=True)]
    assert item_statistics("ROUGE_L", "generation", rows_of(pairs))[:, 0].tolist() == rouge
    if any(text.strip() for texts in references for text in texts):
        _, cider = Cider().compute_score(dict(enumerate(references)), {i: [text] for i, text in enumerate(said)})
        assert item_statistics("CIDEr", "generation", rows_of(pairs))[:, 0] == pytest.approx(cider, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_bleu_of_many_sums_is_bleu_of_each(seed):
    """Also where nothing matched, nothing could match, or the prediction is empty."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-2, 30, size=(12, 10)).astype(float)
    sums[:, :4] = np.maximum(sums[:, :4], 0)
    sums[:, 8:] = np.abs(sums[:, 8:])
    sums[0, 8:] = 0
    expected = [bleu_from_statistics(row) for row in sums]
    assert statistic_of("BLEU", "generation")(sums) == pytest.approx(np.array(expected), rel=1e-12)


def test_nist_and_cider_keep_the_full_reference_set_in_every_resample():
    """Drawing the first item alone does not make its words common: its weights stay those of all four items."""
    pairs = [(f"{word} pub", [f"the {word} pub", "a pub"]) for word in ("mill", "river", "cheap", "food")]
    for metric in ("NIST", "CIDEr"):
        rows = item_statistics(metric, "generation", rows_of(pairs))
        score = statistic_of(metric, "generation")
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
    rows = item_statistics("NIST", "generation", rows_of(pairs))
    weighted = rows[[0, 0, 2]].sum(axis=0)
    gain = sum(weighted[order] / (weighted[5 + order] or 1) for order in range(5))
    ratio = weighted[5] / weighted[-1]
    penalty = 1.0 if ratio >= 1 else np.exp(np.log(0.5) / np.log(1.5) ** 2 * np.log(ratio) ** 2)
    assert statistic_of("NIST", "generation")(weighted) == pytest.approx(gain * penalty)
    assert rows[0, 5:].tolist() == [4, 3, 2, 1, 0, 5]
    # "the": the corpus has 19 reference words, of which 3 are "the"; one order only in item 3 ("food", 4 times)
    corpus = [word for _, references in pairs for text in references for word in text.split()]
    assert rows[2, 0] == pytest.approx(np.log2(len(corpus) / corpus.count("food")))


def test_statistics_of_texts_are_kept_and_cannot_be_changed():
    rows = rows_of([("a pub", ["the pub"]), ("a mill", ["the mill"])])
    found = item_statistics("BLEU", "generation", rows)
    assert item_statistics("BLEU", "generation", rows) is found
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
