"""Settings that derive from a registry table, and their renewal when an entry is added.

`ChoiceSettings` has one optional key per entry (`losses: {softmax: {}, triplet: {}}`), `OneOf` marks a value that is
one entry, told by its `kind`. Both are pydantic schemas that are built once, so an addition builds them, and all
settings that hold them, again.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic.fields import FieldInfo

from passerby.errors import UserError
from passerby.registry import OneOf, Table
from passerby.settings import Settings, annotation_of


class ChoiceSettings(Settings):
    """Base of settings with one optional key per entry of `table`, in its order; an entry is null unless it is named.

    A subclass sets `table` and inherits no other fields.
    """

    table: ClassVar[Table[Any]]

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: object) -> None:
        """Add the fields, now and whenever the table changes."""
        super().__pydantic_init_subclass__(**keywords)
        _fill(cls)
        cls.table.follow(lambda: _refill(cls))

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings of the entries that are present, by name, in the order of the table."""
        found = {name: getattr(self, name, None) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if value is not None}


def follow_table(table: Table[Any]) -> None:
    """Rebuild all settings with a value that is `OneOf` the table whenever an entry is added to it."""
    table.follow(lambda: _renew_values(table))


def settings_in(annotation: object) -> Iterator[type[Settings]]:
    """Yield the settings classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    parts = typing.get_args(annotation)
    tables = [part.table for part in parts if isinstance(part, OneOf)]
    for kind in tables[0].values() if tables else parts:
        yield from settings_in(kind)


def _fill(kind: type[ChoiceSettings]) -> None:
    for name in kind.table:
        if name not in kind.model_fields and hasattr(kind, name):
            raise UserError(f"the {kind.table.noun} {name!r} needs another name; this one is used by {kind.__name__}")
    kind.model_fields.clear()
    for name, entry in kind.table.items():
        kind.model_fields[name] = FieldInfo.from_annotated_attribute(entry | None, None)  # type: ignore[arg-type]
    kind.model_rebuild(force=True)


def _refill(kind: type[ChoiceSettings]) -> None:
    _fill(kind)
    _renew_holders(kind)


def _renew_holders(kind: type[Settings]) -> None:
    """Build the settings that hold a class again, the innermost first."""
    for holder in _subclasses(Settings):
        if any(kind in settings_in(annotation_of(field)) for field in holder.model_fields.values()):
            holder.model_rebuild(force=True)
            _renew_holders(holder)


def _renew_values(table: Table[Any]) -> None:
    for name, entry in table.items():
        if entry.model_fields["kind"].default != name:
            raise UserError(f"the {table.noun} {name!r} needs the field kind: Literal[{name!r}] = {name!r}")
    for holder in _subclasses(Settings):
        if any(table in _tables_in(annotation_of(field)) for field in holder.model_fields.values()):
            holder.model_rebuild(force=True)
            _renew_holders(holder)


def _tables_in(annotation: object) -> Iterator[Table[Any]]:
    """Yield the tables that a value of an annotation is chosen from."""
    for inner in typing.get_args(annotation):
        if isinstance(inner, OneOf):
            yield inner.table
        else:
            yield from _tables_in(inner)


def _subclasses(kind: type[Settings]) -> Iterator[type[Settings]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)
