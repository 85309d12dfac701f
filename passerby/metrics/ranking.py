"""The rank of every match of every query, by counting: no sort, and never the full distance matrix.

The rank of a match is one more than the number of kept gallery rows before it, so one comparing pass over the row per
match gives it exactly. A compare-and-add loop runs at the speed of the vector unit; a full sort does not.

Ties: of two gallery rows at equal float32 distance the one with the lower index comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from passerby.compiled import compiled
from passerby.distances.nearest import smallest
from passerby.distances.pairwise import DistanceSource
from passerby.distances.threads import over_rows
from passerby.metrics.relevance import Relevance
from passerby.metrics.verification import PairCounts
from passerby.types import Bools, Doubles, Floats, Ints

_COMPARISONS_AT_ONCE = 1 << 26
_PIECE = 4096


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks of the matches of each query.

    Attributes:
        start: (Q + 1,) query q owns entries `start[q]:start[q + 1]`.
        rank: (M,) 1-based ranks among the kept gallery rows, ascending within a query.
        gallery_row: (M,) gallery row of each match.
        kept: (Q,) length of the list of each query.

    """

    start: Ints
    rank: Ints
    gallery_row: Ints
    kept: Ints

    @property
    def count_matches(self) -> Ints:
        """(Q,) number of matches of each query."""
        return np.diff(self.start)

    @property
    def valid(self) -> Bools:
        """(Q,) whether the query has any match."""
        return self.count_matches > 0


def rank_matches(source: DistanceSource, relevance: Relevance, *, pairs: PairCounts | None = None) -> Ranking:
    """Rank the matches of every query, block by block.

    Args:
        source: distances of shape (Q, G).
        relevance: matches and left-out rows of the same Q queries and G gallery rows.
        pairs: where to count distances for the verification rates in the same pass, or None.

    Complexity: M * G comparisons for M matches in all; memory of one block.

    """
    _require_same_shape(source, relevance)
    rank = np.zeros(len(relevance.match_row), np.int64)
    for start, block in source.blocks():
        count_ranks(block, start, relevance=relevance, rank=rank)
        if pairs is not None:
            pairs.add(block, start, relevance=relevance)
    owner = np.repeat(np.arange(relevance.count_query), np.diff(relevance.match_start))
    order = np.lexsort((rank, owner))
    return Ranking(relevance.match_start, rank[order], relevance.match_row[order], relevance.kept)


def _require_same_shape(source: DistanceSource, relevance: Relevance) -> None:
    """Raise `ValueError` unless both have the same shape; compiled loops do not check bounds."""
    if source.shape != (relevance.count_query, relevance.count_gallery):
        expected = (relevance.count_query, relevance.count_gallery)
        raise ValueError(f"distances have shape {source.shape}, relevance has {expected}")
    for rows in (relevance.match_row, relevance.left_out_row):
        if len(rows) and not 0 <= rows.min() <= rows.max() < relevance.count_gallery:
            raise ValueError(f"relevance names gallery rows outside 0..{relevance.count_gallery - 1}")
    for starts, rows in (
        (relevance.match_start, relevance.match_row),
        (relevance.left_out_start, relevance.left_out_row),
    ):
        if len(starts) != relevance.count_query + 1 or starts[0] != 0 or starts[-1] != len(rows):
            raise ValueError("the compressed rows of relevance do not fit its queries")


def count_ranks(block: torch.Tensor, start: int, *, relevance: Relevance, rank: Ints) -> None:
    """Fill `rank` (M,) for the matches of the queries start..start+B of a (B, G) block."""
    assert start + len(block) <= relevance.count_query  # the kernel does not check bounds
    assert block.shape[1] == relevance.count_gallery
    assert len(rank) == len(relevance.match_row)
    if block.device.type != "cpu":
        count_ranks_by_torch(block, start, relevance=relevance, rank=rank)
        return
    distances = block.numpy()
    over_rows(
        lambda first, last: _count_rows(
            distances[first:last],
            start + first,
            relevance.match_start,
            relevance.match_row,
            relevance.left_out_start,
            relevance.left_out_row,
            rank,
        ),
        len(distances),
    )


@compiled()
def _count_rows(
    block: Floats,
    start: int,
    match_start: Ints,
    match_row: Ints,
    left_out_start: Ints,
    left_out_row: Ints,
    rank: Ints,
) -> None:
    for line in range(block.shape[0]):
        row, query = block[line], start + line
        matches = match_row[match_start[query] : match_start[query + 1]]
        ranks = rank[match_start[query] : match_start[query + 1]]
        ranks[:] = 1
        # piece by piece, so that all matches compare while a piece is in the first-level cache
        for first in range(0, row.shape[0], _PIECE):
            last = min(first + _PIECE, row.shape[0])
            for entry in range(matches.shape[0]):
                column = matches[entry]
                middle = min(max(column, first), last)
                ranks[entry] += _count_up_to(row[first:middle], row[column]) + _count_below(
                    row[middle:last], row[column]
                )
        for other in left_out_row[left_out_start[query] : left_out_start[query + 1]]:
            for entry in range(matches.shape[0]):
                column = matches[entry]
                ranks[entry] -= row[other] < row[column] or (row[other] == row[column] and other < column)


@compiled()
def _count_up_to(values: Floats, limit: np.float32) -> np.int32:
    count = np.int32(0)
    for place in range(values.shape[0]):
        count = np.int32(count + (values[place] <= limit))
    return count


@compiled()
def _count_below(values: Floats, limit: np.float32) -> np.int32:
    count = np.int32(0)
    for place in range(values.shape[0]):
        count = np.int32(count + (values[place] < limit))
    return count


def count_ranks_by_torch(block: torch.Tensor, start: int, *, relevance: Relevance, rank: Ints) -> None:
    """Do what `count_ranks` does with torch operations, on whichever device the block is."""
    line, column = _entries(relevance.match_start, relevance.match_row, start, block)
    left_line, left_column = _entries(relevance.left_out_start, relevance.left_out_row, start, block)
    left_values = block[left_line, left_column]
    block[left_line, left_column] = torch.inf
    step = max(_COMPARISONS_AT_ONCE // block.shape[1], 1)
    index = torch.arange(block.shape[1], device=block.device)
    counts = []
    for first in range(0, len(line), step):
        rows = block[line[first : first + step]]  # (C, G)
        match = column[first : first + step, None]
        distance = rows.gather(1, match)
        counts.append(((rows < distance) | ((rows == distance) & (index < match))).sum(dim=1))
    block[left_line, left_column] = left_values
    if counts:
        begin, end = relevance.match_start[start], relevance.match_start[start + len(block)]
        rank[begin:end] = torch.cat(counts).cpu().numpy() + 1


def _entries(starts: Ints, rows: Ints, start: int, block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (line of the block, column) pairs of the compressed rows start..start+B."""
    window = starts[start : start + len(block) + 1]
    line = np.repeat(np.arange(len(block)), np.diff(window))
    columns = rows[window[0] : window[-1]]
    return torch.from_numpy(line).to(block.device), torch.from_numpy(columns).to(block.device)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The first K gallery rows of every query, for pictures and for search.

    Attributes:
        row: (Q, K) gallery rows, nearest first.
        distance: (Q, K) float32.
        relation: (Q, K) `MATCH`, `OTHER` or `LEFT_OUT`.

    """

    row: Ints
    distance: Floats
    relation: Ints


MATCH, OTHER, LEFT_OUT = 1, 0, -1


def nearest(
    source: DistanceSource, relevance: Relevance, *, count: int, left_out: Literal["skip", "show"] = "skip"
) -> Nearest:
    """Return the `count` nearest gallery rows of every query (all of a smaller gallery), ties by row.

    Args:
        source: distances of shape (Q, G).
        relevance: matches and left-out rows of the same Q queries and G gallery rows.
        count: K, >= 1.
        left_out: `show` them at their place, or `skip` them: then they only fill up a list that is too short.

    """
    _require_same_shape(source, relevance)
    count_query, count_gallery = source.shape
    extra = int(np.diff(relevance.left_out_start).max(initial=0)) if left_out == "skip" else 0
    row = np.empty((count_query, min(count + extra, count_gallery)), np.int64)
    distance = np.empty(row.shape, np.float32)
    for start, block in source.blocks():
        lines = slice(start, start + len(block))
        row[lines], distance[lines] = smallest(block, row.shape[1])
    pair = np.arange(count_query)[:, None] * count_gallery + row
    relation = np.full(row.shape, OTHER, np.int64)
    relation[np.isin(pair, _pairs(relevance.match_start, relevance.match_row, count_gallery))] = MATCH
    relation[np.isin(pair, _pairs(relevance.left_out_start, relevance.left_out_row, count_gallery))] = LEFT_OUT
    order = np.broadcast_to(np.arange(row.shape[1]), row.shape)
    if left_out == "skip":
        order = np.argsort(relation == LEFT_OUT, axis=1, kind="stable")
    order = order[:, :count]
    return Nearest(
        row=np.take_along_axis(row, order, axis=1),
        distance=np.take_along_axis(distance, order, axis=1) + np.float32(source.offset),
        relation=np.take_along_axis(relation, order, axis=1),
    )


def _pairs(starts: Ints, rows: Ints, count_gallery: int) -> Ints:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * count_gallery + rows


def average_precision(ranking: Ranking) -> Doubles:
    """Return (Q,) the mean over a query's matches of the precision at each, NaN where there is no match.

    The h-th match at rank r has precision h / r. (The MATLAB original of Market-1501 sums trapezoids instead, which is
    0.2 to 1 point lower.)
    """
    owner = np.repeat(np.arange(len(ranking.kept)), ranking.count_matches)
    hit = np.arange(len(owner)) - ranking.start[owner] + 1
    return _mean_per_query(hit / ranking.rank, ranking)


def _mean_per_query(values: Doubles, ranking: Ranking) -> Doubles:
    owner = np.repeat(np.arange(len(ranking.kept)), ranking.count_matches)
    total = np.bincount(owner, weights=values, minlength=len(ranking.kept))
    mean = np.full(len(ranking.kept), np.nan)
    np.divide(total, ranking.count_matches, out=mean, where=ranking.valid)
    return mean


def inverse_negative_penalty(ranking: Ranking) -> Doubles:
    """Return (Q,) number of matches / rank of the last one, NaN where there is no match.

    Reference: Ye et al., "Deep learning for person re-identification: a survey and outlook", TPAMI 2021, section 4.1.
    """
    penalty = np.full(len(ranking.kept), np.nan)
    last = ranking.rank[ranking.start[1:][ranking.valid] - 1]
    penalty[ranking.valid] = ranking.count_matches[ranking.valid] / last
    return penalty


def cumulative_matches(ranking: Ranking, count_ranks: int) -> Doubles:
    """Return (count_ranks,) the share of valid queries with a match within the first k; the last value repeats when a
    list is shorter than `count_ranks`. All NaN when no query is valid.
    """
    first = ranking.rank[ranking.start[:-1][ranking.valid]]
    if not len(first):
        return np.full(count_ranks, np.nan)
    hits = np.bincount(np.minimum(first, count_ranks + 1), minlength=count_ranks + 2)
    return np.asarray(np.cumsum(hits[1 : count_ranks + 1]) / len(first), np.float64)
