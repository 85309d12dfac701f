"""The vision transformer of re-identification against independent figures, timm's network, and its own settings."""

import json

import numpy as np
import pytest
import timm
import torch

from passerby.errors import UserError
from passerby.models.jigsaw import JigsawSettings, deal_out, jigsaw_order
from passerby.models.layers import layer_scales
from passerby.models.positions import patch_grid, published_grid, resize_positions
from passerby.models.side_information import SideInformation
from passerby.models.vit import VisionTransformer, VitSettings
from passerby.settings import build
from tests.models.tiny_transformers import DATA, ORACLE, drawn, oracle_images

PARTS = json.loads((DATA / "sie_jpm.json").read_text())
UNKNOWN = torch.tensor([-1, -1])


def tiny(size=(64, 32), cameras=0, **settings):
    torch.manual_seed(0)
    network = VisionTransformer(VitSettings(width=16, depth=3, heads=2, cameras=cameras > 0, **settings), size)
    if cameras:
        network.add_side_information(cameras)
    return network


def test_grids():
    for row in PARTS["grids"]:
        grid = patch_grid((row["H"], row["W"]), patch=16, stride=row["stride"])
        assert grid == (row["rows"], row["cols"])


@pytest.mark.parametrize(
    ("key", "old", "new"), [("square_3x3_to_5x2", (3, 3), (5, 2)), ("hw_ratio2_4x2_to_6x2", (4, 2), (6, 2))]
)
def test_positions_are_resized_as_published(key, old, new):
    table, resized = (torch.tensor(PARTS["pos_resize"][key][name])[1:] for name in ("pos_embed", "out"))
    assert published_grid(len(table)) == old
    torch.testing.assert_close(resize_positions(table, old, new), resized)


@pytest.mark.parametrize(
    ("name", "count", "groups"), [("n12_group2", 12, 2), ("n16_group2", 16, 2), ("n11_group2", 11, 2)]
)
def test_the_jigsaw_order_is_the_published_one(name, count, groups):
    order = jigsaw_order(count, JigsawSettings(groups=groups))
    assert order.tolist() == PARTS["jpm_order"][name]["parts_public_code"]


def test_the_jigsaw_order_of_overlapping_patches():
    expected = PARTS["jpm_order"]["n210_group2_stride12"]
    order = jigsaw_order(210, JigsawSettings())
    assert order.flatten().tolist()[:8] == expected["first8"]
    assert sorted(order[0].tolist()) == expected["part0_set"]
    assert [len(part) for part in order] == expected["part_sizes"]
    assert set(range(210)) - set(order.flatten().tolist()) == set(expected["dropped"])


@pytest.mark.parametrize(
    ("count", "settings", "reason"),
    [
        (3, {}, "3 patches cannot be dealt out to 4 parts"),
        (13, {"groups": 3}, "13 patches cannot be cut into 3 groups"),
    ],
)
def test_patches_that_the_jigsaw_does_not_suit_are_told(count, settings, reason):
    with pytest.raises(UserError, match=f"jigsaw: {reason}"):
        jigsaw_order(count, JigsawSettings(**settings))


def test_each_branch_begins_with_the_class_token():
    tokens = torch.arange(2 * 5).reshape(2, 5, 1)
    dealt = deal_out(tokens, torch.tensor([[3, 0], [1, 2]]))
    assert dealt[..., 0].tolist() == [[0, 4, 1], [5, 9, 6], [0, 2, 3], [5, 7, 8]]


def test_side_information_of_cameras_is_added_to_every_token():
    expected = PARTS["sie"]
    table = torch.tensor(expected["table"])
    side = SideInformation(3, cameras=len(table), views=0, coefficient=expected["coefficient"])
    side.load_state_dict({"pairs.weight": table})
    tokens = torch.tensor(expected["tokens"]) + torch.tensor(expected["pos_embed"])
    found = tokens + side(torch.tensor(expected["camera"]), None)[:, None]
    torch.testing.assert_close(found, torch.tensor(expected["transreid_all_tokens"]))
    found.sum().backward()
    torch.testing.assert_close(side.pairs.weight.grad, torch.tensor(expected["grad_table_of_sum_transreid"]))


def test_side_information_of_cameras_and_viewpoints():
    expected = PARTS["sie"]["camera_and_view"]
    table, views = torch.tensor(expected["table_6_rows"]), expected["n_views"]
    side = SideInformation(3, cameras=2, views=views, coefficient=1.0)
    side.load_state_dict({"pairs.weight": table.reshape(2, -1)})
    cam, view = torch.tensor(expected["camera"]), torch.tensor(expected["view"])
    torch.testing.assert_close(side(cam, view), table[expected["index"]])
    assert [int(c * views + v) for c, v in zip(cam, view, strict=True)] == expected["index"]
    torch.testing.assert_close(side(torch.tensor([1]), torch.tensor([-1])), table[3:].mean(0, keepdim=True))
    torch.testing.assert_close(side(torch.tensor([-1]), None), table.mean(0, keepdim=True))
    torch.testing.assert_close(side(torch.tensor([-1]), torch.tensor([2])), table[[2, 5]].mean(0, keepdim=True))


@pytest.mark.parametrize("name", ["transreid_jpm_even_18_patches", "transreid_jpm_odd_15_patches"])
def test_jigsaw_and_cameras_against_independent_figures(name):
    oracle, shapes = ORACLE[name], ORACLE["transreid_jpm_even_18_patches"]["keys"]
    given = oracle["settings"]
    settings = VitSettings(
        width=given["dim"], depth=given["depth"], heads=given["heads"], mlp_ratio=float(given["mlp_ratio"]),
        patch=given["patch"], stride=given["stride"], cameras=True, jigsaw=JigsawSettings(),
    )  # fmt: skip
    network = VisionTransformer(settings, tuple(given["image"]))
    network.add_side_information(given["cameras"])
    network = network.double().eval()
    shapes = shapes | {"base.pos_embed": [1, 1 + network.grid[0] * network.grid[1], given["dim"]]}
    state = {key.removeprefix("base."): drawn(key, shape) for key, shape in shapes.items() if "neck" not in key}
    state["sie_embed.pairs.weight"] = state.pop("sie_embed")[:, 0]
    network.load_state_dict(state)
    with torch.inference_mode():
        _, vector = network(oracle_images(given, 2), torch.tensor(oracle["camera"]))
    np.testing.assert_allclose(vector.numpy(), oracle["before_neck"], rtol=1e-6, atol=1e-7)
    for key in (key for key in oracle if key.startswith("WRONG")):
        assert np.abs(vector[0].numpy() - oracle[key]).max() > 1e-3


def test_the_plain_network_is_that_of_timm():
    other = timm.create_model("test_vit", num_classes=0, img_size=(64, 32)).eval()
    settings = VitSettings(width=64, depth=6, heads=2, mlp_ratio=3.0)
    network = VisionTransformer(settings, (64, 32)).eval()
    network.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = other.forward_features(images)
        featuremap, vector = network(images, UNKNOWN)
    torch.testing.assert_close(vector, tokens[:, 0], atol=5e-6, rtol=0)
    torch.testing.assert_close(featuremap.flatten(2).transpose(1, 2), tokens[:, 1:], atol=5e-6, rtol=0)


@pytest.mark.parametrize(("settings", "dimension"), [
    ({}, 16), ({"pool": "mean"}, 16), ({"pool": "gem"}, 16), ({"part_tokens": 3}, 32),
    ({"part_tokens": 3, "fusion": "mean"}, 16), ({"jigsaw": JigsawSettings()}, 80),
    ({"jigsaw": JigsawSettings(parts=2)}, 48), ({"stem": "ics"}, 16), ({"stride": 12}, 16),
])  # fmt: skip
def test_every_parameter_has_a_gradient_and_a_layer(settings, dimension):
    network = tiny(cameras=0 if "part_tokens" in settings else 2, **settings)
    featuremap, vector = network(torch.randn(2, 3, 64, 32), torch.tensor([0, 1]))
    assert featuremap.shape == (2, 16, *network.grid)
    assert vector.shape == (2, dimension) == (2, network.dimension)
    vector.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    scales = layer_scales(network, 0.5)
    assert scales.keys() == dict(network.named_parameters()).keys()
    assert (scales["cls_token"], scales["blocks.0.norm1.weight"], scales["blocks.1.norm1.weight"]) == (
        1 / 16,
        1 / 8,
        1 / 4,
    )
    last = [name for name in scales if name.startswith(("norm", "b1", "b2", "blocks.2", "gem"))]
    assert {scales[name] for name in last} == {0.5}


def test_an_unknown_camera_has_the_mean_of_the_embeddings():
    network = tiny(cameras=2).eval()
    images = torch.randn(1, 3, 64, 32).expand(3, -1, -1, -1)
    with torch.inference_mode():
        _, (unknown, first, second) = network(images, torch.tensor([-1, 0, 1]))
        network.sie_embed.pairs.weight.copy_(network.sie_embed.pairs.weight.mean(0).expand(2, -1))
        _, (mean, *_) = network(images, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(unknown, mean, atol=5e-6, rtol=0)
    assert (first - second).abs().max() > 1e-3


def test_viewpoints_alone():
    network = tiny(views=2).eval()
    images = torch.randn(1, 3, 64, 32).expand(2, -1, -1, -1)
    with torch.inference_mode():
        _, (first, second) = network(images, UNKNOWN, torch.tensor([0, 1]))
    assert (first - second).abs().max() > 1e-3


def test_stochastic_depth_drops_branches_in_training_alone():
    network = tiny(drop_path=0.5)
    images = torch.randn(1, 3, 64, 32).expand(32, -1, -1, -1)
    cam = torch.full((32,), -1)
    assert [getattr(block.drop_path, "drop_prob", 0.0) for block in network.blocks] == [0.0, 0.25, 0.5]
    assert network(images, cam)[1].std(dim=0).max() > 1e-4
    assert network.eval()(images, cam)[1].std(dim=0).max() < 1e-5


@pytest.mark.parametrize(("settings", "reason"), [
    ({"width": 10, "heads": 3}, "heads must divide width 10, got 3"),
    ({"stride": 20}, "stride 20 is above patch 16"),
    ({"stem": "ics", "stride": 12}, "stem: ics makes patches of 16 pixels that do not overlap"),
    ({"pool": "mean", "jigsaw": {}}, "pool: mean has no effect with jigsaw"),
    ({"part_tokens": 3, "cameras": True}, "part_tokens exclude jigsaw, cameras and views"),
    ({"jigsaw": {}, "depth": 1}, "jigsaw replaces the last block"),
    ({"fusion": "mean"}, "fusion has no effect without part_tokens"),
    ({"head": 3}, "unknown key head; did you mean 'heads'"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_told(settings, reason):
    with pytest.raises(UserError, match=reason):
        build(VitSettings, settings, source="model.architecture")


def test_an_image_smaller_than_a_patch_is_told():
    with pytest.raises(UserError, match=r"input.size \(8, 32\) is smaller than a patch of 16 pixels"):
        tiny(size=(8, 32))
