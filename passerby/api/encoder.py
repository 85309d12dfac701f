"""Use a trained model: turn images into vectors, compare two images, search a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from passerby.device import InferenceSettings
from passerby.distances.units import cosine_of
from passerby.encoders import Model, embed_images, embed_site, require_whole
from passerby.encoders import load_model as load_any_model
from passerby.errors import UserError
from passerby.inference.arrays import ImageArrays
from passerby.recipe import Recipe
from passerby.retrieval import SearchHit, search_all
from passerby.types import Dataset, Embeddings, Floats

Image = str | Path | npt.NDArray[np.uint8] | Tensor
"""A file, or uint8 RGB pixels (H, W, 3) or (3, H, W)."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A model that turns images into vectors; `load_model` makes one.

    Attributes:
        model: the loaded network.

    """

    model: Model

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the model was trained by; None for an ONNX file of another program."""
        return self.model.recipe

    @property
    def device(self) -> str:
        """The device that distances are computed on, for example `cpu`."""
        return self.model.device

    def __call__(self, images: ImageArrays | Sequence[Image]) -> Floats:
        """Return the vectors of images, as the recipe tests them.

        Args:
            images: files, or uint8 RGB of any size, of numpy or torch: (N, H, W, 3), (N, 3, H, W), or a list of single
                images.

        Returns:
            (N, D) float32, not normalised.

        Raises:
            UserError: an image that cannot be read, or a model that needs foreground masks.

        """
        if isinstance(images, np.ndarray | Tensor):
            return self.model.embed(images)
        paths = [str(image) for image in images if isinstance(image, str | Path)]
        if not paths:
            return self.model.embed([image for image in images if not isinstance(image, str | Path)])
        if len(paths) != len(images):
            raise UserError(f"{len(paths)} of {len(images)} images are files and the others arrays; give one kind")
        require_whole(self.model)
        return self.model.vectors(np.array(paths))


def load_model(
    path: str | Path, *, device: str = "auto", batch: int = 64, input_settings: Sequence[str] = ()
) -> Encoder:
    """Load a model: a run folder, an `embedder.safetensors`, or an ONNX file of any program.

    Args:
        path: the folder or file.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or `cuda:1`.
        batch: images per forward pass.
        input_settings: `key=value` for the input of another program's ONNX file, as `--input` takes them.

    Raises:
        UserError: no finished model, a file that is not a model, or no such device.

    """
    return Encoder(load_any_model(path, input_settings, inference=InferenceSettings(device=device, batch=batch)))


def embed(
    encoder: Encoder,
    source: Dataset | str | Path | Sequence[str | Path],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Return a table of vectors: of the query and gallery of a data set, or of image files and folders.

    Args:
        encoder: as loaded by `load_model`.
        source: a data set, or files and folders, which are searched at any depth.
        progress: called with (images done, N).

    Raises:
        UserError: no image, or one that cannot be read.

    """
    if isinstance(source, Dataset):
        return embed_site(encoder.model, source, progress=progress)
    places = [source] if isinstance(source, str | Path) else source
    return embed_images(encoder.model, [Path(place) for place in places], progress=progress)


def distance(encoder: Encoder, first: Image, second: Image) -> float:
    """Return the cosine distance in [0, 2] between two images, each a file or uint8 RGB pixels.

    Raises:
        UserError: an image that cannot be read, or a model that needs foreground masks.

    """
    one, other = (encoder([image])[0] for image in (first, second))
    return max(0.0, 1 - cosine_of(one, other))


def search(
    encoder: Encoder,
    table: Embeddings,
    images: Sequence[str | Path],
    *,
    count: int = 10,
    threshold: float | None = None,
) -> list[list[SearchHit]]:
    """Return the rows of a table that are most similar to each image file, nearest first, ties by row.

    Args:
        encoder: the model that made the table.
        table: G rows.
        images: Q files.
        count: largest number of rows per image.
        threshold: largest cosine distance that is accepted; None = no limit.

    Returns:
        Q lists, each of at most `count` rows with file, identity, camera and cosine distance in [0, 2].

    Raises:
        UserError: an image that cannot be read, or a table of another model.

    """
    files = np.array([str(image) for image in images])
    return search_all(encoder.model, table, files, count=count, threshold=threshold)
