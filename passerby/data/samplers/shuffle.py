"""Batches of images in random order, for stages in which no loss compares images of one identity."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from passerby.data.samplers.sampler import EpochImages, SamplerSettings
from passerby.errors import UserError
from passerby.types import Ints


def shuffled_batches(labels: Ints, generator: np.random.Generator, *, size: int, count: int) -> Ints:
    """Plan one epoch of images in random order; each is drawn once before any is drawn again.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        generator: source of randomness.
        size: images in a batch.
        count: batches in the epoch.

    Returns:
        (count, size) rows.

    Raises:
        UserError: fewer images than a batch needs.

    """
    rows = require_rows(labels, size=size)
    passes = -(-count * size // len(rows))
    order = np.concatenate([generator.permutation(rows) for _ in range(passes)])
    return order[: count * size].reshape(count, size)


def require_rows(labels: Ints, *, size: int) -> Ints:
    """Return the rows of `labels` (N,) that may be drawn.

    Raises:
        UserError: fewer than a batch needs.

    """
    rows = np.flatnonzero(labels >= 0)
    if len(rows) < size:
        raise UserError(
            f"a batch needs {size} images (data.sampler.size), and there are {len(rows)}; set data.sampler.size to "
            f"{len(rows)} or less"
        )
    return rows


class ShuffleSettings(SamplerSettings):
    """Images in random order, whatever their identities."""

    kind: Literal["shuffle"] = "shuffle"
    size: Annotated[int, Field(ge=1)] = Field(64, description="number of images in a batch")

    @model_validator(mode="before")
    @classmethod
    def _no_groups(cls, data: object) -> object:
        if isinstance(data, dict) and (groups := [key for key in ("identities", "instances") if key in data]):
            raise ValueError(
                f"{groups[0]} has no effect with kind: shuffle, which draws images and no groups of them; set "
                "data.sampler={kind: shuffle, size: 64}"
            )
        return data

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return self.size

    def plan(self, images: EpochImages, generator: np.random.Generator, *, count: int) -> Ints:
        """Plan one epoch by `shuffled_batches`."""
        return shuffled_batches(images.labels, generator, size=self.size, count=count)

    def require_images(self, images: EpochImages) -> None:
        """Raise `UserError` when there are fewer images than a batch needs."""
        require_rows(images.labels, size=self.size)

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        return (f"{self.size} images in random order",)
