"""Recipes that runs and models of earlier versions carry, in the words of today.

A recipe that a person gives is never changed: a former word is refused with the present one in the hint. The former
words are those of `passerby.renamed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from passerby.renamed import FORMER_VALUES, RENAMED, present_data
from passerby.settings import Plain
from passerby.types import present_name

_OF_STAGES = "stages.*."


@dataclass(frozen=True)
class Translation:
    """A stored recipe in the words of today.

    Attributes:
        data: the recipe as plain data.
        renamed: former paths that it held, sorted; `*` is the number of a stage.

    """

    data: dict[str, Plain]
    renamed: tuple[str, ...] = ()

    def note(self, source: str) -> str | None:
        """Return a sentence on what was translated, or None."""
        if not self.renamed:
            return None
        names, further = ", ".join(self.renamed[:3]), len(self.renamed) - 3
        more = f" and {further} more" if further > 0 else ""
        return f"{source} was written by an earlier version; its settings {names}{more} are read by their present names"


@dataclass
class _Translator:
    """Collects the former paths that are met."""

    renamed: set[str] = field(default_factory=set)

    def recipe(self, data: Mapping[str, Plain]) -> dict[str, Plain]:
        """Translate a recipe, its top level before its stages."""
        base = data.get("data")
        translated = self.level(dict(data), prefix="", base={})
        if isinstance(stages := translated.get("stages"), list):
            translated["stages"] = [
                self.level(stage, prefix=_OF_STAGES, base=base) if isinstance(stage, dict) else stage
                for stage in stages
            ]
        return translated

    def level(self, data: dict[str, Plain], *, prefix: str, base: Plain) -> dict[str, Plain]:
        """Translate the top level of a recipe or one stage; `base` is the former `data` of the top level."""
        data = cast("dict[str, Plain]", self.names(data))
        if isinstance(images := data.get("data"), dict):
            present = present_data(images, base if isinstance(base, dict) else {})
            if present != images:
                self.renamed.update(f"data.{key}" for key in images if key not in present)
                data["data"] = cast("dict[str, Plain]", present)
        for was, now in RENAMED.items():
            if was.startswith(_OF_STAGES) and prefix:
                self.move(data, was.removeprefix(_OF_STAGES), now.removeprefix(_OF_STAGES), shown=was)
            elif not was.startswith(_OF_STAGES):
                self.move(data, was, now, shown=was)
        for path, values in FORMER_VALUES.items():
            self.replace(data, path, cast("Mapping[object, Plain]", values))
        return data

    def move(self, data: dict[str, Plain], was: str, now: str, *, shown: str) -> None:
        """Move the value at one dotted path to another; what stands there already is the present one."""
        *parents, last = was.split(".")
        if (holder := _at(data, parents)) is None or last not in holder:
            return
        value = holder.pop(last)
        self.renamed.add(shown)
        *parents, last = now.split(".")
        _mapping_at(data, parents).setdefault(last, value)

    def replace(self, data: dict[str, Plain], path: str, values: Mapping[object, Plain]) -> None:
        """Replace a former value of a setting by the present one."""
        *parents, last = path.split(".")
        holder = _at(data, parents)
        if holder is None or isinstance(value := holder.get(last), list | dict) or value not in values:
            return  # a mapping or a list is no former value of any setting
        holder[last] = values[value]
        self.renamed.add(path)

    def names(self, data: Plain) -> Plain:
        """Replace the former names of the two vectors of an image."""
        if isinstance(data, list):
            return [self.names(item) for item in data]
        if not isinstance(data, dict):
            return data
        return {key: self.name(key, value) for key, value in data.items()}

    def name(self, key: str, value: Plain) -> Plain:
        """Replace the former name of a vector, which stands under the key `feature`."""
        if key != "feature" or not isinstance(value, str):
            return self.names(value)
        if (present := present_name(value)) != value:
            self.renamed.add(key)
        return present


def in_present_words(data: Mapping[str, Plain]) -> Translation:
    """Translate the plain data of a stored recipe.

    >>> in_present_words({"test": {"feature": "embedding"}, "optim": {"final_rate": 0.0}}).data
    {'test': {'feature': 'after_neck'}, 'optim': {'min_lr': 0.0}}
    """
    translator = _Translator()
    translated = translator.recipe(data)
    return Translation(translated, tuple(sorted(translator.renamed)))


def _at(data: dict[str, Plain], path: list[str]) -> dict[str, Plain] | None:
    """Return the mapping at a path, or None."""
    place: Plain = data
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


def _mapping_at(data: dict[str, Plain], path: list[str]) -> dict[str, Plain]:
    """Return the mapping at a path, made where there is none."""
    for key in path:
        below = data.get(key)
        if not isinstance(below, dict):
            below = data[key] = {}
        data = below
    return data
