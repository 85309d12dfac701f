"""How the tensors of a file fit a network of tokens: image towers, tables of positions, jigsaw branches, cameras."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from passerby.models.clip_vit import ClipVisionTransformer
from passerby.models.positions import fit_positions_of_tokens
from passerby.models.vit import VisionTransformer

SIDE_INFORMATION = ("sie_embed", "cv_embed")
"""Embeddings of cameras and viewpoints, which are those of other data and begin anew."""

_TOWERS = ("visual.", "image_encoder.")


def fit_tokens(found: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a file the names that they have in a vision transformer; others come back as they are.

    Of a CLIP the image tower is taken. The jigsaw module begins with two copies of the last block and the last norm.
    Embeddings of cameras are left out where the network has its own.

    Args:
        found: the tensors of a file by name.
        body: the network.

    """
    fitted = dict(found)
    if isinstance(body, ClipVisionTransformer):
        fitted = _image_tower(fitted)
    if isinstance(body, VisionTransformer) and body.order is not None:
        last = f"blocks.{body.settings.depth - 1}."
        fitted = _set_aside(fitted, last) if "b1.1.weight" in fitted else _begin_branches(fitted, last)
    here = [name for name in SIDE_INFORMATION if hasattr(body, name)]
    return {key: value for key, value in fitted.items() if key.partition(".")[0] not in here}


def fit_positions_of(found: dict[str, Tensor], body: VisionTransformer | ClipVisionTransformer) -> tuple[str, ...]:
    """Resize the table of positions of a file to the grid of a network, in place of the old one.

    Returns:
        The name of the table, if it had to be resized.

    """
    name = "positional_embedding" if isinstance(body, ClipVisionTransformer) else "pos_embed"
    if name not in found:
        return ()
    found[name], resized = fit_positions_of_tokens(
        found[name], body.get_parameter(name), body.grid, prefix=body.first_rows
    )
    return (name,) if resized else ()


def _image_tower(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the image tower by their names in it, and those of the text tower under `text.`."""
    prefix = next((prefix for prefix in _TOWERS if any(key.startswith(prefix) for key in found)), None)
    if prefix is None:
        return found
    return {
        key.removeprefix(prefix) if key.startswith(prefix) else f"text.{key}": value for key, value in found.items()
    }


def _set_aside(found: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """Return tensors whose last block and last norm, replaced by its branches, stand under `replaced.`."""
    return {f"replaced.{key}" if key.startswith((last, "norm.")) else key: value for key, value in found.items()}


def _begin_branches(found: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """Return tensors whose last block and last norm are those of both branches of the jigsaw module."""
    fitted: dict[str, Tensor] = {}
    for key, value in found.items():
        places = {last: "0.", "norm.": "1."}
        start = next((start for start in places if key.startswith(start)), None)
        if start is None:
            fitted[key] = value
        else:
            fitted |= {f"{branch}.{places[start]}{key.removeprefix(start)}": value for branch in ("b1", "b2")}
    return fitted
