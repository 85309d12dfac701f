"""Machine code that is kept on disk is used when it is whole, and made anew when it is not."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

SOURCE = """
from passerby.compiled import compiled

@compiled()
def twice(x):
    return 2 * x
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads a module with one compiled function as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubling.py").write_text(SOURCE)

    def load():
        monkeypatch.delitem(sys.modules, "doubling", raising=False)
        return importlib.import_module("doubling").twice

    yield load
    sys.modules.pop("doubling", None)


def kept(folder: Path, ending: str) -> Path:
    return next(folder.rglob(f"*{ending}"))


def test_machine_code_is_kept(load, tmp_path):
    assert load()(3) == 6
    assert kept(tmp_path, ".nbi").stat().st_size
    again = load()
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_file_that_was_cut_is_made_anew(load, tmp_path, ending, size):
    load()(3)
    path = kept(tmp_path, ending)
    whole = path.stat().st_size
    os.truncate(path, size)
    assert load()(3) == 6
    assert kept(tmp_path, ending).stat().st_size >= whole  # names in it hold a count of functions, which only grows
    again = load()
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def test_nothing_is_kept_where_nothing_can_be_written(load, monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching._CacheLocator, "from_function", classmethod(lambda *_: None))
    for locator in caching.CacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", classmethod(lambda *_: None))
    assert load()(3) == 6
