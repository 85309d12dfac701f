"""Base class of all settings, and the plain data that YAML and JSON hold."""

from __future__ import annotations

from typing import TypeVar

import pydantic

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""The values of YAML and JSON."""


class Settings(pydantic.BaseModel):
    """Base of every choice a person can make: no unknown keys, no silent conversion, no change after construction."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def idle(self) -> frozenset[str]:
        """The fields that have no effect beside the values of the others; drawings leave them out."""
        return frozenset()


S = TypeVar("S", bound=Settings)


def first_difference(
    first: S, second: S, *, without: frozenset[str] = frozenset()
) -> tuple[str, object, object] | None:
    """Return the name and both values, as plain data, of the first field that differs, or None.

    Args:
        first: settings.
        second: of the same class.
        without: names of fields that may differ.

    """
    values, others = (settings.model_dump(mode="json", exclude=set(without)) for settings in (first, second))
    return next(((name, value, others[name]) for name, value in values.items() if value != others[name]), None)
