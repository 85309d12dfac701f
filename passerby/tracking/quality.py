"""Quality of a crop for recognition: size, sharpness, overlap by other boxes, and the border of the frame.

Notable: everything but the sharpness follows from the boxes alone, so most crops are rejected before a pixel is read.
"""

from __future__ import annotations

import numpy as np

from passerby.data.decoding import Pixels
from passerby.types import Doubles

FULL_AREA = 128 * 64
"""Pixels from which a larger crop is no better."""
SHARP_VARIANCE = 200.0
"""Variance of the Laplacian (grey values 0 to 255) at which the sharpness is one half."""
SHARPNESS_HEIGHT = 128
"""Crops are reduced by whole factors to less than twice this height, so that sharpness means the same at every size."""
BEHIND = 0.5
"""Weight of an overlap by a person who stands behind, whose pixels disturb less than those of a person in front."""
AT_BORDER = 0.7
"""Factor of a box that touches the border, which probably cuts the person."""
BORDER = 1.0
"""Distance in pixels from which a box touches the border."""


def box_quality(corners: Doubles, size: tuple[int, int]) -> Doubles:
    """Return the quality of each box of a frame without its pixels: size x visible share x share inside the frame.

    The visible share is 1 minus the shares covered by the other boxes, one that ends higher in the frame (further from
    the camera) counting `BEHIND`. Time and memory are quadratic in the boxes of one frame.

    Args:
        corners: (N, 4) x1, y1, x2, y2 in pixels.
        size: width and height of the frame.

    Returns:
        (N,) in [0, 1]; 0 outside of the frame.

    >>> box_quality(np.array([[10.0, 10, 74, 138], [10, 20, 74, 148]]), (640, 480)).round(2).tolist()
    [0.08, 0.54]
    """
    width, height = size
    inside = np.clip(corners, 0, (width, height, width, height))
    area, visible = _areas(corners), _areas(inside)
    share = np.divide(visible, area, out=np.zeros(len(area)), where=area > 0)
    touches = (corners[:, :2] <= BORDER).any(axis=1) | (corners[:, 2:] >= np.array(size) - BORDER).any(axis=1)
    large = np.minimum(np.sqrt(visible / FULL_AREA), 1)
    quality: Doubles = large * share * _visible_share(inside) * np.where(touches, AT_BORDER, 1.0)
    return quality


def _areas(corners: Doubles) -> Doubles:
    sides = np.maximum(corners[..., 2:] - corners[..., :2], 0)
    areas: Doubles = sides[..., 0] * sides[..., 1]
    return areas


def _visible_share(corners: Doubles) -> Doubles:
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    common = _areas(np.concatenate([low, high], axis=2))  # (N, N)
    np.fill_diagonal(common, 0)
    in_front = corners[None, :, 3] >= corners[:, None, 3]
    areas = _areas(corners)[:, None]
    covered = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0) * np.where(in_front, 1.0, BEHIND)
    visible: Doubles = np.clip(1 - covered.sum(axis=1), 0, 1)
    return visible


def sharpness(crop: Pixels) -> float:
    """Return the sharpness of a crop: v / (v + `SHARP_VARIANCE`), v the variance of its Laplacian.

    Args:
        crop: (h, w, 3) uint8 RGB.

    Returns:
        In [0, 1]; 0 for less than 3 x 3 pixels.

    Reference:
        Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000 (variance of the Laplacian).

    """
    factor = max(crop.shape[0] // SHARPNESS_HEIGHT, 1)
    rows, columns = crop.shape[0] // factor, crop.shape[1] // factor
    if rows < 3 or columns < 3:
        return 0.0
    grey = crop[: rows * factor, : columns * factor].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = grey.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    variance = float(laplacian.var())
    return variance / (variance + SHARP_VARIANCE)
