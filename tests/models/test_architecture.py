"""Networks with settings of their own: ResNets of published code, MGN, CLIP's ResNet."""

import pytest
import torch

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.backbones import make_backbone
from passerby.models.embedder import Embedder, ModelSettings, load_embedder, save_embedder
from passerby.models.mgn import MGN_HEADS
from passerby.models.resnet import ResnetArchitecture
from passerby.models.timm_backbone import TimmBackbone
from passerby.types import Inputs

SIZE = (96, 32)
NETWORKS = {
    "resnet": ModelSettings(backbone="resnet18", architecture={"width": 4, "fc": 10, "stem_activation": "none"}),
    "caffe": ModelSettings(backbone="resnet50", architecture={"width": 4, "stride_in": "conv1", "gates": "conv"}),
    "osnet": ModelSettings(backbone="osnet_x1_0", architecture={"width": 0.25}),
    "mgn": ModelSettings(backbone="mgn_resnet50", ibn="a", architecture={"width": 4, "part": 6, "map_norms": True}),
    "clip": ModelSettings(backbone="clip_resnet50", architecture={"width": 4, "heads": 2, "projection": 7}),
}
DIMENSIONS = {"resnet": 10, "caffe": 128, "osnet": 512, "mgn": 48, "clip": 128 + 7}


def embedder_of(name):
    torch.manual_seed(0)
    return Embedder(NETWORKS[name], InputSettings(size=SIZE))


def images(count=4):
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_gradients_and_a_round_trip(name, tmp_path):
    embedder = embedder_of(name)
    output = embedder(Inputs.of_images(images()))
    assert output.before_neck.shape == output.after_neck.shape == (4, DIMENSIONS[name])
    assert output.map.shape[:2] == (4, embedder.backbone.channels)
    (output.after_neck * torch.randn(4, DIMENSIONS[name])).sum().backward()
    without = [key for key, value in embedder.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    save_embedder(embedder, tmp_path / "model.safetensors", recipe="")
    loaded = load_embedder(tmp_path / "model.safetensors")
    assert loaded.settings == NETWORKS[name]
    with torch.inference_mode():
        first, second = (model(Inputs.of_images(images())).after_neck for model in (embedder.eval(), loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_does_not_see_its_neighbours(name):
    embedder = embedder_of(name).eval()
    with torch.inference_mode():
        whole = embedder(Inputs.of_images(images())).after_neck
        alone = embedder(Inputs.of_images(images()[1:2])).after_neck
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-4)


def test_the_stripes_of_mgn_see_their_rows_only():
    body = make_backbone("mgn_resnet50", SIZE, architecture={"width": 4, "part": 6}, last_stride=1).body.eval()
    seen = {}
    for part in MGN_HEADS:
        body.parts[part].register_forward_hook(lambda module, args, out, part=part: seen.update({part: args[0]}))
    with torch.inference_mode():
        body(torch.randn(1, 3, *SIZE))
    assert [seen[part].shape[2] for part in MGN_HEADS] == [6, 6, 6, 3, 3, 2, 2, 2]
    assert torch.equal(torch.cat([seen["b31"], seen["b32"], seen["b33"]], dim=2), seen["b3"])
    assert torch.equal(torch.cat([seen["b21"], seen["b22"]], dim=2), seen["b2"])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("osnet_x1_0", {"widths": 1}, "model.architecture: unknown key widths; did you mean 'width'"),
        ("resnet18", {"stride_in": "conv1"}, "model.architecture.stride_in: 'resnet18' has no bottlenecks"),
        ("test_convnext", {"width": 32}, "these settings are for plain ResNets of timm; 'test_convnext' is none"),
        ("resnet50d", {"stem_activation": "none"}, "for plain ResNets of timm; 'resnet50d' is none"),
        ("clip_resnet50", {"heads": 3}, "model.architecture.heads: 3 do not divide 2048 channels"),
    ],
)
def test_settings_without_a_place_are_refused(name, options, told):
    with pytest.raises(UserError, match=told):
        make_backbone(name, SIZE, architecture=options)


def test_an_image_too_low_for_three_stripes_is_refused():
    with pytest.raises(UserError, match="its map is 2 rows high, which cannot be cut into 3 stripes"):
        make_backbone("mgn_resnet50", (32, 32), architecture={"width": 4})


def test_weights_of_timm_are_for_its_own_network():
    with pytest.raises(UserError, match="'mgn_resnet50' comes without pretrained weights"):
        make_backbone("mgn_resnet50", SIZE, pretrained=True)
    with pytest.raises(UserError, match="timm's weights of 'resnet18' are for its own network"):
        TimmBackbone.build_as("resnet18", SIZE, ResnetArchitecture(width=4), pretrained=True)
