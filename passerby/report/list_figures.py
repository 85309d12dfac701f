"""Figures of ranked lists: images in frames with a sign and a word.

Right, wrong and left out differ by sign, by line style, by word and by colour, so that none of them is needed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from passerby.data.decoding import Pixels, decode
from passerby.distances.pairwise import Metric
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.report.palette import INK, QUIET, RIGHT, WRONG, style
from passerby.report.ranked_lists import (
    Kind,
    LeftOut,
    ListImage,
    Mark,
    RankedList,
    choose_queries,
    describe_list,
    rank_for,
)
from passerby.types import AnyRerank, Cameras, Embeddings

Dashes = str | tuple[float, tuple[float, ...]]
Sign = Literal["tick", "cross", "bar"]

HEADINGS: dict[Kind, str] = {
    "best": "The best lists",
    "worst": "The worst lists",
    "random": "Lists drawn at random",
}
SEED = 0

_FRAMES: dict[Mark, tuple[str, Dashes, Sign | None]] = {
    "query": (INK, "-", None),
    "found": (QUIET, "-", None),
    "same": (RIGHT, "-", "tick"),
    "other": (WRONG, (0, (3, 1.5)), "cross"),
    "own camera": (QUIET, (0, (0.8, 1.2)), "bar"),
    "own file": (QUIET, (0, (0.8, 1.2)), "bar"),
}
_STROKES: dict[Sign, tuple[tuple[tuple[float, float], ...], ...]] = {
    "tick": (((0.06, 0.14), (0.12, 0.06), (0.24, 0.24)),),
    "cross": (((0.06, 0.05), (0.22, 0.23)), ((0.06, 0.23), (0.22, 0.05))),
    "bar": (((0.06, 0.14), (0.22, 0.14)),),
}
_WIDTH, _ROW, _WORDS, _HEADING, _EDGE = 0.95, 2.22, 0.3, 0.42, 0.08  # inches


@dataclass(frozen=True)
class Strip:
    """One row of a figure.

    Attributes:
        ranked: the list.
        words: text above the row.
        heading: heading above the text, once for all rows that follow; `""` for none.
        covers: images (H, W, 3) to draw instead of the files, by file name.

    """

    ranked: RankedList
    words: str
    heading: str = ""
    covers: Mapping[str, Pixels] | None = None


def ranks_figure(
    embeddings: Embeddings,
    *,
    kinds: Sequence[Kind] = ("best", "worst", "random"),
    count: int = 1,
    k: int = 8,
    cameras: Cameras = "standard",
    distance: Metric = "cosine",
    rerank: AnyRerank | None = None,
    left_out: LeftOut = "hide",
    device: str = "cpu",
) -> Figure:
    """Draw the ranked lists of the best, the worst and of random queries.

    Args:
        embeddings: rows with role `query` and `gallery`; images are shown where `path` leads to them.
        kinds: kinds of queries, by the average precision of the plain ranking.
        count: queries of each kind, >= 1, each of another person.
        k: images of each list, >= 1.
        cameras: as in `evaluate`.
        distance: as in `evaluate`.
        rerank: draw every list again below itself, as re-ranking orders it.
        left_out: `show` also draws the images that the rule leaves out.
        device: where the matrix products run.

    Raises:
        UserError: no query can be scored, or count or k below 1.

    """
    queries_by_kind = queries_of_kinds(
        embeddings, kinds=kinds, count=count, cameras=cameras, distance=distance, device=device
    )

    def lists(queries: Sequence[int], how: AnyRerank | None) -> list[RankedList]:
        return rank_for(
            embeddings,
            queries,
            k=k,
            rerank=how,
            cameras=cameras,
            distance=distance,
            left_out=left_out,
            device=device,
        )

    strips: list[Strip] = []
    for kind, queries in queries_by_kind.items():
        again = lists(queries, rerank) if rerank else None
        for number, plain in enumerate(lists(queries, None)):
            heading = HEADINGS[kind] if number == 0 else ""
            if again is None:
                strips.append(Strip(plain, describe_list(plain), heading))
            else:
                strips.append(Strip(plain, f"Plain. {describe_list(plain)}", heading))
                strips.append(Strip(again[number], f"With re-ranking. {describe_list(again[number], short=True)}"))
    return draw_strips(strips)


def queries_of_kinds(
    embeddings: Embeddings,
    *,
    kinds: Sequence[Kind],
    count: int,
    cameras: Cameras,
    distance: Metric,
    device: str = "cpu",
) -> dict[Kind, list[int]]:
    """Return the best, worst or random queries by kind; the arguments are those of `ranks_figure`."""
    if count < 1:
        raise UserError(f"at least one query of each kind is needed, got a count of {count}")
    scores = evaluate(embeddings, cameras=cameras, distance=distance, device=device, verification=False)
    pid = embeddings.query.pid
    return {
        kind: choose_queries(scores, kind=kind, count=count, pid=pid, generator=np.random.default_rng(SEED))
        for kind in kinds
    }


def draw_lists(lists: Sequence[RankedList]) -> Figure:
    """Draw one list per row: the query at the left, then the images found, nearest first."""
    return draw_strips([Strip(ranked, describe_list(ranked)) for ranked in lists])


def draw_strips(strips: Sequence[Strip], *, below: float = 0.0) -> Figure:
    """Draw rows of framed images with the words above them.

    Args:
        strips: the rows.
        below: inches to leave free below the last row.

    """
    columns = 1 + max((len(strip.ranked.shots) for strip in strips), default=0)
    heights = [_ROW + _WORDS * bool(strip.words) + _HEADING * bool(strip.heading) for strip in strips]
    width, height = _WIDTH * columns + 0.3, max(sum(heights), _ROW) + below
    with style():
        figure = Figure(figsize=(width, height), facecolor="white")
        top = height
        for strip, tall in zip(strips, heights, strict=True):
            bottom = top - tall
            _write_above(figure, strip, top=top, width=width, height=height)
            for column, shot in enumerate((strip.ranked.query, *strip.ranked.shots)):
                left = _WIDTH * (column + 0.06) + 0.24 * (column > 0)
                place = (left / width, (bottom + _EDGE) / height, 0.86 * _WIDTH / width, (_ROW - _EDGE) / height)
                draw_shot(figure.add_axes(place), shot, cover=(strip.covers or {}).get(shot.path))
            top = bottom
    return figure


def _write_above(figure: Figure, strip: Strip, *, top: float, width: float, height: float) -> None:
    left = 0.06 * _WIDTH / width
    if strip.heading:
        figure.text(left, (top - 0.1) / height, strip.heading, va="top", fontsize=12, fontweight="bold")
    if strip.words:
        y = top - _HEADING * bool(strip.heading) - 0.08
        figure.text(left, y / height, strip.words, va="top", fontsize=9)


def draw_shot(panel: Axes, shot: ListImage, *, cover: Pixels | None = None) -> None:
    """Draw one image with its frame, sign and word; `cover` is drawn in its place where there is one."""
    pixels = read_shot(shot.path) if cover is None else cover
    panel.set_axis_off()
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 2.35)
    if pixels is None:
        panel.text(0.5, 1.3, "image\nnot found", ha="center", va="center", fontsize=7, color=QUIET)
    else:
        panel.imshow(pixels, extent=(0.04, 0.96, 0.36, 2.2), aspect="auto", interpolation="bicubic")
    colour, dashes, sign = _FRAMES[shot.mark]
    frame = Rectangle((0.02, 0.34), 0.96, 1.88, fill=False, edgecolor=colour, linestyle=dashes, linewidth=2.6)
    frame.set_gid(shot.mark)
    panel.add_patch(frame)
    if sign is None:
        panel.text(0.5, 0.14, shot.caption or shot.mark, ha="center", va="center", fontsize=8)
        return
    label = f"{shot.rank} {shot.mark}" if shot.rank else shot.mark
    panel.text(0.29, 0.14, label, ha="left", va="center", fontsize=8 if shot.rank else 7)
    for stroke in _STROKES[sign]:  # lines, so that no font is needed
        x, y = zip(*stroke, strict=True)
        panel.plot(x, y, color=colour, linewidth=2.2, gid=sign)


def read_shot(path: str) -> Pixels | None:
    """Return the image (H, W, 3) uint8, or None when the file is not there or not readable."""
    if not path:
        return None
    try:
        return decode(Path(path))
    except UserError:
        return None
