"""Searching a table of vectors for the images that are most like others, and comparing two images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from passerby.data.readers.cameras import camera_of
from passerby.data.readers.pattern import Pattern, compile_pattern
from passerby.distances.camera_norm import camera_statistics
from passerby.distances.nearest import smallest
from passerby.distances.pairwise import pairwise
from passerby.distances.units import cosine_of, unit_rows
from passerby.encoders import GivenCamera, Model, Trained, require_maskless
from passerby.errors import UserError
from passerby.types import UNKNOWN, CameraNorm, Embeddings, Floats, Ints, Words

SAME = 0.98
"""Cosine of two vectors of one image, above which they are one model's, in whatever precision and program."""
FEW = 100
"""How many file names of a table are tried."""
ELSEWHERE = -2
"""Number of a camera that is known and has no image in the table."""


@dataclass(frozen=True)
class SearchHit:
    """One answer of a search.

    Attributes:
        row: of the table.
        distance: cosine distance in [0, 2].
        path: the file, `""` when unknown.
        pid, cam: identity and camera, -1 when unknown.

    """

    row: int
    distance: float
    path: str
    pid: int
    cam: int


def search(model: Model, table: Embeddings, image: Path, *, count: int) -> list[SearchHit]:
    """Find the rows of a table that are most like one image, nearest first; see `search_all`."""
    return search_all(model, table, np.array([str(image)]), count=count)[0]


def search_all(
    model: Model,
    table: Embeddings,
    images: Words,
    *,
    count: int,
    threshold: float | None = None,
    other_than: Ints | None = None,
    cam: Ints | None = None,
    camera_norm: CameraNorm = "none",
    table_cam: Ints | None = None,
) -> list[list[SearchHit]]:
    """Find the rows of a table that are most like each of some images, nearest first, ties by row.

    Args:
        model: the one that made the table.
        table: where to look, G rows.
        images: (Q,) files.
        count: answers per image at most.
        threshold: the largest cosine distance that is accepted; None = all.
        other_than: (Q,) cameras whose rows are left out for each image; None = none.
        cam: (Q,) rows of the images in the camera table of the model, -1 = unknown; None = all unknown.
        camera_norm: what is taken out of the vectors of each camera, by the statistics of the table.
        table_cam: (Q,) cameras of the images, as the table numbers them, for `camera_norm`; None = unknown.

    Raises:
        UserError: an image that cannot be read, vectors of another model, or `camera_norm` on a table without cameras.

    """
    require_maskless(model)
    if model.flip != table.flip:
        model = model.with_flip(table.flip)
    vectors = model.vectors(images, cam=cam)
    if vectors.shape[1] != table.vectors.shape[1]:
        raise UserError(
            f"the table holds vectors of {table.vectors.shape[1]} numbers, this model makes {vectors.shape[1]}; "
            "embed the images with this model"
        )
    _require_same_model(model, table)
    vectors, table = _without_camera_effects(vectors, table, camera_norm=camera_norm, cam=table_cam)
    return _hits(vectors, table, count=count, threshold=threshold, other_than=other_than, device=model.device)


def search_projected(
    model: Trained, table: Embeddings, texts: Floats, *, count: int, threshold: float | None = None
) -> list[list[SearchHit]]:
    """Find the rows of a table whose projected images are most like each of some texts, nearest first, ties by row.

    Args:
        model: the one that made the table; the last E numbers of its vectors before the neck are the projected image.
        table: where to look, G rows of vectors before the neck.
        texts: (Q, E) vectors of texts.
        count: answers per text at most.
        threshold: the largest cosine distance that is accepted; None = all.

    Raises:
        UserError: a model without a projection of the length of the texts, vectors after the neck, or vectors of
            another model.

    """
    embedder = model.embedder
    if embedder.backbone.projection != texts.shape[1]:
        raise UserError(
            f"vectors of texts have {texts.shape[1]} numbers, and this model projects images to "
            f"{embedder.backbone.projection or 'none'}; give the text tower of the CLIP that the model is of"
        )
    if {table.feature, model.feature} != {"before_neck"} or table.vectors.shape[1] != embedder.dimension:
        raise UserError(
            f"the table holds vectors {table.feature or 'of an unknown kind'} of {table.vectors.shape[1]} numbers; "
            f"texts are compared with projected images, which are in vectors before_neck of {embedder.dimension}; "
            "embed the images with this model, where it is tested with test.feature=before_neck"
        )
    _require_same_model(model.with_flip(table.flip), table)
    projected = replace(table, vectors=table.vectors[:, -embedder.backbone.projection :])
    return _hits(texts, projected, count=count, threshold=threshold, other_than=None, device=model.device)


def _hits(
    vectors: Floats,
    table: Embeddings,
    *,
    count: int,
    threshold: float | None,
    other_than: Ints | None,
    device: str,
) -> list[list[SearchHit]]:
    """Return the nearest rows of a table to each of some vectors (Q, D)."""
    rows, distances = _nearest(vectors, table, count=count, other_than=other_than, device=device)
    limit = np.inf if threshold is None else threshold
    paths = np.full(len(table), "") if table.path is None else table.path
    return [
        [
            SearchHit(int(row), float(distance), str(paths[row]), int(table.pid[row]), int(table.cam[row]))
            for row, distance in zip(*answer, strict=True)
            if np.isfinite(distance) and distance <= limit
        ]
        for answer in zip(rows, distances, strict=True)
    ]


def _without_camera_effects(
    vectors: Floats, table: Embeddings, *, camera_norm: CameraNorm, cam: Ints | None
) -> tuple[Floats, Embeddings]:
    """Return vectors (Q, D) and a table normalised by the statistics of the table."""
    if camera_norm == "none":
        return vectors, table
    if (table.cam == UNKNOWN).all():
        raise UserError(f"camera norm {camera_norm!r} needs the cameras of the images, and the .npz has none")
    units = unit_rows(table.vectors)
    statistics = camera_statistics(units, table.cam, how=camera_norm)
    cameras = np.full(len(vectors), UNKNOWN) if cam is None else cam
    normalised = replace(table, vectors=statistics.apply(units, table.cam))
    return statistics.apply(unit_rows(vectors), cameras), normalised


def _nearest(
    vectors: Floats, table: Embeddings, *, count: int, other_than: Ints | None, device: str
) -> tuple[Ints, Floats]:
    """Return rows (Q, K) and cosine distances (Q, K); rows that are left out are at infinity."""
    source = pairwise(vectors, table.vectors, metric="cosine", device=device)
    rows, distances = [], []
    for start, block in source.blocks():
        if other_than is not None:
            left_out = other_than[start : start + len(block), None] == table.cam
            block[torch.from_numpy(left_out).to(block.device)] = torch.inf
        columns, values = smallest(block, min(count, len(table)))
        rows.append(columns)
        distances.append(np.maximum(values + np.float32(source.offset), 0))  # rounding leads a little below 0
    return np.concatenate(rows), np.concatenate(distances)


def image_distance(model: Model, first: Path, second: Path, *, cam: Ints | None = None) -> float:
    """Return the cosine distance in [0, 2] between two images.

    Args:
        model: makes the vectors.
        first: a file.
        second: another file.
        cam: (2,) rows of the images in the camera table of the model, -1 = unknown; None = both unknown.

    Raises:
        UserError: an image that cannot be read, or a model that needs masks.

    """
    require_maskless(model)
    one, other = model.vectors(np.array([str(first), str(second)]), cam=cam)
    return max(0.0, 1 - cosine_of(one, other))


def _require_same_model(model: Model, table: Embeddings) -> None:
    """Embed one image of the table again, where its file is still there, and refuse vectors of another model.

    A model that uses cameras is tried where the table is of a data set whose cameras it learnt.
    """
    if table.path is None or table.input_mask != "none":
        return
    rows = model.cameras.rows(table.dataset, table.cam)
    if model.cameras.count and (rows == UNKNOWN).any():
        return
    row = next((row for row, path in enumerate(table.path[:FEW].tolist()) if Path(path).is_file()), None)
    if row is None:
        return
    cosine = cosine_of(model.vectors(table.path[[row]], cam=rows[[row]])[0], table.vectors[row])
    if cosine < SAME:
        raise UserError(
            f"the table was made by another model, or {table.path[row]} has changed: seen by this model it lies "
            f"{1 - cosine:.3f} from its own vector (cosine distance); embed the images with this model"
        )


# ---- cameras of the images that are searched for


def query_cameras(
    table: Embeddings,
    images: Words,
    *,
    camera: str | None = None,
    pattern: str | None = None,
    untold: Literal["refuse", "unknown"] = "refuse",
) -> Ints:
    """Return the camera (Q,) of each image, as the table numbers cameras; -2 = one that the table does not have.

    An image that is in the table has the camera of its row. Otherwise names are read: by the pattern, or as in c2 or
    cam2; the names of the table say which number such a word has.

    Args:
        table: with cameras.
        images: (Q,) files.
        camera: that of all images, as a number of the table or as the word in its names.
        pattern: how names tell cameras, as in `kind: folder`.
        untold: treatment of an image whose camera neither table nor name holds; unknown = it gets -1.

    Raises:
        UserError: the table knows no cameras, or the camera of an image is not told and that is refused.

    """
    if (table.cam == UNKNOWN).all():
        raise UserError("the .npz has no cameras, which --other-cameras needs; embed images whose names hold it")
    template = None if pattern is None else compile_pattern(pattern)
    paths = np.full(len(table), "") if table.path is None else table.path
    words = {word: int(cam) for path, cam in zip(paths, table.cam, strict=True) if (word := _camera(path, template))}
    if camera is not None:
        return np.full(len(images), _number(camera, words))
    rows = {str(Path(path).resolve()): int(cam) for path, cam in zip(paths, table.cam, strict=True) if path}
    return np.array([_camera_of(str(path), rows, words, template, untold=untold) for path in images], np.int64)


def model_cameras(
    model: Model, table: Embeddings, images: Words, *, camera: str | None = None, dataset: str | None = None
) -> Ints:
    """Return the row (Q,) of each image in the camera table of a model, -1 = unknown.

    Args:
        model: as loaded.
        table: in which an image may be, with its camera.
        images: (Q,) files.
        camera: number of the camera of all images; None = that of the row of the table, or of the file name.
        dataset: the training data set that has the camera; None = that of the table, or the only one there is.

    Raises:
        UserError: a camera or data set that the model did not learn.

    """
    if not model.cameras.count:
        GivenCamera(None, dataset).dataset_of(model)
        return np.full(len(images), UNKNOWN)
    if dataset is None and table.dataset in model.cameras.datasets:
        dataset = table.dataset
    if camera is not None:
        if not camera.isascii() or not camera.isdecimal():
            raise UserError(f"--camera {camera}: the model learnt cameras by numbers ({model.cameras})")
        return GivenCamera(int(camera), dataset).rows(model, np.full(len(images), int(camera)))
    paths = np.full(len(table), "") if table.path is None else table.path
    rows = {str(Path(path).resolve()): int(cam) for path, cam in zip(paths, table.cam, strict=True) if path}
    words = [_camera(str(path), None) for path in images]
    named = [int(word) if word.isascii() and word.isdecimal() and len(word) <= 18 else UNKNOWN for word in words]
    cam = [rows.get(str(Path(path).resolve()), number) for path, number in zip(images, named, strict=True)]
    return GivenCamera(None, dataset).rows(model, np.array(cam, np.int64))


def _camera_of(
    path: str,
    rows: dict[str, int],
    words: dict[str, int],
    template: Pattern | None,
    *,
    untold: Literal["refuse", "unknown"],
) -> int:
    if (known := rows.get(str(Path(path).resolve()), UNKNOWN)) != UNKNOWN:
        return known
    word = _camera(path, template)
    if not word:
        if untold == "unknown":
            return UNKNOWN
        raise UserError(f"unknown camera of {path}; give --camera, or the --pattern of file names")
    return _number(word, words)


def _number(word: str, words: dict[str, int]) -> int:
    """Return the number of a camera by its word; where the table numbers cameras by value, a new one has its value."""
    if word in words:
        return words[word]
    by_value = all(known.isdecimal() and int(known) == number for known, number in words.items())
    return int(word) if by_value and word.isascii() and word.isdecimal() and len(word) <= 18 else ELSEWHERE


def _camera(path: str, template: Pattern | None) -> str:
    """Return the word for the camera in the name of a file or, without a pattern, of its folder; "" where none is."""
    parts = Path(path).parts
    if template is not None:
        fields = template.match("/".join(parts[-template.depth - 1 :])) or {}
        return fields.get("cam") or ""
    return camera_of("/".join(parts[-2:]))


def require_threshold(threshold: float | None) -> None:
    """Raise `UserError` unless a threshold is a cosine distance."""
    if threshold is not None and not 0 <= threshold <= 2:
        raise UserError(f"a threshold is a cosine distance from 0 to 2, got {threshold:g}")
