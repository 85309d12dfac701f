"""YAML to plain data and back, with the scalars of YAML 1.2: `1e-4` is a number and `off` is a word."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path

import yaml

from passerby.bounded import BoundedLoader, require_short
from passerby.errors import UserError
from passerby.settings.base import Plain


class _Loader(BoundedLoader):
    """BoundedLoader with the core schema of YAML 1.2, without duplicate keys and without tags that build objects."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML keeps them on the class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise UserError(f"line {key_node.start_mark.line + 1}: a key must be a word, got {key!r}")
            if key in keys:
                raise UserError(f"line {key_node.start_mark.line + 1}: key {key!r} stands twice in one mapping")
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0x", "0o")) else int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan") if text.lstrip("+-")[:2] in (".i", ".n") else text)


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN", None),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF", None),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _construct_int),
    ("float", _FLOAT, "-+.0123456789", _construct_float),
)
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[-1] in ("null", "bool", "int", "float", "str", "seq", "map")
}
for _name, _pattern, _first, _constructor in _SCALARS:
    _tag = f"tag:yaml.org,2002:{_name}"
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [*_first, *([""] if _name == "null" else [])])
    if _constructor is not None:
        _Loader.add_constructor(_tag, _constructor)


def parse_yaml(text: str, *, source: str) -> Plain:
    """Parse YAML text into plain data.

    Args:
        text: the YAML.
        source: how error texts call it.

    Raises:
        UserError: not YAML, a duplicate key, a key that is no word, a tag that would build an object, or more of
            it than `passerby.bounded` allows.

    """
    try:
        require_short(text)
        data = yaml.load(text, Loader=_Loader)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{source}{where}: not valid YAML ({problem})") from error
    except UserError as error:
        raise UserError(f"{source}, {error}") from error
    except (ValueError, KeyError, RecursionError) as error:  # a value that its tag does not fit, or no end of nesting
        raise UserError(f"{source}: not valid YAML ({error})") from error
    return typing.cast("Plain", data)


def read_mapping(path: Path) -> dict[str, Plain]:
    """Read a YAML file whose top level is a mapping (an empty file is an empty mapping)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file") from error
    data = parse_yaml(text, source=str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold 'key: value' lines, got a {type(data).__name__}")
    return data


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes strings that YAML 1.2 reads as numbers, such as `1e-4`."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(data: Mapping[str, Plain]) -> str:
    """Return plain data as YAML that `parse_yaml` reads back to the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)
