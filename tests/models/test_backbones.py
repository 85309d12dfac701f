"""Backbones: maps, the last stride, and weights files that fit or are refused."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from passerby.errors import UserError
from passerby.models.backbones import Backbone, load_backbone, read_weights

SIZE = (64, 32)


def images(count=2, size=SIZE):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnext50_32x4d", "seresnet50", "test_resnet"])
def test_last_stride_1_doubles_the_map_and_changes_no_weight(name):
    plain, finer = Backbone(name, SIZE), Backbone(name, SIZE, last_stride=1)
    finer.load_state_dict(plain.state_dict())
    assert sum(p.numel() for p in finer.parameters()) == sum(p.numel() for p in plain.parameters())
    assert all(m.dilation in (1, (1, 1)) for m in finer.modules() if isinstance(m, torch.nn.Conv2d))
    plain.eval(), finer.eval()
    with torch.inference_mode():
        coarse, fine = plain(images())[0], finer(images())[0]
    assert coarse.shape == (2, plain.channels, 2, 1)
    assert fine.shape == (2, plain.channels, 4, 2)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_last_stride_that_is_not_there_is_told(name):
    with pytest.raises(UserError, match=f"model.last_stride: 1 is for the ResNet family; '{name}' has no such stride"):
        Backbone(name, SIZE, last_stride=1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnt50", "did you mean 'resnet50'"),
        ("osnet_x10", "did you mean 'osnet_x1_0'"),
        ("osnet_ain_x1_0.market", "did you mean 'osnet_ain_x1_0'"),
        ("????", r"`timm\.list_models\(\)` names all, and the OSNets are osnet_x1_0, osnet_x0_75,"),
    ],
)
def test_an_unknown_name_is_told(name, hint):
    with pytest.raises(UserError, match=rf"'{re.escape(name)}' is not a timm model and not an OSNet; {hint}"):
        Backbone(name, SIZE)


@pytest.mark.parametrize(("name", "size"), [("test_vit", (63, 32)), ("vit_tiny_patch16_224", (10, 10))])
def test_a_size_that_does_not_suit_is_told(name, size):
    with pytest.raises(
        UserError, match=rf"'{name}' cannot take images of input\.size \({size[0]}, {size[1]}\) \("
    ) as caught:
        Backbone(name, size)
    assert "\n" not in str(caught.value)


def test_building_leaves_training_mode_and_statistics_alone():
    backbone = Backbone("test_resnet", SIZE)
    assert all(module.training for module in backbone.modules())
    counted = [v for k, v in backbone.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counted
    assert not any(counted)


@pytest.mark.parametrize("missing", ["nothing", "num_batches_tracked"])
def test_torchvision_weights_fit_and_mean_the_same(tmp_path, missing):
    theirs = torchvision.models.resnet18(weights=None).eval()
    state = {k: v for k, v in theirs.state_dict().items() if missing not in k}
    torch.save(state, tmp_path / "resnet18.pth")
    backbone = Backbone("resnet18", SIZE).eval()
    loaded = load_backbone(backbone, tmp_path / "resnet18.pth")
    assert loaded.unused == ()
    assert loaded.count_matched == len(state) - 2  # the classifier
    with torch.inference_mode():
        x = images()
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = getattr(theirs, name)(x)
        torch.testing.assert_close(backbone(images())[0], x)


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}, lambda s: {"model": s}]
)
def test_wrapped_weights_fit(tmp_path, wrap):
    source, target = Backbone("test_resnet", SIZE), Backbone("test_resnet", SIZE)
    torch.save(wrap(source.body.state_dict()), tmp_path / "w.pt")
    load_backbone(target, tmp_path / "w.pt")
    for one, other in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def state(name="test_resnet"):
    return timm.create_model(name, num_classes=0).state_dict()


def refusal(path, name="test_resnet"):
    backbone = Backbone(name, SIZE)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_backbone(backbone, path)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())  # nothing is loaded by halves
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_tensors_are_told(tmp_path):
    save_file({k: v for k, v in state().items() if not k.startswith("layer4")}, tmp_path / "w.safetensors")
    said = refusal(tmp_path / "w.safetensors")
    assert "w.safetensors does not fit the backbone: " in said
    assert "are missing, 0 have another shape (layer4.0.conv1.weight missing" in said


def test_other_shapes_are_told(tmp_path):
    changed = state()
    first = next(k for k, v in changed.items() if v.ndim == 4)
    changed[first] = torch.zeros(1, 2, 3, 4)
    torch.save(changed, tmp_path / "w.pt")
    assert f"have another shape ({first} (1, 2, 3, 4) instead of" in refusal(tmp_path / "w.pt")


def test_other_tensors_in_the_file_are_reported(tmp_path):
    torch.save(state() | {"extra.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "w.pt")
    assert load_backbone(Backbone("test_resnet", SIZE), tmp_path / "w.pt").unused == ("extra.weight",)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"just text", pickle.dumps(Bomb()), pickle.dumps({"a": 1})])
def test_a_file_that_is_no_weights_is_told_and_never_executed(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert name in refusal(tmp_path / name)
    assert not Path("exploded").exists()


def test_code_inside_a_torch_file_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "bomb": Bomb()}, tmp_path / "w.pt")
    assert "is not a readable weights file" in refusal(tmp_path / "w.pt")
    assert not Path("exploded").exists()


def test_a_missing_file_and_a_file_without_tensors(tmp_path):
    assert "no weights file" in refusal(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no table of named tensors"):
        read_weights(tmp_path / "w.pt")


OFFLINE = """
import time
from passerby.errors import UserError
from passerby.models.backbones import Backbone
begin = time.perf_counter()
try:
    Backbone("resnet50.tv_in1k", (64, 32), pretrained=True)
except UserError as error:
    print(time.perf_counter() - begin, error, sep="|")
"""


def test_pretrained_weights_that_cannot_be_had_are_told_at_once(tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    seconds, said = done.stdout.strip().split("|")
    assert float(seconds) < 1
    assert said.startswith("the pretrained weights of 'resnet50.tv_in1k' are not on this machine and huggingface.co")
    assert "resolve/main/model.safetensors elsewhere and set model.weights to" in said


def test_a_model_without_pretrained_weights_is_told():
    with pytest.raises(
        UserError, match=r"timm has no pretrained weights for 'seresnet18'; set model.weights to a file"
    ):
        Backbone("seresnet18", SIZE, pretrained=True)
