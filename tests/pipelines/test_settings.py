from __future__ import annotations

import pytest
import yaml

from pipelines.settings import load_settings
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
        (lambda p: p.update(thread=2), "thread"),
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
