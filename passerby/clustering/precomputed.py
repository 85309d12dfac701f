"""Precomputed graphs of distances for scikit-learn, and the renumbering of its labels."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from passerby.distances.sparse import SparseRows
from passerby.types import Ints

NOISE = -1
"""The label of an image that belongs to no cluster."""


def sorted_rows(graph: SparseRows) -> csr_array:
    """Return the graph in the format of scikit-learn: 32-bit columns, every row by ascending distance."""
    from sklearn.neighbors import sort_graph_by_row_values

    matrix = csr_array(
        (graph.value, graph.column.astype(np.int32), graph.start.astype(np.int32)), shape=(len(graph), len(graph))
    )
    ordered: csr_array = sort_graph_by_row_values(matrix, warn_when_not_sorted=False)
    return ordered


def connected(graph: SparseRows, *, at_least: int) -> csr_array:
    """Return the graph in one piece, with at least as many neighbours for every image, by adding pairs at distance 1.

    Such pairs are at distance 1 in any case, so the hierarchy is the one of the whole matrix.
    """
    matrix = graph.scipy()
    _, piece = connected_components(matrix, directed=False)
    _, first = np.unique(piece, return_index=True)
    rows, columns = [first[:-1]], [first[1:]]
    for image in np.flatnonzero(np.diff(graph.start) < at_least):
        known = graph.column[graph.start[image] : graph.start[image + 1]]
        others = np.setdiff1d(np.arange(min(len(graph), len(known) + at_least)), known)[: at_least - len(known)]
        rows.append(np.full(len(others), image))
        columns.append(others)
    row, column = np.concatenate(rows), np.concatenate(columns)
    one_way = coo_array((np.ones(len(row)), (row, column)), shape=matrix.shape).tocsr()
    added = csr_array(one_way + one_way.T)
    added.data[:] = 1  # some pairs are added twice
    both = matrix.astype(np.float64)
    return csr_array((both + both.T) / 2 + added)


def without_small(labels: Ints, smallest: int) -> Ints:
    """Return the labels with clusters of fewer images turned into noise."""
    names, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(sizes[place] < smallest, NOISE, names[place])
