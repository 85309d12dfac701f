"""COCO-style JSON with tracks: `images`, `annotations` with `bbox` (x, y, w, h) and `track_id`.

Notable: the order of frames is that of `frame_id`, `frame_index` or `frame_number` of the images, else of their file
names. The track stands in the annotation or in its `attributes`, as `track_id`, `instance_id` or `tracking_id`. The
file is read whole.

Reference:
    Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (format).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from passerby.errors import UserError
from passerby.files import read_json
from passerby.tracking.notes import Notes
from passerby.tracking.readers.table import BoxRow, BoxTable, pid_of

TRACK_KEYS = ("track_id", "instance_id", "tracking_id")
FRAME_KEYS = ("frame_id", "frame_index", "frame_number")


def read_coco(path: Path, *, true_ids: bool, notes: Notes) -> tuple[BoxTable, dict[int, str]]:
    """Return the boxes, and the image file of each frame; frames count from 0 in their order.

    Args:
        path: the .json.
        true_ids: whether ids are true identities; they must be whole numbers then.
        notes: counts what is left out.

    Raises:
        UserError: not such a file, several videos, or an id that is no whole number.

    """
    content = read_json(path)
    images, annotations = (_records(content, key, path) for key in ("images", "annotations"))
    videos = {image.get("video_id") for image in images}
    if len(videos) > 1:
        raise UserError(f"{path} holds {len(videos)} videos (video_id); give each one a file of its own")
    numbers = _numbers(images, path)
    labels = _labels(content)
    table = BoxTable()
    for annotation in annotations:
        frame = numbers.get(_key(annotation.get("image_id")))
        corners = _corners(annotation.get("bbox"))
        if frame is None or corners is None:
            notes.add("row")
        else:
            id_ = _track(annotation)
            label = labels.get(_key(annotation.get("category_id")), "")
            table.rows.append(BoxRow(frame, id_, corners, pid_of(id_, true_ids, path), _score(annotation), label))
    names = {numbers[_key(image["id"])]: str(image["file_name"]) for image in images}
    return table.persons(notes), names


def _records(content: object, key: str, path: Path) -> list[dict[str, object]]:
    records = content.get(key) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path} is no COCO-style JSON: it lacks the list {key!r}")
    return records


def _key(value: object) -> str:
    return str(value)


def _numbers(images: list[dict[str, object]], path: Path) -> dict[str, int]:
    """Return the number of each image by its id, from 0."""
    for image in images:
        if "id" not in image or not isinstance(image.get("file_name"), str):
            raise UserError(f"{path}: each of 'images' needs an id and a file_name")
    key = next((key for key in FRAME_KEYS if images and all(type(image.get(key)) is int for image in images)), None)
    if key is not None:
        first = min(int(str(image[key])) for image in images)
        numbers = {_key(image["id"]): int(str(image[key])) - first for image in images}
    else:
        ordered = sorted(images, key=lambda image: str(image["file_name"]))
        numbers = {_key(image["id"]): number for number, image in enumerate(ordered)}
    if len(numbers) != len(images) or len(set(numbers.values())) != len(images):
        raise UserError(f"{path}: two of 'images' have the same id or the same {key or 'file_name'}")
    return numbers


def _labels(content: object) -> dict[str, str]:
    """Return the names of the categories by their ids."""
    categories = content.get("categories") if isinstance(content, Mapping) else None
    known = [each for each in categories if isinstance(each, dict)] if isinstance(categories, list) else []
    return {_key(each.get("id")): str(each.get("name", "")) for each in known}


def _track(annotation: Mapping[str, object]) -> str:
    attributes = annotation.get("attributes")
    for place in (annotation, attributes if isinstance(attributes, dict) else {}):
        for key in TRACK_KEYS:
            value = place.get(key)
            if isinstance(value, int | str) and str(value) not in ("", "-1"):
                return str(value)
    return ""


def _corners(box: object) -> tuple[float, float, float, float] | None:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return None
    x, y, width, height = map(float, box)
    return (x, y, x + width, y + height)


def _score(annotation: Mapping[str, object]) -> float:
    score = annotation.get("score")
    return float(score) if isinstance(score, int | float) and math.isfinite(score) else 1.0
