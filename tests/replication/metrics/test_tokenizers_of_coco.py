"""The official tokenizer (Java) and its replacement, compared."""

import csv
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ReplicationError
from replication.metrics import approximate_tokenizer, ptb_tokenizer

# Checked against the official program by `test_official_tokens`.
BOTH = [
    ("It's a family-friendly pub, isn't it?", "it 's a family-friendly pub is n't it"),
    ("Twenty Two's food costs £20-25.", "twenty two 's food costs # 20-25"),
    ('Don\'t "quote" (this) [or] {that} -- it’s £20–£25!', None),
    ("Café Brazil – cheap & cheerful; 5-star, 1,000.50 a.m.", None),
    ("We can't, cannot, won't: they're o'clock; U.S. food", None),
    ("a/b and/or 3.5 out of 5 or 5-out-of-5 ... ok", None),
    ("hello,world line\none", "hello world line one"),
    ("Mr. Smith, e.g. at 10:30, 50% off", None),
    ("", ""),
    (" \t", ""),
    ("...", ""),
]


@pytest.mark.java
def test_official_tokens(java):
    texts = [text for text, _ in BOTH]
    official = ptb_tokenizer.tokenize(texts, java)
    assert approximate_tokenizer.tokenize(texts) == official
    for (_, expected), tokens in zip(BOTH, official, strict=True):
        assert expected is None or tokens == expected


@pytest.mark.parametrize(("text", "tokens"), [pair for pair in BOTH if pair[1] is not None])
def test_approximate_tokens(text, tokens):
    assert approximate_tokenizer.tokenize([text]) == [tokens]


@pytest.mark.java
@pytest.mark.parametrize(
    "odd",
    [
        "a\nb",
        "a\r\nb",
        "a\u2028b\u2029c",
        "a\fb\vc",
        "x ||| y",
        "",
        "<a\nb>",
        "\x00\x85",
        "\ud800",
        "2 1/2",
        "😀",
    ],
)
def test_every_text_keeps_its_line(java, odd):
    texts = ["first", odd, "", odd, "last one"]
    tokens = ptb_tokenizer.tokenize(texts, java)
    assert tokens[0] == "first"
    assert tokens[2] == ""
    assert tokens[1] == tokens[3]
    assert tokens[4] == "last one"


@pytest.mark.java
def test_most_references_of_the_release_get_the_official_tokens(java, mirror):
    with zipfile.ZipFile(mirror / "e2e_nlg" / "e2e-dataset.zip") as release:
        text = release.read("e2e-dataset/testset_w_refs.csv").decode("utf-8-sig")
    references = [row["ref"] for row in csv.DictReader(io.StringIO(text))]
    official = ptb_tokenizer.tokenize(references, java)
    same = sum(map(str.__eq__, official, approximate_tokenizer.tokenize(references)))
    assert same / len(references) > 0.995


def test_a_failing_program_is_an_error(program):
    with pytest.raises(ReplicationError, match=r"(?s)exit code 3.*out of memory"):
        ptb_tokenizer.tokenize(["a", "b"], program("echo out of memory >&2; exit 3"))
    with pytest.raises(ReplicationError, match="3 lines for 2 texts"):
        ptb_tokenizer.tokenize(["a", "b"], program("printf 'a\\nb\\nc'", name="java3"))
    with pytest.raises(ReplicationError, match="did not run"):
        ptb_tokenizer.tokenize(["a"], "/nowhere/java")


def test_nothing_to_tokenise_starts_no_program():
    assert ptb_tokenizer.tokenize([], "/nowhere/java") == []


@given(st.text())
def test_approximate_tokens_are_clean(text):
    tokens = approximate_tokenizer.tokenize([text])[0].split(" ")
    assert not set(tokens) & ptb_tokenizer.DROPPED
    assert tokens == [""] or all(tokens)
    assert all("\n" not in token for token in tokens)


@given(st.lists(st.text(max_size=20), max_size=4))
def test_approximate_tokens_of_a_text_do_not_depend_on_the_others(texts):
    alone = [approximate_tokenizer.tokenize([text])[0] for text in texts]
    assert approximate_tokenizer.tokenize(texts) == alone


pieces = st.sampled_from(
    ["mr.", "St.", "e.g.", "U.S.", "cannot", "can't", "pub's", "5-star", "(", '"', "a/b", "£20", "…", "."]
)


@given(st.lists(pieces, max_size=8), st.sampled_from([" ", "\t", "\u00a0", "\u2028", "  "]))
def test_a_text_is_tokenised_as_its_pieces_in_their_places(words, blank):
    """An abbreviation keeps its period unless it is last: what follows a piece counts, what it is does not."""
    together = approximate_tokenizer.tokenize([blank.join(words)])[0]
    alone = approximate_tokenizer.tokenize([f"{word} x" for word in words[:-1]])
    kept = [tokens.removesuffix("x").strip() for tokens in alone] + approximate_tokenizer.tokenize(words[-1:])
    assert together == " ".join(tokens for tokens in kept if tokens)
