"""TrackletWriter: frames and tracked boxes of a Python program, as supervision gives them."""

from dataclasses import dataclass

import numpy as np
import pytest

import passerby
from passerby.tracking import TrackletSettings
from tests.tracking.clips import PRESENCE, Colours, draw_frame, people_of


@dataclass
class Detections:
    xyxy: object
    tracker_id: object


def detections_of(frame, presence=PRESENCE):
    boxes = people_of(frame, presence)
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes.values()], float).reshape(-1, 4)
    return Detections(corners, np.array(list(boxes), dtype=int))


def bgr(frame):
    return np.ascontiguousarray(draw_frame(frame, people_of(frame, PRESENCE))[:, :, ::-1])


def feed(writer, frames=range(1, 25), make=detections_of):
    for frame in frames:
        writer.add(bgr(frame), make(frame), 50 + frame / 10)


def test_a_stream_becomes_tracklets(tmp_path):
    settings = TrackletSettings(max_gap=0.5, part=1)
    with passerby.TrackletWriter(
        Colours(), tmp_path / "out", camera="door", has_clock=True, stamp="colours", settings=settings
    ) as writer:
        feed(writer)
    table = writer.tracklets
    assert table.name.tolist() == ["stream/1@0", "stream/2@4", "stream/3@15"]
    assert table.model == "colours"
    assert table.has_clock.all()
    np.testing.assert_allclose(table.last, [51.2, 52.0, 52.4])
    assert writer.close() is table
    loaded = passerby.Tracklets.load(tmp_path / "out")
    np.testing.assert_array_equal(loaded.vectors, table.vectors)
    assert (loaded.vectors @ loaded.vectors.T - 2 * np.eye(3) < 0.9).all(), "people differ"
    with pytest.raises(passerby.UserError, match="tracklets of an earlier stream"):
        passerby.TrackletWriter(Colours(), tmp_path / "out", camera="door", has_clock=True, stamp="colours",
                                settings=settings)  # fmt: skip


def test_real_detections_of_supervision(tmp_path):
    supervision = pytest.importorskip("supervision")

    def make(frame):
        boxes = detections_of(frame)
        if not len(boxes.xyxy):
            return supervision.Detections.empty()
        return supervision.Detections(xyxy=boxes.xyxy, tracker_id=boxes.tracker_id)

    with passerby.TrackletWriter(Colours(), tmp_path / "out", camera="door") as writer:
        feed(writer, range(1, 30), make)
    assert len(writer.tracklets) == 3


def test_boxes_that_are_not_tracked_yet_are_left_out(tmp_path):
    writer = passerby.TrackletWriter(Colours(), tmp_path / "out", camera="door")
    boxes = detections_of(6)
    writer.add(bgr(6), Detections(boxes.xyxy, np.array([1, -1])), 0.0)
    assert writer.close().name.tolist() == ["stream/1@0"]
    assert writer.notes.counts == {"without_id": 1}


@pytest.mark.parametrize(
    ("frame", "detections", "time", "sentence"),
    [
        (bgr(6), detections_of(6), 1.0, "times must be finite and ascend, got 1 after 1"),
        (bgr(6), detections_of(6), np.nan, "times must be finite"),
        (bgr(6)[0], detections_of(6), 2.0, r"a frame is a uint8 array \(H, W, 3\)"),
        (bgr(6) / 255, detections_of(6), 2.0, "a frame is a uint8 array"),
        (bgr(6), Detections(detections_of(6).xyxy, None), 2.0, "let a tracker number them first"),
        (bgr(6), Detections(detections_of(6).xyxy, np.array([1])), 2.0, r"shape \(1,\), expected \(2,\)"),
        (bgr(6), object(), 2.0, "detections need `xyxy`"),
    ],
)
def test_other_frames_and_detections_are_refused(tmp_path, frame, detections, time, sentence):
    writer = passerby.TrackletWriter(Colours(), tmp_path / "out", camera="door")
    writer.add(bgr(5), detections_of(5), 1.0)
    with pytest.raises(passerby.UserError, match=sentence):
        writer.add(frame, detections, time)


def test_a_stream_without_boxes_has_no_tracklets(tmp_path):
    writer = passerby.TrackletWriter(Colours(), tmp_path / "out", camera="door")
    with pytest.raises(passerby.UserError, match="no tracklet with a usable crop"):
        writer.close()
    assert not (tmp_path / "out").exists()
