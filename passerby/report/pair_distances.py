"""Distances of same-identity and different-identity pairs, and their separation by a threshold.

All pairs of the protocol are counted on a fine grid, block by block, without a whole distance matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from passerby.distances.pairwise import Metric, pairwise
from passerby.errors import UserError
from passerby.metrics.relevance import relevance
from passerby.metrics.verification import COUNT_STEPS, PairCounts
from passerby.report.palette import BLUE, ORANGE, QUIET, VERMILION, style
from passerby.types import UNKNOWN, Cameras, Doubles, Embeddings, Ints, Split

FPR = 0.01
_BARS = 48


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and a gallery image, counted by their distance.

    Attributes:
        edges: (COUNT_STEPS + 1,) distances between which the counts lie, rising.
        same: (COUNT_STEPS,) pairs of the same person, without what the rule leaves out.
        other: (COUNT_STEPS,) pairs of different people from different cameras.
        other_same_camera: (COUNT_STEPS,) pairs of different people from the same camera.
        threshold: the distance below which 1 % of the pairs of different people lie.
        tpr: share of the pairs of the same person below it.
        metric: the distance.

    """

    edges: Doubles
    same: Ints
    other: Ints
    other_same_camera: Ints
    threshold: float
    tpr: float
    metric: Metric

    @property
    def different(self) -> Ints:
        """(COUNT_STEPS,) all pairs of different people."""
        return self.other + self.other_same_camera

    @property
    def overlap(self) -> float:
        """The lowest balanced error rate of a threshold.

        0: a threshold separates them; 0.5: none is better than chance.
        """
        missed = 1 - np.concatenate([[0], np.cumsum(self.same)]) / self.same.sum()
        accepted = np.concatenate([[0], np.cumsum(self.different)]) / self.different.sum()
        return float((missed + accepted).min() / 2)

    def __str__(self) -> str:
        """Two sentences for a reader."""
        return (
            "A threshold that takes 1 % of the pairs of different people for the same person "
            f"({self.metric} distance {self.threshold:.3g}) finds {100 * self.tpr:.0f} % of the pairs of the same "
            f"person and misses the others. Even the best threshold is wrong for {100 * self.overlap:.0f} % of the "
            "pairs, both kinds weighing alike."
        )


def count_pairs(
    embeddings: Embeddings, *, cameras: Cameras = "standard", distance: Metric = "cosine", device: str = "cpu"
) -> Pairs:
    """Count all pairs of query and gallery by their distance.

    Args:
        embeddings: rows with role `query` and `gallery`.
        cameras: `standard` leaves out pairs of the same person and camera, `ignore` only a file with itself.
        distance: `cosine` in [0, 2], or squared `euclidean`.
        device: where the matrix products run.

    Raises:
        UserError: no pair of the same person, or none of different people.

    """
    query = embeddings.query.select(embeddings.query.pid != UNKNOWN)
    gallery = embeddings.gallery.select(embeddings.gallery.pid != UNKNOWN)
    source = pairwise(query.vectors, gallery.vectors, metric=distance) if len(query) and len(gallery) else None
    bounds = source.bounds if source is not None else (0.0, 1.0)
    every = _counted(query, gallery, cameras=cameras, distance=distance, bounds=bounds, device=device)
    same_camera = np.zeros(COUNT_STEPS, np.int64)
    for cam in np.unique(query.cam[query.cam != UNKNOWN]):
        of_camera = query.select(query.cam == cam), gallery.select(gallery.cam == cam)
        same_camera += _counted(*of_camera, cameras="ignore", distance=distance, bounds=bounds, device=device).different
    if not every.same.any() or not every.different.any():
        missing = "different people" if every.same.any() else "the same person"
        raise UserError(f"distances within and between people need both, but there is no pair of {missing}")
    offset = 0.0 if source is None else source.offset
    return Pairs(
        edges=offset + np.linspace(*bounds, COUNT_STEPS + 1),
        same=every.same,
        other=every.different - same_camera,
        other_same_camera=same_camera,
        threshold=offset + float(every.thresholds(np.array([FPR]))[0]),
        tpr=float(every.rates(np.array([FPR]))[0]),
        metric=distance,
    )


def _counted(
    query: Embeddings,
    gallery: Embeddings,
    *,
    cameras: Cameras,
    distance: Metric,
    bounds: tuple[float, float],
    device: str,
) -> PairCounts:
    counts = PairCounts(bounds)
    if len(query) and len(gallery):
        allowed = relevance(_columns(query), _columns(gallery), cameras=cameras)
        for start, block in pairwise(query.vectors, gallery.vectors, metric=distance, device=device).blocks():
            counts.add(block, start, relevance=allowed)
    return counts


def _columns(table: Embeddings) -> Split:
    path = np.full(len(table), "") if table.path is None else table.path
    return Split(path=path, pid=table.pid, cam=table.cam)


def distances_figure(pairs: Pairs) -> Figure:
    """Draw the distance distributions of same-identity and different-identity pairs."""
    first, last = _range_shown(pairs)
    edges = np.linspace(pairs.edges[first], pairs.edges[last], _BARS + 1)
    series = (
        ("same person, other cameras", pairs.same, BLUE, "-"),
        ("other person, other cameras", pairs.other, VERMILION, "--"),
        ("other person, same camera", pairs.other_same_camera, ORANGE, ":"),
    )
    with style():
        figure = Figure(figsize=(4.8, 3.6), layout="constrained", facecolor="white")
        panel = figure.subplots()
        for label, counts, colour, line in series:
            if counts.any():
                shares = _shares(pairs, counts, edges)
                panel.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.8, label=label)
        both = np.minimum(_shares(pairs, pairs.same, edges), _shares(pairs, pairs.different, edges))
        panel.stairs(
            both, edges, fill=True, facecolor="none", edgecolor=QUIET, hatch="////", linewidth=0, label="overlap"
        )
        _mark_threshold(panel, pairs)
        panel.set_xlim(edges[0], edges[-1])
        panel.set_ylim(0, 1.28 * panel.get_ylim()[1])  # room for the words about the threshold
        panel.set_xlabel("cosine distance" if pairs.metric == "cosine" else "squared Euclidean distance")
        panel.set_ylabel("% of the pairs of a kind")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6))
        figure.legend(loc="outside upper left", ncols=2, fontsize=8, handlelength=2.4)
    return figure


def _range_shown(pairs: Pairs) -> tuple[int, int]:
    """Return the range of steps of the grid with pairs, with a margin."""
    filled = np.flatnonzero(pairs.same + pairs.different)
    room = max(1, (filled[-1] - filled[0]) // 50)
    return max(int(filled[0] - room), 0), min(int(filled[-1] + 1 + room), COUNT_STEPS)


def _shares(pairs: Pairs, counts: Ints, edges: Doubles) -> Doubles:
    """Return (bars,) the percent of the counts between two edges each; a step of the grid belongs where it begins."""
    below = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(100 * np.diff(below[np.searchsorted(pairs.edges, edges - 1e-12)]) / counts.sum(), np.float64)


def _mark_threshold(panel: Axes, pairs: Pairs) -> None:
    panel.axvline(pairs.threshold, color=QUIET, linewidth=1.2, linestyle=(0, (6, 2)))
    right = pairs.threshold > np.mean(panel.get_xlim())
    panel.annotate(
        f"1 % of other people,\n{100 * pairs.tpr:.0f} % of the same\nare nearer than {pairs.threshold:.3g}",
        (pairs.threshold, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=8,
    )
