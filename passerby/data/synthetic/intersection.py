"""Intersections of rays with simple shapes, in the coordinates of the shape. Compiled."""

from __future__ import annotations

import math

from numba import njit


@njit(nogil=True)
def quadric(
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    radius: float,
    slope: float,
    low: float,
    high: float,
    far: float,
) -> float:
    """Return the nearest distance along a ray to x*x + y*y = (radius + slope z)^2 with low <= z <= high, or `far`."""
    base, rise = radius + slope * oz, slope * dz
    a = dx * dx + dy * dy - rise * rise
    b = ox * dx + oy * dy - rise * base
    c = ox * ox + oy * oy - base * base
    root = b * b - a * c
    if root < 0.0 or abs(a) < 1e-12:
        return far
    root = math.sqrt(root)
    for sign in (-1.0, 1.0):
        t = (-b + sign * root) / a
        z = oz + t * dz
        if 0.0 < t < far and low <= z <= high and radius + slope * z > 0.0:
            far = t
    return far


@njit(nogil=True)
def sphere(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, radius: float, clip: float, far: float
) -> float:
    """Return the nearest distance along a ray to the unit sphere, leaving out z < `clip`, or `far`."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - radius * radius)
    if root < 0.0:
        return far
    root = math.sqrt(root)
    t = (-b - root) / a
    if 0.0 < t < far and oz + t * dz >= clip:
        return t
    t = (-b + root) / a
    return t if 0.0 < t < far and oz + t * dz >= clip else far


@njit(nogil=True)
def cube(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, far: float) -> float:
    """Return the distance at which a ray enters the cube of half side 1, or `far`."""
    enter, leave = 0.0, far
    for o, d in ((ox, dx), (oy, dy), (oz, dz)):
        step = d if abs(d) > 1e-9 else 1e-9
        t1, t2 = (-1.0 - o) / step, (1.0 - o) / step
        enter, leave = max(enter, min(t1, t2)), min(leave, max(t1, t2))
    return enter if 0.0 < enter < leave else far


@njit(nogil=True)
def capsule(
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    length: float,
    r1: float,
    r2: float,
    lean: float,
    even: float,
    far: float,
) -> float:
    """Return the distance to a tapered capsule whose flank leans by asin(`lean`), `even` its cosine, or `far`."""
    if even > 0.0:
        low, high = r1 * lean, length + r2 * lean
        slope = (r2 - r1) * even / (high - low)
        far = quadric(ox, oy, oz, dx, dy, dz, r1 * even - slope * low, slope, low, high, far)
    far = sphere(ox, oy, oz, dx, dy, dz, r1, -1e9, far)
    return sphere(ox, oy, oz - length, dx, dy, dz, r2, -1e9, far)
