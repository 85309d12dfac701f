"""Transformers whose architecture is given by a recipe: training, cameras, layer-wise rates, what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.models.embedder import load_embedder
from passerby.published.importing import read_published
from passerby.training.run_log import epochs, read
from passerby.training.session import Interrupted, train
from passerby.types import CameraTable, Embeddings
from tests.training.runs import interrupt_after, weights

PUBLISHED = Path(__file__).parents[1] / "published" / "data"
SMALL = "width: 16, depth: 2, heads: 2, patch: 8, stride: 6"
ARCHITECTURES = {
    "vit": f"{SMALL}, cameras: true, jigsaw: {{}}, drop_path: 0.1",
    "clip_vit": f"{SMALL}, cameras: true, projection: 8",
    "swin": "width: 8, depths: [2, 2], heads: [1, 2], semantic_weight: 0.2, drop_path: 0.1",
}
DIMENSIONS = {"vit": 80, "clip_vit": 24, "swin": 16}


def recipe_of(tiny, backbone, *overrides):
    model = f"model={{backbone: {backbone}, last_stride: 2, architecture: {{{ARCHITECTURES[backbone]}}}}}"
    return tiny(model, "stages.0.epochs=1", "optim.layer_decay=0.75", *overrides)


@pytest.mark.parametrize("backbone", ARCHITECTURES)
def test_a_recipe_trains_and_tests_it(tiny, tmp_path, backbone):
    train(recipe_of(tiny, backbone), tmp_path / "run")
    (epoch,) = epochs(read(tmp_path / "run" / "log.jsonl"))
    assert math.isfinite(epoch.loss)
    model = load_embedder(tmp_path / "run" / "embedder.safetensors")
    assert model.dimension == DIMENSIONS[backbone]
    found = Embeddings.load(tmp_path / "run" / "embeddings" / "market1501.npz")
    assert found.vectors.shape == (32, model.dimension)
    cameras = CameraTable(("market1501",), ((1, 2),)) if backbone != "swin" else CameraTable()
    assert model.cameras == cameras


def test_a_stopped_run_goes_on_to_the_same_weights(tiny, tmp_path):
    recipe = recipe_of(tiny, "vit")
    train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", watch=[interrupt_after(3)])
    train(recipe, tmp_path / "run", start="resume")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize(("override", "reason"), [
    ("model.architecture.head=3", "model.architecture: unknown key head; did you mean 'heads'"),
    ("model.architecture.heads=3", "heads must divide width 16, got 3"),
    ("model.last_stride=1", "model.last_stride: 1 is for the ResNet family; 'vit' has no such stride"),
    ("model.pool=gem", "model.pool: 'vit' pools its own tokens, so 'gem' has no effect"),
    ("input.size=[16,8]", "jigsaw: 2 patches cannot be dealt out to 4 parts"),
])  # fmt: skip
def test_what_does_not_fit_is_told(tiny, tmp_path, override, reason):
    with pytest.raises(UserError, match=reason):
        train(recipe_of(tiny, "vit", override), tmp_path / "run")


def test_training_goes_on_from_a_published_model_with_the_vectors_of_its_cameras(tiny, tmp_path):
    choices = ["heads=4", "cameras_of=market1501"]
    published = read_published(PUBLISHED / "transreid_sie.pth", overrides=choices, size=(128, 64))
    published.save(tmp_path / "model.safetensors")
    model = {"backbone": "vit", "last_stride": 2, "architecture": published.imported.model.architecture}
    recipe = tiny(
        f"init_from={tmp_path / 'model.safetensors'}",
        f"model={json.dumps(model)}",
        "input={size: [128, 64], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
        "stages.0.epochs=1",
        "optim={lr: 1.0e-9, weight_decay: 0}",
    )
    train(recipe, tmp_path / "run")
    trained, before = load_embedder(tmp_path / "run" / "embedder.safetensors"), published.embedder
    assert trained.cameras == CameraTable(("market1501",), ((1, 2),))  # the third camera is not in the data
    found, expected = (model.backbone.body for model in (trained, before))
    torch.testing.assert_close(found.sie_embed.pairs.weight, expected.sie_embed.pairs.weight[:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.blocks[3].mlp.fc2.weight, expected.blocks[3].mlp.fc2.weight, atol=1e-6, rtol=0)
