"""`passerby tracklets` on a folder with the clips of several cameras."""

import shutil

import pytest

from passerby.commands import tracklets
from passerby.types import Tracklets
from tests.cli.invoking import flat, refused, run
from tests.cli.test_tracking import model  # noqa: F401 - a fixture
from tests.tracking.clips import lines_of, write_mot, write_video


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for name in ("hall", "door"):
        write_mot(folder / name)
    return folder


def test_each_camera_of_a_site_has_its_folder_and_clock(model, site, tmp_path):  # noqa: F811
    clocks = site / "clocks.yaml"
    clocks.write_text("door: 08:00:00\nhall: 08:00:30\n")
    result = run("tracklets", site, "--run", model, "-o", tmp_path / "tracks", "--true-ids")
    clocks.unlink()
    assert result.exit_code == 0, result.output
    assert "no clock" not in result.output
    for name, start in (("door", 28800.0), ("hall", 28830.0)):
        table = Tracklets.load(tmp_path / "tracks" / name)
        assert set(table.camera.tolist()) == {name}
        assert table.has_clock.all()
        assert table.first[0] == pytest.approx(start)
        assert f"{name}/tracklets.npz: 3 tracklets" in flat(result.output)
    people = run("associate", tmp_path / "tracks", "-o", tmp_path / "identities.csv")
    assert "in 6 tracklets of 2 cameras" in people.output


def test_the_model_is_opened_once_and_each_camera_is_named_before_its_notes(model, site, tmp_path, monkeypatch):  # noqa: F811
    opened = []
    open_model = tracklets.open_model
    monkeypatch.setattr(
        tracklets, "open_model", lambda *words, **options: opened.append(1) or open_model(*words, **options)
    )
    output = run("tracklets", site, "--run", model, "-o", tmp_path / "tracks").output
    assert opened == [1]
    assert output.index("camera door\n") < output.index("camera hall\n")


def test_cameras_without_a_clock_are_named(model, site, tmp_path):  # noqa: F811
    result = run("tracklets", site, "--run", model, "-o", tmp_path / "a")
    assert "no clock for door, hall: times compare within each of these clips only" in flat(result.output)
    assert not Tracklets.load(tmp_path / "a" / "door").has_clock.any()
    (site / "clocks.yaml").write_text("door: 08:00:00\n")
    result = run("tracklets", site, "--run", model, "-o", tmp_path / "b")
    (site / "clocks.yaml").unlink()
    assert "no clock for hall: times" in flat(result.output)
    travel = tmp_path / "topology.yaml"
    travel.write_text("travel:\n  - {cameras: [door, hall], least: 5}\n")
    sentence = flat(refused("associate", tmp_path / "b", "-o", tmp_path / "i.csv", "--topology", travel))
    assert "camera 'hall' has tracklets without one" in sentence
    result = run("tracklets", site, "--run", model, "-o", tmp_path / "c", "--start", "9:00")
    assert "no clock" not in result.output
    assert Tracklets.load(tmp_path / "c" / "hall").first[0] == pytest.approx(32400.0)


def test_pairs_of_a_video_and_a_text_are_cameras(model, tmp_path):  # noqa: F811
    pytest.importorskip("av")
    site = tmp_path / "site"
    site.mkdir()
    for name in ("gate", "yard"):
        write_video(site / f"{name}.mp4")
        (site / f"{name}.txt").write_text("\n".join(lines_of()) + "\n")
    result = run("tracklets", site, "--run", model, "-o", tmp_path / "tracks")
    assert "gate/tracklets.npz: 3 tracklets" in flat(result.output)
    assert "yard/tracklets.npz: 3 tracklets" in flat(result.output)


def test_mistakes_about_a_site_are_one_sentence(model, site, tmp_path):  # noqa: F811
    words = ("tracklets", site, "--run", model, "-o", tmp_path / "tracks")
    assert "--frames has no effect on" in flat(refused(*words, "--frames", site))
    for text, sentence in [
        ("dor: 08:00:00\n", "names camera 'dor'; there are door, hall; did you mean 'door'?"),
        ("door: noon\n", "clocks.yaml, camera door: --start 'noon' is no time"),
        ("door: [8]\n", "is no time"),
        ("- door\n", "clocks.yaml"),
    ]:
        (site / "clocks.yaml").write_text(text)
        assert sentence in flat(refused(*words))
    (site / "clocks.yaml").unlink()
    empty = tmp_path / "empty"
    shutil.copytree(site, empty)
    (empty / "hall" / "gt" / "gt.txt").write_text("1,1,900,900,4,4,1,1,1\n")
    sentence = flat(refused("tracklets", empty, "--run", model, "-o", tmp_path / "kept"))
    assert "camera hall: no tracklet with a usable crop" in sentence
    assert len(Tracklets.load(tmp_path / "kept" / "door")) == 3, "what is written already stays"
