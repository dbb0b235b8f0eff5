import pytest

from analysis.show import page as further
from analysis.show.page import Section


def test_makers_may_have_nothing_to_say(monkeypatch):
    makers = (lambda profile: Section(profile, "Yes"), lambda profile: None)
    monkeypatch.setattr(further, "FURTHER", makers)
    assert [section.key for section in further.further_sections("cpu")] == ["cpu"]


@pytest.mark.parametrize("profile", ["quick", "cpu", "paper"])
def test_counts_and_memory_stand_on_every_profile(profile):
    sections = {section.key: section for section in further.further_sections(profile)}
    counts, memory = sections["full-scale-counts"], sections["full-scale-memory"]
    published = {row[3]: row[5] for row in counts.blocks[0].rows}
    assert published["0.35M"] in ("393,216", "not counted")
    assert published["0.26M"] == "259,499"
    assert [drawing.name for drawing in memory.drawings] == ["memory_full_scale"]


def test_every_key_is_given_once():
    keys = [section.key for section in further.further_sections("cpu")]
    assert len(keys) == len(set(keys))


def test_ablations_stand_on_the_quick_page_alone():
    assert "ablations" in [section.key for section in further.further_sections("quick")]
    assert "ablations" not in [section.key for section in further.further_sections("cpu")]
