"""Cameras of a site: position, background, light and colour response.

All properties of a camera are drawn from (seed, site, camera number) within limits of the site: `plaza` is
a sunny square seen from about head height, `campus` is seen from masts on grey days, and `station` mixes outdoor
platforms with dim halls of strong colour casts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from passerby.data.synthetic import scenery
from passerby.data.synthetic.photograph import Response
from passerby.data.synthetic.raycast import COUNT_LIGHT, PERSON_ROWS, SHADOW, SKY_COLOUR, SOFTNESS, SUN, SUN_COLOUR
from passerby.data.synthetic.solids import THINGS, Point, Sculpture, place
from passerby.data.synthetic.wardrobe import (
    CLOTHES,
    COUNT_MATERIAL_COLUMNS,
    FIRST,
    HIGH,
    LOW,
    MODE,
    PATTERN,
    PATTERNS,
    SECOND,
    SIZE,
    SMOOTH_MODE,
    Season,
    linear,
)
from passerby.types import Doubles


@dataclass(frozen=True)
class Climate:
    """The limits within which the cameras of one site differ.

    Attributes:
        count_cameras: number of cameras.
        eye: height, metres.
        far: working distance, metres.
        focal: focal length in pixels; with the distance it gives the resolution of a person.
        sun: strength of direct sunlight.
        cast: standard deviation of the white balance, natural logarithm.
        exposure: standard deviation of the exposure, natural logarithm.
        veil: most stray light.
        noise: most noise, share of white.
        indoors: share of cameras without sunlight.
        looseness: standard deviation of the shift and scale of the boxes, share of their height.
        occluded: share of images with an occluder.
        season: clothing of the people.
        grounds, walls: kinds of ground and wall.

    """

    count_cameras: int
    eye: tuple[float, float]
    far: tuple[float, float]
    focal: tuple[float, float]
    sun: tuple[float, float]
    cast: float
    exposure: float
    veil: float
    noise: float
    indoors: float
    looseness: float
    occluded: float
    season: Season
    grounds: tuple[str, ...]
    walls: tuple[str, ...]


CLIMATES: dict[str, Climate] = {
    "plaza": Climate(
        count_cameras=6,
        eye=(1.9, 3.0),
        far=(5.0, 9.0),
        focal=(330.0, 800.0),
        sun=(0.7, 1.5),
        cast=0.10,
        exposure=0.20,
        veil=0.10,
        noise=0.025,
        indoors=0.1,
        looseness=0.030,
        occluded=0.13,
        season=Season(warm=0.75, bright=0.75, patterned=0.40, bags=0.45),
        grounds=("slabs", "cobbles", "chequers", "asphalt"),
        walls=("windows", "arcade", "panels", "hedge", "bricks"),
    ),
    "campus": Climate(
        count_cameras=8,
        eye=(4.2, 7.0),
        far=(8.0, 15.0),
        focal=(550.0, 1300.0),
        sun=(0.0, 0.35),
        cast=0.09,
        exposure=0.18,
        veil=0.35,
        noise=0.03,
        indoors=0.0,
        looseness=0.045,
        occluded=0.15,
        season=Season(warm=0.15, bright=0.45, patterned=0.30, bags=0.55),
        grounds=("grass", "asphalt", "slabs"),
        walls=("hedge", "bricks", "windows"),
    ),
    "station": Climate(
        count_cameras=12,
        eye=(2.0, 4.0),
        far=(5.0, 11.0),
        focal=(360.0, 900.0),
        sun=(0.2, 1.3),
        cast=0.19,
        exposure=0.30,
        veil=0.18,
        noise=0.045,
        indoors=0.5,
        looseness=0.035,
        occluded=0.16,
        season=Season(warm=0.45, bright=0.60, patterned=0.35, bags=0.6),
        grounds=("slabs", "boards", "chequers", "asphalt", "cobbles"),
        walls=("panels", "posters", "arcade", "bricks", "windows"),
    ),
}

TONES: tuple[tuple[float, float, float], ...] = (
    (0.62, 0.60, 0.57), (0.47, 0.47, 0.48), (0.55, 0.49, 0.42), (0.36, 0.37, 0.39),
    (0.70, 0.66, 0.58), (0.45, 0.38, 0.34), (0.52, 0.55, 0.60), (0.60, 0.42, 0.34),
)  # fmt: skip
GREENS: tuple[tuple[float, float, float], ...] = ((0.30, 0.40, 0.18), (0.17, 0.27, 0.11), (0.38, 0.44, 0.22))


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera: geometry, scene, light and response.

    Attributes:
        number: 1..n.
        eye: height, metres; pitch: downwards, radians; focal: pixels.
        near, far: range of people's distances, metres along the ground; spread: to the sides, share of the distance.
        headings: directions (radians, 0 = away from the camera) in which people walk.
        scene, light: vectors for the ray caster.
        things: solids of the background; their materials are the first `PERSON_ROWS` rows of any table.
        materials: (PERSON_ROWS, COUNT_MATERIAL_COLUMNS) of the things and of occluders.
        response: colour response.
        looseness, occluded: as in `Climate`.

    """

    number: int
    eye: float
    pitch: float
    focal: float
    near: float
    far: float
    spread: float
    headings: tuple[float, ...]
    scene: Doubles
    light: Doubles
    things: Doubles
    materials: Doubles
    response: Response
    looseness: float
    occluded: float


def draw_camera(rng: np.random.Generator, climate: Climate, *, number: int) -> Camera:
    """Draw one camera of a site."""
    eye = float(rng.uniform(*climate.eye))
    far = float(rng.uniform(*climate.far))
    near = 0.72 * far
    heading = float(rng.uniform(0, 2 * math.pi))
    indoors = bool(rng.random() < climate.indoors)
    wall_at = far + float(rng.uniform(1.5, 7.0))
    return Camera(
        number=number,
        eye=eye,
        pitch=math.atan2(eye - 0.9, 0.5 * (near + far)),
        focal=float(rng.uniform(*climate.focal)),
        near=near,
        far=far,
        spread=0.22,
        headings=(heading, heading + math.pi, heading + float(rng.choice((-0.5, 0.5))) * math.pi),
        scene=_draw_scene(rng, climate, wall_at),
        light=_draw_light(rng, climate, indoors),
        things=_draw_things(rng, far, wall_at),
        materials=_draw_materials(rng),
        response=_draw_response(rng, climate, indoors),
        looseness=climate.looseness,
        occluded=climate.occluded,
    )


def _tone(rng: np.random.Generator, tones: tuple[tuple[float, float, float], ...] = TONES) -> Doubles:
    colour = np.asarray(tones[int(rng.integers(len(tones)))]) * rng.uniform(0.75, 1.2) + rng.normal(0.0, 0.03, 3)
    return linear(tuple(np.clip(colour, 0.03, 0.95)))


def _draw_scene(rng: np.random.Generator, climate: Climate, wall_at: float) -> Doubles:
    scene = np.zeros(scenery.COUNT_SCENE)
    ground = climate.grounds[int(rng.integers(len(climate.grounds)))]
    wall = climate.walls[int(rng.integers(len(climate.walls)))]
    scene[scenery.GROUND], scene[scenery.WALL] = scenery.GROUNDS.index(ground), scenery.WALLS.index(wall)
    tones = GREENS if ground == "grass" else TONES
    scene[scenery.GROUND_A : scenery.GROUND_A + 3] = _tone(rng, tones)
    second = np.array([0.75, 0.75, 0.72]) if ground == "asphalt" else _tone(rng, tones) * rng.uniform(0.4, 0.9)
    scene[scenery.GROUND_B : scenery.GROUND_B + 3] = second
    scene[scenery.GROUND_SIZE] = rng.uniform(0.25, 0.9) * (2.0 if ground == "asphalt" else 1.0)
    for at in (scenery.WALL_A, scenery.WALL_B, scenery.WALL_C):
        scene[at : at + 3] = _tone(rng, GREENS if wall == "hedge" else TONES) * rng.uniform(0.35, 1.0)
    if wall in ("posters", "panels"):
        for at in (scenery.WALL_B, scenery.WALL_C):
            scene[at : at + 3] = linear(CLOTHES[int(rng.integers(len(CLOTHES)))][1]) * 0.8
    scene[scenery.WALL_SIZE] = rng.uniform(1.0, 2.4)
    scene[scenery.WALL_DISTANCE], scene[scenery.WALL_SLOPE] = wall_at, rng.normal(0.0, 0.15)
    scene[scenery.WALL_HEIGHT] = rng.uniform(2.5, 8.0)
    scene[scenery.SKY : scenery.SKY + 3] = (0.55, 0.68, 0.85)
    scene[scenery.GRAIN], scene[scenery.ORIGIN] = rng.uniform(0.2, 0.6), rng.uniform(0.0, 50.0)
    return scene


def _draw_light(rng: np.random.Generator, climate: Climate, indoors: bool) -> Doubles:
    light = np.zeros(COUNT_LIGHT)
    strength = 0.25 if indoors else float(rng.uniform(*climate.sun))
    overcast = strength < 0.4
    elevation = float(rng.uniform(1.1, 1.45)) if overcast else float(rng.uniform(0.45, 1.1))
    azimuth = float(rng.uniform(0, 2 * math.pi))
    flat = math.cos(elevation)
    light[SUN : SUN + 3] = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation))
    light[SUN_COLOUR : SUN_COLOUR + 3] = strength * np.array((1.0, 0.93, 0.82))
    light[SKY_COLOUR : SKY_COLOUR + 3] = (0.95 if overcast else 0.55) * np.array((0.93, 0.98, 1.08))
    light[SHADOW], light[SOFTNESS] = (0.8, 0.16) if overcast else (0.95, 0.045)
    return light


def _draw_response(rng: np.random.Generator, climate: Climate, indoors: bool) -> Response:
    exposure = math.exp(rng.normal(0.05, climate.exposure)) * (0.75 if indoors else 1.0)
    balance = np.exp(rng.normal(0.0, climate.cast, 3))
    red, green, blue = (float(v) for v in exposure * balance / balance.mean())
    return Response(
        gain=(red, green, blue),
        gamma=float(rng.uniform(1.7, 2.5)),
        contrast=float(rng.uniform(0.8, 1.2)),
        saturation=float(rng.uniform(0.6, 1.25)),
        veil=float(rng.uniform(0.0, climate.veil)),
        blur=float(rng.uniform(0.2, 0.9)),
        noise=float(rng.uniform(0.2, 1.0)) * climate.noise * (1.0 if indoors else 0.6),
        quality=int(rng.integers(60, 93)),
    )


def _draw_materials(rng: np.random.Generator) -> Doubles:
    """Materials of things: 0 and 1 foliage, the others stone, metal and paint."""
    table = np.zeros((PERSON_ROWS, COUNT_MATERIAL_COLUMNS))
    table[:, LOW], table[:, HIGH] = -99.0, 99.0
    table[:, MODE] = SMOOTH_MODE
    for row in range(PERSON_ROWS):
        table[row, FIRST : FIRST + 3] = _tone(rng, GREENS if row < 2 else TONES) * (
            0.6 if row < 2 else rng.uniform(0.2, 1.0)
        )
        table[row, SECOND : SECOND + 3] = table[row, FIRST : FIRST + 3] * 0.4
        if row < 2:
            table[row, PATTERN], table[row, SIZE] = PATTERNS.index("camouflage"), 0.15
    return table


def add_thing(shape: Sculpture, rng: np.random.Generator, *, at: Point, kind: str) -> None:
    """Add a piece of street furniture: `"pole"`, `"box"`, `"bush"` or `"rail"`."""
    x, y, _ = at
    material = int(rng.integers(2, PERSON_ROWS))
    if kind == "pole":
        radius = float(rng.uniform(0.05, 0.12))
        shape.cone(at, (x, y, 4.5), radii=(radius, radius), material=material)
    elif kind == "box":
        halves = (float(rng.uniform(0.2, 0.55)), float(rng.uniform(0.15, 0.3)), float(rng.uniform(0.25, 0.5)))
        shape.box((x, y, halves[2]), halves=halves, material=material)
    elif kind == "bush":
        for _ in range(3):
            radius = float(rng.uniform(0.28, 0.45))
            middle = (x + float(rng.normal(0, 0.25)), y + float(rng.normal(0, 0.1)), 0.8 * radius)
            shape.ball(middle, radii=(radius, radius, radius), material=int(rng.integers(2)))
    else:
        for height in (0.45, 0.95):
            shape.capsule((x - 2.5, y, height), (x + 2.5, y, height), radii=(0.03, 0.03), material=material)
        for across in (-1.2, 0.0, 1.2):
            shape.capsule((x + across, y, 0.0), (x + across, y, 0.95), radii=(0.025, 0.025), material=material)


def _draw_things(rng: np.random.Generator, far: float, wall_at: float) -> Doubles:
    """Return furniture beyond the range of the people."""
    shape = Sculpture()
    for _ in range(int(rng.integers(4, 10))):
        x, y = float(rng.uniform(-0.4, 0.4) * wall_at), float(rng.uniform(far + 0.8, wall_at))
        add_thing(shape, rng, at=(x, y, 0.0), kind=("pole", "box", "bush", "box")[int(rng.integers(4))])
    return place(shape, THINGS, at=(0.0, 0.0), yaw=0.0, material_offset=0)
