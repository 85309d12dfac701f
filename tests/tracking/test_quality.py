"""Quality of crops: each fault lowers it, by the documented factor."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from passerby.tracking.quality import AT_BORDER, BEHIND, box_quality, sharpness
from tests.conftest import draw_person

SIZE = (640, 480)
WHOLE = (100, 100, 164, 228)  # 64 x 128 pixels


def quality(*boxes):
    return box_quality(np.array(boxes, dtype=float), SIZE).tolist()


def test_a_free_box_of_full_size_has_quality_1():
    assert quality(WHOLE) == [1.0]
    assert quality((100, 100, 300, 400)) == [1.0]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 132, 164), 0.5),  # a quarter of the area
        ((0, 100, 64, 228), AT_BORDER),
        ((576, 100, 640, 228), AT_BORDER),
        ((-64, 100, 64, 228), 0.5 * AT_BORDER),  # half outside, the visible half of full size
        ((700, 100, 764, 228), 0.0),
    ],
)
def test_size_and_border_lower_it(box, expected):
    assert quality(box) == pytest.approx([expected])


def test_people_in_front_hide_more_than_those_behind():
    behind, front = quality(WHOLE, (132, 110, 196, 238))
    covered = 32 * 118 / (64 * 128)
    assert behind == pytest.approx(1 - covered)
    assert front == pytest.approx(1 - BEHIND * covered)


def test_no_boxes_and_one_below_many():
    assert box_quality(np.empty((0, 4)), SIZE).shape == (0,)
    assert quality(WHOLE, WHOLE, WHOLE)[0] == 0.0


def test_a_blurred_crop_is_less_sharp_at_every_size():
    image = Image.fromarray(draw_person(1, np.random.default_rng(0)))
    for factor in (1, 2, 8):
        large = image.resize((32 * factor, 64 * factor), Image.Resampling.NEAREST)
        values = [
            sharpness(np.asarray(large.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, factor, 3 * factor)
        ]
        assert 1 > values[0] > values[1] > values[2] > 0
    assert sharpness(np.zeros((2, 50, 3), np.uint8)) == 0
    assert sharpness(np.full((50, 50, 3), 99, np.uint8)) == 0


def test_the_variance_is_that_of_a_loop():
    crop = np.random.default_rng(3).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    grey = crop @ np.array([0.299, 0.587, 0.114])
    values = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    assert sharpness(crop) == pytest.approx(np.var(values) / (np.var(values) + 200), rel=1e-4)
