"""Functions behind `passerby gallery`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from passerby.commands.gallery_sources import GallerySource, read_source
from passerby.encoders import Model, images_of, model_stamp, require_maskless
from passerby.errors import UserError
from passerby.gallery import EVERYTHING, Gallery, GalleryInfo, GalleryRows, Where, open_gallery, require_indexed
from passerby.tracking.clock import read_start
from passerby.types import Floats


def read_filters(
    cameras: tuple[str, ...] = (),
    identities: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
    *,
    since: str | None = None,
    until: str | None = None,
    before: str | None = None,
    ids: tuple[int, ...] = (),
) -> Where:
    """Return conditions as a person writes them; see `Where`.

    Raises:
        UserError: a text that is no time, or an attribute that is no `key=value`.

    """
    pairs = []
    for text in attributes:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UserError(f"--attribute {text!r} is not of the form key=value")
        pairs.append((key, value))
    times = {"since": since, "until": until, "before": before}
    limits = {name: None if text is None else read_start(text, option=f"--{name}") for name, text in times.items()}
    return Where(cameras=cameras, identities=identities, attributes=tuple(pairs), ids=ids, **limits)


def add_sources(place: str, paths: Sequence[Path], *, run: Path | None) -> tuple[int, list[str]]:
    """Add files to a gallery, which is made if there is none; return the number of rows and notes.

    Raises:
        UserError: a file that cannot be read, vectors of another or an unknown model, or no right to write.

    """
    stamp = None if run is None else model_stamp(run)
    sources = [read_source(path) for path in paths]
    stamps = {_stamp_of(source, path, stamp) for source, path in zip(sources, paths, strict=True)}
    if len(stamps) > 1:
        raise UserError(f"the vectors are of several models, which do not compare: {', '.join(sorted(stamps))}")
    gallery = open_gallery(place, model_stamp=stamps.pop(), create=True)
    try:
        gallery.add(GalleryRows.join([source.rows for source in sources]))
    finally:
        gallery.close()
    return sum(len(source.rows) for source in sources), [note for source in sources for note in source.notes]


def _stamp_of(source: GallerySource, path: Path, stamp: str | None) -> str:
    if not source.model and stamp is None:
        raise UserError(f"{path} does not say which model made its vectors; name it by --run MODEL")
    if stamp is not None and source.model not in ("", stamp):
        raise UserError(f"{path} holds vectors of the model {source.model!r}, not of {stamp!r}")
    return source.model or str(stamp)


@dataclass(frozen=True, eq=False)
class GalleryAnswer:
    """The rows found for one query, most similar first, and their cosine distances in [0, 2]."""

    query: str
    rows: GalleryRows
    distance: Floats

    def lines(self) -> list[str]:
        """Return one line for each row."""
        return [
            f"{rank:>3}  distance {distance:.4f}  {describe_row(self.rows, rank - 1)}"
            for rank, distance in enumerate(self.distance.tolist(), start=1)
        ]


def describe_row(rows: GalleryRows, row: int) -> str:
    """Return one row as text: its id and what is known of it."""
    time = float(rows.time[row])
    known = {
        "identity": str(rows.identity[row]),
        "camera": str(rows.camera[row]),
        "tracklet": str(rows.tracklet[row]),
        "": describe_time(None if np.isnan(time) else time),
    }
    words = [f"{name} {text}".strip() for name, text in known.items() if text]
    return "  ".join([f"id {rows.id[row]}", *words, str(rows.path[row])]).rstrip()


def describe_time(time: float | None) -> str:
    """Return POSIX seconds as a date and time in UTC, `""` for None.

    >>> describe_time(86400.5)
    '1970-01-02 00:00:00Z'
    """
    return "" if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}Z"


def search_gallery(
    gallery: Gallery,
    model: Model,
    places: Sequence[Path],
    *,
    count: int,
    threshold: float | None = None,
    where: Where = EVERYTHING,
    approximate: bool = False,
) -> list[GalleryAnswer]:
    """Search a gallery for images, or for all images below folders.

    Raises:
        UserError: no image, one that cannot be read, vectors of another length, or no index.

    """
    if approximate:
        require_indexed(gallery)
    require_maskless(model)
    images = [str(path) for place in places for path, _ in images_of(place)]
    if not images:
        raise UserError(f"no image in {', '.join(map(str, places))}")
    vectors = model.vectors(np.array(images))
    return answer_vectors(
        gallery, images, vectors, count=count, threshold=threshold, where=where, approximate=approximate
    )


def answer_vectors(
    gallery: Gallery,
    names: Sequence[str],
    vectors: Floats,
    *,
    count: int,
    threshold: float | None = None,
    where: Where = EVERYTHING,
    approximate: bool = False,
) -> list[GalleryAnswer]:
    """Return the answers for vectors (Q, D) by the names of their queries; see `search_gallery`."""
    search = require_indexed(gallery).search_approximately if approximate else gallery.search
    hits = search(vectors, top=count, where=where)
    answers = []
    for query, name in enumerate(names):
        rows, similarity = hits.of(query)
        distance = np.maximum(1 - similarity, np.float32(0))  # rounding leads a little below 0
        accepted = distance <= (np.inf if threshold is None else threshold)
        answers.append(GalleryAnswer(name, rows.select(accepted), distance[accepted]))
    return answers


def describe_gallery(info: GalleryInfo) -> list[str]:
    """Return the description of a gallery as lines."""
    lines = [
        f"{info.place} ({info.store}): {info.count:,} rows, {info.identities:,} identities",
        f"model {info.model or 'unknown'}, {info.dimensions} dimensions",
        "cameras: " + (", ".join(f"{name or 'unknown'} {count:,}" for name, count in info.cameras.items()) or "none"),
    ]
    if info.first is not None:
        lines.append(f"times: {describe_time(info.first)} to {describe_time(info.last)}")
    files = f" in {info.files:,} files" if info.files else ""
    lines.append(f"{info.bytes / 1e6:,.1f} MB{files}")
    if info.forget_after is not None:
        lines.append(f"rows are forgotten after {info.forget_after / 86_400:g} days")
    if info.audit:
        rows = sum(line.count for line in info.audit)
        lines.append(
            f"forgotten: {rows:,} rows by {len(info.audit):,} calls, the last {describe_time(info.audit[-1].time)}"
        )
    return lines
