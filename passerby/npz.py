"""Reading .npz files of any origin: plain arrays only, and a bounded number of bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError
from passerby.files import reading

Arrays = dict[str, npt.NDArray[Any]]

ALWAYS_FINE = 64 << 20
"""Bytes that a file may unpack to whatever its own size."""
MOST_TIMES = 100
"""How many times its own size a larger file may unpack to; compressed vectors come to less than twice."""


def read_npz(path: str | Path, *, kind: str) -> Arrays:
    """Read all arrays of an .npz; never runs code from it.

    Args:
        path: the file.
        kind: the expected content, for error messages.

    Raises:
        UserError: not an .npz, objects in it, or a small file that would unpack to very much.

    """
    with reading(path, kind):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        packed = Path(path).stat().st_size
        if unpacked > max(ALWAYS_FINE, MOST_TIMES * packed):
            raise UserError(
                f"{path} would unpack from {packed / 1e6:.1f} MB to {unpacked / 1e6:,.0f} MB, more than {MOST_TIMES} "
                "times its size; write it uncompressed (numpy.savez) if that is meant"
            )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def single(arrays: Arrays, name: str, default: object) -> object:
    """Return the one value of an array, or `default` where there is no such array.

    >>> single({"flip": np.array([True])}, "flip", False), single({}, "flip", False)
    (True, False)

    Raises:
        UserError: it holds more than one value, or none.

    """
    if name not in arrays:
        return default
    if arrays[name].size != 1:
        raise UserError(f"{name!r} must be one value, got an array of shape {arrays[name].shape}")
    value: object = arrays[name].item()
    return value
