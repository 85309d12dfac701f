"""From files to batches of bytes: decode, resize, keep in memory when the set is small, and plan each epoch.

The cache holds decoded, resized images; augmentation happens on every draw. Which image is drawn when, and how it is
augmented, depends on (seed, stage, epoch, place) only, never on the number of workers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from passerby.data.transforms import AugmentSettings, augment, mix_seeds, training_transform
from passerby.errors import UserError, first_line
from passerby.inputs import InputSettings
from passerby.settings import Settings
from passerby.types import Batch, Ints, Words

Pixels = npt.NDArray[np.uint8]

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_AUTO_CACHE_BYTES = 2 * 1024**3


class DataSettings(Settings):
    """How images are drawn, held and changed."""

    identities: Annotated[int, Field(ge=2)] = Field(16, description="P, people in a batch")
    instances: Annotated[int, Field(ge=1)] = Field(4, description="K, images of each")
    sampling: Literal["identities", "datasets"] = Field(
        "identities", description="of several data sets: all identities alike, or as many people of each set per batch"
    )
    cache: Literal["auto", "memory", "none"] = Field("auto", description="auto: memory while a set needs < 2 GiB")
    workers: Annotated[int, Field(ge=0)] = Field(4, description="loader processes when images are not cached")
    augment: AugmentSettings = AugmentSettings()


def decode(path: str | Path) -> Pixels:
    """Read an image file into (H, W, 3) uint8 RGB.

    Raises:
        UserError: missing, empty, truncated, or no image.

    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {(error.strerror or str(error)).lower()}") from error
    if not content:
        raise UserError(f"the image {path} is empty (0 bytes)")
    if content[:2] == b"\xff\xd8":
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(content, strict=True)
            return pixels
        except ValueError:
            pass  # grey, CMYK and damaged files: PIL knows more kinds, and says what is wrong
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a readable image (no known format)") from error
    except Exception as error:  # PIL raises many kinds, SyntaxError among them
        raise UserError(f"{path} is not a readable image ({first_line(error)})") from error


def prepare(pixels: Pixels, inputs: InputSettings) -> Tensor:
    """Resize (H, W, 3) RGB bytes to the model's size and colour order: (3, h, w) uint8.

    PIL's filters widen when they shrink, so fine cloth patterns do not alias.
    """
    height, width = inputs.size
    if pixels.shape[:2] != (height, width):
        resized = Image.fromarray(pixels).resize((width, height), _RESAMPLE[inputs.interpolation])
        pixels = np.asarray(resized)
    if inputs.colour == "bgr":
        pixels = pixels[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class ImageStore:
    """Images of one list of files by row, decoded once when they are cached.

    Args:
        paths: (N,) file names.
        inputs: what an image must look like.
        cache: `memory` decodes everything at construction, `none` on each access, `auto` chooses by size.

    """

    def __init__(
        self, paths: Words, inputs: InputSettings, *, cache: Literal["auto", "memory", "none"] = "auto"
    ) -> None:
        self.paths = paths
        self.inputs = inputs
        size = len(paths) * 3 * inputs.size[0] * inputs.size[1]
        self.cached: Tensor | None = None
        if cache == "memory" or (cache == "auto" and size < _AUTO_CACHE_BYTES):
            self.cached = torch.empty((len(paths), 3, *inputs.size), dtype=torch.uint8)  # (N, 3, H, W)
            for row, path in enumerate(paths):
                self.cached[row] = prepare(decode(path), inputs)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        if self.cached is not None:
            return self.cached[row]
        return prepare(decode(self.paths[row]), self.inputs)


@dataclass(frozen=True)
class Place:
    """Where in a run a batch stands; its randomness is a function of this."""

    seed: int
    stage: int
    epoch: int


class _TrainingBatches(Dataset[tuple[Tensor, Ints]]):
    """Batches of one epoch by number: images (B, 3, H, W) and the rows (B,) they came from."""

    def __init__(self, store: ImageStore, plan: Ints, columns: slice, transform: v2.Compose, place: Place) -> None:
        self.store, self.plan, self.columns, self.transform, self.place = store, plan, columns, transform, place

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> tuple[Tensor, Ints]:
        rows = self.plan[number][self.columns]
        at = (self.place.seed, self.place.stage, self.place.epoch, number)
        positions = range(self.columns.start, self.columns.stop)
        images = [
            augment(self.transform, self.store[int(row)], seed=mix_seeds(*at, position))
            for position, row in zip(positions, rows, strict=True)
        ]
        return torch.stack(images), rows


def training_batches(
    store: ImageStore,
    plan: Ints,
    *,
    labels: Ints,
    cam: Ints,
    settings: DataSettings,
    place: Place,
    columns: slice | None = None,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    Args:
        store: the images.
        plan: (count, B) rows per batch.
        labels: (N,) or (N, V) labels of all rows.
        cam: (N,) cameras of all rows.
        settings: augmentation and workers.
        place: where in the run this epoch stands.
        columns: which part of each batch this process loads; None = all of it.
        first: number of batches to leave out at the start, when an epoch is resumed in its middle.

    """
    columns = columns or slice(0, plan.shape[1])
    batches = _TrainingBatches(store, plan, columns, training_transform(settings.augment, store.inputs), place)
    workers = 0 if store.cached is not None else settings.workers
    loader: DataLoader[tuple[Tensor, Ints]] = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(plan)),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=None,
    )
    with _one_sentence():
        for images, rows in loader:
            index = torch.as_tensor(rows)
            yield Batch(
                images=images, labels=torch.from_numpy(labels)[index], cam=torch.from_numpy(cam)[index], index=index
            )


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Take off the traceback that torch writes around a user's mistake in a loader process."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).strip().rpartition(f"{UserError.__name__}: ")[2]) from error


def plain_batches(
    paths: Sequence[str] | Words, inputs: InputSettings, *, size: int, workers: int = 0
) -> Iterator[Tensor]:
    """Yield (B, 3, H, W) uint8 batches of files in order, without augmentation; B = `size` but for the last."""
    store = ImageStore(np.asarray(paths, dtype=np.str_), inputs, cache="none")
    if workers == 0:
        for start in range(0, len(store), size):
            yield torch.stack([store[row] for row in range(start, min(start + size, len(store)))])
        return
    with _one_sentence():
        yield from DataLoader(_Rows(store), batch_size=size, num_workers=workers)


class _Rows(Dataset[Tensor]):
    """An `ImageStore` as torch's loader wants it."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> Tensor:
        return self.store[row]
