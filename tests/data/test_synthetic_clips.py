"""Clips of generated people: what is drawn, boxes, times, and what is refused."""

import csv
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from passerby.cli import app
from passerby.data.decoding import decode
from passerby.data.synthetic.body import draw_pose, sculpt
from passerby.data.synthetic.cameras import CLIMATES, draw_camera
from passerby.data.synthetic.clips import CLOCKS, TOPOLOGY, VISITS, make_clips
from passerby.data.synthetic.frame import CameraView, Figure, as_video_camera
from passerby.data.synthetic.manifest import STARTED
from passerby.data.synthetic.photograph import develop
from passerby.data.synthetic.raycast import PERSON_ROWS, SHADOW, SUN, SUN_COLOUR, paint
from passerby.data.synthetic.shot import shadows_of
from passerby.data.synthetic.solids import CROWD, place
from passerby.data.synthetic.visits import CAMERA_NAMES, FASTEST, ClipSize, draw_visits, draw_ways
from passerby.data.synthetic.wardrobe import draw_appearance, materials_of
from passerby.errors import UserError
from passerby.tracking.notes import Notes
from passerby.tracking.readers import open_source

SMALL = ClipSize(people=5, cameras=2, seconds=8.0, rate=3, width=160, height=90)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips") / "site", "plaza", seed=3, size=SMALL)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_the_same_request_gives_the_same_bytes(site, tmp_path):
    first = files(site)
    assert files(make_clips(tmp_path / "again", "plaza", seed=3, size=SMALL)) == first
    other = files(make_clips(tmp_path / "other", "plaza", seed=4, size=SMALL))
    assert other["door/img1/000001.jpg"] != first["door/img1/000001.jpg"]
    assert sum(name.endswith(".jpg") for name in first) == 2 * SMALL.count_frames


def test_a_finished_site_stays_and_a_killed_one_is_made_again(site, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*.jpg")}
    make_clips(site, "plaza", seed=3, size=SMALL)
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*.jpg")} == before
    with pytest.raises(UserError, match="already holds clips of plaza with seed 3"):
        make_clips(site, "plaza", seed=5, size=SMALL)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_clips(tmp_path / "killed", "plaza", seed=3, size=SMALL, progress=stop)
    assert (tmp_path / "killed" / STARTED).is_file()
    assert files(make_clips(tmp_path / "killed", "plaza", seed=3, size=SMALL)) == files(site)


def test_boxes_lie_on_the_people(site):
    inside, outside = [], []
    for name in CAMERA_NAMES[:2]:
        clip = open_source(site / name, frames=None, rate=None, true_ids=True, notes=Notes())
        pictures = {number: decode(site / name / "img1" / f"{number:06d}.jpg").astype(float) for number in range(1, 25)}
        background = np.median(list(pictures.values()), axis=0)
        for boxes in clip.boxes():
            difference = np.abs(pictures[boxes.frame] - background).mean(axis=2)
            mask = np.zeros(difference.shape, bool)
            for x1, y1, x2, y2 in np.clip(boxes.corners, 0, 200).round().astype(int):
                mask[y1:y2, x1:x2] = True
            inside.append(difference[mask].mean())
            outside.append(difference[~mask].mean())
    assert len(inside) > 20
    assert np.mean(inside) > 4 * np.mean(outside)


def test_a_frame_is_as_the_ray_caster_draws_the_whole_view():
    rng = np.random.default_rng(2)
    climate, view = CLIMATES["plaza"], (160, 90)
    camera = as_video_camera(draw_camera(rng, climate, number=1), rng, view)
    light = camera.light.copy()  # a low sun from the side
    light[SUN : SUN + 3], light[SUN_COLOUR : SUN_COLOUR + 3], light[SHADOW] = (0.8, 0.0, 0.6), 1.2, 0.95
    camera = replace(camera, light=light, response=replace(camera.response, noise=0.0))
    figures = [
        Figure(k, draw_appearance(rng, climate.season), 0.7 * k - 0.5, camera.near + 0.5 * k, 1.0 + k, draw_pose(rng))
        for k in range(3)
    ]
    stage = CameraView(camera, view, rng)
    picture, boxes = stage.photograph(figures, 0, rng)
    bodies = [
        place(sculpt(f.appearance, f.pose), CROWD, at=(f.x, f.y), yaw=f.heading, material_offset=PERSON_ROWS * (k + 1))
        for k, f in enumerate(figures)
    ]
    light, cover = np.empty((90, 160, 3)), np.empty((90, 160))
    x, y = 80 / camera.focal, 45 / camera.focal
    eye = [camera.eye, np.sin(camera.pitch), np.cos(camera.pitch), -x, x, y, -y]
    tables = [camera.materials, *(materials_of(figure.appearance) for figure in figures)]
    shadows = np.concatenate([shadows_of(body, camera.light) for body in bodies])
    solids = np.concatenate([camera.things, *bodies])
    paint(solids, np.concatenate(tables), shadows, camera.scene, camera.light, np.array(eye), light, cover)
    whole = develop(light, camera.response, size=(90, 160), motion=0, rng=rng)
    difference = np.abs(whole.astype(float) - picture)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.99) < 8, "shadows are sampled once a pixel"
    assert np.abs(whole.astype(float) - stage.photograph([], 0, rng)[0]).mean() > 2
    assert [box.person for box in boxes] == [0, 1, 2]
    assert boxes[2].visible < boxes[0].visible or boxes[1].visible < 1


def test_nobody_is_faster_than_the_way_between_two_cameras(site):
    rng, size = np.random.default_rng(0), ClipSize(people=40)
    cameras = [as_video_camera(draw_camera(rng, CLIMATES["campus"], number=k), rng, size.view) for k in range(1, 4)]
    ways = draw_ways(rng, 3)
    least = {frozenset((way.first, way.second)): way.least for way in ways}
    visits = draw_visits(40, cameras, ways, size, lambda person: np.random.default_rng(person))
    both = [(a, b) for a, b in pairwise(visits) if a.person == b.person]
    between = [b.begin - a.end - least[frozenset((a.camera, b.camera))] for a, b in both if a.camera != b.camera]
    assert len(between) > 15
    assert min(between) >= 0
    assert sum(a.camera == b.camera for a, b in both) > 2, "some return to the same camera"
    speeds = [np.hypot(*np.subtract(v.at(v.begin + 1)[:2], v.at(v.begin)[:2])) for v in visits]
    assert max(speeds) < FASTEST + 1e-6
    travel = yaml.safe_load((site / TOPOLOGY).read_text())["travel"]
    assert [entry["cameras"] for entry in travel] == [["door", "hall"]]


def test_the_folder_reads_as_one_mot_folder_per_camera(site):
    clocks = yaml.safe_load((site / CLOCKS).read_text())
    visits = list(csv.DictReader((site / VISITS).read_text().splitlines()))
    count = 0
    for name in CAMERA_NAMES[:2]:
        hours, minutes, seconds = map(int, clocks[name].split(":"))
        start = 3600 * hours + 60 * minutes + seconds
        notes = Notes()
        clip = open_source(site / name, frames=None, rate=None, true_ids=True, notes=notes)
        assert (clip.rate, clip.clip, clip.tracked, notes.sentences()) == (3, name, True, [])
        times = {}
        for boxes in clip.boxes():
            for person in boxes.pid.tolist():
                times.setdefault(person, []).append(start + clip.time(boxes.frame))
        for row in visits:
            if row["camera"] == name:
                assert float(row["first"]) in np.round(times[int(row["person"])], 1)
                assert float(row["last"]) in np.round(times[int(row["person"])], 1)
                count += 1
    assert count == len(visits) >= 5


def test_the_command_makes_videos_and_refuses_what_has_no_effect(tmp_path):
    av = pytest.importorskip("av")

    def run(*words):
        return CliRunner().invoke(app, ["data", "make", str(tmp_path / "clips"), *words])

    result = run("--kind", "video", "--people", "3", "--cameras", "1", "--seconds", "5", "--frames", "video")
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "clips" / "door" / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 25
    assert not (tmp_path / "clips" / "door" / "img1").exists()
    for words, sentence in [
        (["--people", "3"], "--people has no effect on --kind images"),
        (["--kind", "video", "--train-people", "3"], "--train-people has no effect on --kind video"),
        (["--kind", "video", "--cameras", "99"], "1 to 8 cameras, got 99"),
        (["--kind", "video", "--people", "1"], "at least 2 people"),
        (["--kind", "video", "--site", "plazza"], "did you mean 'plaza'"),
        (["--kind", "video", "--seed", "-1"], "whole number >= 0"),
        (["--kind", "video", "--seed", "1"], "already holds clips"),
    ]:
        refused = run(*words)
        assert (refused.exit_code, sentence in " ".join(refused.output.split())) == (2, True), refused.output
