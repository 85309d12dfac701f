"""Recipes without the folders of one machine, for what people hand on: models, exports, reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import cast

from passerby.methods.table import METHODS
from passerby.recipe.tree import Recipe
from passerby.settings import Plain, dump_yaml

_ABSOLUTE = re.compile(r"""(?<![\w.:/…~-])(?:~|/)[^\s'",;:)\]}=]*/([^\s/'",;:)\]}=]+)/?""")
_PLACES = ("root", "masks", "path", "init_from")


def without_folders(text: str) -> str:
    """Return a sentence or a command in which absolute paths keep their last name only.

    >>> without_folders("passerby train small --data /home/ann/crops/plaza --out runs/a")
    'passerby train small --data …/plaza --out runs/a'
    """
    return _ABSOLUTE.sub(r"…/\1", text)


def public_text(recipe: Recipe) -> str:
    """Return `Recipe.dump` with the last names of files and folders only, which reads back to a recipe."""
    data = recipe.uninherited_values()
    data["description"] = without_folders(recipe.description)
    _shorten(data)
    for each in (data, *cast("list[dict[str, Plain]]", data["stages"])):
        for settings, name in method_files(each):
            settings[name] = PurePath(str(settings[name])).name
    for described in cast("dict[str, dict[str, Plain]]", data["datasets"]).values():
        _shorten(described)
    model = cast("dict[str, Plain]", data["model"])
    model["weights"] = PurePath(str(model["weights"])).name
    return dump_yaml(data)


def method_files(data: dict[str, Plain]) -> Iterator[tuple[dict[str, Plain], str]]:
    """Yield the settings of each method of a recipe or a stage, as plain data, with each name in them of a file."""
    methods = data.get("method")
    for name, settings in methods.items() if isinstance(methods, dict) else ():
        if isinstance(settings, dict) and name in METHODS:
            yield from ((settings, file) for file in METHODS[name].files if isinstance(settings.get(file), str))


def is_method_file(key: str) -> bool:
    """Whether a dotted key of a recipe is a path of a method.

    >>> [is_method_file(f"method.{name}.{key}") for name, key in (("distil", "teacher"), ("distil", "cosine"))]
    [True, False]
    """
    *_, method, name, file = ["", "", *key.split(".")]
    return method == "method" and name in METHODS and file in METHODS[name].files


def _shorten(data: dict[str, Plain]) -> None:
    for key in _PLACES:
        if isinstance(place := data.get(key), str):
            data[key] = PurePath(place).name or place
