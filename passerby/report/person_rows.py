"""Rows of the page of people: crops over cameras and a timeline, of an identity or of a true person.

Where the truth is known, tracklets that do not belong are set apart: in the row of an identity those of people other
than the main one, in the row of a true person those that were given to other identities.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from passerby.association.associate import Association
from passerby.association.scores import AssociationScores
from passerby.data.decoding import ImageError, decode
from passerby.report.palette import data_uri
from passerby.types import UNKNOWN, Ints

MOST_CROPS = 4
"""Most crops of a row at one camera."""
THUMBNAIL = (60, 120)
"""Width and height of a crop in pixels."""
_DATE = 1e8  # seconds since 1970 from which a time is shown as a date


@dataclass(frozen=True)
class CameraCrops:
    """Crops at one camera of tracklets that belong together.

    Attributes:
        name: of the camera.
        crops: images as data addresses, empty where there is none.
        more: number of tracklets without a crop on the page.
        other: whose they are where they do not belong in the row; empty = they do.

    """

    name: str
    crops: list[str]
    more: int
    other: str


@dataclass(frozen=True)
class Bar:
    """The time of a tracklet on the timeline.

    Attributes:
        line: number of the camera among those of the row.
        begin, share: where it begins and how long it is, as shares of the whole time.
        label: the times in words.
        other: as of its crops.

    """

    line: int
    begin: float
    share: float
    label: str
    other: str


@dataclass(frozen=True)
class PersonRow:
    """An identity or a true person on the page.

    Attributes:
        anchor: name of the row in the page.
        title: what it is.
        summary: tracklets, cameras and confidence.
        errors: sentences on errors, where the truth is known.
        lines: names of the cameras, in order of first appearance.
        cameras: crops by camera.
        bars: tracklets on the timeline; empty without a common clock.

    """

    anchor: str
    title: str
    summary: str
    errors: list[str]
    lines: list[str]
    cameras: list[CameraCrops]
    bars: list[Bar]


def time_span(association: Association) -> tuple[float, float]:
    """Return the first and last second of the common clock; equal where there is none."""
    table = association.tracklets
    if not table.has_clock.any():
        return 0.0, 0.0
    return float(table.first[table.has_clock].min()), float(table.last[table.has_clock].max())


def identity_row(
    association: Association, scores: AssociationScores | None, number: int, span: tuple[float, float]
) -> PersonRow:
    """Return the row of an identity; of several true people, all but the one with most seconds are set apart."""
    rows = np.flatnonzero(association.identity == number)
    pid = association.tracklets.pid[rows]
    main = _longest(association, rows, pid)
    others = [f"person {person}" if person not in (main, UNKNOWN) else "" for person in pid.tolist()]
    errors = [] if scores is None else _identity_errors(association, scores, number, rows)
    confidence = f"confidence {float(association.confidence[rows].mean()):.2f}"
    alone = "; fits no other" if len(rows) == 1 else ""
    return _row(association, f"identity-{number}", f"Identity {number}", rows, others, errors, confidence + alone, span)


def true_person_row(association: Association, person: int, span: tuple[float, float]) -> PersonRow:
    """Return the row of a true person; tracklets outside of the identity with most of the seconds are set apart."""
    table = association.tracklets
    rows = np.flatnonzero(table.pid == person)
    identity = association.identity[rows]
    main = _longest(association, rows, identity)
    others = [f"identity {number}" if number != main else "" for number in identity.tolist()]
    errors = []
    if len(set(identity.tolist())) > 1:
        errors.append(f"split: in identities {_words(identity)}")
    for number in sorted(set(identity.tolist())):
        people = table.pid[association.identity == number]
        strangers = people[(people != person) & (people != UNKNOWN)]
        if len(strangers):
            errors.append(f"merged: identity {number} also holds {_words(strangers, 'person', 'people')}")
    within = f"most of the time in identity {main}" if any(others) else f"all in identity {main}"
    return _row(association, f"person-{person}", f"True person {person}", rows, others, errors, within, span)


def people_with_errors(association: Association, scores: AssociationScores) -> list[int]:
    """Return the true people who are split, or in one identity with others, those with the most tracklets first."""
    pid = association.tracklets.pid
    wrong = np.isin(pid, scores.split) | np.isin(association.identity, scores.merged)
    people, sizes = np.unique(pid[wrong & (pid != UNKNOWN)], return_counts=True)
    return [int(people[place]) for place in np.lexsort((people, -sizes))]


def _words(numbers: Ints, one: str = "", many: str = "") -> str:
    names = sorted(set(numbers.tolist()))
    return f"{one if len(names) == 1 else many} {', '.join(map(str, names))}".strip()


def _longest(association: Association, rows: Ints, group: Ints) -> int:
    """Return the group with the most seconds among those (M,) of some tracklets; of equal ones the lowest."""
    table = association.tracklets
    seconds = np.maximum(np.nan_to_num(table.last[rows] - table.first[rows]), 1e-3)
    names, place = np.unique(group, return_inverse=True)
    return int(names[np.bincount(place, weights=seconds).argmax()])


def _identity_errors(association: Association, scores: AssociationScores, number: int, rows: Ints) -> list[str]:
    """Return sentences on the true people of an identity: several in it, or one in several."""
    people = sorted(set(association.tracklets.pid[rows].tolist()) - {UNKNOWN})
    errors = []
    if number in scores.merged:
        errors.append(f"merged: true people {', '.join(map(str, people))}")
    for person in people:
        if person in scores.split:
            others = sorted(set(association.identity[association.tracklets.pid == person].tolist()) - {number})
            errors.append(f"split: true person {person} also in {', '.join(map(str, others))}")
    return errors


def _row(
    association: Association,
    anchor: str,
    title: str,
    rows: Ints,
    others: Sequence[str],
    errors: list[str],
    more: str,
    span: tuple[float, float],
) -> PersonRow:
    """Return a row of tracklets (M,); `others` (M,) names those that do not belong."""
    table = association.tracklets
    order = np.lexsort((table.name[rows], table.camera[rows], np.nan_to_num(table.first[rows])))
    rows, other = rows[order], np.array(others)[order]
    lines = list(dict.fromkeys(str(name) for name in table.camera[rows]))
    groups = list(dict.fromkeys(zip(table.camera[rows].tolist(), other.tolist(), strict=True)))
    groups.sort(key=lambda group: (lines.index(group[0]), group[1]))
    counts = f"{len(rows)} tracklet{'s' * (len(rows) > 1)}, {len(lines)} camera{'s' * (len(lines) > 1)}; "
    return PersonRow(
        anchor,
        title,
        counts + more,
        errors,
        lines,
        [
            _camera(association, rows[(table.camera[rows] == name) & (other == whose)], name, whose)
            for name, whose in groups
        ],
        [
            _bar(association, row, lines, span, whose)
            for row, whose in zip(rows.tolist(), other.tolist(), strict=True)
            if span[1] > span[0] and table.has_clock[row]
        ],
    )


def _camera(association: Association, rows: Ints, name: str, other: str) -> CameraCrops:
    """Return crops of tracklets (M,) at a camera: one of each, then more of the first ones."""
    table = association.tracklets
    first = [table.crops(row).start for row in rows.tolist() if table.crops(row).stop > table.crops(row).start]
    further = [crop for row in rows.tolist() for crop in range(table.crops(row).start + 1, table.crops(row).stop)]
    images = [thumbnail(str(table.crop_path[crop])) for crop in sorted([*first, *further][:MOST_CROPS])]
    return CameraCrops(name, images, max(len(first) - MOST_CROPS, 0), other)


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


def _bar(association: Association, row: int, lines: Sequence[str], span: tuple[float, float], other: str) -> Bar:
    table = association.tracklets
    first, last = float(table.first[row]), float(table.last[row])
    whole = span[1] - span[0]
    label = f"{table.camera[row]}, {table.name[row]}: {time_text(first)} to {time_text(last)}"
    label += f"; {other}" if other else ""
    return Bar(lines.index(str(table.camera[row])), (first - span[0]) / whole, (last - first) / whole, label, other)


def time_text(seconds: float) -> str:
    """Return a time as a person reads it: a date, or hours, minutes and seconds."""
    if seconds >= _DATE:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60):02d}:{int(minutes % 60):02d}:{rest:04.1f}"
