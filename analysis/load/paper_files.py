"""Files of `paper_results/`, read safely and exactly, and the parts they share: one published figure, its sources.

Duplicate keys are refused, published digits kept, faults named by field. YAML is read with the safe loader and JSON's
own scalars: null, true, false, integers and decimals; `no`, `12:30` and dates stay text, which is what a person who
types a figure expects. The vocabulary of the files is also here: standings, units, what a spread means; a word
outside it is refused.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from analysis.load.names import BACKBONE_NAMES, METHOD_NAMES, TASK_NAMES
from replication.errors import DataError
from replication.fileio import YamlLoader

DIRECTORY = Path(__file__).resolve().parents[2] / "paper_results"

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """A part of a file: unknown keys are refused with the nearest valid one, published digits are kept."""

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
    """Message for a name that is not among `choices`, with the nearest one: `did you mean 'BLEU'?`"""
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
    """The number of published digits; ValueError for anything else."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a number")
    return number


def read_exact_json(path: str | Path) -> Any:
    """Parse JSON, keeping published digits (Decimal); DataError names a missing or malformed file."""
    return _parsed(Path(path), _text(Path(path)), _json)


def read_exact_yaml(path: str | Path) -> Any:
    """Parse YAML safely, keeping published digits (Decimal); DataError names a missing or malformed file."""
    return _parsed(Path(path), _text(Path(path)), _yaml)


def validated(model: type[_Model], path: Path) -> _Model:
    """A file of `paper_results/` as `model`; DataError names file and field, and the valid choices."""
    return cast(_Model, _validated(model, path, _text(path)))


@lru_cache(maxsize=64)
def _validated(model: type[BaseModel], path: Path, text: str) -> BaseModel:
    """Cached by the file's text: a report reads the same files many times, and parsing takes a second."""
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
    except (ValueError, ArithmeticError, yaml.YAMLError, RecursionError) as error:  # malformed, or a repeated key
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error


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


class _ExactLoader(YamlLoader):
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
    location = ".".join(str(part) for part in error["loc"] if part != "[key]") or "top level"
    context, message = error.get("ctx", {}), error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        message = "is missing"
    elif error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        if choices:
            message = unknown("value", error["input"], choices)
    elif error["type"] == "string_type" and isinstance(error["input"], (int, float, Decimal)):
        message = f"{error['input']} must be in quotes, so that every published digit is kept"
    return f"{location}: {message}"


# name -> letter, what it means.
STANDINGS: dict[str, tuple[str, str]] = {
    "paper": ("p", "read in the paper"),
    "authors_code": ("a", "from the authors' repositories and logs"),
    "third_party": ("t", "counted, measured or posted by others"),
    "unverified": ("u", "quoted without a copy at hand"),
    "unreadable": ("x", "unreadable: a digit could not be read"),
}


def letter(standing: str | None) -> str:
    """The letter of a standing; an unknown standing is spelled out."""
    return STANDINGS[standing][0] if standing in STANDINGS else str(standing or "")


def meaning(standing: str) -> str:
    """The meaning of the standing, in a few words."""
    return STANDINGS[standing][1] if standing in STANDINGS else standing.replace("_", " ")


METRICS = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
Metric = Annotated[str, one_of("metric", METRICS)]
Standing = Literal["paper", "authors_code", "third_party", "unverified", "unreadable"]
# runs: over the source's own runs, the statistic not stated; seeds: over random seeds; interval_95: a 95 % interval.
SpreadMeaning = Literal["runs", "seeds", "interval_95", "unknown"]
UNITS = {
    "points": "hundredths of the metric scripts' own scale: BLEU 70.4 is 0.704",
    "score": "the metric scripts' own scale",
    "fraction": "a share between 0 and 1",
    "correlation": "a correlation coefficient",
    "per cent": "a hundredth",
    "share": "a share between 0 and 1, as a setting",
    "parameters": "numbers in a model",
    "adapters": "adapted linear layers",
    "adapters, projection#block": "names of adapted linear layers, blocks counted from 0",
    "blocks": "transformer blocks",
    "connections": "Solo Connection's links between blocks",
    "rank": "rank of a low-rank update or width of an encoder",
    "scale": "the factor alpha of LoRA, or its quotient alpha / rank",
    "learning rate": "learning rate",
    "schedule": "name of a learning-rate schedule",
    "optimizer": "name of an optimizer",
    "projections": "names of adapted projections",
    "standard deviation": "of a normal distribution",
    "steps": "steps of the learning-rate schedule",
    "optimizer steps": "updates of the parameters",
    "micro-batches": "batches whose gradients are added before an update",
    "epochs": "passes over the training data",
    "epochs or steps": "two lengths, as the source has them",
    "items": "examples of a corpus",
    "documents": "documents of a corpus",
    "tokens": "tokens",
    "beams": "beams of a beam search",
    "seeds": "random seeds",
    "nats per item": "cross-entropy",
    "mean squared error": "mean squared error",
    "GB": "10^9 bytes or 2^30 bytes: the sources do not say which",
    "trace inner product": "tr(G^T BA)",
    "ratio": "a quotient of two like quantities",
    "figures": "whole tables that could not be read",
    "1": "a pure number",
}
PUBLISHED_METHODS = (*METHOD_NAMES, "prelayer", "tgen")
PUBLISHED_BACKBONES = (*BACKBONE_NAMES, "qwen3-8b", "tgen")
Unit = Annotated[str, one_of("unit", UNITS)]
Method = Annotated[str, one_of("method", PUBLISHED_METHODS)]
Backbone = Annotated[str, one_of("backbone", PUBLISHED_BACKBONES)]
Task = Annotated[str, one_of("task", (*TASK_NAMES, "every task"))]
_COUNT_UNITS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


class Source(Strict):
    """Where a figure was published, logged or posted; `table`, `file`, `issue`, `part` and `commit` locate it.

    `repository`, `commit` and `date` (of the commit) name one state of released code.
    """

    citation: str
    url: str
    arxiv: str | None = None
    doi: str | None = None
    repository: str | None = None
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,40}$")
    date: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    table: str | None = None
    file: str | None = None
    issue: int | None = None
    part: str | None = None

    @model_validator(mode="after")
    def _names_one_commit(self) -> Source:
        if self.commit and not (self.repository and self.date):
            raise ValueError("a commit needs its repository (owner/name) and its date (YYYY-MM-DD)")
        return self

    @property
    def location(self) -> str:
        """Location within the source: `Table 3`, a file, `issue 165`, a part such as the abstract, or a commit."""
        issue = None if self.issue is None else f"issue {self.issue}"
        commit = None if self.commit is None else f"commit {self.commit}"
        return ", ".join(filter(None, (self.table, self.file, issue, self.part, commit)))

    @property
    def short(self) -> str:
        """Name in a table: `Vepricov/LIB 9e97d60 (2025-07-14)`, else the citation."""
        return f"{self.repository} {self.commit[:7]} ({self.date})" if self.commit else self.citation


class Figure(Strict):
    """One figure; `value` is None if `text` is no single number. A spread is given only if the source has one."""

    value: Decimal | None
    text: str = Field(min_length=1)
    unit: Unit
    spread: Decimal | None = None
    spread_text: str | None = None
    spread_means: SpreadMeaning | None = None
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)
    note: str | None = None

    @model_validator(mode="after")
    def _agrees_with_text(self) -> Figure:
        if ("?" in self.text) != (self.standing == "unreadable"):
            raise ValueError(
                f"text {self.text!r} with standing {self.standing}: a digit is `?` exactly when unreadable"
            )
        if self.standing == "unreadable" and self.value is not None:
            raise ValueError("an unreadable figure has no value")
        number = _number_in(self.text)
        if self.value != number:
            raise ValueError(f"value {self.value} does not match text {self.text!r}")
        if not (self.spread is None) == (self.spread_text is None) == (self.spread_means is None):
            raise ValueError("spread, spread_text and spread_means go together")
        if self.spread_text is not None and decimal_of(self.spread_text) != self.spread:
            raise ValueError(f"spread {self.spread} does not match spread_text {self.spread_text!r}")
        if len(self.sources) > 1 and not (self.note or "").startswith("checked"):
            raise ValueError(
                f"sources {', '.join(self.sources)}: a figure names one source. Give each source its own figure, or, "
                "if they were compared and are equal, begin the note with `checked`"
            )
        return self

    @property
    def number(self) -> float:
        """The value as a float; ValueError if there is none."""
        if self.value is None:
            raise ValueError(f"{self.text!r} is no number")
        return float(self.value)

    @property
    def precision(self) -> Decimal | None:
        """One unit of the last digit that can be read: 0.1 for 70.4 and for 2.3?, 10,000 for 0.35M; None for words."""
        times = _COUNT_UNITS.get(self.text[-1], 1)
        digits = self.text[:-1] if times > 1 else self.text.rstrip("?")
        try:
            exponent = decimal_of(digits).as_tuple().exponent
        except ValueError:
            return None
        assert isinstance(exponent, int)  # finite
        return Decimal(1).scaleb(exponent) * times

    def rescaled(self, scale: int) -> tuple[str, str | None]:
        """The published digits over `scale` (a power of ten), and the spread; an unreadable digit stays `?`."""
        return _shift(self.text, scale), None if self.spread_text is None else _shift(self.spread_text, scale)


class Cell(Figure):
    """One figure of a published table: a number, unless a digit is unreadable."""

    @model_validator(mode="after")
    def _is_a_number(self) -> Cell:
        if (self.value is None) != (self.standing == "unreadable"):
            raise ValueError("value is null exactly when standing is unreadable")
        return self


class Parameters(Figure):
    """A published parameter count such as 0.35M."""

    unit: Literal["parameters"]

    @model_validator(mode="after")
    def _is_a_count(self) -> Parameters:
        published_count(self.text)
        return self


class NamedFigure(Figure):
    """A setting, a count, or something that could not be read, by its name."""

    name: str


class Stated(NamedFigure):
    """A setting as one source states it: sources that disagree are entries with the same name and method.

    `file` is the file of that source; `used` marks the one source that this project follows, and `because` says why
    (or, where no source is followed, why none is).
    """

    method: Method | None = None
    file: str | None = None
    used: bool = False
    because: str | None = None

    @model_validator(mode="after")
    def _names_one_source(self) -> Stated:
        if len(self.sources) != 1:
            raise ValueError(f"{self.name}: sources {', '.join(self.sources)}: give each source an entry of its own")
        if self.used and self.because is None:
            raise ValueError(f"{self.name}: used without `because`: say why this source is followed")
        return self

    @property
    def source(self) -> str:
        """The one source."""
        return self.sources[0]


def check_stated(settings: Sequence[Stated]) -> None:
    """ValueError where a source states a setting twice, two are used, or sources disagree and nothing says why."""
    for key in dict.fromkeys((each.name, each.method) for each in settings):
        found = [each for each in settings if (each.name, each.method) == key]
        name = f"settings: {key[0]}" + (f" of {key[1]}" if key[1] else "")
        if twice := repeated([each.source for each in found]):
            raise ValueError(f"{name}: {twice[0]} states it twice; keep one entry a source")
        if len(used := [each.source for each in found if each.used]) > 1:
            raise ValueError(f"{name}: used from {' and '.join(used)}; set `used` in one entry")
        if len(found) > 1 and not any(each.because for each in found):
            raise ValueError(
                f"{name}: stated by {', '.join(each.source for each in found)}; set `used` and `because` in the entry "
                "that this project follows, or `because` alone in one of them if it follows none"
            )


def repeated(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    return sorted({name for name in names if names.count(name) > 1})


class Fault(Strict):
    """A fault in the authors' code that is documented and tested here, not copied."""

    number: int
    text: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)


class SourcedFile(Strict):
    """A whole file: every source that a figure names is described, with the figure's location in it."""

    schema_version: Literal[1]
    sources: dict[str, Source]

    @model_validator(mode="after")
    def _sources_are_described(self) -> SourcedFile:
        for name, source in self.sources.items():
            if not source.location:
                raise ValueError(f"sources.{name}: the location is missing; set table, file, issue or part")
        for location, part in _parts(self):
            if part is not self:
                for name in getattr(part, "sources", ()):
                    if name not in self.sources:
                        raise ValueError(f"{location}.sources: {unknown('source', name, self.sources)}")
        return self


def published_count(text: str) -> int:
    """The number of a published parameter count: "0.35M" -> 350,000; ValueError for any other form."""
    unit = _COUNT_UNITS.get(text[-1:])
    if unit is None:
        raise ValueError(f"{text!r} is not a count such as 0.35M")
    return int(decimal_of(text[:-1]) * unit)


def check_share(fewer: Figure, count: Decimal | int, than: Decimal | int) -> None:
    """ValueError unless `count` is `fewer` per cent below `than`, to the digits of `fewer`."""
    share = 100 * (1 - Decimal(count) / Decimal(than))
    if fewer.value is None or fewer.precision is None or abs(share - fewer.value) > fewer.precision / 2:
        raise ValueError(f"fewer is {fewer.text}, but {count:,} lies {share:.2f} per cent below {than:,}")


def _number_in(text: str) -> Decimal | None:
    """The one number that `text` is, also as 0.35M; None for anything else."""
    try:
        return Decimal(published_count(text)) if text[-1] in _COUNT_UNITS else decimal_of(text)
    except ValueError:
        return None


def _parts(value: Any, location: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every part of a file with its location."""
    if isinstance(value, BaseModel):
        yield location, value
        named = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, dict):
        named = {str(name): item for name, item in value.items()}
    elif isinstance(value, tuple):
        named = {str(index): item for index, item in enumerate(value)}
    else:
        return
    for name, item in named.items():
        yield from _parts(item, f"{location}.{name}" if location else name)


def _shift(text: str, scale: int) -> str:
    """Move the decimal point of published digits left: ("70.4", 100) -> "0.704"; a `?` keeps its position."""
    shift = {1: 0, 10: 1, 100: 2, 1000: 3}[scale]
    unreadable = "?" in text
    shifted = Decimal(text.replace("?", "0")).scaleb(-shift)
    digits = f"{shifted:f}"
    return digits[:-1] + "?" if unreadable else digits


def first_fault(error: ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
