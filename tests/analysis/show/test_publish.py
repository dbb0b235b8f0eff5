import pytest

from analysis.show.report import replaced_parts

PARTS = ("tables", "page.html")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "old.csv").write_text("old")
    (folder / "page.html").write_text("old page")
    (folder / "kept.txt").write_text("not ours")
    return folder


def write(folder, text="new"):
    (folder / "tables").mkdir()
    (folder / "tables" / "new.csv").write_text(text)
    (folder / "page.html").write_text(text)


def test_parts_are_replaced_together_and_the_rest_stays(old):
    with replaced_parts(old, PARTS) as folder:
        write(folder)
        assert contents(old)["page.html"] == "old page"
    assert contents(old) == {"tables/new.csv": "new", "page.html": "new", "kept.txt": "not ours"}
    assert [path.name for path in old.parent.iterdir()] == ["report"]


def test_a_failure_while_writing_changes_nothing(old):
    before = contents(old)

    def fail():
        with replaced_parts(old, PARTS) as folder:
            write(folder)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert contents(old) == before
    assert [path.name for path in old.parent.iterdir()] == ["report"]


def test_a_failure_while_moving_puts_everything_back(old, monkeypatch):
    before = contents(old)
    rename = type(old).rename

    def failing(path, target):
        if path.parent.name == "fresh" and path.name == "page.html":
            raise OSError("disk full")
        return rename(path, target)

    monkeypatch.setattr(type(old), "rename", failing)
    with pytest.raises(OSError, match="disk full"), replaced_parts(old, PARTS) as folder:
        write(folder)
    assert contents(old) == before


def test_a_folder_that_is_not_there_is_made(tmp_path):
    with replaced_parts(tmp_path / "a" / "report", PARTS) as folder:
        write(folder)
    assert contents(tmp_path / "a" / "report") == {"tables/new.csv": "new", "page.html": "new"}
