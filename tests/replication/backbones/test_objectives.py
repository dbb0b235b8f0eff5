"""Pretraining objectives: what is corrupted, what is learned, and that both depend only on the seed."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.backbones.objectives import (
    CAUSAL,
    IGNORED,
    INFILLING,
    MASKED,
    Noise,
    collate_noised,
    infill,
    noise_for,
    objective_for,
)
from replication.backbones.vocabularies import train_tokenizer
from replication.errors import ConfigError, DataError

TEXT = "The Golden Pear is a pub by the riverside, and it is cheap. Families are welcome. It serves French food."
TEXTS = [TEXT.replace("pub", word) for word in ("pub", "cafe", "restaurant", "coffee shop")] * 6
DEBERTA = train_tokenizer(TEXTS, 300, "[SEP]", architecture="deberta-v2")
BART = train_tokenizer(TEXTS, 300, "</s>", architecture="bart")
MASK = -1


def noise(share=0.15, *key):
    return Noise(share, np.random.default_rng(list(key) or [0]))


# --- masked tokens


@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.9))
def test_masked_labels_are_the_original_and_nothing_else_changes(seed, share):
    example = MASKED.encode(DEBERTA, TEXT, 200, noise(share, seed))
    restored = [
        label if label != IGNORED else token for token, label in zip(example.input_ids, example.labels, strict=True)
    ]
    assert DEBERTA.decode(restored).replace("[CLS]", "").replace("[SEP]", " ").strip() == TEXT
    special = set(DEBERTA.all_special_ids)
    learned = [position for position, label in enumerate(example.labels) if label != IGNORED]
    assert not any(restored[position] in special for position in learned), "special tokens are never to be guessed"
    assert len(learned) == max(1, round(share * sum(token not in special for token in restored)))
    random_tokens = [
        example.input_ids[position] for position in learned if example.input_ids[position] != DEBERTA.mask_token_id
    ]
    assert not special & set(random_tokens)


def test_of_the_chosen_tokens_four_fifths_are_masked_a_tenth_is_random_and_a_tenth_stays():
    counts = Counter()
    for seed in range(500):
        example = MASKED.encode(DEBERTA, TEXT, 200, noise(0.5, seed))
        for token, label in zip(example.input_ids, example.labels, strict=True):
            if label != IGNORED:
                counts["mask" if token == DEBERTA.mask_token_id else "stays" if token == label else "random"] += 1
    total = counts.total()
    assert total > 3000
    assert counts["mask"] / total == pytest.approx(0.8, abs=0.03)
    assert counts["random"] / total == pytest.approx(0.1, abs=0.02)
    assert counts["stays"] / total == pytest.approx(0.1, abs=0.02)


def test_masks_cover_whole_words():
    """Runs of learned tokens begin and end at word borders, but for the one span that the budget cuts."""
    for seed in range(100):
        example = MASKED.encode(DEBERTA, "The Golden Pear serves French food by the riverside", 200, noise(0.25, seed))
        learned = [label != IGNORED for label in example.labels]
        original = [
            t if label == IGNORED else label for t, label in zip(example.input_ids, example.labels, strict=True)
        ]
        begins = [token.startswith("Ġ") for token in DEBERTA.convert_ids_to_tokens(original)]
        inside = [position for position in range(2, len(original) - 1) if not begins[position]]
        assert len(inside) > 3
        assert sum(learned[position - 1] != learned[position] for position in inside) <= 1


def test_half_of_the_passages_of_several_sentences_are_pairs_cut_between_sentences():
    separator = DEBERTA.sep_token_id
    pairs = 0
    for seed in range(200):
        example = MASKED.encode(DEBERTA, TEXT, 200, noise(0.01, seed))
        pairs += example.input_ids.count(separator) == 2
    assert 70 < pairs < 130
    single = MASKED.encode(DEBERTA, "One sentence only.", 200, noise(0.01))
    assert single.input_ids.count(separator) == 1


# --- infilling


@given(
    ids=st.lists(st.integers(0, 9), max_size=60),
    share=st.floats(0.0, 0.95),
    seed=st.integers(0, 10_000),
)
def test_infilling_hides_its_share_and_keeps_the_rest_in_order(ids, share, seed):
    corrupted = infill(ids, MASK, noise(share, seed))
    budget = round(share * len(ids))
    kept = [token for token in corrupted if token != MASK]
    assert len(kept) == len(ids) - budget
    position = iter(ids)
    assert all(token in position for token in kept), "kept tokens are a subsequence of the text"
    assert (MASK in corrupted) == (budget > 0)
    pairs = pairwise(corrupted)
    assert not any(left == right == MASK for left, right in pairs), "neighbouring masks would be one span"


def test_kept_tokens_are_exactly_those_outside_the_spans():
    """With distinct tokens the spans can be read off: each mask replaces the gap between its neighbours."""
    ids = list(range(1, 200))
    corrupted = infill(ids, MASK, noise(0.3, 5))
    edged = [0, *corrupted, 200]
    hidden = 0
    for position, token in enumerate(edged):
        if token == MASK:
            hidden += edged[position + 1] - edged[position - 1] - 1
        elif position and edged[position - 1] != MASK:
            assert token == edged[position - 1] + 1
    assert hidden == round(0.3 * len(ids))


def test_span_lengths_follow_the_poisson_distribution():
    ids = list(range(1, 2001))
    edged = [0, *infill(ids, MASK, noise(0.3, 1)), 2001]
    lengths = [edged[i + 1] - edged[i - 1] - 1 for i, token in enumerate(edged) if token == MASK]
    assert np.mean(lengths) == pytest.approx(3, abs=0.4)
    assert np.var(lengths) == pytest.approx(3, abs=1.0)
    assert 0 in lengths


def test_infilled_example_is_the_text_behind_its_special_tokens():
    example = INFILLING.encode(BART, TEXT, 200, noise(0.3, 3))
    assert BART.decode(example.labels) == f"<s>{TEXT}</s>"
    assert example.input_ids[0] == BART.bos_token_id
    assert example.input_ids[-1] == BART.eos_token_id
    assert BART.mask_token_id in example.input_ids
    assert BART.mask_token_id not in example.labels


# --- both


@pytest.mark.parametrize(("objective", "tokenizer"), [(MASKED, DEBERTA), (INFILLING, BART)])
def test_noise_depends_on_seed_passage_and_copy_alone(objective, tokenizer):
    def encoded(*key):
        return objective.encode(tokenizer, TEXT, 200, noise_for(objective, None, *key))

    assert encoded(1, 2, 3) == encoded(1, 2, 3)
    different = [encoded(*key) for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))]
    assert len({tuple(example.input_ids) for example in different}) == 4


@pytest.mark.parametrize(
    ("objective", "tokenizer"), [(MASKED, DEBERTA), (INFILLING, BART), (CAUSAL, DEBERTA)], ids=lambda value: ""
)
def test_what_is_too_long_is_cut_and_what_is_blank_refused(objective, tokenizer):
    assert len(objective.encode(tokenizer, TEXT, 12, noise())) <= 14
    with pytest.raises(DataError, match="blank"):
        objective.encode(tokenizer, " \n", 12, noise())


def test_batches_are_padded_and_padding_is_never_learned():
    batch = [INFILLING.encode(BART, text, 200, noise(0.3, 3)) for text in (TEXT, "A pub.")]
    tensors = collate_noised(batch, BART.pad_token_id)
    assert tensors["input_ids"].shape == tensors["attention_mask"].shape
    short = len(batch[1].input_ids)
    assert tensors["attention_mask"][1].tolist() == [1] * short + [0] * (tensors["input_ids"].shape[1] - short)
    assert set(tensors["input_ids"][1, short:].tolist()) == {BART.pad_token_id}
    assert set(tensors["labels"][1, len(batch[1].labels) :].tolist()) == {IGNORED}
    with pytest.raises(DataError, match="no examples"):
        collate_noised([], 0)


def tiny_model(objective, tokenizer):
    from transformers import BartConfig, BartForConditionalGeneration, DebertaV2Config, DebertaV2ForMaskedLM

    torch.manual_seed(0)
    if objective is INFILLING:
        layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        config = BartConfig(vocab_size=len(tokenizer), d_model=16, max_position_embeddings=128, **layers, **heads)
        return BartForConditionalGeneration(config).eval()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return DebertaV2ForMaskedLM(DebertaV2Config(vocab_size=len(tokenizer), **sizes)).eval()


@pytest.mark.parametrize(
    ("objective", "tokenizer"), [(MASKED, DEBERTA), (INFILLING, BART)], ids=["masked", "infilling"]
)
def test_the_loss_is_that_of_the_stock_model(objective, tokenizer):
    """Oracle: Hugging Face's own loss with the same labels, a mean where ours is a sum and a count."""
    model = tiny_model(objective, tokenizer)
    batch = [objective.encode(tokenizer, text, 200, noise(0.3, 3)) for text in TEXTS[:3]]
    tensors = collate_noised(batch, tokenizer.pad_token_id)
    total, weight = objective.loss(model, tensors)
    assert weight == sum(label != IGNORED for example in batch for label in example.labels)
    assert (total / weight).item() == pytest.approx(model(**tensors).loss.item(), rel=1e-5)


def test_objective_of_a_task():
    assert [objective_for(task) for task in ("causal_lm", "masked_lm", "seq2seq_lm")] == [CAUSAL, MASKED, INFILLING]
    with pytest.raises(ConfigError, match=r"'question_answering'; valid tasks: causal_lm, masked_lm, seq2seq_lm"):
        objective_for("question_answering")
