import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.testing.exercises import check, digest


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        (None, lambda answer: True, "no answer yet"),
        ((1, None), lambda answer: True, "no answer yet"),
        (3, lambda answer: answer > 2, "right"),
        (1, lambda answer: answer > 2, "not yet"),
        ("a", lambda answer: answer > 2, "not yet: TypeError"),
        ("Seeds ", digest("seeds"), "right"),
        (0.12341, digest(0.12339), "right"),
        (0.125, digest(0.124), "not yet"),
    ],
)
def test_an_answer_is_right_wrong_or_not_there(answer, right, said, capsys):
    check(2, answer, right)
    assert capsys.readouterr().out.startswith(f"exercise 2: {said}")


@given(st.integers() | st.text(), st.integers() | st.text())
def test_digests_tell_answers_apart(one, other):
    same = str(one).strip().lower() == str(other).strip().lower()
    assert (digest(one) == digest(other)) == same
