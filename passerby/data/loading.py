"""From files to batches of bytes: decode, resize, keep in memory when the set is small, and plan each epoch.

The cache holds decoded, resized images; augmentation happens on every draw. Which image is drawn when, and how it is
augmented, depends on (seed, stage, epoch, place) only, never on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from passerby.data.decoding import Pixels, decode
from passerby.data.foreground import (
    ForegroundSettings,
    cover,
    decode_mask,
    draw_partner,
    fit_mask,
    mean_colour,
    swap_background,
)
from passerby.data.transforms import AugmentSettings, augment, augment_with_mask, mix_seeds, training_transform
from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.settings import Settings
from passerby.types import Batch, Ints, Words

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_AUTO_CACHE_BYTES = 2 * 1024**3
_NO_FOREGROUND = ForegroundSettings()


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
        size = len(paths) * (3 if masks is None else 4) * inputs.size[0] * inputs.size[1]
        self.cached: Tensor | None = None
        self.cached_masks: Tensor | None = None
        if cache == "memory" or (cache == "auto" and size < _AUTO_CACHE_BYTES):
            self._fill()

    def _fill(self) -> None:
        images = torch.empty((len(self), 3, *self.inputs.size), dtype=torch.uint8)  # (N, 3, H, W)
        masks = None if self.masks is None else images.new_empty((len(self), 1, *self.inputs.size))  # (N, 1, H, W)
        for row in range(len(self)):
            if masks is None:
                images[row] = self[row]
            else:
                images[row], masks[row] = self.with_mask(row)
        self.cached, self.cached_masks = images, masks

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
class Place:
    """Where in a run a batch stands; its randomness is a function of this."""

    seed: int
    stage: int
    epoch: int


_Loaded = tuple[Tensor, Ints, Tensor | None]


class _TrainingBatches(Dataset[_Loaded]):
    """Batches of one epoch by number: images (B, 3, H, W), the rows (B,) they came from, and masks (B, 1, H, W)."""

    def __init__(
        self,
        store: ImageStore,
        plan: Ints,
        columns: slice,
        transform: v2.Compose,
        place: Place,
        *,
        foreground: ForegroundSettings,
    ) -> None:
        self.store, self.plan, self.columns, self.transform, self.place = store, plan, columns, transform, place
        self.foreground = foreground

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> _Loaded:
        rows = self.plan[number][self.columns]
        at = (self.place.seed, self.place.stage, self.place.epoch, number)
        positions = range(self.columns.start, self.columns.stop)
        places = [(int(row), (*at, position)) for position, row in zip(positions, rows, strict=True)]
        if self.foreground.use == "none":
            images = [augment(self.transform, self.store[row], seed=mix_seeds(*seeds)) for row, seeds in places]
            return torch.stack(images), rows, None
        pairs = [self._with_mask(row, seeds) for row, seeds in places]
        return torch.stack([image for image, _ in pairs]), rows, torch.stack([mask for _, mask in pairs])

    def _with_mask(self, row: int, seeds: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        image, mask = self.store.with_mask(row)
        partner = draw_partner(row, len(self.store), chance=self.foreground.chance, seeds=seeds)
        if partner is not None and mask.any():
            if self.foreground.use == "mask":
                image = cover(image, mask == 0, mean_colour(self.store.inputs))
            else:
                image = swap_background(image, mask, *self.store.with_mask(partner))
        return augment_with_mask(self.transform, image, mask, seed=mix_seeds(*seeds))


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
    foreground: ForegroundSettings = _NO_FOREGROUND,
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
        foreground: what is done with the masks of the store.

    """
    columns = columns or slice(0, plan.shape[1])
    transform = training_transform(settings.augment, store.inputs)
    batches = _TrainingBatches(store, plan, columns, transform, place, foreground=foreground)
    workers = 0 if store.cached is not None else settings.workers
    loader: DataLoader[_Loaded] = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(plan)),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=None,
    )
    with _one_sentence():
        for images, rows, masks in loader:
            index = torch.as_tensor(rows)
            yield Batch(
                images=images,
                labels=torch.from_numpy(labels)[index],
                cam=torch.from_numpy(cam)[index],
                index=index,
                mask=masks,
            )


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Take off the traceback that torch writes around a user's mistake in a loader process."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from error


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


def masked_batches(
    paths: Words, masks: Words, inputs: InputSettings, *, size: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (B, 3, H, W) and masks (B, 1, H, W) in {0, 1} of files in order, without augmentation."""
    store = ImageStore(paths, inputs, cache="none", masks=masks)
    with _one_sentence():
        yield from DataLoader(_MaskedRows(store), batch_size=size, num_workers=workers)


class _MaskedRows(Dataset[tuple[Tensor, Tensor]]):
    """An `ImageStore` with masks as torch's loader wants it."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.store.with_mask(row)


class _Rows(Dataset[Tensor]):
    """An `ImageStore` as torch's loader wants it."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> Tensor:
        return self.store[row]
