"""`passerby import` and `passerby models`."""

import hashlib

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from passerby.cli import app
from passerby.encoders import load_model, load_trained
from passerby.models.osnet import OSNETS, OSNet
from passerby.published.table import FAMILIES
from passerby.recipe import load_recipe

run = CliRunner()


@pytest.fixture
def published(tmp_path):
    torch.save({"state_dict": OSNet(OSNETS["osnet_x0_25"]).state_dict(), "epoch": 3}, tmp_path / "osnet.pth.tar")
    return tmp_path / "osnet.pth.tar"


def test_import_says_what_it_made_and_the_file_embeds(published, tmp_path):
    out = tmp_path / "model.safetensors"
    result = run.invoke(app, ["import", str(published), "--size", "64x32", "-o", str(out)])
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert result.output.splitlines() == [
        f"file: osnet.pth.tar, SHA-256 {digest}",
        "family: torchreid (it has conv2.0.conv2a.conv1.weight, a stream of an OSNet)",
        "settings: distance=euclidean (auto)",
        "network: osnet_x0_25, 201,864 parameters",
        "images: 64x32, bilinear, mean 0.485/0.456/0.406, std 0.229/0.224/0.225",
        "vector: before_neck, 512 numbers, euclidean distance",
        "tested by euclidean distance of plain vectors, as published; --set distance=cosine tests by the angle",
        str(out),
    ]
    assert load_model(out).embed(np.zeros((2, 70, 40, 3), np.uint8)).shape == (2, 512)


def test_the_file_is_a_recipe_with_the_published_network(published, tmp_path):
    out = tmp_path / "model.safetensors"
    run.invoke(app, ["import", str(published), "--size", "64x32", "-o", str(out)])
    (tmp_path / "mine.yaml").write_text(f"extends: {out.name}\nstages: [{{train: [market1501], epochs: 3}}]\n")
    for name in (out, tmp_path / "mine.yaml"):
        recipe = load_recipe(str(name), [f"init_from={out}"])
        assert recipe.model == load_trained(out).embedder.settings
        assert (recipe.input.size, recipe.test.feature) == ((64, 32), "before_neck")
        assert recipe.description.startswith("osnet.pth.tar (SHA-256 ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-o", "model.onnx"], "import writes a file that ends in .safetensors, got model.onnx"),
        (["-o", "m.safetensors", "--size", "64"], "--size 64: write height x width, for example 256x128"),
        (["-o", "m.safetensors", "--as", "fastreid"], "is no file of the family fastreid; it looks like torchreid"),
        (["-o", "m.safetensors", "--set", "heads=4"], "unknown key heads; known here: distance, last_stride"),
    ],
)
def test_mistakes_are_one_sentence(published, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, ["import", str(published), *options])
    assert result.exit_code == 2
    assert told in result.output.replace("\n", " ")
    assert not (tmp_path / "m.safetensors").exists()


def test_models_lists_every_family_with_its_licences():
    result = run.invoke(app, ["models"])
    assert result.exit_code == 0
    for name, kind in FAMILIES.items():
        assert f"{name}  {kind.summary}" in result.output
        assert f"code {kind.code_licence}; weights {kind.weights_licence}" in result.output
        assert all(str(score) in result.output for score in kind.scores)
    assert "Nothing is downloaded by itself." in result.output
