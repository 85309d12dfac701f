"""The frames of a clip, forwards: a folder of numbered images, or a video file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from passerby.data.decoding import ImageError, Pixels, decode
from passerby.data.image_files import image_names, why_none
from passerby.errors import UserError, first_line

if TYPE_CHECKING:
    import numpy.typing as npt

VIDEO_ENDINGS = (".mp4", ".m4v", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")


class Frames(Protocol):
    """Frames by number; numbers are asked for in ascending order."""

    @property
    def rate(self) -> float | None:
        """Frames per second, None = unknown."""

    def size(self, number: int) -> tuple[int, int] | None:
        """Return width and height of a frame; None where there is none."""

    def pixels(self, number: int) -> Pixels | None:
        """Return the RGB pixels (H, W, 3) of a frame; None where there is none."""

    def time(self, number: int) -> float | None:
        """Return the seconds from the first frame as the file holds them; None where it holds none."""

    def has_ended(self, number: int) -> bool:
        """Whether a frame is beyond the last one."""


class ImageFrames:
    """The images of a folder by the number that ends their names, or by given names.

    Args:
        folder: of the images.
        names: file of each number; None = by the digits at the end of the name.
        rate: frames per second, None = unknown.

    """

    def __init__(self, folder: Path, *, names: dict[int, str] | None = None, rate: float | None = None) -> None:
        self.folder = folder
        self.names = _numbered(folder) if names is None else names
        self.rate = rate
        self._last: tuple[int, Pixels | None] = (-1, None)
        self._size: tuple[int, int] | None = None

    def size(self, number: int) -> tuple[int, int] | None:
        """Return the size of the image that was read last, at first of any that can be read: all have the same."""
        if self._size is None:
            for each in sorted(self.names):
                if self.pixels(each) is not None:
                    break
        return self._size

    def pixels(self, number: int) -> Pixels | None:
        """Return the pixels of an image; None where it is missing or cannot be read."""
        if self._last[0] != number:
            self._last = (number, self._read(number))
        pixels = self._last[1]
        if pixels is not None:
            self._size = (pixels.shape[1], pixels.shape[0])
        return pixels

    def _read(self, number: int) -> Pixels | None:
        name = self.names.get(number)
        if name is None:
            return None
        try:
            return decode(self.folder / name)
        except ImageError:
            return None

    def time(self, number: int) -> float | None:
        """Return None: images hold no times."""
        return None

    def has_ended(self, number: int) -> bool:
        """Return False: a missing image is counted as one."""
        return False


def _numbered(folder: Path) -> dict[int, str]:
    if not folder.is_dir():
        raise UserError(f"no folder of frames {folder}")
    names = image_names(folder)
    if not names:
        raise UserError(f"no image in {folder}{why_none()}")
    numbers = {name: re.search(r"(\d+)\.[^.]*$", name) for name in names}
    bad = next((name for name, match in numbers.items() if match is None), None)
    if bad is not None:
        raise UserError(f"{folder / bad}: the name of a frame ends in its number, such as 000001.jpg")
    by_number: dict[int, str] = {}
    for name, match in numbers.items():
        assert match is not None
        if by_number.setdefault(int(match[1]), name) != name:
            raise UserError(f"{folder} has two frames {int(match[1])}: {by_number[int(match[1])]} and {name}")
    return by_number


class VideoFrames:
    """The frames of a video file, decoded one after the other.

    Args:
        file: the video.
        first: number of its first frame.

    Raises:
        UserError: PyAV is not installed, or the file is no readable video.

    """

    def __init__(self, file: Path, *, first: int = 1) -> None:
        self.file = file
        self._frames = _decoded(file)
        self._number = first - 1
        self._ended = False
        self._frame: Any = None
        self._pixels: Pixels | None = None
        self._start: float | None = None
        self.rate = next(self._frames)  # the generator yields the rate first
        if not self._seek(first):
            raise UserError(f"{file} has no frame that can be decoded")

    def _seek(self, number: int) -> bool:
        while self._number < number and not self._ended:
            frame = next(self._frames, None)
            if frame is None:
                self._ended = True
                break
            self._frame, self._pixels = frame, None
            self._number += 1
            if self._start is None:
                self._start = frame.time
        return self._number == number

    def size(self, number: int) -> tuple[int, int] | None:
        """Return the size of the frame."""
        self._seek(number)
        return (self._frame.width, self._frame.height)

    def pixels(self, number: int) -> Pixels | None:
        """Return the pixels of the frame; None beyond the end."""
        if not self._seek(number):
            return None
        if self._pixels is None:
            rgb: npt.NDArray[Any] = self._frame.to_ndarray(format="rgb24")
            self._pixels = rgb
        return self._pixels

    def time(self, number: int) -> float | None:
        """Return the time stamp of the frame, from that of the first one."""
        if not self._seek(number) or self._frame.time is None or self._start is None:
            return None
        return float(self._frame.time - self._start)

    def has_ended(self, number: int) -> bool:
        """Whether the video has fewer frames, or is damaged before this one."""
        return not self._seek(number) and self._ended


def _decoded(file: Path) -> Iterator[Any]:
    """Yield the frame rate, then the frames of the first video stream; damage ends them."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"reading {file.name} needs PyAV: pip install 'passerby[video]'; or give a folder of frames"
        ) from error
    try:
        container = av.open(str(file))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{file} is not a readable video ({first_line(error)})") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{file} has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate
        yield None if not rate else float(rate)
        try:
            yield from container.decode(stream)
        except (av.error.FFmpegError, OSError):  # cut off or damaged: has_ended
            return


def find_frames(place: Path, *, rate: float | None, first: int) -> Frames:
    """Return the frames of a folder of images or a video file.

    Args:
        place: the folder or file.
        rate: frames per second of images, None = unknown.
        first: number of the first frame of a video: 0 or 1, as the boxes count.

    Raises:
        UserError: neither is there.

    """
    if place.is_dir():
        return ImageFrames(place, rate=rate)
    if place.is_file():
        return VideoFrames(place, first=first)
    raise UserError(f"no folder of frames and no video {place}")
