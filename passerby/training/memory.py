"""Keeping freed memory for the next step, which needs the same amount again.

By default the C library gives large blocks back to the system as soon as they are freed. A training step on the CPU
frees all its maps, and the next one gets them again page by page, each zeroed by the system first.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as <malloc.h> numbers them
_NEVER = -1


def keep_memory() -> bool:
    """Keep the memory that this process frees, and return whether the C library (glibc) supports it.

    It holds for the whole process and cannot be taken back, so it is for programs that train, not for libraries.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
