from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.shared.settings import load_settings
from replication.errors import ConfigError


@pytest.fixture
def quick(project_root):
    return yaml.safe_load((project_root / "params.yaml").read_text())


def written(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_quick_profile_loads(project_root):
    settings = load_settings(project_root / "params.yaml")
    assert settings.profile == "quick"
    assert {experiment.method for experiment in settings.experiments.values()} >= {
        "full",
        "frozen",
        "lora",
        "solo_connection",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["experiments"]["lora"].update(lerning_rate=1), r"experiments\.lora\.lerning_rate"),
        (lambda p: p["experiments"]["lora"].update(seeds=[]), r"experiments\.lora\.seeds"),
        (lambda p: p["experiments"]["lora"].update(seeds=[1, 1]), "seeds must be distinct"),
        (lambda p: p["experiments"]["lora"].update(task="xsum"), r"experiments\.lora\.task=xsum"),
        (lambda p: p["experiments"]["lora"].update(backbone="gpt5"), r"experiments\.lora\.backbone=gpt5"),
        (lambda p: p["experiments"]["lora"].update(learning_rate=-1), r"experiments\.lora\.learning_rate"),
        (lambda p: p["experiments"]["lora"].update(learning_rate=None), "only method baseline may have"),
        (lambda p: p["experiments"]["sentiment-baseline-majority"].update(learning_rate=0.1), "must be null"),
        (lambda p: p["experiments"]["sentiment-baseline-majority"].update(search="lora"), "must be null"),
        (lambda p: p["experiments"]["sentiment-baseline-majority"].pop("learning_rate"), "learning_rate: Field requir"),
        (lambda p: p["searches"]["lora"].update(method="baseline"), "no learning rate to search"),
        (lambda p: p["tasks"]["microworld-e2e"].update(dev_examples=0), r"tasks\.microworld-e2e\.dev_examples"),
        (lambda p: p["tasks"]["microworld-e2e"].update(training={"learning_rate": 1}), "belongs to an experiment"),
        (lambda p: p["search"]["e2e"].update(learning_rates=[2.0, 1.0]), "ascend"),
        (lambda p: p["searches"]["lora"].update(plan="glue"), r"searches\.lora\.plan=glue: search has \[.*'e2e'"),
        (lambda p: p["searches"]["lora"].update(task="xsum"), r"searches\.lora\.task=xsum"),
        (lambda p: p["experiments"]["lora"].update(search="dora"), r"experiments\.lora\.search=dora"),
        (lambda p: p.pop("training"), "training"),
        (lambda p: p.update(thread=2), "thread: unknown field; valid fields: profile, root"),
        (
            lambda p: p["experiments"]["lora"].update(rate=2),
            r"lora\.rate: unknown field; valid fields: .*learning_rate",
        ),
        (lambda p: p["search"]["e2e"].update(seed=1), r"search\.e2e\.seed: unknown field; valid fields: .*seeds"),
        (lambda p: p.update(track=["wandb"]), r"track\.0.*'dvclive' or 'tensorboard'"),
        (lambda p: p.update(threads=True), "threads: true is not a number; give a number"),
        (
            lambda p: p["experiments"]["lora"].update(learning_rate=True),
            r"lora\.learning_rate: True is no learning rate",
        ),
        (lambda p: p["experiments"]["lora"].update(learning_rate={"serach": "lora"}), r"give .* \{search: case\}"),
        (
            lambda p: p["experiments"]["lora"].update(learning_rate={"search": "nope"}, search=None),
            r"experiments\.lora\.search=nope: searches has",
        ),
        (
            lambda p: p["experiments"]["lora"].update(learning_rate={"search": "solo_connection"}, search=None),
            r"lora\.learning_rate: searches\.solo_connection has method=solo_connection, the experiment lora",
        ),
        (lambda p: p["experiments"]["lora"].update(learning_rate={"search": "lora"}), "search stands twice"),
        (lambda p: p["experiments"]["lora"].update(seeds=[True]), r"lora\.seeds\.0: true is not a number"),
        (lambda p: p["tasks"]["qa"].update(test_items=True), r"tasks\.qa\.test_items: true is not a number"),
        (lambda p: p["search"]["e2e"].update(learning_rates=[0.1, True]), r"learning_rates\.1: true is not a number"),
        (
            lambda p: p["experiments"]["lora"].update(settings="r3"),
            r"experiments\.lora\.settings=r3: methods\.lora has",
        ),
        (lambda p: p["experiments"]["lora"].update(method="dora"), r"experiments\.lora\.method=dora: methods has"),
        (lambda p: p.update(profile="../x"), "profile"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, quick, change, message):
    change(quick)
    with pytest.raises(ConfigError, match=message) as error:
        load_settings(written(tmp_path, quick))
    assert "params.yaml" in str(error.value)


def test_unknown_names_list_what_there_is(project_root):
    settings = load_settings(project_root / "params.yaml")
    with pytest.raises(ConfigError, match=r"no 'dora' under experiments; there are: .*lora"):
        settings.experiment("dora")
    with pytest.raises(ConfigError, match="no such file"):
        load_settings(project_root / "absent.yaml")


def test_broken_yaml_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("profile: [")
    with pytest.raises(ConfigError, match=r"params\.yaml: not valid YAML"):
        load_settings(path)


SECTIONS = ("experiments", "tasks", "backbones", "search", "searches", "methods")
ALLOWED = st.text("abzAZ09._-", min_size=1, max_size=100).filter(lambda name: name[0] not in ".-")
FORBIDDEN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).filter(
    lambda name: not name or name[0] in ".-" or any(c not in LETTERS for c in name)
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"


def renamed(project_root, section, name):
    """The quick profile with the fewest entries, and one more of `section`, called `name`."""
    content = yaml.load((project_root / "params.yaml").read_text(), yaml.CSafeLoader)
    plan, case = content["experiments"]["lora"], content["searches"]["lora"]
    for part, key in (
        ("experiments", "lora"), ("searches", "lora"), ("search", case["plan"]), ("tasks", plan["task"]),
        ("backbones", plan["backbone"]), ("methods", plan["method"]),
    ):  # fmt: skip
        content[part] = {key: content[part][key]}
    content["memory"] = None
    content[section][name] = next(iter(content[section].values()))
    return content


@given(section=st.sampled_from(SECTIONS), name=ALLOWED)
@example(section="experiments", name="_")
@example(section="tasks", name="squad_v1.1-part")
def test_letters_digits_points_dashes_and_underscores_make_a_name(project_root, tmp_path, section, name):
    assert name in getattr(load_settings(written(tmp_path, renamed(project_root, section, name))), section)


@given(section=st.sampled_from(SECTIONS), name=FORBIDDEN)
@example(section="experiments", name="../evil")
@example(section="tasks", name="a/b")
@example(section="experiments", name="")
@example(section="tasks", name=".")
@example(section="backbones", name="..")
@example(section="methods", name="lora\n")
@example(section="experiments", name=".hidden")
@example(section="experiments", name="--only")
@example(section="experiments", name="a" * 101)
def test_any_other_name_would_become_a_path_and_is_refused(project_root, tmp_path, section, name):
    content = renamed(project_root, section, name)
    with pytest.raises(ConfigError, match=rf"{section}\..*name .* is not allowed; use letters, digits") as error:
        load_settings(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_an_experiment_with_the_name_of_the_reports_cell_would_never_run_and_is_refused(project_root, tmp_path):
    with pytest.raises(ConfigError, match=r"experiments\.report: this is the name of a stage; choose another"):
        load_settings(written(tmp_path, renamed(project_root, "experiments", "report")))
    assert "report" in load_settings(written(tmp_path, renamed(project_root, "tasks", "report"))).tasks


def test_a_text_where_a_list_is_needed_is_said_so(project_root, tmp_path):
    content = renamed(project_root, "tasks", "x") | {"track": "dvclive"}
    with pytest.raises(ConfigError, match=r"track: give a list, such as \[1, 2\]$"):
        load_settings(written(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("profile: quick\nroot: .\nprofile: cpu\n", "profile", 3),
        ("tasks:\n  qa: {corpus: a}\n  qa: {corpus: b}\n", "qa", 3),
        ("tasks:\n  qa: {corpus: a, source: x, corpus: b}\n", "corpus", 2),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path, text, key, line):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"params\.yaml: .*line {line}: the key '{key}' is already at line \d"):
        load_settings(path)


def test_a_value_may_be_shared_by_an_anchor(project_root, tmp_path):
    text = (project_root / "params.yaml").read_text()
    old = "training: {steps: 60, batch_size: 16,"
    assert text.count(old) == 2
    shared = text.replace(old, "training: &short {steps: 60, batch_size: 16,", 1)
    path = tmp_path / "params.yaml"
    path.write_text(shared)
    assert load_settings(path) == load_settings(project_root / "params.yaml")


@pytest.mark.parametrize("kind", ["folder", "bytes", "yaml", "list", "empty"])
def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(project_root, tmp_path, kind):
    path = tmp_path / "params.yaml"
    contents = {"bytes": b"profile: caf\xe9", "yaml": b"a: [1\nb: 2\n", "list": b"- 1\n", "empty": b""}
    path.mkdir() if kind == "folder" else path.write_bytes(contents[kind])
    command = [sys.executable, "-m", "pipelines.prepare", "--params", str(path), "--task", "qa"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=project_root)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith(f"error: {path}: ")
    assert outcome.stderr.count("\n") == 1
