"""The model card of a saved adapter: `README.md`, made from the adapter's description and a few facts.

The same description gives the same bytes: a card holds no date and no path. Facts are optional; what is not known is
not stated. Text is escaped, so that a name cannot add markup, a heading or a field of the header.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from replication.errors import ConfigError

CARD_NAME = "README.md"
LIBRARY = "peft-replication"
FACTS: dict[str, type | tuple[type, ...]] = {
    "base_model": str,
    "license": str,
    "data": str,
    "profile": str,
    "experiment": str,
    "seed": int,
    "dev_loss": float,
    "labels": int,
    "scores": Mapping,
    "standing": str,
}
"""Facts that a card takes: the base model's name on the hub; data, profile, experiment, seed and last dev loss of the
training; `labels`, the outputs of a head; `scores` {metric: number or None} and `standing`, one sentence on what they
may be compared with.
"""
SMALL_PROFILES = ("quick", "cpu")
SMALL = (
    "Measured in the {profile} profile, with a small model or a part of the data: not a reproduction of any published "
    "figure, and not to be compared with one."
)
UNKNOWN = "Given by whoever published this adapter, without a standing: not to be compared with a published figure."


def card_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are known, as JSON values; ConfigError names an unknown fact or a value of the wrong kind."""
    if unknown := sorted(set(values) - set(FACTS)):
        raise ConfigError(f"card: unknown fact(s) {', '.join(unknown)}; valid facts are {', '.join(FACTS)}")
    for name, value in values.items():
        kinds = (int, float) if FACTS[name] is float else FACTS[name]
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise ConfigError(f"card: {name}={value!r}: must be {_kind_name(name)}")
    for name, value in (values.get("scores") or {}).items():
        if not isinstance(name, str) or not (value is None or _is_number(value)):
            raise ConfigError(f"card: scores: {name!r} is {value!r}: must be a finite number, or null if it is missing")
    if values.get("dev_loss") is not None and not _is_number(values["dev_loss"]):
        raise ConfigError(f"card: dev_loss={values['dev_loss']!r}: must be a finite number")
    known = {name: values[name] for name in FACTS if values.get(name) is not None}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in known.items()}


def _kind_name(name: str) -> str:
    return {str: "a text", int: "an integer", float: "a number"}.get(FACTS[name], "a mapping")  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def render_card(description: Mapping[str, Any]) -> str:
    """README.md of an adapter with this description (adapter_config.json), its facts under `card`."""
    facts = card_facts(description.get("card") or {})
    method, base = str(description["method"]), description["base"]
    title = str(description["config"].get("name", method)) if method == "peft_baselines" else method
    shape = [f"{base['blocks']} blocks, width {base['width']}"] if base.get("blocks") else []
    rows = {
        "method": method,
        "settings": ", ".join(f"{name} = {json.dumps(value)}" for name, value in description["config"].items()),
        "base": ", ".join([facts.get("base_model", ""), str(base["class"]), *shape]).removeprefix(", "),
        **({"trained parameters": f"{count:,}"} if (count := description.get("parameter_count")) is not None else {}),
        **{name: str(facts[name]) for name in ("data", "profile", "experiment", "seed", "license") if name in facts},
        **({"last dev loss": f"{facts['dev_loss']:.4f}"} if "dev_loss" in facts else {}),
    }
    parts = [
        _header(method, facts),
        f"# {_plain(title)} adapter for {_plain(facts.get('base_model', base['class']))}",
        _table(("", ""), rows),
        "## Scores",
        *_scores(facts),
        "## How to load",
        _loading(facts, str(base["class"])),
    ]
    return "\n\n".join(parts) + "\n"


def _header(method: str, facts: Mapping[str, Any]) -> str:
    content = {
        "library_name": LIBRARY,
        **{name: facts[name] for name in ("base_model", "license") if name in facts},
        "tags": ["adapter", LIBRARY, method],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---"


def _scores(facts: Mapping[str, Any]) -> list[str]:
    if not facts.get("scores"):
        return ["None recorded here."]
    profile = facts.get("profile")
    standing = SMALL.format(profile=profile) if profile in SMALL_PROFILES else _plain(facts.get("standing", UNKNOWN))
    shown = {name: "missing" if value is None else f"{value:.6g}" for name, value in facts["scores"].items()}
    return [standing, _table(("metric", "score"), shown)]


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {_plain(name)} | {_plain(value) or 'none'} |" for name, value in rows.items())])


def _plain(text: Any) -> str:
    """On one line, with the characters that mean something in Markdown or HTML escaped."""
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", " ".join(str(text).split()))


def _loading(facts: Mapping[str, Any], name: str) -> str:
    if not name.isidentifier():  # a named backbone: the class is not known without the adapter
        return f"""\
```python
from replication import load

model = load(base, "path/to/this/folder")  # base: {name}, with the head of its task
```

Only the trained part is saved: give `load` the base model that it was trained on."""
    kind, more = name, f", num_labels={facts['labels']}" if "labels" in facts else ""
    base = json.dumps(facts.get("base_model", "path/to/the/base/model"))
    return f"""\
```python
from transformers import {kind}
from replication import load

model = load({kind}.from_pretrained({base}{more}), "path/to/this/folder")
```

Only the trained part is saved: give `load` the base model that it was trained on."""
