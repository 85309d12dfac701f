"""Distances between two sets of vectors, a block of rows at a time.

Nothing here ever holds the full (Q, G) matrix, nor a second copy of the vectors: norms are applied to the product. A
block is overwritten by the next one, so that its memory is touched once and stays warm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from passerby.distances.units import is_comfortable, require_measurable, rescaled
from passerby.errors import UserError
from passerby.types import Floats

Metric = Literal["cosine", "euclidean"]

SMALLEST_SQUARE = 1e-12
"""Floor of a squared distance, as everywhere in the project."""

_COMFORTABLE_BYTES = 64 << 20
_LARGEST_BYTES = 192 << 20
_EFFICIENT_ROWS = 512


class DistanceSource(Protocol):
    """Anything that can produce rows of distances, nearest = smallest."""

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        ...

    @property
    def offset(self) -> float:
        """Offset from a value of a block to the distance.

        A cosine block holds the negated similarity, because adding 1 in float32 would round unequal similarities to
        equal distances.
        """
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that a block can hold, up to rounding."""
        ...

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, (B, G) float32 values); each block is overwritten when the next one is asked for."""
        ...


@dataclass(frozen=True, eq=False)
class ScaledVectors:
    """Rows on a device with their norms.

    Attributes:
        rows: (N, D) float32.
        scale: (N,) 1/norm for cosine, squared norm for euclidean.

    """

    rows: torch.Tensor
    scale: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class PairwiseDistances:
    """Cosine or squared Euclidean distances between the rows of two lists of vectors; made by `pairwise`.

    Attributes:
        left: the queries, in one or more parts that follow each other.
        right: the gallery, in one or more parts that lie side by side.
        metric: which distance.

    """

    left: tuple[ScaledVectors, ...]
    right: tuple[ScaledVectors, ...]
    metric: Metric

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return sum(map(len, self.left)), sum(map(len, self.right))

    @property
    def offset(self) -> float:
        """1 for cosine, 0 for euclidean."""
        return 1.0 if self.metric == "cosine" else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """(-1, 1) for cosine; for euclidean 0 and the square of the sum of the two largest norms."""
        if self.metric == "cosine":
            return -1.0, 1.0
        longest = [max(float(part.scale.max()) for part in side) ** 0.5 for side in (self.left, self.right)]
        return 0.0, max(sum(longest) ** 2, SMALLEST_SQUARE)

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, (B, G) negated cosine similarities, or squared Euclidean distances >= 1e-12)."""
        buffer = empty_block(rows_per_block(*self.shape), self.shape[1], device=self.left[0].rows.device)
        for start, chunk in self._chunks(len(buffer)):
            yield start, self._fill(chunk, buffer[: len(chunk)])

    def upper_blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, (B, N - first row)) values of a set with itself: only what is not left of the block.

        Distances are symmetric, so these are all, for half of the work.
        """
        assert self.left is self.right
        buffer = empty_block(rows_per_block(*self.shape), self.shape[1], device=self.left[0].rows.device)
        for start, chunk in self._chunks(len(buffer)):
            remaining = PairwiseDistances((chunk,), _parts_from(self.right, start), self.metric)
            height, width = remaining.shape
            yield start, remaining._fill(chunk, buffer.flatten()[: height * width].view(height, width))

    def _chunks(self, rows: int) -> Iterator[tuple[int, ScaledVectors]]:
        """Yield (first row, at most so many of the left rows)."""
        done = 0
        for part in self.left:
            for start in range(0, len(part), rows):
                rows_of_chunk = slice(start, min(start + rows, len(part)))
                yield done + start, ScaledVectors(part.rows[rows_of_chunk], part.scale[rows_of_chunk])
            done += len(part)

    def _fill(self, left: ScaledVectors, out: torch.Tensor) -> torch.Tensor:
        scaled = left.rows * (-left.scale[:, None] if self.metric == "cosine" else -2)
        first = 0
        for right in self.right:
            columns = out[:, first : first + len(right)]
            first += len(right)
            if self.metric == "cosine":
                torch.mm(scaled, right.rows.T, out=columns).mul_(right.scale)
            else:
                torch.addmm(right.scale, scaled, right.rows.T, out=columns)
                columns.add_(left.scale[:, None]).clamp_min_(SMALLEST_SQUARE)
        return out


def _parts_from(parts: tuple[ScaledVectors, ...], first: int) -> tuple[ScaledVectors, ...]:
    """Return the parts without their first so many rows."""
    remaining = []
    for part in parts:
        remaining.append(ScaledVectors(part.rows[first:], part.scale[first:]))
        first = max(first - len(part), 0)
    return tuple(part for part in remaining if len(part))


def pairwise(query: Floats, gallery: Floats, *, metric: Metric = "cosine", device: str = "cpu") -> PairwiseDistances:
    """Prepare the distances between `query` (Q, D) and `gallery` (G, D), float32.

    `cosine` is 1 - cos in [0, 2] whatever the norms, a vector of zeros being at right angles to all; `euclidean` is the
    *squared* Euclidean distance, at least 1e-12.

    >>> source = pairwise(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    >>> [(start, (block + source.offset).tolist()) for start, block in source.blocks()]
    [(0, [[0.0, 1.0], [1.0, 0.0]])]

    Raises:
        UserError: the two differ in D, a vector is not finite, or the device is not there.

    """
    if query.shape[1] != gallery.shape[1]:
        raise UserError(f"query vectors have {query.shape[1]} dims, gallery vectors {gallery.shape[1]}")
    left, right = (vectors_on(side, metric=metric, device=device) for side in (query, gallery))
    return PairwiseDistances((left,), (right,), metric)


def vectors_on(vectors: Floats, *, metric: Metric, device: str) -> ScaledVectors:
    """Return (N, D) float32 vectors on a device with the norms that `metric` needs, without a copy on the CPU.

    All distances are finite: rows whose norm float32 cannot square are rescaled where only directions count (cosine),
    and refused where lengths count. Compiled loops that take distances rely on it.

    Raises:
        UserError: a vector is not finite, or too long or short to be measured; no such device, or it is not there.

    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not vectors.flags.writeable:
        vectors = vectors.copy()
    try:
        rows = torch.from_numpy(vectors).to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {device!r} cannot be used ({reason}); 'cpu' always can") from error
    if metric == "cosine":
        return _directions(rows)
    # not the square of the norm: its rounding would part distances that are equal
    squares = torch.cat([part.square().sum(dim=1) for part in rows.split(_EFFICIENT_ROWS)])
    require_measurable(squares.cpu().numpy())
    return ScaledVectors(rows, squares)


def _directions(rows: torch.Tensor) -> ScaledVectors:
    """Return rows (N, D) with 1 / norm; those far from float32's middle are first multiplied by a power of two."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    odd = torch.from_numpy(np.flatnonzero(~is_comfortable(norms.cpu().numpy()))).to(rows.device)
    if len(odd) and rows[odd].any():  # rows of zeros are common, and need no copy
        rows = rows.clone()
        rows[odd] = torch.from_numpy(rescaled(rows[odd].cpu().numpy())).to(rows.device)
        norms[odd] = torch.linalg.vector_norm(rows[odd], dim=1)
    return ScaledVectors(rows, norms.clamp_min_(SMALLEST_SQUARE).reciprocal_())


def empty_block(count_rows: int, count_columns: int, *, device: torch.device) -> torch.Tensor:
    """Return an uninitialised float32 block; on the CPU from numpy, which uses huge pages."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty((count_rows, count_columns), np.float32))
    return torch.empty(count_rows, count_columns, device=device)


def rows_per_block(count_rows: int, count_columns: int) -> int:
    """Return how many rows of `count_columns` float32 to compute at once: few megabytes, yet a quick matrix product."""
    row_bytes = 4 * max(count_columns, 1)
    rows = max(_COMFORTABLE_BYTES // row_bytes, min(_EFFICIENT_ROWS, _LARGEST_BYTES // row_bytes), 1)
    count_blocks = max(-(-count_rows // rows), 1)
    return max(-(-count_rows // count_blocks), 1)
