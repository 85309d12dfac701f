"""OSNet: torchreid's names, shapes and numbers, the last two made by its own code from weights by rule."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.backbones import load_backbone, make_backbone
from passerby.models.embedder import Embedder, ModelSettings, load_embedder, save_embedder
from passerby.models.osnet import OSNETS, AggregationGate, OSNet
from passerby.models.pooling import Pool
from passerby.types import Inputs
from tests.models.rule import check, drawn, ruled

given = Inputs.of_images

KNOWN = json.loads((Path(__file__).parents[1] / "oracles_data" / "osnet.json").read_text())["nets"]
SIZE = (64, 32)
INPUT = InputSettings(size=SIZE)
SMALL, SEARCHED = "osnet_x0_25", "osnet_ain_x0_25"


def images(count=3):
    return torch.randint(256, (count, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def digest(state):
    lines = [f"{key} {tuple(value.shape)}" for key, value in sorted(state.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_every_published_osnet_is_there():
    assert set(OSNETS) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_networks_have_the_known_names_shapes_and_numbers(name):
    wanted, network = KNOWN[name], OSNet(OSNETS[name])
    assert sum(p.numel() for p in network.parameters()) == wanted["n_params"]
    assert len(network.state_dict()) == wanted["n_tensors"]
    assert digest(network.state_dict()) == wanted["keys_sha256"]
    with torch.inference_mode():
        featuremap = ruled(network).forward_features(drawn(2, 2, 3, *SIZE))
        check(featuremap, wanted["map"])
        check(network.fc(featuremap.mean(dim=(2, 3))), wanted["feature"])


def test_all_streams_of_a_block_share_their_gate():
    gate, x = ruled(AggregationGate(32)), drawn(3, 2, 32, 4, 2)
    averages = x.mean(dim=(2, 3))
    hidden = (averages @ gate.fc1.weight[:, :, 0, 0].T + gate.fc1.bias).clamp(min=0)
    weights = torch.sigmoid(hidden @ gate.fc2.weight[:, :, 0, 0].T + gate.fc2.bias)
    torch.testing.assert_close(gate(x), x * weights[:, :, None, None])
    block = OSNet(OSNETS[SMALL]).conv2[0]
    calls = []
    block.gate.register_forward_hook(lambda *_: calls.append(1))
    block(torch.zeros(1, 16, 8, 4))
    assert len(calls) == 4


@pytest.mark.parametrize("name", [SMALL, SEARCHED, "osnet_ibn_x1_0"])
def test_a_published_file_gives_the_published_feature(name, tmp_path):
    published = ruled(OSNet(OSNETS[name])).float()
    classifier = {"classifier.weight": torch.zeros(751, 512), "classifier.bias": torch.zeros(751)}
    state = {f"module.{k}": v for k, v in (published.state_dict() | classifier).items()}
    torch.save({"state_dict": state, "epoch": 60}, tmp_path / "published.pth.tar")
    settings = ModelSettings(backbone=name, weights=str(tmp_path / "published.pth.tar"))
    embedder = Embedder(settings, INPUT).eval()
    assert str(embedder.loaded) == f"{KNOWN[name]['n_tensors']} tensors match"
    with torch.inference_mode():
        out = embedder(given(images()))
        featuremap = published.forward_features(embedder.normalise(images()))
        assert torch.equal(out.map, featuremap)
        assert torch.equal(out.before_neck, published.fc(featuremap.mean(dim=(2, 3))))


@pytest.mark.parametrize("pool", ["max", "avg_max", "gem", "gem_learned"])
def test_every_pooling_goes_before_the_head(pool):
    embedder = Embedder(ModelSettings(backbone=SMALL, pool=pool), INPUT).eval()
    with torch.inference_mode():
        out = embedder(given(images()))
        assert torch.equal(out.before_neck, embedder.backbone.body.fc(Pool(pool)(out.map)))
    assert out.map.shape == (3, 128, 4, 2)
    assert out.before_neck.shape == out.after_neck.shape == (3, 512)
    assert embedder.dimension == 512


@pytest.mark.parametrize("name", [SMALL, SEARCHED])
def test_all_of_it_learns_copies_and_comes_back_from_one_file(name, tmp_path):
    embedder = Embedder(ModelSettings(backbone=name), INPUT)
    out = embedder(given(images()))
    (out.after_neck.square().mean() + out.before_neck.mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in embedder.parameters() if p.requires_grad)
    save_embedder(embedder, tmp_path / "e.safetensors", recipe="")
    twin, loaded = copy.deepcopy(embedder).eval(), load_embedder(tmp_path / "e.safetensors")
    embedder.eval()
    with torch.inference_mode():
        for other in (twin, loaded):
            assert torch.equal(other(given(images())).after_neck, embedder(given(images())).after_neck)
        torch.testing.assert_close(
            embedder(given(images()[:1])).after_neck,
            loaded(given(images())).after_neck[:1],
            atol=1e-4,
            rtol=0,
        )


def test_vectors_are_float32_under_autocast():
    embedder = Embedder(ModelSettings(backbone=SMALL), INPUT)
    with torch.autocast("cpu", torch.bfloat16):
        out = embedder(given(images()))
    assert out.before_neck.dtype == out.after_neck.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"last_stride": 1}, r"model\.last_stride: 1 is for the ResNet family; 'osnet_x0_25' has no such stride"),
        ({"ibn": "a"}, r"model\.ibn: an OSNet has its .* choose one of osnet_ibn_x1_0, osnet_ain_x1_0, "),
        ({"attention": "se"}, r"model\.attention: only ResNets .* 'osnet_x0_25' has none, leave it at 'none'"),
        ({"non_local": "half"}, r"model\.non_local: only ResNets .* 'osnet_x0_25' has none, leave it at 'none'"),
        ({"stem_pool": "fastreid"}, r"model\.stem_pool: only ResNets .* leave it at 'torchvision'"),
        ({"weights": "pretrained"}, r"torchreid publishes the weights of 'osnet_x0_25' as a file; fetch it and set"),
    ],
)
def test_what_an_osnet_has_no_place_for_is_told(change, sentence):
    with pytest.raises(UserError, match=sentence):
        Embedder(ModelSettings(backbone=SMALL, **change), INPUT)


@pytest.mark.parametrize("size", [(16, 8), (8, 64)])
def test_a_size_that_is_too_small_is_told(size):
    with pytest.raises(UserError, match=r"'osnet_x0_25' cannot take images of input\.size"):
        make_backbone(SMALL, size)


@pytest.mark.parametrize(
    ("written", "read", "sentence"),
    [
        (
            SMALL,
            "osnet_x0_5",
            r"\d+ of another shape \(conv1\.conv\.weight \(16, 3, 7, 7\) instead of",
        ),
        (SMALL, SEARCHED, r"\d+ missing \(conv2\.0\.conv2\.0\.layers\.0\.conv1\.weight"),
        (SEARCHED, SMALL, r"the file was written with instance norms \(model\.ibn, or an OSNet that has them\)"),
        (
            "osnet_ibn_x1_0",
            "osnet_x1_0",
            r"2 missing \(conv1\.bn\.running_mean, .*; the file was written with instance norms",
        ),
    ],
)
def test_a_file_of_another_osnet_is_told(tmp_path, written, read, sentence):
    torch.save(OSNet(OSNETS[written]).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=sentence):
        load_backbone(make_backbone(read, SIZE), tmp_path / "w.pth")


def test_a_file_without_the_layer_after_the_pooling_is_told(tmp_path):
    state = {k: v for k, v in OSNet(OSNETS[SMALL]).state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"tensors match; 6 missing \(fc\.0\.weight, fc\.0\.bias"):
        load_backbone(make_backbone(SMALL, SIZE), tmp_path / "w.pth")


def test_a_plain_file_leaves_new_instance_norms_as_they_were(tmp_path):
    torch.save(OSNet(OSNETS["osnet_x1_0"]).state_dict(), tmp_path / "w.pth")
    loaded = load_backbone(make_backbone("osnet_ibn_x1_0", SIZE), tmp_path / "w.pth")
    norms = ("conv1.bn", "conv2.0.IN", "conv2.1.IN")
    assert set(loaded.kept) == {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    assert loaded.unused[:2] == ("conv1.bn.bias", "conv1.bn.num_batches_tracked")
