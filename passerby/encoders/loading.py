"""Find a trained model in a run folder or a file, and load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from passerby.device import AUTOMATIC, InferenceSettings
from passerby.encoders.model import Model, Trained, TrainedOnnx
from passerby.errors import UserError
from passerby.inference.onnx import load_onnx
from passerby.metadata import safetensors_text
from passerby.models.embedder import Embedder, load_embedder
from passerby.models.one_column import ends_in_one_column
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_from_text, recipe_of_run
from passerby.recipe.places import public_text

GRAPHS = (".onnx", ".xml")
"""Endings of files that hold a graph."""


def load_model(path: str | Path, input_text: Sequence[str] = (), *, inference: InferenceSettings = AUTOMATIC) -> Model:
    """Load whatever makes vectors: a run folder, an `embedder.safetensors`, or an ONNX or OpenVINO file of any program.

    Args:
        path: where it is; a file that ends in .onnx is ONNX, one in .xml is OpenVINO's.
        input_text: `key=value` of `OnnxSettings`, for an ONNX file of another program.
        inference: on which device it runs, and how many images at a time.

    Raises:
        UserError: there is no finished model, or one that cannot be used; a device that is not there.

    """
    path = Path(path)
    if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
        raise UserError(f"{path} holds the weights of an OpenVINO model; give {path.with_suffix('.xml')}")
    if path.suffix.lower() not in GRAPHS:
        if input_text:
            raise UserError(
                f"--input {input_text[0]} is for ONNX and OpenVINO files of other programs; {path} contains its own "
                "input settings"
            )
        return load_trained(path, inference=inference)
    network = load_onnx(path, input_text, device=inference.device)
    if network.recipe is None:
        return TrainedOnnx(network, None, inference)
    notes: list[str] = []
    recipe = recipe_from_text(network.recipe, source=f"the recipe in {path}", notify=notes.append)
    return TrainedOnnx(replace(network, notes=(*network.notes, *notes)), recipe, inference)


def load_trained(path: str | Path, *, inference: InferenceSettings = AUTOMATIC) -> Trained:
    """Load the model of a run folder, or an `embedder.safetensors` by itself, onto a device.

    Raises:
        UserError: there is no finished model, or no such device.

    """
    path, device = Path(path), inference.torch_device()
    file = path / "embedder.safetensors" if path.is_dir() else path
    if not file.is_file():
        unfinished = path.is_dir() and (path / "last.pt").exists()
        hint = f"; the run is not finished, go on with: passerby train --resume --out {path}" if unfinished else ""
        raise UserError(f"no trained model at {file}{hint}")
    require_used(file.parent)
    embedder = load_embedder(file).to(device)
    notes: list[str] = []
    recipe = _recipe_of(file, notes.append)
    _require_computable(embedder, inference, recipe)
    return Trained(embedder, recipe, file, recipe.test.flip, tuple(notes), inference)


def _require_computable(embedder: Embedder, inference: InferenceSettings, recipe: Recipe) -> None:
    """Refuse a precision that the device cannot compute, before images are read."""
    precision = inference.network_precision(recipe.engine.precision)
    if precision == "bf16" and embedder.mean.device.type == "cpu" and ends_in_one_column(embedder):
        raise UserError(
            "precision bf16 gives wrong values on a CPU where a strided convolution outputs a map of one column, as in "
            f"this model at {embedder.input.size[0]}x{embedder.input.size[1]}; use float32"
        )


def _recipe_of(file: Path, notify: Callable[[str], None]) -> Recipe:
    """Return the recipe of a model; where that of the folder around it is the same, that one, which has all paths."""
    inside = recipe_from_text(safetensors_text(file, "recipe"), source=f"the recipe in {file}", notify=notify)
    beside = file.with_name("recipe.yaml")
    if beside.is_file() and public_text(recipe := recipe_of_run(beside)) == public_text(inside):
        return recipe
    return inside
