"""Functions behind `passerby gallery`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from passerby.commands.gallery_sources import (
    DAY,
    GallerySource,
    RowDefaults,
    VectorsOf,
    illustrated,
    read_identities,
    read_source,
)
from passerby.encoders import UNGIVEN, GivenCamera, Model, images_of, model_stamp, require_maskless
from passerby.errors import UserError
from passerby.gallery import EVERYTHING, Gallery, GalleryInfo, GalleryRows, Where, open_gallery, require_indexed
from passerby.tracking.clock import read_start
from passerby.types import UNKNOWN, Embeddings, Floats


def read_attributes(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of texts `key=value`.

    Raises:
        UserError: a text of another form.

    """
    pairs = [text.partition("=") for text in texts]
    for text, (key, separator, _) in zip(texts, pairs, strict=True):
        if not separator or not key:
            raise UserError(f"--attribute {text!r} is not of the form key=value")
    return tuple((key, value) for key, _, value in pairs)


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
    times = {"since": since, "until": until, "before": before}
    limits = {name: None if text is None else read_start(text, option=f"--{name}") for name, text in times.items()}
    return Where(cameras=cameras, identities=identities, attributes=read_attributes(attributes), ids=ids, **limits)


@dataclass(frozen=True)
class AddOptions:
    """Options of `passerby gallery add`.

    Attributes:
        run: the model of the vectors, where files do not name it.
        defaults: what is set in all rows.
        vectors_of: what of tracklets becomes a row.
        thumbnails: whether small pictures are stored.
        identity_prefix: put before the identities of a .csv.
        forget_after: as typed, for example `30d`; None = the policy stays.

    """

    run: Path | None = None
    defaults: RowDefaults = field(default_factory=RowDefaults)
    vectors_of: VectorsOf = "tracklets"
    thumbnails: bool = False
    identity_prefix: str = ""
    forget_after: str | None = None


def add_files(place: str, paths: Sequence[Path], options: AddOptions) -> list[str]:
    """Add files to a gallery, which is made if there is none; return what was done and notes, as sentences.

    Args:
        place: of the gallery.
        paths: of vectors, tracklets and exports, whose rows are added all or none; and .csv of `passerby associate`,
            which set the identities of tracklets afterwards.
        options: see there.

    Raises:
        UserError: a file that cannot be read, vectors of another or an unknown model, or no right to write.

    """
    policy = None if options.forget_after is None else read_age(options.forget_after)
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    identities = [read_identities(path, prefix=options.identity_prefix) for path in tables]
    files = [path for path in paths if path not in tables]
    sources = [read_source(path, vectors_of=options.vectors_of) for path in files]
    stamp = _common_stamp(sources, files, None if options.run is None else model_stamp(options.run))
    if options.thumbnails:
        sources = [illustrated(source) for source in sources]
    gallery = open_gallery(place, model_stamp=stamp, create=bool(sources))
    sentences = [note for source in sources for note in source.notes]
    try:
        if policy is not None:
            gallery.set_policy(policy.seconds)
        if sources:
            rows = options.defaults.apply(GalleryRows.join([source.rows for source in sources]))
            sentences.append(f"{gallery.place}: {len(gallery.add(rows)):,} rows added")
        for path, (camera, tracklet, identity) in zip(tables, identities, strict=True):
            count = gallery.identify(camera, tracklet, identity)
            sentences.append(f"{gallery.place}: identities of {count:,} rows set from {path}")
    finally:
        gallery.close()
    return sentences


def _common_stamp(sources: Sequence[GallerySource], paths: Sequence[Path], stamp: str | None) -> str | None:
    """Return the stamp of the model of all sources, or the one that is given where there is no source."""
    stamps = {_stamp_of(source.model, path, stamp) for source, path in zip(sources, paths, strict=True)}
    if len(stamps) > 1:
        raise UserError(f"the vectors are of several models, which do not compare: {', '.join(sorted(stamps))}")
    return stamps.pop() if stamps else stamp


def _stamp_of(model: str, path: Path, stamp: str | None) -> str:
    if not model and stamp is None:
        raise UserError(f"{path} does not say which model made its vectors; name it by --run MODEL")
    if stamp is not None and model not in ("", stamp):
        raise UserError(f"{path} holds vectors of the model {model!r}, not of {stamp!r}")
    return model or str(stamp)


@dataclass(frozen=True)
class Age:
    """A length of time in seconds, None = for ever."""

    seconds: float | None


def read_age(text: str) -> Age:
    """Return the length of time that `30d`, `12h` or `never` names.

    >>> read_age("1.5d").seconds, read_age("never").seconds
    (129600.0, None)

    Raises:
        UserError: none of these.

    """
    if text.strip().lower() == "never":
        return Age(None)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text.strip(), re.ASCII)
    if match is None or not 0 < float(match[1]) < 1e6:
        raise UserError(f"--forget-after {text!r} is no length of time; give days as 30d, hours as 12h, or never")
    return Age(float(match[1]) * {"d": DAY, "h": 3600.0}[match[2]])


def forget_rows(gallery: Gallery, where: Where, *, forget_after: str | None) -> int:
    """Set the policy if it is given, and forget the chosen rows; without conditions, what the policy says.

    Raises:
        UserError: no condition, and neither an earlier nor a new policy.

    """
    policy = None if forget_after is None else read_age(forget_after)
    if policy is not None:
        gallery.set_policy(policy.seconds)
    if where:
        return gallery.forget(where)
    if policy is None and gallery.info().forget_after is None:
        raise UserError(
            "nothing says what to forget; give a condition such as --identity or --before, or a policy: "
            "--forget-after 30d"
        )
    return gallery.apply_policy()


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


def answers_to_json(answers: Sequence[GalleryAnswer]) -> dict[str, object]:
    """Return answers as plain JSON values."""
    return {
        "queries": [
            {
                "query": answer.query,
                "found": [
                    {"rank": rank, "distance": distance, **row_json(answer.rows, rank - 1)}
                    for rank, distance in enumerate(answer.distance.tolist(), start=1)
                ],
            }
            for answer in answers
        ]
    }


def row_json(rows: GalleryRows, row: int) -> dict[str, object]:
    """Return one row as plain JSON values, without its vector; what is unknown is null."""
    texts = {name: str(getattr(rows, name)[row]) or None for name in ("path", "camera", "tracklet", "identity")}
    numbers = {"time": float(rows.time[row]), "box": rows.box[row].tolist()}
    unknown = {"time": np.isnan(rows.time[row]), "box": np.isnan(rows.box[row]).any()}
    known = {name: None if unknown[name] else value for name, value in numbers.items()}
    return {"id": int(rows.id[row]), **texts, **known, "attributes": json.loads(str(rows.attributes[row]))}


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
    camera: GivenCamera = UNGIVEN,
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
    cam = camera.rows(model, camera.fill(np.full(len(images), UNKNOWN)))
    vectors = model.vectors(np.array(images), cam=cam)
    return answer_vectors(
        gallery, images, vectors, count=count, threshold=threshold, where=where, approximate=approximate
    )


def read_queries(path: Path, *, stamp: str | None) -> tuple[list[str], Floats, str]:
    """Return names, vectors (Q, D) and the model's stamp of an .npz of queries.

    Raises:
        UserError: a file that cannot be read, or vectors of another or an unknown model.

    """
    table = Embeddings.load(path)
    rows = range(len(table))
    names = [f"{path} row {row}" if table.path is None or not table.path[row] else str(table.path[row]) for row in rows]
    return names, table.vectors, _stamp_of(table.model, path, stamp)


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
        lines.append(f"rows are forgotten after {info.forget_after / DAY:g} days")
    if info.audit:
        rows = sum(line.count for line in info.audit)
        lines.append(
            f"forgotten: {rows:,} rows by {len(info.audit):,} calls, the last {describe_time(info.audit[-1].time)}"
        )
    return lines
