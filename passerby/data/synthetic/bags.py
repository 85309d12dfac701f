"""Bags and their straps, visible from the front and from the back."""

from __future__ import annotations

from itertools import pairwise

from passerby.data.synthetic.solids import Point, Sculpture
from passerby.data.synthetic.trunk import Trunk
from passerby.data.synthetic.wardrobe import Appearance, Material


def add_bag(shape: Sculpture, person: Appearance, trunk: Trunk, hand: Point) -> None:
    """Add the bag with its straps; `hand` is the position of the hand that may hold it."""
    h, side = person.height, person.bag_side
    deep = 0.066 * person.girth**0.6 + person.bulk
    if person.bag == "backpack":
        back = -deep - 0.035
        shape.capsule(
            trunk.at(0, back, 0.105),
            trunk.at(0, back + 0.01, 0.225),
            radii=(0.078 * h, 0.066 * h),
            material=Material.BAG,
            depth=0.62,
            front=trunk.front,
        )
        shape.box(
            trunk.at(0, back - 0.042, 0.11),
            halves=(0.05 * h, 0.014 * h, 0.035 * h),
            material=Material.BAG_TRIM,
            front=trunk.front,
        )
        for across in (-0.062, 0.062):
            _strap(
                shape,
                trunk,
                person,
                ((across, -0.04, 0.296), (across, 0.035, 0.292), (across * 1.1, deep + 0.002, 0.15)),
            )
    if person.bag == "shoulder bag":
        shape.box(
            trunk.at(side * 0.125, 0.0, -0.01),
            halves=(0.026 * h, 0.078 * h, 0.058 * h),
            material=Material.BAG,
            front=trunk.front,
        )
        for y in (-1.0, 1.0):
            over = ((-side * 0.055, y * 0.02, 0.30), (0.0, y * (deep + 0.004), 0.17), (side * 0.10, y * 0.06, 0.04))
            _strap(shape, trunk, person, over)
    if person.bag == "handbag":
        middle = (hand[0], hand[1], hand[2] - 0.095 * h)
        shape.box(middle, halves=(0.028 * h, 0.085 * h, 0.06 * h), material=Material.BAG)
        for y in (-0.03, 0.03):
            shape.capsule(
                hand,
                (hand[0], hand[1] + y * h, hand[2] - 0.04 * h),
                radii=(0.006 * h, 0.006 * h),
                material=Material.BAG_TRIM,
            )
    if person.bag == "trolley":
        foot = (hand[0] + side * 0.02 * h, hand[1] - 0.20 * h, 0.19 * h)
        shape.box(foot, halves=(0.095 * h, 0.06 * h, 0.165 * h), material=Material.BAG)
        shape.capsule(hand, (foot[0], foot[1], 0.34 * h), radii=(0.007 * h, 0.007 * h), material=Material.BAG_TRIM)


def _strap(shape: Sculpture, trunk: Trunk, person: Appearance, points: tuple[Point, ...]) -> None:
    radius = 0.0105 * person.height
    for start, end in pairwise(points):
        shape.capsule(trunk.at(*start), trunk.at(*end), radii=(radius, radius), material=Material.BAG_TRIM)
