"""Virtual tokens inside a model: PEFT's own wrapper with the same values is the oracle."""

import copy

import pytest
import torch
from peft import get_peft_model
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaForSequenceClassification,
    MarianConfig,
    MarianForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from replication.errors import AdapterError, DataError
from replication.examples import Encoded
from replication.methods import attach, detach, merge
from replication.methods.peft_baselines import PeftBaselineConfig, peft_config
from replication.methods.shared.virtual_tokens import CACHED, EMBEDDED, cache_argument, prompt_fields
from replication.testing import laws
from replication.testing.tiny_models import TINY_MODELS
from replication.training.checks import free_positions
from replication.training.config import TrainingConfig
from replication.training.loop import train

torch.set_num_threads(1)

COUNT = 4
SIZES = {"vocab_size": 97, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SETTINGS = {
    **{name: {"num_virtual_tokens": COUNT} for name in (*EMBEDDED, *CACHED)},
    "cpt": {"cpt_token_ids": [4, 5, 6, 7]},
}
IDS = torch.randint(3, 97, (2, 6), generator=torch.Generator().manual_seed(3))
IDS[:, -1] = 2  # BART classifies at the last end mark


def llama_classifier():
    return LlamaForSequenceClassification(TINY_MODELS["llama"]().config)


def bart_classifier():
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"vocab_size": 97, "d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "eos_token_id": 2}
    return BartForSequenceClassification(BartConfig(**sizes, **layers, max_position_embeddings=16))


BUILDERS = {
    **TINY_MODELS,
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "deberta": lambda: DebertaV2ForSequenceClassification(DebertaV2Config(**SIZES)),
    "answers": lambda: BertForQuestionAnswering(BertConfig(**SIZES)),
    "llama_classifier": llama_classifier,
    "bart_classifier": bart_classifier,
}
# PEFT's own class cannot run the others: see the refusals below.
PAIRS = [
    *((name, model) for name in EMBEDDED[:3] for model in ("bert", "deberta", "llama_classifier")),
    *((name, model) for name in CACHED for model in ("bert", "llama_classifier", "bart")),
    *((name, model) for name in SETTINGS for model in ("gpt2", "llama")),
    *((name, "bart") for name in EMBEDDED[:2]),
]
FAST = [
    *(("prompt_tuning", model) for model in ("gpt2", "bart", "bert", "llama_classifier")),
    *(("prefix_tuning", model) for model in ("llama", "bart", "bert", "llama_classifier")),
    *(("p_tuning", "deberta"), ("multitask_prompt_tuning", "bert"), ("cpt", "gpt2"), ("cartridge", "gpt2")),
]


def made(model):
    torch.manual_seed(0)
    return BUILDERS[model]().eval()


def with_tokens(model, name, size=0.3):
    return laws.stir(attach(model, PeftBaselineConfig(name=name, settings=SETTINGS[name])), size=size)


def encoder_of(model):
    return next(module for name, module in model.named_modules() if name.endswith("prompt_encoder.default"))


def in_peft(model, name):
    """PEFT's wrapper around a copy of the bare model, with the prompts and the head of `model`."""
    if name in CACHED and cache_argument(BUILDERS["llama"]().model) != "past_key_values":
        pytest.skip("PEFT 0.21.2 knows the cache by its name before transformers 5.24")
    base = detach(copy.deepcopy(model))  # keeps the head
    theirs = get_peft_model(base, peft_config(name, SETTINGS[name], **prompt_fields(name, SETTINGS[name], base))).eval()
    theirs.prompt_encoder["default"].load_state_dict(encoder_of(model).state_dict())
    return theirs


@pytest.mark.parametrize(
    ("name", "builder"), [pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
)
@torch.no_grad()
def test_the_logits_are_those_of_pefts_own_class(name, builder):
    model = with_tokens(made(builder), name)
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    inputs |= {"decoder_input_ids": IDS} if builder == "bart" else {}
    task = {"task_ids": torch.zeros(2, dtype=torch.long)} if name == "multitask_prompt_tuning" else {}
    ours, theirs = model(**inputs).logits, in_peft(model, name)(**inputs, **task).logits
    torch.testing.assert_close(ours, theirs if ours.ndim == 2 else theirs[:, -6:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "builder"), [("prompt_tuning", "gpt2"), ("prefix_tuning", "llama")])
def test_generation_is_that_of_pefts_own_class(name, builder):
    model = with_tokens(made(builder), name)
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1}
    ours = model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options)
    theirs = in_peft(model, name).generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options)
    assert torch.equal(ours[:, 6:], theirs[:, -6:])


def test_the_loss_of_a_model_is_that_of_the_base_model_on_the_same_logits(tiny_gpt2):
    """PEFT's wrapper also scores the first token, which the last virtual one predicts."""
    model = with_tokens(tiny_gpt2, "prompt_tuning")
    labels = IDS.masked_fill(IDS == 2, -100)
    theirs = in_peft(model, "prompt_tuning")(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    expected = F.cross_entropy(theirs[:, COUNT:-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(model(input_ids=IDS, labels=labels).loss, expected)


def test_a_padded_row_is_classified_at_its_last_token():
    """PEFT's wrapper gives embeddings alone to the model, which then reads the padding."""
    model = with_tokens(made("llama_classifier"), "prompt_tuning")
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    padded = IDS.masked_fill(mask == 0, 0)
    with torch.no_grad():
        both, short = model(input_ids=padded, attention_mask=mask).logits, model(input_ids=IDS[:1, :4]).logits
    torch.testing.assert_close(both[:1], short)


@torch.no_grad()
def test_answers_are_places_in_the_text():
    model = with_tokens(made("answers"), "p_tuning")
    output = model(input_ids=IDS, token_type_ids=torch.zeros_like(IDS), output_hidden_states=True)
    assert output.start_logits.shape == output.end_logits.shape == IDS.shape
    assert {states.shape[1] for states in output.hidden_states} == {6}


@torch.no_grad()
def test_an_encoder_decoder_classifies():
    model = with_tokens(made("bart_classifier"), "prompt_tuning")
    bare = detach(copy.deepcopy(model))
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    assert not torch.allclose(model(**inputs).logits, bare(**inputs).logits, atol=1e-4)
    assert model(**inputs, return_dict=False)[0].shape == (2, 3)


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning"])
def test_the_training_loop_learns_with_them(name, tiny_llama):
    rows = torch.randint(3, 9, (8, 9), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [Encoded(row, [0, 0] + [1] * 7) for row in rows]
    attach(tiny_llama, PeftBaselineConfig(name=name, settings=SETTINGS[name]))
    config = TrainingConfig(steps=6, warmup_steps=0, learning_rate=0.3, batch_size=8, log_every=1, threads=1)
    losses = [row["loss"] for row in train(tiny_llama, examples, [], config, seed=5, pad_id=0).curves[1:]]
    assert losses[-1] < losses[0] - 0.03


def test_virtual_tokens_take_positions(tiny_gpt2):
    attach(tiny_gpt2, PeftBaselineConfig(name="prompt_tuning", settings={"num_virtual_tokens": 60}))
    assert free_positions(tiny_gpt2) == 4
    with pytest.raises(AdapterError, match=r"64 positions, fewer than 60 before .* 6 of it: .*num_virtual_tokens"):
        tiny_gpt2(input_ids=IDS)
    config = TrainingConfig(steps=1, warmup_steps=0, batch_size=2)
    with pytest.raises(DataError, match=r"has 6 tokens; .* the model has 4 positions"):
        train(tiny_gpt2, [Encoded(row, [1] * 6) for row in IDS.tolist()], [], config, seed=0, pad_id=0)
    assert free_positions(detach(tiny_gpt2)) == 64


@pytest.mark.parametrize("name", CACHED)
def test_a_prefix_needs_a_cache(name, tiny_llama):
    with pytest.raises(AdapterError, match=r"which DebertaV2Model does not have; prompt_tuning, p_tuning"):
        attach(made("deberta"), PeftBaselineConfig(name=name))
    attach(tiny_llama, PeftBaselineConfig(name=name)).train()
    tiny_llama.activation_checkpointing_enable()
    with pytest.raises(AdapterError, match="gradient checkpointing drops the cache"):
        tiny_llama(input_ids=IDS)


def test_cpt_is_for_causal_models_and_no_prompt_is_merged(tiny_llama):
    with pytest.raises(AdapterError, match=r"cpt does not fit BertFor.*CAUSAL_LM"):
        attach(made("bert"), PeftBaselineConfig(name="cpt", settings=SETTINGS["cpt"]))
    with pytest.raises(AdapterError, match="cpt cannot be merged: it is no change of weights"):
        merge(with_tokens(tiny_llama, "cpt"))


def test_tokens_that_cpt_holds_are_held_in_a_copy_too(tiny_llama):
    settings = {"cpt_token_ids": [4, 5, 6, 7], "cpt_tokens_type_mask": [1, 2, 3, 4]}  # the last one is a label
    twin = copy.deepcopy(attach(tiny_llama, PeftBaselineConfig(name="cpt", settings=settings)))
    laws.train_steps(twin)
    moved = encoder_of(twin).delta_embedding.weight.ne(0).any(dim=1)
    assert moved.tolist() == [True, True, True, False]


# --- language models that call their blocks past the modules around them ------------------------------

LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDTHS = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 97}
PAST = {
    **{
        name: lambda width=width: OPTForCausalLM(
            OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=width, max_position_embeddings=32)
        )
        for name, width in (("opt", 16), ("opt_narrow", 8))
    },
    "bart_decoder": lambda: BartForCausalLM(BartConfig(**WIDTHS, **LAYERS, max_position_embeddings=32)),
    "marian_decoder": lambda: MarianForCausalLM(
        MarianConfig(**WIDTHS, **LAYERS, max_position_embeddings=32, pad_token_id=1)
    ),
}


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning"])
@pytest.mark.parametrize("kind", PAST)
def test_virtual_tokens_reach_the_blocks(kind, name):
    torch.manual_seed(0)
    model = PAST[kind]().eval()
    before, twin = model(input_ids=IDS).logits, copy.deepcopy(model)
    attach(model, PeftBaselineConfig(name=name, settings=SETTINGS[name]))
    laws.stir(model, size=0.5)
    after = model(input_ids=IDS).logits
    assert after.shape == before.shape
    assert (after - before).abs().max() > 1e-3
    prompts = [p for n, p in model.named_parameters() if p.requires_grad and "embedding" in n]
    if name == "prompt_tuning":  # the model itself, given the same embeddings
        rows = torch.cat([prompts[0].expand(2, -1, -1), twin.get_input_embeddings()(IDS)], dim=1)
        torch.testing.assert_close(after, twin(inputs_embeds=rows).logits[:, COUNT:])
    assert torch.equal(detach(model)(input_ids=IDS).logits, before)
