import pytest

from replication.corpora.evaluation import evaluation_line
from replication.corpora.registry import CORPORA, describe
from replication.corpora.task_corpus import EVALUATION, CorpusCard
from replication.errors import ConfigError
from replication.metrics import leading, reported
from replication.tasks import get_form


def line_of(corpus, **settings):
    card = describe(corpus)
    options = get_form(card["form"]).options(settings, **card["evaluation"], metric=card["metric"])
    return evaluation_line(card, options.recorded())


@pytest.mark.parametrize(
    ("corpus", "settings", "line"),
    [
        (
            "boolq",
            {},
            'prompt "{passage}\\nQuestion: {question}\\nAnswer:", as in lm-evaluation-harness; acc leads; '
            "acc_norm divides log-likelihoods by characters",
        ),
        (
            "openbookqa",
            {"prompt": "Q: {question}\nA:", "length": "bytes"},
            'prompt "Q: {question}\\nA:", not as in lm-evaluation-harness; acc_norm leads; acc_norm divides '
            "log-likelihoods by bytes",
        ),
        (
            "microworld_choice",
            {},
            'prompt "Question: {question}\\nAnswer:"; acc_norm leads; acc_norm divides log-likelihoods by characters',
        ),
        ("squad_v1", {}, "SQuAD v1.1's script: each answer by its best gold answer"),
        (
            "squad_v2",
            {"null_threshold": 0.5},
            "SQuAD v2.0's script; no answer where it scores more than 0.5 above the best span; best_: by the best "
            "threshold",
        ),
        (
            "cnn_dailymail",
            {},
            "rouge-score with stemming; ROUGE-Lsum, sentence by sentence, leads; sentences: end at line breaks and by "
            "the rules of replication/metrics/sentences.py",
        ),
        ("microworld_headlines", {}, "rouge-score with stemming; ROUGE-L of whole texts leads"),
        ("sst2", {}, ""),
        ("e2e", {}, ""),
    ],
)
def test_the_line_beside_a_score(corpus, settings, line):
    assert line_of(corpus, **settings) == line


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_corpus_has_a_line_or_needs_none_and_its_metrics_are_there(corpus):
    card = describe(corpus)
    assert bool(line_of(corpus)) == (card["form"] in EVALUATION)
    assert leading(card["metric"]) in reported(card["metric"])


def test_predictions_that_do_not_say_their_prompt_get_no_other():
    line = evaluation_line(describe("boolq"), {})
    assert line == "prompt not recorded; acc leads; acc_norm divides log-likelihoods by a length not recorded"


def test_no_answer_follows_from_the_card():
    for corpus, expected in (("squad_v1", False), ("squad_v2", True), ("microworld_qa_unanswerable", True)):
        card = describe(corpus)
        assert get_form(card["form"]).options({}, **card["evaluation"]).no_answer is expected


def test_a_card_states_only_what_its_form_knows():
    with pytest.raises(ConfigError, match="evaluation of x: unknown 'prompt'; a summarisation corpus takes sentences"):
        CorpusCard("x", "X", "summarisation", "rouge", None, "test", False, "", "", evaluation={"prompt": "{question}"})
    with pytest.raises(ConfigError, match="evaluation of x: unknown 'prompt'; a regression corpus takes none"):
        CorpusCard("x", "X", "regression", "stsb", None, "test", False, "", "", evaluation={"prompt": "{question}"})
