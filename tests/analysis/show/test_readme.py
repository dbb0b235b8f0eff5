from __future__ import annotations

import pytest

from analysis.judge.claims import load_bench
from analysis.load.runs import load_profile
from analysis.show.documents import main
from analysis.show.documents import with_result_tables as with_tables
from replication.errors import DataError


def test_the_readme_shows_the_committed_runs(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    text = (project_root / "README.md").read_text(encoding="utf-8")
    assert "<!-- table:quick -->" in text
    assert "<!-- table:cpu -->" in text
    assert main(["--only", "readme", "--check"]) == 0, "run `python -m analysis.show.documents`"


def test_only_the_marked_part_changes(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    text = "before\n<!-- table:quick -->\nstale\n<!-- /table:quick -->\nafter\n"
    new = with_tables(text)
    assert new.startswith("before\n<!-- table:quick -->\n")
    assert new.endswith("<!-- /table:quick -->\nafter\n")
    assert "stale" not in new
    assert "BLEU" in new
    assert with_tables(new) == new


def test_a_profile_without_runs_is_named(tmp_path):
    with pytest.raises(DataError, match="runs for the table marked 'quick'"):
        with_tables("<!-- table:quick -->\n<!-- /table:quick -->", tmp_path)


def marked(name):
    return f"<!-- table:{name} -->\nstale\n<!-- /table:{name} -->\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("glue", "| WeightLoRA (r=8, K=3) |"),
        ("learned", "inconclusive: did not learn"),
        ("parameters", "Adapter parameters at the end"),
        ("selected", "3 of 18"),
        ("claims", "- **Claim 3: "),
        ("qa", "Not run yet."),
    ],
)
def test_a_weightlora_table_has_a_marker_of_its_own(task_runs, name, words):
    new = with_tables(marked(f"cpu:{name}"), task_runs.parents[1])
    assert words in new
    assert "stale" not in new
    assert with_tables(new, task_runs.parents[1]) == new


def test_an_unknown_table_is_named(task_runs):
    with pytest.raises(DataError, match=r"no WeightLoRA table 'glu'; valid names: glue, qa"):
        with_tables(marked("cpu:glu"), task_runs.parents[1])


def test_the_generation_table_leaves_other_tasks_out(task_runs, write_runs, write_task_runs, tmp_path):
    write_runs(tmp_path / "runs", items=6, seeds=[18])
    write_task_runs(tmp_path / "runs", profile="quick", tasks=("cola",), methods=("lora",), items=10, seeds=(18,))
    new = with_tables(marked("quick"), tmp_path)
    assert "Solo Connection" in new
    assert "cola" not in new


def test_conditions_and_untested_cases_stand_in_the_report_alone(task_runs):
    """A page for a first look: what tests nothing, and columns of settings, are one link away."""
    glue = with_tables(marked("cpu:glue"), task_runs.parents[1])
    assert "| Steps |" not in glue
    assert "| Adapter parameters |" in glue
    assert "see the cpu report" in glue
    claims = with_tables(marked("cpu:claims"), task_runs.parents[1])
    found = load_bench("cpu", load_profile(task_runs)).of_paper("weightlora")
    untested = [case.text for judged in found for case in judged.cases if case.untested is not None]
    tested = [case.text for judged in found for case in judged.tested]
    assert untested
    assert tested
    assert not [text for text in untested if text in claims]
    assert not [text for text in tested if text not in claims]
