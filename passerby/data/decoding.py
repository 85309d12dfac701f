"""Decoding of image files to RGB bytes, as an image viewer shows them.

Notable: JPEG files go through libjpeg-turbo, everything else through Pillow. The orientation that a camera wrote is
applied; transparent pixels get `BACKGROUND`; grey values of 16 bits and of floating point are brought to 8 bits;
animations give their first frame. Files with more than `MOST_PIXELS` are refused before they are decoded.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from passerby.data.names import existing_form
from passerby.errors import UserError, first_line

Pixels = npt.NDArray[np.uint8]

BACKGROUND = (124, 116, 104)
"""RGB below transparent pixels: the mean of ImageNet, which is 0 after the usual normalisation."""

MOST_PIXELS = 89_478_485
"""Largest image that is decoded (268 MB as RGB); the limit above which Pillow suspects an attack."""

REDUCED_FROM = 8
"""A JPEG is decoded at reduced scale when both sides are at least so many times those of the input of a model."""

_REDUCED_TO = 4  # times the input of the model are left for the resizing filter
_TIFF_BITS = 258
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The turns of the EXIF orientations; 1 is upright."""


class ImageError(UserError):
    """An image file that cannot be used, named with its fault in one sentence."""


class ContentError(ValueError):
    """A fault in the content of an image, as the end of a sentence."""


def decode(path: str | Path, *, least: tuple[int, int] = (0, 0)) -> Pixels:
    """Read an image file into (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        least: height and width that are needed. A JPEG of which both sides are `REDUCED_FROM` times as large or more is
            decoded at a scale that leaves four times as much; (0, 0) = always in full.

    Raises:
        ImageError: missing, empty, truncated, too large, no image, or values without a known scale.

    """
    content = read_content(path, what="image")
    try:
        return decode_bytes(content, least=least)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a readable image (no known format)") from error
    except Exception as error:  # Pillow raises many kinds, SyntaxError among them
        raise ImageError(f"{path} is not a readable image ({first_line(error)})") from error


def read_content(path: str | Path, *, what: str) -> bytes:
    """Return the bytes of an image file, called `what` in errors.

    Raises:
        ImageError: missing, not to be opened, or empty.

    """
    try:
        content = existing_form(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot read the {what} {path}: {why.lower()}") from error
    if not content:
        raise ImageError(f"the {what} {path} is empty (0 bytes)")
    return content


def decode_bytes(content: bytes, *, least: tuple[int, int] = (0, 0)) -> Pixels:
    """Decode the content of an image file into (H, W, 3) uint8 RGB; `least` as in `decode`.

    Raises:
        Exception: whatever the decoders raise, and `ContentError` with a readable text.

    """
    if content[:2] == b"\xff\xd8":
        pixels = _decode_jpeg(content, least)
        if pixels is not None:
            return pixels
    with open_bounded(content) as image:
        image.load()
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        rgb = _to_rgb(image)
        return np.asarray(rgb if turn is None else rgb.transpose(turn))


def _decode_jpeg(content: bytes, least: tuple[int, int]) -> Pixels | None:
    """Decode an upright JPEG without CMYK; None where Pillow must decode it or name the fault."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    require_size(width, height)
    if colours in ("CMYK", "YCCK") or _is_turned(content):
        return None
    reduced = min(least) > 0 and height >= REDUCED_FROM * least[0] and width >= REDUCED_FROM * least[1]
    rows, columns = (_REDUCED_TO * side for side in least) if reduced else (0, 0)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(content, min_height=rows, min_width=columns, strict=True)
    except ValueError:
        return None
    return pixels


def _is_turned(content: bytes) -> bool:
    if b"Exif\x00\x00" not in content and b"Orientation" not in content:
        return False
    with Image.open(io.BytesIO(content)) as image:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)


def read_size(content: bytes) -> tuple[int, int]:
    """Return width and height of an image as it is seen, by its header.

    Raises:
        Exception: as `open_bounded`.

    """
    with open_bounded(content) as image:
        width, height = image.size
        is_rotated = (
            image.getexif().get(_ORIENTATION, 1) > 4 and image.format != "TIFF"
        )  # Pillow turns TIFF files itself
        return (height, width) if is_rotated else (width, height)


def count_frames(content: bytes) -> int:
    """Return the number of frames or pages of an image file."""
    if content[:2] == b"\xff\xd8":
        return 1
    with open_bounded(content) as image:
        return int(getattr(image, "n_frames", 1))


def open_bounded(content: bytes) -> Image.Image:
    """Open an image by its header, unless it has too many pixels to be decoded.

    Raises:
        Exception: `ContentError` for a size beyond the limit, and whatever Pillow raises for what it cannot open.

    """
    try:
        image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise ContentError(f"more than {MOST_PIXELS:,} pixels, which is the limit") from error
    require_size(*image.size)
    return image


def require_size(width: int, height: int) -> None:
    """Raise `ContentError` when an image has more pixels than the limit."""
    if width * height > MOST_PIXELS:
        raise ContentError(f"{width} x {height} are {width * height:,} pixels, the limit is {MOST_PIXELS:,}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return Image.fromarray(_grey_bytes(image)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


def _grey_bytes(image: Image.Image) -> Pixels:
    """Bring grey values of more than 8 bits to 8.

    Integers are divided by the largest value of their 16 bits (fewer where a TIFF says so), floats by 1. Integers of 32
    bits have no agreed scale: values up to 255 are taken as bytes, up to 65,535 as 16 bits.
    """
    values = np.asarray(image)  # (H, W)
    lowest, highest = values.min(), values.max()
    if image.mode == "F":
        if not (lowest >= 0 and highest <= 1):  # NaN fails as well
            raise ContentError(
                f"floating-point values from {lowest:g} to {highest:g}; only values from 0 to 1 are read"
            )
        return np.rint(values * 255.0).astype(np.uint8)
    if lowest < 0 or highest > 65535:
        raise ContentError(f"whole numbers from {lowest} to {highest}; only values from 0 to 65,535 are read")
    top = _largest(image, int(highest))
    return np.rint(values.astype(np.float64) * (255.0 / top)).clip(0, 255).astype(np.uint8)


def _largest(image: Image.Image, highest: int) -> int:
    """Return the value that stands for white."""
    bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, (16,))
    depth = int(bits[0] if isinstance(bits, tuple) else bits)
    if depth <= 16:
        return int(2**depth - 1)
    return 255 if highest <= 255 else 65535
