"""Inspection of an image file: readability, size, and a hash of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from PIL import UnidentifiedImageError

from passerby.data.decoding import count_frames, decode_bytes, read_size
from passerby.data.names import existing_form


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Results of inspecting one file.

    Attributes:
        path: the file.
        fault: what is wrong with it, as the end of a sentence; `""` = nothing.
        digest: hash of its content; equal content has equal digests. Empty when there is no content.
        width, height: pixels, 0 when it cannot be read.
        frames: of an animation or a file of several pages, of which the first one is used; 1 for others.

    """

    path: str
    fault: str
    digest: bytes = b""
    width: int = 0
    height: int = 0
    frames: int = 1


def inspect_file(path: str, *, decode: bool = True) -> ImageFile:
    """Inspect one file; a fault is returned, not raised.

    Args:
        path: the file.
        decode: read every pixel, which finds cut and damaged files; False reads the header only.

    """
    try:
        content = existing_form(path).read_bytes()
    except FileNotFoundError:
        return ImageFile(path, "is missing")
    except OSError as error:
        return ImageFile(path, f"cannot be opened ({(error.strerror or str(error)).lower()})")
    if not content:
        return ImageFile(path, "is empty")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        width, height = _size(content, decode=decode)
        frames = count_frames(content)
    except UnidentifiedImageError:
        return ImageFile(path, "is not an image", digest)
    except Exception as error:  # decoders raise many kinds on hostile bytes, SyntaxError among them
        return ImageFile(path, f"is damaged ({error})", digest)
    return ImageFile(path, "", digest, width, height, frames)


def _size(content: bytes, *, decode: bool) -> tuple[int, int]:
    if not decode:
        return read_size(content)
    height, width, _ = decode_bytes(content).shape
    return width, height
