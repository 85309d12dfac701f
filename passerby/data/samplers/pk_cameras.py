"""P x K batches in which the images of an identity come from several cameras wherever it has several."""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.data.samplers.sampler import EpochImages, GroupSamplerSettings, require_identities
from passerby.types import Ints


def camera_batches(
    labels: Ints,
    cam: Ints,
    generator: np.random.Generator,
    *,
    identities: int,
    instances: int,
    count: int | None = None,
) -> Ints:
    """Plan one epoch in which the images of an identity come from several cameras wherever it has several.

    A pass takes each identity once, in random order, P to a batch; passes follow one another until the epoch is full,
    and what is left of a pass makes no batch. A group is a random image of the identity (the anchor) and K - 1 from
    `partners`. Unlike in `identity_batches` an identity with many images is drawn no more often than one with few.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        cam: (N,) camera of each image.
        generator: source of randomness.
        identities: P, different identities in a batch.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images // (P * K)).

    Returns:
        (count, P * K) rows; images of an identity stand together, the anchor first.

    Raises:
        UserError: fewer than P identities.

    Reference: Ge et al., "Mutual Mean-Teaching", ICLR 2020, and "Self-paced Contrastive Learning with Hybrid Memory",
    NeurIPS 2020 (published code).
    Differs from the published code: an identity with a single image repeats it, where the code makes a smaller group,
    which shifts all groups after it; and K - 1 partners that suffice are not drawn with repetition.

    """
    present = require_identities(labels, identities=identities)
    rows = {int(identity): np.flatnonzero(labels == identity) for identity in present}
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    batches: list[Ints] = []
    while len(batches) < count:
        order = generator.permutation(present)
        for start in range(0, len(order) - identities + 1, identities):
            batch = order[start : start + identities]
            groups = [_group(rows[int(identity)], cam, instances, generator) for identity in batch]
            batches.append(np.concatenate(groups))
    return np.stack(batches[:count])


def partners(anchor: int, rows: Ints, cam: Ints) -> Ints:
    """Return the rows that may stand beside an anchor: those of other cameras, else the others of its own camera.

    Args:
        anchor: a row.
        rows: (M,) all rows of the anchor's identity.
        cam: (N,) camera of each image.

    >>> cam = np.array([0, 0, 1])
    >>> partners(0, np.arange(3), cam).tolist(), partners(0, np.arange(2), cam).tolist()
    ([2], [1])
    """
    elsewhere: Ints = rows[cam[rows] != cam[anchor]]
    if len(elsewhere):
        return elsewhere
    others: Ints = rows[rows != anchor]
    return others


def _group(rows: Ints, cam: Ints, instances: int, generator: np.random.Generator) -> Ints:
    """Return an anchor and its partners, (K,) rows; an identity with one image repeats it."""
    anchor = int(generator.choice(rows))
    pool = partners(anchor, rows, cam)
    if not len(pool):
        return np.full(instances, anchor)
    others = generator.choice(pool, instances - 1, replace=len(pool) < instances - 1)
    return np.concatenate([[anchor], others])


class PkCamerasSettings(GroupSamplerSettings):
    """Images of an identity from several cameras, and all identities equally often.

    As in the published code of MMT, SpCL, ClusterContrast, PPLR and LSTKC.
    """

    kind: Literal["pk_cameras"] = "pk_cameras"

    @property
    def without_cameras(self) -> str:
        """The override that makes the sampler ignore cameras."""
        return "data.sampler=pk"

    def plan(self, images: EpochImages, generator: np.random.Generator, *, count: int) -> Ints:
        """Plan one epoch by `camera_batches`."""
        return camera_batches(
            images.labels, images.cam, generator, identities=self.identities, instances=self.instances, count=count
        )

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        return (*super().describe()[:1], "images of an identity from several cameras")
