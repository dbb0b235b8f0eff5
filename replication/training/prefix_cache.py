"""The frozen prefix of a model: blocks before the first trained one run once a row of tokens, not once a step.

While `frozen_prefix` is open, the blocks before the first that trains are left out of every forward pass; their output
comes from a memory-mapped file. How it works, and what it changes:

1. The number of left-out blocks is found by running one row: the longest run of blocks whose output needs no gradient
   and that carry no hook. It is looked for again when what trains changes, or any weight of the prefix: with
   WeightLoRA the cache begins, or starts anew, after the selection. 0 blocks: nothing is left out.
2. The prefix runs in evaluation mode, embeddings included, stored or not: its dropout is off, unlike without the cache
   (loop.py, detail 4). A record says so under `frozen_prefix`. So does the rest of the model meanwhile, a method's
   dropout outside the body included: a search for the prefix draws no random number, and a resumed run repeats it.
3. A stored row is one row of token ids without its padding, under the hash of the ids. It was computed in the company
   of its batch, so it equals what another batch would give up to the rounding of sums. Rows beyond the bound, and rows
   that are not padded on the right alone, are computed each time.
4. The folder is named by the prefix's weights and the dtype. A run that was killed finds its rows again, and ends with
   the bits of an uninterrupted one. Rows that did not reach the disk whole are dropped.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from replication.errors import ConfigError

BLOCKS = {"bart": "layers", "bert": "encoder.layer", "deberta-v2": "encoder.layer", "gpt2": "h", "llama": "layers"}
"""Type of model -> its blocks, by name inside the body (BART: inside the encoder)."""
GIB = 2**30
_ROW = {"input_ids", "attention_mask", "token_type_ids"}  # the inputs that a row's states depend on


def check_prefix_cache(model: Any, gradient_checkpointing: bool) -> None:
    """ConfigError for a model whose blocks cannot be left out of a forward pass, with the reason."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in BLOCKS:
        raise ConfigError(
            f"prefix_cache: how a model of type {kind} passes states from block to block is not known; it serves "
            f"{', '.join(BLOCKS)}. Remove the setting"
        )
    if gradient_checkpointing:
        raise ConfigError(
            "prefix_cache: with gradient_checkpointing the embeddings count as trained, and no block comes before "
            "them; set one of the two"
        )
    if getattr(model.config, "output_hidden_states", False):
        raise ConfigError(
            "prefix_cache: the model's configuration has output_hidden_states, and those of left-out blocks would be "
            "wrong; set it to false"
        )


@contextmanager
def frozen_prefix(model: nn.Module, gib: float | None, folder: Path | None) -> Iterator[FrozenPrefix | None]:
    """Leave the frozen prefix out of the model's forward passes in this block; `gib` None does nothing.

    At most `gib` GiB lie in `folder` (None: a temporary one), which is removed, unless an exception ends the block: a
    resumed run goes on with it. ConfigError if the disk has less room.
    """
    if gib is None:
        yield None
        return
    with TemporaryDirectory() as temporary:
        home = Path(temporary) if folder is None else folder
        prefix = FrozenPrefix(model, int(gib * GIB), home)
        try:
            yield prefix
        finally:
            prefix.close()
        shutil.rmtree(home, ignore_errors=True)


class FrozenPrefix:
    """Hooks on the body of `model` (a causal model or an encoder; of an encoder-decoder model its encoder).

    `blocks`: how many are left out now.
    """

    def __init__(self, model: nn.Module, limit: int, folder: Path) -> None:
        self.model, self.limit, self.folder = model, limit, folder
        _require_room(folder, limit)
        root: Any = model
        body = root.base_model
        self.body: nn.Module = body.get_encoder() if root.config.is_encoder_decoder else body
        self.stack = tuple(self.body.get_submodule(BLOCKS[root.config.model_type]).children())
        self.signature = inspect.signature(self.body.forward)
        self.blocks = 0
        self.rows: _Rows | None = None
        self._seen: list[Any] = []  # what trains and what the prefix is, as of the last search for it
        self._held: list[torch.Tensor] = []  # the same tensors, so that no other takes their identity
        self._before: list[nn.Module] = []  # modules that are called before the first block
        self._outputs: list[Any] = []  # a block's output as the model reads it
        self._modes: list[tuple[nn.Module, bool]] = []
        self._inside = False
        self._hooks = [
            self.body.register_forward_pre_hook(self._enter, with_kwargs=True),
            self.body.register_forward_hook(self._leave, always_call=True),
        ]

    def close(self) -> None:
        """The model computes every block again."""
        for hook in self._hooks:
            hook.remove()
        self.rows = None

    # --- around a forward pass of the body ------------------------------------------------------------

    def _enter(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._inside:
            return
        given = dict(self.signature.bind(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        given = {name: value for name, value in given.items() if value is not None}
        if "input_ids" not in given or given.keys() & {"cache", "past_key_values"}:
            return  # not a pass over whole rows of tokens
        self._inside = True
        try:
            if self._changed():
                self._find_first_trained(given)
            states = self._states(given) if self.blocks else None
        finally:
            self._inside = False
        if states is not None:
            self._modes = [(module, module.training) for module in self._before]
            for module in self._before:
                module.training = False
            self._replace(range(self.blocks), states)

    def _leave(self, body: nn.Module, *_: Any) -> None:
        if self._inside:
            return
        for module, training in self._modes:
            module.training = training
        self._modes = []
        self._put_back()

    def _replace(self, numbers: range, states: torch.Tensor | None = None) -> None:
        """Blocks that return `states`, or with None their own input, in the form of their output."""
        for number in numbers:
            output = self._outputs[number]

            def forward(hidden_states: torch.Tensor, *_: Any, _output: Any = output, **__: Any) -> Any:
                passed = hidden_states if states is None else states
                return (passed, *_output[1:]) if isinstance(_output, tuple) else passed

            self.stack[number].forward = forward

    def _put_back(self) -> None:
        for block in self.stack:
            block.__dict__.pop("forward", None)

    # --- the first trained block ------------------------------------------------------------

    def _changed(self) -> bool:
        """Whether other parameters train than at the last call, or any tensor of the prefix is another."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        fixed = self._fixed()
        seen = [*map(id, trained), *((id(tensor), tensor._version, tensor.data_ptr()) for tensor in fixed)]
        changed, self._seen, self._held = seen != self._seen, seen, [*trained, *fixed]
        return changed

    def _fixed(self) -> list[torch.Tensor]:
        """What the states depend on: parameters and buffers of the prefix."""
        modules = [*self._before, *(module for block in self.stack[: self.blocks] for module in block.modules())]
        tensors = (t for m in modules for t in (*m.parameters(recurse=False), *m.buffers(recurse=False)))
        return [tensor for tensor in tensors if not tensor.requires_grad]

    def _find_first_trained(self, given: Mapping[str, Any]) -> None:
        """Set `blocks` from a pass over one row, and open the rows stored for this prefix."""
        hooked = [any(m._forward_hooks or m._forward_pre_hooks for m in block.modules()) for block in self.stack]
        inside = {module for block in self.stack for module in block.modules()}
        before: list[nn.Module] = []
        inputs: list[Any] = []
        outputs: list[Any] = []
        hooks = [
            module.register_forward_pre_hook(lambda called, _: None if inputs else before.append(called))
            for module in self.body.modules()
            if module not in inside
        ]
        for block in self.stack:
            hooks += [
                block.register_forward_pre_hook(
                    lambda _, args, kwargs: inputs.append(args[0] if args else kwargs["hidden_states"]),
                    with_kwargs=True,
                ),
                block.register_forward_hook(lambda _, __, output: outputs.append(output)),
            ]
        try:
            with _evaluating(self.model), torch.enable_grad():
                self.body(**_rows_of(given, [0]))
        finally:
            for hook in hooks:
                hook.remove()
        states = [output[0] if isinstance(output, tuple) else output for output in outputs]
        ends = [False, *(i.requires_grad or h for i, h in zip(states, hooked, strict=True)), True]
        # a convolution after a block (DeBERTa-v2-xlarge) makes another input of its output: no place to begin
        starts = [True, *(before is after for before, after in zip(states, inputs[1:], strict=False)), True]
        first = ends.index(True) - 1
        self.blocks = max(number for number in range(first + 1) if starts[number])
        self._outputs = [(None, *output[1:]) if isinstance(output, tuple) else None for output in outputs]
        self._before = [self.body, *(module for module in before if module is not self.body)]
        self._changed()
        self.rows = None
        if self.blocks:
            name = _name(self.blocks, states[0].dtype, self._fixed())
            for other in self.folder.glob("prefix-*"):
                if other.name != name:
                    shutil.rmtree(other)
            self.rows = _Rows(self.folder / name, states[0].shape[-1], states[0].dtype, self.limit)

    # --- the states after the prefix ------------------------------------------------------------

    def _states(self, given: Mapping[str, Any]) -> torch.Tensor:
        """What enters the first trained block: (rows, length, width), zeros at padding."""
        assert self.rows is not None
        ids = given["input_ids"]
        keys, lengths = _keys(given)
        missing = [number for number, key in enumerate(keys) if key is None or key not in self.rows]
        states = torch.zeros(*ids.shape, self.rows.width, dtype=self.rows.dtype)
        for number, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            if key is not None and number not in missing:
                states[number, :length] = self.rows[key]
        states = states.to(ids.device)
        if missing:
            computed = self._compute(_rows_of(given, missing))
            for number, row in zip(missing, computed, strict=True):
                states[number, : lengths[number]] = row[: lengths[number]]
            self.rows.add({k: states[n, : lengths[n]] for n in missing if (k := keys[n]) is not None})
        return states

    @torch.no_grad()
    def _compute(self, given: Mapping[str, Any]) -> torch.Tensor:
        """The prefix on whole rows, in evaluation mode; the blocks after it pass their input on."""
        found: list[Any] = []
        hook = self.stack[self.blocks - 1].register_forward_hook(lambda _, __, output: found.append(output))
        self._replace(range(self.blocks, len(self.stack)))
        try:
            with _evaluating(self.model):
                self.body(**given)
        finally:
            hook.remove()
            self._put_back()
        states: torch.Tensor = found[0][0] if isinstance(found[0], tuple) else found[0]
        return states


class _Rows:
    """Rows of states (tokens, width) by key, in a memory-mapped file of at most `limit` bytes, with an index."""

    def __init__(self, folder: Path, width: int, dtype: torch.dtype, limit: int) -> None:
        self.width, self.dtype = width, dtype
        self.capacity = limit // (width * dtype.itemsize)
        self.used = 0
        self.places: dict[str, tuple[int, int]] = {}
        if not self.capacity:
            return
        folder.mkdir(parents=True, exist_ok=True)
        size = self.capacity * width  # a sparse file: it takes the room of what is written
        self.file = folder / "states.bin"
        self.states = torch.from_file(str(self.file), shared=True, size=size, dtype=dtype).view(-1, width)
        self.index = folder / "index.txt"
        self._read_index()

    def _read_index(self) -> None:
        """Keep the rows, in the order written, up to the first that is not whole."""
        kept = []
        for line in self.index.read_text().splitlines() if self.index.is_file() else ():
            try:
                key, length, checksum = line.split()
                start, end = self.used, self.used + int(length)
                if _checksum(self.states[start:end]) != int(checksum):
                    break
            except ValueError:  # a line cut off
                break
            self.places[key], self.used = (start, end), end
            kept.append(line + "\n")
        self.index.write_text("".join(kept))

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __getitem__(self, key: str) -> torch.Tensor:
        start, end = self.places[key]
        return self.states[start:end]

    def add(self, rows: Mapping[str, torch.Tensor]) -> None:
        """Store rows that are new, as long as there is room. A full disk is an OSError."""
        if not self.capacity:
            return
        with self.file.open("r+b") as file, self.index.open("a") as index:
            for key, row in rows.items():
                start, end = self.used, self.used + len(row)
                if key in self.places or end > self.capacity:
                    continue
                if hasattr(os, "posix_fallocate"):  # who writes to mapped memory without room is killed by the system
                    size = self.width * self.dtype.itemsize
                    os.posix_fallocate(file.fileno(), start * size, len(row) * size)
                self.states[start:end] = row
                self.places[key], self.used = (start, end), end
                index.write(f"{key} {len(row)} {_checksum(self.states[start:end])}\n")


def _keys(given: Mapping[str, Any]) -> tuple[list[str | None], list[int]]:
    """For each row the hash of its tokens and how many they are; None for one that cannot be stored."""
    ids = given["input_ids"]
    mask = given["attention_mask"].cpu() if "attention_mask" in given else None
    tensors = {name for name, value in given.items() if isinstance(value, torch.Tensor)}
    if not tensors <= _ROW or ids.ndim != 2 or (mask is not None and mask.shape != ids.shape):
        return [None] * len(ids), [ids.shape[-1]] * len(ids)
    lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(dim=1).tolist()
    rows = torch.stack([ids, given.get("token_type_ids", torch.zeros_like(ids))], dim=1).cpu()
    whole = [True] * len(ids)
    if mask is not None:
        whole = [bool(row[:length].all()) for row, length in zip(mask, lengths, strict=True)]
    keys = [
        hashlib.blake2b(row[:, :length].contiguous().numpy().tobytes(), digest_size=16).hexdigest() if fits else None
        for row, length, fits in zip(rows, lengths, whole, strict=True)
    ]
    return keys, [length if fits else ids.shape[1] for length, fits in zip(lengths, whole, strict=True)]


def _rows_of(given: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """The same inputs for some rows of the batch alone."""
    rows = len(given["input_ids"])

    def some(value: Any) -> Any:
        return value[list(numbers)] if isinstance(value, torch.Tensor) and len(value) == rows else value

    return {name: some(value) for name, value in given.items()}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _name(blocks: int, dtype: torch.dtype, tensors: Sequence[torch.Tensor]) -> str:
    digest = hashlib.sha256(f"{blocks} {dtype}".encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"prefix-{digest.hexdigest()[:16]}"


def _checksum(row: torch.Tensor) -> int:
    return zlib.crc32(row.reshape(-1).view(torch.uint8).numpy().data)


def _require_room(folder: Path, limit: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < limit:
        raise ConfigError(
            f"prefix_cache: {limit / GIB:.2f} GiB are allowed, but {folder} has {free / GIB:.2f} GiB free; lower the "
            "setting or free the disk"
        )
