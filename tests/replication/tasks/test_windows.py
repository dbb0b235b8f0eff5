import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.errors import ConfigError, DataError
from replication.tasks.windows import Span, Window, answer_tokens, best_span, positions_in, windows_of

KINDS = ["word_pieces", "sentence_pieces", "byte_pieces"]
WORDS = ["the", "Mill", "café", "£20", "naïve", "東京", "a", "—", "palace.", " ", "\n", "zq", "e\u0301t", "\U0001f600"]
contexts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=25).map(" ".join).filter(str.strip)


def windows(tokenizer, context, question="Where is it?", **more):
    settings_ = {"max_length": 30, "stride": 8, "max_question_length": 20, **more}
    return next(windows_of(tokenizer, [{"id": "q1", "question": question, "context": context}], **settings_))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(context=contexts, stride=st.integers(0, 10), room=st.integers(0, 12))
def test_windows_cover_all_tokens_of_the_context_and_share_the_stride(tokenizer_of, kind, context, stride, room):
    tokenizer = tokenizer_of(kind)
    whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
    if not whole["input_ids"]:
        return
    found = windows(tokenizer, context, max_length=stride + 16 + room, stride=stride)
    seen = set()
    for window in found:
        assert len(window) <= stride + 16 + room
        count = len(window.offsets)
        inside = window.input_ids[window.context_start : window.context_start + count]
        assert inside == whole["input_ids"][window.first : window.first + count]
        assert window.offsets.tolist() == [list(pair) for pair in whole["offset_mapping"]][window.first :][:count]
        assert window.input_ids[window.cls] == tokenizer.cls_token_id
        seen |= set(range(window.first, window.first + count))
    assert seen == set(range(len(whole["input_ids"])))
    for before, after in itertools.pairwise(found):
        assert before.first + len(before.offsets) - after.first == stride


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data(), context=contexts)
def test_an_answers_tokens_hold_it_whole_and_no_token_too_many(tokenizer_of, kind, data, context):
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, min(len(context), start + 12)))
    tokenizer = tokenizer_of(kind)
    whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    touching = [index for index, (low, high) in enumerate(whole) if low < end and high > start]
    if not whole:
        return
    found = windows(tokenizer, context)
    tokens = answer_tokens(found, start, end)
    assert tokens == ((touching[0], touching[-1]) if touching else None)
    for window in found:
        first, last = positions_in(window, tokens)
        held = tokens is not None and all(
            window.first <= token < window.first + len(window.offsets) for token in range(tokens[0], tokens[1] + 1)
        )
        if not held:
            assert (first, last) == (window.cls, window.cls)
            continue
        offsets = window.offsets[first - window.context_start : last - window.context_start + 1]
        said = context[offsets[0, 0] : offsets[-1, 1]]
        visible = [place for place in range(start, end) if any(low <= place < high for low, high in whole)]
        assert offsets[0, 0] <= visible[0]
        assert visible[-1] < offsets[-1, 1]
        assert context[visible[0] : visible[-1] + 1] in said


def test_a_multi_byte_character_cut_by_the_edge_is_no_answer(tokenizer_of):
    tokenizer = tokenizer_of("byte_pieces")
    context = "x" + "\U0001f600" * 12  # four byte tokens each: edges fall inside characters
    found = windows(tokenizer, context, question="?", max_length=21, stride=3)
    edges = [window for window in found if window.first and (window.first - 1) % 4]
    assert edges
    for window in edges:
        character = int(window.offsets[0, 0])
        tokens = answer_tokens(found, character, character + 1)
        assert tokens[0] < window.first
        assert window.offsets[0, 0] == character  # by characters alone the window would seem to hold it
        assert positions_in(window, tokens) == (window.cls, window.cls)


def test_leading_spaces_and_answers_in_the_middle_of_a_token(tokenizer_of):
    for kind in KINDS:
        tokenizer = tokenizer_of(kind)
        context = "Anna ate pasta in the Golden Palace."
        (window,) = windows(tokenizer, context, max_length=80)
        for answer in ("Golden Palace", "olden Pal", "Anna", "Palace.", "n"):
            start = context.index(answer)
            first, last = positions_in(window, answer_tokens([window], start, start + len(answer)))
            low = window.offsets[first - window.context_start, 0]
            high = window.offsets[last - window.context_start, 1]
            assert answer in context[low:high]
            if answer in ("Golden Palace", "Anna"):
                assert context[low:high].strip() == answer


def test_a_long_question_is_cut_and_rows_stay_apart(tokenizer_of):
    tokenizer = tokenizer_of("word_pieces")
    rows = [
        {"id": n, "question": "Which pub is cheap? " * (n * 9 + 1), "context": "a b c d e f " * 9} for n in range(3)
    ]
    groups = list(windows_of(tokenizer, rows, max_length=40, stride=10, max_question_length=12))
    assert [{window.row for window in group} for group in groups] == [{0}, {1}, {2}]
    whole = tokenizer.encode(rows[1]["question"], add_special_tokens=False)
    for window in groups[1]:
        assert window.input_ids[1:13] == whole[:12]
        assert window.context_start == 14


def test_errors_name_what_is_wrong(tokenizer_of):
    tokenizer = tokenizer_of("word_pieces")
    for change, message in (
        ({"context": " "}, "row 'q1': field 'context' is blank"),
        ({"question": None}, "row 'q1': field 'question' must be text"),
        ({"context": "\u200b\u200b"}, "row 'q1': field 'context' has no token"),
    ):
        row = {"id": "q1", "question": "?", "context": "a", **change}
        with pytest.raises(DataError, match=message):
            list(windows_of(tokenizer, [row], max_length=30, stride=8, max_question_length=20))
    with pytest.raises(ConfigError, match="CLS token"):
        windows(tokenizer_of("bare"), "a b c")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=9), st.integers(1, 5))
def test_the_best_span_is_the_best_of_all_allowed_ones(scores, longest):
    starts = np.array([9, 9, *(a for a, _ in scores), 9], dtype=np.float32)  # outside the context: never chosen
    ends = np.array([9, 9, *(b for _, b in scores), 9], dtype=np.float32)
    context = "x" * len(scores)
    offsets = np.array([[i, i + 1] for i in range(len(scores))], dtype=np.int32)
    window = Window(0, [0] * len(starts), None, 0, 2, 0, offsets)
    allowed = [
        (starts[2 + first] + ends[2 + last], -first, -last)
        for first in range(len(scores))
        for last in range(first, min(first + longest, len(scores)))
    ]
    best = max(allowed)
    found = best_span(window, starts, ends, context, n_best=len(scores), max_answer_length=longest)
    assert found == Span(float(best[0]), -best[1], 1 - best[2])


def test_few_starts_are_tried_and_white_space_is_never_an_answer():
    offsets = np.array([[0, 1], [1, 2], [2, 3], [3, 3]], dtype=np.int32)
    window = Window(0, [0] * 5, None, 0, 1, 0, offsets)
    starts, ends = np.array([0, 1.0, 5.0, 2.0, 9.0]), np.array([0, 4.0, 9.0, -9.0, 9.0])
    more = {"max_answer_length": 1}
    assert best_span(window, starts, ends, "a b", n_best=3, **more) == Span(5.0, 0, 1)
    assert best_span(window, starts, ends, "a b", n_best=1, **more) == Span(-7.0, 2, 3)
    assert best_span(window, starts, ends, "   ", n_best=3, **more) is None
