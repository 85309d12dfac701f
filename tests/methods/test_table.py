"""The table of methods, and that nothing outside `passerby.methods` and no code but the table names one of them."""

import re
from pathlib import Path

import pytest

import passerby
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings
from passerby.methods.table import DEFAULT_CLUSTERING, METHODS
from passerby.recipe import MethodSettings

PACKAGE = Path(passerby.__file__).parent
FORMER_KEYS = PACKAGE / "renamed.py"
OUTSIDE = [
    path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "methods" not in path.parents and path != FORMER_KEYS
]
MODULES = {kind.method_class.__module__ for kind in METHODS.values()} - {"passerby.methods.consolidation"}
"""Of single methods; `consolidation` also has the interpolation of weights that a command does."""
NAMES = "|".join(METHODS)
SETTINGS = "|".join(kind.__name__ for kind in METHODS.values())
NAMING = re.compile(
    rf"method\.({NAMES})\b|(chosen|methods|METHODS)(\[|\.get\()[\"']({NAMES})[\"']"
    rf"|[\"']({NAMES})[\"'] (not )?in\b|(part|name|method) [!=]= [\"']({NAMES})[\"']|import .*\b({SETTINGS})\b"
)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_outside_methods_names_a_method(path):
    text = path.read_text()
    assert not [found[0] for found in NAMING.finditer(text)]
    assert not [module for module in MODULES if f"from {module} import" in text]


def test_the_pattern_finds_names():
    for text in (
        "stage.method.ssg",
        "if 'ewc' in named",
        'record.method == "ebll"',
        "import SsgSettings",
        'METHODS["mmt"]',
    ):
        assert NAMING.search(text)


@pytest.mark.parametrize(("name", "kind"), METHODS.items())
def test_settings_and_method_belong_together(name, kind):
    assert issubclass(kind, BaseMethodSettings)
    assert issubclass(kind.method_class, Method)
    assert list(MethodSettings.model_fields) == list(METHODS)
    assert set(kind.excludes) <= set(METHODS)
    names = list(METHODS)
    assert name != "dec" or names[names.index(name) + 1 :] == ["camera_proxies"]  # which follows all labels


def test_labels_are_assigned_by_default_by_a_method_that_clusters():
    assert METHODS[DEFAULT_CLUSTERING].assigns_labels
