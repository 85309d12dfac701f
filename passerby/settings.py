"""Settings: typed, strict and frozen; read from YAML with `extends`, changed by dotted overrides, and kind when wrong.

Three ideas, in this order: a `Settings` class says what is allowed; `read_yaml`, `merge` and `override` make plain
data; `build` turns the data into the class, or into one `UserError` that names every mistake with its full path.
YAML is read with the scalars of YAML 1.2, so `1e-4` is a number and `off` is a word.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar, Union

import pydantic
import yaml

from passerby.errors import UserError, did_you_mean

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What YAML and JSON can hold."""


class Settings(pydantic.BaseModel):
    """Base of every choice a person can make: no unknown keys, no silent conversion, no change after construction."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


# ---- YAML to plain data


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2 and without duplicate keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML keeps them on the class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise UserError(f"line {key_node.start_mark.line + 1}: a key must be a word, got {key!r}")
            if key in seen:
                raise UserError(f"line {key_node.start_mark.line + 1}: key {key!r} stands twice in one mapping")
            seen.add(key)
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
        UserError: not YAML, a duplicate key, a key that is no word, or a tag that would build an object.

    """
    try:
        return typing.cast("Plain", yaml.load(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{source}{where}: not valid YAML ({getattr(error, 'problem', error)})") from error
    except UserError as error:
        raise UserError(f"{source}, {error}") from error


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


def read_yaml(path: Path, find: Callable[[str, Path], Path], *, _seen: tuple[Path, ...] = ()) -> dict[str, Plain]:
    """Read a YAML file and everything it extends, nearest last.

    Args:
        path: the file.
        find: maps the word after `extends:` and the folder of the extending file to a file.

    """
    path = path.resolve()
    if path in _seen:
        raise UserError(f"{' extends '.join(p.name for p in (*_seen, path))}: a recipe cannot extend itself")
    data = read_mapping(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise UserError(f"{path}: 'extends' takes one file name, got {parent!r}")
    return merge(read_yaml(find(parent, path.parent), find, _seen=(*_seen, path)), data)


def merge(base: dict[str, Plain], changes: Mapping[str, Plain]) -> dict[str, Plain]:
    """Lay `changes` over `base`: mappings merge by key, `null` removes a key, anything else replaces.

    >>> merge({"losses": {"softmax": {}, "center": {}}}, {"losses": {"center": None}})
    {'losses': {'softmax': {}}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def override(data: dict[str, Plain], assignment: str) -> dict[str, Plain]:
    """Apply one `a.b.c=value`; numbers step into lists, the value is YAML, `null` removes.

    >>> override({"stages": [{"epochs": 60}]}, "stages.0.epochs=3")
    {'stages': [{'epochs': 3}]}
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path or any(not part for part in path.split(".")):
        raise UserError(f"{assignment!r} is not an override; write key=value, for example losses.triplet.margin=0.5")
    changed = _put(data, path.split("."), parse_yaml(text, source=f"the value of {path}"), path)
    assert isinstance(changed, dict)
    return changed


def _put(node: Plain, keys: Sequence[str], value: Plain, path: str) -> Plain:
    key, *rest = keys
    if isinstance(node, list):
        if not key.isdigit() or int(key) >= len(node):
            raise UserError(f"{path}: {key!r} must be a number from 0 to {len(node) - 1}")
        items = list(node)
        items[int(key)] = _put(items[int(key)], rest, value, path) if rest else value
        return items
    mapping = node if isinstance(node, dict) else {}
    if rest:
        return {**mapping, key: _put(mapping.get(key), rest, value, path)}
    return merge(mapping, {key: value})


# ---- plain data to settings


def build(kind: type[S], data: Mapping[str, Plain], *, source: str) -> S:
    """Validate `data` as `kind`.

    Raises:
        UserError: every mistake at once, each with its full path and, for an unknown key, the nearest known one.

    """
    try:
        # The JSON way in is as strict as the Python one, but lets a list stand for a tuple.
        return kind.model_validate_json(json.dumps(data))
    except pydantic.ValidationError as error:
        found = [_explain(kind, detail) for detail in error.errors(include_url=False)]
        raise UserError(f"{source}: {'; '.join(found)}") from error


def _explain(kind: type[Settings], detail: typing.Any) -> str:  # pydantic's ErrorDetails
    where = ".".join(str(part) for part in detail["loc"]) or "the recipe"
    match detail["type"]:
        case "extra_forbidden":
            *parents, word = detail["loc"]
            known = sorted(set(_known_names(kind, parents)))
            hint = did_you_mean(str(word), known) or f"; known here: {', '.join(known)}"
            return f"unknown key {where}{hint}"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            reason = detail["ctx"]["error"]
            return f"{where}: {reason}" if detail["loc"] else str(reason)
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            hint = did_you_mean(str(detail["input"]), allowed)
            return f"{where} is {detail['input']!r}, allowed: {detail['ctx']['expected']}{hint}"
        case "union_tag_invalid":
            allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
            hint = did_you_mean(detail["ctx"]["tag"], allowed)
            return f"{where}.kind is {detail['ctx']['tag']!r}, allowed: {detail['ctx']['expected_tags']}{hint}"
        case _:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{where} is {json.dumps(detail['input'], default=str)[:80]}: {message}"


def _known_names(kind: object, location: Sequence[int | str]) -> Iterator[str]:
    """Yield the keys that are allowed below `location` inside the annotation `kind`."""
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, Settings):
        if not location:
            yield from kind.model_fields
        elif str(location[0]) in kind.model_fields:
            yield from _known_names(kind.model_fields[str(location[0])].annotation, location[1:])
        else:  # the tag of a discriminated union stands in the location as well
            yield from _known_names(kind, location[1:])
    elif origin is Annotated:
        yield from _known_names(typing.get_args(kind)[0], location)
    elif origin in (Union, types.UnionType):
        for member in typing.get_args(kind):
            yield from _known_names(member, location)
    elif origin is dict:
        yield from _known_names(typing.get_args(kind)[1], location[1:])
    elif origin in (list, tuple):
        yield from _known_names(typing.get_args(kind)[0], location[1:])


def dump_yaml(settings: Settings) -> str:
    """Return every value of `settings`, defaults included, as YAML that reads back to the same settings."""
    return yaml.safe_dump(
        settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
