"""The loader refuses files that contradict themselves, and says where."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.published import (
    connections,
    load_claims,
    load_metric_example,
    load_table,
    load_tolerances,
    lora_parameters,
    reduction,
    solo_parameters,
    solo_parameters_of,
)
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


def test_both_papers_stand_in_one_form():
    claims = load_claims()
    assert [claim.id for claim in claims.claims] == [f"{p}-{n}" for p in ("solo", "weightlora") for n in (1, 2, 3, 4)]
    assert claims.claim("weightlora-3").key == "better_than_random"
    with pytest.raises(KeyError, match="unknown claim 'weightlora-9'; did you mean 'weightlora-"):
        claims.claim("weightlora-9")


def test_the_comparisons():
    """Which methods, by what."""
    found = {claim.id: (*claim.comparison.methods, claim.comparison.metric) for claim in load_claims().claims}
    assert found == {
        "solo-1": ("solo_connection", "lora", "BLEU"),
        "solo-2": ("solo_connection", "lora", "adapter_parameters"),
        "solo-3": ("solo_connection", "full", "adapter_parameters"),
        "solo-4": ("solo_connection", "training_smoothness"),
        "weightlora-1": ("weight_lora", "lora", "primary_metric"),
        "weightlora-2": ("weight_lora_plus", "weight_lora", "lora", "primary_metric"),
        "weightlora-3": ("weight_lora", "random_lora", "primary_metric"),
        "weightlora-4": ("weight_lora", "lora", "phase2_peak_memory"),
    }


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["claims"][0].update(id="solo-2"), r"claims\.0: id 'solo-2': claim 1 of solo is solo-1"),
        (lambda c: c["claims"][0].update(number=2, id="solo-2"), r"id \['solo-2'\] is given twice"),
        (lambda c: c["claims"][5].update(key="outperforms_lora"), r"key \['outperforms_lora'\] is given twice"),
        (lambda c: c["claims"][0]["comparison"].update(metric="BLUE"), r"comparison\.metric: .*did you mean 'BLEU'"),
        (lambda c: c["claims"][0]["comparison"].update(methods=["lora", "solo"]), r"methods\.1: unknown method 'solo'"),
        (lambda c: c["claims"][0]["comparison"].update(methods=[]), r"comparison\.methods"),
        (lambda c: c["claims"][0].pop("comparison"), r"claims\.0\.comparison: is missing"),
        (lambda c: c["claims"][0].pop("standing"), r"claims\.0\.standing: is missing"),
        (lambda c: c["claims"][0].pop("rule"), r"claims\.0\.rule: is missing"),
        (lambda c: c["claims"][0].update(standing="read"), r"claims\.0\.standing: unknown value 'read'.*third_party"),
        (lambda c: c["claims"][0].update(sources=["sole"]), r"claims\.0\.sources: .*'sole'; did you mean 'solo'"),
        (lambda c: c["claims"][1]["figures"][0].update(value=60), "60 does not match text '59'"),
        (lambda c: c["papers"].pop("solo"), "claim solo-1: unknown paper 'solo'"),
        (lambda c: c["counted"][1].update(solo=315_606), "gpt2-large: solo is 315606, the closed form gives 315605"),
    ],
)
def test_a_claim_that_contradicts_itself_is_refused(published_folder, change, edit, message):
    change("claims", edit)
    with pytest.raises(DataError, match=message) as caught:
        load_claims(published_folder)
    assert "claims.yaml, " in str(caught.value)


def test_a_missing_file_is_named(published_folder):
    (published_folder / "claims.yaml").unlink()
    with pytest.raises(DataError, match=r"claims\.yaml: no such file"):
        load_claims(published_folder)


def test_the_papers_shapes():
    assert solo_parameters(1024, 24, 120, 2) == 259_499
    assert solo_parameters(1024, 24, 120, 6) == 250_339
    assert solo_parameters(1280, 36, 120, 2) == 332_417
    assert solo_parameters(1280, 36, 120, 6) == 315_605
    assert solo_parameters_of(1024, 300, 11, Decimal("0.6")) == 261_659
    assert solo_parameters_of(1280, 300, 5, Decimal("0.6")) == 316_685
    assert lora_parameters(1024, 24, 4) == 393_216
    assert lora_parameters(1280, 36, 4) == 737_280
    assert [connections(24, skip) for skip in (2, 4, 6)] == [11, 5, 3]


def test_the_59_per_cent():
    assert reduction(315_605, 737_280) == pytest.approx(0.5719, abs=5e-5)
    assert reduction(315_605, 770_000) == pytest.approx(0.5901, abs=5e-5)


@given(st.integers(1, 64), st.integers(1, 48), st.integers(1, 16), st.integers(1, 8))
def test_solo_is_a_sum_over_its_parts(width, blocks, rank, skip):
    ends = [block for block in range(1, blocks + 1) if block % skip == 0 and block > skip]
    assert connections(blocks, skip) == len(ends)
    expected = (width * rank + rank) + (rank * width + width) + sum(width + 1 + rank for _ in ends)
    assert solo_parameters(width, blocks, rank, skip) == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("backbone", "method", "settings", "expected"),
    [
        ("gpt2-medium", "lora", {"rank": 4}, lora_parameters(1024, 24, 4)),
        ("gpt2-medium", "solo_connection", {"rank": 120, "skip_length": 2}, solo_parameters(1024, 24, 120, 2)),
        ("gpt2-large", "lora", {"rank": 4}, lora_parameters(1280, 36, 4)),
        ("gpt2-large", "solo_connection", {"rank": 120, "skip_length": 6}, solo_parameters(1280, 36, 120, 6)),
    ],
)
def test_closed_forms_agree_with_the_built_models(backbone, method, settings, expected):
    from replication.backbones import build_empty
    from replication.counting import parameter_counts
    from replication.methods import attach, method_config

    model = attach(build_empty(backbone), method_config(method, **settings))
    assert parameter_counts(model).adapter == expected
