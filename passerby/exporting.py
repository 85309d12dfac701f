"""A trained model as one file for other programs: ONNX, checked against torch before it is written, or safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from passerby.data.decoding import Pixels
from passerby.device import InferenceSettings, find_device
from passerby.encoders import Trained, load_trained
from passerby.errors import UserError, first_line
from passerby.files import atomic_write
from passerby.inference.embed import tested_vectors
from passerby.inference.onnx import read_onnx
from passerby.inference.onnx_model import OnnxModel
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe import recipe_from_text
from passerby.recipe.places import public_text
from passerby.types import UNKNOWN, Floats, Inputs, Ints, VectorName

if TYPE_CHECKING:
    from onnx import ModelProto

Format = Literal["onnx", "safetensors"]

_CHECKED = (1, 64)
_LIMIT = 1e-4


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
        batches = " and ".join(map(str, _CHECKED))
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


class Inference(nn.Module):
    """From RGB bytes to the tested vector: all that an exported graph does.

    Args:
        embedder: the model.
        feature: which of its vectors.
        flip: whether to average it with the mirror image's.

    """

    def __init__(self, embedder: Embedder, *, feature: VectorName, flip: bool) -> None:
        super().__init__()
        self.embedder = embedder
        self.feature = feature
        self.flip = flip
        self.reverses = embedder.input.colour == "bgr"

    def forward(self, images: Tensor, cam: Tensor | None = None) -> Tensor:
        """Map images (B, 3, H, W), uint8 RGB, of rows (B,) of the camera table to vectors (B, D) float32."""
        ordered = images.flip(1) if self.reverses else images
        inputs = Inputs.of_images(ordered) if cam is None else Inputs(ordered, cam)
        return tested_vectors(self.embedder, inputs, feature=self.feature, flip=self.flip)


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
    if run.suffix == ".onnx":
        raise UserError(f"{run} is ONNX already; export starts from a run folder or its embedder.safetensors")
    trained = load_trained(run, inference=InferenceSettings(device="cpu"))
    if out.exists() and out.samefile(trained.source):
        raise UserError(f"{out} is the model itself; give another output file")
    if feature is not None:
        text = recipe_from_text(trained.recipe.dump(), [f"test.feature={feature}"], source=str(run))
        trained = replace(trained, recipe=text)
    if to == "onnx":
        return write_onnx(trained, out, device=device)
    save_embedder(trained.embedder, out, recipe=public_text(trained.recipe))
    return None


def write_onnx(trained: Trained, out: Path, *, device: str = "cpu") -> Parity:
    """Write a model as ONNX once onnxruntime gives the same vectors as torch; otherwise nothing is written.

    The graph takes `images` (batch, 3, H, W), uint8 RGB, and, where the model uses cameras, `cam` (batch,) int64, rows
    of its camera table with -1 = unknown; it gives `vectors` (batch, D) float32.

    Raises:
        UserError: torch cannot translate the model, it needs masks, or the vectors differ by more than 1e-4 in cosine
            distance.

    """
    if trained.recipe.input_mask != "none":
        raise UserError(
            f"this model is tested with test.input_mask={trained.recipe.input_mask}, and an ONNX file takes no "
            "masks; a model trained with foreground.use=swap takes images as they are"
        )
    network = Inference(trained.embedder, feature=trained.feature, flip=trained.flip).eval()
    where = find_device(device)
    content = _translate(network, trained)
    found = _compare(network, read_onnx(content, source=str(out), device=device), where)
    if not found.cosine <= _LIMIT:
        raise UserError(
            f"{out} was not written: its vectors would be up to {found.cosine:.1e} in cosine distance from those of "
            f"torch, and {_LIMIT:.0e} is allowed"
        )
    with atomic_write(out) as file:
        file.write(content)
    return found


def _translate(network: Inference, trained: Trained) -> bytes:
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it, and tells of its absence in a traceback
    except ImportError as error:
        raise UserError("writing ONNX files needs the extra `export`: pip install 'passerby[export]'") from error
    name = trained.embedder.settings.backbone
    try:
        model = _trace(network)
    except Exception as error:  # the tracer, the translator and protobuf each have their own
        raise UserError(f"torch cannot write {name!r} as ONNX ({first_line(error)})") from error
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:  # torch gives up on this without a word
        raise UserError(f"torch can write {name!r} as ONNX for a fixed number of images only, which is of little use")
    _forget_traces(model)
    _describe(model, trained)
    return bytes(model.SerializeToString())


def _trace(network: Inference) -> ModelProto:
    inputs, shapes = (
        {"images": torch.zeros(2, 3, *network.embedder.input.size, dtype=torch.uint8)},
        {"images": {0: torch.export.Dim("batch")}},
    )
    if network.embedder.cameras.count:
        inputs["cam"], shapes["cam"] = torch.zeros(2, dtype=torch.int64), {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=["vectors"],
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _forget_traces(model: ModelProto) -> None:
    """Drop what torch notes for its own debugging: lines of source with the folders of this machine, at every node."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]


def _describe(model: ModelProto, trained: Trained) -> None:
    """Write input settings, output and recipe into the metadata of the file."""
    embedder = trained.embedder
    height, width = embedder.input.size
    described: dict[str, object] = {
        "model": embedder.settings.model_dump(mode="json"),
        "input": embedder.input.model_dump(mode="json"),
        "feature": trained.feature,
        "flip": trained.flip,
        "dimension": embedder.dimension,
        "normalised": False,
    }
    cameras = ""
    if embedder.cameras.count:
        unknown = embedder.backbone.unknown_camera
        described |= {"cameras": embedder.cameras.to_plain(), "unknown_camera": unknown}
        cameras = (
            f"cam: int64 (batch,), the place of the camera of each image in the list of cameras ({embedder.cameras}), "
            f"from 0, {'no unknown ones' if unknown == 'refuse' else '-1 = unknown'}. "
        )
    model.doc_string = (
        f"images: uint8 RGB (batch, 3, {height}, {width}), resized ({embedder.input.interpolation}), not normalised. "
        f"{cameras}vectors: float32 (batch, {embedder.dimension}), not normalised, to be compared by "
        f"{trained.recipe.test.distance} distance."
    )
    for key, value in (("passerby", json.dumps(described)), ("recipe", public_text(trained.recipe))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _compare(network: Inference, model: OnnxModel, device: torch.device) -> Parity:
    """Run both on the same images, at every batch size that is checked."""
    images = _patchwork(max(_CHECKED), network.embedder.input.size)
    cam = _camera_rows(network.embedder, len(images))
    ours, theirs = [], []
    network.to(device)
    for count in _CHECKED:
        rows = None if cam is None else cam[:count]
        inputs = [torch.from_numpy(images[:count]), *([] if rows is None else [torch.from_numpy(rows)])]
        with torch.inference_mode():
            ours.append(network(*(tensor.to(device) for tensor in inputs)).float().cpu().numpy())
        theirs.append(model.run(images[:count], rows))
    return parity(np.concatenate(ours), np.concatenate(theirs))


def _camera_rows(embedder: Embedder, count: int) -> Ints | None:
    """Return rows (B,) of the camera table, each in turn and unknown where the model takes that; None without cameras.

    The single image of the first batch has the lowest one: unknown, or row 0.
    """
    if not embedder.cameras.count:
        return None
    first = 0 if embedder.backbone.unknown_camera == "refuse" else UNKNOWN
    return np.resize(np.arange(first, embedder.cameras.count), count)


def _patchwork(count: int, size: tuple[int, int]) -> Pixels:
    """Return images (B, 3, H, W) of 8 x 4 random colours each, because to a network all plain noise looks alike."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 4), dtype=np.uint8)
    rows, columns = (np.arange(side) * patches // side for side, patches in zip(size, (8, 4), strict=True))
    return np.ascontiguousarray(colours[:, :, rows][:, :, :, columns])
