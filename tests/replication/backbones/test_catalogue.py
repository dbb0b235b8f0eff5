"""The catalogue of backbones: each has a configuration, a pinned source and the tasks it can be built for."""

import math

import pytest
import yaml
from transformers import AutoConfig

from replication.backbones import (
    BACKBONES,
    backbone_config,
    build_empty,
    get_backbone,
)
from replication.backbones.loading import CONFIGS, pretrained_parameters
from replication.errors import ConfigError
from replication.fileio import read_json


def test_every_backbone_has_a_config_of_known_fields_and_every_config_a_backbone():
    # Fields the model code reads without the configuration class declaring them.
    undeclared = {"head_dim", "position_buckets", "norm_rel_ebd", "share_att_key"}
    assert {path.stem for path in CONFIGS.glob("*.json")} == set(BACKBONES)
    for name, backbone in BACKBONES.items():
        fields = read_json(CONFIGS / f"{name}.json")["config"]
        assert fields["model_type"] == backbone.architecture
        known = AutoConfig.for_model(backbone.architecture).to_dict()
        assert set(fields) <= set(known) | undeclared, name


def test_hub_backbones_are_pinned_to_a_commit():
    hub = [backbone for backbone in BACKBONES.values() if backbone.source == "hub"]
    assert len(hub) == 6
    for backbone in hub:
        assert len(backbone.revision) == 40
        assert set(backbone.revision) <= set("0123456789abcdef")


def test_the_commands_that_make_weights_are_stages_that_exist(project_root):
    for backbone in BACKBONES.values():
        if backbone.made_by is None:
            assert backbone.source in ("hub", "package")
            continue
        target = backbone.made_by.removeprefix("dvc repro ")
        pipeline, _, stage = target.rpartition(":")
        assert stage == f"pretrain@{backbone.name}"
        parameters = project_root / (pipeline or "dvc.yaml")
        profile = yaml.safe_load(parameters.with_name("params.yaml").read_text(encoding="utf-8"))
        assert backbone.name in profile["backbones"]


def test_published_parameters_are_counted_without_task_heads():
    for known in (known for known in BACKBONES.values() if known.parameters is not None):
        pieces = pretrained_parameters(known.name, backbone_config(known.name))
        assert sum(math.prod(shape) for _, shape in pieces) == known.parameters, known.name
        assert known.published_bytes == known.parameters * known.stored
    used = {known.name for known in BACKBONES.values() if known.source == "hub" and known.made_by}
    assert used == {known.name for known in BACKBONES.values() if known.parameters is not None}


def test_a_command_for_every_backbone_and_no_hub_command_without_a_hub():
    for known in BACKBONES.values():
        assert known.name in known.command()
        assert "None" not in known.command()
    with pytest.raises(ConfigError, match="mpnet-base is not on a hub"):
        _ = BACKBONES["mpnet-base"].hub_command


def test_tasks():
    assert type(build_empty("gpt2", "sequence_classification")).__name__ == "GPT2ForSequenceClassification"
    assert type(build_empty("bart-large")).__name__ == "BartForConditionalGeneration"
    with pytest.raises(ConfigError, match=r"deberta-v3-base.*'causal_lm'.*sequence_classification"):
        build_empty("deberta-v3-base", "causal_lm")
    with pytest.raises(ConfigError, match="num_labels=0"):
        build_empty("gpt2", "sequence_classification", num_labels=0)


@pytest.mark.parametrize("name", ["deberta-v3-base", "minilm-l6", "mpnet-base", "microworld-deberta"])
def test_tasks_of_encoders(name):
    assert get_backbone(name).tasks == ("sequence_classification", "question_answering", "masked_lm")
    assert build_empty(name, "question_answering").qa_outputs.out_features == 2
    assert type(build_empty(name, "masked_lm")).__name__.endswith("ForMaskedLM")
    assert get_backbone(name).pretraining_task == "masked_lm"


def test_unknown_name_lists_the_names():
    with pytest.raises(ConfigError) as caught:
        get_backbone("gpt3")
    assert "gpt3" in str(caught.value)
    assert all(name in str(caught.value) for name in BACKBONES)
