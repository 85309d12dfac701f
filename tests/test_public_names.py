"""The names that other programs may use; a change here is a change for them and belongs into the change log."""

import importlib
import inspect
import json
from pathlib import Path

import pytest

NAMES = json.loads((Path(__file__).parent / "public_names.json").read_text())


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_stable(module):
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        getattr(loaded, name)  # some are loaded when they are first used
    own = [
        name
        for name, value in vars(loaded).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__ == module or name in getattr(loaded, "__all__", ()))
        and not name.startswith("_")
    ]
    assert sorted(own) == NAMES[module]
