"""Figures of clusters: images, DBSCAN radius, transitions and quality over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from passerby.clustering.moves import MOVES, Move, moves
from passerby.clustering.precomputed import NOISE
from passerby.methods.clustered import unit
from passerby.report.curves import epochs_below
from passerby.report.list_figures import read_shot
from passerby.report.palette import BLUE, GREEN, INK, LOOKS, ORANGE, PURPLE, QUIET, RULE, SKY, look, panels, style
from passerby.training.pseudo_labels import PseudoLabels
from passerby.training.run_log import MetricRecord
from passerby.types import UNKNOWN, Doubles, Floats, Ints

Order = Literal["largest", "doubtful", "outside"]
Frame = tuple[str, str | tuple[float, tuple[float, ...]]]
"""Colour and line."""

SHOWN = 8  # images of a cluster
_NAMED = len(LOOKS)  # people of one cluster who have a frame of their own
_LEFT, _WIDTH, _TALL, _EDGE = 1.9, 0.8, 1.9, 0.1  # inches


# ---- one cluster


@dataclass(frozen=True, eq=False)
class Card:
    """One cluster, or some of the images in none.

    Attributes:
        title: its number, or that it is none.
        rows: (n,) its images among those that were clustered, the nearest to its mean first.
        away: (n,) their cosine distances to the mean, in [0, 2]; NaN where there are no vectors.
        cameras: number of known cameras.
        people: known identities with their numbers of images, most frequent first.
        about: a caption in place of the usual one.

    """

    title: str
    rows: Ints
    away: Doubles
    cameras: int
    people: tuple[tuple[int, int], ...]
    about: str = ""

    @property
    def spread(self) -> float:
        """The mean distance to the mean."""
        return float(self.away.mean())

    def sentence(self, *, shown: int | None = None) -> str:
        """Return a caption, with the number of shown images if not all are."""
        if self.about:
            return self.about
        total = len(self.rows)
        words = [f"{total:,} images" if shown is None or shown >= total else f"{shown:,} of {total:,} images"]
        words += [f"from {_count(self.cameras, 'camera')}"] if self.cameras else []
        words += [] if np.isnan(self.away).any() else [f"spread {self.spread:.2f}"]
        return ", ".join(words)

    def shown_positions(self, count: int = SHOWN) -> Ints:
        """Return the positions in `rows` of the shown images, evenly from the nearest to the farthest."""
        places: Ints = np.unique(
            np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).round().astype(np.int64)
        )
        return places

    def divided(self, count: int) -> list[Card]:
        """Return the same images as cards of at most so many."""
        total = len(self.rows)
        slices = [slice(start, min(start + count, total)) for start in range(0, total, count)]
        return [
            replace(
                self, rows=self.rows[s], away=self.away[s], about=f"{s.start + 1:,} to {s.stop:,} of {total:,} images"
            )
            for s in slices
        ]


def cards(grouping: PseudoLabels, vectors: Floats | None, *, order: Order = "largest") -> list[Card]:
    """Return the clusters, largest first or those of the largest spread, or the images in none as one card.

    Args:
        grouping: the pseudo-labels.
        vectors: (M, D) of the clustered images; None = not available.
        order: order of the clusters; ties by number.

    """
    labels = grouping.clusters
    if order == "outside":
        rows = np.flatnonzero(labels == NOISE)
        return [replace(_card(grouping, "In no cluster", rows, None), people=())] if len(rows) else []
    cards_of_clusters = [
        _card(grouping, f"Cluster {number}", np.flatnonzero(labels == number), vectors)
        for number in range(labels.max(initial=NOISE) + 1)
    ]
    return sorted(
        cards_of_clusters, key=lambda card: -len(card.rows) if order == "largest" else -np.nan_to_num(card.spread)
    )


def _card(labels: PseudoLabels, title: str, rows: Ints, vectors: Floats | None) -> Card:
    away = np.full(len(rows), np.nan)
    if vectors is not None:
        normalised = unit(vectors[rows])
        away = 1 - normalised.astype(np.float64) @ unit(normalised.mean(axis=0, keepdims=True))[0]
        rows, away = rows[(order := np.argsort(away, kind="stable"))], away[order]
    pids = labels.truth[labels.hidden][rows]
    people, counts = np.unique(pids[pids != UNKNOWN], return_counts=True)
    ranked = sorted(zip(people.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
    return Card(title, rows, away, _count_cameras(labels, rows), tuple(ranked))


def _count_cameras(labels: PseudoLabels, rows: Ints) -> int:
    """Return the number of known cameras of some clustered images; cameras of two data sets are distinct."""
    cam = labels.cam[labels.hidden][rows]
    dataset = np.full(len(rows), "") if labels.dataset is None else labels.dataset[labels.hidden][rows]
    return len(
        {(name, camera) for name, camera in zip(dataset.tolist(), cam.tolist(), strict=True) if camera != UNKNOWN}
    )


# ---- pages of thumbnails


def thumbnails(labels: PseudoLabels, shown_cards: Sequence[Card]) -> Figure:
    """Draw clusters as rows of images, sorted by distance from the mean.

    Where identities are known, every person of a cluster has a frame of its own colour and line, the most frequent one
    first: a row with a single kind of frame is right.
    """
    width, height = _LEFT + SHOWN * _WIDTH + 0.1, max(len(shown_cards), 1) * _TALL + 0.35
    path, truth, cam = (column[labels.hidden] for column in (labels.path, labels.truth, labels.cam))
    with style():
        figure = Figure(figsize=(width, height), facecolor="white")
        hint = "nearest to the mean of the cluster      →      farthest from it (numbers: cosine distance)"
        if any(np.isfinite(card.away).all() for card in shown_cards):
            figure.text(
                (_LEFT + SHOWN * _WIDTH / 2) / width, 1 - 0.16 / height, hint, ha="center", va="center", fontsize=8
            )
        for number, card in enumerate(shown_cards):
            top = height - 0.3 - number * _TALL
            _describe(figure, card, x=0.1 / width, y=(top - 0.08) / height)
            for column, place in enumerate(card.shown_positions()):
                left, row = _LEFT + column * _WIDTH, card.rows[place]
                box = (left / width, (top - _TALL + _EDGE) / height, (_WIDTH - 0.06) / width, (_TALL - _EDGE) / height)
                panel = figure.add_axes(box)
                _thumbnail(panel, str(path[row]), frame_of(card, int(truth[row])))
                _write_below(panel, cam=int(cam[row]), away=float(card.away[place]))
    return figure


def _describe(figure: Figure, card: Card, *, x: float, y: float) -> None:
    caption = card.sentence(shown=len(card.shown_positions())).replace(", ", "\n")
    figure.text(x, y, card.title, va="top", fontsize=10, fontweight="bold")
    figure.text(x, y, f"\n{caption}", va="top", fontsize=9, linespacing=1.35)
    size = figure.get_figheight()
    for number, (pid, count) in enumerate(card.people[:3]):
        colour = LOOKS[number].colour
        below = y - (0.2 + 0.18 * (2 + caption.count("\n") + number)) / size
        figure.text(x, below, f"person {pid}: {count:,}", va="top", fontsize=8.5, color=colour)
    if len(card.people) > 3:
        below = y - (0.2 + 0.18 * (5 + caption.count("\n"))) / size
        figure.text(x, below, f"and {len(card.people) - 3} more", va="top", fontsize=8.5, color=QUIET)


def _thumbnail(panel: Axes, path: str, frame: Frame) -> None:
    panel.set_axis_off()
    panel.set(xlim=(0, 1), ylim=(0, 2.3))
    pixels = read_shot(path)
    if pixels is None:
        panel.text(0.5, 1.25, "image\nnot found", ha="center", va="center", fontsize=7, color=QUIET)
    else:
        panel.imshow(pixels, extent=(0.05, 0.95, 0.3, 2.18), aspect="auto", interpolation="bicubic")
    colour, dashes = frame
    panel.add_patch(Rectangle((0.03, 0.28), 0.94, 1.92, fill=False, edgecolor=colour, linestyle=dashes, linewidth=2.4))


def _write_below(panel: Axes, *, cam: int, away: float) -> None:
    """Write the camera and the distance below an image, as far as they are known."""
    lines = [] if cam == UNKNOWN else [f"camera {cam}"]
    lines += [] if np.isnan(away) else [f"{away:.2f}"]
    panel.text(0.5, 0.24, "\n".join(lines), ha="center", va="top", fontsize=7, linespacing=1.05, color=QUIET)


def frame_of(card: Card, pid: int) -> Frame:
    """Return colour and line of the frame of a person in a cluster; unknown people have a thin grey one."""
    position = next((number for number, (identity, _) in enumerate(card.people) if identity == pid), None)
    if position is None:
        return RULE, "-"
    look_of_identity = LOOKS[min(position, _NAMED - 1)]
    return look_of_identity.colour, look_of_identity.line


# ---- the radius


def radius_curve(curve: Floats, *, eps: float, nearest: int) -> Figure:
    """Draw the distances to the k-th nearest image in ascending order, and the radius that was chosen.

    Args:
        curve: (M,) ascending, Jaccard distances of neighbourhoods in [0, 1].
        eps: the radius.
        nearest: k, the image itself counted.

    """
    inside = int((curve <= eps).sum())
    with style():
        figure, (panel,) = panels(1)
        panel.plot(np.arange(1, len(curve) + 1), curve, color=BLUE)
        words = (
            f"radius eps {eps:.3g}: {inside:,} of {len(curve):,} images have at least\n"
            f"{nearest} images within it (core points, themselves counted).\n"
            "Jaccard distance: 0 = the same neighbours, 1 = none in common"
        )
        panel.axhline(eps, color=ORANGE, linestyle="--", label=words)
        panel.axvline(inside, color=QUIET, linestyle=":", linewidth=1)
        panel.set(xlim=(0, len(curve)), ylim=(0, 1.02))
        panel.set_xlabel("images, sorted by the distance")
        panel.set_ylabel(f"Jaccard distance\nto the {_ordinal(nearest)} nearest image")
        figure.legend(loc="outside lower left", fontsize=8.5)
    return figure


# ---- over the epochs

_LEARNT = "epochs trained"
_FLOWS: dict[Move, tuple[str, str, str]] = {
    "kept": ("same cluster", BLUE, ""),
    "merged": ("cluster merged into another", SKY, "///"),
    "split": ("moved to another cluster", PURPLE, "\\\\\\"),
    "found": ("from noise into a cluster", GREEN, "..."),
    "lost": ("from a cluster into noise", ORANGE, "xx"),
    "outside": ("noise before and after", RULE, ""),
}


def flow_shares(pseudo_labels: Sequence[PseudoLabels]) -> Doubles:
    """Return (E - 1, 6) the fractions of images per transition in `MOVES` between consecutive groupings."""
    clusters = [epoch_labels.clusters for epoch_labels in pseudo_labels]
    counts = [np.bincount(moves(before, after), minlength=len(MOVES)) for before, after in pairwise(clusters)]
    return np.array(counts, np.float64).reshape(-1, len(MOVES)) / max(len(clusters[0]), 1)


def flow_figure(pseudo_labels: Sequence[PseudoLabels]) -> Figure:
    """Draw the cluster transitions of every epoch: stayed, merged, split, from noise, into noise."""
    shares, ends = 100 * flow_shares(pseudo_labels), [epoch_labels.learnt for epoch_labels in pseudo_labels[1:]]
    with style():
        figure, (panel,) = panels(1, height=3.9)
        floor = np.zeros(len(ends))
        for number, move in enumerate(MOVES):
            words, colour, hatch = _FLOWS[move]
            panel.bar(
                *(ends, shares[:, number], 0.85),
                bottom=floor,
                label=words,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
            )
            floor += shares[:, number]
        panel.set(ylim=(0, 100), xlim=(ends[0] - 0.6, ends[-1] + 0.6))
        panel.set_xlabel(_LEARNT)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        panel.grid(visible=False)
        handles, names = _upside_down(panel)
        figure.legend(handles, names, loc="outside lower center", ncols=1, fontsize=8.5, handlelength=1.6)
    return figure


def _upside_down(panel: Axes) -> tuple[list[Artist], list[str]]:
    """Return the entries of a legend in the order in which the bars are stacked, the topmost first."""
    handles, names = panel.get_legend_handles_labels()
    return list(handles[::-1]), list(names[::-1])


_AGREEMENTS = {
    "agreement with the epoch before": "with the clusters of the epoch before (adjusted Rand index)",
    "adjusted Rand index": "with the true identities (adjusted Rand index)",
    "pairwise F": "with the true identities (pairwise F)",
    "silhouette": "silhouette: separation of the clusters (0 = none)",
}


def _title_of(records: Sequence[MetricRecord]) -> str:
    """Return the title of the panel of agreements."""
    names = {name for record in records for name in record.values if name in _AGREEMENTS}
    separate = ["silhouette"] if "silhouette" in names else []
    titles = [*(["agreement"] if names - {"silhouette"} or not separate else []), *separate]
    return f"{' and '.join(titles)} (1 = best)"


def epoch_curves(records: Sequence[MetricRecord], *, known_identities: int = 0) -> Figure:
    """Draw the number of predicted identities, the fraction of noise, and the agreement measures over the epochs.

    Args:
        records: the clustering records, in order.
        known_identities: number of true identities, if known; drawn as a line.

    """
    x = [record.epoch for record in records]
    with style():
        figure, (people, outside, agreed) = panels(3, height=6.2)
        _curve(people, x, [record.values["people"] for record in records], 0)
        people.set_title(
            f"predicted identities (dotted: {known_identities:,} true ones)"
            if known_identities
            else "predicted identities"
        )
        if known_identities:
            people.axhline(known_identities, color=INK, linestyle=":", linewidth=1.2)
        people.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        people.set_ylim(0, 1.18 * max(known_identities, *(record.values["people"] for record in records)))
        _curve(outside, x, [100 * record.values["share in no cluster"] for record in records], 1)
        outside.set_title("images in no cluster")
        outside.set_ylim(0, 100)
        outside.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        for number, (name, words) in enumerate(_AGREEMENTS.items()):
            measured = [record for record in records if name in record.values]
            if measured:
                _curve(agreed, [r.epoch for r in measured], [r.values[name] for r in measured], number, label=words)
        agreed.set_title(_title_of(records))
        agreed.set_ylim(min(0.0, agreed.get_ylim()[0]), 1.02)
        epochs_below(agreed)
        agreed.set_xlabel(_LEARNT)
        if agreed.lines:
            figure.legend(loc="outside lower left", ncols=1, fontsize=8.5)
    return figure


def _curve(panel: Axes, x: Sequence[float], y: Sequence[float], number: int, *, label: str = "") -> None:
    series_look = look(number)
    (line,) = panel.plot(
        x, y, color=series_look.colour, linestyle=series_look.line, marker=series_look.marker, label=label or "_"
    )
    line.set_clip_on(False)  # a mark on the edge is drawn whole
    line.set_markevery(max(1, len(x) // 30))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"
