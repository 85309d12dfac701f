"""`import passerby` gives its names, lazily, typed, and shadowed by no module."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import passerby

HEAVY = {"torch", "torchvision", "timm", "matplotlib", "ignite", "sklearn", "scipy", "numba", "pydantic", "numpy"}
TIMED = """
import sys, time
began = time.process_time()
import passerby
print(time.process_time() - began, *sys.modules)
"""
"""Time of the processor, which does not depend on how busy the machine is."""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    return done.stdout


def test_importing_it_is_quick_and_loads_nothing_heavy():
    runs = [run_python(TIMED).split() for _ in range(3)]
    assert {name.split(".")[0] for name in runs[0][1:]} & HEAVY == set()
    assert min(float(seconds) for seconds, *_ in runs) < 0.2


@pytest.mark.parametrize("name", passerby.__all__)
def test_a_name_is_there_and_documented(name):
    value = getattr(passerby, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(passerby)


def test_no_module_takes_the_place_of_a_name():
    modules = {found.name for found in pkgutil.iter_modules(passerby.__path__)}
    assert modules & set(passerby.__all__) == set()
    for module in sorted(modules - {"__main__"}):
        importlib.import_module(f"passerby.{module}")
    assert all(callable(getattr(passerby, name)) for name in passerby.__all__)


def test_reading_a_data_set_loads_no_network_library():
    loaded = run_python("import sys, passerby; passerby.read_dataset; print(*sys.modules)").split()
    assert {name.split(".")[0] for name in loaded} & {"torch", "timm", "matplotlib", "ignite"} == set()


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(passerby.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {(alias.name, node.module) for node in block.body for alias in node.names}
    assert seen == {(name, module) for module, names in passerby._MODULES.items() for name in names}
    assert sorted(name for name, _ in seen) == passerby.__all__


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="module 'passerby' has no attribute 'nothing'"):
        passerby.nothing  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", passerby.__all__)
def test_every_name_has_an_example(name):
    page = (Path(passerby.__file__).parents[1] / "docs" / "guide" / "python.md").read_text()
    assert f"passerby.{name}" in page or ">>>" in (getattr(passerby, name).__doc__ or "")


def test_the_reference_of_the_package_shows_every_function():
    page = (Path(passerby.__file__).parents[1] / "docs" / "reference" / "passerby.md").read_text()
    for module, names in passerby._MODULES.items():
        assert f"::: {module}" in page or all(f"`{name}`" in page or module == "passerby.types" for name in names)
