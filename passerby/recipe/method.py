"""The methods of a stage."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from passerby.choices import ChoiceSettings
from passerby.methods.settings import BaseMethodSettings
from passerby.methods.table import METHODS
from passerby.registry import Table


class MethodSettings(ChoiceSettings):
    """The methods of a stage, by their keys in `METHODS`, in the order in which they are called."""

    table: ClassVar[Table[BaseMethodSettings]] = METHODS

    @property
    def chosen(self) -> dict[str, BaseMethodSettings]:
        """The methods that are present, by name, in the order of the table."""
        return super().chosen

    @model_validator(mode="after")
    def _exclusive(self) -> Self:
        assigning = [name for name, method in self.chosen.items() if method.assigns_labels]
        if len(assigning) > 1:
            raise ValueError(f"method.{assigning[0]} and method.{assigning[1]} both assign labels; leave one out")
        for name, method in self.chosen.items():
            for other in method.excludes:
                if other in self.chosen:
                    raise ValueError(f"method.{name} and method.{other} exclude each other; leave one out")
        return self
