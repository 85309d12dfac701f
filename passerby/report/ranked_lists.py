"""Ranked lists of queries, with the relevance of each image.

A list is that of the protocol: it has no images of unknown identity, and images that the camera rule leaves out (same
person, same camera) have no rank and are shown on request only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.distances.camera_jaccard import rerank_any
from passerby.distances.pairwise import DistanceSource, Metric, pairwise
from passerby.errors import UserError
from passerby.metrics.relevance import relevance
from passerby.types import UNKNOWN, AnyRerank, Bools, Cameras, Clothes, Embeddings, Floats, Ints, Scores, Split

Kind = Literal["best", "worst", "random"]
LeftOut = Literal["hide", "show"]
Mark = Literal["query", "found", "same", "other", "own camera", "own file"]


@dataclass(frozen=True)
class ListImage:
    """One image of a list.

    Attributes:
        path: the file, `""` when unknown.
        pid, cam: as in `Split`.
        rank: rank in the list from 1; 0 for the query and for images that the rule leaves out.
        mark: `same` or `other` person than the query; `own camera` or `own file` where the rule leaves the image out;
            `found` where identities are unknown.
        caption: text below the image in place of the mark.

    """

    path: str
    pid: int
    cam: int
    rank: int
    mark: Mark
    caption: str = ""

    @property
    def right(self) -> bool:
        """Whether the image is a correct match."""
        return self.mark == "same"


@dataclass(frozen=True)
class RankedList:
    """The ranked list of one query.

    Attributes:
        query: the image that was searched for.
        shots: the first K of the list, nearest first; where none of them is right, the first right one follows them.
        hits: 1-based ranks of all right images of the gallery.
        count: length of the whole list, without what the rule leaves out.

    """

    query: ListImage
    shots: tuple[ListImage, ...]
    hits: tuple[int, ...]
    count: int

    @property
    def ap(self) -> float:
        """Average precision in [0, 1], NaN without a right image."""
        return float(np.mean([(h + 1) / rank for h, rank in enumerate(self.hits)])) if self.hits else float("nan")


def choose_queries(
    scores: Scores, *, kind: Kind, count: int, pid: Ints, generator: np.random.Generator | None = None
) -> list[int]:
    """Return up to `count` valid queries as numbers 0..Q-1, each of another person.

    Args:
        scores: of the plain ranking.
        kind: `best` or `worst` by average precision (ties by number), or `random`.
        count: how many, >= 1.
        pid: (Q,) identities of the queries.
        generator: for `random`, where it is needed.

    """
    valid = np.flatnonzero(scores.valid)
    if kind == "random":
        assert generator is not None, "random queries need a generator"
        order = generator.permutation(valid)
    else:
        ap = scores.ap[valid]
        order = valid[np.argsort(-ap if kind == "best" else ap, kind="stable")]
    _, first = np.unique(pid[order], return_index=True)
    return [int(query) for query in order[np.sort(first)[:count]]]


def rank_for(
    embeddings: Embeddings,
    queries: Sequence[int],
    *,
    k: int = 8,
    rerank: AnyRerank | None = None,
    cameras: Cameras = "standard",
    distance: Metric = "cosine",
    clothes: Clothes = "general",
    left_out: LeftOut = "hide",
    device: str = "cpu",
) -> list[RankedList]:
    """Return the ranked lists of some queries.

    Args:
        embeddings: rows with role `query` and `gallery`.
        queries: which, as numbers 0..Q-1 among the rows with role `query`.
        k: images to keep of each list, >= 1.
        rerank: parameters of re-ranking, or None.
        cameras: as in `evaluate`.
        distance: as in `evaluate`.
        clothes: as in `evaluate`.
        left_out: `show` puts the images that the rule leaves out where a search would show them; they take places
            among the `k`, but no ranks.
        device: where the matrix products run.

    Raises:
        UserError: a number that is no query, or k below 1.

    """
    query = embeddings.query
    gallery = embeddings.select((embeddings.role == "gallery") & (embeddings.pid != UNKNOWN))
    outside = [number for number in queries if not 0 <= number < len(query)]
    if outside or k < 1:
        raise UserError(f"ranked lists need k >= 1 and queries from 0 to {len(query) - 1}, got k={k} and {outside}")
    rows = np.asarray(queries, dtype=np.int64)
    selected = query.select(rows)
    allowed = relevance(_columns(selected), _columns(gallery), cameras=cameras, clothes=clothes)
    # re-ranking looks at all queries, so only the plain distances may be made for the chosen ones alone
    if rerank is None:
        distances = _take(
            pairwise(selected.vectors, gallery.vectors, metric=distance, device=device), np.arange(len(rows))
        )
    else:
        vectors, cam = (query.vectors, gallery.vectors), (query.cam, gallery.cam)
        distances = _take(rerank_any(*vectors, cam, parameters=rerank, metric=distance, device=device), rows)
    lists = []
    for line in range(len(rows)):
        left_out_rows = allowed.left_out_row[allowed.left_out_start[line] : allowed.left_out_start[line + 1]]
        matches = allowed.match_row[allowed.match_start[line] : allowed.match_start[line + 1]]
        order = np.argsort(distances[line], kind="stable")
        marks = _Marks(order, right=np.isin(order, matches), left_out=np.isin(order, left_out_rows), cameras=cameras)
        lists.append(_list(selected, line, gallery, marks=marks, k=k, left_out=left_out))
    return lists


@dataclass(frozen=True, eq=False)
class _Marks:
    """The whole gallery in the order of one search: rows (G,), and which of them are right or left out."""

    order: Ints
    right: Bools
    left_out: Bools
    cameras: Cameras

    def of(self, place: int) -> Mark:
        if self.left_out[place]:
            return "own camera" if self.cameras == "standard" else "own file"
        return "same" if self.right[place] else "other"


def _list(
    queries: Embeddings, line: int, gallery: Embeddings, *, marks: _Marks, k: int, left_out: LeftOut
) -> RankedList:
    rank = np.cumsum(~marks.left_out)  # of the places that are not left out
    listed = np.flatnonzero(~marks.left_out) if left_out == "hide" else np.arange(len(marks.order))
    first_right = np.flatnonzero(marks.right)[:1]
    positions = [*listed[:k], *(place for place in first_right if place not in listed[:k])]
    return RankedList(
        query=_shot(queries, line, rank=0, mark="query"),
        shots=tuple(
            _shot(
                gallery, int(marks.order[at]), rank=0 if marks.left_out[at] else int(rank[at]), mark=marks.of(int(at))
            )
            for at in positions
        ),
        hits=tuple(int(hit) for hit in rank[marks.right]),
        count=int((~marks.left_out).sum()),
    )


def _shot(table: Embeddings, row: int, *, rank: int, mark: Mark) -> ListImage:
    path = "" if table.path is None else str(table.path[row])
    return ListImage(path, int(table.pid[row]), int(table.cam[row]), rank, mark)


def _columns(table: Embeddings) -> Split:
    path = np.full(len(table), "") if table.path is None else table.path
    return Split(path=path, pid=table.pid, cam=table.cam, clothes=table.clothes)


def _take(source: DistanceSource, rows: Ints) -> Floats:
    """Return the chosen rows (R, G) of a source."""
    distances = np.empty((len(rows), source.shape[1]), np.float32)
    for start, block in source.blocks():
        inside = (rows >= start) & (rows < start + len(block))
        distances[inside] = block.cpu().numpy()[rows[inside] - start]
    return distances


def describe_list(ranked: RankedList, *, short: bool = False) -> str:
    """Return one line about a list: who (not when `short`), how well, and where the first right image is."""
    subject = "" if short else f"Person {ranked.query.pid}, camera {ranked.query.cam}: "
    if not ranked.hits:
        return f"{subject}no right image in the gallery."
    if ranked.hits[-1] == len(ranked.hits):
        return f"{subject}AP 100 %, all {len(ranked.hits)} right images come first."
    position = "the only right image" if len(ranked.hits) == 1 else f"the first of {len(ranked.hits)} right images"
    return f"{subject}AP {100 * ranked.ap:.0f} %, {position} is at rank {ranked.hits[0]} of {ranked.count}."
