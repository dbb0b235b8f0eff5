"""Files of `paper_results/`, read safely and exactly: no key twice, printed digits kept, faults named by field.

YAML is read with the safe loader and JSON's own scalars: null, true, false, integers and decimals; `no`, `12:30` and
dates stay text, which is what a person who types a figure expects.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from replication.errors import DataError

DIRECTORY = Path(__file__).resolve().parents[1] / "paper_results"

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """A part of a file: unknown keys are refused with the nearest valid one, printed digits are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(unknown("key", key, cls.model_fields))
        return data


def unknown(what: str, name: object, choices: Collection[str]) -> str:
    """What to say of a name that is not among `choices`, with the nearest one: `did you mean 'BLEU'?`"""
    lowered = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1)
    hint = f"did you mean {lowered[near[0]]!r}? " if near else ""
    return f"unknown {what} {name!r}; {hint}valid: {', '.join(choices)}"


def one_of(what: str, choices: Collection[str]) -> AfterValidator:
    """For `Annotated[str, ...]`: a name among `choices`, else an error that lists them."""

    def check(name: str) -> str:
        if name not in choices:
            raise ValueError(unknown(what, name, choices))
        return name

    return AfterValidator(check)


def decimal_of(text: str) -> Decimal:
    """The number that printed digits say; ValueError for anything else."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a number")
    return number


def read_exact_json(path: str | Path) -> Any:
    """Parse JSON, keeping printed digits (Decimal); DataError names a missing or malformed file."""
    return _parsed(Path(path), _text(Path(path)), _json)


def read_exact_yaml(path: str | Path) -> Any:
    """Parse YAML safely, keeping printed digits (Decimal); DataError names a missing or malformed file."""
    return _parsed(Path(path), _text(Path(path)), _yaml)


def validated(model: type[_Model], path: Path) -> _Model:
    """A file of `paper_results/` as `model`; DataError names file and field, and the valid choices."""
    return cast(_Model, _validated(model, path, _text(path)))


@lru_cache(maxsize=64)
def _validated(model: type[BaseModel], path: Path, text: str) -> BaseModel:
    """Kept by the file's text: a report asks for the same files many times, and parsing them takes a second."""
    content = _parsed(path, text, _json if path.suffix == ".json" else _yaml)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}, {'; '.join(_explained(each) for each in error.errors())}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:  # bytes that are not UTF-8
        raise DataError(f"{path}: {error}") from error


def _parsed(path: Path, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except (ValueError, yaml.YAMLError) as error:  # malformed, or a repeated key
        raise DataError(f"{path}: {error}") from error


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, object_pairs_hook=_unique_keys)


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_ExactLoader)  # a safe loader


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice, which would silently drop a figure."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"key {key!r} is given twice")
        value[key] = item
    return value


class _ExactLoader(yaml.SafeLoader):
    """Safe YAML: JSON's scalars, decimals for floats, every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise ValueError(f"key {key!r} is given twice, line {key_node.start_mark.line + 1}")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> Decimal:
        return decimal_of(str(self.construct_scalar(node)))


_ExactLoader.yaml_implicit_resolvers = {}  # none of YAML 1.1's; the four of JSON are added below
_ExactLoader.add_constructor("tag:yaml.org,2002:float", _ExactLoader.construct_decimal)
for _tag, _pattern, _first in (
    ("null", r"null|~|", ("n", "~", "")),
    ("bool", r"true|false", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _ExactLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def _explained(error: ErrorDetails) -> str:
    """One fault as `rows.1.cells.BLEU.standing: what is wrong and what would be right`."""
    place = ".".join(str(part) for part in error["loc"] if part != "[key]") or "top level"
    context, message = error.get("ctx", {}), error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        message = "is missing"
    elif error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        if choices:
            message = unknown("value", error["input"], choices)
    elif error["type"] == "string_type" and isinstance(error["input"], (int, float, Decimal)):
        message = f"{error['input']} must stand in quotes, so that every printed digit is kept"
    return f"{place}: {message}"
