"""k-means on any torch device: seeding and Lloyd's iterations as matrix products, equal for equal input.

On the CPU the project uses the implementation of scikit-learn; this one is for GPUs. Sums over the images of a cluster
are matrix products with an indicator matrix, because scattered additions on a GPU have no fixed order.

Reference: Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 1982; Arthur and
Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from passerby.types import Floats, Ints

ROUNDS, TOLERANCE = 300, 1e-4
"""Iterations at most, and the squared movement of the centres at which they end, relative to the variance of the data;
both as in scikit-learn."""
_ROWS = 4096


def kmeans(vectors: Floats, count: int, *, seed: int, restarts: int = 1, device: str = "cpu") -> Ints:
    """Return the cluster (N,) of each of `vectors` (N, D), numbered from 0.

    Args:
        vectors: float32.
        count: number of clusters, 1..N.
        seed: of the random starts.
        restarts: number of starts; the clusters with the lowest inertia are returned.
        device: where distances and means are computed.

    """
    assert 1 <= count <= len(vectors)
    rows = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    rows = rows - rows.mean(dim=0)  # small numbers lose fewer digits in |x|^2 - 2 x c + |c|^2
    generator = np.random.default_rng(seed)
    runs = [_lloyd(rows, _seeds(rows, count, generator)) for _ in range(restarts)]
    labels: Ints = min(runs, key=lambda run: run[1])[0].cpu().numpy()
    return labels


def _seeds(rows: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return (K, D) centres by greedy k-means++: of some candidates in each step the one that lowers the inertia most.

    A candidate is drawn with probability proportional to its squared distance to the nearest centre so far.
    """
    squares = rows.square().sum(dim=1)  # (N,)
    trials = 2 + int(math.log(count))
    chosen = [int(generator.integers(len(rows)))]
    nearest = _squared(rows, squares, rows[chosen]).squeeze(1)  # (N,)
    while len(chosen) < count:
        cumulative = nearest.double().cumsum(0)
        draws = torch.from_numpy(generator.random(trials)).to(rows.device) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, draws).clamp_max_(len(rows) - 1)
        lowered = torch.minimum(_squared(rows, squares, rows[candidates]), nearest[:, None])  # (N, trials)
        best = int(lowered.double().sum(dim=0).argmin())
        chosen.append(int(candidates[best]))
        nearest = lowered[:, best].contiguous()
    return rows[chosen]


def _lloyd(rows: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """Return the labels (N,) and the inertia when the centres (K, D) have stopped moving."""
    limit = TOLERANCE * float(rows.var(dim=0, correction=0).mean())
    labels, inertia = _assign(rows, centres)
    for _ in range(ROUNDS):
        moved = _means(rows, labels, centres)
        shift = float((moved - centres).square().sum())
        before, centres = labels, moved
        labels, inertia = _assign(rows, centres)
        if shift <= limit or torch.equal(labels, before):
            break
    return labels, float(inertia.double().sum())


def _assign(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centre (N,) of each row, ties by number, and the squared distance (N,) to it."""
    found = [_squared(part, part.square().sum(dim=1), centres).min(dim=1) for part in rows.split(_ROWS)]
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])


def _means(rows: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return the mean (K, D) of the rows of each cluster; an empty one moves to the row farthest from its centre."""
    sums, sizes = torch.zeros_like(centres), torch.zeros(len(centres), device=rows.device)
    for part, its in zip(rows.split(_ROWS), labels.split(_ROWS), strict=True):
        indicator = torch.nn.functional.one_hot(its, len(centres)).to(rows.dtype)  # (B, K)
        sums += indicator.T @ part
        sizes += indicator.sum(dim=0)
    means = sums / sizes.clamp_min(1)[:, None]
    empty = torch.nonzero(sizes == 0).flatten()
    if len(empty):
        away = (rows - means[labels]).square().sum(dim=1)
        means[empty] = rows[away.argsort(descending=True, stable=True)[: len(empty)]]
    return means


def _squared(rows: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Return the squared distances (N, K) of rows with squared norms (N,) to centres."""
    return (squares[:, None] - 2 * rows @ centres.T + centres.square().sum(dim=1)).clamp_min_(0)
