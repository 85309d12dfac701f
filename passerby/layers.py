"""The layers of the package, lowest first: a module imports only from layers below its own.

This table is the only list of them. Tests check every import by it and that `CONTRIBUTING.md` and
`docs/extend/index.md` hold its texts, which `python docs/generate.py` writes.
"""

from __future__ import annotations

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors", "files", "types", "settings", "registry", "choices", "plugins", "inputs", "device", "console",
        "layers", "lock", "threads", "bounded", "compiled", "npz", "metadata", "processes", "renamed",
    ),
    ("distances",),
    ("data", "models", "losses", "metrics", "clustering", "optim"),
    ("inference", "evaluation", "segment", "association"),
    ("methods", "background_bias", "scorable", "reference_results"),
    ("recipe",),
    ("published", "encoders"),
    ("training", "thresholds"),
    ("exporting",),
    ("engines",),
    ("report", "bench", "retrieval", "interpolate", "adaptation", "tracking", "gallery"),
    ("scale",),
    ("api", "commands"),
    ("demo",),
    ("cli",),
    ("__main__",),
)  # fmt: skip
"""Modules and packages directly below `passerby`, by layer. Only those of the lowest layer import from each other."""


def layer_of(name: str) -> int:
    """Return the number of the layer that holds a module or package.

    Args:
        name: in full, below `passerby`; its first part decides.

    Raises:
        KeyError: no layer holds it.

    >>> layer_of("passerby.distances.pairwise")
    1
    """
    first = name.removeprefix("passerby.").partition(".")[0]
    return {package: number for number, layer in enumerate(LAYERS) for package in layer}[first]


def may_import(name: str, other: str) -> bool:
    """Whether one module may import another.

    >>> may_import("passerby.losses.mix", "passerby.types"), may_import("passerby.types", "passerby.losses.mix")
    (True, False)
    """
    if name.split(".")[:2] == other.split(".")[:2]:
        return True
    below, own = layer_of(other), layer_of(name)
    return below < own or below == own == 0


def layers_table() -> str:
    """Return the layers as a table in Markdown, for the documentation."""
    rows = [f"| {number} | {_names(layer)} |" for number, layer in enumerate(LAYERS)]
    return "\n".join(["| layer | modules and packages |", "|---|---|", *rows])


def layers_list() -> str:
    """Return the layers as a list in Markdown."""
    return "\n".join(f"{number}. {_names(layer)}" for number, layer in enumerate(LAYERS))


def _names(layer: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in layer)
