"""Figures of the features in the report: projections, pair distances, activation maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from passerby.device import AUTOMATIC, InferenceSettings
from passerby.encoders import load_trained
from passerby.errors import UserError
from passerby.report.attention import maps_of, require_unmasked, scale_image
from passerby.report.figure_files import PageFigure, page_figure
from passerby.report.folder import RunFolder
from passerby.report.list_section import ListGallery, inline, inline_images
from passerby.report.pair_distances import count_pairs, distances_figure
from passerby.report.projection import Projection, camera_pull, features_figure, project
from passerby.report.ranked_lists import RankedList, choose_queries, rank_for

_POINTS, _FEWEST_POINTS = 1000, 200  # of the page, shared by the data sets; a thousand take a few seconds
_SHOWN = 8
FEWEST_CELLS = 8
"""Cells of a feature map below which an activation map shows nothing."""


@dataclass(frozen=True)
class Plate:
    """Figures under one heading, or the reason why there are none.

    Attributes:
        heading: `""` where there is a single data set.
        figures: side by side.
        notes: sentences below them.

    """

    heading: str
    figures: tuple[PageFigure, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Attended:
    """A ranked list under its activation maps.

    Attributes:
        words: description of the list.
        ranked: the list.
        images, covers: addresses by file name, without and with maps.
        cells: resolution of the maps.

    """

    words: str
    ranked: RankedList
    images: dict[str, str]
    covers: dict[str, str]
    cells: str


def feature_plates(galleries: Sequence[ListGallery], *, device: str = "cpu") -> list[Plate]:
    """Draw the features of every data set by person and by camera, and of several data sets in one figure.

    Args:
        galleries: the data sets.
        device: where distances are computed.

    """
    with_embeddings = [gallery for gallery in galleries if gallery.embeddings is not None]
    most = max(_POINTS // max(len(with_embeddings), 1), _FEWEST_POINTS)
    plates = [
        _plate(gallery, heading=len(with_embeddings) > 1, most=most, device=device) for gallery in with_embeddings
    ]
    return [*plates, *_together(with_embeddings)] if len(with_embeddings) > 1 else plates


def _plate(gallery: ListGallery, *, heading: bool, most: int, device: str) -> Plate:
    assert gallery.embeddings is not None
    protocol, figures, notes = gallery.result.protocol, [], []
    try:
        projection = project([gallery.embeddings], most=most, distance=protocol.distance)
        figures += list(_planes(projection))
        pull = camera_pull(projection, device=device)
        notes += [str(pull)] if pull is not None else []
    except UserError as error:
        notes.append(f"No projection of the features: {error}.")
    try:
        pairs = count_pairs(gallery.embeddings, cameras=protocol.cameras, distance=protocol.distance, device=device)
        caption = "Distances of all pairs of a query and a gallery image"
        figures.append(
            page_figure(distances_figure(pairs), f"Distances within and between identities. {pairs}", caption)
        )
        notes.append(str(pairs))
    except UserError as error:
        notes.append(f"No distance distributions: {error}.")
    return Plate(f"On {gallery.result.name}" if heading else "", tuple(figures), tuple(notes))


def _planes(projection: Projection) -> Iterator[PageFigure]:
    alt = f"{len(projection)} images in a t-SNE projection"
    caption = "Images coloured by identity: points of one person should be neighbours, whatever the camera"
    yield page_figure(features_figure(projection), f"{alt}, marked by person.", caption)
    caption = "The same points, coloured by camera: groups of one camera indicate camera bias"
    yield page_figure(features_figure(projection, colour="camera"), f"{alt}, marked by camera.", caption)


def _together(galleries: Sequence[ListGallery]) -> Iterator[Plate]:
    tables = [gallery.embeddings for gallery in galleries if gallery.embeddings is not None]
    try:
        figure = features_figure(project(tables, most=_POINTS), colour="dataset")
    except UserError as error:
        yield Plate("All data sets", (), (f"No projection of the features: {error}.",))
        return
    caption = "All data sets in one projection: separate groups indicate features of the place rather than the person"
    yield Plate("All data sets", (page_figure(figure, "Images of all data sets in a t-SNE projection.", caption),), ())


def attended_lists(
    run: RunFolder, galleries: Sequence[ListGallery], *, inference: InferenceSettings = AUTOMATIC
) -> tuple[list[Attended], str]:
    """Return activation maps of the best and worst list of the first data set, or the reason for their absence."""
    gallery = next((each for each in galleries if each.embeddings is not None), None)
    if gallery is None:
        return [], ""
    try:
        return list(_attended(run, gallery, inference)), ""
    except UserError as error:
        return [], f"No activation maps: {error}."


def _attended(run: RunFolder, gallery: ListGallery, inference: InferenceSettings) -> Iterator[Attended]:
    assert gallery.embeddings is not None
    assert gallery.plain is not None
    require_unmasked(gallery.embeddings)
    trained, protocol = load_trained(run.path, inference=inference), gallery.result.protocol
    on = f" of {gallery.result.name}" if len(run.results) > 1 else ""
    for kind in ("best", "worst"):
        queries = choose_queries(gallery.plain, kind=kind, count=1, pid=gallery.embeddings.query.pid)
        lists = rank_for(
            gallery.embeddings,
            queries,
            k=_SHOWN,
            cameras=protocol.cameras,
            distance=protocol.distance,
            device=trained.device,
        )
        for ranked in lists:
            maps = maps_of(
                trained.embedder,
                ranked,
                feature=trained.feature,
                inference=inference,
                precision=trained.precision,
                dataset=gallery.embeddings.dataset,
            )
            if maps.count_cells < FEWEST_CELLS:
                raise UserError(
                    f"the last feature map has {maps.cells}, too few to show where similarity comes from; larger "
                    "images or model.last_stride=1 give more"
                )
            covers = {path: inline(pixels) for path, pixels in maps.covers.items()}
            yield Attended(f"The {kind} list{on}", ranked, inline_images(list(covers)), covers, maps.cells)


def scale_uri() -> str:
    """Return the scale of colours of the maps as an image inside the page."""
    return inline(scale_image())
