"""One image: the crop of a detector's box around a person in a camera's view."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from passerby.data.synthetic.body import Pose, draw_pose, sculpt
from passerby.data.synthetic.cameras import Camera, add_thing
from passerby.data.synthetic.photograph import Bytes, develop, enlarge_cover
from passerby.data.synthetic.raycast import PERSON_ROWS, SUN, paint
from passerby.data.synthetic.solids import (
    BOX,
    CROWD,
    END_A,
    END_B,
    KIND,
    RADIUS_A,
    RADIUS_B,
    TARGET,
    THINGS,
    Sculpture,
    place,
)
from passerby.data.synthetic.wardrobe import Appearance, Season, draw_appearance, materials_of
from passerby.types import Bools, Doubles

HEIGHT, WIDTH = 128, 64
STEP_SECONDS = 0.45

BoxQuality = Literal["good", "junk", "distractor"]


@dataclass(frozen=True)
class Session:
    """Time of an image.

    Attributes:
        name: as it appears in file names.
        gain: multiplies the light per channel.
        noise: multiplies the noise.

    """

    name: str
    gain: tuple[float, float, float]
    noise: float


@dataclass(frozen=True)
class Track:
    """One walk of one person through one camera's view.

    Attributes:
        x, y: where it starts on the ground, metres.
        heading: radians, 0 = away from the camera.
        speed: metres per second.
        pose: at the start.

    """

    x: float
    y: float
    heading: float
    speed: float
    pose: Pose


@dataclass(frozen=True, eq=False)
class Photo:
    """A rendered image (H, W, 3) uint8 and its mask (H, W), True where the person is visible."""

    picture: Bytes
    mask: Bools


def draw_track(rng: np.random.Generator, camera: Camera) -> Track:
    """Draw one walk through a camera's view."""
    y = float(rng.uniform(camera.near, camera.far))
    pose = draw_pose(rng)
    heading = camera.headings[int(rng.choice(len(camera.headings), p=(0.45, 0.35, 0.2)))]
    return Track(
        x=float(rng.uniform(-camera.spread, camera.spread)) * y,
        y=y,
        heading=heading + float(rng.normal(0.0, 0.25)),
        speed=3.0 * pose.stride,
        pose=pose,
    )


def advance(track: Track, step: int) -> Track:
    """Return the track a number of images later: farther along, in another phase of the gait."""
    way = track.speed * STEP_SECONDS * step
    pose = replace(track.pose, phase=track.pose.phase + 2.4 * step)
    return replace(
        track, x=track.x - math.sin(track.heading) * way, y=track.y + math.cos(track.heading) * way, pose=pose
    )


def take(
    person: Appearance,
    camera: Camera,
    track: Track,
    *,
    session: Session,
    box: BoxQuality,
    season: Season,
    rng: np.random.Generator,
) -> Photo:
    """Render one image.

    Args:
        person: who it is of; ignored when `box` is `"distractor"`.
        camera: which camera takes it.
        track: where the person is and how he moves.
        session: time of day.
        box: `"good"` (a detector's box), `"junk"` (badly placed), `"distractor"` (no person or half a passer-by).
        season: how passers-by dress.
        rng: decides everything else.

    """
    rows = place(
        sculpt(person, track.pose), TARGET, at=(track.x, track.y), yaw=track.heading, material_offset=PERSON_ROWS
    )
    view = _crop(rows, camera, box, rng)
    people, tables = [rows], [camera.materials, materials_of(person)]
    if box == "distractor":
        people, tables = [], [camera.materials]
    for spot in _passers_by(track, rng, crowded=box == "distractor"):
        stranger = draw_appearance(rng, season)
        yaw, pose = float(rng.uniform(0, 2 * math.pi)), draw_pose(rng)
        people.append(place(sculpt(stranger, pose), CROWD, at=spot, yaw=yaw, material_offset=PERSON_ROWS * len(tables)))
        tables.append(materials_of(stranger))
    solids = [camera.things, *people]
    if rng.random() < camera.occluded:
        solids.append(_occluder(camera, track, rng))
    height = int(np.clip(round((view[5] - view[6]) * camera.focal), 30, HEIGHT))
    light = np.empty((height, height // 2, 3))  # (h, w, 3)
    cover = np.empty((height, height // 2))  # (h, w)
    shadows = shadows_of(np.concatenate(people), camera.light) if people else np.zeros((0, 6))
    paint(np.concatenate(solids), np.concatenate(tables), shadows, camera.scene, camera.light, view, light, cover)
    gain = tuple(a * b for a, b in zip(camera.response.gain, session.gain, strict=True))
    response = replace(
        camera.response, gain=(gain[0], gain[1], gain[2]), noise=min(0.06, camera.response.noise * session.noise)
    )
    motion = int(rng.integers(3, 6)) if rng.random() < 0.12 else 0
    picture = develop(light, response, size=(HEIGHT, WIDTH), motion=motion * height // HEIGHT, rng=rng)
    return Photo(picture, enlarge_cover(cover, (HEIGHT, WIDTH)))


def extent(rows: Doubles, camera: Camera) -> tuple[float, float, float, float]:
    """Return left, right, top and bottom, at depth 1, of the solids in `rows` (P, COUNT_COLUMNS) in a camera's view."""
    sine, cosine = math.sin(camera.pitch), math.cos(camera.pitch)
    ends = np.concatenate([rows[:, END_A : END_A + 3], rows[:, END_B : END_B + 3]])  # (2P, 3)
    radius = np.concatenate([rows[:, RADIUS_A], rows[:, RADIUS_B]]) * 0.85
    z = ends[:, 2] - camera.eye
    ahead = ends[:, 1] * cosine - z * sine
    above = (ends[:, 1] * sine + z * cosine) / ahead
    across, radius = ends[:, 0] / ahead, radius / ahead
    top, bottom = float((above + radius).max()), float((above - radius).min())
    return float((across - radius).min()), float((across + radius).max()), top, bottom


def _crop(rows: Doubles, camera: Camera, box: BoxQuality, rng: np.random.Generator) -> Doubles:
    """Return the view vector of a box around the solids in `rows`, as well placed as `box` says."""
    sine, cosine = math.sin(camera.pitch), math.cos(camera.pitch)
    left, right, top, bottom = extent(rows, camera)
    tall = (top - bottom) * 1.08
    wide = min(max(0.44 * tall, 1.04 * (right - left)), 0.62 * tall)
    shift, scale = camera.looseness, math.exp(float(rng.normal(0.02, camera.looseness)))
    if box != "good":
        shift, scale = 0.0, float(rng.choice((0.5, 0.6, 1.5, 1.8)))
    x = 0.5 * (left + right) + float(rng.normal(0.0, 0.6 * shift)) * tall
    y = 0.5 * (top + bottom) + float(rng.normal(0.0, shift)) * tall
    if box == "junk":
        x += float(rng.choice((-0.25, 0.25))) * tall
        y += float(rng.uniform(-0.3, 0.3)) * tall
    tall, wide = 0.5 * tall * scale, 0.5 * wide * scale
    return np.array([camera.eye, sine, cosine, x - wide, x + wide, y + tall, y - tall])


def _passers_by(track: Track, rng: np.random.Generator, *, crowded: bool) -> list[tuple[float, float]]:
    """Return positions of other people: seldom, mostly behind; near the middle of a distractor, often half outside."""
    places = []
    if crowded:
        if rng.random() < 0.6:
            places.append((track.x + float(rng.choice((-0.55, 0.55))), track.y + float(rng.uniform(-0.2, 0.4))))
        return places
    if rng.random() < 0.22:
        places.append((track.x + float(rng.uniform(-0.9, 0.9)), track.y + float(rng.uniform(0.7, 3.0))))
    if rng.random() < 0.04:
        places.append((track.x + float(rng.choice((-0.42, 0.42))), track.y - float(rng.uniform(0.5, 0.9))))
    return places


def _occluder(camera: Camera, track: Track, rng: np.random.Generator) -> Doubles:
    """Return an object on the line of sight, about a metre before the person."""
    kind = ("pole", "box", "bush", "rail")[int(rng.integers(4))]
    nearer = float(rng.uniform(0.6, 1.3))
    share = 1.0 - nearer / max(track.y, 2.5)
    x = track.x * share + float(rng.uniform(-0.3, 0.3))
    shape = Sculpture()
    add_thing(shape, rng, at=(x, track.y * share, 0.0), kind=kind)
    return place(shape, THINGS, at=(0.0, 0.0), yaw=0.0, material_offset=0)


def shadows_of(rows: Doubles, light: Doubles) -> Doubles:
    """Return the strokes (S, 6) that capsules and cones throw on the ground: x, y at both ends and both radii."""
    rows = rows[rows[:, KIND] != BOX]
    run = light[SUN : SUN + 2] / light[SUN + 2]
    start = rows[:, END_A : END_A + 2] - rows[:, END_A + 2 : END_A + 3] * run
    end = rows[:, END_B : END_B + 2] - rows[:, END_B + 2 : END_B + 3] * run
    return np.concatenate([start, end, rows[:, [RADIUS_A, RADIUS_B]] * 0.9], axis=1)
