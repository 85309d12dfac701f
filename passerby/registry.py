"""Registry tables: the ordered names that a recipe may use at one extension point, each with its class.

The tables of losses, readers, backbone families, ... stand beside their classes and list what the package brings. A
plugin or a file given by `--import` adds to them by `register`; whatever derives from a table follows at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from passerby.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Table(Mapping[str, type[T]], Generic[T]):
    """Names and their classes, in order.

    Args:
        noun: what an entry is, for error texts.
        base: the class that every entry is derived from.
        entries: those of the package.

    >>> table = Table("number", int, {"int": int})
    >>> table.register("bool", bool, before="int")
    >>> list(table)
    ['bool', 'int']
    """

    def __init__(self, noun: str, base: type[T], entries: Mapping[str, type[T]]) -> None:
        self.noun, self.base = noun, base
        self._entries = dict(entries)
        self._followers: list[Callable[[], None]] = []

    def __getitem__(self, name: str) -> type[T]:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def register(self, name: str, entry: type[T], *, before: str | None = None) -> None:
        """Add an entry.

        The same definition may be registered again, as when a cell of a notebook is run twice.

        Args:
            name: the key in recipes; lower-case letters, digits and underscores.
            entry: a class derived from `base`.
            before: the entry that it is placed before; None = at the end.

        Raises:
            UserError: the name is taken or not a key, or the class is not derived from `base`.

        """
        self._require_fit(name, entry, before)
        entries = {key: kind for key, kind in self._entries.items() if key != name}
        names = list(entries)
        names.insert(len(names) if before is None else names.index(before), name)
        earlier, self._entries = self._entries, {key: entries.get(key, entry) for key in names}
        try:
            self._notify()
        except UserError:
            self._entries = earlier
            self._notify()
            raise

    def follow(self, follower: Callable[[], None]) -> None:
        """Call a function after each change; a `UserError` that it raises undoes the change."""
        self._followers.append(follower)

    def require(self, name: str) -> type[T]:
        """Return the class of a name, or raise `UserError` with the nearest name."""
        if name not in self._entries:
            hint = did_you_mean(name, self._entries) or f"; known: {', '.join(self._entries)}"
            raise UserError(f"{self.noun} {name!r} is not known{hint}")
        return self._entries[name]

    def _notify(self) -> None:
        for follower in self._followers:
            follower()

    def _require_fit(self, name: str, entry: type[T], before: str | None) -> None:
        if not _NAME.fullmatch(name):
            raise UserError(f"{name!r} cannot name a {self.noun}; use lower-case letters, digits and underscores")
        if not (isinstance(entry, type) and issubclass(entry, self.base)):
            raise UserError(f"the {self.noun} {name!r} must be a class derived from {_full_name(self.base)}")
        old = self._entries.get(name)
        if old is not None and _full_name(old) != _full_name(entry):
            raise UserError(f"the {self.noun} {name!r} exists already ({_full_name(old)}); choose another name")
        if before is not None and (before not in self._entries or before == name):
            raise UserError(f"the {self.noun} {name!r} is to stand before {before!r}, which is not registered")


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class OneOf:
    """Marks the annotation of a field that holds the settings of any entry of a table, told by their key `kind`.

    `Annotated[ReaderSettings, OneOf(READERS)]` is validated as the union of all entries.
    """

    def __init__(self, table: Table[Any]) -> None:
        self.table = table

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the union of the entries, which pydantic asks for whenever it builds a class."""
        from pydantic_core import core_schema

        choices = {name: handler.generate_schema(kind) for name, kind in self.table.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")
