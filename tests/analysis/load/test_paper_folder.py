"""Every file of `paper_results/` is checked by some model, and a stray or missing one is named."""

import pytest

from analysis.load.paper_files import DIRECTORY
from analysis.load.paper_folder import FILES, load_folder
from replication.errors import DataError


def test_every_file_is_checked():
    found = load_folder()
    assert set(found) == set(FILES) == {path.name for path in DIRECTORY.iterdir()} - {"README.md"}
    assert all(isinstance(found[name], model) for name, model in FILES.items())


def test_a_stray_or_missing_file_is_named(published_folder):
    (published_folder / "claim.yaml").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"unknown file 'claim\.yaml'; did you mean 'claims\.yaml'"):
        load_folder(published_folder)
    (published_folder / "claim.yaml").unlink()
    (published_folder / "weightlora_logs.yaml").unlink()
    with pytest.raises(DataError, match=r"weightlora_logs\.yaml: no such file"):
        load_folder(published_folder)


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_unknown_key_is_refused_in_every_file(published_folder, name):
    path = published_folder / name
    text = path.read_text(encoding="utf-8")
    stray = text.replace("{", '{"scource": 1,', 1) if name.endswith(".json") else f"scource: 1\n{text}"
    path.write_text(stray, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}, top level: unknown key 'scource'; .*valid: "):
        load_folder(published_folder)
