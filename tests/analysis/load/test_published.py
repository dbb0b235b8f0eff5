"""The loader refuses files that contradict themselves, and says where."""

import json

import pytest

from analysis.load.published import load_metric_example, load_table, load_tolerances
from replication.errors import DataError


def bleu(content):
    return content["rows"][1]["cells"]["BLEU"]


def misspell(by_metric):
    by_metric["BLUE"] = by_metric.pop("BLEU")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: bleu(c).update(value=67.5), "rows.1.cells.BLEU.*67.5 does not match text '67.45'"),
        (lambda c: bleu(c).update(value=None), "rows.1.cells.BLEU: value None does not match text '67.45'"),
        (lambda c: bleu(c).update(standing="unreadable"), "exactly when unreadable"),
        (lambda c: bleu(c).update(standing="read"), "rows.1.cells.BLEU.standing: unknown value 'read'.*authors_code"),
        (lambda c: bleu(c).update(standing="unreadible"), "did you mean 'unreadable'"),
        (lambda c: bleu(c).pop("standing"), "rows.1.cells.BLEU.standing: is missing"),
        (lambda c: bleu(c).pop("sources"), "rows.1.cells.BLEU.sources: is missing"),
        (lambda c: bleu(c).update(sources=[]), "rows.1.cells.BLEU.sources"),
        (lambda c: bleu(c).update(sources=["papre"]), "BLEU.sources: unknown source 'papre'; did you mean 'paper'"),
        (lambda c: bleu(c).update(spread=0.1), "spread, spread_text and spread_means go together"),
        (lambda c: bleu(c).update(spread=0.1, spread_text=".2", spread_means="runs"), "spread 0.1 does not match"),
        (lambda c: bleu(c).update(unit="score"), "row lora-gpt2-medium, BLEU: unit 'score', but scale 100 .* 'points'"),
        (lambda c: bleu(c).update(text=67.45), "rows.1.cells.BLEU.text: 67.45 must be in quotes"),
        (lambda c: bleu(c).pop("text"), "rows.1.cells.BLEU.text: is missing"),
        (lambda c: bleu(c).update(vlaue=1), "rows.1.cells.BLEU: unknown key 'vlaue'; did you mean 'value'"),
        (lambda c: misspell(c["rows"][1]["cells"]), "rows.1.cells.BLUE.*: unknown metric 'BLUE'; did you mean 'BLEU'"),
        (lambda c: misspell(c["scale"]), "scale.BLUE.*: unknown metric 'BLUE'; did you mean 'BLEU'"),
        (lambda c: c["rows"][1].update(method="solo_conection"), "did you mean 'solo_connection'"),
        (lambda c: c["rows"][1].update(backbone="gpt2-medum"), "did you mean 'gpt2-medium'"),
        (lambda c: c["sources"]["paper"].pop("table"), r"sources\.paper: the location is missing"),
        (lambda c: c["counts"][0]["adapter"].update(value=1, text="1"), "adapter is 1, the closed form gives 259499"),
        (lambda c: c["counts"][0].pop("sparsity"), "connections and sparsity"),
        (lambda c: c["counts"][3].pop("below"), "below and fewer go together"),
        (lambda c: c["counts"][3]["fewer"].update(value=58, text="58"), "fewer is 58, but 315,605 lies 59.01 per cent"),
        (lambda c: c["rows"][1]["cells"].pop("NIST"), "row lora-gpt2-medium: cells"),
        (lambda c: c["rows"][1].update(id="ft-gpt2-medium"), "row ids are not unique: .*ft-gpt2-medium"),
        (lambda c: c["rows"][1]["parameters"].update(value=1), "value 1 does not match text '0.35M'"),
        (lambda c: c["scale"].update(BLEU=10), "scale.BLEU"),
        (lambda c: c.update(schema_version=2), "schema_version"),
        (lambda c: c.update(remark="x"), "remark"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(published_folder, change, edit, message):
    change("solo_connection", edit)
    with pytest.raises(DataError, match=message) as caught:
        load_table("solo_connection", published_folder)
    assert "solo_connection.yaml, " in str(caught.value)


def test_a_figure_given_twice_is_refused(published_folder):
    path = published_folder / "solo_connection.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("      NIST: {", "      NIST: {value: 1}\n      NIST: {", 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"solo_connection\.yaml: key 'NIST' is given twice, line \d+"):
        load_table("solo_connection", published_folder)


def test_a_malformed_file_is_named(published_folder):
    (published_folder / "tolerances.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"tolerances\.json"):
        load_tolerances(published_folder)
    (published_folder / "lora_e2e.yaml").write_text("rows: [", encoding="utf-8")
    with pytest.raises(DataError, match=r"lora_e2e\.yaml"):
        load_table("lora_e2e", published_folder)


def test_a_tolerance_that_is_not_the_sum_of_its_parts_is_refused(published_folder):
    path = published_folder / "tolerances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["BLEU"]["half_width"] = 0.03
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.BLEU: .*half_width 0.03"):
        load_tolerances(published_folder)


@pytest.mark.parametrize("wrong", ["NaN", ".nan", "Infinity", "'67.45 points'"])
def test_not_a_number_is_refused(published_folder, wrong):
    path = published_folder / "solo_connection.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("67.45", wrong, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"cells\.BLEU"):
        load_table("solo_connection", published_folder)


def test_a_metric_that_the_example_lacks_is_named(published_folder, change):
    change("e2e_metrics", lambda c: c["example"].pop("METEOR"))
    with pytest.raises(DataError, match=r"e2e_metrics\.yaml, top level: example: METEOR is missing"):
        load_metric_example(published_folder)
