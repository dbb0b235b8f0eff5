"""FT-Top2: the last blocks train and are saved, the rest stays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from replication.errors import AdapterError, ConfigError
from replication.methods import adapter_parameters, attach, save, trainable_parameters
from replication.methods.ft_top2 import FtTop2Config


@pytest.mark.parametrize(
    ("fixture", "blocks"), [("tiny_gpt2", "transformer.h."), ("tiny_llama", "model.layers."),
                            ("tiny_bart", "model.decoder.layers.")]
)  # fmt: skip
def test_the_last_two_blocks_train_and_are_saved(request, fixture, blocks, tmp_path):
    model = attach(request.getfixturevalue(fixture), FtTop2Config())
    expected = [name for name, _ in model.named_parameters() if name.startswith((f"{blocks}4.", f"{blocks}5."))]
    assert list(trainable_parameters(model)) == list(adapter_parameters(model)) == expected
    save(model, tmp_path)
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == set(expected)


@given(width=st.sampled_from([4, 8]), blocks=st.integers(1, 5), top=st.integers(1, 5))
def test_the_closed_form_counts_a_gpt2(width, blocks, top):
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=4, n_embd=width, n_layer=blocks, n_head=1))
    config = FtTop2Config(blocks=top)
    if top > blocks:
        with pytest.raises(AdapterError, match=f"blocks={top} exceeds the model's {blocks}"):
            attach(model, config)
        assert all(parameter.requires_grad for parameter in model.parameters())
        return
    counted = sum(p.numel() for p in trainable_parameters(attach(model, config)).values())
    assert counted == config.closed_form_parameters(width, blocks)


def test_the_published_count():
    assert FtTop2Config().closed_form_parameters(1024, 24) == 25_192_448


def test_a_bad_field_is_refused():
    with pytest.raises(ConfigError, match="blocks=0"):
        FtTop2Config(blocks=0)
