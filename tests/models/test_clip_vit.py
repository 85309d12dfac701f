"""The image tower of CLIP against independent figures."""

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.models.clip_vit import ClipVisionTransformer, ClipVitSettings
from passerby.models.layers import layer_scales
from passerby.settings import build
from tests.models.tiny_transformers import ORACLE, drawn, oracle_images

CLIP = ORACLE["clip_visual"]


def oracle_tower(cameras=0):
    given = CLIP["settings"]
    settings = ClipVitSettings(
        width=given["width"], depth=given["layers"], heads=given["heads"], projection=given["output_dim"],
        patch=given["patch"], stride=given["stride"], cameras=cameras > 0,
    )  # fmt: skip
    tower = ClipVisionTransformer(settings, tuple(given["image"]))
    shapes = dict(CLIP["keys"])
    for number in range(1, given["layers"]):
        shapes |= {
            key.replace("resblocks.0.", f"resblocks.{number}."): shape
            for key, shape in CLIP["keys"].items()
            if "resblocks.0." in key
        }
    state = {key: drawn(key, shape) for key, shape in shapes.items()}
    if cameras:
        tower.add_side_information(cameras)
        state["cv_embed.pairs.weight"] = torch.tensor(CLIP["camera_vector"])
    tower = tower.double().eval()
    tower.load_state_dict(state)
    return tower


@pytest.mark.parametrize("cameras", [0, 2])
def test_features_against_independent_figures(cameras):
    tower, prefix = oracle_tower(cameras), "with_camera_" if cameras else ""
    images, cam = oracle_images(CLIP["settings"], 6), torch.tensor([0, 1])
    with torch.inference_mode():
        before, _ = tower.tokens(images, cam)
        featuremap, vector = tower(images, cam)
    after, projected = vector.split([8, 6], dim=1)
    for found, key in ((before[:, 0], "f_block11"), (after, "f_ln_post"), (projected, "f_proj")):
        np.testing.assert_allclose(found.numpy(), CLIP[f"{prefix}{key}"], rtol=1e-6, atol=1e-7)
    assert featuremap.shape == (2, 8, *CLIP["settings"]["grid"])
    assert np.abs(projected[0].numpy() - CLIP["WRONG_exact_gelu_f_proj_row0"]).max() > 1e-3


def test_every_parameter_has_a_gradient_and_a_layer():
    tower = oracle_tower(2).train()
    _, vector = tower(oracle_images(CLIP["settings"], 6), torch.tensor([0, -1]))
    vector.square().sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None] == []
    scales = layer_scales(tower, 0.5)
    assert scales.keys() == dict(tower.named_parameters()).keys()
    assert scales["conv1.weight"] == scales["cv_embed.pairs.weight"] == 0.5**13
    assert scales["proj"] == scales["transformer.resblocks.11.ln_1.weight"] == 0.5


@pytest.mark.parametrize(("settings", "reason"), [
    ({"width": 10, "heads": 3}, "heads must divide width 10, got 3"),
    ({"stride": 20}, "stride 20 is above patch 16"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_told(settings, reason):
    with pytest.raises(UserError, match=reason):
        build(ClipVitSettings, settings, source="model.architecture")


def test_an_image_smaller_than_a_patch_is_told():
    with pytest.raises(UserError, match=r"input.size \(8, 32\) is smaller than a patch of 16 pixels"):
        ClipVisionTransformer(ClipVitSettings(width=8, heads=2, depth=1), (8, 32))
