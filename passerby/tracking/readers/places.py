"""Location of the tracks and frames of a clip, and the settings of MOT folders."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from passerby.errors import UserError
from passerby.files import reading
from passerby.tracking.frames import VIDEO_ENDINGS

IMAGES = "img1"
TEXTS = ("gt/gt.txt", "gt.txt", "tracks.txt", "det/det.txt", "det.txt")
"""Tracks of a MOT folder, the first that is there."""


@dataclass(frozen=True)
class Clip:
    """Files of a clip.

    Attributes:
        name: of the clip.
        tracks: the file of boxes.
        frames: folder of images or video file.
        rate: frames per second of seqinfo.ini, None = there is none.

    """

    name: str
    tracks: Path
    frames: Path
    rate: float | None = None


def holds_tracks(source: Path) -> bool:
    """Whether a place is a file, or a folder with a file of tracks; other folders are taken for crops."""
    return not source.is_dir() or any((source / name).is_file() for name in TEXTS)


def find_clip(source: Path, frames: Path | None) -> Clip:
    """Return the files of a clip: a MOT folder, or a file of tracks with its frames beside it.

    Args:
        source: the folder or file.
        frames: folder of images or video file; None = beside the tracks.

    Raises:
        UserError: something is not there.

    """
    if source.is_dir():
        tracks = next((source / name for name in TEXTS if (source / name).is_file()), None)
        if tracks is None:
            raise UserError(f"{source} holds none of {', '.join(TEXTS)}; name a file of tracks")
        return _with_info(source, tracks, frames)
    if not source.is_file():
        raise UserError(f"no file or folder {source}")
    folder = source.parent.parent if source.parent.name in ("gt", "det") else source.parent
    if source.parent != folder or (folder / "seqinfo.ini").is_file():
        return _with_info(folder, source, frames)
    return Clip(source.stem, source, frames or _beside(source))


def _with_info(folder: Path, tracks: Path, frames: Path | None) -> Clip:
    info = _read_info(folder / "seqinfo.ini")
    name = info.get("name") or folder.resolve().name
    place = frames or _frames_of(folder, info.get("imdir", IMAGES))
    rate = info.get("framerate")
    try:
        number = None if rate is None else float(rate)
    except ValueError as error:
        raise UserError(f"{folder / 'seqinfo.ini'}: frameRate is {rate!r}, no number") from error
    if number is not None and not 0 < number < 1e6:
        raise UserError(f"{folder / 'seqinfo.ini'}: frameRate is {number:g}; it must be above 0")
    return Clip(name, tracks, place, number)


def _read_info(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    with reading(file, "a seqinfo.ini with the section [Sequence]"):
        parser.read_string(file.read_text(encoding="utf-8"))
        return dict(parser["Sequence"])


def _frames_of(folder: Path, images: str) -> Path:
    if (folder / images).is_dir():
        return folder / images
    return _only_video(folder, f"{folder} has neither a folder {images} nor a video")


def _beside(tracks: Path) -> Path:
    same = [tracks.with_suffix(ending) for ending in VIDEO_ENDINGS]
    video = next((file for file in same if file.is_file()), None)
    if video is not None:
        return video
    folders = [tracks.parent / name for name in (IMAGES, "images", tracks.stem)] + [tracks.parent.parent / "images"]
    images = next((folder for folder in folders if folder.is_dir()), None)
    return (
        images
        if images is not None
        else _only_video(tracks.parent, f"no frames beside {tracks}: neither {IMAGES} nor a video {tracks.stem}.mp4")
    )


def _only_video(folder: Path, sentence: str) -> Path:
    videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in VIDEO_ENDINGS)
    if len(videos) == 1:
        return videos[0]
    several = f"; there are {len(videos)} videos" if videos else ""
    raise UserError(f"{sentence}{several}; give the frames by --frames")
