"""Travel times between cameras, as a file gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from passerby.errors import UserError
from passerby.settings import Settings, build
from passerby.settings.yaml_text import read_mapping
from passerby.types import Tracklets

LARGEST_GAP = 86_400.0
"""Seconds between the recordings of two cameras beyond which their clocks are taken for different ones."""


class Travel(Settings):
    """The travel time between two cameras, in both directions.

    It is counted from the last box at one to the first box at the other.
    """

    cameras: tuple[str, str] = Field(description="names of two cameras")
    least: float = Field(0.0, ge=0, allow_inf_nan=False, description="fewest seconds from one camera to the other")
    most: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="most seconds; null = no limit, as where people come back later"
    )

    @model_validator(mode="after")
    def _possible(self) -> Travel:
        first, second = self.cameras
        if first == second:
            raise ValueError(f"a travel time is between two cameras, and both are {first!r}")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most ({self.most:g} s) is less than least ({self.least:g} s)")
        return self


class Topology(Settings):
    """Travel times between the cameras of a site; pairs that are not listed have no limit."""

    travel: tuple[Travel, ...] = ()

    def between(self, first: str, second: str) -> Travel | None:
        """Return the travel time between two cameras, None where there is no limit."""
        return next((entry for entry in self.travel if set(entry.cameras) == {first, second}), None)


def read_topology(path: Path) -> Topology:
    """Read a YAML file of travel times.

    Raises:
        UserError: no such file, no such setting, impossible times, or a pair of cameras that is listed twice.

    """
    if not path.is_file():
        raise UserError(f"no topology file {path}")
    topology = build(Topology, read_mapping(path), source=str(path))
    pairs = [frozenset(entry.cameras) for entry in topology.travel]
    for pair in pairs:
        if pairs.count(pair) > 1:
            raise UserError(f"{path}: cameras {' and '.join(sorted(pair))} are listed {pairs.count(pair)} times")
    return topology


def require_topology(topology: Topology, tracklets: Tracklets) -> None:
    """Refuse travel times that cannot be used on these tracklets.

    Raises:
        UserError: a camera without tracklets, or without a clock that all cameras share.

    """
    cameras = sorted(set(tracklets.camera.tolist()))
    for camera in sorted({name for entry in topology.travel for name in entry.cameras}):
        if camera not in cameras:
            raise UserError(f"the topology names camera {camera!r}; there are tracklets of {', '.join(cameras)}")
        if not tracklets.has_clock[tracklets.camera == camera].all():
            raise UserError(
                f"travel times need a clock that all cameras share, and camera {camera!r} has tracklets without one; "
                "make them with `passerby tracklets --start TIME`, or leave out --topology"
            )


def require_possible_clocks(tracklets: Tracklets) -> None:
    """Refuse clocks of cameras that cannot be the same: recordings that are more than a day apart.

    Raises:
        UserError: there are such.

    """
    spans = []
    for camera in sorted(set(tracklets.camera.tolist())):
        rows = (tracklets.camera == camera) & tracklets.has_clock
        if rows.any():
            spans.append((float(tracklets.first[rows].min()), float(tracklets.last[rows].max()), camera))
    spans.sort()
    end, latest = -np.inf, ""
    for begin, stop, camera in spans:
        if latest and begin - end > LARGEST_GAP:
            raise UserError(
                f"the clocks of cameras {latest!r} and {camera!r} cannot be the same: their recordings are "
                f"{(begin - end) / LARGEST_GAP:,.1f} days apart; give --start of all cameras in one form"
            )
        if stop > end:
            end, latest = stop, camera
