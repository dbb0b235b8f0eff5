"""The claims of both papers have one form; a claim that contradicts itself is refused with its field."""

import pytest

from analysis.load.published import load_claims
from replication.errors import DataError


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
        "solo-4": ("solo_connection", "training_loss_rise"),
        "weightlora-1": ("weight_lora", "lora", "primary_metric"),
        "weightlora-2": ("weight_lora_plus", "weight_lora", "lora", "primary_metric"),
        "weightlora-3": ("weight_lora", "random_lora", "primary_metric"),
        "weightlora-4": ("weight_lora", "lora", "phase2_peak_memory"),
    }


def test_every_claim_has_a_judge():
    """A key that no verdict is written for would end a report with a KeyError."""
    from analysis.judge.claims import DRAFTERS, JUDGES

    assert {claim.key for claim in load_claims().claims} == set(JUDGES)
    assert set(DRAFTERS) < set(JUDGES)


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
