"""Digits survive, nothing is given twice, nothing is executed, and a fault is named by its field."""

import json
from decimal import Decimal
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.paper_files import Strict, decimal_of, one_of, read_exact_json, read_exact_yaml, unknown, validated
from replication.errors import DataError


class Part(Strict):
    metric: Annotated[str, one_of("metric", ("BLEU", "NIST", "METEOR"))]
    standing: Literal["paper", "unverified"]
    text: str


class File(Strict):
    parts: dict[str, Part]


GOOD = {"parts": {"a": {"metric": "BLEU", "standing": "paper", "text": "70.40"}}}


def written(tmp_path, text, name="file.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_is_read(tmp_path):
    path = written(tmp_path, yaml.safe_dump(GOOD))
    assert validated(File, path).parts["a"].text == "70.40"
    assert validated(File, written(tmp_path, json.dumps(GOOD), "file.json")) == validated(File, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metric": "BLUE"},
            r"parts\.a\.metric: unknown metric 'BLUE'; did you mean 'BLEU'\? valid: BLEU, NIST, METEOR",
        ),
        ({"metric": "Nist"}, "did you mean 'NIST'"),
        ({"metric": "zzz"}, r"parts\.a\.metric: unknown metric 'zzz'; valid: BLEU"),
        ({"standing": "papre"}, r"parts\.a\.standing: unknown value 'papre'; did you mean 'paper'\? valid: paper, unv"),
        ({"standing": None}, r"parts\.a\.standing"),
        ({"text": 70.4}, r"parts\.a\.text: 70\.4 must be in quotes"),
        ({"remark": "x"}, r"parts\.a: unknown key 'remark'; valid: metric, standing, text"),
        ({"texts": "x"}, r"parts\.a: unknown key 'texts'; did you mean 'text'"),
    ],
)
def test_a_fault_is_named_with_the_valid_choices(tmp_path, change, message):
    path = written(tmp_path, yaml.safe_dump({"parts": {"a": {**GOOD["parts"]["a"], **change}}}))
    with pytest.raises(DataError, match=message) as caught:
        validated(File, path)
    assert str(caught.value).startswith(f"{path}, ")


def test_every_fault_of_a_file_is_said_at_once(tmp_path):
    path = written(tmp_path, "parts: {a: {metric: BLUE}}")
    with pytest.raises(DataError, match=r"a\.metric: .*; parts\.a\.standing: is missing; parts\.a\.text: is missing"):
        validated(File, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", r"key 'c' is given twice, line 2"),
        ("5: 1\n'5': 2\n", r"key '5' is given twice"),
        ("a: [1\n", "file.yaml: "),
        ("a: !!python/object/apply:os.getcwd []\n", "python/object"),
        ("a: !!float x\n", "'x' is not a number"),
        ("--- 1\n--- 2\n", "single document"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_exact_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.yaml: no such file"):
        read_exact_yaml(tmp_path / "absent.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bytes\.yaml"):
        read_exact_yaml(tmp_path / "bytes.yaml")
    with pytest.raises(DataError, match="given twice"):
        read_exact_json(written(tmp_path, '{"a": 1, "a": 2}', "twice.json"))


def test_scalars_are_those_of_json(tmp_path):
    text = "{a: no, b: 2024-03-25, c: 12:30, d: 010, e: ~, f: true, g: 1e-4, h: .5, i: 70.40, j: 1_000, k: .nan, l: -3}"
    found = read_exact_yaml(written(tmp_path, text))
    assert found == {
        "a": "no", "b": "2024-03-25", "c": "12:30", "d": Decimal("10"), "e": None, "f": True, "g": Decimal("0.0001"),
        "h": Decimal("0.5"), "i": Decimal("70.40"), "j": "1_000", "k": ".nan", "l": -3,
    }  # fmt: skip
    assert str(found["i"]) == "70.40"
    assert isinstance(found["l"], int)


@given(st.decimals(-999, 999, places=4))
def test_decimals_keep_every_digit(tmp_path_factory, value):
    path = written(tmp_path_factory.getbasetemp(), f"a: {value:f}\n", "decimal.yaml")
    assert str(read_exact_yaml(path)["a"]) == f"{value:f}"


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | PLAIN,
    lambda inner: st.lists(inner) | st.dictionaries(PLAIN, inner),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_alike_by_both(tmp_path_factory, value):
    path = written(tmp_path_factory.getbasetemp(), json.dumps({"a": value}), "both.json")
    assert read_exact_yaml(path) == read_exact_json(path)


def test_only_numbers_are_numbers():
    assert decimal_of(".60") == Decimal("0.60")
    for text in ("many", "", "NaN", "Infinity", "2.3?"):
        with pytest.raises(ValueError, match="is not a number"):
            decimal_of(text)


@given(st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, unique=True), st.text("abcdef", max_size=6))
def test_a_near_miss_is_always_a_valid_name(choices, name):
    message = unknown("metric", name, choices)
    assert message.endswith(f"valid: {', '.join(choices)}")
    if "did you mean" in message:
        assert message.split("did you mean '")[1].split("'")[0] in choices
