"""From text to token ids to padded batches.

The form is the LoRA paper's for E2E NLG (Hu et al. 2021, microsoft/LoRA, examples/NLG):

    context ids, separator, ids of " " + completion, separator

with the loss on the completion and the separator that ends it. torch is imported only to build batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from replication.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch


class Tokenizer(Protocol):
    """The required tokenizer interface; every Hugging Face tokenizer has it."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`."""


def separator_id(tokenizer: Any, separator: str) -> int:
    """Token id of `separator`; ConfigError if the tokenizer does not read it as exactly one token."""
    ids = tokenizer.encode(separator, add_special_tokens=False)
    if len(ids) != 1 or separator not in tokenizer.get_vocab():
        pieces = tokenizer.convert_ids_to_tokens(ids)
        raise ConfigError(
            f"separator {separator!r}: this tokenizer reads it as {len(ids)} tokens ({pieces}); it has to be "
            "one token of the vocabulary, or context and completion cannot be separated"
        )
    return int(ids[0])


@dataclass(frozen=True)
class TextPair:
    """Input context and target completion."""

    context: str
    completion: str


@dataclass(frozen=True)
class Encoded:
    """One training example.

    `loss_mask[i]` is 1 where `input_ids[i]` is a target token, that is, predicted from those before
    it. `text` is a readable hint for error messages; `dropped_tokens` counts the tokens cut off to fit
    `max_length`.
    """

    input_ids: list[int]
    loss_mask: list[int]
    text: str = ""
    dropped_tokens: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


def encode_pair(tokenizer: Tokenizer, pair: TextPair, separator_id: int, max_length: int) -> Encoded:
    """Encode one pair; at most `max_length` tokens.

    A context that is too long loses its first tokens, `dropped_tokens` of them. The completion
    is never cut: DataError if the completion and the two separators exceed `max_length`, or
    when the completion is blank.
    """
    if not pair.completion.strip():
        raise DataError(f"the completion of {_shorten(pair.context)!r} is blank; add text or remove the row")
    context = tokenizer.encode(pair.context, add_special_tokens=False)
    target = [*tokenizer.encode(" " + pair.completion, add_special_tokens=False), separator_id]
    room = max_length - len(target) - 1
    if room < 0:
        raise DataError(
            f"the completion {_shorten(pair.completion)!r} needs {len(target) + 1} tokens with its "
            f"separators, more than max_length={max_length}; raise max_length or leave the row out"
        )
    dropped = max(0, len(context) - room)
    context = context[dropped:]
    return Encoded(
        input_ids=[*context, separator_id, *target],
        loss_mask=[0] * (len(context) + 1) + [1] * len(target),
        text=f"{_shorten(pair.context)} => {_shorten(pair.completion)}",
        dropped_tokens=dropped,
    )


def encode_pairs(tokenizer: Tokenizer, pairs: Iterable[TextPair], separator_id: int, max_length: int) -> list[Encoded]:
    """`encode_pair` for many; a DataError also names the pair, counted from 1."""
    encoded = []
    for number, pair in enumerate(pairs, start=1):
        try:
            encoded.append(encode_pair(tokenizer, pair, separator_id, max_length))
        except DataError as error:
            raise DataError(f"pair {number}: {error}") from None
    return encoded


def encode_text(tokenizer: Tokenizer, text: str, separator_id: int, max_length: int) -> Encoded:
    """Encode one passage of free text and its closing separator for pretraining: the loss covers every token.

    A passage that is too long is cut at its end (with the separator), and `dropped_tokens` is by how
    much.
    """
    if not text.strip():
        raise DataError("a passage of free text is blank; leave the row out")
    ids = [*tokenizer.encode(text, add_special_tokens=False), separator_id]
    kept = ids[:max_length]
    return Encoded(kept, [1] * len(kept), text=_shorten(text), dropped_tokens=len(ids) - len(kept))


def collate(batch: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the right, up to the longest of the batch.

    Returns int64 tensors of shape (examples, longest): `input_ids`, `attention_mask` (1 on real tokens) and
    `loss_mask` (0 on padding).
    """
    import torch

    if not batch:
        raise DataError("cannot make a batch of no examples")
    longest = max(map(len, batch))

    def padded(rows: Iterable[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([row + [filler] * (longest - len(row)) for row in rows], dtype=torch.long)

    return {
        "input_ids": padded((example.input_ids for example in batch), pad_id),
        "attention_mask": padded(([1] * len(example) for example in batch), 0),
        "loss_mask": padded((example.loss_mask for example in batch), 0),
    }


def fingerprint(examples: Iterable[Any]) -> str:
    """sha256 over the fields of every example (any dataclass of JSON values), in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(vars(example), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def indices_of_step(
    step: int, lengths: Sequence[int], window: int, seed: int, batching: str = "random"
) -> tuple[int, ...]:
    """The examples (indices of `lengths`) that update `step`, counted from 1, learns from: at most `window`.

    "random": each epoch is a new permutation, cut into windows; the examples that do not fill a last window
    sit out. "bucketed": windows hold examples of similar length, so that little is padded, and every example comes once
    an epoch; windows differ by at most one in size. The order depends only on the arguments, so a resumed run needs
    to know nothing but its step.
    """
    lengths = tuple(lengths)
    epoch, position = divmod(step - 1, steps_per_epoch(len(lengths), window, batching))
    if batching == "bucketed":
        return _buckets(seed, epoch, lengths, window)[position]
    return _order(seed, epoch, len(lengths))[position * window : (position + 1) * window]


def steps_per_epoch(examples: int, window: int, batching: str = "random") -> int:
    """Updates in one epoch: whole windows only ("random"), or as many as hold every example ("bucketed")."""
    return -(-examples // window) if batching == "bucketed" else examples // window


BUCKET_WINDOWS = 32
"""Windows' worth of examples that are sorted by length together; a larger pool pads less and mixes less."""


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, examples: int) -> tuple[int, ...]:
    import numpy as np

    return tuple(np.random.default_rng([seed, epoch]).permutation(examples).tolist())


@lru_cache(maxsize=2)
def _buckets(seed: int, epoch: int, lengths: tuple[int, ...], window: int) -> tuple[tuple[int, ...], ...]:
    """One epoch's windows: pools of a permutation, each sorted by length, cut evenly, the windows shuffled."""
    import numpy as np

    random = np.random.default_rng([seed, epoch])
    order, sizes = random.permutation(len(lengths)), np.asarray(lengths)
    pool = BUCKET_WINDOWS * window
    # every other pool descends, so that a window across two pools holds examples of similar length too
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    ordered = [part[np.argsort(sizes[part] * (-1) ** number, kind="stable")] for number, part in enumerate(pools)]
    windows = np.array_split(np.concatenate(ordered), steps_per_epoch(len(lengths), window, "bucketed"))
    return tuple(tuple(windows[index].tolist()) for index in random.permutation(len(windows)))


def _shorten(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
