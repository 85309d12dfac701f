"""Activation maps: contributions to the similarity with the query, or norms of the last feature map.

A map shows the contribution of each position to a vector, not the reason of a match; its resolution is that of the last
feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from passerby.data.ahead import ahead
from passerby.data.decoding import Pixels, decode
from passerby.data.loading import prepare
from passerby.device import AUTOMATIC, FittingBatch, InferenceSettings, Precision
from passerby.errors import UserError
from passerby.inference.embed import autocast
from passerby.models.embedder import Embedder
from passerby.report.list_figures import Strip, draw_strips, read_shot
from passerby.report.palette import QUIET, style
from passerby.report.ranked_lists import RankedList, describe_list
from passerby.types import Embeddings, Floats, Inputs, Ints, Output, VectorName, require_known_cameras

MapKind = Literal["similarity", "norm"]

_COLOURS, _COVER = "viridis", 0.6
_BELOW = 0.62  # inches, for the colour bar

EXPLAINED: dict[MapKind, str] = {
    "similarity": "contribution of each position to the similarity with the query",
    "norm": "norm of the last feature map",
}


def contributions(embedder: Embedder, inputs: Inputs, query: Tensor, *, feature: VectorName = "after_neck") -> Tensor:
    """Return (B, h, w) how much each cell of the last map adds to the cosine similarity with the query.

    The value is the sum over channels of activation times gradient, the norms of both vectors held fixed. Every pooling
    of passerby is homogeneous of degree 1, so for a network that pools its map the cells add up to the similarity,
    apart from a number that is the same for all images of a list: what the neck takes off. For a network of tokens,
    read at the last block, and for an OSNet, which has a layer after the pooling, it is a first-order estimate.

    Args:
        embedder: the model, in `eval` mode.
        inputs: B images with their cameras.
        query: (D,) vector that was searched for.
        feature: which vector is compared.

    Raises:
        UserError: a network that pools tokens in a way that passerby does not know.

    Reference: Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
    networks", 2020, equation 3; for average pooling the same as Selvaraju et al., "Grad-CAM", ICCV 2017.
    Differs from the paper: the score is a similarity to a query instead of a class, and nothing is cut off below 0.

    """
    with torch.enable_grad(), _watched(embedder) as watched:
        out = embedder(inputs)
        source = watched[0] if watched else out.map
        vectors = out.vector(feature)  # (B, D)
        similarity = vectors @ F.normalize(query, dim=0) / vectors.detach().norm(dim=1).clamp_min(1e-12)
        (gradient,) = torch.autograd.grad(similarity.sum(), source)
    product: Tensor = source.detach().float() * gradient.float()
    if not watched:
        return product.sum(dim=1)  # (B, h, w)
    height, width = out.map.shape[2:]
    return product.sum(dim=2)[:, -height * width :].reshape(-1, height, width)


@contextmanager
def _watched(embedder: Embedder) -> Iterator[list[Tensor]]:
    """Collect the input of the last block, (B, tokens, C), of a network that pools its own tokens; else nothing.

    The output of the last block would not do: a network that reads its class token alone uses no other token there.
    """
    inputs: list[Tensor] = []
    if not embedder.backbone.pools_itself:
        yield inputs
        return
    body: Any = embedder.backbone.body
    norm = getattr(body.blocks[-1], "norm1", None) if hasattr(body, "blocks") else None
    if norm is None:
        raise UserError(
            f"{embedder.settings.backbone!r} pools tokens in its own way; only maps of kind 'norm' are known"
        )
    handle = norm.register_forward_hook(lambda _, __, output: inputs.append(output))
    try:
        yield inputs
    finally:
        handle.remove()


def map_norms(out: Output) -> Tensor:
    """Return (B, h, w) the Euclidean norms over the channels of the last map."""
    norms: Tensor = torch.linalg.vector_norm(out.map.float(), dim=1)
    return norms


@dataclass(frozen=True, eq=False)
class Maps:
    """Activation maps of the images of a list.

    Attributes:
        values: by file name, (h, w) in [0, 1]: 1 is the highest value of the image, 0 is nothing, or the lowest
            for `norm`.
        kind: the kind of maps.

    """

    values: dict[str, Floats]
    kind: MapKind

    @property
    def covers(self) -> dict[str, Pixels]:
        """The images under their maps, by file name."""
        return {path: overlay_map(decode(path), values) for path, values in self.values.items()}

    @property
    def count_cells(self) -> int:
        """Number of cells of each map."""
        return next(iter(self.values.values())).size

    @property
    def cells(self) -> str:
        """The resolution of the maps, in words."""
        height, width = next(iter(self.values.values())).shape
        return f"{height} × {width} cells"


def require_unmasked(table: Embeddings) -> None:
    """Raise `UserError` unless vectors are of whole images, over which maps can be drawn."""
    if table.input_mask != "none":
        raise UserError(f"activation maps need embeddings made with test.input_mask=none, got {table.input_mask!r}")


def maps_of(
    embedder: Embedder,
    ranked: RankedList,
    *,
    kind: MapKind = "similarity",
    feature: VectorName = "after_neck",
    inference: InferenceSettings = AUTOMATIC,
    precision: Precision = "float32",
    dataset: str = "",
) -> Maps:
    """Compute the activation maps of the query and the images of a list, as they are and not mirrored.

    Args:
        embedder: the model that made the list.
        ranked: the list; images that are not there are left out.
        kind: `similarity` or `norm`.
        feature: which vector the list was ordered by.
        inference: batch size and readers; the device is that of the model.
        precision: of the network.
        dataset: name of the data set of the images, for a model that uses cameras; `""` = their cameras are unknown.

    Raises:
        UserError: the query's image is not there, or no other is; an unknown camera where the model refuses those.

    """
    paths = list(dict.fromkeys(shot.path for shot in (ranked.query, *ranked.shots)))
    read = ahead(read_shot, paths, workers=inference.workers, depth=inference.workers + 1)
    pixels = {path: image for path, image in zip(paths, read, strict=True) if image is not None}
    if ranked.query.path not in pixels or len(pixels) < 2:
        where = f", for example {ranked.query.path}" if ranked.query.path else "; the embeddings name no files"
        raise UserError(f"activation maps need the images of the list, and they cannot be read{where}")
    inputs = Inputs(
        torch.stack([prepare(image, embedder.input) for image in pixels.values()]),
        torch.from_numpy(_camera_rows(embedder, ranked, list(pixels), dataset)),
    )
    was_training, device, fitting = embedder.training, embedder.mean.device, FittingBatch(inference.notify)
    embedder.eval()
    try:
        with autocast(device, precision):
            row = torch.tensor([list(pixels).index(ranked.query.path)])
            query = inputs.map(lambda tensor: tensor[row].to(device))
            make = _map_maker(embedder, query, kind=kind, feature=feature)
            raw = torch.cat([_in_parts(make, part, device, fitting) for part in _split(inputs, inference.batch)])
    finally:
        embedder.train(was_training)
    values = [_to_unit(each, lowest=float(each.min()) if kind == "norm" else 0.0) for each in raw.numpy()]
    return Maps(dict(zip(pixels, values, strict=True)), kind)


def _camera_rows(embedder: Embedder, ranked: RankedList, paths: Sequence[str], dataset: str) -> Ints:
    """Return the rows (B,) of images in the camera table of a model."""
    cameras = {shot.path: shot.cam for shot in (ranked.query, *ranked.shots)}
    rows = embedder.cameras.rows(dataset, np.array([cameras[path] for path in paths], np.int64))
    backbone, name = embedder.backbone, embedder.settings.backbone
    require_known_cameras(rows, embedder.cameras, unknown=backbone.unknown_camera, source=name)
    return rows


def _split(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Yield at most `size` inputs at a time."""
    for start in range(0, len(inputs), size):
        yield inputs.map(itemgetter(slice(start, start + size)))


def _map_maker(embedder: Embedder, query: Inputs, *, kind: MapKind, feature: VectorName) -> Callable[[Inputs], Tensor]:
    """Return the function that maps B inputs to maps (B, h, w), for the query image."""
    if kind == "norm":
        return lambda inputs: map_norms(_forward(embedder, inputs))
    vector = _forward(embedder, query).vector(feature)[0].float()
    return lambda inputs: contributions(embedder, inputs, vector, feature=feature)


def _forward(embedder: Embedder, inputs: Inputs) -> Output:
    with torch.no_grad():
        out: Output = embedder(inputs)
    return out


def _in_parts(make: Callable[[Inputs], Tensor], inputs: Inputs, device: torch.device, fitting: FittingBatch) -> Tensor:
    """Return the maps of B images on the CPU, computed in as many parts as memory makes necessary."""

    def step(rows: slice) -> Tensor:
        return make(inputs.map(lambda tensor: tensor[rows].to(device))).float().cpu()

    return fitting.run(step, len(inputs))


def _to_unit(values: Floats, *, lowest: float) -> Floats:
    """Scale to [0, 1]; what is below `lowest` counts as it."""
    above = np.maximum(values - lowest, 0)
    return np.asarray(above / max(float(above.max()), 1e-12), np.float32)


def overlay_map(pixels: Pixels, values: npt.NDArray[np.float32]) -> Pixels:
    """Return an image (H, W, 3), converted to grey, with a map (h, w) in [0, 1] drawn over it in colour."""
    size = (pixels.shape[1], pixels.shape[0])
    fine = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    colours = mpl.colormaps[_COLOURS](fine)[..., :3]
    grey = (pixels @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    return np.asarray(255 * ((1 - _COVER) * grey + _COVER * colours), np.uint8)


def attention_figure(
    embedder: Embedder,
    lists: Sequence[RankedList],
    *,
    kind: MapKind = "similarity",
    feature: VectorName = "after_neck",
    inference: InferenceSettings = AUTOMATIC,
    precision: Precision = "float32",
    dataset: str = "",
) -> Figure:
    """Draw ranked lists twice, without and with activation maps, with a colour scale below.

    The arguments are those of `maps_of`.
    """
    strips, cells = [], ""
    for ranked in lists:
        maps = maps_of(
            embedder,
            ranked,
            kind=kind,
            feature=feature,
            inference=inference,
            precision=precision,
            dataset=dataset,
        )
        cells = maps.cells
        strips += [Strip(ranked, describe_list(ranked)), Strip(ranked, "", covers=maps.covers)]
    figure = draw_strips(strips, below=_BELOW)
    width, height = figure.get_size_inches()
    with style():
        panel = figure.add_axes((0.3 / width, 0.34 / height, 2.2 / width, 0.13 / height))
        scale = figure.colorbar(ScalarMappable(cmap=_COLOURS), cax=panel, orientation="horizontal", ticks=[0, 1])
        scale.set_ticklabels(["none" if kind == "similarity" else "low", "high"])
        scale.outline.set_edgecolor(QUIET)
        figure.text(
            2.8 / width, 0.405 / height, f"{EXPLAINED[kind]}, within each image; {cells}", va="center", fontsize=9
        )
    return figure


def scale_image(*, width: int = 120, height: int = 12) -> Pixels:
    """Return the scale of colours from low to high as an image (H, W, 3)."""
    row = 255 * mpl.colormaps[_COLOURS](np.linspace(0, 1, width))[None, :, :3]
    return np.repeat(row, height, axis=0).astype(np.uint8)
