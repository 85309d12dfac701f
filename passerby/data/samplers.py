"""P x K batches: P identities with K images each, as mining within a batch requires.

`identity_batches` deals the images of each identity; `camera_batches` prefers images from other cameras.

An epoch is a pure function of labels and generator: nothing is carried from one epoch to the next, so a run can be
resumed at any epoch and every rank of a distributed run draws the same plan. Where images come from several data sets,
either all identities are alike, or each data set gives its equal share of every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from passerby.errors import UserError
from passerby.types import Ints

SamplerKind = Literal["pk", "pk_cameras", "shuffle"]
"""Groups of one identity, dealt (`identity_batches`) or of other cameras (`camera_batches`); `shuffled_batches`."""


def identity_batches(
    labels: Ints, generator: np.random.Generator, *, identities: int, instances: int, count: int | None = None
) -> Ints:
    """Plan one epoch.

    The images of each identity are shuffled and dealt in groups of `instances`; batches take `identities` groups of
    different people until too few are left, and then everything is dealt again until the epoch is full. An identity
    with fewer images than `instances` repeats some. Images with label -1 are left out.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        generator: source of randomness.
        identities: P, different people in a batch.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images // (P * K)).

    Returns:
        (count, P * K) rows; images of one person stand together.

    Raises:
        UserError: fewer than P identities.

    """
    present = require_identities(labels, identities=identities)
    rows = {int(person): np.flatnonzero(labels == person) for person in present}
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    batches: list[Ints] = []
    hands: dict[int, list[Ints]] = {}
    while len(batches) < count:
        if len(hands) < identities:
            hands = {person: _deal(rows[person], instances, generator) for person in rows}
        chosen = generator.choice(np.array(sorted(hands)), identities, replace=False)
        batches.append(np.concatenate([hands[int(person)].pop() for person in chosen]))
        hands = {person: hand for person, hand in hands.items() if hand}
    return np.stack(batches)


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
        identities: P, different people in a batch.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images // (P * K)).

    Returns:
        (count, P * K) rows; images of one person stand together, the anchor first.

    Raises:
        UserError: fewer than P identities.

    Reference: Ge et al., "Mutual Mean-Teaching", ICLR 2020, and "Self-paced Contrastive Learning with Hybrid Memory",
    NeurIPS 2020 (published code).
    Differs from the published code: an identity with a single image repeats it, where the code makes a smaller group,
    which shifts all groups after it; and K - 1 partners that suffice are not drawn with repetition.

    """
    present = require_identities(labels, identities=identities)
    rows = {int(person): np.flatnonzero(labels == person) for person in present}
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    batches: list[Ints] = []
    while len(batches) < count:
        order = generator.permutation(present)
        for start in range(0, len(order) - identities + 1, identities):
            chosen = order[start : start + identities]
            groups = [_camera_group(rows[int(person)], cam, instances, generator) for person in chosen]
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


def _camera_group(rows: Ints, cam: Ints, instances: int, generator: np.random.Generator) -> Ints:
    """Return an anchor and its partners, (K,) rows; an identity with one image repeats it."""
    anchor = int(generator.choice(rows))
    pool = partners(anchor, rows, cam)
    if not len(pool):
        return np.full(instances, anchor)
    drawn = generator.choice(pool, instances - 1, replace=len(pool) < instances - 1)
    return np.concatenate([[anchor], drawn])


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
    """Plan one epoch in which every batch shows equally many people of each data set.

    Each set is dealt by itself as in `identity_batches`, or drawn as in `camera_batches` where cameras are given, all
    of them for the same number of batches: a small set is dealt again and again within the epoch, so its images repeat,
    and of a large one only a part is seen.

    Args:
        labels: (N,) identity of each image, -1 = not to be used.
        origin: (N,) which data set each image comes from, 0..len(sources)-1.
        generator: source of randomness.
        sources: the names of the data sets.
        identities: P, different people in a batch, a multiple of the number of data sets.
        instances: K, images of each.
        count: batches in the epoch; None = max(1, usable images of all sets // (P * K)).
        cam: (N,) camera of each image, to prefer other cameras; None = cameras do not matter.

    Returns:
        (count, P * K) rows; images of one person stand together, and people of the sets stand in turn, so that every
        rank of a distributed run gets its share of each set too.

    Raises:
        UserError: the people of a batch cannot be divided evenly, or a set has fewer than its share.

    """
    share = require_even_shares(labels, origin, sources=sources, identities=identities)
    count = count or max(1, int((labels >= 0).sum()) // (identities * instances))
    plans = [
        group_batches(
            np.where(origin == number, labels, -1),
            generator,
            identities=share,
            instances=instances,
            count=count,
            cam=cam,
        ).reshape(count, share, instances)
        for number in range(len(sources))
    ]
    return np.stack(plans, axis=2).reshape(count, identities * instances)  # (count, share, S, K) before


def group_batches(
    labels: Ints,
    generator: np.random.Generator,
    *,
    identities: int,
    instances: int,
    count: int | None = None,
    cam: Ints | None = None,
) -> Ints:
    """Plan one epoch by `camera_batches` where cameras (N,) are given, else by `identity_batches`."""
    if cam is None:
        return identity_batches(labels, generator, identities=identities, instances=instances, count=count)
    return camera_batches(labels, cam, generator, identities=identities, instances=instances, count=count)


def shuffled_batches(labels: Ints, generator: np.random.Generator, *, size: int, count: int) -> Ints:
    """Plan one epoch of images in random order, whoever is in them; each is drawn once before any is drawn again.

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
    rows = np.flatnonzero(labels >= 0)
    if len(rows) < size:
        raise UserError(
            f"a batch needs {size} images (data.identities x data.instances), and there are {len(rows)}; lower one"
        )
    passes = -(-count * size // len(rows))
    drawn = np.concatenate([generator.permutation(rows) for _ in range(passes)])
    return drawn[: count * size].reshape(count, size)


def interleave(plan: Ints, other: Ints, *, instances: int) -> Ints:
    """Join two plans of equally many batches, the people of the second spread evenly among those of the first.

    So every rank of a distributed run gets its share of both.

    Args:
        plan: (count, P * K) rows.
        other: (count, Q * K) rows.
        instances: K, images of each person.

    Returns:
        (count, (P + Q) * K) rows; images of one person stand together.

    >>> interleave(np.array([[1, 2, 3, 4]]), np.array([[8, 9]]), instances=1).tolist()
    [[1, 2, 8, 3, 4, 9]]
    """
    first, second = plan.shape[1] // instances, other.shape[1] // instances
    places = (np.arange(1, second + 1) * (first + second) // second) - 1  # of the second's people in a batch
    joined = np.empty((len(plan), first + second, instances), dtype=np.int64)
    theirs = np.zeros(first + second, dtype=bool)
    theirs[places] = True
    joined[:, theirs] = other.reshape(len(plan), second, instances)
    joined[:, ~theirs] = plan.reshape(len(plan), first, instances)
    return joined.reshape(len(plan), -1)


def replayed_identities(identities: int, share: float) -> int:
    """Return how many of P people in a batch come from a memory: the share, but at least one of either kind.

    >>> [replayed_identities(16, share) for share in (0.01, 0.5, 0.99)]
    [1, 8, 15]
    """
    return min(identities - 1, max(1, round(share * identities)))


def share_of_each(identities: int, sources: Sequence[str]) -> int:
    """Return how many of P people in a batch come from each data set.

    >>> share_of_each(16, ["market1501", "msmt17"])
    8

    Raises:
        UserError: they cannot be divided evenly.

    """
    if identities % len(sources):
        lower = identities // len(sources) * len(sources)
        nearest = f"{lower} or {lower + len(sources)}" if lower else str(len(sources))
        raise UserError(
            f"data.sampling: datasets divides the {identities} people of a batch (data.identities) evenly among "
            f"{len(sources)} data sets ({', '.join(sources)}), which cannot be done; set data.identities to {nearest}"
        )
    return identities // len(sources)


def require_even_shares(labels: Ints, origin: Ints, *, sources: Sequence[str], identities: int) -> int:
    """Return how many people of each data set are in a batch.

    Raises:
        UserError: the people of a batch cannot be divided evenly, or a set has fewer than its share.

    """
    share = share_of_each(identities, sources)
    for number, name in enumerate(sources):
        found = len(np.unique(labels[(labels >= 0) & (origin == number)]))
        if found < share:
            advice = f"data.identities to {found * len(sources)} or less" if found else "data.sampling to identities"
            raise UserError(
                f"data.sampling: datasets asks for {share} people of each data set in a batch of {identities}, the "
                f"training images of {name} show {found}; set {advice}"
            )
    return share


def require_identities(labels: Ints, *, identities: int) -> Ints:
    """Return the identities in `labels` (N,), sorted.

    Raises:
        UserError: fewer than a batch needs.

    """
    present = np.unique(labels[labels >= 0])
    if len(present) < identities:
        raise UserError(
            f"data.identities asks for batches of {identities} people, the training images show {len(present)}; "
            f"set data.identities to {len(present)} or less"
        )
    return present


def _deal(rows: Ints, instances: int, generator: np.random.Generator) -> list[Ints]:
    """Split shuffled rows into groups of `instances`; the last group is filled up from the others, or by repeating."""
    shuffled = generator.permutation(rows)
    short = -len(shuffled) % instances
    if short:
        others = shuffled[: len(shuffled) // instances * instances]
        pool = others if len(others) else np.tile(shuffled, -(-short // len(shuffled)))
        shuffled = np.concatenate([shuffled, generator.permutation(pool)[:short]])
    return list(shuffled.reshape(-1, instances))


def columns_of_rank(identities: int, instances: int, *, rank: int, world: int) -> slice:
    """Return which columns of a batch plan one process of a distributed run loads; people are never split.

    Raises:
        UserError: the people of a batch cannot be divided evenly.

    """
    if identities % world:
        raise UserError(f"data.identities is {identities}, which {world} processes cannot share evenly")
    size = identities // world * instances
    return slice(rank * size, (rank + 1) * size)
