"""Use a trained model: turn images into vectors, compare two images, search a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from passerby.device import AnyEngine, AnyPrecision, InferenceSettings
from passerby.distances.units import cosine_of, unit_rows
from passerby.encoders import GivenCamera, Model, Trained, embed_dataset, embed_images, require_maskless
from passerby.encoders import load_model as load_any_model
from passerby.engines import EngineModel, choose_engine
from passerby.errors import UserError
from passerby.inference.arrays import ImageArrays
from passerby.inference.boxes import Boxes, crop_boxes
from passerby.recipe import Recipe
from passerby.retrieval import SearchHit, model_cameras, require_threshold, search_all
from passerby.thresholds import decision_threshold
from passerby.types import UNKNOWN, Bools, CameraTable, Dataset, Embeddings, Floats, SplitName

DEFAULT_ACCEPT = 1e-3
"""False accept rate of `Encoder.same`."""

Image = str | Path | npt.NDArray[np.uint8] | Tensor
"""A file, or uint8 RGB pixels (H, W, 3) or (3, H, W)."""


class Encoder:
    """A model that turns images, or the boxes of a frame, into vectors.

    Args:
        model: a run folder, an `embedder.safetensors`, an ONNX file of any program, an OpenVINO .xml, or a model that
            is loaded already.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or `cuda:1`.
        batch: images per forward pass.
        input_settings: `key=value` for the input of another program's ONNX file, as `--input` takes them.
        engine: program that runs the network on the CPU: `torch`, `onnxruntime` or `openvino`; `auto` = torch, and
            after many images the one that a short probe finds fastest among those that give equal vectors.
        precision: `float32` or `bf16`, on a GPU also `fp16`; `auto` = as the recipe trains it on a GPU, and on the CPU
            float32 or what the probe finds.

    Raises:
        UserError: no finished model, a file that is not a model, no such device, or an engine that cannot run it.

    Attributes:
        model: the loaded network.
        path: the folder or file that it was loaded from; None for a model that was loaded already.

    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        device: str = "auto",
        batch: int = 64,
        input_settings: Sequence[str] = (),
        engine: AnyEngine = "auto",
        precision: AnyPrecision = "auto",
    ) -> None:
        self.path: Path | None = None
        if isinstance(model, str | Path):
            self.path = Path(model)
            settings = InferenceSettings(device=device, batch=batch, engine=engine, precision=precision)
            model = load_any_model(model, input_settings, inference=settings)
        elif isinstance(model, Trained) and (engine, precision) != ("auto", "auto"):
            model = replace(model, inference=replace(model.inference, engine=engine, precision=precision))
        self.model = model
        self._running = choose_engine(model)
        self._is_exact = engine == "auto" and precision == "auto"

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the model was trained by; None for an ONNX file of another program."""
        return self.model.recipe

    @property
    def cameras(self) -> CameraTable:
        """The cameras that the model learnt, by training data set; empty where it uses none."""
        return self.model.cameras

    @property
    def running(self) -> Model:
        """The network as its engine runs it, which embeds images and boxes."""
        return self._running

    @property
    def scored(self) -> Model:
        """The network that embeds data sets: run by torch unless an engine was given, so that scores stay the same."""
        return self.model if self._is_exact else self._running

    @property
    def engine(self) -> str:
        """Program and precision in use, for example `torch float32`; empty for an ONNX file or on a GPU."""
        return str(self._running.engine) if isinstance(self._running, EngineModel) else ""

    @property
    def device(self) -> str:
        """The device that distances are computed on, for example `cpu`."""
        return self.model.device

    def __call__(
        self,
        images: ImageArrays | Sequence[Image],
        boxes: Boxes | None = None,
        *,
        cam: int | Sequence[int] | None = None,
        cameras_of: str | None = None,
    ) -> Floats:
        """Return the vectors of images, or of boxes in one frame, as the recipe tests them.

        Args:
            images: files, or uint8 RGB of any size, of numpy or torch: (N, H, W, 3), (N, 3, H, W), or a list of single
                images. With `boxes`: one frame (H, W, 3), uint8 in the order blue, green, red, as OpenCV reads it.
            boxes: (N, 4) corners x1, y1, x2, y2 in pixels of the frame, or an object that has them as `xyxy`, such as
                `supervision.Detections`. They are clipped to the frame.
            cam: camera of all images, or N cameras, as the training data set numbers them, -1 = unknown; None = all
                unknown. Of no effect for a model that uses no cameras.
            cameras_of: the training data set that has the cameras; None = the only one.

        Returns:
            (N, D) float32. Vectors of images are not normalised. Those of boxes have unit length, as trackers compare
            them; the row of a box without area in the frame is NaN (see `embed_boxes`).

        Raises:
            UserError: an image that cannot be read, boxes of another shape, a model that needs foreground masks, or an
                unknown camera that the model refuses.

        """
        if boxes is not None:
            if not isinstance(images, np.ndarray):
                raise UserError(f"boxes lie in one frame, an array (H, W, 3), got {type(images).__name__}")
            return self.embed_boxes(images, boxes, cam=cam, cameras_of=cameras_of)[0]
        camera = GivenCamera(cam, cameras_of)
        rows = camera.rows(self.model, camera.fill(np.full(len(images), UNKNOWN)))
        if isinstance(images, np.ndarray | Tensor):
            return self._running.embed(images, cam=rows)
        paths = [str(image) for image in images if isinstance(image, str | Path)]
        if not paths:
            return self._running.embed([image for image in images if not isinstance(image, str | Path)], cam=rows)
        if len(paths) != len(images):
            raise UserError(f"{len(paths)} of {len(images)} images are files and the others arrays; give one kind")
        require_maskless(self.model)
        return self._running.vectors(np.array(paths), cam=rows)

    def embed_boxes(
        self,
        frame: npt.NDArray[np.uint8],
        boxes: Boxes,
        *,
        cam: int | Sequence[int] | None = None,
        cameras_of: str | None = None,
    ) -> tuple[Floats, Bools]:
        """Return the unit vectors of the boxes of a frame, and which boxes have any area in it.

        Args:
            frame: (H, W, 3) uint8 in the order blue, green, red.
            boxes: N boxes; see `__call__`.
            cam: the camera of the frame; see `__call__`.
            cameras_of: the training data set that has the camera.

        Returns:
            (N, D) float32 of unit length, NaN where there is nothing to see, and (N,) which boxes are valid.

        """
        crops, valid = crop_boxes(frame, boxes)
        found = unit_rows(self(crops, cam=cam, cameras_of=cameras_of))
        vectors = np.full((len(valid), found.shape[1]), np.nan, np.float32)
        vectors[valid] = found
        return vectors, valid

    def same(self, first: Image, second: Image, *, accept: float | None = None, threshold: float | None = None) -> bool:
        """Whether two images show one person, by a threshold on their cosine distance.

        Args:
            first: a file or uint8 RGB pixels.
            second: another.
            accept: the false accept rate, 0.001 unless a threshold is given; `passerby calibrate` has found the
                threshold that belongs to it.
            threshold: a cosine distance instead.

        Raises:
            UserError: the model is not calibrated for that rate, or both are given.

        """
        if accept is not None and threshold is not None:
            raise UserError("give a false accept rate or a threshold, not both")
        if threshold is None:
            if self.path is None:
                raise UserError("a model that was loaded already carries no calibration; give its path, or a threshold")
            threshold = decision_threshold(self.path, None, DEFAULT_ACCEPT if accept is None else accept)
        require_threshold(threshold)
        return threshold is not None and distance(self, first, second) <= threshold


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    batch: int = 64,
    input_settings: Sequence[str] = (),
    engine: AnyEngine = "auto",
    precision: AnyPrecision = "auto",
) -> Encoder:
    """Load a model: a run folder, an `embedder.safetensors`, or an ONNX file of any program.

    Args:
        path: the folder or file.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or `cuda:1`.
        batch: images per forward pass.
        input_settings: `key=value` for the input of another program's ONNX file, as `--input` takes them.
        engine: program that runs the network on the CPU; see `Encoder`.
        precision: of the network; see `Encoder`.

    Raises:
        UserError: no finished model, a file that is not a model, no such device, or an engine that cannot run it.

    """
    return Encoder(path, device=device, batch=batch, input_settings=input_settings, engine=engine, precision=precision)


def embed(
    encoder: Encoder,
    source: Dataset | str | Path | Sequence[str | Path],
    *,
    splits: Sequence[SplitName] | None = None,
    cam: int | None = None,
    cameras_of: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Embeddings:
    """Return a table of vectors: of splits of a data set, or of image files and folders.

    Args:
        encoder: as loaded by `load_model`.
        source: a data set, or files and folders, which are searched at any depth.
        splits: of a data set: any of `train`, `query` and `gallery`; None = query and gallery.
        cam: camera of all loose images, for a model that uses cameras; None = those in the file names, where
            `cameras_of` is given, or else unknown. A data set has cameras of its own.
        cameras_of: the training data set that has the cameras; None = the one that `source` is called
            after, or the only one.
        progress: called with (images done, N).
        say: called with notes on the data and on unknown cameras; None drops them.

    Raises:
        UserError: no image, one that cannot be read, an unknown camera that the model refuses, or an argument that has
            no effect.

    """
    if isinstance(source, Dataset):
        if cam is not None:
            raise UserError("cam is that of loose images; a data set has cameras of its own (see cameras_of)")
        if say is not None:
            for note in source.notes:
                say(f"{source.name}: {note}")
        splits = ("query", "gallery") if splits is None else splits
        return embed_dataset(encoder.scored, source, splits=splits, cameras_of=cameras_of, progress=progress, say=say)
    if splits is not None:
        raise UserError("splits are those of a data set; files and folders have none")
    places = [Path(place) for place in ([source] if isinstance(source, str | Path) else source)]
    return embed_images(encoder.running, places, camera=GivenCamera(cam, cameras_of), progress=progress, say=say)


def distance(
    encoder: Encoder,
    first: Image,
    second: Image,
    *,
    cam: tuple[int, int] | None = None,
    cameras_of: str | None = None,
) -> float:
    """Return the cosine distance in [0, 2] between two images.

    Args:
        encoder: as loaded by `load_model`.
        first: a file or uint8 RGB pixels.
        second: another.
        cam: their cameras, for a model that uses cameras; see `Encoder`.
        cameras_of: the training data set that has the cameras; None = the only one.

    Raises:
        UserError: an image that cannot be read, or a model that needs foreground masks.

    """
    cameras = (None, None) if cam is None else cam
    left, right = (
        encoder([image], cam=number, cameras_of=cameras_of)[0]
        for image, number in zip((first, second), cameras, strict=True)
    )
    return max(0.0, 1 - cosine_of(left, right))


def search(
    encoder: Encoder,
    table: Embeddings,
    images: Sequence[str | Path],
    *,
    count: int = 10,
    threshold: float | None = None,
    cam: int | None = None,
    cameras_of: str | None = None,
) -> list[list[SearchHit]]:
    """Return the rows of a table that are most similar to each image file, nearest first, ties by row.

    Args:
        encoder: the model that made the table.
        table: G rows.
        images: Q files.
        count: largest number of rows per image.
        threshold: largest cosine distance that is accepted; None = no limit.
        cam: camera of all images, for a model that uses cameras; None = that of the row of the table that holds the
            image, or in its file name, where the table or `cameras_of` names a training data set.
        cameras_of: the training data set that has the cameras; None = that of the table, or the only one.

    Returns:
        Q lists, each of at most `count` rows with file, identity, camera and cosine distance in [0, 2].

    Raises:
        UserError: an image that cannot be read, or a table of another model.

    """
    files = np.array([str(image) for image in images])
    rows = model_cameras(encoder.model, table, files, camera=None if cam is None else str(cam), dataset=cameras_of)
    return search_all(encoder.model, table, files, count=count, threshold=threshold, cam=rows)
