"""Galleries of lifelong evaluation: several data sets merged, or the vectors of an earlier model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passerby.errors import UserError
from passerby.types import Embeddings
from passerby.types.columns import Ints, relabel_apart, relabel_known


def merge_sites(sites: Sequence[Embeddings]) -> Embeddings:
    """Merge data sets into one search, with disjoint identities and cameras.

    Every query is then searched among the images of all data sets, which is harder than in each alone.

    Args:
        sites: the embeddings of one model on each data set, at least one.

    Raises:
        UserError: none given, or vectors that cannot be compared.

    >>> one = Embeddings(np.eye(2, dtype=np.float32), [4, 4], [0, 1], ["query", "gallery"], dataset="a")
    >>> merged = merge_sites([one, replace(one, dataset="b")])
    >>> merged.dataset, merged.pid.tolist(), merged.cam.tolist()
    ('a + b', [0, 0, 1, 1], [0, 1, 2, 3])
    """
    if not sites:
        raise UserError("there is no data set to merge")
    _require_one_space(sites)
    paths, counts = [site.path for site in sites if site.path is not None], [len(site) for site in sites]
    return replace(
        sites[0],
        vectors=np.concatenate([site.vectors for site in sites]),
        pid=relabel_apart([site.pid for site in sites]),
        cam=relabel_apart([site.cam for site in sites]),
        role=np.concatenate([site.role for site in sites]),
        path=np.concatenate(paths) if len(paths) == len(sites) else None,
        dataset=" + ".join(site.dataset for site in sites),
        clothes=relabel_known([site.clothes for site in sites], counts),
        tracklet=relabel_known([site.tracklet for site in sites], counts),
    )


def search_earlier(new: Embeddings, old: Embeddings) -> Embeddings:
    """Return the queries of one model with the gallery of an earlier one, as for a gallery of stored vectors.

    Args:
        new: embeddings of the present model, for the queries.
        old: embeddings of the earlier model, for the gallery.

    Returns:
        The joined table; its `feature` names the earlier model.

    Raises:
        UserError: vectors of different lengths, or of different data sets.

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
        clothes=_joined(query.clothes, gallery.clothes),
        tracklet=_joined(query.tracklet, gallery.tracklet),
    )


def _joined(query: Ints | None, gallery: Ints | None) -> Ints | None:
    return None if query is None or gallery is None else np.concatenate([query, gallery])


def _require_one_space(tables: Sequence[Embeddings]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if first.vectors.shape[1] != table.vectors.shape[1]:
            lengths = f"{first.vectors.shape[1]} and {table.vectors.shape[1]}"
            raise UserError(f"vectors of {lengths} numbers cannot be compared")
        for name in ("feature", "flip", "input_mask", "unit"):
            expected, value = getattr(first, name), getattr(table, name)
            if expected != value:
                raise UserError(f"vectors that differ in {name} ({expected} and {value}) cannot be compared")
