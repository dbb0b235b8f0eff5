import pytest

from replication.errors import ReplicationError
from replication.metrics.meteor import MeteorProgram


@pytest.mark.java
@pytest.mark.slow
def test_one_program_scores_many_corpora(java):
    with MeteorProgram(java) as meteor:
        assert meteor.corpus_score(["the pub is cheap"], [["the pub is cheap"]]) == pytest.approx(1.0)
        # Empty texts, blanks inside tokens and the program's own separator neither hang nor shift answers.
        assert meteor.corpus_score([""], [["the pub"]]) == 0.0
        assert meteor.corpus_score(["", "the pub"], [[""], ["", "a ||| b", "2\u00a01/2"]]) == 0.0
        assert meteor.corpus_score(["café # 20"], [["the inn", "café # 20"]]) == pytest.approx(1.0)

        items = (["the pub", "a place for cheap food by the river"], [["the pub"], ["cheap river food"]])
        segments = [meteor.corpus_score([p], [r]) for p, r in zip(*items, strict=True)]
        corpus = meteor.corpus_score(*items)
        assert min(segments) < corpus < max(segments)
        assert corpus != pytest.approx(sum(segments) / 2)  # aggregated statistics, not a mean
        assert meteor.corpus_score(*items) == corpus


def test_a_program_that_dies_is_an_error_with_its_words(program):
    with (
        MeteorProgram(program("echo could not reserve memory >&2; exit 1")) as meteor,
        pytest.raises(ReplicationError, match="could not reserve memory"),
    ):
        meteor.corpus_score(["a"], [["a"]])


def test_a_program_that_never_answers_is_given_up(program):
    with (
        MeteorProgram(program("while read line; do :; done"), answer_seconds=0.2) as meteor,
        pytest.raises(ReplicationError, match="no answer within"),
    ):
        meteor.corpus_score(["a"], [["a"]])


def test_a_program_that_never_reads_is_given_up(program):
    with (
        MeteorProgram(program("exec tail -f /dev/null"), answer_seconds=0.2) as meteor,
        pytest.raises(ReplicationError, match="stopped reading"),
    ):
        meteor.corpus_score(["word " * 100_000], [["a"]])


def test_an_answer_that_is_no_score_is_an_error(program):
    with (
        MeteorProgram(program("while read line; do echo oops; echo oops; done")) as meteor,
        pytest.raises(ReplicationError, match="oops"),
    ):
        meteor.corpus_score(["a"], [["a"]])


def test_closing_twice_is_harmless(program):
    meteor = MeteorProgram(program("exec cat > /dev/null"))
    meteor.close()
    meteor.close()
    with pytest.raises(ValueError, match="closed"):
        meteor.corpus_score(["a"], [["a"]])


def test_a_missing_program_is_an_error():
    with pytest.raises(ReplicationError, match="did not start"):
        MeteorProgram("/nowhere/java")
