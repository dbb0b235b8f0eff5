"""Finding a method by its name, without torch.

A method's name is its file's: `method_class("lora")` imports `replication.methods.lora`, and no other method. A method
defined elsewhere, for example in a notebook, is known once `register_method` has run.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar

from replication.errors import ConfigError

FOLDER = Path(__file__).parents[1]
NOT_METHODS = ("shared", "selection")
"""Modules of the folder that are no methods: what several methods are built from."""
REGISTERED: dict[str, Any] = {}
"""Method name -> configuration class (a `MethodConfig`), of the methods imported so far."""
AnyMethod = TypeVar("AnyMethod", bound=type)


def register_method(config_class: AnyMethod) -> AnyMethod:
    """Class decorator: make a configuration known under its `method` name."""
    REGISTERED[config_class.method] = config_class  # type: ignore[attr-defined]
    return config_class


def method_names() -> list[str]:
    """Every method: the files of `replication/methods` and what was registered elsewhere; imports none of them."""
    found = {module.name for module in iter_modules([str(FOLDER)])} - set(NOT_METHODS)
    return sorted(found | set(REGISTERED))


def method_class(name: str) -> Any:
    """Configuration class of method `name`, importing its module; ConfigError lists the valid names."""
    if name not in REGISTERED:
        names = method_names()
        if name not in names:
            near = "".join(f" did you mean {found!r}?" for found in get_close_matches(str(name).lower(), names, 1))
            raise ConfigError(f"method={name!r}: unknown;{near} valid names are {', '.join(names)}")
        import_module(f"replication.methods.{name}")
        if name not in REGISTERED:
            raise ConfigError(
                f"method={name!r}: replication/methods/{name} registers no such method: decorate its configuration "
                f'with register_method and give it `method = "{name}"`'
            )
    return REGISTERED[name]
