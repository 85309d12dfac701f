"""Background: ground and wall of a camera's view, from a short parameter vector. Compiled."""

from __future__ import annotations

import math

from numba import njit

from passerby.data.synthetic.fabric import clouds, scatter
from passerby.types import Doubles

GROUNDS = ("slabs", "asphalt", "grass", "boards", "chequers", "cobbles")
WALLS = ("bricks", "windows", "panels", "hedge", "arcade", "posters")

GROUND, GROUND_A, GROUND_B, GROUND_SIZE = 0, 1, 4, 7
WALL, WALL_A, WALL_B, WALL_C, WALL_SIZE = 8, 9, 12, 15, 18
WALL_DISTANCE, WALL_SLOPE, WALL_HEIGHT, SKY, GRAIN, ORIGIN = 19, 20, 21, 22, 25, 26
COUNT_SCENE = 27


@njit(nogil=True)
def ground_colour(scene: Doubles, x: float, y: float, out: Doubles) -> None:
    """Write the colour of the ground at (x, y) metres into `out` (3,)."""
    kind, size = int(scene[GROUND]), scene[GROUND_SIZE]
    u, v = x / size + scene[ORIGIN], y / size
    column, row = math.floor(u), math.floor(v)
    share = 0.0
    if kind == 0:
        joint = u - column < 0.04 or v - row < 0.04
        share = 0.8 if joint else 0.25 * scatter(int(column), int(row))
    elif kind == 1:
        share = 1.0 if (v * 0.2 - math.floor(v * 0.2) < 0.035 and u - column < 0.75) else 0.0
    elif kind == 2:
        share = clouds(7.0 * x + 3.0 * y, 2.5 * y)
    elif kind == 3:
        shifted = v - row if abs(u - column) > 0.03 else 0.0
        share = 0.9 if shifted < 0.02 else 0.6 * scatter(int(column), 3)
    elif kind == 4:
        share = 1.0 if (int(column) + int(row)) % 2 == 0 else 0.0
    else:
        half = u + 0.5 * (int(row) % 2)
        joint = half - math.floor(half) < 0.10 or v - row < 0.10
        share = 1.0 if joint else 0.45 * scatter(math.floor(half), int(row))
    dirt = 1.0 + scene[GRAIN] * (clouds(1.7 * x + 9.0, 1.7 * y) + 0.6 * clouds(9.0 * x, 9.0 * y) - 0.8)
    for channel in range(3):
        blend = scene[GROUND_A + channel] * (1.0 - share) + scene[GROUND_B + channel] * share
        out[channel] = blend * dirt


@njit(nogil=True)
def wall_colour(scene: Doubles, x: float, z: float, out: Doubles) -> None:
    """Write the colour of the back wall at (x along, z up) metres into `out` (3,)."""
    kind, size = int(scene[WALL]), scene[WALL_SIZE]
    second, third = 0.0, 0.0
    u = x / size + scene[ORIGIN]
    column = math.floor(u)
    if kind == 0:
        row = math.floor(z / 0.16)
        along = x / 0.42 + 0.5 * (int(row) % 2)
        joint = z / 0.16 - row < 0.13 or along - math.floor(along) < 0.06
        second = 1.0 if joint else 0.3 * scatter(math.floor(along), int(row))
    elif kind == 1:
        u -= column
        v = z / 3.1
        v -= math.floor(v)
        inside = 0.2 < u < 0.8 and 0.28 < v < 0.85
        frame = inside and (u < 0.24 or u > 0.76 or v < 0.31 or v > 0.82 or 0.48 < u < 0.52)
        second, third = (1.0, 0.0) if frame else (0.0, 1.0 if inside else 0.0)
    elif kind == 2:
        tone = scatter(int(column), math.floor(z / 1.35))
        second, third = (tone, 0.0) if tone < 0.6 else (0.0, tone)
    elif kind == 3:
        second = clouds(5.0 * x, 5.0 * z)
        third = 0.6 * clouds(13.0 * x + 4.0, 13.0 * z)
    elif kind == 4:
        u -= column
        gap = u - 0.5
        if abs(gap) < 0.33 and z < 2.6 + 0.5 * (1.0 - 9.0 * gap * gap):
            third = 1.0
        else:
            second = 0.5 if z < 0.5 else 0.0
    else:
        tone = scatter(int(column), 17)
        u -= column
        if 0.15 < u < 0.85 and 0.7 < z < 2.3 and tone > 0.4:
            picture = 0.35 < u < 0.65 and 1.0 < z < 1.7
            second, third = (1.0, 0.0) if picture else (0.0, 1.0)
    dirt = 1.0 + scene[GRAIN] * (clouds(1.1 * x, 0.7 * z + 5.0) - 0.5)
    first = max(0.0, 1.0 - second - third)
    for channel in range(3):
        blend = scene[WALL_A + channel] * first + scene[WALL_B + channel] * second + scene[WALL_C + channel] * third
        out[channel] = blend * dirt
