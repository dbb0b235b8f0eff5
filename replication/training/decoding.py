"""Beam search by the rules of the LoRA paper's E2E recipe (arXiv 2106.09685; microsoft/LoRA, examples/NLG).

Implementation details, each with its location in the original (examples/NLG/src/gpt2_beam.py):

1. The prompt is the context and one separator token, the form seen in training.
2. A hypothesis scores the sum of its log-probabilities over (number of generated tokens, the stop included)
   ** length_penalty (`_add_beam_candidate`). transformers counts the same tokens; a test holds it to that.
3. No n-gram appears twice within the generated tokens; the prompt's n-grams are allowed, since restating the
   context is the task (`_calc_banned_ngram_tokens`, which sees only the generated history). The setting
   `no_repeat_ngram_size` of transformers counts the prompt as well, so the ban is a processor of ours.
4. A banned token is removed before the softmax, so the others share its probability
   (`_postprocess_next_token_scores`).
5. A hypothesis ends at the separator or at the tokenizer's form of a double newline (one token of GPT-2, two
   of a smaller vocabulary). A double newline put together in another way is cut with all that follows it.
6. The best hypothesis over all steps wins and unfinished ones compete at the last step: the original runs
   every step. `early_stopping="never"` finds the same winner: it ends once no open one can still overtake.

The prompt runs through the model once, not once a beam: beams start from copies of its cache, which no step moves
(`_prompt_cache`, `_BeamLayer`).

One difference remains: in the original a finished hypothesis fills its beam for that step; transformers draws
further candidates, so all beams stay open.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from replication.errors import ConfigError, DataError
from replication.examples import separator_id
from replication.predictions import Prediction, read_predictions, write_predictions
from replication.training.checks import VIRTUAL_TOKENS, free_positions
from replication.training.decoding_config import DecodingConfig

__all__ = [
    "DecodingConfig",
    "EndsWith",
    "NoRepeatGeneratedNgrams",
    "Prediction",
    "generate",
    "read_predictions",
    "write_predictions",
]

DOUBLE_NEWLINE = "\n\n"


def generate(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[str],
    config: DecodingConfig | None = None,
    *,
    separator: str,
    progress: Callable[[int], None] | None = None,
    use_cache: bool = True,
) -> list[str]:
    """Best text for each context, in the order of `contexts`; surrounding white space is stripped.

    `model` is a causal language model with or without an adapter; its mode and its own generation settings
    are left as they were found, and the latter are not used. `progress` is called with the number of contexts
    just finished. A context that leaves fewer than `max_new_tokens` of the model's positions may fill only
    what is left. `use_cache=False` recomputes every step: the same text, slower.
    ConfigError for an unknown separator or kind of model, DataError for a context that leaves no position.
    """
    config = config or DecodingConfig()
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"decoding: {type(model).__name__} is an encoder-decoder; valid is a causal language model")
    stops = _Stops(tokenizer, separator)
    prompts = [[*tokenizer.encode(context, add_special_tokens=False), stops.separator_id] for context in contexts]
    positions = free_positions(model)
    rooms = _rooms(contexts, prompts, config.max_new_tokens, positions)
    texts = [""] * len(prompts)
    with _recipe_alone(model), torch.inference_mode():
        for batch in _batches(prompts, rooms, config.batch_size):
            generated = _generate_batch(
                model, [prompts[index] for index in batch], rooms[batch[0]], config, stops, use_cache
            )
            for index, ids in zip(batch, generated, strict=True):
                texts[index] = _text(tokenizer, ids, stops)
            if progress is not None:
                progress(len(batch))
    return texts


class NoRepeatGeneratedNgrams(LogitsProcessor):
    """Forbid each token that would complete an n-gram a second time within the generated part of its row.

    Rows (batch * beams) are judged only by their own tokens, so beams may be reordered between steps. What
    is left of a row with a ban is normalised again (detail 4). A stop token is never banned, because nothing
    is generated after one; so every row keeps a valid continuation.
    """

    def __init__(self, size: int, prompt_length: int) -> None:
        self.size = size
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(rows, prompt_length + generated) ids, (rows, vocabulary) scores -> scores with -inf at bans."""
        generated = input_ids[:, self.prompt_length :]
        if self.size == 0 or generated.shape[1] < self.size:
            return scores
        seen = generated.unfold(1, self.size, 1)  # (rows, windows, size)
        tail = generated[:, generated.shape[1] - self.size + 1 :]  # the size - 1 tokens before the next one
        rows, windows = (seen[:, :, :-1] == tail[:, None, :]).all(dim=-1).nonzero(as_tuple=True)
        if rows.numel() == 0:
            return scores
        banned = scores.clone()
        banned[rows, seen[rows, windows, -1]] = -math.inf
        touched = rows.unique()
        banned[touched] = banned[touched].log_softmax(dim=-1)
        return banned  # type: ignore[return-value]


class EndsWith(StoppingCriteria):
    """Stop a row whose generated part ends with the token sequence `ending`."""

    def __init__(self, ending: Sequence[int], prompt_length: int) -> None:
        self.ending = torch.tensor(list(ending))
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """`input_ids`: (rows, prompt_length + generated) -> (rows,), True if the row has ended."""
        generated = input_ids[:, self.prompt_length :]
        if generated.shape[1] < len(self.ending):
            return generated.new_zeros(len(generated), dtype=torch.bool)  # type: ignore[return-value]
        tail = generated[:, -len(self.ending) :]
        return (tail == self.ending.to(tail.device)).all(dim=-1)  # type: ignore[return-value]


class _Stops:
    """Stop condition of a hypothesis: one of `ids`, or the sequence `ending` if a double newline is not one id."""

    def __init__(self, tokenizer: Any, separator: str) -> None:
        self.separator_id = separator_id(tokenizer, separator)
        self.ids = [self.separator_id]
        self.ending: list[int] = []
        newlines = tokenizer.encode(DOUBLE_NEWLINE, add_special_tokens=False)
        if tokenizer.decode(newlines, clean_up_tokenization_spaces=False) == DOUBLE_NEWLINE:
            if len(newlines) == 1:
                self.ids += newlines
            else:
                self.ending = newlines


def _rooms(contexts: Sequence[str], prompts: Sequence[Sequence[int]], wanted: int, positions: int | None) -> list[int]:
    """Tokens each prompt may generate: `wanted`, or fewer where the model's positions end first."""
    if positions is None:
        return [wanted] * len(prompts)
    for number, (context, prompt) in enumerate(zip(contexts, prompts, strict=True), start=1):
        if len(prompt) >= positions:
            raise DataError(
                f"context {number} ({context[:60]!r}...) takes {len(prompt)} tokens with its separator, but "
                f"the model has {positions} positions and the output needs at least one: shorten the context"
            )
    return [min(wanted, positions - len(prompt)) for prompt in prompts]


def _batches(prompts: Sequence[Sequence[int]], rooms: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices of prompts of similar length, longest first: little is padded, and memory peaks at the start.

    Prompts of different room never share a batch: what an item may generate does not depend on its company.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for _, group in groupby(order, key=lambda index: rooms[index]):
        members = list(group)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _generate_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    room: int,
    config: DecodingConfig,
    stops: _Stops,
    use_cache: bool,
) -> list[list[int]]:
    """Generated ids of each prompt, padding and stop tokens still in place."""
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]
    pad_id = stops.separator_id  # always masked before the prompt, always after a stop following it
    input_ids = [[pad_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    attention_mask = [[0] * pad + [1] * (width - pad) for pad in padding]
    beam_rules: dict[str, Any] = {}
    if config.beams > 1:
        beam_rules = {"length_penalty": float(config.length_penalty), "early_stopping": "never"}
    ids, mask = (torch.tensor(rows, device=model.device) for rows in (input_ids, attention_mask))
    prefix = _prompt_cache(model, ids, mask, config.beams, room) if use_cache and config.beams > 1 else None
    cached = {} if prefix is None else {"past_key_values": prefix}
    sequences = model.generate(
        input_ids=ids,
        attention_mask=mask,
        **cached,
        generation_config=GenerationConfig(
            do_sample=False,
            num_beams=config.beams,
            max_new_tokens=room,
            eos_token_id=stops.ids,
            pad_token_id=pad_id,
            use_cache=use_cache,
            **beam_rules,
        ),
        logits_processor=LogitsProcessorList([NoRepeatGeneratedNgrams(config.no_repeat_ngram, width)]),
        stopping_criteria=StoppingCriteriaList([EndsWith(stops.ending, width)] if stops.ending else []),
    )
    return sequences[:, width:].tolist()


def _prompt_cache(model: Any, ids: torch.Tensor, mask: torch.Tensor, beams: int, room: int) -> DynamicCache | None:
    """Keys and values of all but the last token of `ids` (prompts, length), each prompt's repeated for its beams.

    None for a model whose cache cannot be copied row by row, or prompts of one token: `generate` then runs the whole
    prompt in every beam.
    """
    if ids.shape[1] < 2 or not model._supports_default_dynamic_cache() or hasattr(model, VIRTUAL_TOKENS):
        return None  # with virtual tokens, which a method counts and places itself, `generate` starts from no cache
    accepted = inspect.signature(model.forward).parameters
    more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    if "position_ids" in accepted:  # as `generate` counts them: padding takes no position
        more["position_ids"] = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)[:, :-1]
    cache = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], use_cache=True, **more).past_key_values
    if not isinstance(cache, DynamicCache):
        return None
    layers: list[Any] = cache.layers
    if all(type(layer) is DynamicLayer for layer in layers):
        cache.layers = [_BeamLayer(layer.keys, layer.values, beams, room) for layer in layers]
    else:
        cache.batch_repeat_interleave(beams)
    return cache


class _BeamLayer(DynamicLayer):
    """Keys and values (rows, heads, tokens, size) of one block, in memory reserved for `room` further tokens.

    A step of `DynamicLayer` copies everything twice, to append one token and to follow the chosen beams: two thirds
    of the time of ten GPT-2 beams. Here a step writes one token, and moves only what is generated: a prompt's beams
    share its part.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, beams: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.prompt_length = self.length = keys.shape[-2]
        self.reserved = [
            nn.functional.pad(states, (0, 0, 0, room)).repeat_interleave(beams, dim=0) for states in (keys, values)
        ]
        self.keys, self.values = self._filled()

    def _filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (states[:, :, : self.length] for states in self.reserved)
        return keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start, self.length = self.length, self.length + key_states.shape[-2]
        for states, new in zip(self.reserved, (key_states, value_states), strict=True):
            states[:, :, start : self.length] = new
        self.keys, self.values = self._filled()
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        for states in self.reserved:
            generated = states[:, :, self.prompt_length : self.length]
            generated.copy_(generated.index_select(0, beam_idx.to(generated.device)))


def _text(tokenizer: Any, ids: Sequence[int], stops: _Stops) -> str:
    end = next((position for position, token in enumerate(ids) if token in stops.ids), len(ids))
    text = tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.split(DOUBLE_NEWLINE, maxsplit=1)[0].strip()


@contextmanager
def _recipe_alone(model: Any) -> Iterator[None]:
    """Evaluation mode and blank generation settings for the block.

    transformers fills every unset setting from the model's generation_config (BART's bans
    trigrams, chat models sample), which would add rules that the recipe does not have.
    """
    modes = [(module, module.training) for module in model.modules()]
    own = model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
        for module, training in modes:
            module.training = training
