"""Plain data to settings, or one error with a sentence for every mistake."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping

import pydantic

from passerby.errors import UserError
from passerby.settings.annotations import annotation_of, container_arguments, is_of_kind, union_members, walk
from passerby.settings.base import Plain, S, Settings
from passerby.settings.mistakes import explain, root_mistakes


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
        for detail in root_mistakes(error.errors(include_url=False)):
            path = ".".join(walk(kind, detail["loc"])[1]) or "the recipe"
            mistakes.setdefault((path, repr(detail["input"])), []).append(detail)
        sentences = [sentence for (where, _), details in mistakes.items() for sentence in explain(kind, where, details)]
        raise UserError(f"{source}: {'; '.join(sentences)}") from error


def _without_nulls(kind: object, data: Plain) -> Plain:
    """Leave out every `null` that the annotation `kind` has no place for."""
    if not isinstance(data, dict):
        items = container_arguments(kind, list, tuple)
        return [_without_nulls(items[0], item) for item in data] if isinstance(data, list) and items else data
    annotations: dict[str, object] = {}
    for member in union_members(kind):
        if isinstance(member, type) and issubclass(member, Settings) and is_of_kind(member, data.get("kind")):
            annotations |= {name: annotation_of(field) for name, field in member.model_fields.items()}
        elif typing.get_origin(member) is dict:
            annotations |= dict.fromkeys(data, typing.get_args(member)[1])
    return {
        key: _without_nulls(annotations.get(key), value)
        for key, value in data.items()
        if value is not None or key not in annotations or type(None) in union_members(annotations[key])
    }
