"""P x K batches: P identities with K images each, which is what mining within a batch needs.

An epoch is a pure function of labels and generator: nothing is carried from one epoch to the next, so a run can be
resumed at any epoch and every rank of a distributed run draws the same plan.
"""

from __future__ import annotations

import numpy as np

from passerby.errors import UserError
from passerby.types import Ints


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
    people = require_people(labels, identities=identities)
    rows = {int(person): np.flatnonzero(labels == person) for person in people}
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


def require_people(labels: Ints, *, identities: int) -> Ints:
    """Return the identities in `labels` (N,), sorted.

    Raises:
        UserError: fewer than a batch needs.

    """
    people = np.unique(labels[labels >= 0])
    if len(people) < identities:
        raise UserError(
            f"data.identities asks for batches of {identities} people, the training images show {len(people)}; "
            f"set data.identities to {len(people)} or less"
        )
    return people


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
