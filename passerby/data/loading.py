"""From files to batches of bytes: decode, resize, keep in memory when the set is small, and plan each epoch.

The cache holds decoded, resized images; augmentation happens on every draw. Which image is drawn when, and how it is
augmented, depends on (seed, stage, epoch, place) only, never on the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from passerby.data.ahead import ahead, available_cpus, has_shared_memory, reading_threads
from passerby.data.decoding import Pixels, decode
from passerby.data.foreground import (
    ForegroundSettings,
    decode_mask,
    draw_partner,
    fill_masked,
    fit_mask,
    mean_colour,
    swap_background,
)
from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.table import AnySampler
from passerby.data.transforms import AugmentSettings, augment, augment_with_mask, mix_seeds, training_transform
from passerby.errors import UserError, first_line
from passerby.inputs import InputSettings
from passerby.settings import Settings
from passerby.types import Batch, Inputs, Ints, Words

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_AUTO_CACHE_BYTES = 2 * 1024**3
_NO_FOREGROUND = ForegroundSettings()


class DataSettings(Settings):
    """Sampling, caching and augmentation of images."""

    sampler: AnySampler = Field(
        PkSettings(),
        description="sampler, which draws the batches; a kind alone, such as pk_cameras, keeps the other settings",
    )
    cache: Literal["auto", "memory", "none"] = Field(
        "auto", description="place of decoded images; auto: memory while a set needs < 2 GiB"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        4, description="number of reading processes without a cache, at most one per processor"
    )
    augment: AugmentSettings = AugmentSettings()

    @field_validator("sampler", mode="before", json_schema_input_type=AnySampler | str)
    @classmethod
    def _spelled_out(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value


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
        masks: (N,) files of the foreground masks, when `with_mask` is to be asked.

    """

    def __init__(
        self,
        paths: Words,
        inputs: InputSettings,
        *,
        cache: Literal["auto", "memory", "none"] = "auto",
        masks: Words | None = None,
    ) -> None:
        self.paths = paths
        self.inputs = inputs
        self.masks = masks
        self.cached: Tensor | None = None
        self.cached_masks: Tensor | None = None
        if cache == "memory" or (cache == "auto" and self.count_bytes(len(paths)) < _AUTO_CACHE_BYTES):
            self._fill()

    def count_bytes(self, images: int) -> int:
        """Return how much memory so many images take, with their masks."""
        return images * (3 if self.masks is None else 4) * self.inputs.size[0] * self.inputs.size[1]

    def _fill(self) -> None:
        images = torch.empty((len(self), 3, *self.inputs.size), dtype=torch.uint8)  # (N, 3, H, W)
        masks = None if self.masks is None else images.new_empty((len(self), 1, *self.inputs.size))  # (N, 1, H, W)
        for row, (image, mask) in enumerate(self._read_all()):
            images[row] = image
            if masks is not None and mask is not None:
                masks[row] = mask
        self.cached, self.cached_masks = images, masks

    def _read_all(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        threads = reading_threads()
        return ahead(self.image_and_mask, range(len(self)), workers=threads, depth=4 * max(1, threads))

    def require_readable(self) -> None:
        """Read every file once, so that an unreadable one is refused before a training and not in its midst.

        Raises:
            UserError: a file cannot be read, or a mask does not fit.

        """
        if self.cached is None:
            deque(self._read_all(), maxlen=0)

    def image_and_mask(self, row: int) -> tuple[Tensor, Tensor | None]:
        """Return an image (3, H, W) and, where the store has masks, its mask (1, H, W)."""
        return (self[row], None) if self.masks is None else self.with_mask(row)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        if self.cached is not None:
            return self.cached[row]
        return prepare(decode(self.paths[row], least=self.inputs.size), self.inputs)

    def with_mask(self, row: int) -> tuple[Tensor, Tensor]:
        """Return an image (3, H, W) and its mask (1, H, W) in {0, 1}, both uint8.

        Raises:
            UserError: a file cannot be read, or the two differ in size.

        """
        assert self.masks is not None, "this store was made without masks"
        if self.cached is not None and self.cached_masks is not None:
            return self.cached[row], self.cached_masks[row]
        pixels, mask = decode(self.paths[row]), decode_mask(self.masks[row])
        if mask.shape != pixels.shape[:2]:
            size, wanted = (f"{width} x {height}" for height, width in (mask.shape, pixels.shape[:2]))
            raise UserError(
                f"the mask {self.masks[row]} has {size} pixels, its image {self.paths[row]} has {wanted}; "
                "a mask must have the size of its image"
            )
        return prepare(pixels, self.inputs), fit_mask(mask, self.inputs)


@dataclass(frozen=True)
class EpochKey:
    """Seed, stage and epoch of a batch; its random numbers are a function of them."""

    seed: int
    stage: int
    epoch: int


T = TypeVar("T")
_Loaded = tuple[Tensor, Ints, Tensor | None]
_Fetched = tuple[Ints, list[tuple[int, ...]], list[tuple[Tensor, Tensor | None]]]


class _TrainingBatches(Dataset[_Loaded]):
    """Batches of one epoch by number: images (B, 3, H, W), the rows (B,) they came from, and masks (B, 1, H, W)."""

    def __init__(
        self,
        store: ImageStore,
        plan: Ints,
        columns: slice,
        transform: v2.Compose,
        place: EpochKey,
        *,
        foreground: ForegroundSettings,
    ) -> None:
        self.store, self.plan, self.columns, self.transform, self.place = store, plan, columns, transform, place
        self.foreground = foreground

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> _Loaded:
        return self.finish(self.fetch(number))

    def fetch(self, number: int) -> _Fetched:
        """Read the images of a batch and change their backgrounds; any number of threads may do so at once."""
        rows = self.plan[number][self.columns]
        at = (self.place.seed, self.place.stage, self.place.epoch, number)
        seeds: list[tuple[int, ...]] = [(*at, position) for position in range(self.columns.start, self.columns.stop)]
        if self.foreground.use == "none":
            pairs: list[tuple[Tensor, Tensor | None]] = [(self.store[int(row)], None) for row in rows]
        else:
            pairs = [self._with_mask(int(row), own) for row, own in zip(rows, seeds, strict=True)]
        return rows, seeds, pairs

    def finish(self, fetched: _Fetched) -> _Loaded:
        """Augment the images of `fetch` with torch's generator: one thread at a time."""
        rows, seeds, pairs = fetched
        images: list[Tensor] = []
        masks: list[Tensor] = []
        for (image, mask), own in zip(pairs, seeds, strict=True):
            if mask is None:
                images.append(augment(self.transform, image, seed=mix_seeds(*own)))
            else:
                image, mask = augment_with_mask(self.transform, image, mask, seed=mix_seeds(*own))
                images.append(image)
                masks.append(mask)
        return torch.stack(images), rows, torch.stack(masks) if masks else None

    def read_ahead(self, numbers: range, *, workers: int) -> Iterator[_Loaded]:
        """Yield the batches of some numbers; threads read, and this one augments."""
        for fetched in ahead(self.fetch, numbers, workers=workers, depth=2 * max(1, workers)):
            images, rows, masks = self.finish(fetched)
            if torch.cuda.is_available():
                images, masks = images.pin_memory(), None if masks is None else masks.pin_memory()
            yield images, rows, masks

    def _with_mask(self, row: int, seeds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        image, mask = self.store.with_mask(row)
        partner = draw_partner(row, len(self.store), chance=self.foreground.chance, seeds=seeds)
        if partner is not None and mask.any():
            if self.foreground.use == "mask":
                image = fill_masked(image, mask == 0, mean_colour(self.store.inputs))
            else:
                image = swap_background(image, mask, *self.store.with_mask(partner))
        return image, mask


def training_batches(
    store: ImageStore,
    plan: Ints,
    *,
    labels: Ints,
    cam: Ints,
    settings: DataSettings,
    place: EpochKey,
    columns: slice | None = None,
    first: int = 0,
    foreground: ForegroundSettings = _NO_FOREGROUND,
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    Args:
        store: the images.
        plan: (count, B) rows per batch.
        labels: (N,) or (N, V) labels of all rows.
        cam: (N,) rows of the camera table of the model, of all rows.
        settings: augmentation and workers.
        place: where in the run this epoch stands.
        columns: which part of each batch this process loads; None = all of it.
        first: number of batches to leave out at the start, when an epoch is resumed in its middle.
        foreground: what is done with the masks of the store.

    """
    columns = columns or slice(0, plan.shape[1])
    transform = training_transform(settings.augment, store.inputs)
    batches = _TrainingBatches(store, plan, columns, transform, place, foreground=foreground)
    workers = 0 if store.cached is not None else min(settings.workers, available_cpus())
    with _one_sentence():
        for images, rows, masks in _load(batches, range(first, len(plan)), workers=workers):
            index = torch.as_tensor(rows)
            yield Batch(
                inputs=Inputs(images, torch.from_numpy(cam)[index], masks),
                labels=torch.from_numpy(labels)[index],
                index=index,
            )


def batches_without_images(plan: Ints, *, labels: Ints, cam: Ints, columns: slice, first: int = 0) -> Iterator[Batch]:
    """Yield the batches of one epoch without their images, (B, 3, 0, 0); see `training_batches`."""
    for rows in plan[first:, columns]:
        index = torch.from_numpy(rows.copy())
        inputs = Inputs(torch.empty(len(rows), 3, 0, 0, dtype=torch.uint8), torch.from_numpy(cam)[index])
        yield Batch(inputs, torch.from_numpy(labels)[index], index)


def _load(batches: _TrainingBatches, numbers: range, *, workers: int) -> Iterable[_Loaded]:
    """Return batches by number: from processes, or from threads where processes have no memory to share."""
    count = len(batches.plan[0]) if len(batches) else 0
    ahead_of_use = 2 * workers + 2  # torch keeps two batches ready for each process
    if workers and not has_shared_memory(ahead_of_use * batches.store.count_bytes(count)):
        return batches.read_ahead(numbers, workers=workers)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=None,
    )


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Take off the traceback that torch writes around a user's mistake in a loader process."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a loader process has ended ({first_line(error)}); with data.workers=0 images are read in this process"
        ) from error
    except UserError as error:
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from error


def plain_batches(
    paths: Sequence[str] | Words, inputs: InputSettings, *, size: int, workers: int = 0
) -> Iterator[Tensor]:
    """Yield (B, 3, H, W) uint8 batches of files in order, without augmentation; B = `size` but for the last.

    `workers` threads read ahead, for about two batches.
    """
    store = ImageStore(np.asarray(paths, dtype=np.str_), inputs, cache="none")

    def read(rows: range) -> Tensor:
        return _stacked([store[row] for row in rows])

    for pieces in _in_pieces(read, len(store), size=size, workers=workers):
        yield torch.cat(pieces)


def masked_batches(
    paths: Words, masks: Words, inputs: InputSettings, *, size: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, 3, H, W) and masks (B, 1, H, W) in {0, 1} of files in order, without augmentation."""
    store = ImageStore(paths, inputs, cache="none", masks=masks)

    def read(rows: range) -> tuple[Tensor, Tensor]:
        pairs = [store.with_mask(row) for row in rows]
        return _stacked([image for image, _ in pairs]), _stacked([mask for _, mask in pairs])

    for pieces in _in_pieces(read, len(store), size=size, workers=workers):
        yield torch.cat([images for images, _ in pieces]), torch.cat([masks for _, masks in pieces])


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """Return images as one tensor, by numpy: torch would begin a pool of threads for each thread that reads."""
    return torch.from_numpy(np.stack([image.numpy() for image in images]))


def _in_pieces(read: Callable[[range], T], count: int, *, size: int, workers: int) -> Iterator[list[T]]:
    """Yield the results of `read` for the pieces of batches of `size` rows from 0 to `count`, in order.

    Each batch is read in as many pieces as there are threads. Images that are handed over one by one would keep the
    thread of the network from running it, since all threads take turns for Python's lock.
    """
    step = -(-size // max(1, workers))
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    pieces = (batch[start : start + step] for batch in batches for start in range(0, len(batch), step))
    in_order = ahead(read, pieces, workers=workers, depth=2 * -(-size // step))
    for batch in batches:
        yield list(islice(in_order, -(-len(batch) // step)))
