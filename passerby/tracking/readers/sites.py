"""A folder with the clips of several cameras, and when each begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from passerby.errors import UserError, did_you_mean
from passerby.settings.yaml_text import read_mapping
from passerby.tracking.clock import read_start
from passerby.tracking.frames import VIDEO_ENDINGS
from passerby.tracking.readers.places import holds_tracks

CLOCKS = "clocks.yaml"
"""The file of a site that holds when each clip begins."""
ENDINGS = (".txt", ".csv", ".json", ".xml")
"""Files of tracks beside a video or folder of the same name, the first that is there."""


@dataclass(frozen=True)
class SiteClip:
    """The clip of one camera of a site.

    Attributes:
        camera: its name: that of the folder or file.
        source: a MOT folder or a file of tracks.
        start: when it begins, as `read_start` takes it; None = unknown.

    """

    camera: str
    source: Path
    start: str | None


def find_site(folder: Path) -> list[SiteClip]:
    """Return the clips of a folder with a MOT folder, or a file of tracks and a video of one name, per camera.

    Args:
        folder: any place; what holds tracks itself, a file and a folder of crops are no site.

    Returns:
        clips in the order of their names; empty where the place is no site.

    Raises:
        UserError: `clocks.yaml` cannot be read, names a camera that is not there, or holds what is no time.

    """
    if not folder.is_dir() or holds_tracks(folder):
        return []
    sources = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and holds_tracks(path)}
    for video in sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_ENDINGS):
        tracks = next((file for ending in ENDINGS if (file := video.with_suffix(ending)).is_file()), None)
        if tracks is not None:
            sources.setdefault(video.stem, tracks)
    if not sources:
        return []
    starts = _read_clocks(folder / CLOCKS, sorted(sources))
    return [SiteClip(name, source, starts.get(name)) for name, source in sorted(sources.items())]


def _read_clocks(file: Path, cameras: list[str]) -> dict[str, str]:
    if not file.is_file():
        return {}
    starts = {str(name): str(value) for name, value in read_mapping(file).items()}
    for name, start in starts.items():
        if name not in cameras:
            known = ", ".join(cameras)
            raise UserError(f"{file} names camera {name!r}; there are {known}{did_you_mean(name, cameras)}")
        try:
            read_start(start)
        except UserError as error:
            raise UserError(f"{file}, camera {name}: {error}") from error
    return starts
