"""A clip end to end: every track becomes a tracklet with its times, crops and vector; a killed run continues."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from passerby.data.decoding import decode
from passerby.errors import UserError
from passerby.tracking import TrackletSettings
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.readers import open_source
from passerby.tracking.run import write_tracklets
from passerby.types import TRACKLETS_FILE
from tests.tracking.clips import PRESENCE, Colours, draw_frame, lines_of, people_of, write_mot, write_video

SETTINGS = TrackletSettings(max_gap=0.5)


def make(place, out, *, frames=None, rate=None, model=None, settings=SETTINGS, start=0.0, true_ids=True, notes=None):
    notes = Notes() if notes is None else notes
    source = open_source(place, frames=frames, rate=rate, true_ids=true_ids, notes=notes)
    origin = TrackletOrigin("door", source.clip, start != 0)
    parts = TrackletFolder(out, asdict(origin) | asdict(settings))
    return write_tracklets(
        source, model or Colours(), parts, origin=origin, start=start, settings=settings, notes=notes
    )


def test_each_track_is_a_tracklet_with_times_crops_and_vector(tmp_path):
    table = make(write_mot(tmp_path / "clip"), tmp_path / "out", start=100.0)
    assert table.name.tolist() == ["clip/1@1", "clip/2@5", "clip/3@16"]
    assert table.camera.tolist() == ["door"] * 3
    np.testing.assert_allclose(table.first, [100.0, 100.4, 101.5])
    np.testing.assert_allclose(table.last, [101.1, 101.9, 102.3])
    assert table.has_clock.all()
    assert table.pid.tolist() == [1, 2, 3]
    assert (np.diff(table.crop_start) >= 3).all()
    assert (np.diff(table.crop_start) <= 8).all()
    for row, person in enumerate(table.pid):
        frames = np.round((table.crop_time[table.crops(row)] - 100) * 10).astype(int) + 1
        for path, frame in zip(table.crop_path[table.crops(row)], frames, strict=True):
            x, y, w, h = people_of(int(frame), PRESENCE)[int(person)]
            cut = draw_frame(int(frame), people_of(int(frame), PRESENCE))[y : y + h, x : x + w].astype(int)
            assert np.abs(decode(path).astype(int) - cut).mean() < 12
    expected = Colours().embed([decode(path) for path in table.crop_path])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(table.crop_vectors, expected, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["crops", "progress.json", TRACKLETS_FILE]


def test_ids_are_no_identities_unless_that_is_meant(tmp_path):
    table = make(write_mot(tmp_path / "clip"), tmp_path / "out", true_ids=False)
    assert table.pid.tolist() == [-1, -1, -1]
    assert not table.has_clock.any()
    np.testing.assert_allclose(table.first, [0.0, 0.4, 1.5])


def test_lines_in_any_order_give_the_same(tmp_path):
    place = write_mot(tmp_path / "clip")
    first = make(place, tmp_path / "a")
    file = place / "gt" / "gt.txt"
    file.write_text("\n".join(sorted(lines_of(), key=lambda line: line.split(",")[1])))
    assert_equal(first, make(place, tmp_path / "b"))


def assert_equal(left, right):
    for name in vars(left):
        if name != "crop_path":
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    for one, other in zip(left.crop_path, right.crop_path, strict=True):
        assert one.partition("crops")[2] == other.partition("crops")[2]
        np.testing.assert_array_equal(decode(one), decode(other))


def test_a_video_gives_what_its_frames_give(tmp_path):
    pytest.importorskip("av")
    place = write_mot(tmp_path / "clip")
    images = make(place, tmp_path / "a")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "clip.txt").write_text("\n".join(lines_of()))
    write_video(tmp_path / "text" / "clip.mp4")
    video = make(tmp_path / "text" / "clip.txt", tmp_path / "b")
    assert video.name.tolist() == images.name.tolist()
    np.testing.assert_allclose(video.first, images.first, atol=1e-6)
    np.testing.assert_allclose(video.last, images.last, atol=1e-6)
    assert ((video.vectors * images.vectors).sum(axis=1) > 0.98).all()


MANY = {person: range(1 + 4 * person, 8 + 5 * person) for person in range(9)} | {50: range(1, 60)}


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
def test_a_killed_run_continues_to_the_same_result(tmp_path, fail_at):
    place = write_mot(tmp_path / "clip", presence=MANY, frames=60)
    settings = replace(SETTINGS, part=2)
    whole = make(place, tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        make(place, tmp_path / "out", settings=settings, model=Colours(fail_at))
    assert not (tmp_path / "out" / TRACKLETS_FILE).exists()
    assert len(list((tmp_path / "out").glob("part-*.npz"))) == fail_at - 1
    model = Colours()
    assert_equal(whole, make(place, tmp_path / "out", settings=settings, model=model))
    assert model.calls == 5 - (fail_at - 1)


def test_a_finished_run_is_not_repeated(tmp_path):
    place = write_mot(tmp_path / "clip")
    first = make(place, tmp_path / "out")
    model = Colours()
    assert_equal(first, make(place, tmp_path / "out", model=model))
    assert model.calls == 0


def test_other_settings_need_another_folder(tmp_path):
    place = write_mot(tmp_path / "clip")
    make(place, tmp_path / "out")
    with pytest.raises(UserError, match=r"other settings \(max_gap: 0.5 there, 1.0 now\); give another folder"):
        make(place, tmp_path / "out", settings=replace(SETTINGS, max_gap=1.0))
    (tmp_path / "out" / "progress.json").write_text("[]")
    with pytest.raises(UserError, match=r"progress.json is not as"):
        make(place, tmp_path / "out")
    (tmp_path / "out" / "progress.json").unlink()
    with pytest.raises(UserError, match="of another origin"):
        make(place, tmp_path / "out")


def test_an_id_that_comes_back_late_is_a_new_tracklet(tmp_path):
    notes = Notes()
    lines = [line for line in lines_of({1: range(1, 25)}) if not 8 <= int(line.split(",")[0]) <= 15]
    place = write_mot(tmp_path / "clip")
    (place / "gt" / "gt.txt").write_text("\n".join(lines))
    table = make(place, tmp_path / "out", notes=notes)
    assert table.name.tolist() == ["clip/1@1", "clip/1@16"]
    np.testing.assert_allclose(table.last, [0.6, 2.3])
    assert notes.counts == {"jump": 1, "reused": 1}


def test_images_that_are_missing_are_counted_and_none_at_all_is_refused(tmp_path):
    place = write_mot(tmp_path / "clip")
    for frame in (1, 3):
        (place / "img1" / f"{frame:06d}.jpg").unlink()
    (place / "img1" / "000004.jpg").write_bytes(b"no image")
    notes = Notes()
    table = make(place, tmp_path / "out", notes=notes)
    assert table.name.tolist() == ["clip/1@1", "clip/2@5", "clip/3@16"]
    assert notes.sentences() == ["frames without a readable image, whose boxes have no crop: 3"]
    for image in (place / "img1").iterdir():
        image.write_bytes(b"")
    with pytest.raises(UserError, match=r"no tracklet with a usable crop; frames without a readable image.*: 24"):
        make(place, tmp_path / "other")


def test_boxes_outside_are_counted_and_have_no_crop(tmp_path):
    place = write_mot(tmp_path / "clip")
    outside = [f"{frame},8,400,10,30,60,1" for frame in (2, 3)] + ["4,9,-20,-500,30,60,1"]
    (place / "gt" / "gt.txt").write_text("\n".join([*lines_of(), *outside, "5,1,3,3,-4,9,1"]))
    notes = Notes()
    table = make(place, tmp_path / "out", notes=notes)
    assert table.name.tolist() == ["clip/1@1", "clip/2@5", "clip/3@16"]
    assert notes.counts == {"outside": 3, "size": 1, "crop": 2}


def test_short_tracks_are_left_out(tmp_path):
    place = write_mot(tmp_path / "clip")
    notes = Notes()
    table = make(place, tmp_path / "out", notes=notes, settings=replace(SETTINGS, least_boxes=10))
    assert table.name.tolist() == ["clip/1@1", "clip/2@5"]
    assert notes.counts == {"short": 1}


def test_a_video_that_ends_early_is_counted(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "clip.txt").write_text("\n".join(lines_of()))
    write_video(tmp_path / "clip.mp4", frames=18)
    notes = Notes()
    table = make(tmp_path / "clip.txt", tmp_path / "out", notes=notes)
    assert table.name.tolist() == ["clip/1@1", "clip/2@5", "clip/3@16"]
    assert notes.counts["end"] == 6
    np.testing.assert_allclose(table.last, [1.1, 1.9, 2.3], atol=1e-6)


def test_crops_of_a_long_track_are_bounded_while_it_is_open():
    from passerby.tracking.candidates import MOST_BUCKETS, BoxCandidate, Candidates

    candidates = Candidates(first_frame=10)
    for frame in range(10, 5000):
        candidates.add(BoxCandidate(frame, frame / 25, float(np.sin(frame) ** 2) + 0.01, b""))
        assert len(candidates.best) <= MOST_BUCKETS
    chosen = [candidate.frame for candidate in candidates.choose(3, 8)]
    assert len(chosen) == 8
    assert np.diff(chosen).min() >= 5000 / 16 * 0.9
