"""Ranked lists: what the search answers to a query, which answers are right, and pictures of them.

A list is as the protocol scores it: images that the rule leaves out (same person, same camera) and junk are no part of
it. Right and wrong differ by sign, frame and word; colour only helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from passerby.data.loading import decode
from passerby.distances.kreciprocal import rerank as rerank_distances
from passerby.distances.pairwise import DistanceSource, Metric, pairwise
from passerby.errors import UserError
from passerby.metrics.relevance import relevance
from passerby.report.palette import INK, QUIET, RIGHT, WRONG, style
from passerby.types import UNKNOWN, Cameras, Embeddings, Floats, Ints, Rerank, Scores, Split

Kind = Literal["best", "worst", "random"]


@dataclass(frozen=True)
class Shot:
    """One image of a list.

    Attributes:
        path: the file, `""` when unknown.
        pid, cam: as in `Split`.
        rank: place in the list from 1; 0 for the query.
        right: whether it shows the person of the query.

    """

    path: str
    pid: int
    cam: int
    rank: int
    right: bool


@dataclass(frozen=True)
class RankedList:
    """The answer to one query.

    Attributes:
        query: the image that was searched for.
        shots: the first K of the list, nearest first; where none of them is right, the first right one follows them.
        hits: 1-based ranks of all right images of the gallery.
        count: length of the whole list.

    """

    query: Shot
    shots: tuple[Shot, ...]
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
    rerank: Rerank | None = None,
    cameras: Cameras = "standard",
    distance: Metric = "cosine",
) -> list[RankedList]:
    """Return the ranked lists of some queries.

    Args:
        embeddings: rows with role `query` and `gallery`.
        queries: which, as numbers 0..Q-1 among the rows with role `query`.
        k: images to keep of each list, >= 1.
        rerank: parameters of k-reciprocal re-ranking, or None.
        cameras: as in `evaluate`.
        distance: as in `evaluate`.

    Raises:
        UserError: a number that is no query, or k below 1.

    """
    query = embeddings.query
    gallery = embeddings.select((embeddings.role == "gallery") & (embeddings.pid != UNKNOWN))
    outside = [number for number in queries if not 0 <= number < len(query)]
    if outside or k < 1:
        raise UserError(f"ranked lists need k >= 1 and queries from 0 to {len(query) - 1}, got k={k} and {outside}")
    rows = np.asarray(queries, dtype=np.int64)
    chosen = query.select(rows)
    allowed = relevance(_columns(chosen), _columns(gallery), cameras=cameras)
    # re-ranking looks at all queries, so only the plain distances may be made for the chosen ones alone
    if rerank is None:
        distances = _take(pairwise(chosen.vectors, gallery.vectors, metric=distance), np.arange(len(rows)))
    else:
        source = rerank_distances(query.vectors, gallery.vectors, parameters=rerank, metric=distance)
        distances = _take(source, rows)
    lists = []
    for line in range(len(rows)):
        left_out = allowed.left_out_row[allowed.left_out_start[line] : allowed.left_out_start[line + 1]]
        order = np.argsort(distances[line], kind="stable")
        order = order[~np.isin(order, left_out)]
        matches = allowed.match_row[allowed.match_start[line] : allowed.match_start[line + 1]]
        lists.append(_list(chosen, line, gallery, order=order, right=np.isin(order, matches), k=k))
    return lists


def _list(chosen: Embeddings, line: int, gallery: Embeddings, *, order: Ints, right: np.ndarray, k: int) -> RankedList:
    hits = np.flatnonzero(right)
    shown = [*range(min(k, len(order))), *(hits[:1] if len(hits) and hits[0] >= k else [])]
    return RankedList(
        query=_shot(chosen, line, rank=0, right=True),
        shots=tuple(_shot(gallery, int(order[at]), rank=int(at) + 1, right=bool(right[at])) for at in shown),
        hits=tuple(int(hit) + 1 for hit in hits),
        count=len(order),
    )


def _shot(table: Embeddings, row: int, *, rank: int, right: bool) -> Shot:
    path = "" if table.path is None else str(table.path[row])
    return Shot(path, int(table.pid[row]), int(table.cam[row]), rank, right)


def _columns(table: Embeddings) -> Split:
    path = np.full(len(table), "") if table.path is None else table.path
    return Split(path=path, pid=table.pid, cam=table.cam)


def _take(source: DistanceSource, rows: Ints) -> Floats:
    """Return the chosen rows (R, G) of a source."""
    taken = np.empty((len(rows), source.shape[1]), np.float32)
    for start, block in source.blocks():
        inside = (rows >= start) & (rows < start + len(block))
        taken[inside] = block.cpu().numpy()[rows[inside] - start]
    return taken


# ---- pictures


def read_shot(path: str) -> np.ndarray | None:
    """Return the image (H, W, 3) uint8, or None when the file is not there or not readable."""
    if not path:
        return None
    try:
        return decode(Path(path))
    except UserError:
        return None


def ranked_lists(
    embeddings: Embeddings,
    queries: Sequence[int],
    *,
    k: int = 8,
    rerank: Rerank | None = None,
    cameras: Cameras = "standard",
    distance: Metric = "cosine",
) -> Figure:
    """Draw the ranked lists of some queries; the arguments are those of `rank_for`."""
    return draw_lists(rank_for(embeddings, queries, k=k, rerank=rerank, cameras=cameras, distance=distance))


def draw_lists(lists: Sequence[RankedList]) -> Figure:
    """Draw one list per row: the query at the left, then the images found, nearest first."""
    columns = 1 + max((len(found.shots) for found in lists), default=0)
    with style():
        figure = Figure(figsize=(0.95 * columns + 0.3, 2.55 * max(len(lists), 1)), facecolor="white")
        for line, found in enumerate(lists):
            top = 1 - line / len(lists)
            figure.text(0.012, top - 0.10 / len(lists), describe(found), va="bottom", fontsize=9)
            for column, shot in enumerate((found.query, *found.shots)):
                place = ((column + 0.06 + 0.25 * (column > 0)) / (columns + 0.3), top - 0.94 / len(lists))
                panel = figure.add_axes((*place, 0.86 / (columns + 0.3), 0.80 / len(lists)))
                _draw_shot(panel, shot)
    return figure


def describe(found: RankedList, *, short: bool = False) -> str:
    """Return one line about a list: who (not when `short`), how well, and where the first right image is."""
    who = "" if short else f"Person {found.query.pid}, camera {found.query.cam}: "
    if not found.hits:
        return f"{who}no right image in the gallery."
    if found.hits[-1] == len(found.hits):
        return f"{who}AP 100 %, all {len(found.hits)} right images come first."
    rest = "the only right image" if len(found.hits) == 1 else f"the first of {len(found.hits)} right images"
    return f"{who}AP {100 * found.ap:.0f} %, {rest} is at rank {found.hits[0]} of {found.count}."


def _draw_shot(panel: Axes, shot: Shot) -> None:
    """Draw one image with its frame and words."""
    rank, pixels = shot.rank, read_shot(shot.path)
    panel.set_axis_off()
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 2.35)
    if pixels is None:
        panel.text(0.5, 1.3, "image\nnot found", ha="center", va="center", fontsize=7, color=QUIET)
    else:
        panel.imshow(pixels, extent=(0.04, 0.96, 0.36, 2.2), aspect="auto", interpolation="bicubic")
    colour, dashes, word = (INK, "-", "query") if rank == 0 else _marking(shot)
    panel.add_patch(
        Rectangle((0.02, 0.34), 0.96, 1.88, fill=False, edgecolor=colour, linestyle=dashes, linewidth=2.6, gid=word)
    )
    label = word if rank == 0 else f"{rank} {word}"
    panel.text(0.31 if rank else 0.5, 0.14, label, ha="left" if rank else "center", va="center", fontsize=8)
    if rank:
        _draw_sign(panel, right=shot.right, colour=colour)


def _marking(shot: Shot) -> tuple[str, str, str]:
    return (RIGHT, "-", "same") if shot.right else (WRONG, (0, (3, 1.5)), "other")  # type: ignore[return-value]


def _draw_sign(panel: Axes, *, right: bool, colour: str) -> None:
    """Draw a tick or a cross as lines, so that no font is needed."""
    strokes = (
        [[(0.06, 0.14), (0.12, 0.06), (0.24, 0.24)]]
        if right
        else [
            [(0.06, 0.05), (0.22, 0.23)],
            [(0.06, 0.23), (0.22, 0.05)],
        ]
    )
    for stroke in strokes:
        x, y = zip(*stroke, strict=True)
        panel.plot(x, y, color=colour, linewidth=2.2, gid="tick" if right else "cross")
