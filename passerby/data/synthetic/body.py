"""A dressed, articulated figure: joint angles of a walk, and the solids of body, clothes, hair and bags around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from passerby.data.synthetic.bags import add_bag
from passerby.data.synthetic.head import add_head
from passerby.data.synthetic.solids import Point, Sculpture
from passerby.data.synthetic.trunk import Trunk
from passerby.data.synthetic.wardrobe import Appearance, Material

THIGH, SHIN, SOLE = 0.245, 0.235, 0.04  # shares of the height
UPPER_ARM, FOREARM = 0.160, 0.140
WAIST, CHEST, SHOULDER = 0.085, 0.205, 0.264  # above the hip joints

ARMS = ("swing", "telephone", "pockets", "folded")


@dataclass(frozen=True)
class Pose:
    """Pose of a person in one image; angles in radians.

    Attributes:
        phase: of the gait, 0..2 pi is two steps.
        stride: swing of the thighs; 0 = standing.
        arms: one of `ARMS`.
        lean: of the trunk, forwards.
        twist: of the shoulders against the hips at full stride.
        head_yaw, head_pitch: of the head against the trunk.
        elbow: bend of a hanging arm.

    """

    phase: float
    stride: float
    arms: str = "swing"
    lean: float = 0.04
    twist: float = 0.12
    head_yaw: float = 0.0
    head_pitch: float = 0.0
    elbow: float = 0.3


@dataclass(frozen=True)
class Leg:
    """Joints of one leg, hip at height 0."""

    hip: Point
    knee: Point
    ankle: Point
    foot_pitch: float


def _step(start: Point, angle: float, spread: float, length: float) -> Point:
    """Return the point `length` below `start`, swung forward by `angle` and sideways by `spread`."""
    return (
        start[0] + length * math.sin(spread),
        start[1] + length * math.sin(angle) * math.cos(spread),
        start[2] - length * math.cos(angle) * math.cos(spread),
    )


def leg_joints(person: Appearance, pose: Pose, *, side: int) -> Leg:
    """Return the joints of the right (`side` 1) or left (-1) leg: the knee bends while the leg swings forward."""
    phase = pose.phase + (0.0 if side > 0 else math.pi)
    thigh = pose.stride * math.sin(phase) + 0.25 * pose.stride
    swing = max(0.0, math.cos(phase)) ** 1.5
    knee_bend = 0.05 + 0.25 * pose.stride + 1.7 * pose.stride * swing
    hip = (side * 0.050 * person.height * person.hips, 0.0, 0.0)
    knee = _step(hip, thigh, side * 0.03, THIGH * person.height)
    ankle = _step(knee, thigh - knee_bend, side * 0.01, SHIN * person.height)
    return Leg(hip, knee, ankle, -0.8 * pose.stride * swing + 0.5 * pose.stride * max(0.0, math.sin(phase)))


def sculpt(person: Appearance, pose: Pose) -> Sculpture:
    """Return the solids of a dressed person standing on the ground at the origin and facing +y."""
    if person.skirted:
        pose = replace(pose, stride=0.7 * pose.stride)
    legs = {side: leg_joints(person, pose, side=side) for side in (1, -1)}
    root = SOLE * person.height - min(leg.ankle[2] for leg in legs.values())
    turn = pose.twist * math.sin(pose.phase) * pose.stride / 0.45
    front = (math.sin(turn), math.cos(turn) * math.cos(pose.lean), -math.sin(pose.lean))
    up = (0.0, math.sin(pose.lean), math.cos(pose.lean))
    trunk = Trunk(person.height, root, up, front)
    shape = Sculpture()
    for leg in legs.values():
        _add_leg(shape, person, _raise(leg, root))
    _add_trunk(shape, person, trunk)
    _add_skirts(shape, person, trunk, legs)
    hands = {s: _add_arm(shape, person, pose, trunk, s) for s in (1, -1)}
    add_head(shape, person, trunk, yaw=pose.head_yaw, pitch=pose.head_pitch)
    add_bag(shape, person, trunk, hands[person.bag_side])
    return shape


def _raise(leg: Leg, root: float) -> Leg:
    hip, knee, ankle = ((p[0], p[1], p[2] + root) for p in (leg.hip, leg.knee, leg.ankle))
    return Leg(hip, knee, ankle, leg.foot_pitch)


def _add_leg(shape: Sculpture, person: Appearance, leg: Leg) -> None:
    h, girth = person.height, math.sqrt(person.girth)
    loose = {"trousers": 0.005, "shorts": 0.008, "capris": 0.004}.get(person.lower, 0.0) * h
    low = loose if person.lower == "trousers" else 0.0
    knee = 0.034 * h * girth + loose
    hip = (0.046 if person.skirted else 0.054) * h * girth + 0.5 * loose
    shape.capsule(leg.hip, leg.knee, radii=(hip, knee), material=Material.LEG)
    shape.capsule(
        leg.knee,
        leg.ankle,
        radii=(0.034 * h * girth + low, 0.022 * h + 1.6 * low),
        material=Material.LEG,
        texture_start=THIGH * h,
    )
    heel = (leg.ankle[0], leg.ankle[1] - 0.018 * h, leg.ankle[2] - 0.018 * h)
    ahead = 0.105 * h
    toe = (heel[0] * 1.06, heel[1] + ahead * math.cos(leg.foot_pitch), heel[2] + ahead * math.sin(leg.foot_pitch))
    shape.capsule(heel, toe, radii=(0.024 * h, 0.020 * h), material=Material.SHOE, depth=0.9, front=(0.0, 0.0, 1.0))
    if person.shoes == "boots":
        top = tuple(a + (k - a) * 0.38 for a, k in zip(leg.ankle, leg.knee, strict=True))
        shape.capsule(leg.ankle, (top[0], top[1], top[2]), radii=(0.029 * h, 0.034 * h), material=Material.SHOE)


def _add_trunk(shape: Sculpture, person: Appearance, trunk: Trunk) -> None:
    h, thick = person.height, person.bulk * person.height
    girth = person.girth
    waist = 0.074 * h * girth + thick
    shape.capsule(
        trunk.at(0, 0, -0.012),
        trunk.at(0, 0, WAIST),
        radii=(0.083 * h * person.hips * math.sqrt(girth) + 0.6 * thick, waist),
        material=Material.UPPER,
        depth=0.74,
        front=trunk.front,
        texture_start=-0.012 * h,
    )
    shape.capsule(
        trunk.at(0, 0, WAIST),
        trunk.at(0, 0, CHEST),
        radii=(waist, 0.089 * h * person.shoulders * girth**0.3 + thick),
        material=Material.UPPER,
        depth=0.66 * girth**0.4,
        front=trunk.front,
        texture_start=WAIST * h,
    )
    if person.bust:
        size = 0.034 * h * person.bust
        for side in (-1, 1):
            shape.ball(
                trunk.at(side * 0.036, 0.036, 0.185),
                radii=(size * 1.2, size, size * 1.2),
                material=Material.TAIL,
                front=trunk.front,
            )
    if person.upper in ("hoodie", "jacket"):
        shape.ball(
            trunk.at(0, -0.052, 0.30),
            radii=(0.055 * h, 0.028 * h, 0.034 * h),
            material=Material.COLLAR,
            front=trunk.front,
        )
    neck = Material.COLLAR if person.upper in ("shirt", "coat", "jacket", "hoodie") else Material.SKIN
    shape.capsule(trunk.at(0, -0.006, 0.27), trunk.at(0, 0.0, 0.308), radii=(0.043 * h, 0.035 * h), material=neck)
    shape.capsule(
        trunk.at(0, 0.0, 0.30), trunk.at(0, 0.006, 0.36), radii=(0.031 * h, 0.029 * h), material=Material.SKIN
    )


def _add_skirts(shape: Sculpture, person: Appearance, trunk: Trunk, legs: dict[int, Leg]) -> None:
    h = person.height
    reach = max(abs(leg.knee[1]) for leg in legs.values()) / h
    if person.skirted:
        length, flare, knees = (0.21, 0.128, 0.75) if person.lower == "skirt" else (0.38, 0.140, 1.1)
        spread = max(0.8, (knees * reach + 0.05) / flare)
        wide = h * person.hips * person.girth**0.5
        radii = (0.092 * wide, flare * wide)
        top = trunk.at(0, 0, 0.05)
        shape.cone(top, (0.0, 0.0, top[2] - length * h), radii=radii, material=Material.PELVIS, depth=spread)
    if person.upper in ("t-shirt", "shirt", "hoodie", "jacket") and not person.skirted:
        wide = (0.104 * person.hips * person.girth**0.5 + person.bulk) * h
        spread = max(0.74, (0.3 * reach + 0.056) * h / wide)
        top = trunk.at(0, 0, WAIST)
        radii = (0.074 * h * person.girth + person.bulk * h, wide)
        shape.cone(top, trunk.at(0, 0, -0.02), radii=radii, material=Material.TAIL, depth=spread, front=trunk.front)
    if person.upper == "coat":
        spread = max(0.86, (0.6 * reach + 0.06) / 0.12)
        top = trunk.at(0, 0, 0.06)
        radii = (0.085 * h * person.girth**0.7 + 0.01 * h, 0.118 * h * person.girth**0.5)
        shape.cone(top, (0.0, 0.0, top[2] - 0.235 * h), radii=radii, material=Material.TAIL, depth=spread)


def _add_arm(shape: Sculpture, person: Appearance, pose: Pose, trunk: Trunk, side: int) -> Point:
    """Add one arm and return the position of its hand."""
    h, girth = person.height, math.sqrt(person.girth)
    carries = person.bag in ("handbag", "trolley") and side == person.bag_side
    phase = pose.phase + (math.pi if side > 0 else 0.0)
    swing, bend, spread, inward = 0.9 * pose.stride * math.sin(phase) + 0.03, pose.elbow, 0.13, -0.02
    bend += 0.5 * pose.stride * max(0.0, math.sin(phase))
    if carries:
        swing, bend = (0.25 * swing, 0.08) if person.bag == "handbag" else (-0.25, 0.1)
    elif pose.arms == "telephone" and side == -person.bag_side:
        swing, bend, spread, inward = 0.75, 2.1, 0.22, -0.12
    elif pose.arms == "pockets":
        swing, bend, spread, inward = -0.28, 0.62, 0.28, -0.25
    elif pose.arms == "folded":
        swing, bend, spread, inward = 0.35, 1.25, 0.2, -0.75
    thick = person.bulk * h + (0.003 * h if person.sleeve_length > 0.05 else 0.0)
    shoulder = trunk.at(side * 0.094 * person.shoulders * girth**0.5, 0.0, SHOULDER)
    elbow = _step(shoulder, swing, side * spread, UPPER_ARM * h)
    wrist = _step(elbow, swing + bend, side * inward, FOREARM * h)
    hand = _step(wrist, swing + bend, side * inward, 0.04 * h)
    shape.capsule(
        shoulder, elbow, radii=(0.0315 * h * girth + thick, 0.0255 * h * girth + thick), material=Material.SLEEVE
    )
    shape.capsule(
        elbow,
        wrist,
        radii=(0.0255 * h * girth + thick, 0.0185 * h + 0.8 * thick),
        material=Material.SLEEVE,
        texture_start=UPPER_ARM * h,
    )
    shape.capsule(wrist, hand, radii=(0.0175 * h, 0.0165 * h), material=Material.SKIN)
    return hand


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw the pose of a walking or standing person for one track; the phase is set per image."""
    walking = rng.random() < 0.82
    weights = (0.70, 0.85, 0.95, 1.0) if walking else (0.4, 0.65, 0.85, 1.0)
    return Pose(
        phase=float(rng.uniform(0, 2 * math.pi)),
        stride=float(rng.uniform(0.30, 0.50)) if walking else float(rng.uniform(0.0, 0.08)),
        arms=ARMS[int(np.searchsorted(weights, rng.random()))],
        lean=float(rng.normal(0.05, 0.03)),
        twist=float(rng.uniform(0.05, 0.2)),
        head_yaw=float(rng.normal(0.0, 0.3)),
        head_pitch=float(rng.normal(-0.08, 0.12)),
        elbow=float(rng.uniform(0.12, 0.5)),
    )
