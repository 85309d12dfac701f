"""Code of others that adds to the registry tables: installed plugins, and files that a person names by `--import`.

Neither a recipe nor a checkpoint names code. A plugin is installed by the person, a file is named on the command line
(or given to `import_file`) by the person, each time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import traceback
import warnings
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from passerby.errors import UserError, first_line

GROUP = "passerby.plugins"
"""The group of entry points; each names a module that registers what it brings when it is imported."""


class PluginWarning(UserWarning):
    """An installed plugin could not be loaded."""


@dataclass(frozen=True)
class ImportedFile:
    """A file that was imported.

    Attributes:
        path: absolute.
        sha256: of its bytes, as 64 digits.

    """

    path: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.path} (SHA-256 {self.sha256[:16]})"


_imported: dict[str, ImportedFile] = {}
_plugins: dict[str, str] = {}
"""Of each plugin that was looked at, the package that brings it; `""` where it could not be loaded."""


# ---- installed plugins


def load_plugins() -> None:
    """Import all installed plugins, once; one that cannot be imported is a `PluginWarning`."""
    for point in _find_points(tuple(sys.path)):
        if point.name not in _plugins:
            _plugins[point.name] = ""  # before the import, which may read a recipe itself
            _load(point)


@functools.lru_cache(maxsize=1)
def _find_points(_search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of all plugins by name; every recipe asks, and reading all packages takes 10 ms."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


def _load(point: EntryPoint) -> None:
    try:
        point.load()
    except Exception as error:
        warnings.warn(
            f"the plugin {point.name!r} ({point.value}) cannot be loaded, so what it adds is missing: "
            f"{type(error).__name__}: {first_line(error)}",
            PluginWarning,
            stacklevel=3,
        )
    else:
        _plugins[point.name] = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


# ---- files


def import_file(path: str | Path) -> ImportedFile:
    """Run a Python file of the person's own, which registers what it brings; once for each file.

    Raises:
        UserError: there is no such file, or it cannot be run.

    """
    place = str(Path(path).expanduser().absolute())
    if place in _imported:
        return _imported[place]
    try:
        source = Path(place).read_bytes()
    except OSError as error:
        raise UserError(f"--import {path}: {(error.strerror or str(error)).lower()}") from error
    record = ImportedFile(place, hashlib.sha256(source).hexdigest())
    name = f"{Path(place).stem}_{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = place
    sys.modules[name] = module  # where pydantic and dataclasses find the names that annotations are written in
    try:
        exec(compile(source, place, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        what = error.msg if isinstance(error, SyntaxError) else first_line(error)
        raise UserError(f"--import {path}{_line_of(error, place)}: {kind}{what}") from error
    _imported[place] = record
    return record


def _line_of(error: Exception, place: str) -> str:
    """Return which line of a file an exception comes from, in words."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == place else (lines or [None])[-1]
    return "" if line is None else f", line {line}"


# ---- what a run used


def used() -> dict[str, dict[str, str]]:
    """Return what was added to the tables: the SHA-256 of each file, and the package of each plugin."""
    plugins = {name: package for name, package in _plugins.items() if package}
    return {"imports": {file.path: file.sha256 for file in _imported.values()}, "plugins": plugins}


def describe_used() -> list[str]:
    """Return a sentence on each file that was imported, and on each plugin."""
    plugins = [f"plugin {name}: {package}" for name, package in _plugins.items() if package]
    return [*plugins, *(f"imported {file}" for file in _imported.values())]


def require_used(folder: Path) -> list[str]:
    """Return a sentence for each file and plugin of a run folder that is another one now.

    Raises:
        UserError: the run was begun with a file that was not imported.

    """
    recorded = _recorded(folder / "environment.json")
    files = {Path(path).name: ImportedFile(path, sha) for path, sha in recorded.get("imports", {}).items()}
    now = {Path(file.path).name: file for file in _imported.values()}
    hashes = {file.sha256 for file in now.values()}
    missing = [file for name, file in files.items() if name not in now and file.sha256 not in hashes]
    if missing:
        names = " and ".join(Path(file.path).name for file in missing)
        options = " ".join(f"--import {file.path}" for file in missing)
        raise UserError(f"{folder} used what {names} defines; give {options}")
    changed = [name for name, file in files.items() if file.sha256 not in hashes]
    load_plugins() if recorded.get("plugins") else None
    others = [
        f"the run was begun with {package} (plugin {name}), and now there is {_plugins.get(name) or 'none'}"
        for name, package in recorded.get("plugins", {}).items()
        if _plugins.get(name) != package
    ]
    return [*(f"{name} is not the file that the run was begun with (its SHA-256 differs)" for name in changed), *others]


def _recorded(file: Path) -> dict[str, dict[str, str]]:
    """Return what an environment.json says of imports and plugins; nothing where it cannot be read."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    groups = {name: data.get(name) for name in ("imports", "plugins")} if isinstance(data, dict) else {}
    return {
        name: {str(key): str(value) for key, value in group.items()}
        for name, group in groups.items()
        if isinstance(group, dict)
    }
