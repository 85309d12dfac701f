"""The exact search: similarities of queries to the float16 vectors of a shard, and the largest of each query.

Few queries are compared with the vectors as they are, many by a product of matrices, block by block in float32.

Shards are searched one by one or by several processes; `merge_nearest` joins their answers, in any case to the same
result. Similarities are products of float32: of the query of unit length and the stored vector as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from passerby.distances.nearest import smallest
from passerby.gallery.mapping import Halves, open_rows, runs
from passerby.gallery.products import FEW, few_products, nearest_of
from passerby.threads import inference_threads
from passerby.types import UNKNOWN, Floats, Ints

BLOCK_ROWS = 512
"""Vectors that are converted to float32 at a time: 1 MiB of 512 dimensions, which the cache of a core still holds."""
QUERIES = 256
"""Queries whose products with a shard are held at a time: 64 MiB."""
LONG_RUN = 32
"""Mean rows in a row from which chosen rows are read as slices of the file."""


@dataclass(frozen=True, eq=False)
class ShardPart:
    """Rows of a shard that are searched; may be sent to another process.

    Attributes:
        path: file of the shard.
        count: rows in it that count.
        dimensions: D.
        first: position of the first row of the shard.
        slots: ascending rows of the shard, None = all.

    """

    path: Path
    count: int
    dimensions: int
    first: int
    slots: Ints | None = None

    def __len__(self) -> int:
        return self.count if self.slots is None else len(self.slots)

    def positions(self, places: Ints) -> Ints:
        """Return the positions of places among the rows of this part."""
        return self.first + (places if self.slots is None else self.slots[places])


@dataclass(frozen=True, eq=False)
class NearestRows:
    """The K most similar rows of each query.

    Attributes:
        position: (Q, K) -1 where there are fewer than K rows.
        similarity: (Q, K) float32, descending; equal ones by position; -inf where there is no row.

    """

    position: Ints
    similarity: Floats


OpenRows = Callable[..., Halves]
"""As `mapping.open_rows`."""
PartsSearch = Callable[[Sequence[ShardPart], Floats, int], Sequence[NearestRows]]
"""Maps parts, vectors (Q, D) of unit length and K to answers of parts or groups of them, in order."""

_SEARCH: ContextVar[PartsSearch | None] = ContextVar("search of parts", default=None)


@contextmanager
def parts_searched_by(search: PartsSearch) -> Iterator[None]:
    """Let `search_parts` search by other means within the block, for example on many machines."""
    token = _SEARCH.set(search)
    try:
        yield
    finally:
        _SEARCH.reset(token)


def search_parts(parts: Sequence[ShardPart], vectors: Floats, *, top: int, opener: OpenRows = open_rows) -> NearestRows:
    """Search parts one after another with the threads that the load allows; see `search_part`."""
    if (search := _SEARCH.get()) is not None:
        return merge_nearest(search(parts, vectors, top), count=len(vectors), top=top)
    with torch.inference_mode(), inference_threads("cpu"):
        answers = [search_part(part, vectors, top=top, opener=opener) for part in parts]
        return merge_nearest(answers, count=len(vectors), top=top)


def search_part(part: ShardPart, vectors: Floats, *, top: int, opener: OpenRows = open_rows) -> NearestRows:
    """Find the K = min(top, rows) rows of a part that are most like each query.

    Args:
        part: rows of one shard.
        vectors: (Q, D) of unit length.
        top: answers per query at most.
        opener: maps the file.

    Raises:
        FileNotFoundError: the file was replaced since the part was made.
        UserError: the file is too short.

    """
    rows = opener(part.path, part.count, part.dimensions, slots=part.slots)
    count = min(top, len(part))
    position = np.empty((len(vectors), count), np.int64)
    similarity = np.empty((len(vectors), count), np.float32)
    for start in range(0, len(vectors), QUERIES):
        chunk = slice(start, start + QUERIES)
        places, values = _nearest(rows, part.slots, vectors[chunk], count)
        position[chunk], similarity[chunk] = part.positions(places), -values
    return NearestRows(position, similarity)


def _nearest(rows: Halves, slots: Ints | None, queries: Floats, count: int) -> tuple[Ints, Floats]:
    """Return places (Q, K) among rows and negated similarities (Q, K) of the most similar of all or some rows."""
    if len(queries) <= FEW:
        return smallest(torch.from_numpy(few_products(rows, slots, queries)), count)
    products = _negated_products(rows, slots, torch.from_numpy(queries))
    _, worst = smallest(products, count)
    return nearest_of(rows, slots, queries, products.numpy(), worst)


def _negated_products(rows: Halves, slots: Ints | None, queries: torch.Tensor) -> torch.Tensor:
    """Return the negated similarities (Q, S) of queries (Q, D) to all or some rows."""
    negated = -queries
    count = len(rows) if slots is None else len(slots)
    products = torch.from_numpy(np.empty((len(queries), count), np.float32))
    block = torch.from_numpy(np.empty((min(BLOCK_ROWS, count), rows.shape[1]), np.float32))
    for start in range(0, count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, count)
        halves = rows[start:stop] if slots is None else chosen_rows(rows, slots[start:stop])
        part = block[: stop - start].copy_(torch.from_numpy(halves))
        torch.mm(negated, part.T, out=products[:, start:stop])
    return products


def chosen_rows(rows: Halves, slots: Ints) -> Halves:
    """Return some rows (N, D) of a mapped shard; of the file no more is read than the pages that they are on."""
    count_runs = 1 + np.count_nonzero(np.diff(slots) != 1)
    if count_runs * LONG_RUN > len(slots):
        return rows[slots]
    return np.concatenate([rows[first:last] for first, last in runs(slots)])


def merge_nearest(answers: Sequence[NearestRows], *, count: int, top: int) -> NearestRows:
    """Join the answers of parts, given by ascending position, to one.

    Args:
        answers: of parts, for the same queries.
        count: number of queries.
        top: K of the result.

    """
    position = np.full((count, top), UNKNOWN, np.int64)
    similarity = np.full((count, top), -np.inf, np.float32)
    if not answers:
        return NearestRows(position, similarity)
    positions = np.concatenate([answer.position for answer in answers], axis=1)
    values = np.concatenate([answer.similarity for answer in answers], axis=1)
    present = min(top, positions.shape[1])
    columns, negated = smallest(torch.from_numpy(-values), present)
    position[:, :present] = np.take_along_axis(positions, columns, axis=1)
    similarity[:, :present] = -negated
    return NearestRows(position, similarity)
