"""Cluster transitions between two epochs: images that stay together, clusters that merge or split."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy.sparse import coo_array, csr_array

from passerby.clustering.precomputed import NOISE
from passerby.types import Ints

Move = Literal["kept", "merged", "split", "found", "lost", "outside"]
"""`kept`: the cluster goes on; `merged`: another cluster took it up; `split`: the image left what most of its cluster
became; `found`, `lost`: it came from no cluster, or went into none; `outside`: in none both times."""

MOVES: tuple[Move, ...] = get_args(Move)


def moves(before: Ints, after: Ints) -> Ints:
    """Return (N,) which of `MOVES` each image made between two clusterings (N,) of the same images, -1 = noise.

    Ties between equal overlaps go to the cluster with the lower number.

    >>> [MOVES[move] for move in moves(np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, -1, 0, 0, 1]))]
    ['kept', 'kept', 'lost', 'merged', 'merged', 'found']
    """
    found = np.full(len(before), MOVES.index("outside"))
    was, is_now = before != NOISE, after != NOISE
    found[~was & is_now] = MOVES.index("found")
    found[was & ~is_now] = MOVES.index("lost")
    both = was & is_now
    if not both.any():
        return found
    shape = (int(before.max()) + 1, int(after.max()) + 1)
    overlap = csr_array(coo_array((np.ones(both.sum()), (before[both], after[both])), shape=shape))
    heir, ancestor = np.asarray(overlap.argmax(axis=1)).ravel(), np.asarray(overlap.argmax(axis=0)).ravel()
    follows, leads = heir[before[both]] == after[both], ancestor[after[both]] == before[both]
    kinds = np.where(follows & leads, MOVES.index("kept"), MOVES.index("merged"))
    found[both] = np.where(follows, kinds, MOVES.index("split"))
    return found
