"""Removal of the camera's mean and spread from vectors before they are clustered."""

from __future__ import annotations

from typing import Literal

import numpy as np

from passerby.types import Floats, Ints

AcrossCameras = Literal["ignore", "centre", "standardise"]
"""What is taken out of the vectors of each camera: nothing, its mean, or its mean and spread."""


def evened(vectors: Floats, cam: Ints, *, how: AcrossCameras) -> Floats:
    """Return vectors (N, D) of cameras (N,) as they are to be compared across cameras."""
    return vectors if how == "ignore" else without_cameras(vectors, cam, spread="kept" if how == "centre" else "even")


def without_cameras(vectors: Floats, cam: Ints, *, spread: Literal["kept", "even"] = "kept") -> Floats:
    """Standardise vectors per camera.

    People are compared across cameras, but a camera's light and background are in all of its images, so that clusters
    gather images of one camera. Vectors of unknown camera (-1) are taken for one more camera.

    Args:
        vectors: (N, D).
        cam: (N,) camera of each.
        spread: even: each dimension is also divided by its standard deviation within the camera.

    Returns:
        (N, D).

    Reference: Zhuang et al., "Rethinking the Distribution Gap of Person Re-identification with Camera-based Batch
    Normalization", ECCV 2020 (the idea).
    Differs from the paper: of the vectors that are clustered, and not in every layer.

    >>> without_cameras(np.array([[1.0], [3.0], [8.0], [9.0]]), np.array([0, 0, 1, 1])).ravel().tolist()
    [-1.0, 1.0, -0.5, 0.5]
    """
    found = vectors.copy()
    for camera in np.unique(cam):
        rows = cam == camera
        found[rows] -= found[rows].mean(axis=0)
        if spread == "even":
            found[rows] /= np.maximum(found[rows].std(axis=0), 1e-3)
    return found
