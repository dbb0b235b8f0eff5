import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.metrics.rouge import rouge_scores
from replication.metrics.sentences import ABBREVIATIONS, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He said “no.” Then left.\nEnd", ["He said “no.”", "Then left.", "End"]),
        ("It cost 3.50 pounds.", ["It cost 3.50 pounds."]),
        (" \n ", []),
        ("a\n\nb ", ["a", "b"]),
        # as in news
        ("Mr. Obama met Dr. Jill Biden. They spoke.", ["Mr. Obama met Dr. Jill Biden.", "They spoke."]),
        ("The U.S. Senate voted. Sen. John McCain did not.", ["The U.S. Senate voted.", "Sen. John McCain did not."]),
        ("George W. Bush won. J. K. Rowling wrote.", ["George W. Bush won.", "J. K. Rowling wrote."]),
        (
            "It opens at 9 a.m. Monday on Main St. in Reno. Free.",
            ["It opens at 9 a.m. Monday on Main St. in Reno.", "Free."],
        ),
        ("She is No. 1 in the world. No. 2 is Li.", ["She is No. 1 in the world.", "No. 2 is Li."]),
        ("Was it so? No. He lied.", ["Was it so?", "No.", "He lied."]),
        ("Born Sept. 3 at Apple Inc. (then small) vs. a giant. In May. Then", None),
        ("She didn't. He 'd won't. 'Mr. X' can’t. So", ["She didn't.", "He 'd won't.", "'Mr. X' can’t.", "So"]),
        ("He is taller than I. So is she... Right?", ["He is taller than I.", "So is she...", "Right?"]),
        (
            '"Why?" asked Prof. Li (of the U.N.). "Who knows."',
            ['"Why?"', "asked Prof. Li (of the U.N.).", '"Who knows."'],
        ),
    ],
)
def test_sentences_end_at_newlines_and_behind_their_marks(text, sentences):
    if sentences is None:
        sentences = ["Born Sept. 3 at Apple Inc. (then small) vs. a giant.", "In May.", "Then"]
    assert split_sentences(text) == sentences


@given(st.text(alphabet="abIJ.!? \n\"'”)", max_size=40))
def test_no_letter_is_lost_and_a_sentence_is_one_sentence(text):
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(split_sentences(sentence) == [sentence] for sentence in found)
    assert split_sentences("\n".join(found)) == found


@given(st.sampled_from(sorted(ABBREVIATIONS)), st.sampled_from([str, str.title, str.upper]))
def test_no_abbreviation_of_the_list_ends_a_sentence(word, written):
    assert split_sentences(f"See {written(word)}. Then go.") == [f"See {written(word)}. Then go."]
    assert split_sentences(f"See {written(word)}x. Then go.") == [f"See {written(word)}x.", "Then go."]


def test_rouge_score_itself_ends_sentences_at_newlines_alone():
    from rouge_score.rouge_scorer import RougeScorer

    reference, told = "The U.S. won. Mr. Li lost.", "Mr. Li lost. The U.S. won."
    own = RougeScorer(["rougeLsum"], use_stemmer=True)
    assert own.score(reference, told)["rougeLsum"].fmeasure < 1
    split = ["\n".join(split_sentences(text)) for text in (reference, told)]
    assert own.score(*split)["rougeLsum"].fmeasure == rouge_scores([told], [[reference]])["rougeLsum"] == 1.0
