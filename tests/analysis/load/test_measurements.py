import json

from analysis.load.searches import read_memory


def test_rows_are_read_in_the_order_of_k(tmp_path, tasks_module):
    path = tasks_module.write_memory(tmp_path / "cpu")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "rows": content["rows"][::-1], "unit": "bytes"}), encoding="utf-8")
    memory, problems = read_memory(tmp_path / "cpu")
    assert [row.keep for row in memory.rows] == [1, 3, 6, 12, 18]
    assert problems == []


def test_absent_is_no_problem_and_broken_is_named(tmp_path):
    assert read_memory(None) == read_memory(tmp_path) == (None, [])
    (tmp_path / "memory.json").write_text('{"backbone": "x", "batch": 1, "length": 2, "rows": []}', encoding="utf-8")
    memory, problems = read_memory(tmp_path)
    assert memory is None
    assert "memory.json, rows" in problems[0]
