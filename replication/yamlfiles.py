"""YAML from outside: a safe loader whose aliases cannot repeat a value without end."""

from __future__ import annotations

import math

import yaml

LARGEST = 100_000
"""Values that a document may have once every alias is written out; the largest profile has some 2,000."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader; a YAMLError for aliases that name themselves or write out to more than `LARGEST` values."""

    def get_single_node(self) -> yaml.Node | None:
        """The document's root."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _values(node, {}) > LARGEST:
            raise yaml.composer.ComposerError(
                problem=f"its aliases write out to more than {LARGEST:,} values, or name themselves; write the values"
            )
        return node


def _values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    if node not in known:
        known[node] = math.inf  # while its own parts are counted
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        within = 0 if isinstance(node, yaml.ScalarNode) else sum(_values(part, known) for part in parts)
        known[node] = 1 + within
    return known[node]
