"""P x K batches in which each data set of a joint stage has an equal share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from passerby.data.samplers.pk import PkSettings, identity_batches
from passerby.data.samplers.pk_cameras import PkCamerasSettings, camera_batches
from passerby.data.samplers.sampler import EpochImages, GroupSamplerSettings
from passerby.errors import UserError
from passerby.types import Ints


def dataset_batches(
    labels: Ints,
    origin: Ints,
    generator: np.random.Generator,
    *,
    sources: Sequence[str],
    identities: int,
    instances: int,
    count: int | None = None,
    cam: Ints | None = None,
) -> Ints:
    """Plan one epoch in which every batch shows equally many identities of each data set.

    Each set is dealt by itself as in `identity_batches`, or drawn as in `camera_batches` where cameras are given, all
    of them for the same number of batches: a small set is dealt again and again within the epoch, so its images repeat,
    and of a large one only a part is seen.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        origin: (N,) which data set each image comes from, 0..len(sources)-1.
        generator: source of randomness.
        sources: the names of the data sets.
        identities: P, different identities in a batch, a multiple of the number of data sets.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images of all sets // (P * K)).
        cam: (N,) camera of each image, to prefer other cameras; None = cameras do not matter.

    Returns:
        (count, P * K) rows; images of an identity stand together, and identities of the sets stand in turn, so that
        every rank of a distributed run gets its share of each set too.

    Raises:
        UserError: the identities of a batch cannot be divided evenly, or a set has fewer than its share.

    """
    share = require_even_shares(labels, origin, sources=sources, identities=identities)
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    plans = []
    for number in range(len(sources)):
        of_set = np.where(origin == number, labels, -1)
        plan = (
            identity_batches(of_set, generator, identities=share, instances=instances, count=count)
            if cam is None
            else camera_batches(of_set, cam, generator, identities=share, instances=instances, count=count)
        )
        plans.append(plan.reshape(count, share, instances))
    return np.stack(plans, axis=2).reshape(count, identities * instances)  # (count, share, S, K) before


def share_of_each(identities: int, sources: Sequence[str]) -> int:
    """Return how many of P identities in a batch come from each data set.

    >>> share_of_each(16, ["market1501", "msmt17"])
    8

    Raises:
        UserError: they cannot be divided evenly.

    """
    if identities % len(sources):
        lower = identities // len(sources) * len(sources)
        nearest = f"{lower} or {lower + len(sources)}" if lower else str(len(sources))
        raise UserError(
            f"data.sampler: per_domain divides the {identities} identities of a batch (data.sampler.identities) evenly "
            f"among {len(sources)} data sets ({', '.join(sources)}), which cannot be done; set "
            f"data.sampler.identities to {nearest}"
        )
    return identities // len(sources)


def require_even_shares(labels: Ints, origin: Ints, *, sources: Sequence[str], identities: int) -> int:
    """Return how many identities of each data set are in a batch.

    Raises:
        UserError: the identities of a batch cannot be divided evenly, or a set has fewer than its share.

    """
    share = share_of_each(identities, sources)
    for number, name in enumerate(sources):
        present = len(np.unique(labels[(labels >= 0) & (origin == number)]))
        if present < share:
            fewer = f"data.sampler.identities to {present * len(sources)} or less"
            advice = fewer if present else "data.sampler to pk"
            raise UserError(
                f"data.sampler: per_domain asks for {share} identities of each data set in a batch of {identities}, "
                f"the training images of {name} show {present}; set {advice}"
            )
    return share


class PerDomainSettings(GroupSamplerSettings):
    """An equal share of each data set of a joint stage in every batch."""

    kind: Literal["per_domain"] = "per_domain"
    across_cameras: bool = Field(
        False, description="draw the images of an identity from several cameras, as pk_cameras does, instead of pk"
    )

    sharing: ClassVar[str] = "an equal share of each data set in every batch"
    shares_evenly: ClassVar[bool] = True

    @property
    def without_cameras(self) -> str:
        """The override that makes the sampler ignore cameras; `""` where it ignores them."""
        return "data.sampler.across_cameras=false" if self.across_cameras else ""

    def plan(self, images: EpochImages, generator: np.random.Generator, *, count: int) -> Ints:
        """Plan one epoch by `dataset_batches`."""
        return dataset_batches(
            images.labels,
            images.origin,
            generator,
            sources=images.sources,
            identities=self.identities,
            instances=self.instances,
            count=count,
            cam=images.cam if self.across_cameras else None,
        )

    def require_images(self, images: EpochImages) -> None:
        """Raise `UserError` when a data set has fewer identities than its share of a batch."""
        require_even_shares(images.labels, images.origin, sources=images.sources, identities=self.identities)

    def check(self, datasets: Sequence[str]) -> None:
        """Raise `UserError` unless the identities of a batch can be divided evenly among the data sets."""
        share_of_each(self.identities, datasets)

    def for_one_dataset(self) -> GroupSamplerSettings:
        """Return `pk_cameras` or `pk` of the same size."""
        kind = PkCamerasSettings if self.across_cameras else PkSettings
        return kind.model_construct(identities=self.identities, instances=self.instances)

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        cameras = ("images of an identity from several cameras",) if self.across_cameras else ()
        return (*super().describe()[:1], *cameras)
