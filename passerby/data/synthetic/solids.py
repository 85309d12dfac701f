"""Solids: tapered capsules, ellipsoids, boxes and open cones, as the rows of one table that the ray caster reads.

Every solid is a simple shape in its own space and an affine map into that space, so one ray test per shape is enough
for flattened torsos, oval skirts and tilted hats alike. A part is first described in the space of its owner (x to the
right, y forward, z up, metres), and `place` turns a list of parts into world rows in one go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from passerby.types import Doubles

Point = tuple[float, float, float]

CAPSULE, BALL, BOX, CONE = 0.0, 1.0, 2.0, 3.0
"""Kinds: two spheres of radius r1, r2 and their tangent cone; unit sphere; cube of half side 1; open cone."""

KIND, MATERIAL, OWNER = 0, 1, 2
MATRIX = 3  # 12 columns: 3x4, world to local, row by row
END_A, END_B, RADIUS_A, RADIUS_B = 15, 18, 21, 22  # two spheres whose hull holds the solid, in the world
LENGTH, R1, R2, START, CLIP = 23, 24, 25, 26, 27
COUNT_COLUMNS = 28

TARGET, CROWD, THINGS = 0.0, 1.0, 2.0
"""Owners: the person whom the picture is of, anybody else, and everything that is no person."""

UP: Point = (0.0, 0.0, 1.0)
FORWARD: Point = (0.0, 1.0, 0.0)


@dataclass
class Sculpture:
    """Parts of one thing in its own space; each method adds one part made of material number `material`."""

    parts: list[tuple[float, ...]] = field(default_factory=list)

    def capsule(
        self,
        start: Point,
        end: Point,
        *,
        radii: tuple[float, float],
        material: int,
        depth: float = 1.0,
        front: Point = FORWARD,
        texture_start: float = 0.0,
    ) -> None:
        """Add a tapered capsule from `start` to `end`, its extent along `front` scaled by `depth`."""
        axis, length = _axis(start, end)
        self._add(CAPSULE, material, start, axis, front, (1.0, depth, 1.0), (length, *radii), texture_start, -2.0)

    def cone(
        self,
        start: Point,
        end: Point,
        *,
        radii: tuple[float, float],
        material: int,
        depth: float = 1.0,
        front: Point = FORWARD,
        texture_start: float = 0.0,
    ) -> None:
        """Add an open cone (a skirt, a pole) between two circles."""
        axis, length = _axis(start, end)
        self._add(CONE, material, start, axis, front, (1.0, depth, 1.0), (length, *radii), texture_start, -2.0)

    def ball(
        self,
        centre: Point,
        *,
        radii: Point,
        material: int,
        axis: Point = UP,
        front: Point = FORWARD,
        clip: float = -2.0,
    ) -> None:
        """Add an ellipsoid with half axes `radii` (right, front, along `axis`), cut off below `clip` half axes."""
        self._add(BALL, material, centre, axis, front, radii, (0.0, 1.0, 1.0), 0.0, clip)

    def box(self, centre: Point, *, halves: Point, material: int, axis: Point = UP, front: Point = FORWARD) -> None:
        """Add a box with half sides `halves` (right, front, along `axis`)."""
        self._add(BOX, material, centre, axis, front, halves, (0.0, 1.0, 1.0), 0.0, -2.0)

    def _add(
        self,
        kind: float,
        material: int,
        origin: Point,
        axis: Point,
        front: Point,
        scale: Point,
        shape: Point,
        texture_start: float,
        clip: float,
    ) -> None:
        self.parts.append((kind, material, *origin, *axis, *front, *scale, *shape, texture_start, clip))


def _axis(start: Point, end: Point) -> tuple[Point, float]:
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = max((dx * dx + dy * dy + dz * dz) ** 0.5, 1e-6)
    return (dx / length, dy / length, dz / length), length


def place(sculpture: Sculpture, owner: float, *, at: tuple[float, float], yaw: float, material_offset: int) -> Doubles:
    """Return the parts as rows (P, COUNT_COLUMNS) in world coordinates.

    Args:
        sculpture: parts in their own space.
        owner: `TARGET`, `CROWD` or `THINGS`.
        at: where on the ground its origin stands, metres.
        yaw: counter-clockwise turn in radians; 0 looks along world +y (away from the camera).
        material_offset: added to every material number.

    """
    part = np.asarray(sculpture.parts, dtype=np.float64).reshape(len(sculpture.parts), 19)  # (P, 19)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    origin = part[:, 2:5] @ turn.T + np.array([at[0], at[1], 0.0])
    scale, shape = part[:, 11:14], part[:, 14:17]
    frame = _frames(part[:, 5:8] @ turn.T, part[:, 8:11] @ turn.T)  # (P, 3, 3) rows are the local axes
    matrix = frame / scale[:, :, None]
    rows = np.zeros((len(part), COUNT_COLUMNS))
    rows[:, KIND], rows[:, OWNER] = part[:, 0], owner
    rows[:, MATERIAL] = part[:, 1] + material_offset
    full = np.concatenate([matrix, -np.einsum("pij,pj->pi", matrix, origin)[:, :, None]], axis=2)  # (P, 3, 4)
    rows[:, MATRIX : MATRIX + 12] = full.reshape(-1, 12)
    rows[:, END_A : END_A + 3] = origin
    rows[:, END_B : END_B + 3] = origin + frame[:, 2] * (shape[:, :1] * scale[:, 2:3])
    widest = np.where(part[:, 0] == BOX, np.linalg.norm(scale, axis=1), scale.max(axis=1))
    rows[:, RADIUS_A], rows[:, RADIUS_B] = shape[:, 1] * widest, shape[:, 2] * widest
    rows[:, LENGTH : LENGTH + 3] = shape
    rows[:, START], rows[:, CLIP] = part[:, 17], part[:, 18]
    return rows


def _frames(axis: Doubles, front: Doubles) -> Doubles:
    """Return right-handed frames (P, 3, 3) with rows right, front, axis; `front` is made square to `axis`."""
    tangent = front - axis * np.sum(front * axis, axis=1, keepdims=True)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    spare = np.stack([-axis[:, 2], axis[:, 0] * 0.0, axis[:, 0]], axis=1) + np.array([0.0, 1e-3, 0.0])
    tangent = np.where(length > 1e-3, tangent, spare - axis * np.sum(spare * axis, axis=1, keepdims=True))
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([np.cross(tangent, axis), tangent, axis], axis=1)
