"""The import contracts of pyproject.toml: one direction, no torch in analysis, no circle in the library."""

from importlinter.cli import lint_imports


def test_the_import_contracts_hold(project_root, monkeypatch, capsys):
    monkeypatch.chdir(project_root)
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out
