"""A table of images: a CSV file with the columns path and pid, and where known cam, role, frame, mask and clothes.

Commas, semicolons or tabs may part the columns. Further columns have no effect, unless their
name shows that one of ours was meant.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import ClassVar, Literal

from pydantic import Field

from passerby.data.names import existing_form, require_text
from passerby.data.readers.hash_split import DEFAULT_SHARE, split_by_hash, split_note
from passerby.data.readers.listing import columns, find_masks, some
from passerby.data.readers.named_images import NamedImage, NamedSplits, name_notes, number_shots
from passerby.data.readers.numbers import whole_number
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError, did_you_mean
from passerby.types import Dataset

ROLES = ("train", "query", "gallery")
COLUMNS = ("path", "pid", "cam", "role", "frame", "mask", "clothes", "tracklet")
MEANT = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img_path"),
    "pid": ("id", "identity", "person", "person_id", "personid", "label"),
    "cam": ("camera", "camid", "cam_id", "camera_id", "cameraid"),
    "role": ("split", "subset", "set"),
    "frame": ("frame_id", "frameid", "frame_number"),
    "mask": ("mask_path", "mask_file"),
    "clothes": ("clothes_id", "clothesid", "cloth", "cloth_id", "clothing", "outfit"),
    "tracklet": ("tracklet_id", "trackletid", "track", "track_id", "trackid"),
}
"""Names of the columns in other programs; a table without ours but with one of these is refused, not misread."""


class Csv(ReaderSettings):
    """A CSV file; its relative paths are relative to the file itself, with slashes or backslashes.

    Attributes:
        path: the file.
        test_share: share of the identities to test on, in [0, 1], for a table without a role column; 0.5 unless given.
        masks: folder of foreground masks, one .png at the relative path of each image, for a table without a mask
            column; None = `masks` inside or beside the folder of the file.

    """

    summary: ClassVar[str] = "your own table: path, pid, and where known cam, role, frame, mask, clothes, tracklet"
    is_public: ClassVar[bool] = False
    place_key: ClassVar[str] = "path"

    kind: Literal["csv"] = "csv"
    path: str
    test_share: float | None = Field(default=None, ge=0, le=1)

    def read(self, name: str) -> Dataset:
        """See `read_csv`."""
        return read_csv(self, name)


def read_csv(settings: Csv, name: str) -> Dataset:
    """Read a table of images; an empty pid or cam is unknown, an empty role leaves the image out.

    Raises:
        UserError: no file, a column or cell that is missing or wrong (and the line), or `test_share` beside roles.

    """
    require_text(settings.path)
    file = existing_form(Path(settings.path).expanduser())
    header, lines = _read_lines(file)
    if "role" in header and settings.test_share is not None:
        raise UserError(f"csv: test_share has no effect, because {file} has a column 'role'")
    if "mask" in header and settings.masks is not None:
        raise UserError(f"csv: masks has no effect, because {file} has a column 'mask'")
    rows = [(_shot(line, file), _role(line, file)) for line in lines]
    notes: list[str] = []
    if "role" in header:
        splits = NamedSplits(*([shot for shot, role in rows if role == each] for each in ROLES))
        if not splits.all:
            raise UserError(f"csv: no line of {file} has a role; allowed: {', '.join(ROLES)}")
        notes.extend(_unused_note(len(rows) - len(splits.all)))
    else:
        splits = split_by_hash(
            [shot for shot, _ in rows], DEFAULT_SHARE if settings.test_share is None else settings.test_share
        )
        notes.extend(split_note(splits))
    train, query, gallery = (
        columns(numbered, [shot.path for shot in shots], masks=_masks(shots, file, header, settings))
        for numbered, shots in zip(number_shots(splits), (splits.train, splits.query, splits.gallery), strict=True)
    )
    return Dataset(name, train, query, gallery, (*notes, *name_notes(splits)))


def _masks(shots: Sequence[NamedImage], file: Path, header: Sequence[str], settings: Csv) -> list[str]:
    """Return the masks that the table names, or without such a column those at the relative paths of its images."""
    if "mask" in header:
        return [shot.mask for shot in shots]
    relative = [os.path.relpath(shot.path, file.parent) for shot in shots]
    below = [path for path in relative if not path.startswith(os.pardir)]
    masks_by_path = dict(zip(below, find_masks(below, file.parent, masks=settings.masks), strict=True))
    return [masks_by_path.get(path, "") for path in relative]


def _unused_note(count: int) -> tuple[str, ...]:
    return (f"Images without a role left out: {count:,}.",) if count else ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        number: where it stands in the file, from 1.
        cells: what stands below each of our columns.

    """

    number: int
    cells: Mapping[str, str]


def _read_lines(file: Path) -> tuple[list[str], list[Line]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            text.seek(0)
            reader = csv.reader(text, delimiter=max(",;\t", key=first.count))
            header = [title.strip() for title in next(reader, [])]
            _check_header(file, header)
            lines = [_line(file, reader.line_num, cells, header) for cells in reader if any(cells)]
    except OSError as error:
        raise UserError(f"csv: cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"csv: {file} is not a CSV file in UTF-8 ({error})") from error
    if not lines:
        raise UserError(f"csv: {file} has no line below its header")
    return header, lines


def _check_header(file: Path, header: Sequence[str]) -> None:
    repeated = [column for column in COLUMNS if header.count(column) > 1]
    if repeated:
        raise UserError(f"csv: {file} has two columns {repeated[0]!r}")
    for column in COLUMNS:
        meant = [title for title in header if title.lower().replace(" ", "_") in (column, *MEANT[column])]
        if column not in header and meant:
            raise UserError(f"csv: {file} has a column {meant[0]!r}; call it {column!r}")
    missing = [column for column in ("path", "pid") if column not in header]
    if missing:
        raise UserError(f"csv: {file} lacks the column {missing[0]!r}; it has {some(header, 'none')}")


def _line(file: Path, number: int, cells: Sequence[str], header: Sequence[str]) -> Line:
    if len(cells) != len(header):
        raise UserError(f"csv: {file}, line {number} has {len(cells)} cells, the header has {len(header)}")
    return Line(number, {title: cell.strip() for title, cell in zip(header, cells, strict=True) if title in COLUMNS})


def _shot(line: Line, file: Path) -> NamedImage:
    cells = line.cells
    if not cells["path"]:
        raise UserError(f"csv: {file}, line {line.number} has no path")
    mask = cells.get("mask", "")
    return NamedImage(
        path=_place(cells["path"], file),
        pid=cells["pid"],
        cam=cells.get("cam", ""),
        frame=_frame(line, file),
        mask=_place(mask, file) if mask else "",
        clothes=cells.get("clothes"),
        tracklet=cells.get("tracklet"),
    )


def _frame(line: Line, file: Path) -> int | None:
    text = line.cells.get("frame", "")
    frame = whole_number(text)
    if text and frame is None:
        shown = repr(text) if len(text) <= 40 else f"{text[:20]!r}... ({len(text):,} characters)"
        raise UserError(f"csv: {file}, line {line.number}: frame {shown} is not a whole number")
    return frame


def _place(cell: str, file: Path) -> str:
    """Return the path of a cell below the folder of the file; one written on Windows has backslashes.

    Raises:
        UserError: it begins with the drive of another system.

    """
    if "\\" in cell and os.sep == "/" and not os.path.lexists(file.parent / cell):
        if PureWindowsPath(cell).drive:
            raise UserError(
                f"csv: {file} names {cell}, a path with a drive of Windows; write paths relative to the folder of the "
                "file"
            )
        cell = cell.replace("\\", "/")
    return str(existing_form(file.parent / cell))


def _role(line: Line, file: Path) -> str:
    role = line.cells.get("role", "")
    if role and role not in ROLES:
        hint = did_you_mean(role, ROLES)
        raise UserError(
            f"csv: {file}, line {line.number}: role {role!r} is not known; allowed: {', '.join(ROLES)}{hint}"
        )
    return role
