"""The pixels of image files: as a viewer shows them, whatever the file holds, and never more than memory bears."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from passerby.data import decoding
from passerby.data.decoding import BACKGROUND, ContentError, ImageError, decode, decode_bytes
from passerby.data.foreground import decode_mask
from passerby.data.inspect import inspect_file

RAMP = np.linspace(0, 1, 200, dtype=np.float32).reshape(20, 10)
BYTES = np.rint(RAMP * 255).astype(np.uint8)
COLOURS = np.asarray(Image.effect_noise((10, 20), 60).convert("RGB").resize((16, 24)))


def encoded(image, kind, **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_keeps_its_values(kind):
    content = encoded(np.rint(RAMP * 65535).astype(np.uint16), kind)
    np.testing.assert_array_equal(decode_bytes(content), np.repeat(BYTES[..., None], 3, axis=2))


@pytest.mark.parametrize("top", [255, 65535])
def test_grey_of_32_bits_is_bytes_or_16_bits(top):
    found = decode_bytes(encoded(np.rint(RAMP * top).astype(np.int32), "TIFF"))
    np.testing.assert_array_equal(found[..., 0], BYTES)


def test_floats_from_0_to_1_are_grey_values():
    np.testing.assert_array_equal(decode_bytes(encoded(RAMP, "TIFF"))[..., 2], BYTES)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (RAMP * 300, r"a\.tif is not a readable image \(floating-point values from 0 to 300; only values from 0 to 1"),
        (RAMP - 0.5, r"floating-point values from -0\.5 to 0\.5"),
        (np.where(RAMP > 0.5, np.nan, RAMP), r"floating-point values from nan to nan"),
        ((RAMP * 1e6).astype(np.int32), r"whole numbers from 0 to 1000000; only values from 0 to 65,535"),
    ],
)
def test_grey_without_a_known_scale_is_refused(tmp_path, values, told):
    (tmp_path / "a.tif").write_bytes(encoded(values, "TIFF"))
    with pytest.raises(ImageError, match=told):
        decode(tmp_path / "a.tif")
    assert inspect_file(str(tmp_path / "a.tif")).fault.startswith("is damaged (")


CUT_OUT = np.zeros((20, 10, 4), np.uint8)
CUT_OUT[:, :5] = [255, 0, 0, 255]
CUT_OUT[:, 5:] = [0, 255, 0, 0]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {})])
def test_what_is_transparent_has_the_background_colour(kind, options):
    found = decode_bytes(encoded(CUT_OUT, kind, **options))
    assert (found[:, :5] == [255, 0, 0]).all()
    assert (found[:, 5:] == BACKGROUND).all()


def test_a_transparent_colour_of_a_palette_is_transparent():
    image = Image.fromarray(CUT_OUT[..., :3]).quantize(8)
    found = decode_bytes(encoded(image, "PNG", transparency=image.getpixel((9, 0))))
    assert (found[0, 0].tolist(), tuple(found[0, 9])) == ([255, 0, 0], BACKGROUND)


def test_grey_with_alpha_is_mixed_with_the_background():
    image = Image.merge("LA", [Image.new("L", (2, 2), 200), Image.new("L", (2, 2), 128)])
    wanted = [round(200 * 128 / 255 + value * 127 / 255) for value in BACKGROUND]
    assert np.abs(decode_bytes(encoded(image, "PNG"))[0, 0].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(COLOURS, kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode_bytes(content), wanted)
    (tmp_path / "a").write_bytes(content)
    sizes = {(f.width, f.height) for f in (inspect_file(str(tmp_path / "a"), decode=full) for full in (True, False))}
    assert sizes == {wanted.shape[1::-1]}


def test_an_inverted_cmyk_jpeg_is_as_bright_as_its_image():
    found = decode_bytes(encoded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(found.astype(int) - COLOURS).mean() < 3


def test_the_first_frame_of_an_animation_is_used_and_told(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    (tmp_path / "a.gif").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decode(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]
    assert inspect_file(str(tmp_path / "a.gif")).frames == 2


# ---- large images


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_before_decoding(monkeypatch, kind):
    content = encoded(COLOURS, kind)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 383)
    with pytest.raises(ContentError, match="16 x 24 are 384 pixels, the limit is 383"):
        decode_bytes(content)


def test_a_bomb_costs_one_sentence(tmp_path):
    header = encoded(COLOURS, "PNG")
    large = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(header[:16] + large + header[24:])
    with pytest.raises(ImageError, match=r"a\.png is not a readable image \("):
        decode(tmp_path / "a.png")


def test_only_large_jpegs_are_decoded_at_reduced_scale():
    large = np.asarray(Image.fromarray(COLOURS).resize((160, 320), Image.Resampling.BICUBIC))
    content = encoded(large, "JPEG", quality=95)
    assert decode_bytes(content, least=(40, 20)).shape == (160, 80, 3)
    for least in ((41, 20), (40, 21), (0, 0)):
        np.testing.assert_array_equal(decode_bytes(content, least=least), decode_bytes(content))
    reduced = Image.fromarray(decode_bytes(content, least=(40, 20))).resize((20, 40), Image.Resampling.BILINEAR)
    full = Image.fromarray(decode_bytes(content)).resize((20, 40), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(reduced).astype(int) - np.asarray(full)).max() <= 3


# ---- masks


def test_a_transparent_mask_shows_nobody_there(tmp_path):
    mask = np.full((4, 4, 4), 255, np.uint8)
    mask[:, 2:, 3] = 0
    (tmp_path / "a.png").write_bytes(encoded(mask, "PNG"))
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.png"), [[1, 1, 0, 0]] * 4)
