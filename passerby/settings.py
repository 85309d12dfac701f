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
from pydantic.fields import FieldInfo

from passerby.bounded import DEEPEST, BoundedLoader, require_short
from passerby.errors import UserError, did_you_mean
from passerby.registry import OneOf
from passerby.renamed import FORMER_KINDS, present_path
from passerby.types.vectors import FORMER_NAMES

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What YAML and JSON can hold."""


class Settings(pydantic.BaseModel):
    """Base of every choice a person can make: no unknown keys, no silent conversion, no change after construction."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def idle(self) -> frozenset[str]:
        """The fields that have no effect beside the values of the others; drawings leave them out."""
        return frozenset()


S = TypeVar("S", bound=Settings)


def first_difference(one: S, other: S, *, without: frozenset[str] = frozenset()) -> tuple[str, object, object] | None:
    """Return the name and both values, as plain data, of the first field that differs, or None.

    Args:
        one: settings.
        other: of the same class.
        without: names of fields that may differ.

    """
    values, others = (settings.model_dump(mode="json", exclude=set(without)) for settings in (one, other))
    return next(((name, value, others[name]) for name, value in values.items() if value != others[name]), None)


# ---- YAML to plain data


class _Loader(BoundedLoader):
    """BoundedLoader with the core schema of YAML 1.2, without duplicate keys and without tags that build objects."""

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


def read_yaml(
    path: Path,
    find: Callable[[str, Path], Path | dict[str, Plain]],
    *,
    spell: Callable[[dict[str, Plain]], dict[str, Plain]] = dict,
    _seen: tuple[Path, ...] = (),
) -> dict[str, Plain]:
    """Read a YAML file and everything it extends, nearest last.

    Args:
        path: the file.
        find: maps the word after `extends:` and the folder of the extending file to a file, or to what one would hold.
        spell: writes words that stand for a mapping as that mapping, in what is extended.

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
    base = find(parent, path.parent)
    extended = read_yaml(base, find, spell=spell, _seen=(*_seen, path)) if isinstance(base, Path) else base
    return merge(spell(extended), data)


def merge(base: dict[str, Plain], changes: Mapping[str, Plain]) -> dict[str, Plain]:
    """Lay `changes` over `base`: mappings merge by key unless they are of another `kind`, anything else replaces.

    A word in the place of a mapping with a `kind` changes the kind alone. A `null` stays in the result, because it must
    also take away what the settings would have by default; `build` makes of it what the setting means by it.

    >>> merge({"losses": {"softmax": {}, "center": {}}}, {"losses": {"center": None}})
    {'losses': {'softmax': {}, 'center': None}}
    >>> merge({"kind": "dbscan", "eps": 0.5}, {"kind": "kmeans", "k": 100})
    {'kind': 'kmeans', 'k': 100}
    >>> merge({"sampler": {"kind": "pk", "identities": 32}}, {"sampler": "pk_cameras"})
    {'sampler': {'kind': 'pk_cameras', 'identities': 32}}
    """
    another = {"kind"} <= base.keys() & changes.keys() and base["kind"] != changes["kind"]
    merged = {} if another else dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict):
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        elif isinstance(value, str) and isinstance(old, dict) and "kind" in old:
            merged[key] = {**old, "kind": value}
        else:
            merged[key] = value
    return merged


def difference(base: Mapping[str, Plain], whole: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the least changes that `merge` lays over `base` to get the values of `whole`.

    Keys that only `base` has stay out, because `merge` cannot take a key away.

    >>> difference({"lr": 0.1, "name": "sgd"}, {"lr": 0.2, "name": "sgd"})
    {'lr': 0.2}
    >>> difference({"kind": "dbscan", "eps": 0.5}, {"kind": "kmeans", "k": 100})
    {'kind': 'kmeans', 'k': 100}
    """
    if {"kind"} <= base.keys() & whole.keys() and base["kind"] != whole["kind"]:
        return dict(whole)
    changes: dict[str, Plain] = {}
    for key, value in whole.items():
        old = base.get(key)
        if key in base and type(old) is type(value) and old == value:
            continue
        changes[key] = difference(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return changes


def override(data: dict[str, Plain], assignment: str) -> dict[str, Plain]:
    """Apply one `a.b.c=value`; numbers step into lists, the value is YAML, `null` removes.

    >>> override({"stages": [{"epochs": 60}]}, "stages.0.epochs=3")
    {'stages': [{'epochs': 3}]}
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path or any(not part for part in path.split(".")):
        raise UserError(
            f"{assignment[:80]!r} is not an override; write key=value, for example losses.triplet.margin=0.5"
        )
    if path.count(".") > DEEPEST:
        raise UserError(f"{path[:40]!r}... has {path.count('.') + 1} keys; no setting lies deeper than {DEEPEST}")
    changed = _put(data, path.split("."), parse_yaml(text, source=f"the value of {path}"), path)
    assert isinstance(changed, dict)
    return changed


def _put(node: Plain, keys: Sequence[str], value: Plain, path: str) -> Plain:
    key, *rest = keys
    if isinstance(node, list):
        if not (key.isascii() and key.isdigit() and int(key) < len(node)):
            places = f"a number from 0 to {len(node) - 1}" if node else "left out, the list is empty"
            raise UserError(f"{path}: {key!r} must be {places}")
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

    `null` switches a setting off that can be off, and means the default of any other.

    Raises:
        UserError: every mistake at once, each with its full path and, for an unknown key, the nearest known one.

    """
    try:
        # The JSON way in is as strict as the Python one, but lets a list stand for a tuple.
        return kind.model_validate_json(json.dumps(_without_nulls(kind, dict(data))))
    except pydantic.ValidationError as error:
        mistakes: dict[tuple[str, str], list[typing.Any]] = {}
        for detail in _once(error.errors(include_url=False)):
            path = ".".join(_walk(kind, detail["loc"])[1]) or "the recipe"
            mistakes.setdefault((path, repr(detail["input"])), []).append(detail)
        found = [sentence for (where, _), details in mistakes.items() for sentence in _explain(kind, where, details)]
        raise UserError(f"{source}: {'; '.join(found)}") from error


def _without_nulls(kind: object, data: Plain) -> Plain:
    """Leave out every `null` that the annotation `kind` has no place for."""
    if not isinstance(data, dict):
        items = _inner(kind, list, tuple)
        return [_without_nulls(items[0], item) for item in data] if isinstance(data, list) and items else data
    annotations: dict[str, object] = {}
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, Settings) and _is_of_kind(member, data.get("kind")):
            annotations |= {name: annotation_of(field) for name, field in member.model_fields.items()}
        elif typing.get_origin(member) is dict:
            annotations |= dict.fromkeys(data, typing.get_args(member)[1])
    return {
        key: _without_nulls(annotations.get(key), value)
        for key, value in data.items()
        if value is not None or key not in annotations or type(None) in _members(annotations[key])
    }


def annotation_of(field: FieldInfo) -> object:
    """Return the annotation of a field as it was written, with the mark of a table."""
    marks = [mark for mark in field.metadata if isinstance(mark, OneOf)]
    return Annotated[field.annotation, marks[0]] if marks else field.annotation


def _members(kind: object) -> tuple[object, ...]:
    """Return the members of a union annotation, or the annotation itself."""
    if typing.get_origin(kind) is Annotated:
        inner, *marks = typing.get_args(kind)
        tables = [mark.table for mark in marks if isinstance(mark, OneOf)]
        return tuple(tables[0].values()) if tables else _members(inner)
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _inner(kind: object, *origins: type) -> tuple[object, ...]:
    """Return the arguments of the first member of an annotation that is one of these containers."""
    return next((typing.get_args(member) for member in _members(kind) if typing.get_origin(member) in origins), ())


def _is_of_kind(member: type[Settings], kind: object) -> bool:
    """Whether a member of a union is the one that the tag `kind` chooses; without a tag all may be meant."""
    return "kind" not in member.model_fields or kind in (None, member.model_fields["kind"].default)


def _once(details: list[typing.Any]) -> list[typing.Any]:
    """Leave out mistakes that only follow from another one.

    A mistake that a stage takes from its recipe is found in both; a list with a mistake inside also counts as short.
    """

    def follows(detail: typing.Any, other: typing.Any) -> bool:
        mine, its = detail["loc"], other["loc"]
        if detail["type"] == "too_short":
            return len(its) > len(mine) and its[: len(mine)] == mine
        alike = (detail["type"], detail["input"]) == (other["type"], other["input"])
        return alike and 0 < len(its) < len(mine) and mine[-len(its) :] == its

    return [detail for detail in details if not any(follows(detail, other) for other in details)]


def _walk(kind: object, location: Sequence[int | str]) -> tuple[object, list[str]]:
    """Return the annotation at a location, and its path as a person writes it: without the members of unions.

    What is not known stands in the path too, and nothing is known below it.
    """
    path: list[str] = []
    for part in location:
        members = _members(kind)
        settings = [member for member in members if isinstance(member, type) and issubclass(member, Settings)]
        fields = [annotation_of(one.model_fields[str(part)]) for one in settings if part in one.model_fields]
        items = _inner(kind, list, tuple)[:1] if isinstance(part, int) else _inner(kind, dict)[1:]
        tagged = [one for one in settings if "kind" in one.model_fields and _is_of_kind(one, part)]
        if below := [*fields, *items]:
            kind = below[0]
        elif tagged:
            kind = tagged[0]
            continue
        elif settings or len(members) == 1:
            kind = object
        else:
            continue
        path.append(str(part))
    return kind, path


def _explain(kind: type[Settings], where: str, details: list[typing.Any]) -> list[str]:  # pydantic's ErrorDetails
    """Return a sentence for each mistake in one value; the mistakes of the members of a union are one."""
    if len(details) == 1 or any(detail["type"] in ("extra_forbidden", "missing", "value_error") for detail in details):
        return [_sentence(kind, where, detail) for detail in details]
    wanted = dict.fromkeys(_wanted(detail) for detail in details)
    return [f"{where} is {json.dumps(details[0]['input'], default=str)[:80]}: input should be {' or '.join(wanted)}"]


def _wanted(detail: typing.Any) -> str:
    if detail["type"] == "literal_error":
        return str(detail["ctx"]["expected"])
    return str(detail["msg"]).removeprefix("Input should be ")


def _sentence(kind: type[Settings], where: str, detail: typing.Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            if (renamed := present_path(where)) is not None:
                return f"unknown key {where}; it is called {renamed} now"
            *parents, word = detail["loc"]
            known = sorted({name for one in _settings_at(kind, parents) for name in one.model_fields})
            return f"unknown key {where}{_hint(kind, str(word), known)}"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            reason = detail["ctx"]["error"]
            return f"{where}: {reason}" if detail["loc"] else str(reason)
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            hint = _renamed(detail["input"], allowed) or did_you_mean(str(detail["input"]), allowed)
            return f"{where} is {detail['input']!r}, allowed: {detail['ctx']['expected']}{hint}"
        case "union_tag_invalid":
            allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
            hint = _renamed(detail["ctx"]["tag"], allowed) or did_you_mean(detail["ctx"]["tag"], allowed)
            return f"{where}.kind is {detail['ctx']['tag']!r}, allowed: {detail['ctx']['expected_tags']}{hint}"
        case "union_tag_not_found":
            kinds = [one.model_fields["kind"].default for one in _settings_at(kind, detail["loc"])]
            return f"{where} must say its kind: {', '.join(kinds)}"
        case _:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{where} is {json.dumps(detail['input'], default=str)[:80]}: {message}"


_SYNONYMS = {
    "learning_rate": "lr", "base_lr": "lr", "wd": "weight_decay", "num_epochs": "epochs",
    "batch_size": "data.sampler.identities",
    "max_epochs": "epochs", "num_workers": "workers", "random_seed": "seed", "image_size": "size", "arch": "backbone",
    "architecture": "backbone", "optimizer": "optim", "optimiser": "optim", "pretrained": "weights", "loss": "losses",
    "dataset": "datasets", "gpu": "device", "amp": "precision", "tensorboard": "track", "fp16": "precision",
}  # fmt: skip
"""What other toolkits call a setting."""


def _renamed(value: object, allowed: Sequence[str]) -> str:
    """Return how a value of an earlier version is called today, where that is allowed."""
    name = FORMER_NAMES.get(str(value)) or FORMER_KINDS.get(str(value))
    return f"; it is called {name!r} now" if name in allowed else ""


def _hint(kind: type[Settings], word: str, known: Sequence[str]) -> str:
    """Return where an unknown key may belong: a synonym, the same name elsewhere, the nearest name, or all names."""
    name = _SYNONYMS.get(word, word)
    if "." in name:
        return f"; did you mean {name}?"
    if name in known:
        return f"; did you mean {name!r}?"
    if places := sorted(set(paths_of(kind, name)), key=_depth):
        nearest = [place for place in places if _depth(place) == _depth(places[0])]
        return f"; did you mean {' or '.join(nearest[:3])}?"
    return did_you_mean(word, known) or f"; known here: {', '.join(known)}"


def _depth(path: str) -> int:
    return sum(not part.isdigit() for part in path.split("."))


def paths_of(kind: object, name: str, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting of that name below an annotation; the first item stands for a list."""
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, Settings):
            for key, field in member.model_fields.items():
                if key == name:
                    yield f"{path}{key}"
                yield from paths_of(annotation_of(field), name, f"{path}{key}.")
        elif typing.get_origin(member) in (list, tuple):
            yield from paths_of(typing.get_args(member)[0], name, f"{path}0.")


def _settings_at(kind: object, location: Sequence[int | str]) -> list[type[Settings]]:
    """Return the classes of settings that are allowed at a location."""
    members = _members(_walk(kind, location)[0])
    return [member for member in members if isinstance(member, type) and issubclass(member, Settings)]


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes strings that YAML 1.2 reads as numbers, such as `1e-4`."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(data: Mapping[str, Plain]) -> str:
    """Return plain data as YAML that `parse_yaml` reads back to the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)
