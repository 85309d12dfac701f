"""Largest difference between the vectors of a graph and of the model that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from passerby.data.decoding import Pixels
from passerby.exporting.contracts import Contract
from passerby.exporting.graph import Inference
from passerby.inference.onnx_model import OnnxModel
from passerby.models.embedder import Embedder
from passerby.types import UNKNOWN, Floats, Ints

CHECKED = (1, 64)
"""Numbers of images at a time that are compared."""


@dataclass(frozen=True)
class Parity:
    """Largest difference between an ONNX file and its model.

    Attributes:
        cosine: cosine distance in [0, 2] between the two vectors of an image.
        absolute: difference of two of their numbers.

    """

    cosine: float
    absolute: float

    def __str__(self) -> str:
        """One sentence with both."""
        batches = " and ".join(map(str, CHECKED))
        return (
            f"checked against torch: cosine distance at most {self.cosine:.0e} at batch {batches} "
            f"(largest difference of a number {self.absolute:.0e})"
        )


def parity(ours: Floats, theirs: Floats) -> Parity:
    """Compare vectors (N, D) with vectors (N, D), row by row.

    >>> parity(np.float32([[1, 0]]), np.float32([[0, 1]]))
    Parity(cosine=1.0, absolute=1.0)
    """
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore"):  # a vector of zeros has no direction: NaN, which no limit lets pass
        cosine = 1 - (first * second).sum(axis=1) / lengths
    worst = np.maximum(0, cosine.max())  # unlike Python's own max, numpy's lets NaN through
    return Parity(float(worst), float(np.abs(first - second).max()))


def compare_graph(
    network: Inference, model: OnnxModel, device: torch.device, *, images: Pixels | None = None
) -> Parity:
    """Run a graph and its model, which takes RGB bytes of its own size, on the same images.

    Args:
        network: that the graph was made from; its contract describes the input of the graph.
        model: the graph.
        device: of the model.
        images: (B, 3, H, W) RGB of the size of the graph; None = `patchwork`.

    Returns:
        The largest difference at every number of images that is checked.

    """
    contract, size = network.contract, network.contract.size(network.embedder.input)
    images = patchwork(max(CHECKED), size) if images is None else images
    pixels = graph_order(images, contract)
    cam = _camera_rows(network.embedder, len(images))
    theirs = [model.run(pixels[:count], None if cam is None else cam[:count]) for count in CHECKED]
    ours = [_reference(network, images[:count], None if cam is None else cam[:count], device) for count in CHECKED]
    return parity(np.concatenate(ours), np.concatenate(theirs))


def graph_order(images: Pixels, contract: Contract) -> Pixels:
    """Return RGB images (B, 3, H, W) with their channels in the order of a contract."""
    return images if contract.colour == "rgb" else np.ascontiguousarray(images[:, ::-1])


def _reference(network: Inference, images: Pixels, cam: Ints | None, device: torch.device) -> Floats:
    """Return the vectors of torch by the model as it was trained, whatever the contract feeds."""
    model = network.original.to(device)
    inputs = torch.from_numpy(images).to(device)
    if inputs.shape[2:] != model.input.size:
        inputs = F.interpolate(inputs.float(), model.input.size, mode="bilinear", align_corners=False)
    plain = Inference(model, feature=network.feature, flip=network.flip).eval()
    with torch.inference_mode():
        vectors = plain(inputs, None if cam is None else torch.from_numpy(cam).to(device)).float()
    return (F.normalize(vectors) if network.contract.unit_length else vectors).cpu().numpy()


def _camera_rows(embedder: Embedder, count: int) -> Ints | None:
    """Return rows (B,) of the camera table, each in turn and unknown where the model takes that; None without cameras.

    The single image of the first batch has the lowest one: unknown, or row 0.
    """
    if not embedder.cameras.count:
        return None
    first = 0 if embedder.backbone.unknown_camera == "refuse" else UNKNOWN
    return np.resize(np.arange(first, embedder.cameras.count), count)


def patchwork(count: int, size: tuple[int, int]) -> Pixels:
    """Return images (B, 3, H, W) of 8 x 4 random colours each, because to a network all plain noise looks alike."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 4), dtype=np.uint8)
    rows, columns = (np.arange(side) * patches // side for side, patches in zip(size, (8, 4), strict=True))
    return np.ascontiguousarray(colours[:, :, rows][:, :, :, columns])
