"""Boxes are clipped, empty ones are marked, and another format of boxes is noticed."""

from types import SimpleNamespace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.inference.boxes import crop_boxes

FRAME = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_crops_are_the_pixels_of_the_boxes_in_rgb():
    crops, valid = crop_boxes(FRAME, [[2, 3, 7, 9], [0.5, 0.2, 4.1, 4.0]])
    assert valid.tolist() == [True, True]
    assert np.array_equal(crops[0], FRAME[3:9, 2:7, ::-1])
    assert np.array_equal(crops[1], FRAME[0:4, 0:5, ::-1])  # rounded outwards


def test_boxes_are_clipped_to_the_frame_and_those_outside_or_without_area_are_marked():
    boxes = [
        [-5, -5, 4, 4],
        [25, 15, 99, 99],
        [40, 0, 50, 9],
        [5, 5, 5, 9],
        [9, 9, 8, 8],
        [np.nan, 0, 5, 5],
        [1, 1, 9, 9],
    ]
    crops, valid = crop_boxes(FRAME, np.array(boxes))
    assert valid.tolist() == [True, True, False, False, False, False, True]
    assert [crop.shape for crop in crops] == [(4, 4, 3), (5, 5, 3), (8, 8, 3)]


def test_detections_with_corners_and_no_boxes_are_taken():
    crops, valid = crop_boxes(FRAME, SimpleNamespace(xyxy=np.array([[1, 2, 3, 4]], np.float32)))
    assert np.array_equal(crops[0], FRAME[2:4, 1:3, ::-1])
    for empty in ([], np.empty((0, 4)), SimpleNamespace(xyxy=np.empty((0, 4)))):
        crops, valid = crop_boxes(FRAME, empty)
        assert crops == []
        assert valid.shape == (0,)


def test_positions_with_sizes_are_noticed_and_corners_are_not():
    sizes = np.array([[10, 10, 5, 8], [20, 2, 8, 9], [12, 5, 10, 15]])
    with pytest.warns(UserWarning, match="look like x, y, width, height"):
        crop_boxes(FRAME, sizes)
    with pytest.warns(UserWarning, match="in pixels, not in shares"):
        crop_boxes(FRAME, np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.9, 1.0]]))
    crop_boxes(FRAME, np.array([[10, 10, 15, 18], [20, 2, 28, 11], [9, 9, 9, 12]]))  # one without area is no format


@pytest.mark.parametrize(
    ("frame", "boxes", "sentence"),
    [
        (FRAME[:, :, 0], [[0, 0, 1, 1]], "a frame is an array"),
        (FRAME / 255, [[0, 0, 1, 1]], "holds bytes"),
        (FRAME[:0], [[0, 0, 1, 1]], "has no pixels"),
        ("frame.jpg", [[0, 0, 1, 1]], "got str"),
        (FRAME, [0, 0, 1, 1], "a single box is"),
        (FRAME, [[0, 0, 1]], r"shape \(N, 4\)"),
        (FRAME, [["a", 0, 1, 2]], "boxes are numbers"),
    ],
)
def test_other_shapes_and_types_are_refused(frame, boxes, sentence):
    with pytest.raises(UserError, match=sentence):
        crop_boxes(frame, boxes)
