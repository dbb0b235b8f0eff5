"""Digits survive, nothing is given twice, nothing is executed, and a fault is named by its field."""

import json
from decimal import Decimal
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analysis.load.paper_files import (
    STANDINGS,
    UNITS,
    Cell,
    Figure,
    Parameters,
    Source,
    Strict,
    check_share,
    decimal_of,
    letter,
    meaning,
    one_of,
    published_count,
    read_exact_json,
    read_exact_yaml,
    unknown,
    validated,
)
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


def figure(text="70.4", value="70.4", kind=Figure, **fields):
    return kind(
        **{"value": value, "text": text, "unit": "points", "standing": "paper", "sources": ("paper",), **fields}
    )


@pytest.mark.parametrize(
    ("text", "value", "precision"),
    [
        ("70.4", "70.4", "0.1"), ("70.40", "70.40", "0.01"), ("8", "8", "1"), ("-0.002225", "-0.002225", "0.000001"),
        ("8e-4", "0.0008", "0.0001"), ("0.35M", 350_000, "10000"), ("354.92M", 354_920_000, "10000"),
        ("12K", 12_000, "1000"), ("10 or 20", None, None), ("by epochs", None, None),
    ],
)  # fmt: skip
def test_precision_is_the_last_published_digit(text, value, precision):
    assert figure(text, value).precision == (None if precision is None else Decimal(precision))


@pytest.mark.parametrize(("text", "precision"), [("2.3?", "0.1"), ("2.??", "1"), ("?", None)])
def test_an_unreadable_digit_bounds_the_precision(text, precision):
    found = figure(text, None, standing="unreadable", kind=Cell)
    assert found.precision == (None if precision is None else Decimal(precision))
    with pytest.raises(ValueError, match="is no number"):
        _ = found.number


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": "70.5"}, "value 70.5 does not match text '70.4'"),
        ({"value": None}, "value None does not match text '70.4'"),
        ({"text": "2.3?", "value": None}, "exactly when unreadable"),
        ({"standing": "unreadable", "value": None}, "exactly when unreadable"),
        ({"text": "2.3?", "value": "2.3", "standing": "unreadable"}, "an unreadable figure has no value"),
        ({"text": "many", "value": "3"}, "value 3 does not match text 'many'"),
        ({"spread": "0.1"}, "go together"),
        ({"spread": "0.1", "spread_text": ".1"}, "go together"),
        ({"spread": "0.1", "spread_text": ".2", "spread_means": "runs"}, "spread 0.1 does not match"),
        ({"spread_means": "minutes"}, "spread_means"),
        ({"unit": "pionts"}, "unknown unit 'pionts'; did you mean 'points'"),
        ({"standing": "believed"}, "standing"),
        ({"sources": ()}, "sources"),
        ({"text": ""}, "text"),
    ],
)
def test_a_figure_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        figure(**fields)


def test_a_cell_is_a_number_and_a_count_a_count():
    with pytest.raises(ValidationError, match="null exactly when standing is unreadable"):
        figure("about 70", None, kind=Cell)
    assert figure("about 70", None).value is None
    assert figure("0.35M", 350_000, kind=Parameters, unit="parameters").value == 350_000
    with pytest.raises(ValidationError, match="not a count such as"):
        figure("350000", 350_000, kind=Parameters, unit="parameters")


@given(st.decimals(0, 99, places=2), st.decimals(0, 9, places=1), st.sampled_from([1, 100]))
def test_rescaling_never_adds_or_drops_a_digit(value, spread, scale):
    cell = figure(f"{value:f}", value, kind=Cell, spread=spread, spread_text=f"{spread:f}", spread_means="runs")
    shifted, shifted_spread = cell.rescaled(scale)
    assert Decimal(shifted) * scale == value
    assert Decimal(shifted_spread) * scale == spread
    assert len(shifted.split(".")[1]) == (2 if scale == 1 else 4)
    assert cell.precision == Decimal("0.01")


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(["1", "0.1", "0.01"]))
def test_a_share_is_right_to_its_own_digits_alone(a, b, unit):
    count, than = min(a, b), max(a, b)
    share = (100 * (1 - Decimal(count) / Decimal(than))).quantize(Decimal(unit))
    said = figure(f"{share:f}", share, unit="per cent")
    check_share(said, count, than)
    other = share + 2 * Decimal(unit)
    with pytest.raises(ValueError, match="per cent below"):
        check_share(figure(f"{other:f}", other, unit="per cent"), count, than)


def test_published_counts():
    assert [published_count(text) for text in ("0.35M", "354.92M", "12K", "8B")] == [
        350_000, 354_920_000, 12_000, 8_000_000_000,
    ]  # fmt: skip
    for wrong in ("0.35", "many", ""):
        with pytest.raises(ValueError, match="is not a"):
            published_count(wrong)


def test_a_source_says_where():
    assert Source(citation="c", url="u", issue=165).location == "issue 165"
    assert Source(citation="c", url="u", table="Table 3", file="README.md").location == "Table 3, README.md"
    assert all(UNITS.values())


def test_every_standing_has_a_letter_of_its_own():
    letters = [letter(name) for name in STANDINGS]
    assert len(set(letters)) == len(letters)
    assert all(len(found) == 1 and meaning(name) for found, name in zip(letters, STANDINGS, strict=True))


@pytest.mark.parametrize("name", ["paper", "authors_code", "third_party", "unverified", "unreadable"])
def test_the_standings_of_published_figures_are_known(name):
    assert name in STANDINGS


def test_a_standing_that_is_not_known_is_spelt_out():
    assert letter("seen_in_a_dream") == "seen_in_a_dream"
    assert meaning("seen_in_a_dream") == "seen in a dream"
    assert letter(None) == ""


def test_a_figure_names_one_source_or_says_that_the_others_were_compared():
    fields = {"value": 1, "text": "1", "unit": "1", "standing": "paper", "sources": ("a", "b")}
    with pytest.raises(ValidationError, match="sources a, b: a figure names one source"):
        Figure(**fields)
    assert Figure(**fields, note="checked: the README prints the same").sources == ("a", "b")


def test_a_commit_is_a_source_with_repository_and_date():
    source = Source(
        citation="x", url="https://example.org", repository="owner/name", commit="0123456789", date="2025-02-16"
    )
    assert source.short == "owner/name 0123456 (2025-02-16)"
    assert source.location == "commit 0123456789"
    assert Source(citation="x", url="https://example.org").short == "x"
    with pytest.raises(ValidationError, match="a commit needs its repository"):
        Source(citation="x", url="https://example.org", commit="0123456")
