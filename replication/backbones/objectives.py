"""Pretraining objectives of a new language model: one for each kind of architecture.

Causal models predict the next token; encoders restore masked tokens (BERT, Devlin et al. 2019, section 3.1, with
DeBERTa's spans of up to three words, He et al. 2020, arXiv 2006.03654); encoder-decoders restore text whose spans
were each replaced by one mask token (BART, Lewis et al. 2019, section 2.2: text infilling, without the shuffling of
sentences).

Noise is decided when a passage is encoded, only from (seed, passage, copy). A passage appears in the training
set as several copies with different noise, as in BERT: a resumed run needs no random state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError, DataError
from replication.examples import collate, encode_text

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from replication.training.losses import Batch

IGNORED = -100
"""Label of a position that the loss ignores, as in Hugging Face's models."""
SPAN_LENGTH = 3.0
"""Mean of the Poisson distribution that span lengths come from (Lewis et al. 2019)."""


@dataclass(frozen=True)
class Noised:
    """Model inputs and targets: `labels` for each input token (encoder) or in order (decoder)."""

    input_ids: list[int]
    labels: list[int]
    text: str = ""

    def __len__(self) -> int:
        return max(len(self.input_ids), len(self.labels))


@dataclass(frozen=True)
class Noise:
    """How one copy of a passage is corrupted: `share` of its tokens, from this random generator."""

    share: float
    random: np.random.Generator


@dataclass(frozen=True)
class Objective:
    """One way to pretrain.

    `encode(tokenizer, text, max_length, noise)` returns an example; `collate(batch, pad_id)` tensors with
    `attention_mask`; `loss(model, batch)` (None: the training loop's own) a summed loss and the number of
    predicted tokens. `share` is the usual share of corrupted tokens, 0 for an objective without noise.
    """

    name: str
    share: float
    encode: Callable[[PreTrainedTokenizerBase, str, int, Noise], Any]
    collate: Callable[[Sequence[Any], int], Batch]
    loss: Callable[[nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]] | None


def _generator(*key: int) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(list(key))


def noise_for(objective: Objective, share: float | None, seed: int, passage: int, copy: int) -> Noise:
    """The noise of one copy of one passage; the same arguments give the same noise."""
    return Noise(objective.share if share is None else share, _generator(seed, passage, copy))


# --- causal


def _encode_causal(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int, noise: Noise) -> Any:
    return encode_text(tokenizer, text, int(tokenizer.eos_token_id), max_length)


# --- masked


def _encode_masked(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int, noise: Noise) -> Noised:
    """Corrupt `share` of the tokens in spans of one to three words; all of them are to be restored.

    80 % of the spans become masks, 10 % random tokens, 10 % stay. Half of the passages of several sentences are
    read as a pair, cut between two sentences, so that the model knows the form of the pair tasks.
    """
    _refuse_blank(text)
    encoding = tokenizer(*_as_pair(text, noise.random), truncation=True, max_length=max_length)
    ids = encoding["input_ids"]
    inputs, labels = list(ids), [IGNORED] * len(ids)
    ordinary = _ordinary_tokens(tokenizer)
    for span in _word_spans(encoding, noise):
        draw = noise.random.random()
        for position in span:
            labels[position] = ids[position]
            if draw < 0.8:
                inputs[position] = int(tokenizer.mask_token_id)
            elif draw < 0.9:
                inputs[position] = int(noise.random.choice(ordinary))
    return Noised(inputs, labels, text[:60])


def _word_spans(encoding: Any, noise: Noise) -> list[list[int]]:
    """Disjoint spans of one to three whole words, round(share * tokens) tokens in all: the last one may be cut."""
    words: list[list[int]] = []
    before: tuple[int, int] | None = None
    for position, (segment, word) in enumerate(zip(encoding.sequence_ids(), encoding.word_ids(), strict=True)):
        if word is None:
            continue
        if (segment, word) != before:
            words.append([])
        words[-1].append(position)
        before = (segment, word)
    budget = max(1, round(noise.share * sum(map(len, words))))
    spans: list[list[int]] = []
    taken: set[int] = set()
    for start in noise.random.permutation(len(words)).tolist():
        room = budget - sum(map(len, spans))
        if not room:
            break
        span: list[int] = []
        for word in range(start, min(start + int(noise.random.integers(1, 4)), len(words))):
            if word in taken:
                break
            taken.add(word)
            span += words[word]
        if span:
            spans.append(span[:room])
    return spans


@lru_cache(maxsize=4)
def _ordinary_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    special = set(tokenizer.all_special_ids)
    return tuple(token for token in range(len(tokenizer)) if token not in special)


def _as_pair(text: str, random: np.random.Generator) -> tuple[str, str | None]:
    ends = [at + 1 for at in range(len(text) - 1) if text[at] in ".!?" and text[at + 1] == " "]
    if not ends or random.random() < 0.5:
        return text, None
    cut = int(random.choice(ends))
    return text[:cut], text[cut + 1 :]


def _masked_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy over the corrupted tokens, and their number."""
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return _label_loss(output.logits, batch["labels"])


# --- infilling


def _encode_infilled(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int, noise: Noise) -> Noised:
    """Replace spans of Poisson(3) tokens, `share` of the text, by one mask each; the decoder learns all of the text."""
    _refuse_blank(text)
    ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    start, *body, end = ids
    corrupted = infill(body, int(tokenizer.mask_token_id), noise)
    return Noised([start, *corrupted, end], list(ids), text[:60])


def infill(ids: Sequence[int], mask: int, noise: Noise) -> list[int]:
    """`ids` with spans replaced by one `mask` each; a span of length 0 only inserts one.

    The spans cover exactly round(share * tokens) of the tokens and never touch one another.
    """
    budget = round(noise.share * len(ids))
    spans: list[int] = []
    while sum(spans) < budget:
        spans.append(min(int(noise.random.poisson(SPAN_LENGTH)), budget - sum(spans)))
    kept = len(ids) - sum(spans)
    spans = _at_most(spans, kept + 1)
    # The gap between kept tokens (or after the last) of each span: no two in one gap, so none touch.
    gaps = sorted(noise.random.permutation(kept + 1)[: len(spans)].tolist())
    corrupted: list[int] = []
    position = 0
    remaining = iter(zip(gaps, spans, strict=True))
    gap, span = next(remaining, (kept + 1, 0))
    for index in range(kept + 1):
        if index == gap:
            corrupted.append(mask)
            position += span
            gap, span = next(remaining, (kept + 1, 0))
        if index < kept:
            corrupted.append(ids[position])
            position += 1
    return corrupted


def _at_most(spans: list[int], count: int) -> list[int]:
    """The same tokens in at most `count` spans: the surplus goes into the last one."""
    return spans if len(spans) <= count else [*spans[: count - 1], sum(spans[count - 1 :])]


def _infilled_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy over the decoder's tokens, and their number; the model shifts the labels itself."""
    output = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"], use_cache=False
    )
    return _label_loss(output.logits, batch["labels"])


def _label_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from torch.nn import functional as F

    learned = labels != IGNORED
    return F.cross_entropy(logits[learned].float(), labels[learned], reduction="sum"), learned.sum()


def _refuse_blank(text: str) -> None:
    if not text.strip():
        raise DataError("a passage of free text is blank; leave the row out")


def collate_noised(batch: Sequence[Noised], pad_id: int) -> Batch:
    """Pad to the right: int64 `input_ids`, `attention_mask`, `labels` (IGNORED on padding)."""
    import torch

    if not batch:
        raise DataError("cannot make a batch of no examples")

    def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [filler] * (longest - len(row)) for row in rows], dtype=torch.long)

    return {
        "input_ids": padded([example.input_ids for example in batch], pad_id),
        "attention_mask": padded([[1] * len(example.input_ids) for example in batch], 0),
        "labels": padded([example.labels for example in batch], IGNORED),
    }


CAUSAL = Objective("causal", 0.0, _encode_causal, collate, None)
MASKED = Objective("masked", 0.15, _encode_masked, collate_noised, _masked_loss)
INFILLING = Objective("infilling", 0.3, _encode_infilled, collate_noised, _infilled_loss)
_OBJECTIVES = {"causal_lm": CAUSAL, "masked_lm": MASKED, "seq2seq_lm": INFILLING}


def objective_for(task: str) -> Objective:
    """The objective that trains a model of this language modelling task (`Backbone.pretraining_task`)."""
    if task not in _OBJECTIVES:
        raise ConfigError(f"no pretraining objective for the task {task!r}; valid tasks: {', '.join(_OBJECTIVES)}")
    return _OBJECTIVES[task]
