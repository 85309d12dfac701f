"""Cameras of images whose distances depend on them."""

from __future__ import annotations

import numpy as np

from passerby.types import UNKNOWN, Ints


def lack_of_cameras(cam: Ints | None) -> str:
    """Return a clause on images (N,) whose cameras cannot be compared; `""` where two cameras or more are known.

    >>> lack_of_cameras(np.array([3, 3])), lack_of_cameras(np.array([0, 1]))
    ('all images are of one camera', '')
    """
    known = np.unique(cam[cam != UNKNOWN]) if cam is not None else np.empty(0)
    if len(known) == 0:
        return "no image has a camera number"
    return "all images are of one camera" if len(known) == 1 else ""
