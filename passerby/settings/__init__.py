"""Settings: typed, strict and frozen; read from YAML with `extends`, and changed by dotted overrides.

A `Settings` class defines what is allowed; `read_yaml`, `merge` and `override` make plain data; `build` turns the data
into the class, or into one `UserError` that names every mistake with its full path.
"""

from passerby.settings.annotations import annotation_of, paths_of
from passerby.settings.base import Plain, Settings, first_difference
from passerby.settings.building import build
from passerby.settings.changes import difference, merge, override, read_yaml
from passerby.settings.yaml_text import dump_yaml, parse_yaml, read_mapping

__all__ = [
    "Plain",
    "Settings",
    "annotation_of",
    "build",
    "difference",
    "dump_yaml",
    "first_difference",
    "merge",
    "override",
    "parse_yaml",
    "paths_of",
    "read_mapping",
    "read_yaml",
]
