"""The demo of several cameras, from clips to the page of people, with a model that is there already."""

import csv

import torch
from rich.console import Console

from passerby.data.synthetic.visits import ClipSize
from passerby.demo import run_camera_demo
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.recipe import Recipe


def test_clips_become_a_table_and_a_page_of_people(tmp_path):
    torch.manual_seed(0)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    (tmp_path / "run").mkdir()
    save_embedder(embedder, tmp_path / "run" / "embedder.safetensors", recipe=Recipe().dump())
    size = ClipSize(people=5, cameras=2, seconds=8.0, rate=3, width=160, height=90)
    with Console(record=True, width=200) as console:
        page = run_camera_demo(tmp_path, seed=3, console=console, size=size)
    text = console.export_text()
    assert not (tmp_path / "people").exists(), "nothing is trained again"
    assert "no clock" not in text
    assert "from door to hall: at least" in text
    assert "known people of" in text
    assert "so many are split or merged" in text
    rows = list(csv.DictReader((tmp_path / "identities.csv").read_text().splitlines()))
    assert {row["camera"] for row in rows} == {"door", "hall"}
    assert f"in {len(rows)} tracklets of 2 cameras" in text
    assert page.read_text().count("data:image/jpeg") >= len(rows)
