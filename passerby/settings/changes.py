"""Changes of plain data: files that extend others, mappings laid over others, differences, and dotted overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from passerby.bounded import DEEPEST
from passerby.errors import UserError
from passerby.settings.base import Plain
from passerby.settings.yaml_text import parse_yaml, read_mapping


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
    also take away what the settings would have by default; `build` gives it the meaning of the setting.

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


def difference(base: Mapping[str, Plain], changed: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the least changes that `merge` lays over `base` to get the values of `changed`.

    Keys that only `base` has stay out, because `merge` cannot take a key away.

    >>> difference({"lr": 0.1, "name": "sgd"}, {"lr": 0.2, "name": "sgd"})
    {'lr': 0.2}
    >>> difference({"kind": "dbscan", "eps": 0.5}, {"kind": "kmeans", "k": 100})
    {'kind': 'kmeans', 'k': 100}
    """
    if {"kind"} <= base.keys() & changed.keys() and base["kind"] != changed["kind"]:
        return dict(changed)
    changes: dict[str, Plain] = {}
    for key, value in changed.items():
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
    key, *below = keys
    if isinstance(node, list):
        if not (key.isascii() and key.isdigit() and int(key) < len(node)):
            places = f"a number from 0 to {len(node) - 1}" if node else "left out, the list is empty"
            raise UserError(f"{path}: {key!r} must be {places}")
        items = list(node)
        items[int(key)] = _put(items[int(key)], below, value, path) if below else value
        return items
    mapping = node if isinstance(node, dict) else {}
    if below:
        return {**mapping, key: _put(mapping.get(key), below, value, path)}
    return merge(mapping, {key: value})
