"""Shared by all methods: configurations, attaching and detaching, and the merge calls.

A method is a frozen `MethodConfig` that knows how to `install` its modules in a model and how to `uninstall`
them. New parameters live in `AdapterModule`s, which is how counting and saving recognise them. What `attach`
did is recorded on the model as plain names, so that `copy.deepcopy` of the model gives an independent,
complete copy.

Precision: in a model of half precision (bfloat16, float16) adapters and a task head that trains are float32, because
an update of AdamW at 1e-4 is smaller than half the distance between two bfloat16 numbers near most weights, and
torch.amp.GradScaler refuses float16 gradients. Activations are cast where they enter an adapter or a head; an
adapter's output is cast back, the logits of a head stay float32. `adapter_dtype="model"` gives the adapters and the
head the model's own dtype instead. `full` trains the model's weights in the dtype that they have. As always in torch,
`model.to(dtype)` after `attach` casts every parameter, adapters too: cast first, then attach.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import nn

from replication.errors import AdapterError, ConfigError, ReplicationWarning
from replication.methods.shared.blocks import head_parameters, is_sharded, refuse_peft
from replication.methods.shared.quantized import check_trainable, keep_gradients
from replication.methods.shared.registry import method_class, method_names
from replication.methods.shared.watching import guard_merged, stop_watching, unguard_merged, watch_training
from replication.training.callbacks import Callback
from replication.training.config import TrainingConfig

IMPORTANCE_NAME = "importance_weight"
"""Suffix of a learned importance weight's name: counted separately, and trained at its own learning rate."""
SCALAR_NAMES = ("homotopy_parameter", IMPORTANCE_NAME)
"""Suffixes of learned scalars: shape (1,) in memory, since FSDP2 refuses scalar parameters, and () in files."""
_RECORD = "_replication_attachment"
_STARTED = "_replication_selection_started"
_SAVE = "save_pretrained"
FLOAT32, OF_MODEL = "float32", "model"
ADAPTER_DTYPES = (FLOAT32, OF_MODEL)
"""Values of a method's setting `adapter_dtype`; a configuration in JSON leaves it out at the first, the default."""


class AdapterModule(nn.Module):
    """Base of every module that a method adds: all parameters and buffers below it belong to the adapter."""


@dataclass(frozen=True)
class MethodConfig:
    """Base of the methods' settings; subclasses check themselves when constructed (ConfigError).

    `trains_base`: weights of the model itself train, in the dtype that they have. `adds_modules`: False where the model
    stays a plain one.
    """

    method: ClassVar[str] = ""
    trains_base: ClassVar[bool] = False
    adds_modules: ClassVar[bool] = True

    def install(self, model: nn.Module) -> None:
        """Add this method's modules to a frozen `model`; AdapterError, raised before any change, if it does
        not fit.
        """

    def like(self, weight: torch.Tensor) -> torch.Tensor:
        """A tensor with the device and dtype of new parameters beside `weight`, to be passed to `fill`: float32 where
        the weight is narrower, unless adapter_dtype is "model".
        """
        if is_narrow(weight) and getattr(self, "adapter_dtype", FLOAT32) == FLOAT32:
            return torch.empty(0, dtype=torch.float32, device=weight.device)
        return weight

    def uninstall(self, model: nn.Module) -> None:
        """Take this method's modules out again and leave the base model as it was."""

    def merge(self, model: nn.Module) -> None:
        """Fold the update into the base weights; nothing to do for methods that add no module, refused for others that
        do not say how.
        """
        if self.adds_modules:
            raise AdapterError(
                f"{self.method} cannot be merged: it has no way to fold its modules into the base weights; keep the "
                "adapter attached for inference"
            )

    def unmerge(self, model: nn.Module) -> None:
        """Undo `merge`."""

    def report_state(self, model: nn.Module) -> dict[str, float]:
        """Scalars worth a curve over training."""
        return {}

    def training_callback(self, training: TrainingConfig) -> Callback | None:
        """The method's training callback; None if it needs none. ConfigError if the method
        does not fit the length of training.
        """
        return None

    def exempt_laws(self) -> dict[str, str]:
        """Laws of `replication.testing.laws` that cannot hold for this method, with the reason."""
        return {}

    def owned_tensors(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Parameters and persistent buffers of this method, by name; None: those below `AdapterModule`s, or with
        `trains_base` the whole model's.
        """
        return None

    def structure(self, model: nn.Module) -> dict[str, Any] | None:
        """Changes of the method's modules during training (JSON values): survivors, ranks; None: none."""
        return None

    def restructure(self, model: nn.Module, structure: Mapping[str, Any]) -> None:
        """Bring a freshly attached model to `structure`; AdapterError if the two do not fit."""
        raise AdapterError(f"method {self.method} takes no structure, but the saved adapter has {sorted(structure)}")

    def unfinished(self, model: nn.Module) -> str | None:
        """What `training_callback` should have done to the trained model and has not; None: nothing."""
        return None


@dataclass(frozen=True)
class Attachment:
    """The effects of `attach`: parameter names of the task head, of those made float32, and of what was trainable
    before.
    """

    config: MethodConfig
    head: tuple[str, ...]
    trainable_before: frozenset[str]
    widened: tuple[str, ...] = ()


# --- configurations ------------------------------------------------------------


def method_config(name: str, /, **settings: Any) -> MethodConfig:
    """Configuration of method `name`; ConfigError lists the valid names, or the fields of that method."""
    return build_config(method_class(name), settings)


def build_config(config_class: type[MethodConfig], settings: Mapping[str, Any]) -> MethodConfig:
    """`config_class(**settings)`, with unknown fields refused by name."""
    fields = [field.name for field in dataclasses.fields(config_class)]
    unknown = sorted(set(settings) - set(fields))
    if unknown:
        valid = ", ".join(fields) or "none"
        raise ConfigError(f"{config_class.method}: unknown field(s) {', '.join(unknown)}; valid fields are {valid}")
    return config_class(**settings)


def config_to_dict(config: MethodConfig) -> dict[str, Any]:
    """JSON form: {"method": name, field: value, ...}; tuples become lists, a nested configuration a dict.

    `adapter_dtype` is left out at its default, as in configurations that were written before it existed.
    """
    return {"method": config.method, **config_settings(config)}


def config_settings(config: MethodConfig) -> dict[str, Any]:
    """`config_to_dict` without the method's name."""
    return _plain(dataclasses.asdict(config))


def config_from_dict(data: Mapping[str, Any]) -> MethodConfig:
    """Inverse of `config_to_dict`; ConfigError for a missing or unknown method or field."""
    if "method" not in data:
        raise ConfigError(f"method configuration: no 'method'; valid names are {', '.join(method_names())}")
    settings = {key: value for key, value in data.items() if key != "method"}
    return method_config(data["method"], **settings)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        default = ("adapter_dtype", FLOAT32)
        return {key: _plain(item) for key, item in value.items() if (key, item) != default}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def check_integer(config: MethodConfig, field: str, minimum: int) -> None:
    """ConfigError unless the field is an integer (not a bool) of at least `minimum`."""
    value = getattr(config, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{config.method}: {field}={value!r}: must be an integer of at least {minimum}")


def check_seed(config: MethodConfig, field: str = "init_seed") -> None:
    """ConfigError unless the field is an integer that torch.Generator takes, from 0 to below 2**63."""
    check_integer(config, field, minimum=0)
    if getattr(config, field) >= 2**63:
        raise ConfigError(f"{config.method}: {field}={getattr(config, field)}: must be below 2**63")


def check_boolean(config: MethodConfig, field: str) -> None:
    """ConfigError unless the field is True or False."""
    value = getattr(config, field)
    if not isinstance(value, bool):
        raise ConfigError(f"{config.method}: {field}={value!r}: must be true or false")


def check_adapter_dtype(config: MethodConfig) -> None:
    """ConfigError unless the field `adapter_dtype` is one of `ADAPTER_DTYPES`."""
    value = getattr(config, "adapter_dtype", FLOAT32)
    if value not in ADAPTER_DTYPES:
        raise ConfigError(f"{config.method}: adapter_dtype={value!r}: must be {' or '.join(map(repr, ADAPTER_DTYPES))}")


def check_number(config: MethodConfig, field: str, valid: str, low: float = -math.inf, high: float = math.inf) -> None:
    """ConfigError unless the field is a finite number with low <= value < high; `valid` describes the range."""
    value = getattr(config, field)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value < high:
        raise ConfigError(f"{config.method}: {field}={value!r}: must be {valid}")


# --- attaching ------------------------------------------------------------


def attach(model: nn.Module, config: MethodConfig) -> nn.Module:
    """Put a method on `model`, in place, and freeze all but the method's parameters and a task head.

    Works for a model on the meta device. New parameters take the device of the weights next to them and their dtype,
    but float32 where that is narrower (see above), as does a task head; they are drawn from `config.init_seed`, never
    from torch's global generator. Raises AdapterError, with the model unchanged, when another method is attached, to
    the model or a part of it, the method does not fit the model, the model is compiled, or weights are offloaded or
    sharded.
    """
    if not isinstance(config, MethodConfig):
        raise AdapterError(f"attach needs a method configuration, got {type(config).__name__}: use method_config(name)")
    if not isinstance(model, nn.Module):
        raise AdapterError(
            f"attach needs a model, got {type(model).__name__}: load one, for example by from_pretrained"
        )
    present = attached_config(model)
    if present is not None:
        raise AdapterError(
            f"{type(model).__name__} already carries method {present.method!r}: call detach(model) first, or "
            "attach to a freshly loaded model"
        )
    _refuse_nested(model)
    refuse_peft(model)
    check_attachable(model)
    head = tuple(head_parameters(model))
    check_trainable(config.method, model, head, config.trains_base)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.requires_grad_(config.trains_base)
    try:
        config.install(model)
    except BaseException:
        _set_trainable(model, (name for name, trainable in before.items() if trainable))
        raise
    named = dict(model.named_parameters())
    for name in head:
        named[name].requires_grad_(True)
    trainable_before = frozenset(name for name, trainable in before.items() if trainable)
    setattr(model, _RECORD, Attachment(config, head, trainable_before, widen_head(model, head, config)))
    _check_owned(model)
    keep_gradients(model)
    watch_training(model, _watched(model), _after_passes)
    if hasattr(model, _SAVE):
        setattr(model, _SAVE, SavePretrained(model))
    return model


def detach(model: nn.Module) -> nn.Module:
    """Take the attached method off, in place: the base model, unmerged, trainable where it was before
    `attach`.

    A trained task head and weights trained by `full` stay as they are, a head that `attach` made float32 rounded to
    the model's dtype. AdapterError if nothing is attached, or such a head is not finite in that dtype.
    """
    record = attachment(model)
    narrowed = narrowed_head(model, record)
    record.config.unmerge(model)
    return _take_off(model, record, narrowed)


def merge_and_unload(model: nn.Module) -> nn.Module:
    """Fold the attached method into the base weights and take its modules off, in place: a plain model of the base's
    class, which `save_pretrained` writes and `from_pretrained` loads with the same logits.

    A trained head is rounded to the model's dtype, as by `detach`. Where a merged weight was tied to another (a target
    `lm_head`), the two now differ: every tie of word embeddings is dissolved, in the configuration too. AdapterError,
    with the model unchanged, where `merge` raises it.
    """
    record = attachment(model)
    narrowed, tied = narrowed_head(model, record), _tied_names(model)
    merge(model)
    _take_off(model, record, narrowed)
    left = dict(model.named_parameters(remove_duplicate=False))
    groups = [kept for group in tied if (kept := [name for name in group if name in left])]
    if any(len({id(left[name]) for name in group}) > 1 for group in groups):
        _untie(model, groups)
    return model


def _take_off(model: nn.Module, record: Attachment, narrowed: Mapping[str, torch.Tensor]) -> nn.Module:
    stop_watching(model)
    record.config.uninstall(model)
    unguard_merged(model)
    narrow_head(model, record, narrowed)
    delattr(model, _RECORD)
    model.__dict__.pop(_STARTED, None)
    model.__dict__.pop(_SAVE, None)
    _set_trainable(model, record.trainable_before)
    return model


def _refuse_nested(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if attached_config(module) is not None or isinstance(module, AdapterModule):
            raise AdapterError(
                f"{type(model).__name__} has a method in it already, at {name or 'its top'}: counting and saving know "
                "one. Call detach on the model that carries it, or attach to a freshly loaded model"
            )


def check_attachable(model: nn.Module) -> None:
    """AdapterError for a compiled model or one in a data-parallel wrapper, and where weights are not in their modules:
    offloaded, or sharded by FSDP2.
    """
    kind = type(model).__name__
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise AdapterError(f"{kind} wraps the model: attach to the model itself first, then wrap it")
    if hasattr(model, "_orig_mod") or any(module._compiled_call_impl for module in model.modules()):
        raise AdapterError(
            f"{kind} is compiled, and may not see hooks that come later: attach first, then torch.compile"
        )
    if any(is_sharded(module) for module in model.modules()):
        raise AdapterError(
            f"{kind} is sharded by fully_shard, which would miss new parameters: attach first, then shard"
        )
    hooks = {name: getattr(module, "_hf_hook", None) for name, module in model.named_modules()}
    offloaded = [
        name
        for name, hook in hooks.items()
        if any(getattr(h, "offload", False) for h in getattr(hook, "hooks", (hook,)))
    ]
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if offloaded or 0 < len(missing) < len(list(model.parameters())):
        raise AdapterError(
            f"{kind}: weights are offloaded to the CPU or the disk ({(offloaded or missing)[0] or 'the whole model'}): "
            "they are on the meta device between calls, where nothing can be put beside them; load the model without "
            "offloading (device_map={'': 0}, or none), in a narrower dtype if it does not fit"
        )


def _tied_names(model: nn.Module) -> list[list[str]]:
    """Groups of names under which one parameter is registered; those of the base as without a method."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name.replace(".base_layer.", "."))
    return [group for group in names.values() if len(group) > 1]


def _untie(model: nn.Module, tied: list[list[str]]) -> None:
    """Separate every tied parameter, so that all are saved, and say so in the configuration."""
    for first, *others in tied:
        trainable = model.get_parameter(first).requires_grad
        for name in others:
            parent, _, child = name.rpartition(".")
            holder = model.get_submodule(parent)
            setattr(holder, child, nn.Parameter(holder.get_parameter(child).detach().clone(), requires_grad=trainable))
    config: Any = model.config
    for part in {id(one): one for one in (config, config.get_text_config())}.values():
        part.tie_word_embeddings = False
    for module in model.modules():
        if hasattr(module, "all_tied_weights_keys"):
            module.all_tied_weights_keys = {}  # type: ignore[assignment]


def _set_trainable(model: nn.Module, names: Iterable[str]) -> None:
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def uncompiled(model: nn.Module) -> nn.Module:
    """The model inside what torch.compile returns, whose parameters have other names; any other model itself."""
    return getattr(model, "_orig_mod", model)


def attachment(model: nn.Module) -> Attachment:
    """The record of `attach`; AdapterError if nothing is attached."""
    record = getattr(model, _RECORD, None)
    if record is None:
        raise AdapterError(f"{type(model).__name__} carries no method: call attach(model, config) first")
    return record


def attached_config(model: nn.Module) -> MethodConfig | None:
    """Configuration of the attached method, or None."""
    record = getattr(model, _RECORD, None)
    return None if record is None else record.config


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters for an optimizer, task head included, by name and in module order; AdapterError if not
    attached.
    """
    attachment(model)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _check_owned(model: nn.Module) -> None:
    """Takes the method off again if it trains what counting and saving would not find."""
    record = attachment(model)
    if foreign := _foreign(model):
        detach(model)
        raise AdapterError(
            f"{record.config.method}: trains {foreign[0]} ({len(foreign)} such), which is not its own: counts and "
            "saved files would lack it. Put new parameters into an AdapterModule, or name them in owned_tensors"
        )


def _foreign(model: nn.Module) -> list[str]:
    own = adapter_parameters(model).keys() | set(attachment(model).head)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in own]


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that the attached method owns, trained or fixed, without the task head (for `full`: the
    base's).
    """
    record = attachment(model)
    if record.config.trains_base and record.config.owned_tensors(model) is None:
        return {name: parameter for name, parameter in model.named_parameters() if name not in record.head}
    owned = owned_ids(model)
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in owned}


def owned_ids(model: nn.Module) -> set[int]:
    """Identities of the parameters and buffers that the attached method has put into the model."""
    given = attachment(model).config.owned_tensors(model)
    if given is not None:
        return {id(tensor) for tensor in given.values()}
    return {
        id(tensor)
        for module in model.modules()
        if isinstance(module, AdapterModule)
        for tensor in (*module.parameters(), *module.buffers())
    }


# --- training that would go wrong without a word ------------------------------------------------------------


def start_selection(model: nn.Module) -> None:
    """A callback that selects says so in its `on_start`: no warning is due while it does its work."""
    setattr(model, _STARTED, True)


def warn_if_unfinished(model: nn.Module, stacklevel: int = 3) -> None:
    """ReplicationWarning where training should have removed adapters or cut ranks and has not."""
    reason = attachment(model).config.unfinished(model)
    if reason is not None:
        warnings.warn(
            f"{reason}: the selection has not run, or not to its end. Train with callbacks=[SelectionCallback()] in "
            "transformers.Trainer, or Selection(model, optimizer, total_steps) in your own loop, both from "
            "`replication`",
            ReplicationWarning,
            stacklevel=stacklevel,
        )


def _watched(model: nn.Module) -> dict[str, nn.Parameter]:
    """What gets a gradient in every pass if the model uses it: nothing where the method trains the base itself."""
    return {} if attachment(model).config.trains_base else trainable_parameters(model)


def _after_passes(model: nn.Module, silent: Sequence[str], passes: int) -> None:
    """Once, in a training that is under way: what would go wrong without a word."""
    if attached_config(model) is None:
        return
    if not hasattr(model, _STARTED):
        warn_if_unfinished(model, stacklevel=5)
    if unused := [name for name in silent if name not in attachment(model).head]:
        warnings.warn(
            f"{attachment(model).config.method}: {len(unused)} trained parameters, such as {unused[0]}, had no "
            f"gradient in {passes} backward passes: the model does not call the modules that they are in (it may read "
            "a weight instead), or nothing in the loss depends on them. Choose other targets, unless these join the "
            "loss later",
            ReplicationWarning,
            stacklevel=5,
        )
    warn_of_foreign(model, stacklevel=5)


def warn_of_foreign(model: nn.Module, stacklevel: int = 3) -> None:
    """ReplicationWarning where parameters train that are not the method's: they are not saved with it."""
    if foreign := _foreign(model):
        warnings.warn(
            f"{attachment(model).config.method}: {foreign[0]} trains ({len(foreign)} such parameters) and is neither "
            "the method's nor a task head's: `save` leaves it out, and `load` has the base's. Freeze it "
            "(requires_grad_(False)), or save it yourself",
            ReplicationWarning,
            stacklevel=stacklevel,
        )


# --- what is asked of an attached model ------------------------------------------------------------


def merge(model: nn.Module) -> nn.Module:
    """Fold the attached method into the base weights, in place; merging twice is merging once.

    A no-op for methods that add no module. AdapterError, with the model unchanged, for `solo_connection` and the
    bottleneck adapters, whose update is not a change of any weight, and where a merged weight is not finite in the
    model's dtype (beyond 65504 in float16). Until `unmerge`, the model's `state_dict`, `load_state_dict` and a forward
    pass that would train raise AdapterError: each would count the update twice, or leave it out.
    """
    config = attachment(model).config
    try:
        config.merge(model)
    except BaseException:  # memory may run out half-way
        config.unmerge(model)
        raise
    if config.adds_modules:
        guard_merged(model)
    return model


def unmerge(model: nn.Module) -> nn.Module:
    """Undo `merge`, in place: the base weights are again what they were; a no-op on a model that is not
    merged.
    """
    attachment(model).config.unmerge(model)
    unguard_merged(model)
    return model


def report_state(model: nn.Module) -> dict[str, float]:
    """Scalars worth a curve over training: for Solo Connection each homotopy parameter and vector norm; else
    empty.
    """
    return attachment(model).config.report_state(model)


def fill(shape: tuple[int, ...], like: torch.Tensor, draw: Any = None) -> nn.Parameter:
    """New parameter of `shape` with the dtype and device of `like`: zeros, then changed in place by
    `draw(tensor)`.

    Values are drawn in float32 on the CPU, so that they depend neither on the device nor on the dtype.
    """
    if like.device.type == "meta":
        return nn.Parameter(torch.empty(shape, dtype=_float_type(like), device="meta"))
    value = torch.zeros(shape, dtype=torch.float32, device="cpu")
    if draw is not None:
        draw(value)
    return nn.Parameter(value.to(device=like.device, dtype=_float_type(like)))


class SavePretrained:
    """`model.save_pretrained` while a method is attached: what Trainer and `model.push_to_hub` call.

    An object, not a function, so that copies and pickles of the model bind it to themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, save_directory: Any, *values: Any, **options: Any) -> None:
        """As `replication.pretrained.save_pretrained`, which is built on this module."""
        pretrained = import_module("replication.pretrained")
        pretrained.save_pretrained(self.model, save_directory, *values, **options)


def check_finite(name: str, merged: torch.Tensor, what: str = "merged weight") -> None:
    """AdapterError naming the module `name` if a merged weight, in its final dtype, is not finite everywhere."""
    if merged.is_meta or bool(merged.isfinite().all()):
        return
    if bool(merged.isnan().any()):
        raise AdapterError(f"{name}: the {what} is nan, as are numbers of the adapter or the model: training diverged")
    raise AdapterError(
        f"{name}: the {what} is not finite in {str(merged.dtype).removeprefix('torch.')}: keep the adapter "
        "attached, or cast the model to bfloat16 or float32 first"
    )


def is_narrow(tensor: torch.Tensor) -> bool:
    """Whether it holds floats of less than 32 bits."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < 4


# --- a task head in a model of half precision ------------------------------------------------------------


def widen_head(model: nn.Module, head: Iterable[str], config: MethodConfig) -> tuple[str, ...]:
    """Make half-precision parameters of a task head float32, in place, unless the configuration wants them so.

    Their modules cast their inputs from then on. Returns the names.
    """
    named = dict(model.named_parameters())
    names = tuple(name for name in head if config.like(named[name]) is not named[name])
    for name in names:
        named[name].data = named[name].detach().float()
        named[name].grad = None
    for module in _holders(model, names):
        module.register_forward_pre_hook(cast_inputs, with_kwargs=True)
    return names


def narrowed_head(model: nn.Module, record: Attachment) -> dict[str, torch.Tensor]:
    """The widened parameters of a head in the dtype of the model's other weights, as it is now; AdapterError names one
    that is not finite there.
    """
    if not record.widened:
        return {}
    named = dict(model.named_parameters())
    dtype = next(p.dtype for name, p in named.items() if name not in record.head and p.is_floating_point())
    found = {name: named[name].detach().to(dtype) for name in record.widened}
    for name, value in found.items():
        check_finite(name, value, "weight of the task head")
    return found


def narrow_head(model: nn.Module, record: Attachment, narrowed: Mapping[str, torch.Tensor]) -> None:
    """Undo `widen_head`, with the values of `narrowed_head`."""
    named = dict(model.named_parameters())
    for name, value in narrowed.items():
        named[name].data = value
        named[name].grad = None
    for module in _holders(model, record.widened):
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is cast_inputs]:
            del module._forward_pre_hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)


def _holders(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    return [model.get_submodule(name) for name in dict.fromkeys(name.rpartition(".")[0] for name in names)]


def cast_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """A hook before a module: its inputs take the dtype of its own parameters."""
    replica: dict[str, torch.Tensor] = getattr(module, "_former_parameters", {})  # nn.DataParallel's have no parameters
    dtype = next(p.dtype for p in (*module.parameters(), *replica.values()) if p.is_floating_point())

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def _float_type(like: torch.Tensor) -> torch.dtype:
    return like.dtype if like.is_floating_point() else torch.get_default_dtype()
