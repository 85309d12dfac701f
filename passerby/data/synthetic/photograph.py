"""Image formation: colour response, blur, noise and resolution of a camera; JPEG for images, PNG for masks."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from passerby.compiled import compiled
from passerby.types import Bools, Doubles

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Response:
    """Response of a camera to light.

    Attributes:
        gain: white balance times exposure, per channel.
        gamma: exponent of the tone curve, > 0; 2.2 is neutral.
        contrast: slope around middle grey, > 0.
        saturation: 0 is grey, 1 neutral.
        veil: share of stray light, 0..1.
        blur: standard deviation in pixels, >= 0.
        noise: standard deviation at middle grey, share of white.
        quality: of the JPEG, 1..100.

    """

    gain: tuple[float, float, float]
    gamma: float
    contrast: float
    saturation: float
    veil: float
    blur: float
    noise: float
    quality: int


@compiled()
def _smear(picture: Doubles, kernel: Doubles, down: bool) -> Doubles:
    """Return the picture (h, w, 3) convolved with a kernel along columns or rows, edges repeated."""
    height, width, _ = picture.shape
    half = len(kernel) // 2
    result = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            for k in range(len(kernel)):
                r = min(max(row + (k - half if down else 0), 0), height - 1)
                c = min(max(column + (0 if down else k - half), 0), width - 1)
                for channel in range(3):
                    result[row, column, channel] += kernel[k] * picture[r, c, channel]
    return result


@compiled()
def _enlarge(picture: Doubles, height: int, width: int) -> Doubles:
    """Return the picture (h, w, C) at another size, bilinear."""
    h, w, channels = picture.shape
    result = np.empty((height, width, channels))
    for row in range(height):
        y = min(max((row + 0.5) * h / height - 0.5, 0.0), h - 1.0)
        r = min(int(y), max(h - 2, 0))
        v = y - r
        for column in range(width):
            x = min(max((column + 0.5) * w / width - 0.5, 0.0), w - 1.0)
            c = min(int(x), max(w - 2, 0))
            u = x - c
            r2, c2 = min(r + 1, h - 1), min(c + 1, w - 1)
            for k in range(channels):
                top = picture[r, c, k] * (1.0 - u) + picture[r, c2, k] * u
                bottom = picture[r2, c, k] * (1.0 - u) + picture[r2, c2, k] * u
                result[row, column, k] = top * (1.0 - v) + bottom * v
    return result


@compiled()
def _respond(picture: Doubles, noise: npt.NDArray[np.float32], gain: Doubles, curve: Doubles) -> None:
    """Turn linear light into display values in place; `curve` is gamma, contrast, saturation, veil, noise."""
    height, width, _ = picture.shape
    gamma, contrast, saturation, veil, grain = curve[0], curve[1], curve[2], curve[3], curve[4]
    for row in range(height):
        for column in range(width):
            grey = 0.0
            for channel in range(3):
                light = picture[row, column, channel] * gain[channel]
                light = light if light < 0.6 else 0.6 + 0.4 * (1.0 - math.exp((0.6 - light) / 0.4))
                value = light ** (1.0 / gamma)
                value = 0.45 + contrast * (value - 0.45)
                picture[row, column, channel] = value
                grey += value / 3.0
            for channel in range(3):
                value = grey + saturation * (picture[row, column, channel] - grey)
                value = value * (1.0 - veil) + 0.62 * veil
                strength = grain * (0.6 + 0.8 * math.sqrt(max(grey, 0.0)))
                picture[row, column, channel] = value + strength * noise[row, column, channel]


def gaussian(sigma: float) -> Doubles:
    """Return a normalised odd kernel of a standard deviation in pixels."""
    half = max(1, math.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-3)) ** 2)
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def develop(
    light: Doubles, response: Response, *, size: tuple[int, int], motion: int, rng: np.random.Generator
) -> Bytes:
    """Return the image (H, W, 3) uint8 of a camera for linear light (h, w, 3).

    Args:
        light: linear RGB at the resolution at which the camera sees the person.
        response: the camera.
        size: (H, W) of the result.
        motion: length in pixels of a sideways motion blur, 0 = none.
        rng: noise is drawn from it.

    """
    picture = light
    if response.blur > 0.05:
        kernel = gaussian(response.blur)
        picture = _smear(_smear(picture, kernel, True), kernel, False)
    if motion > 1:
        picture = _smear(picture, np.full(motion, 1.0 / motion), False)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    curve = np.array([response.gamma, response.contrast, response.saturation, response.veil, response.noise])
    picture = np.array(picture, copy=True)
    _respond(picture, noise, np.asarray(response.gain), curve)
    if picture.shape[:2] != size:
        picture = _enlarge(picture, *size)
    return np.clip(np.rint(picture * 255.0), 0, 255).astype(np.uint8)


def enlarge_cover(cover: Doubles, size: tuple[int, int]) -> Bools:
    """Return the mask (H, W) of pixels of which at least half show the person."""
    return _enlarge(cover[:, :, None], *size)[:, :, 0] >= 0.5


def encode_picture(picture: Bytes, quality: int) -> bytes:
    """Return JPEG bytes of an image (H, W, 3) uint8 with halved colour resolution."""
    try:
        import simplejpeg
    except ImportError:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=2)
        return stream.getvalue()
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "RGB", "420"))


def encode_mask(mask: Bools) -> bytes:
    """Return 1-bit PNG bytes of a mask (H, W)."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()
