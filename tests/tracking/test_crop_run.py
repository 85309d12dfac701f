"""Folders of crops: MARS and two plain layouts, embedded where they lie."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from passerby.errors import UserError
from passerby.tracking import TrackletSettings
from passerby.tracking.crop_run import write_crop_tracklets
from passerby.tracking.folder import TrackletFolder, TrackletOrigin
from passerby.tracking.notes import Notes
from passerby.tracking.readers import read_crops
from tests.conftest import draw_person
from tests.tracking.clips import Colours


def write_crops(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_person(number // 5, np.random.default_rng(number))).save(folder / name)
    return folder


def make(place, out, *, camera="door", rate=None, model=None, true_ids=False, notes=None, part=64, clock=False):
    settings = replace(TrackletSettings(), part=part)
    origin = TrackletOrigin(camera, place.name, clock)
    return write_crop_tracklets(
        read_crops(place, true_ids=true_ids),
        model or Colours(),
        TrackletFolder(out, asdict(origin)),
        origin=origin,
        rate=rate,
        settings=settings,
        notes=notes or Notes(),
    )


MARS = [f"{pid}/{pid}C{cam}T0001F{number:03d}.jpg" for pid in ("0001", "0000", "00-1") for cam in (1, 2)
        for number in range(1, 6)]  # fmt: skip


def test_mars_has_cameras_and_identities_of_its_own(tmp_path):
    place = write_crops(tmp_path / "MARS", [f"bbox_test/{name}" for name in MARS])
    (place / "bbox_train").mkdir()
    table = make(place, tmp_path / "out", camera="")
    names = [name.rpartition("/")[2] for name in table.name]
    assert sorted(names) == ["00-1C1T0001", "00-1C2T0001", "0000C1T0001", "0000C2T0001", "0001C1T0001", "0001C2T0001"]
    assert [table.camera[names.index(name)] for name in ("0001C1T0001", "0001C2T0001")] == ["C1", "C2"]
    assert [table.pid[names.index(name)] for name in ("0001C2T0001", "0000C1T0001", "00-1C1T0001")] == [1, -1, -1]
    assert np.isnan(table.first).all()
    assert str(tmp_path / "MARS/bbox_test/0001/0001C1T0001F001.jpg") in table.crop_path
    assert not (tmp_path / "out" / "crops").exists()


@pytest.mark.parametrize("pattern", ["{}/{:03d}.jpg", "{}_{:03d}.jpg", "{}-{}.jpg"])
def test_plain_layouts_need_a_camera_and_have_times_by_a_rate(tmp_path, pattern):
    place = write_crops(tmp_path / "crops", [pattern.format(id_, number) for id_ in (3, 14) for number in range(5, 10)])
    with pytest.raises(UserError, match="hold no camera; give it by --camera NAME"):
        make(place, tmp_path / "none", camera="")
    table = make(place, tmp_path / "out", rate=10, true_ids=True, clock=True)
    assert dict(zip(table.name.tolist(), table.pid.tolist(), strict=True)) == {"crops/3": 3, "crops/14": 14}
    np.testing.assert_allclose(table.first, 0.5)
    np.testing.assert_allclose(table.last, 0.9)
    assert table.has_clock.all()


def test_a_killed_run_continues_to_the_same_result(tmp_path):
    place = write_crops(tmp_path / "crops", [f"{id_:02d}/{number}.jpg" for id_ in range(5) for number in range(5)])
    whole = make(place, tmp_path / "whole", part=2)
    with pytest.raises(KeyboardInterrupt):
        make(place, tmp_path / "out", part=2, model=Colours(fail_at=3))
    model = Colours()
    again = make(place, tmp_path / "out", part=2, model=model)
    assert model.calls == 1
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))


def test_crops_that_cannot_be_read_are_counted(tmp_path):
    place = write_crops(tmp_path / "crops", [f"{id_}/{number}.jpg" for id_ in "ab" for number in range(5)])
    for number in range(5):
        (place / "a" / f"{number}.jpg").write_bytes(b"no image")
    notes = Notes()
    assert make(place, tmp_path / "out", notes=notes).name.tolist() == ["crops/b"]
    assert notes.sentences() == [
        "crops that cannot be read, left out: 5", "tracks without a usable crop, left out: 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["left.jpg"], "left.jpg names no tracklet; crops lie in one folder per tracklet, or are named"),
        (["0001C1T0001F001.jpg", "other_1.jpg"], "other_1.jpg is not named like 0001C1T0001F001.jpg"),
        ([], "holds no tracks and no image"),
    ],
)
def test_other_names_are_refused(tmp_path, names, sentence):
    (tmp_path / "crops").mkdir()
    with pytest.raises(UserError, match=sentence):
        read_crops(write_crops(tmp_path / "crops", names), true_ids=False)


def test_words_are_no_identities(tmp_path):
    place = write_crops(tmp_path / "crops", ["anna/1.jpg"])
    with pytest.raises(UserError, match="the id 'anna' is no whole number"):
        read_crops(place, true_ids=True)
