"""Predicted identities of an unlabelled stage: described and drawn for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from passerby.errors import UserError
from passerby.files import read_json
from passerby.metrics.spread import spread_notes
from passerby.report.clusterings import Clusterings, read_clusterings
from passerby.report.clusters import (
    SHOWN,
    Card,
    Order,
    cards,
    epoch_curves,
    flow_figure,
    frame_of,
    radius_curve,
    thumbnails,
)
from passerby.report.figure_files import PageFigure, page_figure
from passerby.report.folder import RunFolder
from passerby.report.list_section import inline_images
from passerby.report.projection import Colouring, features_figure, project_clusters
from passerby.training.run_log import MetricRecord
from passerby.types import UNKNOWN

_CARDS, _OUTSIDE = 4, 16  # clusters of each kind on the page, and images in none
_POINTS = 600


# ---- one figure

Show = Literal["images", "epochs", "moves", "radius", "features"]


def clusters_figure(
    clusterings: Clusterings,
    *,
    show: Show,
    order: Order = "largest",
    page: int = 1,
    rows: int = 6,
    colour: Colouring = "cluster",
) -> Figure:
    """Draw one figure of the clusters.

    Args:
        clusterings: read from a run.
        show: images of clusters, curves over the epochs, transitions, the radius, or a projection.
        order, page, rows: which images, where `show` is images.
        colour: the column that colours the points, where `show` is features.

    Raises:
        UserError: what is to be drawn is not there, or a page beyond the last.

    """
    match show:
        case "images":
            return _page_of(clusterings, order=order, page=page, rows=rows)
        case "epochs":
            return epoch_curves(
                _needed(clusterings.metrics, "no clustering records in log.jsonl"),
                known_identities=clusterings.known_identities,
            )
        case "moves":
            if len(clusterings.groupings) < 2:
                raise UserError("transitions need at least two epochs")
            return flow_figure(clusterings.groupings)
        case "radius":
            if clusterings.last.curve is None or clusterings.eps is None or clusterings.nearest is None:
                raise UserError("there is no radius: these clusters were not found by dbscan")
            return radius_curve(clusterings.last.curve, eps=clusterings.eps, nearest=clusterings.nearest)
        case "features":
            table = clusterings.table
            if table is None:
                raise UserError("the run folder does not hold the vectors of the clustered images")
            if colour == "identity" and not clusterings.known_identities:
                raise UserError("these images have no identity labels to colour by; use --colour cluster or camera")
            return features_figure(
                project_clusters(table, clusterings.last.clusters, datasets=clusterings.datasets), colour=colour
            )


def _page_of(clusterings: Clusterings, *, order: Order, page: int, rows: int) -> Figure:
    vectors = None if clusterings.table is None else clusterings.table.vectors
    every = cards(clusterings.last, vectors, order=order)
    if order == "outside":
        every = [part for card in every for part in card.divided(SHOWN)]
    count = -(-len(every) // rows)
    if page > count:
        raise UserError(f"there are {count} pages of {rows} rows, so there is no page {page}")
    return thumbnails(clusterings.last, every[(page - 1) * rows : page * rows])


def _needed(metrics: list[MetricRecord], problem: str) -> list[MetricRecord]:
    if not metrics:
        raise UserError(problem)
    return metrics


# ---- the page


@dataclass(frozen=True)
class Thumbnail:
    """One image on the page: its address, `""` when it cannot be read, its frame, and the words below it."""

    source: str
    colour: str
    line: str
    word: str
    camera: str


@dataclass(frozen=True)
class ClusterRow:
    """One cluster on the page."""

    title: str
    words: str
    images: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class IdentitiesSection:
    """The section of the report on predicted identities.

    Attributes:
        sentences: the number of identities and its uncertainty.
        figures: curves and planes.
        rows: clusters by heading.
        known: whether frames mark the true identities.
        embedder: what embedded the images, the model or a teacher.

    """

    sentences: tuple[str, ...]
    figures: tuple[PageFigure, ...]
    rows: dict[str, tuple[ClusterRow, ...]]
    known: bool
    embedder: str


def identities_section(run: RunFolder) -> IdentitiesSection | None:
    """Return the section on predicted identities; None without an unlabelled stage."""
    clusterings = read_clusterings(run)
    if clusterings is None:
        return None
    vectors = None if clusterings.table is None else clusterings.table.vectors
    largest = cards(clusterings.last, vectors)
    sections = {"The largest clusters": largest[:_CARDS]}
    if vectors is not None:
        shown_titles = {card.title for card in largest[:_CARDS]}
        doubtful = [
            card for card in cards(clusterings.last, vectors, order="doubtful") if card.title not in shown_titles
        ]
        sections["The other clusters with the largest spread"] = doubtful[:_CARDS]
    sections["Images in no cluster"] = cards(clusterings.last, None, order="outside")
    paths = {
        str(_paths(clusterings)[row])
        for cards_shown in sections.values()
        for card in cards_shown
        for row in _rows_shown(card)
    }
    images = inline_images(sorted(paths))
    return IdentitiesSection(
        sentences=(*_sentences(run.path, clusterings), *collapse_notes(clusterings)),
        figures=tuple(_figures_of(clusterings)),
        rows={
            title: tuple(_row(clusterings, card, images) for card in cards_shown)
            for title, cards_shown in sections.items()
            if cards_shown
        },
        known=clusterings.known_identities > 0,
        embedder="teacher" if clusterings.by_teacher else "model",
    )


def collapse_notes(clusterings: Clusterings) -> list[str]:
    """Return sentences on clustered vectors that are equal or nearly so, where the vectors are there."""
    return [] if clusterings.table is None else spread_notes(clusterings.table.vectors)


def _paths(clusterings: Clusterings) -> np.ndarray:
    return clusterings.last.path[clusterings.last.hidden]


def _rows_shown(card: Card) -> list[int]:
    count = SHOWN if np.isfinite(card.away).all() else _OUTSIDE
    return [int(row) for row in card.rows[card.shown_positions(count)]]


def _row(clusterings: Clusterings, card: Card, images: dict[str, str]) -> ClusterRow:
    paths, truth, cam = (
        _paths(clusterings),
        *(column[clusterings.last.hidden] for column in (clusterings.last.truth, clusterings.last.cam)),
    )
    away = dict(zip(card.rows.tolist(), card.away.tolist(), strict=True))
    thumbnails = []
    for row in _rows_shown(card):
        colour, line = frame_of(card, int(truth[row]))
        kind = {"-": "solid", "--": "dashed", "-.": "dotted"}.get(str(line), "double")
        person = f"person {truth[row]}" if truth[row] != UNKNOWN else ""
        word = person or ("" if np.isnan(away[row]) else f"{away[row]:.2f}")
        camera = "" if cam[row] == UNKNOWN else f"camera {cam[row]}"
        thumbnails.append(Thumbnail(images.get(str(paths[row]), ""), colour, kind, word, camera))
    return ClusterRow(card.title, card.sentence(shown=len(thumbnails)), tuple(thumbnails))


def _sentences(folder: Path, clusterings: Clusterings) -> Iterator[str]:
    if (folder / "clusters.json").is_file():
        entry = read_json(folder / "clusters.json")
        if isinstance(entry, dict) and isinstance(entry.get("sentences"), list):
            yield from map(str, entry["sentences"])
            return
    clusters = clusterings.last.clusters
    outside = 100 * float((clusters < 0).mean())
    identities = clusters.max(initial=-1) + 1
    yield f"{identities:,} predicted identities in {len(clusters):,} images, {outside:.1f} % of which are in no cluster"


def _figures_of(clusterings: Clusterings) -> Iterator[PageFigure]:
    if clusterings.metrics:
        last = ", ".join(f"{name} {value:.3g}" for name, value in clusterings.metrics[-1].values.items())
        alt = f"Predicted identities, images in no cluster and agreement over the epochs; at the end {last}."
        caption = "Predicted identities per epoch, and agreement with the epoch before"
        yield page_figure(
            epoch_curves(clusterings.metrics, known_identities=clusterings.known_identities), alt, caption
        )
    if len(clusterings.groupings) > 1:
        alt = "Fractions of images per epoch that stayed in their cluster, changed it, entered one or left one."
        caption = "Cluster transitions per epoch: the clustering has converged when all images stay"
        yield page_figure(flow_figure(clusterings.groupings), alt, caption)
    if clusterings.last.curve is not None and clusterings.eps is not None and clusterings.nearest is not None:
        alt = f"Distances to the nearest images in ascending order, and the radius {clusterings.eps:.3g}."
        caption = "Images sorted by k-NN distance, and the DBSCAN radius: images left of the mark form clusters"
        yield page_figure(
            radius_curve(clusterings.last.curve, eps=clusterings.eps, nearest=clusterings.nearest), alt, caption
        )
    yield from _planes(clusterings)


def _planes(clusterings: Clusterings) -> Iterator[PageFigure]:
    if clusterings.table is None:
        return
    try:
        projection = project_clusters(
            clusterings.table, clusterings.last.clusters, most=_POINTS, datasets=clusterings.datasets
        )
    except UserError:  # too few images, or all alike: the thumbnails show as much
        return
    caption = "t-SNE of the images, coloured by the largest clusters"
    yield page_figure(features_figure(projection, colour="cluster"), "Images on a plane, marked by cluster.", caption)
    if clusterings.known_identities:
        caption = "The same points, coloured by true identity"
        yield page_figure(features_figure(projection), "The same points, marked by person.", caption)
    elif (clusterings.table.cam != UNKNOWN).any():
        caption = "The same points, coloured by camera: groups of one camera indicate clusters of places"
        yield page_figure(features_figure(projection, colour="camera"), "The same points, by camera.", caption)
