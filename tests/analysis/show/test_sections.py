import pytest

from analysis.show import sections as module
from analysis.show.blocks import Block
from analysis.show.sections import Section, further_sections
from replication.errors import ConfigError


@pytest.fixture(scope="module")
def built():
    """Profile -> key -> section."""
    return {profile: {s.key: s for s in further_sections(profile)} for profile in ("quick", "cpu")}


@pytest.mark.parametrize("key", ["", "Full", "full scale", "1st", "a_b"])
def test_a_key_that_is_no_place_on_a_page_is_refused(key):
    with pytest.raises(ConfigError, match="section key"):
        Section(key, "Title")


def test_tables_get_keys():
    blocks = (Block("a", ("x",), (("1",),)), Block("b", ("x",), (("1",),), key="own"))
    assert [block.key for block in Section("full-scale", "Title", (), blocks).named_blocks] == ["full-scale_1", "own"]


def test_makers_may_have_nothing_to_say(monkeypatch):
    makers = (lambda profile: Section(profile, "Yes"), lambda profile: None)
    monkeypatch.setattr(module, "FURTHER", makers)
    assert [section.key for section in further_sections("cpu")] == ["cpu"]


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_counts_and_memory_stand_on_every_profile(built, profile):
    counts, memory = built[profile]["full-scale-counts"], built[profile]["full-scale-memory"]
    published = {row[3]: row[5] for row in counts.blocks[0].rows}
    assert published["0.35M"] in ("393,216", "not counted")
    assert published["0.26M"] == "259,499"
    assert [drawing.name for drawing in memory.drawings] == ["memory_full_scale"]
    assert all(section.about for section in built[profile].values())


def test_ablations_stand_on_the_quick_report_alone(built):
    assert list(built["quick"]) == [*built["cpu"], "ablations"]


def test_ablations_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert module.ablations("quick") is not None
