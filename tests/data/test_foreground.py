"""Masks from files, and images without, or with another, background."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from passerby.data.foreground import (
    ForegroundSettings,
    decode_mask,
    dilate_mask,
    draw_partner,
    fill_masked,
    fit_mask,
    mean_colour,
    swap_background,
    without_person,
)
from passerby.errors import UserError
from passerby.inputs import InputSettings


def random_image(seed=0, size=(32, 16)):
    return torch.randint(256, (3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def box(top, bottom, left, right, size=(32, 16)):
    mask = torch.zeros((1, *size), dtype=torch.uint8)
    mask[:, top:bottom, left:right] = 1
    return mask


def test_covering_keeps_the_rest():
    image, mask, colour = random_image(), box(4, 20, 3, 9), torch.tensor([1, 2, 3], dtype=torch.uint8)
    covered = fill_masked(image, mask, colour)
    assert covered[:, mask[0] == 1].unique(dim=1).tolist() == [[1], [2], [3]]
    assert torch.equal(covered[:, mask[0] == 0], image[:, mask[0] == 0])
    assert covered.dtype == torch.uint8


def test_widening_goes_a_64th_to_every_side():
    assert torch.equal(dilate_mask(box(10, 12, 5, 7)), box(9, 13, 4, 8))
    wide = dilate_mask(box(50, 60, 20, 30, size=(128, 64)))
    assert torch.equal(wide, box(48, 62, 18, 32, size=(128, 64)))
    assert torch.equal(dilate_mask(torch.stack([box(10, 12, 5, 7)] * 2))[1], box(9, 13, 4, 8))


def brute_force_painting(image, hidden):
    """Interpolate each hidden pixel by looking left and right."""
    pixels, painted = image.double().numpy(), image.double().numpy().copy()
    background = pixels[:, ~hidden].mean(axis=1)
    for row, column in zip(*np.nonzero(hidden), strict=True):
        free = np.flatnonzero(~hidden[row])
        left, right = free[free < column], free[free > column]
        if not len(free):
            painted[:, row, column] = background
        elif not len(left):
            painted[:, row, column] = pixels[:, row, right[0]]
        elif not len(right):
            painted[:, row, column] = pixels[:, row, left[-1]]
        else:
            share = (column - left[-1]) / (right[0] - left[-1])
            painted[:, row, column] = (1 - share) * pixels[:, row, left[-1]] + share * pixels[:, row, right[0]]
    return torch.from_numpy(painted)


@pytest.mark.parametrize(
    "mask", [box(4, 20, 3, 9), box(0, 32, 0, 5), box(10, 12, 0, 16), box(3, 9, 2, 5) | box(5, 7, 9, 12)]
)
def test_a_person_is_painted_over_from_both_sides(mask):
    image = random_image()
    painted = without_person(image, mask)
    wanted = brute_force_painting(image, dilate_mask(mask)[0].bool().numpy())
    assert (painted.double() - wanted).abs().max() <= 0.51
    assert not torch.equal(painted, image)


@pytest.mark.parametrize("mask", [box(0, 0, 0, 0), box(0, 32, 0, 16)])
def test_nobody_and_nothing_but_a_person_are_left_alone(mask):
    assert torch.equal(without_person(random_image(), mask), random_image())


def test_the_other_image_shows_its_background_and_not_its_person():
    image, other = random_image(0), torch.full((3, 32, 16), 50, dtype=torch.uint8)
    mask, other_mask = box(4, 20, 3, 9), box(2, 30, 8, 14)
    other[:, other_mask[0] == 1] = 200
    swapped = swap_background(image, mask, other, other_mask)
    assert torch.equal(swapped[:, mask[0] == 1], image[:, mask[0] == 1])
    assert swapped[:, mask[0] == 0].unique().tolist() == [50]


# ---- who is changed


def test_a_partner_is_another_image_and_depends_on_the_place_only():
    drawn = [draw_partner(3, 8, chance=1.0, seeds=(0, 0, 0, 0, place)) for place in range(200)]
    assert set(drawn) == set(range(8)) - {3}
    assert drawn == [draw_partner(3, 8, chance=1.0, seeds=(0, 0, 0, 0, place)) for place in range(200)]
    assert drawn != [draw_partner(3, 8, chance=1.0, seeds=(1, 0, 0, 0, place)) for place in range(200)]


def test_the_chance_is_met():
    changed = [draw_partner(0, 8, chance=0.3, seeds=(place,)) is not None for place in range(2000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.04)
    assert draw_partner(0, 1, chance=1.0, seeds=(0,)) is None
    assert draw_partner(0, 8, chance=0.0, seeds=(0,)) is None


@pytest.mark.parametrize(
    ("given", "chance"),
    [
        ({}, 0),
        ({"use": "pool"}, 0),
        ({"use": "mask"}, 1),
        ({"use": "swap"}, 0.5),
        ({"use": "mask", "probability": 0.2}, 0.2),
    ],
)
def test_the_defaults_of_the_chance(given, chance):
    assert ForegroundSettings(**given).chance == chance


def test_the_short_form():
    assert ForegroundSettings.model_validate("swap") == ForegroundSettings(use="swap")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"use": "pool", "probability": 0.5}, "probability has no effect with use: pool; it belongs to mask and swap"),
        ({"probability": 0.5}, "probability has no effect with use: none"),
        ({"use": "swap", "probability": 0.0}, "greater than 0"),
        ({"use": "swop"}, "'none', 'mask', 'swap' or 'pool'"),
        ("swop", "'none', 'mask', 'swap' or 'pool'"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(given, told):
    with pytest.raises(ValidationError, match=told):
        ForegroundSettings.model_validate(given)


# ---- mask files

PERSON = np.zeros((40, 20), dtype=bool)
PERSON[5:30, 4:15] = True


@pytest.mark.parametrize("mode", ["1", "L", "0 and 1", "RGB", "P", "grey edge"])
def test_black_and_white_in_any_way(tmp_path, mode):
    grey = np.where(PERSON, 255, 0).astype(np.uint8)
    if mode == "grey edge":
        grey[5, 4:15], grey[29, 4:15] = 128, 127
    image = Image.fromarray(PERSON.astype(np.uint8) if mode == "0 and 1" else grey)
    if mode == "P":
        image = Image.fromarray(PERSON.astype(np.uint8), mode="L")
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.convert(mode if mode in ("1", "RGB") else image.mode).save(tmp_path / "m.png")
    wanted = PERSON.copy()
    if mode == "grey edge":
        wanted[29] = False
    found = decode_mask(tmp_path / "m.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)


def test_an_empty_mask_is_a_mask(tmp_path):
    Image.new("1", (20, 40)).save(tmp_path / "m.png")
    assert not decode_mask(tmp_path / "m.png").any()


def test_values_between_are_refused(tmp_path):
    Image.fromarray(np.where(PERSON, 12, 0).astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png has values from 0 to 12; a mask is black and white"):
        decode_mask(tmp_path / "m.png")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_broken_mask_is_told(tmp_path, content):
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(UserError, match=r"the mask .*m\.png is (empty|not a readable image)") as caught:
        decode_mask(tmp_path / "m.png")
    assert "\n" not in str(caught.value)


def test_a_missing_mask_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the mask .*m\.png: no such file"):
        decode_mask(tmp_path / "m.png")


def test_resizing_mixes_nothing():
    fitted = fit_mask(PERSON.astype(np.uint8), InputSettings(size=(80, 40)))
    assert fitted.shape == (1, 80, 40)
    np.testing.assert_array_equal(fitted[0].numpy(), PERSON.repeat(2, axis=0).repeat(2, axis=1))
    assert fit_mask(PERSON.astype(np.uint8), InputSettings(size=(17, 9))).unique().tolist() == [0, 1]


def test_the_mean_colour_is_nothing_to_the_model():
    inputs = InputSettings(mean=(0.0, 0.5, 1.0))
    assert mean_colour(inputs).tolist() == [0, 128, 255]
