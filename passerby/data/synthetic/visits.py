"""Planned walks of a site with several cameras: who crosses which view when, and how long the ways between them are.

The views do not overlap. Cameras have places on a plan; a person walks from one to the next in a straight line at a
speed of his own with some detour, so no passage is faster than the distance over the largest speed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from passerby.data.synthetic.body import Pose, draw_pose
from passerby.data.synthetic.cameras import Camera
from passerby.types import Doubles

CAMERA_NAMES = ("door", "hall", "yard", "gate", "stairs", "desk", "lift", "bridge")
SLOWEST, FASTEST = 1.0, 1.6
"""Metres per second of a walking person."""
NEXT_TO = (12.0, 28.0)
"""Fewest and most metres between two cameras."""
RETURN_AFTER = (8.0, 25.0)
"""Seconds until a person who comes back to the same camera is there again."""
COUNT_VISITS = (0.2, 0.3, 0.3, 0.2)
"""Share of the people with one visit, two, three and four."""
IN_COMPANY = 0.35
"""Share of the people who come right behind another one."""
COMES_BACK = 0.15
"""Share of the visits after which the next one is at the same camera."""


@dataclass(frozen=True)
class ClipSize:
    """Size of a site of clips.

    Attributes:
        people: number of identities, >= 2.
        cameras: number of cameras, 1 to `len(CAMERA_NAMES)`.
        seconds: length of each clip.
        rate: frames per second.
        width, height: of a frame in pixels, both even.

    """

    people: int = 40
    cameras: int = 3
    seconds: float = 75.0
    rate: int = 5
    width: int = 480
    height: int = 270

    @property
    def view(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def count_frames(self) -> int:
        """Frames of each clip."""
        return round(self.seconds * self.rate)


@dataclass(frozen=True, eq=False)
class Visit:
    """One walk of one person through one camera's view.

    Attributes:
        person: index of the identity.
        camera: index of the camera.
        begin: seconds at which it begins, on the clock of the site.
        speed: metres per second.
        points: (S, 2) places on the ground in metres, along a smooth curve.
        pose: at the beginning.

    """

    person: int
    camera: int
    begin: float
    speed: float
    points: Doubles
    pose: Pose

    @property
    def steps(self) -> Doubles:
        """(S,) metres from the beginning of the way to each point."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def end(self) -> float:
        """Seconds at which it ends."""
        return self.begin + float(self.steps[-1]) / self.speed

    def at(self, time: float) -> tuple[float, float, float]:
        """Return place (x, y) in metres and heading in radians (0 = away from the camera) at a time of the visit."""
        way = (time - self.begin) * self.speed
        steps = self.steps
        x, y = (float(np.interp(way, steps, self.points[:, axis])) for axis in range(2))
        k = min(int(np.searchsorted(steps, way, side="right")), len(steps) - 1)
        dx, dy = self.points[k] - self.points[k - 1]
        return x, y, math.atan2(-dx, dy)


@dataclass(frozen=True)
class Way:
    """The least seconds from one camera's view to another's, in both directions."""

    first: int
    second: int
    least: float


def draw_ways(rng: np.random.Generator, count: int) -> list[Way]:
    """Place the cameras on a plan, no two nearer than `NEXT_TO[0]`, and return the ways between all pairs."""
    places = [np.zeros(2)]
    while len(places) < count:
        angle, metres = rng.uniform(0, 2 * math.pi), rng.uniform(*NEXT_TO)
        place = places[int(rng.integers(len(places)))] + metres * np.array([math.cos(angle), math.sin(angle)])
        if all(np.linalg.norm(place - other) >= NEXT_TO[0] for other in places):
            places.append(place)
    return [
        Way(one, other, float(np.linalg.norm(places[one] - places[other])) / FASTEST)
        for one, other in itertools.combinations(range(count), 2)
    ]


def draw_visits(
    count: int, cameras: list[Camera], ways: list[Way], size: ClipSize, rngs: Callable[[int], np.random.Generator]
) -> list[Visit]:
    """Draw the visits of `count` people, those of each in order of time.

    Args:
        count: number of people.
        cameras: of the site.
        ways: between all pairs of them.
        size: length of the clips.
        rngs: returns the generator of a person.

    """
    visits: list[Visit] = []
    camera, begin = 0, 0.0
    for person in range(count):
        rng = rngs(person)
        many = 1 + int(rng.choice(len(COUNT_VISITS), p=COUNT_VISITS))
        if person and rng.random() < IN_COMPANY:
            begin += float(rng.uniform(0.3, 1.5))
        else:
            camera = int(rng.integers(len(cameras)))
            begin = float(rng.uniform(-2.0, 0.65 * size.seconds if many > 1 else size.seconds - 3.0))
        visits += _walk(person, camera, begin, many, cameras, ways, size, rng)
    return visits


def _walk(
    person: int,
    camera: int,
    begin: float,
    many: int,
    cameras: list[Camera],
    ways: list[Way],
    size: ClipSize,
    rng: np.random.Generator,
) -> list[Visit]:
    """Draw up to `many` visits of a person; some leave a view and return to it."""
    least = {(way.first, way.second): way.least for way in ways}
    speed, time = float(rng.uniform(SLOWEST, FASTEST)), begin
    visits: list[Visit] = []
    while len(visits) < many and time < size.seconds - 1.0:
        visit = Visit(person, camera, time, speed, draw_way(cameras[camera], size, rng), _walking(rng, speed))
        visits.append(visit)
        others = [k for k in range(len(cameras)) if k != camera]
        if not others or rng.random() < COMES_BACK:
            time = visit.end + float(rng.uniform(*RETURN_AFTER))
            continue
        following = others[int(rng.integers(len(others)))]
        seconds = least[min(camera, following), max(camera, following)] * FASTEST / speed
        time, camera = visit.end + seconds * float(rng.uniform(1.0, 1.5)), following
    return visits


def _walking(rng: np.random.Generator, speed: float) -> Pose:
    """Draw a pose with the stride of a walk at that speed."""
    return replace(draw_pose(rng), stride=speed / 3.0)


def draw_way(camera: Camera, size: ClipSize, rng: np.random.Generator) -> Doubles:
    """Return points (S, 2) of a way through a camera's view: in at one side or a door of the wall, out at another."""
    places = (_side(camera, size, rng, -1), _side(camera, size, rng, 1), _door(camera, rng))
    order = rng.permutation(3)
    start, end = places[int(order[0])], places[int(order[1])]
    middle = np.array([rng.normal(0.0, 0.12) * camera.far, rng.uniform(camera.near, camera.far)])
    share = np.linspace(0.0, 1.0, 33)[:, None]
    curve: Doubles = (1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end
    return curve


def _side(camera: Camera, size: ClipSize, rng: np.random.Generator, side: int) -> Doubles:
    """Return a place half a metre outside of the left (-1) or right (1) edge of the view."""
    y = float(rng.uniform(0.75 * camera.near, 1.1 * camera.far))
    return np.array([side * (0.5 * size.width / camera.focal * y + 0.5), y])


def _door(camera: Camera, rng: np.random.Generator) -> Doubles:
    """Return a place before the wall."""
    return np.array([float(rng.uniform(-0.2, 0.2)) * camera.far, camera.far + 1.2])
