"""An embedder as a graph: its input, how images are prepared for it, and its vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from passerby.data.decoding import Pixels
from passerby.data.loading import plain_batches
from passerby.device import THREADS
from passerby.errors import UserError, first_line
from passerby.inference.openvino import OpenvinoSession
from passerby.inputs import InputSettings
from passerby.types import (
    NO_CAMERAS,
    UNKNOWN,
    CameraTable,
    Floats,
    Ints,
    UnknownCamera,
    Words,
    require_known_cameras,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Numbers = npt.NDArray[np.generic]

INPUT_TYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
CAMERA_INPUT = "cam"


class OnnxSettings(InputSettings):
    """Input settings of an ONNX file of another program, which its graph does not contain."""

    values: Literal["normalised", "bytes"] = Field(
        "normalised", description="scale of the input: normalised by mean and std, or bytes from 0 to 255"
    )
    output: str | None = Field(None, description="name of the output; null = the first with one vector per image")


@dataclass(frozen=True)
class Entry:
    """The one input of a graph.

    Attributes:
        name: of the input.
        dtype: of its values.
        layout: whether the colours stand before or after height and width.
        size: (H, W), None where the graph takes any.
        batch: how many images at a time, None = any number.

    """

    name: str
    dtype: type[np.generic]
    layout: Literal["nchw", "nhwc"]
    size: tuple[int | None, int | None]
    batch: int | None


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An embedder in an ONNX file.

    Attributes:
        source: how error texts call it.
        session: of onnxruntime or OpenVINO.
        entry: what the graph takes; its `batch` is what really works.
        settings: how images are prepared for it.
        output: the name of the output that is kept.
        dimension: length D of its vectors.
        feature: which feature of its model that is, `""` when unknown.
        flip: whether the graph averages it with the mirror image's.
        recipe: YAML of the run that it came from, or None.
        cameras: those that the model learnt; empty where it uses none, and the graph then has no input for them.
        unknown_camera: treatment of an image of an unknown camera.
        notes: sentences about what was assumed.

    """

    source: str
    session: InferenceSession | OpenvinoSession
    entry: Entry
    settings: OnnxSettings
    output: str
    dimension: int
    feature: str = ""
    flip: bool = False
    recipe: str | None = None
    cameras: CameraTable = NO_CAMERAS
    unknown_camera: UnknownCamera = "refuse"
    notes: tuple[str, ...] = ()

    def run(self, images: Pixels, cam: Ints | None = None) -> Floats:
        """Map prepared images (B, 3, H, W) uint8 to vectors (B, D) float32, for any B.

        Args:
            images: in the form that `settings` describe.
            cam: (B,) rows of the camera table, -1 = unknown; None = all unknown.

        Raises:
            UserError: a graph that fails, or an unknown camera where the model refuses those.

        """
        cam = np.full(len(images), UNKNOWN) if cam is None else cam
        require_known_cameras(cam, self.cameras, unknown=self.unknown_camera, source=self.source)
        if self.entry.batch is None and len(images):
            return np.asarray(self._step(images, cam), np.float32)
        size = self.entry.batch or 1
        vectors = np.empty((len(images), self.dimension), dtype=np.float32)  # (B, D)
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            vectors[start : start + len(part)] = self._step(padded, cam[start : start + size])[: len(part)]
        return vectors

    def _step(self, images: Pixels, cam: Ints) -> Numbers:
        fed = {self.entry.name: feed(images, self.entry, self.settings)}
        if self.cameras.count:
            fed[CAMERA_INPUT] = np.ascontiguousarray(cam, np.int64)
        try:
            found: Numbers = self.session.run([self.output], fed)[0]
            return found.reshape(len(images), self.dimension)
        except Exception as error:  # onnxruntime has a class for each status, and numpy one for a wrong shape
            if "Failed to allocate memory" in str(error):
                raise UserError(
                    f"{self.source}: out of memory with {len(images)} images at once; lower --batch"
                ) from error
            raise UserError(f"{self.source} fails on {len(images)} images at once ({first_line(error)})") from error

    def vectors(
        self,
        paths: Words,
        cam: Ints | None = None,
        *,
        batch: int = 64,
        workers: int = THREADS,
        progress: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Embed image files (N,), of rows (N,) of the camera table, in order: (N, D) float32, as the graph has them."""
        cam = np.full(len(paths), UNKNOWN) if cam is None else cam
        require_known_cameras(cam, self.cameras, unknown=self.unknown_camera, source=self.source)
        vectors, done = np.empty((len(paths), self.dimension), dtype=np.float32), 0  # (N, D)
        for images in plain_batches(paths, self.settings, size=batch, workers=workers):
            vectors[done : done + len(images)] = self.run(images.numpy(), cam[done : done + len(images)])
            done += len(images)
            if progress is not None:
                progress(done, len(paths))
        return vectors


def feed(images: Pixels, entry: Entry, settings: OnnxSettings) -> Numbers:
    """Convert prepared bytes (B, 3, H, W) to layout, scale and type of the graph's input."""
    values: Numbers = images
    if settings.values == "normalised":
        mean, std = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (settings.mean, settings.std))
        values = (images / np.float32(255) - mean) / std
    if entry.layout == "nhwc":
        values = values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(values, dtype=entry.dtype)


def output_names(session: InferenceSession | OpenvinoSession) -> list[str]:
    """Return the names of the outputs of a graph."""
    return [node.name for node in session.get_outputs()]
