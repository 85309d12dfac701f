"""What is handed on names no folder of the machine that made it."""

import pytest
from safetensors import safe_open

from passerby.encoders import load_trained
from passerby.recipe import load_recipe, make_recipe
from passerby.recipe.places import public_text, without_folders
from passerby.settings import parse_yaml
from passerby.training.session import train
from tests.test_recipes import TINY


def test_a_public_recipe_reads_back_without_folders():
    changes = [
        "root=/home/ann/crops", "masks=/home/ann/masks", "model.weights=/home/ann/w.pth",
        "datasets={mine: {kind: csv, path: /home/ann/list.csv}}",
    ]  # fmt: skip
    recipe = load_recipe("small", changes)
    text = public_text(recipe)
    assert "/home" not in text
    again = make_recipe(parse_yaml(text, source="public"), source="public")
    assert (again.root, again.model.weights, again.dataset("mine").path) == ("crops", "w.pth", "list.csv")
    assert public_text(again) == text
    assert again.optim == recipe.optim


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("see /home/ann/plaza: 3 files", "see …/plaza: 3 files"),
        ("~/crops/a b", "…/a b"),
        ("train/query/gallery and mAP / rank-1", "train/query/gallery and mAP / rank-1"),
        ("https://example.org/page", "https://example.org/page"),
        ("root='/data/x/y'", "root='…/y'"),
    ],
)
def test_absolute_paths_keep_their_last_name(text, short):
    assert without_folders(text) == short


def test_a_model_names_no_folder_and_its_run_still_finds_the_data(site, tmp_path):
    train(load_recipe("small", [f"root={site}", *TINY]), tmp_path / "run")
    file = tmp_path / "run" / "embedder.safetensors"
    with safe_open(file, "pt") as opened:
        assert str(site) not in opened.metadata()["recipe"]
    for path in (tmp_path / "run", file):
        assert load_trained(path).recipe.root == str(site)
    moved = tmp_path / "alone.safetensors"
    moved.write_bytes(file.read_bytes())
    assert load_trained(moved).recipe.root == site.name
