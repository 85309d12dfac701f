"""One frame of a fixed camera: the people in its view, drawn over a background that is rendered once.

Notable: only the rectangles around people and their shadows are rendered. The light of the ground is linear in the
shadow on it, so the ground between two renderings, in full light and in full shadow, is their mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from passerby.data.synthetic.body import Pose, sculpt
from passerby.data.synthetic.cameras import Camera, add_thing
from passerby.data.synthetic.photograph import Bytes, develop
from passerby.data.synthetic.raycast import PERSON_ROWS, SOFTNESS, paint, shade_ground
from passerby.data.synthetic.shot import extent, shadows_of
from passerby.data.synthetic.solids import CROWD, THINGS, Sculpture, place
from passerby.data.synthetic.wardrobe import Appearance, materials_of
from passerby.types import Doubles

EVERYWHERE = np.array([[0.0, 0.0, 0.0, 1.0, 1e4, 1e4]])
"""A stroke of shadow over the whole ground."""
COUNT_BACKGROUNDS = 4
"""Backgrounds with noise of their own, in turn."""
MARGIN = 4
"""Pixels around a rectangle that is developed, so that the blur at its edge is right."""
LEAST_VISIBLE = 0.3
"""Share of a box inside the frame from which on it is a box."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two exclusive."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A person in a view.

    Attributes:
        person: index of the identity.
        appearance: of the person.
        x, y: place on the ground, metres.
        heading: radians, 0 = away from the camera.
        pose: of the body.

    """

    person: int
    appearance: Appearance
    x: float
    y: float
    heading: float
    pose: Pose


@dataclass(frozen=True)
class PersonBox:
    """The box of a person in a frame.

    Attributes:
        person: index of the identity.
        left, top, width, height: pixels; may reach beyond the frame.
        visible: share inside of the frame times the largest share that no nearer box covers.

    """

    person: int
    left: float
    top: float
    width: float
    height: float
    visible: float


def as_video_camera(camera: Camera, rng: np.random.Generator, view: tuple[int, int]) -> Camera:
    """Return a camera of the still images with a focal length and a foreground for whole frames.

    People at the nearest working distance are half as tall as the frame at most.
    """
    width, height = view
    focal = float(np.clip(camera.focal, 60.0 * camera.far / 1.7, 0.5 * height * camera.near / 1.7))
    shape = Sculpture()
    y = 0.65 * camera.near
    x = float(rng.uniform(-0.35, 0.35)) * y * width / focal
    add_thing(shape, rng, at=(x, y, 0.0), kind=("pole", "bush", "box")[int(rng.integers(3))])
    foreground = place(shape, THINGS, at=(0.0, 0.0), yaw=0.0, material_offset=0)
    return replace(camera, focal=focal, things=np.concatenate([camera.things, foreground]))


class CameraView:
    """The view of one fixed camera, without people.

    Args:
        camera: of `as_video_camera`.
        view: width and height of a frame in pixels, both even.
        rng: noise of the background.

    """

    def __init__(self, camera: Camera, view: tuple[int, int], rng: np.random.Generator) -> None:
        self.camera = camera
        self.width, self.height = view
        self._lit = self._background(np.zeros((0, 6)))
        self._shaded = self._background(EVERYWHERE)
        size = (self.height, self.width)
        self._developed = [
            develop(self._lit, camera.response, size=size, motion=0, rng=rng) for _ in range(COUNT_BACKGROUNDS)
        ]

    def _background(self, shadows: Doubles) -> Doubles:
        light, cover = np.empty((self.height, self.width, 3)), np.empty((self.height, self.width))
        camera, view = self.camera, self._view((0, 0, self.width, self.height))
        paint(camera.things, camera.materials, shadows, camera.scene, camera.light, view, light, cover)
        return light

    def _view(self, rectangle: Rectangle) -> Doubles:
        """Return the view vector of a rectangle of pixels."""
        camera = self.camera
        left, top, right, bottom = rectangle
        across = [(value - 0.5 * self.width) / camera.focal for value in (left, right)]
        down = [(0.5 * self.height - value) / camera.focal for value in (top, bottom)]
        return np.array([camera.eye, math.sin(camera.pitch), math.cos(camera.pitch), *across, *down])

    def photograph(
        self, figures: Sequence[Figure], number: int, rng: np.random.Generator
    ) -> tuple[Bytes, list[PersonBox]]:
        """Return the frame (H, W, 3) uint8 with that number, and the boxes of the people in it.

        Args:
            figures: the people.
            number: of the frame; chooses the background.
            rng: noise.

        """
        picture = self._developed[number % COUNT_BACKGROUNDS].copy()
        bodies = [_body(figure, k) for k, figure in enumerate(figures)]
        boxes = _with_visibility(
            [self._box(figure, body) for figure, body in zip(figures, bodies, strict=True)],
            figures,
            (self.width, self.height),
        )
        if not bodies:
            return picture, []
        shadows = [shadows_of(body, self.camera.light) for body in bodies]
        light = self._lit.copy()
        changed = [self._shade(light, strokes) for strokes in shadows]
        solids = np.concatenate([self.camera.things, *bodies])
        table = np.concatenate([self.camera.materials, *(materials_of(figure.appearance) for figure in figures)])
        for body in bodies:
            rectangle = self._around(body)
            if rectangle is not None:
                self._paint(light, rectangle, solids, table, np.concatenate(shadows))
                changed.append(rectangle)
        for rectangle in changed:
            if rectangle is not None:
                self._develop(picture, light, rectangle, rng)
        return picture, [box for box in boxes if box.visible >= LEAST_VISIBLE]

    def _around(self, body: Doubles) -> Rectangle | None:
        """Return the pixels that a body may cover, None where all are outside of the frame."""
        left, right, top, bottom = extent(body, self.camera)
        return self._inside(left, right, top, bottom, 3)

    def _inside(self, left: float, right: float, top: float, bottom: float, margin: int) -> Rectangle | None:
        """Return the pixels between limits at depth 1."""
        focal = self.camera.focal
        x = [math.floor(value * focal + 0.5 * self.width) for value in (left, right)]
        y = [math.floor(0.5 * self.height - value * focal) for value in (top, bottom)]
        rectangle = (
            max(x[0] - margin, 0),
            max(y[0] - margin, 0),
            min(x[1] + margin + 1, self.width),
            min(y[1] + margin + 1, self.height),
        )
        return rectangle if rectangle[0] < rectangle[2] and rectangle[1] < rectangle[3] else None

    def _shade(self, light: Doubles, shadows: Doubles) -> Rectangle | None:
        """Darken the ground under the strokes (S, 6) of one person, and return where."""
        camera = self.camera
        ends = np.concatenate([shadows[:, :2], shadows[:, 2:4]])  # (2S, 2)
        reach = np.concatenate([shadows[:, 4], shadows[:, 5]]) + camera.light[SOFTNESS]
        low, high = (ends - reach[:, None]).min(axis=0), (ends + reach[:, None]).max(axis=0)
        corners = np.array([[x, y] for x in (low[0], high[0]) for y in (max(low[1], 0.5), max(high[1], 0.6))])
        sine, cosine = math.sin(camera.pitch), math.cos(camera.pitch)
        ahead = corners[:, 1] * cosine + camera.eye * sine
        across, above = corners[:, 0] / ahead, (corners[:, 1] * sine - camera.eye * cosine) / ahead
        rectangle = self._inside(float(across.min()), float(across.max()), float(above.max()), float(above.min()), 1)
        if rectangle is None:
            return None
        left, top, right, bottom = rectangle
        shade = np.zeros((bottom - top, right - left))
        shade_ground(shadows, camera.scene, camera.light[SOFTNESS], self._view(rectangle), shade)
        rows, columns = np.flatnonzero(shade.max(axis=1)), np.flatnonzero(shade.max(axis=0))
        if not len(rows):
            return None
        place_ = np.s_[top:bottom, left:right]
        # The darker of two shadows counts, as in the ray caster.
        shaded = self._lit[place_] + shade[:, :, None] * (self._shaded[place_] - self._lit[place_])
        np.minimum(light[place_], shaded, out=light[place_])
        return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1

    def _paint(self, light: Doubles, rectangle: Rectangle, solids: Doubles, table: Doubles, shadows: Doubles) -> None:
        """Render all solids in a rectangle into `light`."""
        left, top, right, bottom = rectangle
        patch, cover = np.empty((bottom - top, right - left, 3)), np.empty((bottom - top, right - left))
        camera = self.camera
        paint(solids, table, shadows, camera.scene, camera.light, self._view(rectangle), patch, cover)
        light[top:bottom, left:right] = patch

    def _develop(self, picture: Bytes, light: Doubles, rectangle: Rectangle, rng: np.random.Generator) -> None:
        """Replace a rectangle of the picture by its light as the camera sees it."""
        left, top, right, bottom = rectangle
        x, y = max(left - MARGIN, 0), max(top - MARGIN, 0)
        patch = light[y : bottom + MARGIN, x : right + MARGIN]
        developed = develop(np.ascontiguousarray(patch), self.camera.response, size=patch.shape[:2], motion=0, rng=rng)
        picture[top:bottom, left:right] = developed[top - y : bottom - y, left - x : right - x]

    def _box(self, figure: Figure, body: Doubles) -> PersonBox:
        """Return the box of a person, as a good detector places it."""
        left, right, top, bottom = extent(body, self.camera)
        tall = (top - bottom) * 1.08
        wide = min(max(0.44 * tall, 1.04 * (right - left)), 0.62 * tall)
        focal = self.camera.focal
        x = 0.5 * (left + right - wide) * focal + 0.5 * self.width
        y = 0.5 * self.height - 0.5 * (top + bottom + tall) * focal
        return PersonBox(figure.person, x, y, wide * focal, tall * focal, 1.0)


def _body(figure: Figure, number: int) -> Doubles:
    """Return the solids of a person with the materials of the block after `number` others."""
    offset = PERSON_ROWS * (number + 1)
    return place(
        sculpt(figure.appearance, figure.pose),
        CROWD,
        at=(figure.x, figure.y),
        yaw=figure.heading,
        material_offset=offset,
    )


def _with_visibility(boxes: list[PersonBox], figures: Sequence[Figure], size: tuple[int, int]) -> list[PersonBox]:
    """Return the boxes with their visible shares."""
    result = []
    for box, figure in zip(boxes, figures, strict=True):
        inside = _overlap(box, PersonBox(-1, 0.0, 0.0, *size, 1.0))
        nearer = [_overlap(box, other) for other, near in zip(boxes, figures, strict=True) if near.y < figure.y]
        result.append(replace(box, visible=inside * (1.0 - max(nearer, default=0.0))))
    return result


def _overlap(box: PersonBox, other: PersonBox) -> float:
    """Return the share of a box that another one covers."""
    wide = min(box.left + box.width, other.left + other.width) - max(box.left, other.left)
    tall = min(box.top + box.height, other.top + other.height) - max(box.top, other.top)
    return max(wide, 0.0) * max(tall, 0.0) / (box.width * box.height)
