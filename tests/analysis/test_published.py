"""The loader refuses files that contradict themselves, and says where."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.published import DIRECTORY, Cell, load_claims, load_table, load_tolerances, printed_count
from replication.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(DIRECTORY, tmp_path / "paper_results")


def change(folder, name, edit):
    path = folder / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def bleu(content):
    return content["rows"][1]["cells"]["BLEU"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: bleu(c).update(value=67.5), "rows.1.cells.BLEU.*67.5 is not what text '67.45' says"),
        (lambda c: bleu(c).update(value=None), "null exactly when standing is unreadable"),
        (lambda c: bleu(c).update(standing="unreadable"), "null exactly when standing is unreadable"),
        (lambda c: bleu(c).update(standing="believed"), "rows.1.cells.BLEU.standing"),
        (lambda c: bleu(c).update(sources=["elsewhere"]), "sources.*elsewhere.*not among.*paper"),
        (lambda c: bleu(c).update(spread=0.1), "spread and spread_text go together"),
        (lambda c: bleu(c).update(spread=0.1, spread_text=".2"), "spread 0.1 is not what"),
        (lambda c: bleu(c).pop("text"), "rows.1.cells.BLEU.text"),
        (lambda c: c["rows"][1]["cells"].pop("NIST"), "row lora-gpt2-medium: cells"),
        (lambda c: c["rows"][1].update(id="ft-gpt2-medium"), "row ids are not unique: .*ft-gpt2-medium"),
        (lambda c: c["rows"][1]["parameters"].update(value=1), "value 1 is not what text '0.35M' says"),
        (lambda c: c["scale"].update(BLEU=10), "scale.BLEU"),
        (lambda c: c.update(schema_version=2), "schema_version"),
        (lambda c: c.update(remark="x"), "remark"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(folder, edit, message):
    change(folder, "solo_connection", edit)
    with pytest.raises(DataError, match=message) as caught:
        load_table("solo_connection", folder)
    assert "solo_connection.json" in str(caught.value)


def test_a_figure_given_twice_is_refused(folder):
    path = folder / "solo_connection.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"NIST": {', '"NIST": {"value": 1}, "NIST": {', 2), encoding="utf-8")
    with pytest.raises(DataError, match=r"solo_connection\.json: key 'NIST' is given twice"):
        load_table("solo_connection", folder)


def test_a_missing_or_malformed_file_is_named(folder):
    (folder / "claims.json").unlink()
    (folder / "tolerances.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"claims\.json: no such file"):
        load_claims(folder)
    with pytest.raises(DataError, match=r"tolerances\.json"):
        load_tolerances(folder)


def test_a_tolerance_that_is_not_the_sum_of_its_parts_is_refused(folder):
    change(folder, "tolerances", lambda c: c["metrics"]["BLEU"].update(half_width=0.03))
    with pytest.raises(DataError, match=r"metrics\.BLEU: .*half_width 0.03"):
        load_tolerances(folder)


def test_a_count_that_the_closed_form_does_not_give_is_refused(folder):
    change(folder, "claims", lambda c: c["counted"][1].update(solo=315_606))
    with pytest.raises(DataError, match="gpt2-large: solo is 315606, the closed form gives 315605"):
        load_claims(folder)


def test_not_a_number_is_refused(folder):
    path = folder / "solo_connection.json"
    path.write_text(path.read_text(encoding="utf-8").replace("67.45", "NaN", 1), encoding="utf-8")
    with pytest.raises(DataError, match="BLEU"):
        load_table("solo_connection", folder)


@given(st.decimals(0, 99, places=2), st.sampled_from([1, 100]))
def test_rescaling_never_adds_or_drops_a_digit(value, scale):
    cell = Cell(value=value, text=f"{value:f}", standing="read", sources=("paper",))
    shifted, spread = cell.rescaled(scale)
    assert spread is None
    assert float(shifted) * scale == pytest.approx(float(value))
    assert len(shifted.split(".")[1]) == (2 if scale == 1 else 4)


def test_printed_counts():
    assert [printed_count(text) for text in ("0.35M", "354.92M", "12K", "8B")] == [
        350_000, 354_920_000, 12_000, 8_000_000_000,
    ]  # fmt: skip
    for wrong in ("0.35", "many", ""):
        with pytest.raises(ValueError, match="is not a"):
            printed_count(wrong)
