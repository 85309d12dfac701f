"""A trained model as one ONNX or safetensors file, checked against torch before it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from passerby.data.decoding import Pixels
from passerby.data.loading import plain_batches
from passerby.device import InferenceSettings, find_device
from passerby.encoders import Trained, load_trained
from passerby.encoders.loading import GRAPHS
from passerby.errors import UserError
from passerby.exporting.contracts import CONTRACTS, Contract, ExportPrecision
from passerby.exporting.describing import GraphTexts, describe, write_description
from passerby.exporting.graph import Inference, fix_batch, translate
from passerby.exporting.parity import CHECKED, Parity, compare_graph, graph_order
from passerby.exporting.precision import to_half, to_int8
from passerby.files import atomic_write
from passerby.inference.onnx import read_onnx
from passerby.inference.onnx_model import Entry, Numbers, feed
from passerby.models.embedder import save_embedder
from passerby.recipe import recipe_from_text
from passerby.recipe.places import public_text
from passerby.types import VectorName, Words

Format = Literal["onnx", "safetensors"]

LIMITS: dict[ExportPrecision, float] = {"float32": 1e-4, "half": 1e-3, "int8": 1.0}
"""Largest cosine distance between the vectors of a file and those of torch; 1 refuses a broken file only."""


def export(
    run: Path, out: Path, *, to: Format, feature: VectorName | None = None, device: str = "auto"
) -> Parity | None:
    """Write the model of a run as one file that `passerby embed`, `evaluate` and `search` take in the run's place.

    Args:
        run: a run folder, or its embedder.safetensors.
        out: the file, with the ending of its format.
        to: the format.
        feature: which vector the file gives; None = the one that the recipe tests.
        device: where an ONNX file is compared with torch, as in `InferenceSettings`.

    Returns:
        How near the ONNX file is to torch; None for safetensors, which holds the weights themselves.

    Raises:
        UserError: no finished run, an ending of another format, or a model that ONNX cannot say exactly enough.

    """
    if out.suffix != f".{to}":
        raise UserError(f"--to {to} writes a file that ends in .{to}, got {out}")
    trained = load_weights(run)
    if out.exists() and out.samefile(trained.source):
        raise UserError(f"{out} is the model itself; give another output file")
    trained = with_feature(trained, feature, source=str(run))
    if to == "onnx":
        return write_onnx(trained, out, device=device)
    save_embedder(trained.embedder, out, recipe=public_text(trained.recipe))
    return None


def load_weights(run: Path) -> Trained:
    """Return the model of a run on the CPU.

    Raises:
        UserError: no finished run, or a graph, which holds no weights that could be exported again.

    """
    if run.suffix.lower() in GRAPHS:
        raise UserError(
            f"{run} is exported already: an {run.suffix.lower()} file is a graph; start from the run folder, or from "
            "the .safetensors that `passerby import` or `passerby train` wrote"
        )
    return load_trained(run, inference=InferenceSettings(device="cpu"))


def with_feature(trained: Trained, feature: VectorName | None, *, source: str) -> Trained:
    """Return a model that gives another of its vectors; None = the one that its recipe tests."""
    if feature is None:
        return trained
    recipe = recipe_from_text(trained.recipe.dump(), [f"test.feature={feature}"], source=source)
    return replace(trained, recipe=recipe)


def write_onnx(trained: Trained, out: Path, *, device: str = "cpu") -> Parity:
    """Write a model as ONNX once onnxruntime gives the same vectors as torch; otherwise nothing is written.

    The graph takes `images` (batch, 3, H, W), uint8 RGB, and, where the model uses cameras, `cam` (batch,) int64, rows
    of its camera table with -1 = unknown; it gives `vectors` (batch, D) float32.

    Raises:
        UserError: torch cannot translate the model, it needs masks, or the vectors differ by more than 1e-4 in cosine
            distance.

    """
    graph = checked_graph(trained, CONTRACTS["onnx"], out=out, device=device)
    with atomic_write(out) as file:
        file.write(graph.content)
    return graph.difference


@dataclass(frozen=True)
class Graph:
    """A graph that was compared with torch.

    Attributes:
        content: of the ONNX file.
        difference: from torch.
        description: that is in its metadata.
        network: that it was made from.
        images: (B, 3, H, W) RGB on which they were compared; None = `patchwork`.

    """

    content: bytes
    difference: Parity
    description: GraphTexts
    network: Inference
    images: Pixels | None


def checked_graph(
    trained: Trained,
    contract: Contract,
    *,
    out: Path,
    device: str = "cpu",
    precision: ExportPrecision = "float32",
    paths: Words | None = None,
) -> Graph:
    """Return an ONNX graph that gives the same vectors as torch.

    Args:
        trained: the model.
        contract: input and output of the graph.
        out: the file that is to be written, for texts.
        device: where it is compared with torch.
        precision: of weights and operations. The difference of `int8` is measured and not limited.
        paths: (N,) image files from which `int8` takes the ranges of all maps.

    Raises:
        UserError: see `write_onnx`.

    """
    if trained.recipe.input_mask != "none":
        raise UserError(
            f"this model is tested with test.input_mask={trained.recipe.input_mask}, and an ONNX file takes no "
            "masks; a model trained with foreground.use=swap takes images as they are"
        )
    network = Inference(trained.embedder, feature=trained.feature, flip=trained.flip, contract=contract).eval()
    where = find_device(device)
    model = translate(network, trained)
    if precision == "half" and contract.consumer != "openvino":  # which narrows the weights by itself
        model = to_half(model)
    elif precision == "int8":
        assert paths is not None
        model = to_int8(model, _values(network, paths), symmetric=contract.consumer == "deepstream")
    if contract.batch is not None:
        fix_batch(model, contract.batch)
    description = describe(trained, contract, name=out.stem, precision=precision)
    write_description(model, description)
    content = bytes(model.SerializeToString())
    images = None if paths is None else next(_pixels(network, paths))
    difference = compare_graph(network, read_onnx(content, source=str(out), device=device), where, images=images)
    require_near(difference, precision, out)
    return Graph(content, difference, description, network, images)


def require_near(difference: Parity, precision: ExportPrecision, out: Path) -> None:
    """Raise `UserError` where vectors differ from those of torch by more than a precision explains."""
    limit = LIMITS[precision]
    if not difference.cosine <= limit:
        raise UserError(
            f"{out} was not written: its vectors would be up to {difference.cosine:.1e} in cosine distance from "
            f"those of torch, and {limit:.0e} is allowed"
        )


def _pixels(network: Inference, paths: Words) -> Iterator[Pixels]:
    """Yield RGB images (B, 3, H, W) of the size of a graph."""
    inputs = network.embedder.input
    sized = inputs.model_copy(update={"size": network.contract.size(inputs), "colour": "rgb"})
    for images in plain_batches(paths, sized, size=max(CHECKED)):
        yield images.numpy()


def _values(network: Inference, paths: Words) -> Iterator[Numbers]:
    """Yield the values (B, 3, H, W) that the program of a contract feeds for image files."""
    contract, inputs = network.contract, network.embedder.input
    dtype = np.uint8 if contract.dtype == "uint8" else np.float32
    entry = Entry("images", dtype, "nchw", contract.size(inputs), None)
    for images in _pixels(network, paths):
        yield feed(graph_order(images, contract), entry, contract.settings(inputs))
