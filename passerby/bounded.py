"""YAML of bounded size: a few hundred bytes of aliases could otherwise expand to gigabytes.

Recipes are read from files, from the command line and from model files of unknown origin, so the size of each is
checked before it is built. The bounds are far above the largest shipped recipe.
"""

from __future__ import annotations

import yaml

MOST_CHARACTERS = 1 << 20
MOST_NODES = 50_000
"""Scalars, lists and mappings, those behind an alias counted each time they are used."""
DEEPEST = 50
"""Levels of lists and mappings."""
MOST_DIGITS = {"int": 40, "float": 100}
"""Characters of a number, by its kind."""


def require_short(text: str) -> None:
    """Refuse text that is too long to be parsed.

    Raises:
        yaml.MarkedYAMLError: the text is too long.

    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.MarkedYAMLError(problem=f"{len(text):,} characters; a recipe has at most {MOST_CHARACTERS:,}")


class BoundedLoader(yaml.SafeLoader):
    """SafeLoader that refuses deep nesting and aliases that expand to very many values."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, as PyYAML does, but not below `DEEPEST`."""
        self._depth += 1
        if self._depth > DEEPEST:
            problem = f"lists and mappings are nested more than {DEEPEST} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Compose the whole document, and count its nodes, aliases expanded, before it is built."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _count(node, {}) > MOST_NODES:
            problem = f"its aliases (*name) expand to more than {MOST_NODES:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Return the text of a scalar; a number has a bounded number of digits."""
        if len(node.value) > MOST_DIGITS.get(node.tag.rsplit(":", 1)[-1], MOST_CHARACTERS):
            problem = f"a number of {len(node.value)} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return str(super().construct_scalar(node))


def _count(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of nodes below and including a node; one that contains itself exceeds every bound."""
    size = sizes.get(id(node))
    if size is not None:
        return size
    sizes[id(node)] = MOST_NODES + 1  # until it is known: read only for a node that contains itself
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    sizes[id(node)] = 1 + sum(_count(child, sizes) for child in children)
    return sizes[id(node)]
