"""What every embedder must hold to, over families of backbones."""

from itertools import product

import pytest
import torch

from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, load_embedder, save_embedder
from passerby.types import CameraTable, Inputs
from tests.test_recipes import tiny_bottlenecks

given = Inputs.of_images

SIZE = (64, 32)
FAMILIES = {
    "resnet18": (4, 2),
    "resnet50": (4, 2),
    "test_resnet": (4, 2),
    "test_vit": (4, 2),
    "vit_tiny_patch16_224": (4, 2),
    "test_convnext": (2, 1),
    "test_efficientnet": (2, 1),
    "mobilenetv3_small_050": (2, 1),
    "swin_tiny_patch4_window7_224": (2, 1),
    "osnet_x0_25": (4, 2),
    "osnet_ain_x0_25": (4, 2),
    "vit plain": (4, 2),
    "vit cameras, jigsaw, overlapping": (5, 2),
    "vit part tokens": (4, 2),
    "vit stem": (4, 2),
    "clip_vit cameras": (4, 2),
    "swin plain": (8, 4),
    "swin semantic": (8, 4),
}
"""Backbone and the map that it makes of 64 x 32 pixels, ResNets with last stride 1."""
SMALL = {"width": 16, "depth": 2, "heads": 2}
ARCHITECTURES = {
    "vit plain": {**SMALL, "pool": "gem", "drop_path": 0.1},
    "vit cameras, jigsaw, overlapping": {**SMALL, "cameras": True, "jigsaw": {}, "stride": 12},
    "vit part tokens": {**SMALL, "part_tokens": 3},
    "vit stem": {**SMALL, "stem": "ics"},
    "clip_vit cameras": {**SMALL, "cameras": True, "projection": 8},
    "swin plain": {"width": 4, "depths": [2, 2], "heads": [1, 2], "drop_path": 0.1},
    "swin semantic": {"width": 4, "depths": [2, 2], "heads": [1, 2], "semantic_weight": 0.2},
}
"""Settings of families whose names leave something open."""
CAMERAS = CameraTable(("market1501",), ((1, 2, 3),))

every_family = pytest.mark.parametrize("name", FAMILIES)


def make(name, *, neck="bnneck", seed=0):
    torch.manual_seed(seed)
    stride = 1 if "resnet" in name else 2
    settings = ModelSettings(
        backbone=name.split()[0], architecture=ARCHITECTURES.get(name, {}), last_stride=stride, neck=neck
    )
    return Embedder(settings, InputSettings(size=SIZE), cameras=CAMERAS)


def images(count=3, dtype=torch.uint8):
    return torch.randint(256, (count, 3, *SIZE), generator=torch.Generator().manual_seed(0)).to(dtype)


@every_family
def test_shapes_gradients_and_one_file(name, tmp_path):
    embedder = make(name)
    out = embedder(given(images()))
    assert out.before_neck.shape == out.after_neck.shape == (3, embedder.dimension)
    assert out.map.shape == (3, embedder.backbone.channels, *FAMILIES[name])
    assert out.stripes is None
    (out.after_neck.square().mean() + out.before_neck.mean()).backward()
    without = [n for n, p in embedder.named_parameters() if p.requires_grad and p.grad is None]
    assert all("head" in n for n in without)  # what some families keep between their map and their classifier
    assert all(torch.isfinite(p.grad).all() for p in embedder.parameters() if p.grad is not None)

    save_embedder(embedder, tmp_path / "e.safetensors", recipe="description: a run")
    loaded = load_embedder(tmp_path / "e.safetensors")
    assert not loaded.training
    assert (loaded.settings, loaded.input) == (embedder.settings, embedder.input)
    embedder.eval()
    with torch.inference_mode():
        one, other = embedder(given(images())), loaded(given(images()))
    assert torch.equal(one.before_neck, other.before_neck)
    assert torch.equal(one.after_neck, other.after_neck)
    assert torch.equal(one.map, other.map)


@every_family
def test_an_image_does_not_look_at_its_neighbours(name):
    embedder = make(name).eval()
    with torch.inference_mode():
        alone, together = embedder(given(images()[:1])), embedder(given(images()))
    torch.testing.assert_close(alone.after_neck, together.after_neck[:1], atol=1e-4, rtol=1e-4)


IBN = ("none", "a", "b")
ATTENTION = ("none", "se")
NON_LOCAL = ("none", "half", "single")
RUN = [(tiny_bottlenecks.__name__, *blocks) for blocks in product(IBN, ATTENTION, ("none",))] + [
    (tiny_bottlenecks.__name__, "a", "se", "half"),
    (tiny_bottlenecks.__name__, "b", "none", "single"),
    ("resnet18", "a", "se", "none"),
]
"""Blocks that are run for their numbers."""
DRAWN = [
    *[("resnet50", ibn, ATTENTION[number % 2], place) for number, (ibn, place) in enumerate(product(IBN, NON_LOCAL))],
    *[("resnet101", *blocks, "none") for blocks in (("a", "se"), ("b", "none"))],
    *[("resnext101_32x8d", *blocks, "none") for blocks in (("a", "none"), ("b", "se"))],
    *[("resnet34", ibn, "se", "none") for ibn in ("a", "b")],
    *[(name, "a", "se", "half") for name in ("resnet152", "resnext101_32x8d")],
    ("resnext50_32x4d", "b", "se", "single"),
]
"""Blocks whose shapes and names alone are looked at, without memory or arithmetic."""
LARGE = ("resnet101", "resnext101_32x8d", "resnet152")
"""Their blocks are those of smaller ResNets, more of them."""
PEOPLE_SIZE = (256, 128)
WHOLE = {
    **dict.fromkeys(("osnet_x1_0", "osnet_ibn_x1_0", "osnet_ain_x1_0"), (512, 16, 8)),
    "vit_base_patch16_224": (768, 16, 8),
    "vit_small_patch14_dinov2": (384, 18, 9),
    "convnext_tiny": (768, 8, 4),
    "swin_tiny_patch4_window7_224": (768, 8, 4),
}
"""Backbones at the size of people, the length of their vectors and their map; only shapes are looked at."""


def make_with_blocks(name, ibn, attention, non_local):
    settings = ModelSettings(
        backbone=name, last_stride=1, ibn=ibn, attention=attention, non_local=non_local, pool="gem_learned"
    )
    return Embedder(settings, InputSettings(size=SIZE))


@pytest.mark.parametrize("blocks", RUN, ids="-".join)
def test_blocks_learn_and_come_back_from_one_file(blocks, tmp_path):
    embedder = make_with_blocks(*blocks)
    out = embedder(given(images()))
    assert out.map.shape == (3, embedder.dimension, 4, 2)
    (out.after_neck.square().mean() + out.before_neck.mean()).backward()
    learning = [p for p in embedder.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)

    save_embedder(embedder, tmp_path / "e.safetensors", recipe="")
    loaded = load_embedder(tmp_path / "e.safetensors")
    embedder.eval()
    with torch.inference_mode():
        one, other, alone = (
            embedder(given(images())),
            loaded(given(images())),
            embedder(given(images()[:1])),
        )
    assert torch.equal(one.after_neck, other.after_neck)
    torch.testing.assert_close(one.after_neck[:1], alone.after_neck, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "blocks",
    [pytest.param(each, id="-".join(each), marks=pytest.mark.slow if each[0] in LARGE else ()) for each in DRAWN],
)
def test_blocks_fit_into_every_resnet(blocks):
    with torch.device("meta"):
        embedder = make_with_blocks(*blocks)
        out = embedder(given(torch.zeros(3, 3, *SIZE)))
    assert out.map.shape == (3, embedder.dimension, 4, 2)
    out.after_neck.sum().backward()
    assert all(p.grad is not None for p in embedder.parameters() if p.requires_grad)
    kinds = {part for key in embedder.state_dict() for part in key.split(".")} & {"IN", "BN", "se", "NL"}
    _, ibn, attention, non_local = blocks
    assert kinds == {
        *({"none": (), "a": ("IN", "BN"), "b": ("IN",)}[ibn]),
        *(("se",) if attention == "se" else ()),
        *(("NL",) if non_local != "none" else ()),
    }


@pytest.mark.parametrize("name", WHOLE)
def test_backbones_take_a_step_at_the_size_of_people(name):
    size = (252, 126) if "patch14" in name else PEOPLE_SIZE
    with torch.device("meta"):
        embedder = Embedder(ModelSettings(backbone=name), InputSettings(size=size))
        out = embedder(given(torch.zeros(2, 3, *size)))
        optimiser = torch.optim.SGD(embedder.parameters(), lr=0.1)
    dimension, *grid = WHOLE[name]
    assert (*out.before_neck.shape, *out.map.shape[2:]) == (2, dimension, *grid)
    out.after_neck.sum().backward()
    optimiser.step()
    without = [n for n, p in embedder.named_parameters() if p.requires_grad and p.grad is None]
    assert all("head" in n or "mask_token" in n for n in without)
