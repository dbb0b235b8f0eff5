import json
from types import SimpleNamespace

import pytest

from analysis.claim_rows import claim_rows, claims_block, counts_line
from analysis.published import load_claims, load_tolerances
from analysis.records import load_profile
from analysis.statistics import Interval
from analysis.verdicts import judge

CLAIM = SimpleNamespace(number=3, text="It is better.", needs="n", rule="r", source="s", standing="paper")


def verdict(word="supported", **fields):
    values = {"claim": CLAIM, "word": word, "reason": "because", "observed": (), "counted": (), "runs": ("a", "b")}
    return SimpleNamespace(**{**values, **fields})


def row(*arguments, seeds_of=None, **fields):
    return claim_rows("weightlora", [verdict(*arguments, **fields)], "cpu", seeds_of)[0]


def test_an_effect_is_one_line_with_its_intervals():
    found = row(
        metric="accuracy", effect=0.0214, over_items=Interval(0.02, 0.01, 0.03), over_seeds=(0.001, 0.04),
        adjusted_p=0.012, seeds=(18, 52, 1917),
    )  # fmt: skip
    assert found.headline == (
        "+0.021 accuracy (95 % over items +0.010 to +0.030; 95 % over seeds +0.001 to +0.040), Holm-adjusted p 0.012"
    )
    assert (found.id, found.seeds_line, found.seeds) == ("weightlora-3", "3 seeds", (18, 52, 1917))


def test_what_a_difference_holds_is_found_inside_it():
    difference = SimpleNamespace(
        metric="BLEU", effect=-0.5, over_items=None, over_seeds=Interval(-0.5, -0.6, -0.4), seeds=(1,)
    )
    found = row(difference=difference)
    assert found.headline == "−0.500 BLEU (95 % over seeds −0.600 to −0.400)"
    assert found.seeds_line == "one seed"


@pytest.mark.parametrize(
    ("word", "fields", "start"),
    [
        ("not_tested", {"observed": ("LoRA 0.5.",)}, "Seen here, without a verdict: LoRA 0.5."),
        ("inconclusive", {"observed": ("LoRA 0.5.",)}, "Seen here: LoRA 0.5."),
        ("not_tested", {"counted": ("5 of 36.",)}, "Counted, not trained: 5 of 36."),
        ("not_tested", {}, ""),
    ],
)
def test_without_an_effect_the_line_says_what_it_is(word, fields, start):
    assert row(word, **fields).headline == start


def test_a_long_line_is_cut_after_a_clause_and_says_so():
    text = "; ".join(f"case {number} says something" for number in range(20))
    line = row(observed=(text,)).headline
    assert line.endswith("something …")
    assert len(line) < 220


def test_seeds_are_those_that_all_runs_share():
    assert row(seeds_of={"a": (1, 2, 3), "b": (2, 3)}).seeds == (2, 3)
    assert row(seeds_of={}).seeds_line == ""
    assert (row(seeds=4).seed_count, row(seeds=4).seeds) == (4, ())


def test_real_verdicts_of_both_papers_become_rows(quick_runs, task_study, authors):
    from analysis.weightlora_verdicts import judge_weightlora

    loaded = load_profile(quick_runs)
    rows = claim_rows("solo", judge(loaded, load_claims(), load_tolerances()), "quick")
    rows += claim_rows("weightlora", judge_weightlora("cpu", task_study, authors), "cpu")
    assert [row.id for row in rows] == [f"{paper}-{n}" for paper in ("solo", "weightlora") for n in (1, 2, 3, 4)]
    assert all(row.claim and row.reason and row.rule and row.source for row in rows)
    assert counts_line(rows).count("not tested") == 1
    block = claims_block(rows)
    assert len(block.rows) == 8
    assert json.loads(json.dumps([row.as_json() for row in rows]))[0]["paper"] == "Solo Connection"


def test_words_that_are_new_are_counted_too():
    rows = claim_rows("solo", [verdict("supported"), verdict("odd_word"), verdict("supported")], "paper")
    assert counts_line(rows) == "2 supported, 1 odd word"


def test_the_comparison_that_the_judge_names_is_the_headline():
    difference = SimpleNamespace(metric="accuracy", effect=0.03, seeds=(1, 2, 3), over_items=Interval(0.03, 0.01, 0.05),
                                 over_seeds=Interval(0.03, 0.02, 0.04))  # fmt: skip
    question = SimpleNamespace(name="WeightLoRA minus LoRA")
    finding = SimpleNamespace(difference=difference, question=question, p_holm=0.004, detectable=0.02)
    case = SimpleNamespace(title="CoLA on MiniLM-L6, K=3", findings=(finding,), found="WeightLoRA minus LoRA +0.030")
    found = row(headline=finding, cases=(case,), seeds=3)
    assert found.headline == (
        "CoLA on MiniLM-L6, K=3: WeightLoRA minus LoRA +0.030 accuracy (95 % over items +0.010 to +0.050; 95 % over "
        "seeds +0.020 to +0.040), Holm-adjusted p 0.004"
    )
    assert (found.seed_count, found.seeds, found.detectable) == (3, (1, 2, 3), 0.02)
    question.name = "minus LoRA"
    assert ", K=3: WeightLoRA minus LoRA +0.030 accuracy" in row(headline=finding, cases=(case,)).headline
    question.name = "WeightLoRA minus LoRA"
    assert row("not_tested", headline=finding, seeds=3).headline.startswith("Seen here, without a verdict: WeightLoRA")
