"""The ray caster: the first solid on each ray, and the light along it. Compiled.

Rays start at the camera and pass through a regular grid of sub-pixels, `SAMPLES` x `SAMPLES` to a pixel. A solid is
only tried on the rays inside the rectangle that its two end spheres cover on the picture, which keeps a figure of some
forty solids within a few milliseconds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from passerby.compiled import compiled
from passerby.data.synthetic.fabric import surface
from passerby.data.synthetic.intersection import capsule, cube, quadric, sphere
from passerby.data.synthetic.scenery import (
    SKY,
    WALL_DISTANCE,
    WALL_HEIGHT,
    WALL_SLOPE,
    ground_colour,
    wall_colour,
)
from passerby.data.synthetic.solids import (
    BALL,
    BOX,
    CAPSULE,
    CLIP,
    CONE,
    END_A,
    END_B,
    KIND,
    LENGTH,
    MATERIAL,
    MATRIX,
    OWNER,
    R1,
    R2,
    RADIUS_A,
    RADIUS_B,
    START,
    TARGET,
)
from passerby.data.synthetic.wardrobe import Material
from passerby.types import Doubles, Floats, Ints

SAMPLES = 2
SOURCES = ("raycast", "intersection", "fabric", "scenery", "solids", "wardrobe")
PERSON_ROWS = len(Material)

# View vector: eye height, sine and cosine of the downward pitch, then the crop's left, right, top, bottom at depth 1.
EYE, SINE, COSINE, LEFT, RIGHT, TOP, BOTTOM = 0, 1, 2, 3, 4, 5, 6

# Light vector.
SUN, SUN_COLOUR, SKY_COLOUR, SHADOW, SOFTNESS = 0, 3, 6, 9, 10
COUNT_LIGHT = 11


@njit(nogil=True)
def _bounds(solid: Doubles, view: Doubles, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the rectangle (left, right, top, bottom; end exclusive) of samples that a solid may cover."""
    left, right, top, bottom = 1e9, -1e9, -1e9, 1e9
    for end in range(2):
        at = END_A if end == 0 else END_B
        radius = solid[RADIUS_A] if end == 0 else solid[RADIUS_B]
        x, y, z = solid[at], solid[at + 1], solid[at + 2] - view[EYE]
        ahead = y * view[COSINE] - z * view[SINE]
        above = y * view[SINE] + z * view[COSINE]
        near = ahead - radius
        if near < 0.15:
            return 0, 0, 0, 0
        reach = radius / near
        left = min(left, x / ahead - reach * (1.0 + abs(x / ahead)))
        right = max(right, x / ahead + reach * (1.0 + abs(x / ahead)))
        top = max(top, above / ahead + reach * (1.0 + abs(above / ahead)))
        bottom = min(bottom, above / ahead - reach * (1.0 + abs(above / ahead)))
    across = width / (view[RIGHT] - view[LEFT])
    down = height / (view[TOP] - view[BOTTOM])
    first = int(max(0.0, math.floor((left - view[LEFT]) * across)))
    last = int(min(float(width), math.ceil((right - view[LEFT]) * across)))
    upper = int(max(0.0, math.floor((view[TOP] - top) * down)))
    lower = int(min(float(height), math.ceil((view[TOP] - bottom) * down)))
    return first, last, upper, lower


@njit(nogil=True)
def _direction(view: Doubles, u: float, v: float, out: Doubles) -> None:
    out[0] = u
    out[1] = view[COSINE] + v * view[SINE]
    out[2] = -view[SINE] + v * view[COSINE]


@njit(nogil=True)
def cast(solids: Doubles, view: Doubles, height: int, width: int, distance: Floats, hit: Ints) -> None:
    """Write the distance to the first solid and its row into `distance` and `hit` (height, width); -1 = none."""
    distance[:] = 1e9
    hit[:] = -1
    o, ahead, across, above = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for p in range(len(solids)):
        solid = solids[p]
        left, right, top, bottom = _bounds(solid, view, height, width)
        if left >= right or top >= bottom:
            continue
        for k in range(3):
            m = MATRIX + 4 * k
            o[k] = solid[m + 2] * view[EYE] + solid[m + 3]
            ahead[k] = solid[m + 1] * view[COSINE] - solid[m + 2] * view[SINE]
            across[k] = solid[m]
            above[k] = solid[m + 1] * view[SINE] + solid[m + 2] * view[COSINE]
        ox, oy, oz = o[0], o[1], o[2]
        kind, length, r1, r2, clip = solid[KIND], solid[LENGTH], solid[R1], solid[R2], solid[CLIP]
        lean = (r1 - r2) / max(length, 1e-9)
        even = math.sqrt(1.0 - lean * lean) if abs(lean) < 1.0 else 0.0
        for row in range(top, bottom):
            v = view[TOP] - (row + 0.5) / height * (view[TOP] - view[BOTTOM])
            for column in range(left, right):
                u = view[LEFT] + (column + 0.5) / width * (view[RIGHT] - view[LEFT])
                dx = ahead[0] + u * across[0] + v * above[0]
                dy = ahead[1] + u * across[1] + v * above[1]
                dz = ahead[2] + u * across[2] + v * above[2]
                far = distance[row, column]
                if kind == CAPSULE:
                    t = capsule(ox, oy, oz, dx, dy, dz, length, r1, r2, lean, even, far)
                elif kind == BALL:
                    t = sphere(ox, oy, oz, dx, dy, dz, 1.0, clip, far)
                elif kind == BOX:
                    t = cube(ox, oy, oz, dx, dy, dz, far)
                else:
                    t = quadric(ox, oy, oz, dx, dy, dz, r1, -lean, 0.0, length, far)
                if t < far:
                    distance[row, column] = t
                    hit[row, column] = p


@njit(nogil=True)
def _shade_solid(
    solid: Doubles, table: Doubles, view: Doubles, light: Doubles, ray: Doubles, t: float, local: Doubles, out: Doubles
) -> None:
    """Write the light of a solid along a ray into `out` (3,)."""
    for k in range(3):
        m = MATRIX + 4 * k
        along = solid[m] * ray[0] + solid[m + 1] * ray[1] + solid[m + 2] * ray[2]
        local[k] = solid[m + 2] * view[EYE] + solid[m + 3] + t * along
    row = int(solid[MATERIAL])
    surface(table, row, row - row % PERSON_ROWS, local[0], local[1], local[2] + solid[START], out)
    _normal(solid, local)
    nx = solid[MATRIX] * local[0] + solid[MATRIX + 4] * local[1] + solid[MATRIX + 8] * local[2]
    ny = solid[MATRIX + 1] * local[0] + solid[MATRIX + 5] * local[1] + solid[MATRIX + 9] * local[2]
    nz = solid[MATRIX + 2] * local[0] + solid[MATRIX + 6] * local[1] + solid[MATRIX + 10] * local[2]
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    facing = -(nx * ray[0] + ny * ray[1] + nz * ray[2]) / length
    if facing < 0.0:
        length, facing = -length, -facing
    facing /= math.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
    sun = max(0.0, (nx * light[SUN] + ny * light[SUN + 1] + nz * light[SUN + 2]) / length)
    above = 0.62 + 0.38 * nz / length
    rim = 0.72 + 0.28 * facing
    for channel in range(3):
        out[channel] *= rim * (light[SKY_COLOUR + channel] * above + light[SUN_COLOUR + channel] * sun)


@njit(nogil=True)
def _normal(solid: Doubles, local: Doubles) -> None:
    """Replace a local point on the surface of a solid by the local normal there (of any length)."""
    kind, length, r1, r2 = solid[KIND], solid[LENGTH], solid[R1], solid[R2]
    x, y, z = local[0], local[1], local[2]
    if kind == CAPSULE:
        lean = (r1 - r2) / length
        low, high = r1 * lean, length + r2 * lean
        if z > high:
            local[2] = z - length
        elif z > low:
            local[2] = lean / math.sqrt(max(1.0 - lean * lean, 1e-6)) * math.sqrt(x * x + y * y)
    elif kind == CONE:
        local[2] = (r1 - r2) / length * math.sqrt(x * x + y * y)
    elif kind == BOX:
        ax, ay, az = abs(x), abs(y), abs(z)
        if ax < ay or ax < az:
            local[0] = 0.0
        if ay <= ax or ay < az:
            local[1] = 0.0
        if az <= ax or az <= ay:
            local[2] = 0.0


@njit(nogil=True)
def _shade_background(
    scene: Doubles, shadows: Doubles, view: Doubles, light: Doubles, ray: Doubles, out: Doubles
) -> None:
    """Write the light that comes from ground, wall or sky along a ray into `out` (3,)."""
    slope = scene[WALL_SLOPE]
    to_wall = (scene[WALL_DISTANCE]) / max(ray[1] + slope * ray[0], 1e-6)
    to_ground = view[EYE] / max(-ray[2], 1e-6)
    if to_ground < to_wall:
        x, y = ray[0] * to_ground, ray[1] * to_ground
        ground_colour(scene, x, y, out)
        lit = 1.0 - light[SHADOW] * _shade(shadows, light[SOFTNESS], x, y)
        contact = 1.0 - 0.35 * (1.0 - lit)
        for channel in range(3):
            sun = light[SUN_COLOUR + channel] * light[SUN + 2] * lit
            out[channel] *= light[SKY_COLOUR + channel] * contact + sun
    elif view[EYE] + ray[2] * to_wall < scene[WALL_HEIGHT]:
        wall_colour(scene, ray[0] * to_wall, view[EYE] + ray[2] * to_wall, out)
        sun = max(0.0, -light[SUN + 1])
        for channel in range(3):
            out[channel] *= 0.62 * light[SKY_COLOUR + channel] + light[SUN_COLOUR + channel] * sun
    else:
        for channel in range(3):
            out[channel] = scene[SKY + channel] * (light[SKY_COLOUR + channel] + 0.3 * light[SUN_COLOUR + channel])


@njit(nogil=True)
def _shade(shadows: Doubles, softness: float, x: float, y: float) -> float:
    """Return how far a ground point lies in the shadow, 0..1; `shadows` (S, 6) are tapered strokes on the ground."""
    darkest = 0.0
    for s in range(len(shadows)):
        ax, ay = shadows[s, 0], shadows[s, 1]
        bx, by = shadows[s, 2] - ax, shadows[s, 3] - ay
        px, py = x - ax, y - ay
        along = min(1.0, max(0.0, (px * bx + py * by) / (bx * bx + by * by + 1e-9)))
        radius = shadows[s, 4] + along * (shadows[s, 5] - shadows[s, 4])
        px -= along * bx
        py -= along * by
        reach = radius + softness
        square = px * px + py * py
        if square < reach * reach:
            share = min(1.0, (reach - math.sqrt(square)) / (2.0 * softness))
            darkest = max(darkest, share)
    return darkest


@compiled()
def shade_ground(shadows: Doubles, scene: Doubles, softness: float, view: Doubles, shade: Doubles) -> None:
    """Raise `shade` (h, w), 0..1, to the shadow that strokes (S, 6) throw on the ground in a view, one ray a pixel."""
    height, width = shade.shape
    ray = np.empty(3)
    across, down = (view[RIGHT] - view[LEFT]) / width, (view[TOP] - view[BOTTOM]) / height
    for row in range(height):
        for column in range(width):
            _direction(view, view[LEFT] + (column + 0.5) * across, view[TOP] - (row + 0.5) * down, ray)
            to_wall = (scene[WALL_DISTANCE]) / max(ray[1] + scene[WALL_SLOPE] * ray[0], 1e-6)
            to_ground = view[EYE] / max(-ray[2], 1e-6)
            if to_ground < to_wall:
                value = _shade(shadows, softness, ray[0] * to_ground, ray[1] * to_ground)
                shade[row, column] = max(shade[row, column], value)


@njit(nogil=True)
def _paint(
    solids: Doubles,
    table: Doubles,
    shadows: Doubles,
    scene: Doubles,
    light: Doubles,
    view: Doubles,
    picture: Doubles,
    cover: Doubles,
) -> None:
    """Render an image, see `paint`."""
    height, width = cover.shape
    distance = np.empty((height * SAMPLES, width * SAMPLES), dtype=np.float32)
    hit = np.empty((height * SAMPLES, width * SAMPLES), dtype=np.int64)
    cast(solids, view, height * SAMPLES, width * SAMPLES, distance, hit)
    ray, local, colour = np.empty(3), np.empty(3), np.empty(3)
    across = (view[RIGHT] - view[LEFT]) / (width * SAMPLES)
    down = (view[TOP] - view[BOTTOM]) / (height * SAMPLES)
    for row in range(height):
        for column in range(width):
            picture[row, column, :] = 0.0
            cover[row, column] = 0.0
            i, j = row * SAMPLES, column * SAMPLES
            empty = max(max(hit[i, j], hit[i, j + 1]), max(hit[i + 1, j], hit[i + 1, j + 1])) < 0
            # Two samples on the diagonal are enough where there is nothing but background.
            stride, share = (SAMPLES + 1, 2.0 / SAMPLES**2) if empty else (1, 1.0 / SAMPLES**2)
            for sample in range(0, SAMPLES * SAMPLES, stride):
                i, j = row * SAMPLES + sample // SAMPLES, column * SAMPLES + sample % SAMPLES
                _direction(view, view[LEFT] + (j + 0.5) * across, view[TOP] - (i + 0.5) * down, ray)
                p = hit[i, j]
                if p >= 0:
                    _shade_solid(solids[p], table, view, light, ray, distance[i, j], local, colour)
                    if solids[p, OWNER] == TARGET:
                        cover[row, column] += share
                else:
                    _shade_background(scene, shadows, view, light, ray, colour)
                for channel in range(3):
                    picture[row, column, channel] += share * colour[channel]


def _entry(
    fingerprint: int,
) -> Callable[[Doubles, Doubles, Doubles, Doubles, Doubles, Doubles, Doubles, Doubles], None]:
    @compiled()
    def paint(
        solids: Doubles,
        table: Doubles,
        shadows: Doubles,
        scene: Doubles,
        light: Doubles,
        view: Doubles,
        picture: Doubles,
        cover: Doubles,
    ) -> None:
        """Render an image: linear light into `picture` (h, w, 3), share of the target person into `cover` (h, w).

        Args:
            solids: (P, COUNT_COLUMNS) everything that stands in the scene.
            table: materials, in blocks of `PERSON_ROWS` rows for each owner.
            shadows: (S, 6) strokes on the ground: two ends and the radius at each.
            scene: (COUNT_SCENE,) ground, wall and sky.
            light: (COUNT_LIGHT,) sun direction, colours of sun and sky, strength and softness of shadows.
            view: (7,) eye height, sine and cosine of the downward pitch, and the crop at depth 1.
            picture, cover: written.

        """
        # Always true: a closed-over value is part of the key of numba's cache.
        if fingerprint >= 0:
            _paint(solids, table, shadows, scene, light, view, picture, cover)

    return paint


def _fingerprint() -> int:
    """Return a checksum of every file from which `paint` takes code or constants.

    Numba's cache looks at the file of the cached function alone, so without this a change to the others, or a new
    release of passerby, would go on drawing the old pictures.
    """
    folder = Path(__file__).parent
    return zlib.crc32(b"".join((folder / f"{name}.py").read_bytes() for name in SOURCES))


paint = _entry(_fingerprint())
