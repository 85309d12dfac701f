"""The coordinate frame of the upper body, for clothes and bags above the legs."""

from __future__ import annotations

from dataclasses import dataclass

from passerby.data.synthetic.solids import Point


@dataclass(frozen=True)
class Trunk:
    """The frame of the upper body: position of the hips, up and front directions."""

    height: float
    root: float
    up: Point
    front: Point

    @property
    def side(self) -> Point:
        """The right, square to `front` and `up`."""
        f, u = self.front, self.up
        return f[1] * u[2] - f[2] * u[1], f[2] * u[0] - f[0] * u[2], f[0] * u[1] - f[1] * u[0]

    def at(self, across: float, ahead: float, above: float) -> Point:
        """Return the point that many heights to the right of, before and above the middle of the hips."""
        u, f, s, h = self.up, self.front, self.side, self.height
        return (
            h * (across * s[0] + ahead * f[0] + above * u[0]),
            h * (across * s[1] + ahead * f[1] + above * u[1]),
            self.root + h * (across * s[2] + ahead * f[2] + above * u[2]),
        )
