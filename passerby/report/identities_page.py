"""The page of people over cameras: each one as a row of crops and a timeline, in one self-contained HTML file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from passerby.association.associate import Association
from passerby.association.scores import AssociationScores
from passerby.data.decoding import ImageError, decode
from passerby.files import atomic_write
from passerby.report.palette import data_uri
from passerby.types import Ints

MOST_PEOPLE = 150
"""Most people on the page, so that it stays below some megabytes."""
MOST_CROPS = 4
"""Most crops of a person at one camera."""
THUMBNAIL = (60, 120)
"""Width and height of a crop in pixels."""
_DATE = 1e8  # seconds since 1970 from which a time is shown as a date


@dataclass(frozen=True)
class CameraCrops:
    """The crops of a person at one camera.

    Attributes:
        name: of the camera.
        crops: images as data addresses, empty where there is none.
        more: number of tracklets without a crop on the page.

    """

    name: str
    crops: list[str]
    more: int


@dataclass(frozen=True)
class Bar:
    """The time of a tracklet on the timeline.

    Attributes:
        line: number of the camera among those of the person.
        begin, share: where it begins and how long it is, as shares of the whole time.
        label: the times in words.

    """

    line: int
    begin: float
    share: float
    label: str


@dataclass(frozen=True)
class PersonRow:
    """A person on the page.

    Attributes:
        number: the identity.
        summary: tracklets, cameras and confidence.
        errors: sentences on errors, where the truth is known.
        cameras: crops by camera, in order of first appearance.
        bars: tracklets on the timeline; empty without a common clock.

    """

    number: int
    summary: str
    errors: list[str]
    cameras: list[CameraCrops]
    bars: list[Bar]


def write_identities_page(
    path: Path, association: Association, scores: AssociationScores | None, sentences: Sequence[str] = ()
) -> None:
    """Write the page of an association.

    People with errors come first where the truth is known, then those with the most tracklets. Crops that cannot be
    read are marked.

    Args:
        path: the file.
        association: identities of the tracklets.
        scores: against the truth, None = unknown.
        sentences: results in words; the first is the headline.

    """
    order = _order(association, scores)
    span = _span(association)
    page = _template().render(
        lead=sentences[0] if sentences else f"{association.count:,} people",
        sentences=list(sentences[1:]),
        people=[_row(association, scores, number, span) for number in order[:MOST_PEOPLE]],
        left_out=max(len(order) - MOST_PEOPLE, 0),
        begin=_time(span[0]),
        end=_time(span[1]),
    )
    with atomic_write(path) as file:
        file.write(page.encode(errors="backslashreplace"))


@cache
def _template() -> Template:
    text = resources.files("passerby.report").joinpath("identities.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)


def _order(association: Association, scores: AssociationScores | None) -> list[int]:
    """Return the identities, those with errors first, then by falling number of tracklets."""
    sizes = np.bincount(association.identity, minlength=association.count)
    wrong = np.zeros(association.count, np.bool_)
    if scores is not None:
        wrong[list(scores.merged)] = True
        wrong[association.identity[np.isin(association.tracklets.pid, scores.split)]] = True
    return [int(number) for number in np.lexsort((np.arange(association.count), -sizes, ~wrong))]


def _span(association: Association) -> tuple[float, float]:
    """Return the first and last second of the common clock; equal where there is none."""
    table = association.tracklets
    if not table.has_clock.any():
        return 0.0, 0.0
    return float(table.first[table.has_clock].min()), float(table.last[table.has_clock].max())


def _row(
    association: Association, scores: AssociationScores | None, number: int, span: tuple[float, float]
) -> PersonRow:
    table = association.tracklets
    rows = np.flatnonzero(association.identity == number)
    rows = rows[np.lexsort((table.name[rows], table.camera[rows], np.nan_to_num(table.first[rows])))]
    cameras = list(dict.fromkeys(str(name) for name in table.camera[rows]))
    confidence = float(association.confidence[rows].mean())
    many = len(rows) > 1
    summary = (
        f"{len(rows)} tracklet{'s' * many}, {len(cameras)} camera{'s' * (len(cameras) > 1)}; "
        f"confidence {confidence:.2f}{'' if many else '; fits no other'}"
    )
    return PersonRow(
        number,
        summary,
        [] if scores is None else _errors(association, scores, number, rows),
        [_camera(association, name, rows[table.camera[rows] == name]) for name in cameras],
        [_bar(association, row, cameras, span) for row in rows.tolist() if span[1] > span[0] and table.has_clock[row]],
    )


def _errors(association: Association, scores: AssociationScores, number: int, rows: Ints) -> list[str]:
    """Return sentences on the true people of an identity: several in it, or one in several."""
    people = sorted(set(association.tracklets.pid[rows].tolist()) - {-1})
    errors = []
    if number in scores.merged:
        errors.append(f"merged: true people {', '.join(map(str, people))}")
    for person in people:
        if person in scores.split:
            others = sorted(set(association.identity[association.tracklets.pid == person].tolist()) - {number})
            errors.append(f"split: true person {person} also in {', '.join(map(str, others))}")
    return errors


def _camera(association: Association, name: str, rows: Ints) -> CameraCrops:
    """Return crops of the tracklets (M,) of a person at a camera: one of each, then more of the first ones."""
    table = association.tracklets
    first = [table.crops(row).start for row in rows.tolist() if table.crops(row).stop > table.crops(row).start]
    further = [crop for row in rows.tolist() for crop in range(table.crops(row).start + 1, table.crops(row).stop)]
    chosen = sorted([*first, *further][:MOST_CROPS])
    return CameraCrops(
        name, [thumbnail(str(table.crop_path[crop])) for crop in chosen], max(len(first) - MOST_CROPS, 0)
    )


def thumbnail(path: str) -> str:
    """Return a small JPEG of an image file as a data address, empty where it cannot be read."""
    if not path:
        return ""
    try:
        image = Image.fromarray(decode(path))
    except (ImageError, OSError):
        return ""
    content = io.BytesIO()
    image.resize(THUMBNAIL, Image.Resampling.BILINEAR).save(content, "JPEG", quality=80)
    return data_uri(content.getvalue(), kind="jpeg")


def _bar(association: Association, row: int, cameras: Sequence[str], span: tuple[float, float]) -> Bar:
    table = association.tracklets
    first, last = float(table.first[row]), float(table.last[row])
    whole = span[1] - span[0]
    label = f"{table.camera[row]}, {table.name[row]}: {_time(first)} to {_time(last)}"
    return Bar(cameras.index(str(table.camera[row])), (first - span[0]) / whole, (last - first) / whole, label)


def _time(seconds: float) -> str:
    """Return a time as a person reads it: a date, or hours, minutes and seconds."""
    if seconds >= _DATE:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60):02d}:{int(minutes % 60):02d}:{rest:04.1f}"
