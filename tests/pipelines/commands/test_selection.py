"""`--profile`, `--params` and `--only`: which profile and which of its experiments a command is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.commands.selection import FIELDS, fields_of, select, settings_of
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError


@pytest.fixture(scope="module")
def paper(project_root):
    return load_settings(project_root / "pipelines/paper/params.yaml")


def test_a_pattern_that_matches_nothing_names_what_is_near(project_root):
    settings = load_settings(project_root / "params.yaml")
    with pytest.raises(ConfigError, match=r"--only sentment-lora: .*did you mean sentiment-lora"):
        select(settings, ["lora", "sentment-lora"])
    with pytest.raises(ConfigError, match=r"--only zz\*: .*experiments: full, frozen"):
        select(settings, ["zz*"])
    with pytest.raises(ConfigError, match=r"--only backbone:gpt-2-large: .*did you mean gpt2-large"):
        select(load_settings(project_root / "pipelines/paper/params.yaml"), ["backbone:gpt-2-large"])
    with pytest.raises(ConfigError, match=r"--only seed:1: no field 'seed'; fields: paper, backbone, task, method"):
        select(settings, ["seed:1"])


@given(data=st.data())
def test_a_field_selects_all_that_have_its_value_and_patterns_add_up(paper, data):
    key = data.draw(st.sampled_from(list(paper.experiments)))
    field = data.draw(st.sampled_from(FIELDS))
    value = data.draw(st.sampled_from(fields_of(paper, key)[field]))
    wanted = [name for name in paper.experiments if value in fields_of(paper, name)[field]]
    assert key in wanted
    assert select(paper, [f"{field}:{value}"]) == wanted
    other = data.draw(st.sampled_from(list(paper.experiments)))
    both = select(paper, [other, f"{field}:{value}"])
    assert both == [name for name in paper.experiments if name in wanted or name == other]


def test_a_corpus_selects_its_tasks_and_a_paper_its_experiments(paper):
    chosen = select(paper, ["task:rte"])
    assert {paper.experiments[key].task for key in chosen} == {"rte", "rte-llama"}
    assert {paper.experiments[key].backbone for key in select(paper, ["paper:solo"])} == {"gpt2-medium", "gpt2-large"}
    assert len(select(paper, ["paper:*"])) == len(paper.experiments)


def test_outside_of_the_project_the_error_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no params\.yaml; run the command in the project's root"):
        settings_of("quick", None)
