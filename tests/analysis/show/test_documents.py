from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.best import RULE
from analysis.judge.claims import load_bench
from analysis.load.names import ARROW
from analysis.load.runs import load_profile
from analysis.show.documents import ABLATION_TABLE as MARKED
from analysis.show.documents import (
    DOCUMENTS,
    NOT_MEASURED,
    REFERENCE,
    main,
    with_ablation_tables,
    with_lines,
    with_result_tables,
)
from replication.errors import DataError


def test_every_reference_and_table_of_the_documents_is_true(project_root):
    """The one that holds path:line to the code and each table to its JSON."""
    command = ["--only", "details", "--check", "--root", str(project_root)]
    assert main(command) == 0, "run `python -m analysis.show.documents`"


@pytest.mark.parametrize("document", DOCUMENTS[2:])
def test_nothing_that_looks_like_a_reference_escapes_the_check(project_root, document):
    text = (project_root / document).read_text(encoding="utf-8")
    assert len(REFERENCE.findall(text)) == len(re.findall(r"`[\w./-]+\.[a-z]+:\d+`", text)) > 40


@pytest.mark.parametrize("document", DOCUMENTS[2:])
def test_choices_are_numbered_in_order_and_have_a_standing(project_root, document):
    text = (project_root / document).read_text(encoding="utf-8")
    items = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert [int(number) for number, _ in items] == list(range(1, len(items) + 1))
    standings = ("stated", "in code", "inferred", "chosen", "arithmetic", "follows from the equation")
    for number, item in items:
        assert REFERENCE.search(item), f"{document}, {number}: no reference"
        assert any(word in item.lower() for word in standings), f"{document}, {number}: no standing"


def test_every_result_stands_in_one_document(project_root):
    marked = [
        found["name"] for name in DOCUMENTS for found in MARKED.finditer((project_root / name).read_text("utf-8"))
    ]
    measured = {path.stem for path in (project_root / "measurements" / "ablations").glob("*.json")}
    assert len(marked) == len(set(marked))
    assert measured <= set(marked)


@given(before=st.lists(st.sampled_from(["", "x = 1", "# text"]), max_size=6), old=st.integers(1, 9))
def test_a_reference_follows_its_symbol(tmp_path, before, old):
    (tmp_path / "a.py").write_text("\n".join([*before, "def here():", "    pass"]), encoding="utf-8")
    new = with_lines(f"see `a.py:{old}`\n   (`def here`).", tmp_path)
    assert new == f"see `a.py:{len(before) + 1}`\n   (`def here`)."
    assert with_lines(new, tmp_path) == new


def test_the_nearest_of_several_lines_is_taken(tmp_path):
    (tmp_path / "a.py").write_text("x\nhere\nx\nx\nhere\n", encoding="utf-8")
    assert with_lines("`a.py:4` (`here`)", tmp_path) == "`a.py:5` (`here`)"
    assert with_lines("`a.py:1` (`here`)", tmp_path) == "`a.py:2` (`here`)"


@pytest.mark.parametrize(("text", "message"), [("`b.py:1` (`x`)", "no such file"), ("`a.py:1` (`y`)", "no line")])
def test_what_rots_is_named(tmp_path, text, message):
    (tmp_path / "a.py").write_text("x\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        with_lines(text, tmp_path)


def test_an_absent_result_is_said(tmp_path):
    marked = "<!-- ablation:no_such -->\nold\n<!-- /ablation:no_such -->"
    assert (
        with_ablation_tables(marked, tmp_path)
        == f"<!-- ablation:no_such -->\n{NOT_MEASURED}\n<!-- /ablation:no_such -->"
    )


def test_check_names_what_is_stale_and_writing_fixes_it(tmp_path, capsys):
    (tmp_path / "a.py").write_text("\nhere\n", encoding="utf-8")
    for name in DOCUMENTS[2:]:
        (tmp_path / name).write_text("`a.py:1` (`here`)\n", encoding="utf-8")
    assert main(["--only", "details", "--check", "--root", str(tmp_path)]) == 1
    assert str(DOCUMENTS[2]) in capsys.readouterr().out
    assert main(["--only", "details", "--root", str(tmp_path)]) == 0
    assert (tmp_path / DOCUMENTS[2]).read_text(encoding="utf-8") == "`a.py:2` (`here`)\n"
    assert main(["--only", "details", "--check", "--root", str(tmp_path)]) == 0


def test_the_readme_shows_the_committed_runs(project_root, committed_results, monkeypatch):
    monkeypatch.chdir(project_root)
    results, readme = (Path(project_root / name).read_text(encoding="utf-8") for name in ("RESULTS.md", "README.md"))
    assert "<!-- table:quick -->" in results
    assert "<!-- table:cpu -->" in results
    assert "<!-- table:cpu:answer -->" in readme
    assert len(re.findall(r"^\| (Solo Connection|WeightLoRA) \d\. ", readme, re.MULTILINE)) == 8
    assert main(["--only", "readme", "--check"]) == 0, "run `python -m analysis.show.documents`"


def test_only_the_marked_part_changes(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    text = "before\n<!-- table:quick -->\nstale\n<!-- /table:quick -->\nafter\n"
    new = with_result_tables(text)
    assert new.startswith("before\n<!-- table:quick -->\n")
    assert new.endswith("<!-- /table:quick -->\nafter\n")
    assert "stale" not in new
    assert "BLEU" in new
    assert with_result_tables(new) == new


def test_a_profile_without_runs_is_named(tmp_path):
    with pytest.raises(DataError, match="runs for the table marked 'quick'"):
        with_result_tables("<!-- table:quick -->\n<!-- /table:quick -->", tmp_path)


def marked(name):
    return f"<!-- table:{name} -->\nstale\n<!-- /table:{name} -->\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("glue", "| WeightLoRA (r=8, K=3) |"),
        ("learned", "did not learn"),
        ("parameters", "Adapter parameters at the end"),
        ("selected", "3 of 18"),
        ("claims", "- **Claim 3: "),
        ("qa", "Not run yet."),
        ("answer", "| WeightLoRA 3. Choosing adapters by learned weight beats choosing them at random. |"),
    ],
)
def test_a_weightlora_table_has_a_marker_of_its_own(task_runs, name, words):
    new = with_result_tables(marked(f"cpu:{name}"), task_runs.parents[1])
    assert words in new
    assert "stale" not in new
    assert with_result_tables(new, task_runs.parents[1]) == new


def test_the_rules_of_the_marks_stand_once_in_a_document(task_runs):
    new = with_result_tables(marked("cpu:glue") + marked("cpu:parameters") + marked("cpu:glue"), task_runs.parents[1])
    assert new.count("| WeightLoRA+ (K=12→3, r=4→16) |") == 2
    assert [new.count(f"- {rule[:40]}") for rule in (RULE, ARROW)] == [1, 1]


def test_an_unknown_table_is_named(task_runs):
    with pytest.raises(DataError, match=r"no WeightLoRA table 'glu'; valid names: glue, qa"):
        with_result_tables(marked("cpu:glu"), task_runs.parents[1])


def test_the_generation_table_leaves_other_tasks_out(task_runs, write_runs, write_task_runs, tmp_path):
    write_runs(tmp_path / "runs", items=6, seeds=[18])
    write_task_runs(tmp_path / "runs", profile="quick", tasks=("cola",), methods=("lora",), items=10, seeds=(18,))
    new = with_result_tables(marked("quick"), tmp_path)
    assert "Solo Connection" in new
    assert "cola" not in new


def test_conditions_and_untested_cases_stand_in_the_report_alone(task_runs):
    """A page for a first look: what tests nothing, and columns of settings, are one link away."""
    glue = with_result_tables(marked("cpu:glue"), task_runs.parents[1])
    assert "| Steps |" not in glue
    assert "| Adapter parameters |" in glue
    assert "see the cpu report" in glue
    claims = with_result_tables(marked("cpu:claims"), task_runs.parents[1])
    found = load_bench("cpu", load_profile(task_runs)).of_paper("weightlora")
    untested = [case.text for judged in found for case in judged.cases if case.untested is not None]
    tested = [case.text for judged in found for case in judged.tested]
    assert untested
    assert tested
    assert not [text for text in untested if text in claims]
    assert not [text for text in tested if text not in claims]


def test_links_lead_somewhere_and_tables_are_whole(project_root):
    """A blank line or a row with another number of cells breaks a Markdown table."""
    folders = ("*.md", "docs/*.md", "notebooks/*.md", "paper_results/*.md", "measurements/*/*.md", "gold/*.md")
    paths = [path for folder in folders for path in project_root.glob(folder)]
    assert len(paths) > 25
    for path in paths:
        check_markdown(path, path.relative_to(project_root))


def check_markdown(path, name):
    code = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
    text = code.sub(lambda found: "\n" * found[0].count("\n"), path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            continue
        first = not lines[number - 1].startswith("|")
        other = lines[number + 1] if first else lines[number - 1]
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in (line, other)]
        assert cells[0] == cells[1], f"{name}, line {number + 1}"
        header = re.fullmatch(r"\|( ?:?-+:? ?\|)+", lines[number + 1]) if first else True
        assert header, f"{name}, line {number + 1}: no header"
