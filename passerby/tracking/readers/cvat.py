"""Tracks of CVAT: "CVAT for video" XML (tracks of boxes), "CVAT for images" XML (boxes with a track id), and CSV.

Notable: frames count from 0. A box that is `outside` ends its track for the time being and is no box. XML is read
element by element. The CSV has a header; its columns are recognised by name, in any order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from passerby.errors import UserError
from passerby.files import reading
from passerby.tracking.notes import Notes
from passerby.tracking.readers.coco import TRACK_KEYS
from passerby.tracking.readers.table import BoxRow, BoxTable, pid_of

LARGEST_XML = 1 << 30

COLUMNS: dict[str, tuple[str, ...]] = {
    "frame": ("frame", "frame_id", "frame_number", "frame_index"),
    "id": ("track_id", "id", "track", "tracker_id", "object_id", "instance_id"),
    "x1": ("x1", "xtl", "xmin", "x_min", "left", "x", "bb_left", "bbox_x"),
    "y1": ("y1", "ytl", "ymin", "y_min", "top", "y", "bb_top", "bbox_y"),
    "x2": ("x2", "xbr", "xmax", "x_max", "right"),
    "y2": ("y2", "ybr", "ymax", "y_max", "bottom"),
    "w": ("w", "width", "bb_width", "bbox_w"),
    "h": ("h", "height", "bb_height", "bbox_h"),
    "score": ("score", "conf", "confidence"),
    "label": ("label", "class", "class_name"),
}
"""Names of columns, lower case; the first that is there counts."""


def read_cvat_xml(path: Path, *, true_ids: bool, notes: Notes) -> tuple[BoxTable, dict[int, str]]:
    """Return the boxes, and the image file of each frame where the file names any.

    Args:
        path: the .xml.
        true_ids: whether ids are true identities.
        notes: counts what is left out.

    Raises:
        UserError: not such a file.

    """
    table, names = BoxTable(), {}
    with reading(path, "CVAT XML"):
        if path.stat().st_size > LARGEST_XML:
            raise UserError(f"{path} is larger than {LARGEST_XML >> 20} MiB; export the clip in parts")
        root = ""
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            root = root or element.tag
            if root != "annotations":
                raise UserError(f"{path} is no CVAT XML: it begins with <{root}>, not <annotations>")
            if event == "start":
                continue
            if element.tag == "track":
                table.rows += _boxes_of_track(element, path, true_ids, notes)
                element.clear()
            elif element.tag == "image":
                number, rows = _boxes_of_image(element, path, true_ids, notes)
                names[number] = element.get("name", "")
                table.rows += rows
                element.clear()
    return table.persons(notes), names


def _boxes_of_track(track: ElementTree.Element, path: Path, true_ids: bool, notes: Notes) -> Iterator[BoxRow]:
    id_ = track.get("id", "")
    pid = pid_of(id_, true_ids, path)
    for box in track.iter("box"):
        if box.get("outside") == "1":
            continue
        corners, frame = _xml_corners(box), box.get("frame", "")
        if corners is None or not frame.isdigit():
            notes.add("row")
            continue
        yield BoxRow(int(frame), id_, corners, pid, label=track.get("label", ""))


def _boxes_of_image(image: ElementTree.Element, path: Path, true_ids: bool, notes: Notes) -> tuple[int, list[BoxRow]]:
    number = image.get("id", "")
    if not number.isdigit():
        raise UserError(f"{path}: an image has the id {number!r}, no number")
    rows = []
    for box in image.iter("box"):
        corners = _xml_corners(box)
        texts = {each.get("name", ""): (each.text or "").strip() for each in box.iter("attribute")}
        id_ = next((texts[key] for key in TRACK_KEYS if texts.get(key)), "")
        if corners is None:
            notes.add("row")
        else:
            pid = pid_of(id_, true_ids, path)
            rows.append(BoxRow(int(number), id_, corners, pid, label=box.get("label", "")))
    return int(number), rows


def _xml_corners(box: ElementTree.Element) -> tuple[float, float, float, float] | None:
    try:
        left, top, right, bottom = (float(box.get(name, "")) for name in ("xtl", "ytl", "xbr", "ybr"))
    except ValueError:
        return None
    return (left, top, right, bottom)


def read_tracks_csv(path: Path, *, true_ids: bool, notes: Notes) -> BoxTable:
    """Return the boxes of a CSV with a header.

    Args:
        path: the .csv.
        true_ids: whether ids are true identities.
        notes: counts what is left out.

    Raises:
        UserError: no such file, or columns that are missing.

    """
    table = BoxTable()
    with reading(path, "a CSV with a header"), path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.DictReader(file)
        columns = _columns([str(name) for name in records.fieldnames or []], path)
        for record in records:
            row = _row({key: record.get(name) or "" for key, name in columns.items()}, true_ids, path)
            if row is None:
                notes.add("row")
            else:
                table.rows.append(row)
    return table.persons(notes)


def _columns(header: list[str], path: Path) -> dict[str, str]:
    """Return the name of each known column that is there; corners win over width and height."""
    by_name = {name.strip().lower(): name for name in reversed(header)}
    columns = {
        key: by_name[name]
        for key, names in COLUMNS.items()
        if (name := next((name for name in names if name in by_name), None)) is not None
    }
    second = ("x2", "y2") if {"x2", "y2"} <= columns.keys() else ("w", "h")
    missing = [key for key in ("frame", "x1", "y1", *second) if key not in columns]
    if missing:
        raise UserError(
            f"{path} lacks the columns {', '.join(missing)}; it needs frame, track_id and x1, y1, x2, y2 or x, y, w, "
            f"h, and has {', '.join(header) or 'no header'}"
        )
    return columns


def _row(values: Mapping[str, str], true_ids: bool, path: Path) -> BoxRow | None:
    try:
        frame, left, top = int(float(values["frame"])), float(values["x1"]), float(values["y1"])
        corner = "x2" in values and "y2" in values
        right = float(values["x2"]) if corner else left + float(values["w"])
        bottom = float(values["y2"]) if corner else top + float(values["h"])
        score = float(values.get("score") or 1)
    except (ValueError, OverflowError):
        return None
    if frame < 0:
        return None
    id_ = values.get("id", "").strip().removesuffix(".0")
    id_ = "" if id_ == "-1" else id_
    pid = pid_of(id_, true_ids, path)
    return BoxRow(frame, id_, (left, top, right, bottom), pid, score, values.get("label", "").strip())
