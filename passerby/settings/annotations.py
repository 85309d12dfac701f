"""Navigation in the annotations of settings: members of unions, values of lists, the class at a location."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Union

from pydantic.fields import FieldInfo

from passerby.registry import OneOf
from passerby.settings.base import Settings


def annotation_of(field: FieldInfo) -> object:
    """Return the annotation of a field as it was written, with the mark of a table."""
    marks = [mark for mark in field.metadata if isinstance(mark, OneOf)]
    return Annotated[field.annotation, marks[0]] if marks else field.annotation


def union_members(kind: object) -> tuple[object, ...]:
    """Return the members of a union annotation, or the annotation itself."""
    if typing.get_origin(kind) is Annotated:
        inner, *marks = typing.get_args(kind)
        tables = [mark.table for mark in marks if isinstance(mark, OneOf)]
        return tuple(tables[0].values()) if tables else union_members(inner)
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def container_arguments(kind: object, *origins: type) -> tuple[object, ...]:
    """Return the arguments of the first member of an annotation that is one of these containers."""
    return next((typing.get_args(member) for member in union_members(kind) if typing.get_origin(member) in origins), ())


def is_of_kind(member: type[Settings], kind: object) -> bool:
    """Whether a member of a union is the one that the tag `kind` chooses; without a tag all may be meant."""
    return "kind" not in member.model_fields or kind in (None, member.model_fields["kind"].default)


def walk(kind: object, location: Sequence[int | str]) -> tuple[object, list[str]]:
    """Return the annotation at a location, and its path as a person writes it: without the members of unions.

    Unknown parts stand in the path too; below them everything is unknown.
    """
    path: list[str] = []
    for part in location:
        variants = union_members(kind)
        settings = [member for member in variants if isinstance(member, type) and issubclass(member, Settings)]
        fields = [annotation_of(choice.model_fields[str(part)]) for choice in settings if part in choice.model_fields]
        items = (
            container_arguments(kind, list, tuple)[:1] if isinstance(part, int) else container_arguments(kind, dict)[1:]
        )
        tagged = [choice for choice in settings if "kind" in choice.model_fields and is_of_kind(choice, part)]
        if below := [*fields, *items]:
            kind = below[0]
        elif tagged:
            kind = tagged[0]
            continue
        elif settings or len(variants) == 1:
            kind = object
        else:
            continue
        path.append(str(part))
    return kind, path


def paths_of(kind: object, name: str, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting of that name below an annotation; the first item stands for a list."""
    for member in union_members(kind):
        if isinstance(member, type) and issubclass(member, Settings):
            for key, field in member.model_fields.items():
                if key == name:
                    yield f"{path}{key}"
                yield from paths_of(annotation_of(field), name, f"{path}{key}.")
        elif typing.get_origin(member) in (list, tuple):
            yield from paths_of(typing.get_args(member)[0], name, f"{path}0.")


def settings_at(kind: object, location: Sequence[int | str]) -> list[type[Settings]]:
    """Return the classes of settings that are allowed at a location."""
    variants = union_members(walk(kind, location)[0])
    return [member for member in variants if isinstance(member, type) and issubclass(member, Settings)]


def kinds_at(kind: object, location: Sequence[int | str]) -> list[str]:
    """Return the kinds of the members of a tagged union at a location."""
    return [settings.model_fields["kind"].default for settings in settings_at(kind, location)]


def literals_at(kind: object, location: Sequence[int | str]) -> list[object]:
    """Return the values that are allowed by name at a location."""
    return list(_literals(walk(kind, location)[0]))


def _literals(kind: object) -> Iterator[object]:
    for member in union_members(kind):
        if typing.get_origin(member) is typing.Literal:
            yield from typing.get_args(member)
        elif member is not kind:
            yield from _literals(member)
