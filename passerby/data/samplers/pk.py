"""P x K batches in which the images of each identity are dealt, as mining within a batch requires."""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.data.samplers.sampler import EpochImages, GroupSamplerSettings, require_identities
from passerby.types import Ints


def identity_batches(
    labels: Ints, generator: np.random.Generator, *, identities: int, instances: int, count: int | None = None
) -> Ints:
    """Plan one epoch.

    The images of each identity are shuffled and dealt in groups of `instances`; batches take `identities` groups of
    different identities until too few are left, and then everything is dealt again until the epoch is full. An identity
    with fewer images than `instances` repeats some. Images with label -1 are left out.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        generator: source of randomness.
        identities: P, different identities in a batch.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images // (P * K)).

    Returns:
        (count, P * K) rows; images of an identity stand together.

    Raises:
        UserError: fewer than P identities.

    """
    present = require_identities(labels, identities=identities)
    rows = {int(identity): np.flatnonzero(labels == identity) for identity in present}
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    batches: list[Ints] = []
    groups: dict[int, list[Ints]] = {}
    while len(batches) < count:
        if len(groups) < identities:
            groups = {identity: _deal(rows[identity], instances, generator) for identity in rows}
        batch = generator.choice(np.array(sorted(groups)), identities, replace=False)
        batches.append(np.concatenate([groups[int(identity)].pop() for identity in batch]))
        groups = {identity: dealt for identity, dealt in groups.items() if dealt}
    return np.stack(batches)


def _deal(rows: Ints, instances: int, generator: np.random.Generator) -> list[Ints]:
    """Split shuffled rows into groups of `instances`; the last group is filled up from the others, or by repeating."""
    shuffled = generator.permutation(rows)
    short = -len(shuffled) % instances
    if short:
        others = shuffled[: len(shuffled) // instances * instances]
        pool = others if len(others) else np.tile(shuffled, -(-short // len(shuffled)))
        shuffled = np.concatenate([shuffled, generator.permutation(pool)[:short]])
    return list(shuffled.reshape(-1, instances))


class PkSettings(GroupSamplerSettings):
    """Images of each identity dealt, each once before any again."""

    kind: Literal["pk"] = "pk"

    def plan(self, images: EpochImages, generator: np.random.Generator, *, count: int) -> Ints:
        """Plan one epoch by `identity_batches`."""
        return identity_batches(
            images.labels, generator, identities=self.identities, instances=self.instances, count=count
        )

    def describe(self) -> tuple[str, ...]:
        """Return lines on a batch, for drawings."""
        return super().describe()[:1]
