"""An exported model that uses cameras takes them as a second input, and gives the vectors of the run."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from passerby.data.datasets import open_dataset
from passerby.encoders import embed_dataset, load_model
from passerby.errors import UserError
from passerby.exporting import export
from passerby.models.embedder import Embedder, save_embedder
from passerby.recipe.places import public_text
from passerby.types import CameraTable
from tests.models.camera_net import CameraBackbone, registered

TABLE = CameraTable(("market1501", "plaza"), ((1, 2), (0, 1)))


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """The file of a model that uses cameras, and the same as ONNX."""
    recipe, folder = tiny("model={backbone: camera_net, last_stride: 2}"), tmp_path_factory.mktemp("run")
    with registered():
        torch.manual_seed(0)
        embedder = Embedder(recipe.model, recipe.input, cameras=TABLE)
        save_embedder(embedder, folder / "embedder.safetensors", recipe=public_text(recipe))
        assert export(folder, folder / "model.onnx", to="onnx").cosine < 1e-6
        yield folder


def test_the_graph_takes_a_number_per_image_and_says_so(run):
    session = onnxruntime.InferenceSession(run / "model.onnx")
    assert [(node.name, node.type) for node in session.get_inputs()] == [
        ("images", "tensor(uint8)"),
        ("cam", "tensor(int64)"),
    ]
    described = onnx.load(run / "model.onnx").doc_string
    assert "cam: int64 (batch,)" in described
    assert "market1501: 1, 2; plaza: 0, 1" in described


def test_both_files_give_the_vectors_of_a_data_set_with_its_cameras(run, tiny):
    dataset = open_dataset(tiny().dataset("market1501"), "market1501")
    torch_model, onnx_model = load_model(run), load_model(run / "model.onnx")
    assert onnx_model.cameras == torch_model.cameras == TABLE
    ours, theirs = embed_dataset(torch_model, dataset), embed_dataset(onnx_model, dataset)
    np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-4)
    elsewhere = embed_dataset(onnx_model, dataclasses.replace(dataset, name="elsewhere"))
    assert np.abs(elsewhere.vectors - theirs.vectors).max() > 1e-2


def test_arrays_have_the_camera_that_is_given(run):
    images, cam = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), np.uint8), np.array([0, -1, 3])
    vectors = [load_model(path).embed(images, cam=cam) for path in (run, run / "model.onnx")]
    np.testing.assert_allclose(*vectors, atol=1e-4)
    assert np.abs(load_model(run).embed(images) - vectors[0]).max(axis=1)[[0, 2]].min() > 1e-2


def test_an_unknown_camera_is_refused_by_a_graph_that_has_no_vector_for_it(run, monkeypatch):
    monkeypatch.setattr(CameraBackbone, "unknown_camera", "refuse")
    export(run, run / "strict.onnx", to="onnx")
    model = load_model(run / "strict.onnx")
    images = np.zeros((2, 64, 32, 3), np.uint8)
    with pytest.raises(UserError, match=r"strict.onnx: the camera of 1 of 2 images is unknown"):
        model.embed(images, cam=np.array([0, -1]))
    assert model.embed(images, cam=np.array([0, 3])).shape == (2, 16)
