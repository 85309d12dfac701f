"""`passerby associate`: folders of tracklets in, a table, JSON and a page out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.types import TRACKLETS_FILE, Tracklets
from tests.association.tables import CAMERAS, walks


@pytest.fixture
def folders(tmp_path):
    """Write the tracklets of each camera, with a crop for all but those of the yard."""
    tracklets = walks(people=12)
    for name in CAMERAS:
        (tmp_path / name).mkdir()
        part = tracklets.select(tracklets.camera == name)
        if name != "yard":
            paths = [tmp_path / name / f"{row}.png" for row in range(len(part))]
            for row, path in enumerate(paths):
                Image.new("RGB", (8, 16), (20 * row, 90, 120)).save(path)
            part = replace(part, crop_path=np.array([str(path) for path in paths]))
        part.save(tmp_path / name / TRACKLETS_FILE)
    return [tmp_path / name for name in CAMERAS]


def run(*words):
    return CliRunner().invoke(app, ["associate", *map(str, words)])


def test_three_cameras_become_one_table(folders, tmp_path):
    out = [tmp_path / "identities.csv", tmp_path / "identities.json", tmp_path / "page.html"]
    result = run(*folders, "-o", out[0], "--json", out[1], "--report", out[2])
    assert result.exit_code == 0, result.output
    assert "12 people (" in result.output
    assert "in 36 tracklets of 3 cameras" in result.output
    assert "precision 1.000, recall 1.000, F 1.000; IDF1 1.000" in result.output
    rows = list(csv.DictReader(out[0].read_text().splitlines()))
    assert len(rows) == 36
    assert [int(row["identity"]) for row in rows] == sorted([*range(12)] * 3)
    assert float(rows[0]["first"]) < float(rows[1]["first"]) < float(rows[2]["first"])
    assert rows[0].keys() == {"identity", "camera", "tracklet", "first", "last", "confidence", "alone"}
    figures = json.loads(out[1].read_text())
    assert (figures["people"], figures["people_of_camera"]) == (12, {"door": 12, "hall": 12, "yard": 12})
    assert [way["matches"] for way in figures["learnt_travel_times"]] == [12, 12, 12]
    known = sum(way["least"] is not None for way in figures["learnt_travel_times"])
    assert result.output.count(" s, learnt from 12 matches") == known
    assert result.output.count("(12 matches)") == 3 - known
    times = [entry["first"] for entry in figures["entries"]["hall"]]
    assert times == sorted(times)
    page = out[2].read_text()
    assert page.count('<section class="person"') == 12
    assert page.count("data:image/jpeg") == 24
    assert page.count("no image") == 12
    assert page.count("<rect") == 36
    assert "http" not in page, "self-contained"
    assert "merged" not in page
    assert "12 of 12 people have one identity" in page
    assert 'id="person-' not in page


def test_errors_against_the_truth_are_on_the_page(folders, tmp_path):
    page = tmp_path / "page.html"
    result = run(*folders, "-o", tmp_path / "i.csv", "--threshold", "1.5", "--report", page)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "merged: true people " in text
    assert "True people with errors" in text
    assert "0 of 12 people have one identity, which they share with nobody" in text
    assert text.count('id="person-') == 12, "a row for each true person with errors"
    assert 'figure class="camera other"' in text
    assert ": person 3</figcaption>" in text
    assert '<rect class="other"' in text
    result = run(*folders, "-o", tmp_path / "i.csv", "--threshold", "0.001", "--report", page)
    assert "tracklets that fit no other: 36" in result.output
    text = page.read_text()
    assert "split: true person 0 also in" in text
    assert "split: in identities" in text
    assert "most of the time in identity" in text
    assert "fits no other" in page.read_text()


def test_travel_times_from_a_file(folders, tmp_path):
    topology = tmp_path / "cameras.yaml"
    topology.write_text("travel:\n  - {cameras: [door, hall], least: 5, most: 3000}\n")
    result = run(*folders, "-o", tmp_path / "i.csv", "--topology", topology)
    assert "from door to hall: at least 5 s, at most 3000 s" in result.output
    for text, sentence in [
        ("travel:\n  - {cameras: [door, hall], least: 9, most: 3}\n", "most (3 s) is less than least (9 s)"),
        ("travel:\n  - {cameras: [door, door]}\n", "both are 'door'"),
        ("travel:\n  - {cameras: [door, hall], leest: 3}\n", "did you mean 'least'"),
        ("travel:\n  - {cameras: [door, hall], least: -1}\n", "least"),
        ("travel:\n  - {cameras: [door, hall]}\n  - {cameras: [hall, door]}\n", "door and hall are listed 2 times"),
        ("travel:\n  - {cameras: [door, roof]}\n", "names camera 'roof'"),
    ]:
        topology.write_text(text)
        refused = run(*folders, "-o", tmp_path / "never.csv", "--topology", topology)
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output
    assert not (tmp_path / "never.csv").exists()


def test_mistakes_are_one_sentence(folders, tmp_path):
    other = Tracklets.load(folders[0])
    (tmp_path / "other").mkdir()
    replace(other, model="another").save(tmp_path / "other" / TRACKLETS_FILE)
    for words, sentence in [
        ([tmp_path / "nothing"], "no tracklets file"),
        ([folders[0], folders[0]], "is one folder named twice"),
        ([folders[1], tmp_path / "other"], "of different models"),
        ([*folders, "--accept", "0.1"], "add --run MODEL"),
        ([*folders, "--run", tmp_path], "--run has no effect without --accept"),
        ([*folders, "--accept", "0.1", "--threshold", "0.3"], "leave out --threshold"),
        ([*folders, "--topology", tmp_path / "no.yaml"], "no topology file"),
    ]:
        refused = run(*words, "-o", tmp_path / "never.csv")
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output
        assert "Traceback" not in refused.output
