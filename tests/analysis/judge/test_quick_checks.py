import pytest

from analysis.judge.quick_checks import quick_checks
from analysis.judge.study import Study
from analysis.load.runs import load_profile


def test_sanity_holds_for_runs_that_learn(quick_runs):
    checks = quick_checks(Study.of(load_profile(quick_runs)).rows)
    assert [check.holds for check in checks] == [True] * 4


@pytest.mark.parametrize(
    ("quality", "broken"),
    [({"frozen": 0.9}, [0, 3]), ({"full": 0.1}, [1]), ({"lora": 0.1}, [2]), ({"solo_connection": 0.1}, [3])],
)
def test_each_part_of_the_sanity_condition_can_break(write_runs, tmp_path, quality, broken):
    rows = Study.of(load_profile(write_runs(tmp_path, items=8, quality=quality))).rows
    assert [index for index, check in enumerate(quick_checks(rows)) if not check.holds] == broken


def test_a_missing_method_breaks_the_sanity_condition(quick_runs):
    rows = [row for row in Study.of(load_profile(quick_runs)).rows if row.method != "full"]
    check = quick_checks(rows)[1]
    assert (check.holds, "not measured" in check.text) == (False, True)
