"""Beam search of E2E prompts by this project's `generate`, and by plain transformers in the order of the file.

Both follow the same rules (stop tokens, 4-gram ban, length penalty) and must give the same texts. The model has GPT-2
small's blocks, a vocabulary of 1,024 and random weights, so every beam runs to the last token.
"""

from __future__ import annotations

import csv
from typing import Any

import torch

from benchmarks.harness import ROOT, Benchmark, Work
from benchmarks.steps import bare

SEPARATOR = "<|endoftext|>"
PROMPTS, BATCH, TOKENS, VOCABULARY = 8, 4, 64, 1024


def prompts(number: int = PROMPTS) -> list[str]:
    """The first different meaning representations of the embedded E2E-like test set."""
    with (ROOT / "data/microworld/testset.csv").open(encoding="utf-8", newline="") as file:
        return list(dict.fromkeys(row["mr"] for row in csv.DictReader(file)))[:number]


def tokenizer() -> Any:
    """A byte-level vocabulary made from the embedded text."""
    from replication.backbones.vocabularies import train_tokenizer

    passages = (ROOT / "data/microworld/pretraining.txt").read_text(encoding="utf-8").splitlines()
    return train_tokenizer(passages, VOCABULARY, SEPARATOR)


def plain(model: Any, words: Any, contexts: list[str], beams: int, tokens: int) -> list[str]:
    """What a reader of transformers' documentation writes."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    from replication.training.decoding import EndsWith, NoRepeatGeneratedNgrams, _Stops, _text

    stops = _Stops(words, SEPARATOR)
    texts = []
    for start in range(0, len(contexts), BATCH):
        rows = [
            [*words.encode(text, add_special_tokens=False), stops.separator_id]
            for text in contexts[start : start + BATCH]
        ]
        width = max(map(len, rows))
        ids = torch.tensor([[stops.separator_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=GenerationConfig(
                    do_sample=False,
                    num_beams=beams,
                    max_new_tokens=tokens,
                    eos_token_id=stops.ids,
                    pad_token_id=stops.separator_id,
                    length_penalty=0.8,
                    early_stopping="never",
                ),
                logits_processor=LogitsProcessorList([NoRepeatGeneratedNgrams(4, width)]),
                stopping_criteria=StoppingCriteriaList([EndsWith(stops.ending, width)] if stops.ending else []),
            )
        texts += [_text(words, row, stops) for row in found[:, width:].tolist()]
    return texts


def search(beams: int = 10, tokens: int = TOKENS, number: int = PROMPTS, by_hand: bool = False) -> Work:
    """One of the two on all prompts."""
    from replication.training.decoding import DecodingConfig, generate

    model, words, contexts = bare("gpt2", vocab_size=VOCABULARY)[0].eval(), tokenizer(), prompts(number)
    if by_hand:
        return lambda: plain(model, words, contexts, beams, tokens)
    config = DecodingConfig(beams=beams, max_new_tokens=tokens, batch_size=BATCH)
    return lambda: generate(model, words, contexts, config, separator=SEPARATOR)


def decoding() -> Benchmark:
    """Ten beams."""
    return Benchmark(
        "beam search with 10 beams of 8 E2E prompts, 64 tokens each, blocks of GPT-2 small",
        "plain generate",
        {"plain generate": lambda: search(by_hand=True), "decoding": search},
        rounds=3,
        same_results=True,
        settings={"prompts": PROMPTS, "batch": BATCH, "tokens": TOKENS, "vocabulary": VOCABULARY},
    )
