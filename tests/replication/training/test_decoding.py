"""Beam search against slow oracles, the n-gram ban, stops, batching, padding and caching."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.cache_utils import DynamicLayer

from replication.errors import ConfigError, DataError
from replication.methods import attach, method_config, method_names, trainable_parameters
from replication.testing.laws import stir
from replication.training.decoding import DecodingConfig, EndsWith, NoRepeatGeneratedNgrams, _BeamLayer, generate

SEPARATOR = "<|endoftext|>"


FAMILIES = ("gpt2", "llama")


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token 0 is the separator, token i the word `wi`."""
    words = {SEPARATOR: 0} | {f"w{i}": i for i in range(1, vocabulary)}
    core = Tokenizer(models.WordLevel(words, unk_token=SEPARATOR))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SEPARATOR)


def byte_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Bytes, the given merges, and the separator; `Ċ` is a line feed."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [*alphabet, *("".join(pair) for pair in merges), SEPARATOR]
    vocabulary = {text: i for i, text in enumerate(texts)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SEPARATOR)


def random_model(family: str, vocabulary: int, seed: int = 0, positions: int = 64):
    """Two blocks with large random weights, so that texts differ and log-probabilities are far from ties."""
    torch.manual_seed(seed)
    special = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.4}
    if family == "gpt2":
        config = GPT2Config(vocab_size=vocabulary, n_positions=positions, n_embd=16, n_layer=2, n_head=2, **special)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        **special,
    )
    return LlamaForCausalLM(config).eval()


class MarkovModel(GPT2LMHeadModel):
    """A GPT-2 whose logits depend on the last token only: `table` is (vocabulary, vocabulary)."""

    table: torch.Tensor

    def forward(self, input_ids, **kwargs):
        output = super().forward(input_ids, **kwargs)
        output.logits = self.table[input_ids][:, -output.logits.shape[1] :]
        return output


def markov_model(vocabulary: int, chains: list[list[int]]) -> MarkovModel:
    """Follow the chains almost surely; an earlier chain is likelier where two start alike."""
    config = GPT2Config(vocab_size=vocabulary, n_positions=128, n_embd=8, n_layer=1, n_head=1)
    model = MarkovModel(config).eval()
    model.table = torch.zeros(vocabulary, vocabulary)
    for bonus, chain in enumerate(reversed(chains)):
        for here, following in itertools.pairwise(chain):
            model.table[here, following] = 10.0 + bonus
    return model


def words(ids) -> str:
    return " ".join(f"w{i}" for i in ids)


def log_probabilities(model, prompt: list[int], generated: tuple[int, ...], ngram: int) -> list[float]:
    """Next-token log-probabilities from one plain forward pass, the banned tokens taken out first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + list(generated)])).logits[0, -1].double()
    logits[list(banned_tokens(generated, ngram))] = -math.inf
    return logits.log_softmax(-1).tolist()


def banned_tokens(generated: tuple[int, ...], size: int) -> set[int]:
    """Tokens that would repeat an n-gram of `generated`, by looking at every n-gram."""
    if size == 0 or len(generated) < size:
        return set()
    seen = {generated[i : i + size] for i in range(len(generated) - size + 1)}
    tail = generated[len(generated) - size + 1 :]
    return {ngram[-1] for ngram in seen if ngram[:-1] == tail}


def oracle_beam_search(model, prompt: list[int], config: DecodingConfig, count_prompt: bool = False):
    """Beam search in plain Python: one hypothesis, one forward pass; every step is run."""
    pool = 2 * config.beams
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for step in range(1, config.max_new_tokens + 1):
        candidates = []
        for tokens, score in live:
            scores = log_probabilities(model, prompt, tokens, config.no_repeat_ngram)
            candidates += [((*tokens, token), score + value) for token, value in enumerate(scores)]
        candidates = sorted(candidates, key=lambda item: -item[1])[:pool]
        length = step + (len(prompt) if count_prompt else 0)
        for tokens, score in candidates[: config.beams]:
            if tokens[-1] == 0 or step == config.max_new_tokens:
                finished.append((score / length**config.length_penalty, tokens))
        live = [(tokens, score) for tokens, score in candidates if tokens[-1] != 0][: config.beams]
    return words(token for token in max(finished)[1] if token != 0)


def exhaustive_best(model, prompt: list[int], vocabulary: int, config: DecodingConfig) -> str:
    """The best of all hypotheses there are."""
    best, frontier = (-math.inf, ()), [((), 0.0)]
    for step in range(1, config.max_new_tokens + 1):
        grown = []
        for tokens, score in frontier:
            scores = log_probabilities(model, prompt, tokens, config.no_repeat_ngram)
            for token in range(vocabulary):
                child = ((*tokens, token), score + scores[token])
                if token == 0 or step == config.max_new_tokens:
                    best = max(best, (child[1] / step**config.length_penalty, child[0]))
                else:
                    grown.append(child)
        frontier = grown
    return words(token for token in best[1] if token != 0)


# Oracles


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("penalty", [0.8, 2.0])
def test_equals_a_plain_beam_search(family: str, penalty: float) -> None:
    vocabulary, tokenizer = 7, word_tokenizer(7)
    config = DecodingConfig(beams=3, length_penalty=penalty, no_repeat_ngram=2, max_new_tokens=9)
    contexts = ["w1", "w4 w2 w6 w1", "", "w3 w3 w3 w5 w5 w2 w1"]
    for seed in range(3):
        model = random_model(family, vocabulary, seed)
        expected = [oracle_beam_search(model, [*tokenizer.encode(text), 0], config) for text in contexts]
        assert generate(model, tokenizer, contexts, config, separator=SEPARATOR) == expected


@pytest.mark.parametrize("seed", range(4))
def test_wide_beam_finds_the_best_of_all_hypotheses(seed: int) -> None:
    model, tokenizer = random_model("gpt2", 5, seed), word_tokenizer(5)
    config = DecodingConfig(beams=400, length_penalty=1.0 + 0.3 * seed, no_repeat_ngram=2, max_new_tokens=4)
    contexts = ["w1 w2", "w4 w4 w4 w3 w1"]
    expected = [exhaustive_best(model, [*tokenizer.encode(text), 0], 5, config) for text in contexts]
    assert generate(model, tokenizer, contexts, config, separator=SEPARATOR) == expected


def test_length_penalty_counts_generated_tokens_only() -> None:
    """Fact of the pinned transformers: score = sum of log-probabilities / generated length ** penalty."""
    prompt = torch.tensor([[3, 9, 4, 4, 1, 7, 2, 0]])
    rules = GenerationConfig(
        num_beams=4, num_return_sequences=4, length_penalty=0.8, early_stopping="never", max_new_tokens=6
    )
    rules.update(eos_token_id=0, pad_token_id=0, return_dict_in_generate=True, output_scores=True)
    lengths = set()
    for seed in range(5):
        model = random_model("gpt2", 11, seed)
        output = model.generate(prompt, generation_config=rules)
        for sequence, score in zip(output.sequences, output.sequences_scores.tolist(), strict=True):
            generated = sequence[prompt.shape[1] :].tolist()
            end = generated.index(0) + 1 if 0 in generated else len(generated)
            steps = (
                log_probabilities(model, prompt[0].tolist(), tuple(generated[:i]), 0)[generated[i]] for i in range(end)
            )
            assert score == pytest.approx(sum(steps) / end**0.8, abs=1e-4)
            lengths.add(end)
    assert len(lengths) > 2  # otherwise the base of the exponent was not really tried


def test_counting_the_prompt_would_choose_another_text() -> None:
    tokenizer, prompt = word_tokenizer(7), [3, 3, 3, 5, 5, 2, 1, 4, 6, 6, 2, 0]
    config = DecodingConfig(beams=3, length_penalty=2.0, no_repeat_ngram=2, max_new_tokens=9)
    differs = 0
    for seed in range(6):
        model = random_model("gpt2", 7, seed)
        [text] = generate(model, tokenizer, [words(prompt[:-1])], config, separator=SEPARATOR)
        assert text == oracle_beam_search(model, prompt, config)
        differs += text != oracle_beam_search(model, prompt, config, count_prompt=True)
    assert differs


def test_one_beam_is_greedy() -> None:
    model, tokenizer = random_model("llama", 9, seed=3), word_tokenizer(9)
    config = DecodingConfig(beams=1, no_repeat_ngram=2, max_new_tokens=12)
    contexts, expected = ["w1 w2", "w8", "w5 w5 w7 w1 w1"], []
    for context in contexts:
        ids, generated = [*tokenizer.encode(context), 0], ()
        while len(generated) < 12 and 0 not in generated:
            scores = log_probabilities(model, ids, generated, 2)
            generated = (*generated, max(range(9), key=scores.__getitem__))
        expected.append(words(token for token in generated if token))
    assert generate(model, tokenizer, contexts, config, separator=SEPARATOR) == expected
    assert len(set(expected)) > 1


# The n-gram ban


@given(
    rows=st.integers(1, 5),
    prompt=st.integers(0, 4),
    length=st.integers(0, 14),
    size=st.integers(0, 5),
    seed=st.integers(0, 10**6),
)
def test_processor_bans_exactly_the_repetitions(rows, prompt, length, size, seed) -> None:
    source = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 3, (rows, prompt + length), generator=source)
    scores = torch.randn(rows, 4, generator=source).log_softmax(-1)
    before = scores.clone()
    after = NoRepeatGeneratedNgrams(size, prompt)(ids, scores)
    assert torch.equal(scores, before)
    for row in range(rows):
        banned = banned_tokens(tuple(ids[row, prompt:].tolist()), size)
        assert {token for token in range(4) if after[row, token] == -math.inf} == banned
        kept = [token for token in range(4) if token not in banned]
        share = before[row, kept].exp() / before[row, kept].exp().sum()
        torch.testing.assert_close(after[row, kept].exp(), share)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 30),
    size=st.integers(1, 4),
    beams=st.integers(1, 5),
    family=st.sampled_from(FAMILIES),
)
def test_no_ngram_twice_in_any_text(seed: int, size: int, beams: int, family: str) -> None:
    vocabulary = 6  # few words, long texts: without the ban almost every text repeats itself
    config = DecodingConfig(beams=beams, length_penalty=3.0, no_repeat_ngram=size, max_new_tokens=24)
    contexts = ["w1 w2 w3 w4 w1 w2 w3 w4", "w5", "w2 w2 w2 w2 w2"]
    model, tokenizer = random_model(family, vocabulary, seed), word_tokenizer(vocabulary)
    for text in generate(model, tokenizer, contexts, config, separator=SEPARATOR):
        tokens = text.split()
        ngrams = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
        assert len(ngrams) == len(set(ngrams))


def test_without_the_ban_texts_do_repeat() -> None:
    config = DecodingConfig(beams=2, length_penalty=3.0, no_repeat_ngram=0, max_new_tokens=24)
    model = markov_model(5, [[0, 1, 2, 3, 1]])
    assert generate(model, word_tokenizer(5), ["w4"], config, separator=SEPARATOR) == [words([1, 2, 3] * 8)]


def test_the_prompts_ngrams_are_allowed() -> None:
    """Restating the context is the task; the ban of transformers would forbid the likeliest text."""
    model, tokenizer = markov_model(9, [[0, 1, 2, 3, 4, 0]]), word_tokenizer(9)
    context = "w1 w2 w3 w4"
    assert generate(model, tokenizer, [context], separator=SEPARATOR) == [context]
    theirs = model.generate(
        torch.tensor([[1, 2, 3, 4, 0]]),
        generation_config=GenerationConfig(
            num_beams=10, no_repeat_ngram_size=4, max_new_tokens=8, eos_token_id=0, pad_token_id=0
        ),
    )
    assert "w1 w2 w3 w4" not in words(theirs[0, 5:].tolist())


# Stops and text


def spoken(tokenizer, *pieces: str) -> MarkovModel:
    """A model that says the pieces, one token each, after the separator."""
    vocabulary = tokenizer.get_vocab()
    tokens = [piece.replace(" ", "Ġ").replace("\n", "Ċ") for piece in (SEPARATOR, *pieces)]
    return markov_model(len(tokenizer), [[vocabulary[token] for token in tokens]])


@pytest.mark.mirror
def test_gpt2_stops_at_the_recipes_two_ids(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """50256, the separator, and 628, the double newline (`--eos_token_id 628` of the original's commands)."""
    files = mirror / "gpt2_bpe"
    core = Tokenizer(models.BPE.from_file(str(files / "encoder.json"), str(files / "vocab.bpe")))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SEPARATOR, unk_token=SEPARATOR)
    seen: list[dict] = []
    model = random_model("gpt2", 50257)
    monkeypatch.setattr(model, "generate", lambda **given: seen.append(given) or given["input_ids"])
    generate(model, tokenizer, ["name : The Mill"], separator=SEPARATOR)
    assert seen[0]["generation_config"].eos_token_id == [50256, 628]
    assert seen[0]["input_ids"][0].tolist() == [*tokenizer.encode("name : The Mill"), 50256]


@pytest.mark.parametrize("beams", [1, 4])
def test_a_double_newline_of_one_token_stops(beams: int) -> None:
    tokenizer = byte_tokenizer(("Ċ", "Ċ"))
    model = spoken(tokenizer, " ", "o", "k", "\n\n", "z", "z")
    assert_says_ok_and_stops(model, tokenizer, beams, forwards=4)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_double_newline_of_two_tokens_stops(beams: int) -> None:
    tokenizer = byte_tokenizer()
    model = spoken(tokenizer, " ", "o", "k", "\n", "\n", "\n")
    assert_says_ok_and_stops(model, tokenizer, beams, forwards=5)


def assert_says_ok_and_stops(model, tokenizer, beams: int, forwards: int) -> None:
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    config = DecodingConfig(beams=beams, max_new_tokens=40, no_repeat_ngram=0)
    assert generate(model, tokenizer, ["what\n\nelse"], config, separator=SEPARATOR) == ["ok"]
    if beams == 1:  # with more, other hypotheses may go on after the best has ended
        assert len(calls) == forwards


def test_a_double_newline_made_of_other_tokens_is_cut() -> None:
    tokenizer = byte_tokenizer(("k", "Ċ"))
    model = spoken(tokenizer, " ", "o", "k\n", "\n", "z", "z")
    config = DecodingConfig(beams=2, max_new_tokens=9, length_penalty=3.0)
    assert generate(model, tokenizer, ["what"], config, separator=SEPARATOR) == ["ok"]


def test_only_what_was_generated_is_returned_stripped() -> None:
    tokenizer = byte_tokenizer()
    model = spoken(tokenizer, " ", "a", ",", "b", "\n", SEPARATOR)
    [text] = generate(model, tokenizer, ["name : x"], DecodingConfig(beams=2), separator=SEPARATOR)
    assert text == "a,b"


def test_at_most_the_asked_number_of_tokens() -> None:
    model = markov_model(5, [[0, 1, 2, 3, 1]])
    for most in (1, 5, 64):
        config = DecodingConfig(beams=3, no_repeat_ngram=0, max_new_tokens=most, length_penalty=5.0)
        [text] = generate(model, word_tokenizer(5), ["w4"], config, separator=SEPARATOR)
        assert len(text.split()) == most


def test_ending_criterion() -> None:
    ids = torch.tensor([[7, 7, 1, 7, 7], [7, 7, 7, 7, 1], [1, 1, 7, 7, 7], [1, 1, 1, 1, 7]])
    assert EndsWith([7, 7], prompt_length=2)(ids, None).tolist() == [True, False, True, False]
    assert EndsWith([7, 7], prompt_length=4)(ids, None).tolist() == [False] * 4  # the prompt does not count


# Batches, padding, cache


contexts_lists = st.lists(st.lists(st.integers(1, 11), max_size=20).map(words), min_size=1, max_size=9)


@settings(max_examples=8)
@given(
    contexts=contexts_lists,
    size=st.integers(2, 8),
    beams=st.sampled_from([1, 4]),
    penalty=st.sampled_from([0.8, 2.5]),
    family=st.sampled_from(FAMILIES),
)
def test_company_in_a_batch_and_the_cache_change_no_text(contexts, size, beams, penalty, family) -> None:
    """27 positions: the longest contexts get less room than the rest, alone as well as in company."""
    model, tokenizer = random_model(family, 12, seed=1, positions=27), word_tokenizer(12)
    config = DecodingConfig(beams=beams, length_penalty=penalty, max_new_tokens=12, batch_size=1)
    alone = generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    together = dataclasses.replace(config, batch_size=size)
    assert generate(model, tokenizer, contexts, together, separator=SEPARATOR) == alone
    assert generate(model, tokenizer, contexts, together, separator=SEPARATOR, use_cache=False) == alone


@settings(max_examples=8)
@given(contexts=contexts_lists, data=st.data())
def test_texts_come_back_in_the_order_asked(contexts, data) -> None:
    model, tokenizer = random_model("gpt2", 12, seed=2), word_tokenizer(12)
    config = DecodingConfig(beams=2, max_new_tokens=6, length_penalty=2.0, batch_size=3)
    order = data.draw(st.permutations(range(len(contexts))))
    texts = generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    shuffled = generate(model, tokenizer, [contexts[i] for i in order], config, separator=SEPARATOR)
    assert shuffled == [texts[i] for i in order]


def test_batches_hold_contexts_of_like_length_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, batches = random_model("gpt2", 12), word_tokenizer(12), []
    plain = model.generate

    def recorded(**arguments):
        batches.append(arguments["attention_mask"].sum(dim=1).tolist())
        return plain(**arguments)

    monkeypatch.setattr(model, "generate", recorded)
    contexts = [words([1] * length) for length in (2, 19, 5, 7, 0, 11, 3)]
    config = DecodingConfig(beams=1, max_new_tokens=2, batch_size=3)
    generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    assert batches == [[20, 12, 8], [6, 4, 3], [1]]


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning"])
@pytest.mark.parametrize("family", FAMILIES)
def test_virtual_tokens_decode_alike_with_and_without_cache(family, name) -> None:
    model, tokenizer = random_model(family, 12, seed=1), word_tokenizer(12)
    attach(model, method_config("peft_baselines", name=name, settings={"num_virtual_tokens": 3}))
    stir(model, size=0.5)
    config, contexts = DecodingConfig(beams=4, max_new_tokens=8, batch_size=2), [words([1, 2, 3, 4]), words([5, 6])]
    cached = generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    assert cached == generate(model, tokenizer, contexts, config, separator=SEPARATOR, use_cache=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_runs_once_and_not_once_a_beam(family) -> None:
    model, tokenizer, shapes = random_model(family, 12, seed=1), word_tokenizer(12), []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    config = DecodingConfig(beams=4, max_new_tokens=5, batch_size=2)
    generate(model, tokenizer, [words([1, 2, 3, 4]), words([5, 6])], config, separator=SEPARATOR)
    hook.remove()
    assert shapes[0] == (2, 4)  # five tokens with the separator, which generate takes itself
    assert set(shapes[1:]) == {(8, 1)}


@settings(max_examples=20)
@given(prompts=st.integers(1, 3), beams=st.integers(1, 4), length=st.integers(1, 4), steps=st.integers(1, 5))
def test_beams_over_a_prompt_that_stays_hold_what_copies_hold(prompts, beams, length, steps) -> None:
    """The cache of beam search against that of transformers, under any choice of beams within each prompt."""
    random = torch.Generator().manual_seed(prompts + 7 * steps)
    draw = partial(torch.randn, generator=random)
    keys, values, plain = draw(prompts, 2, length, 3), draw(prompts, 2, length, 3), DynamicLayer()
    plain.update(keys.repeat_interleave(beams, dim=0), values.repeat_interleave(beams, dim=0))
    ours = _BeamLayer(keys, values, beams, room=steps)
    for _ in range(steps):
        new = draw(prompts * beams, 2, 1, 3), draw(prompts * beams, 2, 1, 3)
        for mine, theirs in zip(ours.update(*new), plain.update(*new), strict=True):
            assert torch.equal(mine, theirs)
        assert ours.get_seq_length() == plain.get_seq_length()
        chosen = torch.randint(beams, (prompts, beams), generator=random) + beams * torch.arange(prompts)[:, None]
        for layer in (ours, plain):
            layer.reorder_cache(chosen.flatten())


def test_the_room_left_bounds_the_text() -> None:
    model, tokenizer = random_model("gpt2", 12, seed=1, positions=16), word_tokenizer(12)
    config = DecodingConfig(beams=3, length_penalty=9.0, no_repeat_ngram=0)
    full, nearly, short = words([3] * 14), words([3] * 12), "w3"
    lengths = [
        len(text.split()) for text in generate(model, tokenizer, [full, nearly, short], config, separator=SEPARATOR)
    ]
    assert lengths[0] <= 1
    assert lengths[1] <= 3
    assert 3 < lengths[2] <= 14


def test_a_context_without_room_is_named() -> None:
    model, tokenizer = random_model("llama", 12, positions=16), word_tokenizer(12)
    with pytest.raises(DataError, match=r"context 2 \('w5 w5.*16 tokens with its separator.*16 positions"):
        generate(model, tokenizer, ["w1", words([5] * 15), "w2"], separator=SEPARATOR)


def test_no_contexts_no_texts() -> None:
    assert generate(random_model("gpt2", 12), word_tokenizer(12), [], separator=SEPARATOR) == []


def test_progress_counts_every_context() -> None:
    done: list[int] = []
    config = DecodingConfig(beams=2, max_new_tokens=2, batch_size=3)
    contexts = [words([1 + i % 5] * i) for i in range(8)]
    model, tokenizer = random_model("gpt2", 12), word_tokenizer(12)
    generate(model, tokenizer, contexts, config, separator=SEPARATOR, progress=done.append)
    assert done == [3, 3, 2]


ATTACHED = sorted(set(method_names()) - {"baseline"})  # which attaches nothing to a model


SMALL = {
    "lora": {"rank": 2},
    "solo_connection": {"rank": 4, "skip_length": 1},
    "weight_lora": {"rank": 2, "keep": 2},
    "weight_lora_plus": {"rank": 2, "expansions": 1},
    "random_lora": {"rank": 2, "keep": 2},
    "peft_baselines": {"name": "rslora", "settings": {"r": 2}, "targets": ("c_attn",)},
}


def adapted_model(method: str, family: str, positions: int = 64):
    """A random model with the method's parameters moved well away from their start."""
    settings = SMALL.get(method, {})
    if method == "peft_baselines" and family == "llama":
        settings = {**settings, "targets": ("query", "value")}  # GPT-2 fuses these in c_attn
    model = attach(random_model(family, 12, seed=1, positions=positions), method_config(method, **settings))
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values() if method != "frozen" else ():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ATTACHED)
def test_every_method_decodes_alike_alone_in_company_and_without_cache(method: str, family: str) -> None:
    model, tokenizer = adapted_model(method, family), word_tokenizer(12)
    contexts = [words(1 + (3 * i + j) % 11 for j in range(i)) for i in (4, 0, 9, 1, 15, 6)]
    config = DecodingConfig(beams=4, length_penalty=2.5, max_new_tokens=12, batch_size=1)
    alone = generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    together = dataclasses.replace(config, batch_size=8)
    assert generate(model, tokenizer, contexts, together, separator=SEPARATOR) == alone
    assert generate(model, tokenizer, contexts, together, separator=SEPARATOR, use_cache=False) == alone
    if method not in ("frozen", "full"):
        detached = generate(random_model(family, 12, seed=1), tokenizer, contexts, config, separator=SEPARATOR)
        assert detached != alone  # the adapter took part in the decoding


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ATTACHED)
def test_cached_padded_logits_are_the_plain_ones(method: str, family: str) -> None:
    """Each step of a left-padded, cached generation against one forward of the bare sequence."""
    model = adapted_model(method, family)
    prompts = [[5, 3, 8, 1, 4, 0], [7, 0], [2, 2, 9, 0]]
    width = max(map(len, prompts))
    output = model.generate(
        torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
        max_new_tokens=8,
        eos_token_id=11,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    stepwise = torch.stack(output.logits, dim=1)
    for row, prompt in enumerate(prompts):
        generated = output.sequences[row, width:].tolist()
        length = generated.index(11) + 1 if 11 in generated else len(generated)
        with torch.no_grad():
            plain = model(torch.tensor([prompt + generated[:length]])).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(stepwise[row, :length], plain, atol=1e-4, rtol=0)


# The model is left as it was, and brings no own rules


def test_the_models_own_generation_settings_are_ignored_and_kept() -> None:
    model, tokenizer = random_model("gpt2", 12, seed=5), word_tokenizer(12)
    contexts, config = ["w1 w2", "w7 w7 w3"], DecodingConfig(beams=3, length_penalty=2.0, max_new_tokens=10)
    plain = generate(model, tokenizer, contexts, config, separator=SEPARATOR)
    own = GenerationConfig(
        do_sample=True,
        temperature=3.0,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        min_new_tokens=9,
        suppress_tokens=[3, 4],
        max_length=5,
        forced_eos_token_id=2,
    )
    model.generation_config = own
    assert generate(model, tokenizer, contexts, config, separator=SEPARATOR) == plain
    assert model.generation_config is own


def test_modes_are_restored_and_dropout_is_off() -> None:
    model, tokenizer = random_model("gpt2", 12, seed=5), word_tokenizer(12)
    config = DecodingConfig(beams=3, length_penalty=2.0, max_new_tokens=10)
    plain = generate(model, tokenizer, ["w1 w2"], config, separator=SEPARATOR)
    model.train()
    model.transformer.h[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert generate(model, tokenizer, ["w1 w2"], config, separator=SEPARATOR) == plain
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_modes_are_restored_after_an_error() -> None:
    model, tokenizer = random_model("gpt2", 12).train(), word_tokenizer(12)
    own = model.generation_config

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, tokenizer, ["w1"], DecodingConfig(beams=1), separator=SEPARATOR, progress=fail)
    assert model.training
    assert model.generation_config is own


def test_bf16_decodes() -> None:
    model = random_model("llama", 12, seed=5).to(torch.bfloat16)
    texts = generate(model, word_tokenizer(12), ["w1", "w2 w3"], DecodingConfig(beams=2), separator=SEPARATOR)
    assert len(texts) == 2


def test_unknown_separator_is_refused() -> None:
    with pytest.raises(ConfigError, match="separator '<sep>'"):
        generate(random_model("gpt2", 12), word_tokenizer(12), ["w1"], separator="<sep>")


def test_encoder_decoder_is_refused(tiny_bart) -> None:
    with pytest.raises(ConfigError, match="encoder-decoder"):
        generate(tiny_bart, word_tokenizer(97), ["w1"], separator=SEPARATOR)
