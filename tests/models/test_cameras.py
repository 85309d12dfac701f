"""A backbone with a camera embedding is given the cameras of the data set in training and wherever it embeds."""

import numpy as np
import pytest
import torch
from torch import nn

from passerby.data.datasets import open_dataset
from passerby.inference.embed import embed
from passerby.inputs import InputSettings
from passerby.models.backbone import Backbone
from passerby.models.backbones import BACKBONES
from passerby.models.embedder import Embedder, ModelSettings
from passerby.training.session import train
from passerby.types import Embeddings, Inputs, Split

CAMERAS = 8
SEEN = {True: set(), False: set()}
"""The cameras that reached the backbone in training and in evaluation."""


class CameraNet(nn.Module):
    """One convolution, and a vector per camera that is added to its map; -1 adds nothing."""

    num_features = 16

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 8, 8)
        self.cameras = nn.Embedding(CAMERAS + 1, 16, padding_idx=0)

    def forward_features(self, images, cam):
        return self.convolution(images) + self.cameras(cam + 1)[:, :, None, None]


class CameraBackbone(Backbone):
    summary = "camera_net"

    @classmethod
    def names(cls):
        return ("camera_net",)

    @classmethod
    def build(cls, name, size, *, pretrained):
        return CameraNet()

    def forward(self, inputs):
        SEEN[self.training].update(inputs.cam.tolist())
        return self.body.forward_features(inputs.images, inputs.cam), None


@pytest.fixture(autouse=True)
def _registered():
    entries = dict(BACKBONES._entries)
    BACKBONES.register("camera_net", CameraBackbone)
    yield
    BACKBONES._entries = entries


def test_cameras_reach_a_backbone_in_training_testing_and_embedding(tiny, tmp_path):
    for seen in SEEN.values():
        seen.clear()
    train(tiny("model={backbone: camera_net, last_stride: 2}", "stages.0.epochs=1"), tmp_path / "run")
    table = Embeddings.load(tmp_path / "run" / "embeddings" / "market1501.npz")
    assert SEEN[True] - {-1} == SEEN[False] - {-1} == set(table.cam.tolist())


def test_the_camera_changes_the_vector_and_an_unknown_one_adds_nothing():
    torch.manual_seed(0)
    model = Embedder(ModelSettings(backbone="camera_net"), InputSettings(size=(32, 16))).eval()
    images = torch.randint(0, 256, (1, 3, 32, 16), dtype=torch.uint8).expand(3, -1, -1, -1)
    with torch.inference_mode():
        unknown, first, second = model(Inputs(images, torch.tensor([-1, 0, 1]))).before_neck
        plain = model(Inputs.of_images(images[:1])).before_neck[0]
    assert torch.equal(unknown, plain)
    assert not torch.allclose(first, second)


def test_embedding_gives_each_image_its_camera(tiny):
    torch.manual_seed(0)
    split = open_dataset(tiny().dataset("market1501"), "market1501").query
    model = Embedder(ModelSettings(backbone="camera_net"), InputSettings(size=(32, 16)))
    one_by_one = np.concatenate([embed(model, split.select(np.array([row]))) for row in range(len(split))])
    np.testing.assert_allclose(embed(model, split, batch=3), one_by_one, atol=1e-5)
    unknown = Split.of_paths(split.path)
    assert np.abs(embed(model, unknown) - one_by_one).max() > 1e-3
