"""Means of vectors before they are compared: of the images of a query, and of those of a tracklet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passerby.distances.pairwise import Metric
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.types import UNKNOWN, Embeddings, Floats, Ints


def average_queries(embeddings: Embeddings, *, distance: Metric = "cosine") -> Embeddings:
    """Return the embeddings with each query's vector replaced by the mean over its identity and camera.

    The mean is over all query and gallery images of that identity and camera; queries that share both become alike, and
    each still counts. Queries of unknown identity stay as they are.

    Args:
        embeddings: rows with role `query` and `gallery`.
        distance: what will compare them: for `cosine` the vectors are normalised before they are averaged.

    >>> table = Embeddings(np.eye(3, dtype=np.float32), [1, 1, 1], [0, 0, 1], ["query", "gallery", "gallery"])
    >>> average_queries(table).vectors.tolist()
    [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    labelled = embeddings.pid != UNKNOWN
    query = np.flatnonzero((embeddings.role == "query") & labelled)
    rows = np.flatnonzero((embeddings.role != "") & labelled)
    if not len(query):
        return embeddings
    identity_and_camera = np.stack([embeddings.pid, embeddings.cam], axis=1)  # (N, 2)
    _, group = np.unique(identity_and_camera[rows], axis=0, return_inverse=True)
    means = _group_means(embeddings.vectors, rows, group, distance)
    averaged = embeddings.vectors.copy()
    averaged[query] = means[group[np.searchsorted(rows, query)]]
    return replace(embeddings, vectors=averaged)


def average_tracklets(embeddings: Embeddings, *, distance: Metric = "cosine") -> Embeddings:
    """Return one row for each tracklet: the mean of the vectors of its images, with the labels of the first of them.

    Images of no tracklet stay rows of their own, images of different roles different rows. What is a table of tracklets
    already is returned as it is.

    Args:
        embeddings: rows with a column `tracklet`.
        distance: what will compare them: for `cosine` the vectors are normalised before they are averaged.

    Raises:
        UserError: there is no such column, or a tracklet shows two identities or cameras.

    >>> table = Embeddings(np.eye(3, dtype=np.float32), [1, 1, 2], [0, 0, 1], ["query"] * 3, tracklet=[4, 4, -1])
    >>> average_tracklets(table).vectors.tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    if embeddings.unit == "tracklet":
        return embeddings
    if embeddings.tracklet is None:
        raise UserError(
            "unit: 'tracklet' needs to know the tracklet of each image, and there is no column 'tracklet'; use a data "
            "set that has it (mars, ccvid, or a table with that column), or unit: 'image'"
        )
    rows = np.arange(len(embeddings))
    number = np.where(embeddings.tracklet == UNKNOWN, UNKNOWN - 1 - rows, embeddings.tracklet)
    _, role = np.unique(embeddings.role, return_inverse=True)
    _, first, group = np.unique(np.stack([role, number], axis=1), axis=0, return_index=True, return_inverse=True)
    for name, values in (("identities", embeddings.pid), ("cameras", embeddings.cam)):
        mixed = np.flatnonzero(values != values[first][group])
        if len(mixed):
            one = embeddings.tracklet[mixed[0]]
            shown = f"{values[first][group][mixed[0]]} and {values[mixed[0]]}"
            raise UserError(f"tracklet {one} shows two {name} ({shown}); each has one")
    means = _group_means(embeddings.vectors, rows, group, distance)
    order = np.argsort(first)
    return replace(embeddings.select(first[order]), vectors=means[order], unit="tracklet")


def _group_means(vectors: Floats, rows: Ints, group: Ints, distance: Metric) -> Floats:
    """Return the mean vector (G, D) of each group 0..G-1 of `rows`, whose groups `group` names."""
    order = np.argsort(group, kind="stable")
    chosen = vectors[rows[order]]
    if distance == "cosine":
        chosen = unit_rows(chosen)
    count = np.bincount(group)
    sums = np.add.reduceat(chosen, np.cumsum(count) - count, axis=0)
    return np.divide(sums, count[:, None], dtype=np.float32)
