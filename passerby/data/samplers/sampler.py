"""Base classes of the samplers: settings that plan the batches of an epoch, and the images that they draw from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field

from passerby.errors import UserError
from passerby.settings import Settings
from passerby.types import Ints


@dataclass(frozen=True, eq=False)
class EpochImages:
    """The images of an epoch, from which a sampler draws.

    Attributes:
        labels: (N,) identity of each image, or its pseudo-label; -1 = not to be drawn.
        cam: (N,) camera of each image, numbered over all data sets of the stage.
        origin: (N,) number of the data set of each image, 0..len(sources)-1.
        sources: names of the data sets.

    """

    labels: Ints
    cam: Ints
    origin: Ints
    sources: tuple[str, ...]

    def with_labels(self, labels: Ints) -> EpochImages:
        """Return the same images with other labels (N,)."""
        return replace(self, labels=labels)


class SamplerSettings(Settings):
    """Base of the settings of a sampler, which also plan its epochs.

    A subclass gives `kind` its name (`kind: Literal["name"] = "name"`), and overrides `batch_size`, `plan` and
    `require_images`. An epoch is a pure function of images and generator, so that a run can be resumed at any epoch,
    and all processes of a distributed run draw the same plan.

    Attributes:
        kind: the name in recipes.

    """

    kind: str

    sharing: ClassVar[str] = "all images alike"
    """How the data sets of a joint stage share a batch, in words."""

    shares_evenly: ClassVar[bool] = False
    """Whether each data set has an equal share of every batch, so that the sampler needs several of them."""

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        raise NotImplementedError

    @property
    def without_cameras(self) -> str:
        """The override that makes the sampler ignore cameras; `""` where it ignores them."""
        return ""

    def plan(self, images: EpochImages, generator: np.random.Generator, *, count: int) -> Ints:
        """Plan one epoch.

        Args:
            images: what is drawn from.
            generator: source of randomness.
            count: batches in the epoch, >= 1.

        Returns:
            (count, batch_size) rows of the images.

        Raises:
            UserError: too few images for a batch.

        """
        raise NotImplementedError

    def require_images(self, images: EpochImages) -> None:
        """Raise `UserError` unless the images fill a batch; default: when there are fewer than a batch has."""
        usable = int((images.labels >= 0).sum())
        if usable < self.batch_size:
            raise UserError(
                f"data.sampler: {self.kind} draws batches of {self.batch_size} images, and there are {usable}; make "
                "them smaller"
            )

    def check(self, datasets: Sequence[str]) -> None:
        """Raise `UserError` unless a batch can be drawn from so many data sets jointly; `datasets` are their names."""

    def for_one_dataset(self) -> SamplerSettings:
        """Return the sampler that draws from one data set in the same way."""
        return self

    def columns(self, *, rank: int, world: int) -> slice:
        """Return the columns of a plan that one process of a distributed run loads.

        Raises:
            UserError: a batch cannot be divided evenly.

        """
        return rank_columns(self.batch_size, 1, "size", rank=rank, world=world)

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        return (f"{self.batch_size} images", *_summary(type(self)))


class GroupSamplerSettings(SamplerSettings):
    """Base of the settings of P x K samplers: P groups in a batch, each of K images of one identity.

    Images of a group stand together in a plan, and a group is never divided among processes. A subclass overrides
    `plan`.
    """

    identities: Annotated[int, Field(ge=2)] = Field(16, description="P, number of identities in a batch")
    instances: Annotated[int, Field(ge=1)] = Field(4, description="K, number of images of each identity")

    sharing: ClassVar[str] = "all identities alike"

    @property
    def batch_size(self) -> int:
        """P x K."""
        return self.identities * self.instances

    def with_identities(self, identities: int) -> Self:
        """Return the sampler of a part of each batch, with so many groups, >= 1."""
        return self.model_copy(update={"identities": identities})

    def for_one_dataset(self) -> GroupSamplerSettings:
        """Return the sampler that draws from one data set in the same way."""
        return self

    def require_images(self, images: EpochImages) -> None:
        """Raise `UserError` when fewer identities than a batch needs have images."""
        require_identities(images.labels, identities=self.identities)

    def columns(self, *, rank: int, world: int) -> slice:
        """Return the columns of a plan that one process loads: whole groups.

        Raises:
            UserError: the groups of a batch cannot be divided evenly.

        """
        return rank_columns(self.identities, self.instances, "identities", rank=rank, world=world)

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        return (f"{self.identities} identities × {self.instances} images = {self.batch_size}", *_summary(type(self)))


def require_identities(labels: Ints, *, identities: int) -> Ints:
    """Return the identities in `labels` (N,), sorted.

    Raises:
        UserError: fewer than a batch needs.

    """
    present = np.unique(labels[labels >= 0])
    if len(present) < identities:
        raise UserError(
            f"data.sampler.identities asks for batches of {identities} identities, the training images show "
            f"{len(present)}; set data.sampler.identities to {len(present)} or less"
        )
    return present


def rank_columns(count: int, width: int, key: str, *, rank: int, world: int) -> slice:
    """Return the columns of a plan that one process of a distributed run loads.

    Args:
        count: parts of a batch, which are not divided.
        width: columns of a part.
        key: the setting that holds `count`, for the error text.
        rank: number of the process, from 0.
        world: number of processes.

    Raises:
        UserError: the parts cannot be divided evenly.

    >>> rank_columns(4, 3, "identities", rank=1, world=2)
    slice(6, 12, None)
    """
    if count % world:
        raise UserError(f"data.sampler.{key} is {count}, which {world} processes cannot share evenly")
    size = count // world * width
    return slice(rank * size, (rank + 1) * size)


def _summary(kind: type[SamplerSettings]) -> tuple[str, ...]:
    """Return the first line of the docstring of a class."""
    first = (kind.__doc__ or "").strip().split("\n")[0].removesuffix(".")
    return (first,) if first else ()
