"""Galleries of lifelong evaluation: several data sets merged, or the vectors of an earlier model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passerby.errors import UserError
from passerby.types import UNKNOWN, Embeddings, Ints


def merge_sites(sites: Sequence[Embeddings]) -> Embeddings:
    """Put sites together into one search, their people and cameras kept apart even where their numbers agree.

    Every query is then looked for among the images of all sites, which is harder than the mean over the sites tells.

    Args:
        sites: the embeddings of one model, at least one.

    Raises:
        UserError: none given, or vectors that cannot be compared.

    >>> one = Embeddings(np.eye(2, dtype=np.float32), [4, 4], [0, 1], ["query", "gallery"], dataset="a")
    >>> merged = merge_sites([one, replace(one, dataset="b")])
    >>> merged.dataset, merged.pid.tolist(), merged.cam.tolist()
    ('a + b', [0, 0, 1, 1], [0, 1, 2, 3])
    """
    if not sites:
        raise UserError("there is no site to merge")
    _require_one_space(sites)
    paths = [site.path for site in sites if site.path is not None]
    return replace(
        sites[0],
        vectors=np.concatenate([site.vectors for site in sites]),
        pid=_apart([site.pid for site in sites]),
        cam=_apart([site.cam for site in sites]),
        role=np.concatenate([site.role for site in sites]),
        path=np.concatenate(paths) if len(paths) == len(sites) else None,
        dataset=" + ".join(site.dataset for site in sites),
    )


def search_earlier(new: Embeddings, old: Embeddings) -> Embeddings:
    """Return the queries of one model with the gallery of an earlier one, as when a new model meets stored vectors.

    Args:
        new: of the present model; its queries are taken.
        old: of the earlier one; its gallery is taken.

    Returns:
        The joined table, whose feature says that the gallery is an earlier model's.

    Raises:
        UserError: vectors of different lengths, or of different sites.

    Reference: Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020 (the cross test).

    """
    query, gallery = new.query, old.gallery
    if new.dataset != old.dataset:
        raise UserError(f"the queries are of {new.dataset!r} and the earlier gallery is of {old.dataset!r}")
    _require_one_space([query, gallery])
    paths = None if query.path is None or gallery.path is None else np.concatenate([query.path, gallery.path])
    return replace(
        new,
        vectors=np.concatenate([query.vectors, gallery.vectors]),
        pid=np.concatenate([query.pid, gallery.pid]),
        cam=np.concatenate([query.cam, gallery.cam]),
        role=np.concatenate([query.role, gallery.role]),
        path=paths,
        feature=f"{new.feature}, the gallery's by an earlier model",
    )


def _require_one_space(tables: Sequence[Embeddings]) -> None:
    first = tables[0]
    for other in tables[1:]:
        if first.vectors.shape[1] != other.vectors.shape[1]:
            lengths = f"{first.vectors.shape[1]} and {other.vectors.shape[1]}"
            raise UserError(f"vectors of {lengths} numbers cannot be compared")
        for name in ("feature", "flip", "input_mask"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise UserError(f"vectors that differ in {name} ({mine} and {theirs}) cannot be compared")


def _apart(columns: Sequence[Ints]) -> Ints:
    """Renumber each column from 0 after the numbers of the one before; unknown stays unknown."""
    found, offset = [], 0
    for column in columns:
        names, numbers = np.unique(column, return_inverse=True)
        found.append(np.where(column == UNKNOWN, UNKNOWN, numbers + offset))
        offset += len(names)
    return np.concatenate(found)
