"""The frozen base: nothing trains but a task head; the saved form is empty and valid."""

import torch
from safetensors import safe_open

from replication.methods import attach, load, save, trainable_parameters
from replication.methods.frozen import FrozenConfig


def test_nothing_trains(tiny_gpt2):
    assert trainable_parameters(attach(tiny_gpt2, FrozenConfig())) == {}
    assert not any(parameter.requires_grad for parameter in tiny_gpt2.parameters())
    assert FrozenConfig().closed_form_parameters(32, 6) == 0


def test_the_saved_form_is_an_empty_but_valid_file(tiny_llama, tmp_path):
    save(attach(tiny_llama, FrozenConfig()), tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as handle:
        assert list(handle.keys()) == []


def test_a_task_head_is_saved_and_loaded(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    def build(seed):
        torch.manual_seed(seed)
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        return BertForSequenceClassification(BertConfig(vocab_size=9, hidden_size=8, num_labels=3, **sizes)).eval()

    one, other = attach(build(0), FrozenConfig()), build(0)
    pooler = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    assert list(trainable_parameters(one)) == [*pooler, "classifier.weight", "classifier.bias"]
    with torch.no_grad():
        one.classifier.weight.normal_()
    save(one, tmp_path)
    load(other, tmp_path)
    assert torch.equal(other.classifier.weight, one.classifier.weight)
