"""Checks that every method must pass on GPT-2, Llama and BART, for the tests and for new methods.

    for check in check_method(MyConfig(rank=4)):
        print(check)

A law takes a tiny model without a method and a configuration, and raises AssertionError with a sentence where the
method breaks it. Laws that draw inputs take them as arguments, so that Hypothesis can draw others; left out, a fixed
prompt with padding on either side is used.
"""

from __future__ import annotations

import copy
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods import (
    MethodConfig,
    adapter_parameters,
    attach,
    attached_config,
    detach,
    load,
    merge_and_unload,
    save,
    trainable_parameters,
)
from replication.methods.shared.blocks import find_decoder, head_parameters
from replication.testing.tiny_models import TINY_MODELS, VOCABULARY

AUTOCAST_ERROR = 0.05  # of the norm of the logits; rounding alone stays below 0.04 on the tiny models


@dataclass(frozen=True)
class Check:
    """One law on one model: `fault` describes how it is broken, `exempt` why it cannot hold; both None: it is kept."""

    law: str
    model: str
    fault: str | None
    exempt: str | None = None

    def __str__(self) -> str:
        result = "broken" if self.fault else "exempt" if self.exempt else "kept"
        reason = self.fault or self.exempt
        return f"{result:<7} {self.model:<6} {self.law}" + (f": {reason}" if reason else "")


def check_method(config: MethodConfig, models: Sequence[str] = tuple(TINY_MODELS)) -> list[Check]:
    """Every law of `LAWS` for one method, on a fresh tiny model each time; about two seconds a model."""
    return [_check(name, law, model, config) for model in models for name, law in LAWS.items()]


def _check(name: str, law: Callable[..., None], model: str, config: MethodConfig) -> Check:
    if exempt := config.exempt_laws().get(name):
        return Check(name, model, None, exempt)
    try:
        law(TINY_MODELS[model](), config)
    except Exception as error:  # a method under construction may fail in any way; the caller needs all results
        return Check(name, model, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Check(name, model, None)


# --- the laws ------------------------------------------------------------


def starts_as_the_base(
    model: nn.Module,
    config: MethodConfig,
    ids: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    **others: Any,
) -> None:
    """Attached and untrained, the logits are those of the base model, bit for bit."""
    if ids is None:
        ids, mask = some_prompt()
    if attached_config(model):
        detach(model)
    before = logits_of(model, ids, mask, **others)
    attach(model, config)
    _hold(torch.equal(logits_of(model, ids, mask, **others), before), "the untrained method changes the logits")


def trains_its_own_parameters_only(model: nn.Module, config: MethodConfig) -> None:
    """Three updates change every trained parameter and nothing else, and through them the output."""
    attach(model, config)
    trained = trainable_parameters(model)
    foreign = trained.keys() - adapter_parameters(model).keys() - head_parameters(model).keys()
    _hold(not foreign, f"trained, but neither the method's nor a task head's: {sorted(foreign)}")
    before, logits = state_of(model), logits_of(model, some_ids())
    train_steps(model)
    own = {id(parameter) for parameter in trained.values()}
    changed = set()
    for key, value in model.state_dict(keep_vars=True).items():
        if not torch.equal(value, before[key]):
            changed.add(key)
            _hold(id(value) in own, f"{key} changed but is not trained")
    _hold(bool(trained) or config.method == "frozen", "nothing trains: new parameters live in an AdapterModule")
    _hold(set(trained) <= changed, f"never changed: {sorted(set(trained) - changed)}")
    same = torch.equal(logits, logits_of(model, some_ids()))
    _hold(same == (not trained), "training does not reach the output" if trained else "the output changed")


def loads_what_it_saves(model: nn.Module, config: MethodConfig, directory: Path | None = None) -> None:
    """Trained, saved and loaded on a fresh base under another seed: equal configuration and logits."""
    base = copy.deepcopy(model)
    train_steps(attach(model, config))
    with tempfile.TemporaryDirectory() as scratch:
        folder = save(model, directory or Path(scratch) / "adapter")
        torch.manual_seed(12345)
        state = torch.random.get_rng_state()
        loaded = load(base, folder)
    _hold(torch.equal(torch.random.get_rng_state(), state), "loading draws from torch's global generator")
    _hold(attached_config(loaded) == config, f"loaded as {attached_config(loaded)}")
    _hold(torch.equal(logits_of(loaded, some_ids()), logits_of(model, some_ids())), "loaded logits differ")


def merges_into_a_plain_model(model: nn.Module, config: MethodConfig, directory: Path | None = None) -> None:
    """`merge_and_unload` gives a plain model of the base's class with the adapter's logits, which `save_pretrained` and
    `from_pretrained` keep bit for bit; or it is an AdapterError that says "cannot be merged" and changes nothing.
    """
    kind: Any = type(model)
    names, trainable = list(model.state_dict()), _trainable_names(model)
    stir(attach(model, config))
    attached = logits_of(model, some_ids())
    try:
        merge_and_unload(model)
    except AdapterError as error:
        _hold("cannot be merged" in str(error), f"the error does not say why: {error}")
        _hold(attached_config(model) == config, "the refused merge took the method off")
        _hold(torch.equal(logits_of(model, some_ids()), attached), "the refused merge changed the logits")
        return
    _hold(type(model) is kind and list(model.state_dict()) == names, "the model is not a plain one of its class")
    _hold(_trainable_names(model) == trainable, "other parameters train")
    _hold(not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks], "hooks are left")
    merged = logits_of(model, some_ids())
    torch.testing.assert_close(merged, attached, atol=1e-4, rtol=1e-4)
    with tempfile.TemporaryDirectory() as scratch:
        folder = directory or Path(scratch) / "plain"
        model.save_pretrained(folder)  # type: ignore[operator]
        again = kind.from_pretrained(folder).eval()
    _hold(torch.equal(logits_of(again, some_ids()), merged), "from_pretrained gives other logits")


def _trainable_names(model: nn.Module) -> list[str]:
    return [key for key, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad]


def decodes_with_a_cache(model: nn.Module, config: MethodConfig) -> None:
    """Token by token with cached keys and values: the logits and the text of the uncached forward."""
    stir(attach(model, config))
    ids = some_ids(rows=3, length=9)
    whole = logits_of(model, ids)
    source = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if is_encoder_decoder(model) else {}
    cache, pieces = None, []
    with torch.no_grad():
        for part in (ids[:, :4], ids[:, 4:5], ids[:, 5:8], ids[:, 8:]):
            key = "decoder_input_ids" if is_encoder_decoder(model) else "input_ids"
            output = model(**source, **{key: part}, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)
    options = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False, "pad_token_id": 1}
    root: Any = model
    cached = root.generate(input_ids=ids, use_cache=True, **options)
    again = root.generate(input_ids=ids, use_cache=False, **options)
    _hold(torch.equal(cached, again), "cached decoding gives a different text")


def ignores_padding(
    model: nn.Module, config: MethodConfig, ids: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> None:
    """Padding of a row does not change its logits; a model that carries `config` already is used as it is."""
    if ids is None or mask is None:
        ids, mask = some_prompt()
    if attached_config(model) != config:
        stir(attach(model, config))
    others = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    if is_encoder_decoder(model):  # its positions cannot be given: pad on the right only
        ids, keep, others = torch.where(mask == 1, ids, 1), mask.sum(1), {}
        mask = (torch.arange(ids.shape[1])[None] < keep[:, None]).long()
    padded = logits_of(model, ids, mask, **others)
    for row in range(len(ids)):
        real = ids[row][mask[row] == 1][None]
        torch.testing.assert_close(padded[row][mask[row] == 1], logits_of(model, real)[0], atol=1e-5, rtol=1e-4)


def copies_independently(model: nn.Module, config: MethodConfig) -> None:
    """`copy.deepcopy` returns a complete model: training or breaking one leaves the other as it was."""
    stir(attach(model, config))
    reference = logits_of(model, some_ids())
    twin = copy.deepcopy(model)
    _hold(torch.equal(logits_of(twin, some_ids()), reference), "the copy's logits differ")
    _hold(not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}, "parameters are shared")
    train_steps(twin)
    _hold(torch.equal(logits_of(model, some_ids()), reference), "training the copy changes the original")
    moved = logits_of(twin, some_ids())
    _hold(torch.equal(moved, reference) == (not trainable_parameters(model)), "the copy does not train")
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.fill_(float("nan"))
    _hold(torch.equal(logits_of(twin, some_ids()), moved), "the copy uses the original's parameters")
    detach(model)
    _hold(torch.equal(logits_of(twin, some_ids()), moved), "detaching the original changes the copy")
    detach(twin)
    _hold(attached_config(twin) is None, "the copy cannot be detached")


def keeps_threads_apart(model: nn.Module, config: MethodConfig, threads: int = 4) -> None:
    """Several threads in one model, in step from block to block, each get the logits of their own input."""
    stir(attach(model, config))
    inputs = [some_ids(seed=seed) for seed in range(threads)]
    alone = [logits_of(model, ids) for ids in inputs]
    step = threading.Barrier(threads, timeout=60)
    handles = [
        block.register_forward_pre_hook(lambda *_: (step.wait(), None)[1]) for block in find_decoder(model).blocks
    ]

    def run(ids: torch.Tensor) -> torch.Tensor | None:
        try:
            return logits_of(model, ids)
        except threading.BrokenBarrierError:  # another thread failed
            return None
        except Exception:
            step.abort()
            raise

    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(run, inputs))
    for handle in handles:
        handle.remove()
    wrong = sum(other is None or not torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    _hold(not wrong, f"{wrong} of {threads} threads get other logits than alone")


def checkpoints_the_same_gradients(model: nn.Module, config: MethodConfig, reentrant: bool = False) -> None:
    """With gradient checkpointing every trained parameter gets the gradient it has without."""
    stir(attach(model, config))
    root: Any = model
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            root.activation_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        model.zero_grad()
        torch.manual_seed(8)  # the same dropout masks
        if trainable_parameters(model):
            loss_of(model, some_ids()).backward()
        gradients.append({key: p.grad for key, p in trainable_parameters(model).items()})
    for key, gradient in gradients[0].items():
        _hold(gradients[1][key] is not None, f"{key} has no gradient under checkpointing")
        torch.testing.assert_close(gradients[1][key], gradient, atol=1e-6, rtol=1e-4)


def keeps_bfloat16(model: nn.Module, config: MethodConfig, before: bool = True, directory: Path | None = None) -> None:
    """Attached to a bfloat16 model (or cast to it after attaching) its logits stay bfloat16; it trains, saves, loads.

    Adapters are float32 in the first case, and bfloat16 in the second: `model.to` casts every parameter.
    """
    twin = copy.deepcopy(model).to(torch.bfloat16)
    untouched = logits_of(twin, some_ids())
    model = attach(twin, config) if before else attach(model, config).to(torch.bfloat16)
    own = {} if config.trains_base else adapter_parameters(model)
    foreign = {parameter.dtype for name, parameter in model.named_parameters() if name not in own}
    _hold(foreign == {torch.bfloat16}, f"the model's own parameters are {foreign}")
    _hold({p.dtype for p in own.values()} <= {torch.float32 if before else torch.bfloat16}, "other dtypes appear")
    same = torch.equal(logits_of(model, some_ids()), untouched)
    _hold(same or not _starts_as_the_base(config), "the untrained method changes the logits")
    after = logits_of(stir(train_steps(model), size=0.5), some_ids())
    _hold(bool(after.isfinite().all()) and after.dtype == torch.bfloat16, f"logits are {after.dtype} or not finite")
    _hold(torch.equal(after, untouched) == (not trainable_parameters(model)), "training does not reach the output")
    with tempfile.TemporaryDirectory() as scratch:
        folder = save(model, directory or Path(scratch) / "adapter")
        loaded = load(detach(copy.deepcopy(model)), folder)  # trained weights of `full` are overwritten by loading
    loaded = loaded if before else loaded.to(torch.bfloat16)
    _hold(torch.equal(logits_of(loaded, some_ids()), after), "loaded logits differ")


def trains_in_float32(model: nn.Module, config: MethodConfig) -> None:
    """In bfloat16 and float16 models what the method adds is float32: 8 updates of AdamW at 1e-4 move every trained
    tensor, and torch.amp.GradScaler can unscale its gradients. Methods that train the base's own weights are exempt.
    """
    for dtype in () if config.trains_base else (torch.bfloat16, torch.float16):
        half = attach(copy.deepcopy(model).to(dtype), config)
        trained = trainable_parameters(half)
        narrow = [name for name, parameter in trained.items() if parameter.dtype != torch.float32]
        _hold(not narrow, f"trained in half precision in a {dtype} model: {narrow}")
        if not trained:
            continue
        before = state_of(half)
        train_steps(half, steps=8, learning_rate=1e-4, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**8))
        still = [name for name, parameter in trained.items() if torch.equal(parameter, before[name])]
        _hold(not still, f"8 updates at 1e-4 do not move, in a {dtype} model: {still}")
        _hold(all(bool(p.isfinite().all()) for p in trained.values()), f"not finite in a {dtype} model")


def works_under_autocast(model: nn.Module, config: MethodConfig) -> None:
    """Under bfloat16 autocast: the base's logits at the start, float32 gradients, near the float32 output."""

    def run(function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return function(*arguments)

    before = run(logits_of, model, some_ids())
    attach(model, config)
    same = torch.equal(run(logits_of, model, some_ids()), before)
    _hold(same or not _starts_as_the_base(config), "the untrained method changes the logits")
    stir(model)
    trained = trainable_parameters(model)
    if trained:
        run(loss_of, model, some_ids()).backward()
    for key, parameter in trained.items():
        gradient = parameter.grad
        good = gradient is not None and gradient.dtype == torch.float32 and bool(gradient.isfinite().all())
        _hold(good, f"{key} has no finite float32 gradient")
    after = run(logits_of, model, some_ids())
    _hold(after.dtype == before.dtype, f"logits are {after.dtype}, the base's {before.dtype}")
    exact = logits_of(model, some_ids())
    error = float((after.float() - exact).norm() / exact.norm())
    _hold(error <= AUTOCAST_ERROR, f"logits are {error:.0%} of their norm away from float32's")
    _hold(torch.equal(after, before) == (not trained), "stirred parameters do not reach the output")


def detaches_completely(model: nn.Module, config: MethodConfig) -> None:
    """After `detach`: the base's modules, shapes, logits, trainable parameters, and no hook."""
    structure, before = str(model), state_of(model)
    root: Any = model
    root.get_input_embeddings().requires_grad_(False)
    trainable = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    reference = logits_of(model, some_ids())
    detach(stir(attach(model, config), size=0.0 if config.trains_base else 0.1))
    _hold(str(model) == structure, "modules are left")
    shapes = [{key: tuple(v.shape) for key, v in state.items()} for state in (before, model.state_dict())]
    _hold(shapes[0] == shapes[1], "tensors are left")
    _hold(torch.equal(logits_of(model, some_ids()), reference), "the logits are not the base's")
    now = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    _hold(now == trainable, "other parameters are trainable than before")
    hooks = [h for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._load_state_dict_pre_hooks)]
    _hold(not any(hooks), "hooks are left")


def attaches_repeatably(model: nn.Module, config: MethodConfig) -> None:
    """Attaching does not change torch's global generator and gives the same initial values each time."""
    twin = copy.deepcopy(model)
    state = torch.random.get_rng_state()
    attach(model, config)
    _hold(torch.equal(torch.random.get_rng_state(), state), "attaching draws from torch's global generator")
    torch.manual_seed(99)
    attach(twin, config)
    for one, other in zip(model.state_dict().items(), twin.state_dict().items(), strict=True):
        _hold(one[0] == other[0] and torch.equal(one[1], other[1]), f"{one[0]} starts with other values")


def attaches_without_memory(model: nn.Module, config: MethodConfig) -> None:
    """On the meta device: the same names and shapes, so that a method is counted without weights."""
    with torch.device("meta"):
        kind: Any = type(model)
        twin = kind(model.config)
    attach(twin, config)
    attach(model, config)
    _hold(all(tensor.is_meta for tensor in twin.state_dict().values()), "tensors with memory appear")
    shapes = [{key: v.shape for key, v in m.state_dict().items()} for m in (twin, model)]
    _hold(shapes[0] == shapes[1], "other names or shapes than with memory")
    _hold(list(trainable_parameters(twin)) == list(trainable_parameters(model)), "other parameters train")


def refuses_a_second_method(model: nn.Module, config: MethodConfig) -> None:
    """Attaching once more is an AdapterError that names `detach(model)`, and changes nothing."""
    attach(model, config)
    reference = list(trainable_parameters(model))
    try:
        attach(model, config)
    except AdapterError as error:
        _hold("detach(model)" in str(error), f"the error does not say how to fix it: {error}")
    else:
        _hold(False, "a second method was attached")
    _hold(list(trainable_parameters(model)) == reference, "the refused call changed what trains")


def works_as_a_replica(model: nn.Module, config: MethodConfig) -> None:
    """A replica as nn.DataParallel makes them uses its own parameters and gives the original's gradients.

    Not in `LAWS`: a hook that is a bound method, sound otherwise, stays bound to the original's module.
    """
    stir(attach(model, config))
    logits, gradients = logits_of(model, some_ids()), []
    for network in (model, replica_of(model)):
        model.zero_grad()
        if trainable_parameters(model):
            loss_of(network, some_ids()).backward()
        gradients.append({name: parameter.grad for name, parameter in trainable_parameters(model).items()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        same = other is gradient if gradient is None else other is not None and torch.equal(other, gradient)
        _hold(same, f"{name} has another gradient through a replica")
    replica = replica_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    _hold(torch.equal(logits_of(replica, some_ids()), logits), "a replica uses the original's parameters")


LAWS: dict[str, Callable[..., None]] = {
    law.__name__.replace("_", " "): law
    for law in (
        starts_as_the_base,
        trains_its_own_parameters_only,
        loads_what_it_saves,
        merges_into_a_plain_model,
        decodes_with_a_cache,
        ignores_padding,
        copies_independently,
        keeps_threads_apart,
        checkpoints_the_same_gradients,
        keeps_bfloat16,
        trains_in_float32,
        works_under_autocast,
        detaches_completely,
        attaches_repeatably,
        attaches_without_memory,
        refuses_a_second_method,
    )
}


# --- what the laws use ------------------------------------------------------------


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def _starts_as_the_base(config: MethodConfig) -> bool:
    return "starts as the base" not in config.exempt_laws()


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether the model takes a source and a target (BART)."""
    config: Any = model.config
    return bool(config.is_encoder_decoder)


def inputs_of(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """The same token ids (rows, length) as a prompt, and for BART as source and target."""
    mask = torch.ones_like(ids) if mask is None else mask
    inputs = {"input_ids": ids, "attention_mask": mask}
    if is_encoder_decoder(model):
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    return inputs


@torch.no_grad()
def logits_of(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None = None, **others: Any) -> torch.Tensor:
    """(rows, length, vocabulary)."""
    return model(**inputs_of(model, ids, mask), **others).logits


def loss_of(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The model's own loss on `ids` as inputs and labels."""
    return model(**inputs_of(model, ids), labels=ids).loss


def some_ids(rows: int = 2, length: int = 7, seed: int = 3) -> torch.Tensor:
    """Token ids of a tiny model, no special token among them."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def some_prompt() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask: a whole row, one padded on the left, one padded on the right."""
    ids, mask = some_ids(rows=3), torch.ones(3, 7, dtype=torch.long)
    mask[1, :2], mask[2, 4:] = 0, 0
    return ids, mask


def stir(model: nn.Module, seed: int = 1, size: float = 0.1) -> nn.Module:
    """Move every trained parameter, so that the adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            noise = torch.randn(parameter.shape, generator=generator) * size
            parameter.add_(noise.to(parameter.dtype))
    return model


def train_steps(
    model: nn.Module,
    steps: int = 3,
    seed: int = 5,
    learning_rate: float = 1e-2,
    scaler: torch.amp.GradScaler | None = None,
) -> nn.Module:
    """A few updates of AdamW, through a GradScaler if one is given; nothing if nothing trains."""
    parameters = trainable_parameters(model)
    if not parameters:
        return model
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    optimizer = torch.optim.AdamW(parameters.values(), lr=learning_rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        scaler.scale(loss_of(model, some_ids(seed=seed + step))).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return model.eval()


def replica_of(model: nn.Module) -> nn.Module:
    """What torch.nn.parallel.replicate, which needs GPUs, makes of a model: parameters are copies with a gradient."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    values = {parameter: parameter.clone() for parameter in model.parameters()}
    for module, replica in copies.items():
        for name, child in module._modules.items():
            replica._modules[name] = None if child is None else copies[child]
        named = {name: values[value] for name, value in module._parameters.items() if value is not None}
        replica._parameters.update(dict.fromkeys(module._parameters.keys() - named.keys()))
        replica.__dict__.update(named, _former_parameters=named)
    return copies[model]


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every tensor of the model's state."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
