"""`passerby associate --truth`: the boxes of tracklets against true ones, frame by frame."""

import json
import shutil

import pytest

from passerby.types import TRACKLETS_FILE, Tracklets
from tests.cli.invoking import flat, refused, run
from tests.cli.test_tracking import model  # noqa: F401 - a fixture
from tests.tracking.clips import write_mot


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):  # noqa: F811
    """A site of two cameras, whose tracker has ids of its own and loses a person once, and its tracklets."""
    site = tmp_path_factory.mktemp("site")
    truth = site.parent / "truth"
    for camera in ("door", "hall"):
        write_mot(site / camera)
        shutil.copytree(site / camera / "gt", truth / camera / "gt")
        file = site / camera / "gt" / "gt.txt"
        rows = [line.split(",") for line in file.read_text().splitlines()]
        for row in rows:  # person 1 has id 11 first, then 14; a box of camera hall begins a pixel farther left
            row[1] = "14" if row[1] == "1" and int(row[0]) > 6 else str(10 + int(row[1]))
            row[2] = str(int(row[2]) - (camera == "hall"))
        (site / camera / "det").mkdir()
        (site / camera / "tracks.txt").write_text("\n".join(map(",".join, rows)) + "\n")
        shutil.rmtree(site / camera / "gt")
    out = site.parent / "tracks"
    result = run("tracklets", site, "--run", model, "-o", out, "--start", "100")
    assert result.exit_code == 0, result.output
    return out, truth


def test_identities_are_scored_by_frame(folders, tmp_path):
    pytest.importorskip("trackeval")
    out, truth = folders
    words = ("associate", out, "-o", tmp_path / "i.csv", "--json", tmp_path / "i.json", "--camera-norm", "none")
    result = run(*words, "--threshold", "1e-6", "--truth", truth)
    assert result.exit_code == 0, result.output
    assert "against 3 known people of 8 tracklets" in flat(result.output)
    assert "by frame: IDF1" in flat(result.output)
    scores = json.loads((tmp_path / "i.json").read_text())["scores_by_frame"]
    # nothing joined: of 2 x 12, 16 and 9 boxes the largest tracklet of each person has 6, 16 and 9
    assert (scores["boxes"], scores["frames"]) == (74, 48)
    assert scores["idf1"] == pytest.approx(31 / 74)
    assert scores["deta"] > 0.9
    without = json.loads((tmp_path / "i.json").read_text()) if run(*words).exit_code == 0 else {}
    assert (without["scores"], without["scores_by_frame"]) == (None, None)


def test_what_cannot_be_compared_is_one_sentence(folders, tmp_path):
    out, truth = folders
    words = ("associate", "-o", tmp_path / "never.csv", "--truth")
    assert "no truth of camera 'door'" in flat(refused(*words, tmp_path, out))
    stream = tmp_path / "stream"
    shutil.copytree(out / "door", stream)
    progress = json.loads((stream / "progress.json").read_text())
    progress["settings"] = {"source": "stream"}
    (stream / "progress.json").write_text(json.dumps(progress))
    assert "holds tracklets of a stream" in flat(refused(*words, truth, stream))
    (stream / "progress.json").unlink()
    assert "the source of its tracklets is unknown" in flat(refused(*words, truth, stream))
    (tmp_path / "crops").mkdir()
    both = Tracklets.join([Tracklets.load(out / name) for name in ("door", "hall")])
    both.save(tmp_path / "crops" / TRACKLETS_FILE)
    assert "tracklets of 2 cameras" in flat(refused(*words, truth, tmp_path / "crops"))
    assert not (tmp_path / "never.csv").exists()
