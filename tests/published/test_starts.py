"""Published files as starts of training."""

import re

import pytest
import torch

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.backbones import make_backbone
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.published.starts import load_start

SIZE = (64, 32)
NARROW = {"width": 4}


def backbone_of(model):
    return make_backbone(
        model.backbone, SIZE, architecture=model.architecture, ibn=model.ibn, last_stride=model.last_stride
    )


def start(path, model):
    backbone = backbone_of(model)
    return backbone, load_start(backbone, path, model=model, size=SIZE)


def save(tmp_path, tensors):
    torch.save(tensors, tmp_path / "published.pth")
    return tmp_path / "published.pth"


def narrow_resnet(name="resnet50", **settings):
    return ModelSettings(backbone=name, architecture=NARROW, **settings)


def test_the_query_encoder_of_moco_is_a_start(tmp_path):
    model = narrow_resnet(last_stride=1)
    state = backbone_of(model).body.state_dict()
    both = {f"module.encoder_{letter}.{k}": v + (letter == "k") for letter in "qk" for k, v in state.items()}
    path = save(tmp_path, {"state_dict": both | {"module.queue": torch.ones(2, 3)}, "arch": "resnet50"})
    backbone, loaded = start(path, model)
    assert all(torch.equal(value, state[key]) for key, value in backbone.body.state_dict().items())
    assert loaded.count_matched == len(state)
    assert loaded.notes == ("the file is for model.last_stride=2",)


def test_settings_that_no_tensor_shows_are_named(tmp_path):
    model = narrow_resnet(last_stride=1)
    state = {f"base.{k}": v for k, v in backbone_of(model).body.state_dict().items()}
    path = save(tmp_path, state | {"bottleneck.running_mean": torch.ones(128), "classifier.weight": torch.ones(2, 128)})
    assert start(path, model)[1].notes == ('the file is for model.architecture.stem_activation="none"',)


def test_a_file_for_another_network_names_its_settings(tmp_path):
    state = {f"base.{k}": v for k, v in backbone_of(narrow_resnet()).body.state_dict().items()}
    path = save(tmp_path, state | {"bottleneck.running_mean": torch.ones(128)})
    with pytest.raises(UserError, match=r"does not fit the backbone: .*; the file is for model.backbone=resnet50, "):
        start(path, narrow_resnet("resnet101"))


def test_a_model_file_of_this_program_is_a_start(tmp_path):
    settings = ModelSettings(backbone="osnet_x0_25", architecture={"width": 0.5}, neck="none")
    embedder = Embedder(settings, InputSettings(size=SIZE))
    save_embedder(embedder, tmp_path / "model.safetensors", recipe="")
    backbone, loaded = start(tmp_path / "model.safetensors", settings)
    assert torch.equal(backbone.body.conv1.conv.weight, embedder.backbone.body.conv1.conv.weight)
    assert not loaded.notes
    with pytest.raises(
        UserError, match=re.escape("the file is for model.backbone=osnet_x0_25, model.architecture.width=0.5")
    ):
        start(tmp_path / "model.safetensors", ModelSettings(backbone="osnet_x0_25"))


def test_a_file_of_no_family_is_loaded_as_before(tmp_path):
    state = make_backbone("test_resnet", SIZE).body.state_dict()
    model = ModelSettings(backbone="test_resnet")
    assert start(save(tmp_path, {f"body.{k}": v for k, v in state.items()}), model)[1].count_matched == len(state)
