"""Colour of a solid at a point: weaves, prints, faces. Compiled; colours are linear RGB.

A print is drawn only where the cloth faces forwards or backwards, so that the logo on the chest and the one on the back
differ while the weave goes all the way round.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from passerby.data.synthetic.wardrobe import (
    BACK_PRINT,
    BEYOND,
    FACE_MODE,
    FIRST,
    FRONT_PRINT,
    HIGH,
    LOW,
    MODE,
    NECK,
    OPENING,
    PATTERN,
    PRINT_HEIGHT,
    PRINT_SEED,
    SECOND,
    SIZE,
    SMOOTH_MODE,
    THIRD,
    TORSO_MODE,
    UNDER,
    Material,
)
from passerby.types import Doubles

SKIN_ROW = int(Material.SKIN)


@njit(nogil=True)
def scatter(x: int, y: int) -> float:
    """Return a fixed pseudo-random number in [0, 1) for integer coordinates."""
    h = np.uint32((x * 374761393 + y * 668265263) & 0xFFFFFFFF)
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint64(1274126177) & np.uint64(0xFFFFFFFF))
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return float(h) / 4294967296.0


@njit(nogil=True)
def clouds(x: float, y: float) -> float:
    """Return smooth noise in [0, 1] with features of size 1 (bilinear between scattered values)."""
    column, row = math.floor(x), math.floor(y)
    u, v = x - column, y - row
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    i, j = int(column), int(row)
    top = scatter(i, j) * (1.0 - u) + scatter(i + 1, j) * u
    bottom = scatter(i, j + 1) * (1.0 - u) + scatter(i + 1, j + 1) * u
    return top * (1.0 - v) + bottom * v


@njit(nogil=True)
def weave(pattern: int, size: float, x: float, y: float, z: float) -> float:
    """Return the share in [0, 1] of the second colour at a point of the cloth (x across, y ahead, z along; metres)."""
    share = 0.0
    along, across = z / size, x / size
    if pattern == 1:  # hoops
        share = 1.0 if along - math.floor(along) < 0.5 else 0.0
    elif pattern == 2:  # pinstripes
        narrow = 2.0 * across
        share = 1.0 if narrow - math.floor(narrow) < 0.35 else 0.0
    elif pattern == 3:  # checks
        share = 0.5 * (1.0 if along - math.floor(along) < 0.45 else 0.0)
        share += 0.5 * (1.0 if across - math.floor(across) < 0.45 else 0.0)
    elif pattern == 4:  # dots
        u, v = across - math.floor(across) - 0.5, along - math.floor(along) - 0.5
        share = 1.0 if u * u + v * v < 0.10 else 0.0
    elif pattern == 5:  # block
        share = 1.0 if z > 1.2 * size + 0.14 else 0.0
    elif pattern == 6:  # camouflage
        share = 1.0 if clouds(1.3 * across + 7.0 * (y > 0.0), 1.3 * along) > 0.52 else 0.0
    elif pattern == 7:  # diagonals
        slant = 0.8 * (across + along)
        share = 1.0 if slant - math.floor(slant) < 0.4 else 0.0
    elif pattern == 8:  # sides
        share = 1.0 if abs(x) > 0.045 + 0.5 * size else 0.0
    return share


@njit(nogil=True)
def printed(shape: int, seed: int, x: float, z: float) -> bool:
    """Return whether a print of a given shape covers a point (units of its half width)."""
    covers = False
    radius = x * x + z * z
    if shape == 1:  # disc
        covers = radius < 1.0
    elif shape == 2:  # square
        covers = abs(x) < 0.95 and abs(z) < 0.95
    elif shape == 3:  # bar
        covers = abs(x) < 1.7 and abs(z) < 0.42
    elif shape == 4:  # glyph: five by five cells, mirrored
        column, row = math.floor((abs(x) + 0.2) * 2.5), math.floor((z + 1.0) * 2.5)
        if 0 <= column < 3 and 0 <= row < 5:
            covers = (seed >> (column * 5 + row)) & 1 == 1
    elif shape == 5:  # ring
        covers = 0.4 < radius < 1.15
    elif shape == 6:  # wedge
        covers = -0.9 < z < 0.9 and abs(x) < 0.55 * (0.9 - z)
    return covers


@njit(nogil=True)
def surface(table: Doubles, row: int, base: int, x: float, y: float, z: float, out: Doubles) -> None:
    """Write the colour of a point into `out` (3,).

    Args:
        table: materials of everybody in the picture.
        row: the material.
        base: row at which the materials of its owner begin.
        x, y, z: across, ahead and along the part, metres (unit coordinates on balls and boxes).
        out: (3,) linear RGB.

    """
    mode = table[row, MODE]
    colour = FIRST
    if mode == TORSO_MODE:
        opening = table[row, OPENING]
        neck = table[row, NECK]
        if y > 0.0 and z > neck + 1.1 * abs(x):
            row = base + SKIN_ROW
        elif opening > 0.0 and y > 0.0 and abs(x) < opening * (0.4 + 3.0 * z) and z > table[row, LOW]:
            row = base + int(table[row, UNDER])
        else:
            side = FRONT_PRINT if y > 0.0 else BACK_PRINT
            shape = int(table[row, side])
            if shape > 0:
                half = 0.062 if y > 0.0 else 0.085
                if printed(shape, int(table[row, PRINT_SEED]), x / half, (z - table[row, PRINT_HEIGHT]) / half):
                    colour = THIRD
    if z < table[row, LOW] or z > table[row, HIGH]:
        row = base + int(table[row, BEYOND])
        colour = FIRST
    share = 0.0
    if colour == FIRST and table[row, PATTERN] > 0.0:
        share = weave(int(table[row, PATTERN]), table[row, SIZE], x, y, z)
    if mode == FACE_MODE and y > 0.5:
        eyes = 0.05 < z < 0.28 and 0.18 < abs(x) < 0.62
        mouth = -0.58 < z < -0.46 and abs(x) < 0.3
        share = 0.6 if eyes else (0.35 if mouth else 0.0)
    for channel in range(3):
        out[channel] = table[row, colour + channel] * (1.0 - share) + table[row, SECOND + channel] * share
    if mode < FACE_MODE and table[row, MODE] != SMOOTH_MODE:
        folds = 0.86 + 0.28 * clouds(21.0 * x + 13.0 * (y > 0.0) + 3.7 * row, 15.0 * z + 40.0)
        for channel in range(3):
            out[channel] *= folds
