"""A backbone with a camera embedding is given the cameras of the data set in training and wherever it embeds."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.data.datasets import open_dataset
from passerby.data.joining import number_cameras
from passerby.errors import UserError
from passerby.inference.embed import embed
from passerby.inference.tested import tested_split as searched_split
from passerby.inputs import InputSettings
from passerby.models.backbones import BACKBONES
from passerby.models.cameras import CameraEmbedding, move_camera_rows
from passerby.models.embedder import Embedder, ModelSettings, describe_network, load_embedder, network_of
from passerby.training.checkpoint import load_checkpoint
from passerby.training.session import train
from passerby.types import CameraTable, Embeddings, Inputs, Split
from tests.models.camera_net import SEEN, CameraBackbone, registered

MODEL = "model={backbone: camera_net, last_stride: 2}"
TABLE = CameraTable(("market1501", "other"), ((1, 2), (1, 2)))


@pytest.fixture(autouse=True)
def _registered():
    with registered():
        yield


def camera_model(table=TABLE):
    torch.manual_seed(0)
    return Embedder(ModelSettings(backbone="camera_net"), InputSettings(size=(32, 16)), cameras=table)


def test_cameras_reach_a_backbone_in_training_testing_and_embedding(tiny, tmp_path):
    train(tiny(MODEL, "stages.0.epochs=1"), tmp_path / "run")
    table = Embeddings.load(tmp_path / "run" / "embeddings" / "market1501.npz")
    assert set(table.cam.tolist()) == {1, 2}
    assert SEEN[True] == SEEN[False] == {0, 1}
    assert load_embedder(tmp_path / "run" / "embedder.safetensors").cameras == CameraTable(("market1501",), ((1, 2),))


def test_equal_numbers_of_two_data_sets_are_two_cameras(tiny, tmp_path):
    recipe = tiny(
        MODEL,
        "stages=[{train: [market1501, other], epochs: 1}]",
        "evaluate=[other]",
    )
    train(recipe, tmp_path / "run")
    assert SEEN[True] == {0, 1, 2, 3}
    assert SEEN[False] - {0} == {2, 3}  # 0: the trial of the network; the test has the rows of the training
    assert load_checkpoint(tmp_path / "run" / "last.pt").cameras == TABLE.to_plain()


def test_the_rows_of_a_data_set_are_the_same_in_training_and_in_its_test(tiny):
    recipe = tiny()
    dataset = number_cameras(open_dataset(recipe.dataset("market1501"), "other"), TABLE)
    for split in (dataset.train, dataset.query, searched_split(dataset)):
        np.testing.assert_array_equal(split.cam_row, split.cam + 1)
    renamed = number_cameras(dataset, TABLE, name="market1501")
    np.testing.assert_array_equal(renamed.train.cam_row, dataset.train.cam - 1)
    assert set(number_cameras(dataset, CameraTable()).train.cam_row.tolist()) == {-1}


def test_the_camera_changes_the_vector_and_an_unknown_one_is_the_mean():
    model = camera_model().eval()
    images = torch.randint(0, 256, (1, 3, 32, 16), dtype=torch.uint8).expand(5, -1, -1, -1)
    with torch.inference_mode():
        unknown, *known = model(Inputs(images, torch.tensor([-1, 0, 1, 2, 3]))).before_neck
    torch.testing.assert_close(unknown, torch.stack(known).mean(0))
    assert not torch.allclose(known[0], known[1])


def test_embedding_gives_each_image_its_camera(tiny):
    dataset = number_cameras(open_dataset(tiny().dataset("market1501"), "market1501"), TABLE)
    split, model = dataset.query, camera_model()
    one_by_one = np.concatenate([embed(model, split.select(np.array([row]))) for row in range(len(split))])
    np.testing.assert_allclose(embed(model, split, batch=3), one_by_one, atol=1e-5)
    unknown = Split.of_paths(split.path)
    assert np.abs(embed(model, unknown) - one_by_one).max() > 1e-3


def test_an_unknown_camera_is_refused_where_the_backbone_has_no_vector_for_it(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(CameraBackbone, "unknown_camera", "refuse")
    dataset = open_dataset(tiny().dataset("market1501"), "plaza")
    expected = r"camera of 8 of 8 images is unknown.*known cameras: market1501: 1, 2; other: 1, 2.*--camera"
    with pytest.raises(UserError, match=expected):
        embed(camera_model(), number_cameras(dataset, TABLE).query)
    recipe = tiny(MODEL, "evaluate=[other]")
    with pytest.raises(UserError, match=r"^other: the camera of 32 of 32 images is unknown"):
        train(recipe, tmp_path / "run")
    assert not SEEN[True]


def test_a_backbone_that_uses_cameras_is_not_built_without_any():
    with pytest.raises(UserError, match="'camera_net' uses cameras, and no camera of a training image is known"):
        camera_model(CameraTable())


def test_other_backbones_hold_no_cameras():
    model = Embedder(ModelSettings(backbone="resnet18"), InputSettings(size=(32, 16)), cameras=TABLE)
    assert model.cameras == CameraTable()
    assert len(describe_network(model)) == 2


def test_a_network_is_built_from_its_description_with_its_cameras():
    model = camera_model()
    assert network_of(describe_network(model)).cameras == TABLE


def test_another_run_takes_over_the_vectors_of_the_cameras_that_both_know():
    before, after = camera_model(), camera_model(CameraTable(("other", "plaza"), ((2,), (7,))))
    moved = move_camera_rows(before.state_dict(), after, before=before.cameras, after=after.cameras)
    after.load_state_dict(moved)
    (was,), (now,) = ([m.weight for m in net.modules() if isinstance(m, CameraEmbedding)] for net in (before, after))
    torch.testing.assert_close(now, torch.stack([was[3], was.mean(0)]))


def test_a_run_that_starts_from_another_learns_the_cameras_of_its_own_images(tiny, tmp_path):
    train(tiny(MODEL, "stages.0.epochs=1"), tmp_path / "one")
    start, data = f"init_from={tmp_path / 'one'}", ("stages=[{train: [other], epochs: 1}]", "evaluate=[other]")
    train(tiny(MODEL, *data, "data.sampler.identities=3", start), tmp_path / "two")
    assert load_checkpoint(tmp_path / "two" / "last.pt").cameras == {"other": [1, 2]}


def test_rows_of_unknown_data_sets_and_cameras_are_unknown():
    assert TABLE.rows("plaza", np.array([1, 2])).tolist() == [-1, -1]
    assert TABLE.rows("other", np.array([-1, 2, 9])).tolist() == [-1, 3, -1]
    with pytest.raises(UserError, match="file: the cameras of 'a' are not a list of whole numbers"):
        CameraTable.from_plain({"a": ["1"]}, source="file")


def test_a_vector_of_zeros_stands_for_an_unknown_camera_where_that_is_the_choice():
    module = CameraEmbedding(2, 3, unknown="zero")
    assert module(torch.tensor([-1, 1])).tolist() == [[0, 0, 0], module.weight[1].tolist()]


def test_the_example_of_the_documentation_gives_each_camera_its_vectors():
    text = (Path(__file__).parents[2] / "docs" / "extend" / "backbone.md").read_text()
    module, _, cameras, *_ = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names = {"__name__": "strided"}
    exec(module, names)
    exec(cameras, names)
    BACKBONES.register("strided", names["CameraStridedBackbone"])
    model = Embedder(ModelSettings(backbone="strided_small"), InputSettings(size=(32, 16)), cameras=TABLE).eval()
    with torch.inference_mode():
        vectors = model(Inputs(torch.zeros(3, 3, 32, 16), torch.tensor([-1, 0, 1]))).after_neck
    assert len({tuple(vector) for vector in vectors.tolist()}) == 3
