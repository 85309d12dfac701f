"""Heads: skull, face, hair and hat."""

from __future__ import annotations

import math
from collections.abc import Callable

from passerby.data.synthetic.solids import Point, Sculpture
from passerby.data.synthetic.trunk import Trunk
from passerby.data.synthetic.wardrobe import Appearance, Material

HEAD = 0.388  # of the height above the hip joints


def add_head(shape: Sculpture, person: Appearance, trunk: Trunk, *, yaw: float, pitch: float) -> None:
    """Add head, hair and hat, the face turned by `yaw` and raised by `pitch` (radians)."""
    h = person.height
    front = (
        -math.sin(yaw) * math.cos(pitch) + trunk.front[0],
        math.cos(yaw) * math.cos(pitch),
        math.sin(pitch),
    )
    length = math.sqrt(sum(v * v for v in front))
    front = (front[0] / length, front[1] / length, front[2] / length)
    up = (-front[0] * front[2], -front[1] * front[2], 1.0 - front[2] * front[2])
    centre = trunk.at(0, 0.012, HEAD)
    skull = Trunk(h, centre[2], up, front)

    def at(across: float, ahead: float, above: float) -> Point:
        x, y, z = skull.at(across, ahead, above)
        return x + centre[0], y + centre[1], z

    shape.ball(centre, radii=(0.043 * h, 0.053 * h, 0.062 * h), material=Material.FACE, axis=up, front=front)
    shape.ball(
        at(0, 0.018, -0.038), radii=(0.032 * h, 0.034 * h, 0.034 * h), material=Material.SKIN, axis=up, front=front
    )
    shape.ball(
        at(0, 0.055, -0.010), radii=(0.007 * h, 0.009 * h, 0.012 * h), material=Material.SKIN, axis=up, front=front
    )
    for point, radii in _hair_balls(person.hair):
        size = (radii[0] * h, radii[1] * h, radii[2] * h)
        shape.ball(at(*point), radii=size, material=Material.HAIR, axis=up, front=front)
    if person.hair == "long":
        shape.capsule(
            at(0, -0.022, 0.0),
            trunk.at(0, -0.068, 0.225),
            radii=(0.046 * h, 0.040 * h),
            material=Material.HAIR,
            depth=0.62,
            front=front,
        )
    if person.hair == "ponytail":
        shape.capsule(
            at(0, -0.058, 0.012), trunk.at(0, -0.095, 0.25), radii=(0.018 * h, 0.015 * h), material=Material.HAIR
        )
    _add_hat(shape, person, at, up, front)


def _hair_balls(style: str) -> tuple[tuple[Point, Point], ...]:
    """Centres and half axes of the hair around the middle of the skull, shares of the height."""
    cap = ((0.0, -0.012, 0.014), (0.047, 0.052, 0.057))
    styles: dict[str, tuple[tuple[Point, Point], ...]] = {
        "bald": (),
        "short": (cap,),
        "long": (cap, ((0.0, -0.012, -0.020), (0.050, 0.044, 0.058))),
        "bob": (cap, ((0.0, -0.014, -0.022), (0.053, 0.042, 0.050))),
        "ponytail": (cap,),
        "bun": (cap, ((0.0, -0.050, 0.045), (0.026, 0.026, 0.026))),
        "curly": (((0.0, -0.012, 0.020), (0.062, 0.062, 0.062)),),
    }
    return styles[style]


def _add_hat(
    shape: Sculpture, person: Appearance, at: Callable[[float, float, float], Point], up: Point, front: Point
) -> None:
    h = person.height
    if person.hat == "none":
        return
    dome = {"cap": (0.050, 0.060, 0.050), "beanie": (0.052, 0.060, 0.064), "brim": (0.049, 0.058, 0.060)}[person.hat]
    size = (dome[0] * h, dome[1] * h, dome[2] * h)
    shape.ball(at(0, -0.003, 0.018), radii=size, material=Material.HAT, axis=up, front=front, clip=-0.05)
    if person.hat == "cap":
        shape.ball(
            at(0, 0.060, 0.020), radii=(0.040 * h, 0.045 * h, 0.006 * h), material=Material.HAT, axis=up, front=front
        )
    if person.hat == "brim":
        shape.ball(at(0, 0, 0.02), radii=(0.09 * h, 0.095 * h, 0.008 * h), material=Material.HAT, axis=up, front=front)
