"""Crops of a video frame by the boxes of a detector or tracker."""

from __future__ import annotations

import warnings
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from passerby.data.decoding import Pixels
from passerby.errors import UserError
from passerby.types import Bools, Doubles

MOST_SUSPICIOUS = 0.5
"""Share of boxes that would have no area, from which they are taken for another format."""


@runtime_checkable
class HasBoxes(Protocol):
    """Anything with boxes as corners, for example `supervision.Detections`."""

    @property
    def xyxy(self) -> npt.NDArray[np.generic]:
        """(N, 4) left, top, right, bottom in pixels."""
        ...


Boxes = npt.ArrayLike | HasBoxes
"""(N, 4) corners x1, y1, x2, y2 in pixels of the frame, or an object that has them as `xyxy`."""


def crop_boxes(frame: npt.NDArray[np.uint8], boxes: Boxes) -> tuple[list[Pixels], Bools]:
    """Cut boxes out of a frame.

    A box is rounded to whole pixels outwards and clipped to the frame. One that has no area, lies outside, or holds NaN
    is not cut.

    Args:
        frame: (H, W, 3) uint8 in the order blue, green, red, as OpenCV reads it.
        boxes: N boxes.

    Returns:
        The crops (h, w, 3) uint8 RGB of the valid boxes, and (N,) which boxes are valid.

    Raises:
        UserError: a frame or boxes of another shape or type.

    """
    pixels = _frame(frame)
    corners = _corners(boxes)
    height, width = pixels.shape[:2]
    with np.errstate(invalid="ignore"):
        low = np.clip(np.floor(corners[:, :2]), 0, (width, height))
        high = np.clip(np.ceil(corners[:, 2:]), 0, (width, height))
        valid = np.asarray((high > low).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1), np.bool_)
    _warn_of_format(corners, valid, (width, height))
    rgb = pixels[:, :, ::-1]
    crops = [
        np.ascontiguousarray(rgb[top:bottom, left:right])
        for left, top, right, bottom in np.concatenate([low, high], axis=1)[valid].astype(int)
    ]
    return crops, valid


def _frame(frame: npt.NDArray[np.uint8]) -> Pixels:
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        shape = getattr(frame, "shape", type(frame).__name__)
        raise UserError(f"a frame is an array (H, W, 3) in the order blue, green, red, got {shape}")
    if frame.dtype != np.uint8:
        raise UserError(f"a frame holds bytes (uint8), got {frame.dtype}")
    if not frame.size:
        raise UserError(f"the frame has no pixels: {frame.shape}")
    return frame


def _corners(boxes: Boxes) -> Doubles:
    values = boxes.xyxy if isinstance(boxes, HasBoxes) else boxes
    try:
        corners = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes are numbers (N, 4), got {type(values).__name__}") from error
    if not corners.size:
        return np.empty((0, 4))
    if corners.ndim != 2 or corners.shape[1] != 4:
        hint = "; a single box is [[x1, y1, x2, y2]]" if corners.shape == (4,) else ""
        raise UserError(f"boxes have the shape (N, 4): x1, y1, x2, y2, got {corners.shape}{hint}")
    return corners


def _warn_of_format(corners: Doubles, valid: Bools, size: tuple[int, int]) -> None:
    """Warn where boxes look like (x, y, width, height) or like shares of the frame."""
    if not len(corners):
        return
    inside = np.asarray(np.isfinite(corners).all(axis=1), np.bool_)
    if len(corners) > 1 and inside.all() and corners.min() >= 0 and corners.max() <= 1.5:
        warnings.warn(
            "all corners of the boxes are below 1.5; boxes are in pixels, not in shares of the frame", stacklevel=4
        )
        return
    turned = inside & (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    ends = corners[:, :2] + corners[:, 2:]
    as_sizes = np.asarray((ends <= np.array(size) + 1).all(axis=1) & (corners[:, 2:] > 0).all(axis=1), np.bool_)
    if turned.mean() >= MOST_SUSPICIOUS and as_sizes[inside].all() and not valid.all():
        warnings.warn(
            f"{int(turned.sum())} of {len(corners)} boxes end before they begin; they look like x, y, width, height, "
            "and corners x1, y1, x2, y2 are needed: boxes[:, 2:] += boxes[:, :2]",
            stacklevel=4,
        )
