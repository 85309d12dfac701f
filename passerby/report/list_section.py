"""The ranked lists of the report, with images as inline JPEGs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from passerby.data.decoding import Pixels
from passerby.evaluation import evaluate, explain_skipped, without_camera_effects
from passerby.metrics.pooling import average_queries
from passerby.report.folder import DatasetResult, RunFolder
from passerby.report.list_figures import HEADINGS, SEED, read_shot
from passerby.report.palette import data_uri
from passerby.report.ranked_lists import Kind, ListImage, RankedList, choose_queries, rank_for
from passerby.types import AnyRerank, Embeddings, Scores

_HEIGHT = 144  # pixels: sharp at the size shown, and about 3 kB
_QUALITY = 80


@dataclass(frozen=True)
class Exhibit:
    """One ranked list, and the re-ranked one; None if both show the same images."""

    plain: RankedList
    reranked: RankedList | None


@dataclass(frozen=True)
class Section:
    """Ranked lists of one kind."""

    heading: str
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True, eq=False)
class ListGallery:
    """The ranked lists of one data set.

    Attributes:
        result: its scores.
        embeddings: of its images, None when the run folder does not hold them.
        plain, reranked: the scores with a value for every query, None without embeddings.
        sections: ranked lists by kind.
        images: address of each image by file name, for the files that could be read.
        notes: sentences about the data and about what could not be shown.

    """

    result: DatasetResult
    embeddings: Embeddings | None
    plain: Scores | None
    reranked: Scores | None
    sections: tuple[Section, ...]
    images: dict[str, str]
    notes: tuple[str, ...]


def gallery_of(
    run: RunFolder, result: DatasetResult, *, count: int = 3, k: int = 8, device: str = "cpu"
) -> ListGallery:
    """Choose and draw the ranked lists of one data set.

    Args:
        run: the run.
        result: which data set of it.
        count: lists of each kind.
        k: images shown of each list.
        device: where the matrix products run.

    """
    path = run.embeddings(result.name)
    if path is None:
        return _without_lists(result, f"No ranked lists: {run.path} holds no embeddings of {result.name}.")
    embeddings = without_camera_effects(
        Embeddings.load(path), camera_norm=result.protocol.camera_norm, distance=result.protocol.distance
    )
    protocol = result.protocol
    if embeddings.fingerprint != protocol.files:
        return _without_lists(result, f"No ranked lists: {path} was written for other images than the scores.")
    if protocol.queries == "multi":
        embeddings = average_queries(embeddings, distance=protocol.distance)
    score = partial(
        evaluate,
        embeddings,
        cameras=protocol.cameras,
        distance=protocol.distance,
        clothes=protocol.clothes,
        device=device,
    )
    plain, reranked = score(), None
    if result.rerank is not None:
        reranked = score(rerank=result.rerank)
    sections = _sections(embeddings, plain, result, count=count, k=k, device=device)
    paths_shown = _paths(sections)
    images = inline_images(paths_shown)
    notes = [_missing(paths_shown, images)] if len(images) < len(paths_shown) or not paths_shown else []
    skipped = explain_skipped(embeddings, cameras=protocol.cameras, clothes=protocol.clothes)
    if skipped.count:
        notes.append(f"Queries that are not scored: {skipped}.")
    return ListGallery(result, embeddings, plain, reranked, sections, images, tuple(notes))


def _without_lists(result: DatasetResult, note: str) -> ListGallery:
    return ListGallery(result, None, None, None, (), {}, (note,))


def _sections(
    embeddings: Embeddings, scores: Scores, result: DatasetResult, *, count: int, k: int, device: str
) -> tuple[Section, ...]:
    queries_by_kind: dict[Kind, list[int]] = {
        kind: choose_queries(
            scores, kind=kind, count=count, pid=embeddings.query.pid, generator=np.random.default_rng(SEED)
        )
        for kind in HEADINGS
    }
    all_queries = [query for queries in queries_by_kind.values() for query in queries]
    protocol = result.protocol

    def lists(queries: Sequence[int], rerank: AnyRerank | None) -> dict[int, RankedList]:
        ranked = rank_for(
            embeddings,
            queries,
            k=k,
            rerank=rerank,
            cameras=protocol.cameras,
            distance=protocol.distance,
            clothes=protocol.clothes,
            left_out="show" if protocol.clothes == "general" else "hide",  # marks name the rule of cameras
            device=device,
        )
        return dict(zip(queries, ranked, strict=True))

    plain = lists(all_queries, None)
    reranked = lists(all_queries, result.rerank) if result.rerank is not None else {}
    changed = {query: ranked for query, ranked in reranked.items() if ranked.shots != plain[query].shots}
    return tuple(
        Section(
            HEADINGS[kind],
            tuple(Exhibit(plain[q], changed.get(q)) for q in queries),
        )
        for kind, queries in queries_by_kind.items()
    )


def _paths(sections: Sequence[Section]) -> list[str]:
    """Return the files of all images that are shown, each once; none where the embeddings name no files."""
    lists = [e for section in sections for exhibit in section.exhibits for e in (exhibit.plain, exhibit.reranked) if e]
    shots: list[ListImage] = [shot for ranked in lists for shot in (ranked.query, *ranked.shots)]
    return list(dict.fromkeys(shot.path for shot in shots if shot.path))


def inline_images(paths: Sequence[str]) -> dict[str, str]:
    """Return the address of each image that can be read, by file name."""
    read = {path: read_shot(path) for path in paths}
    return {path: inline(pixels) for path, pixels in read.items() if pixels is not None}


def inline(pixels: Pixels) -> str:
    """Return an image (H, W, 3) as a small JPEG inside the page."""
    image = Image.fromarray(pixels)
    if image.height > _HEIGHT:
        image = image.resize((max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return data_uri(buffer.getvalue(), kind="jpeg")


def _missing(paths: Sequence[str], images: dict[str, str]) -> str:
    if not paths:
        return "The embeddings name no image files, so the lists are shown without images."
    missing = [path for path in paths if path not in images]
    return (
        f"{len(missing)} of the {len(paths)} images of the lists cannot be read, the first being {missing[0]}; "
        "they have moved or were deleted since the run."
    )
