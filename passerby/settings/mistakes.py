"""Sentences on the mistakes that pydantic finds in settings, from their location, type and context."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence

from passerby.errors import did_you_mean
from passerby.renamed import FORMER_KINDS, present_path
from passerby.settings.annotations import kinds_at, literals_at, paths_of, settings_at
from passerby.settings.base import Settings
from passerby.types.vectors import FORMER_NAMES


def root_mistakes(details: list[typing.Any]) -> list[typing.Any]:
    """Leave out mistakes that only follow from another one.

    A mistake that a stage takes from its recipe is found in both; a list with a mistake inside also counts as short.
    """

    def follows(detail: typing.Any, other: typing.Any) -> bool:
        place, its = detail["loc"], other["loc"]
        if detail["type"] == "too_short":
            return len(its) > len(place) and its[: len(place)] == place
        alike = (detail["type"], detail["input"]) == (other["type"], other["input"])
        return alike and 0 < len(its) < len(place) and place[-len(its) :] == its

    return [detail for detail in details if not any(follows(detail, other) for other in details)]


def explain(kind: type[Settings], where: str, details: list[typing.Any]) -> list[str]:  # pydantic's ErrorDetails
    """Return a sentence for each mistake in one value; the mistakes of the members of a union are one."""
    if len(details) == 1 or any(detail["type"] in ("extra_forbidden", "missing", "value_error") for detail in details):
        return [_sentence(kind, where, detail) for detail in details]
    allowed = dict.fromkeys(_allowed(kind, detail) for detail in details)
    return [f"{where} is {_shown(details[0]['input'])}: must be {' or '.join(allowed)}"]


def _sentence(kind: type[Settings], where: str, detail: typing.Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            if (renamed := present_path(where)) is not None:
                return f"unknown key {where}; it is called {renamed} now"
            *parents, word = detail["loc"]
            known = sorted({name for settings in settings_at(kind, parents) for name in settings.model_fields})
            return f"unknown key {where}{_hint(kind, str(word), known)}"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            reason = detail["ctx"]["error"]
            return f"{where}: {reason}" if detail["loc"] else str(reason)
        case "literal_error":
            words = [value for value in literals_at(kind, detail["loc"]) if isinstance(value, str)]
            hint = _renamed(detail["input"], words) or did_you_mean(str(detail["input"]), words)
            return f"{where} is {detail['input']!r}, allowed: {_allowed(kind, detail)}{hint}"
        case "union_tag_invalid":
            kinds, tag = kinds_at(kind, detail["loc"]), detail["ctx"]["tag"]
            hint = _renamed(tag, kinds) or did_you_mean(tag, kinds)
            return f"{where}.kind is {tag!r}, allowed: {', '.join(map(repr, kinds))}{hint}"
        case "union_tag_not_found":
            return f"{where} must say its kind: {', '.join(kinds_at(kind, detail['loc']))}"
        case _:
            return f"{where} is {_shown(detail['input'])}: must be {_allowed(kind, detail)}"


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:80]


_ALLOWED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "none_required": "null",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""The allowed values, by the type of a mistake, with names from its context."""


def _allowed(kind: type[Settings], detail: typing.Any) -> str:
    """Return the values that are allowed in place of a mistake, in words."""
    if detail["type"] == "literal_error":
        *others, last = map(repr, literals_at(kind, detail["loc"]))
        return f"{', '.join(others)} or {last}" if others else last
    words = _ALLOWED.get(detail["type"])
    return f"valid ({detail['msg']})" if words is None else words.format(**detail.get("ctx", {}))


_SYNONYMS = {
    "learning_rate": "lr", "base_lr": "lr", "wd": "weight_decay", "num_epochs": "epochs",
    "batch_size": "data.sampler.identities",
    "max_epochs": "epochs", "num_workers": "workers", "random_seed": "seed", "image_size": "size", "arch": "backbone",
    "architecture": "backbone", "optimizer": "optim", "optimiser": "optim", "pretrained": "weights", "loss": "losses",
    "dataset": "datasets", "gpu": "device", "amp": "precision", "tensorboard": "track", "fp16": "precision",
}  # fmt: skip
"""Names of settings in other toolkits."""


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
