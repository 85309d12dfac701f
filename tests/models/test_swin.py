"""The Swin transformer: windows, shifts and merging against slow rules; its settings."""

import pytest
import torch

from passerby.errors import UserError
from passerby.models.layers import layer_scales
from passerby.models.swin import SwinSettings, SwinTransformer
from passerby.models.swin_blocks import (
    PatchMerging,
    ShiftedWindows,
    from_windows,
    relative_positions,
    shift_mask,
    to_windows,
)
from passerby.settings import build

TINY = {"width": 4, "depths": (2, 2), "heads": (1, 2), "window": 3}


def test_windows_come_back_to_their_places():
    maps = torch.arange(2 * 6 * 9 * 2).reshape(2, 6, 9, 2)
    windows = to_windows(maps, 3)
    assert torch.equal(windows[1], maps[0, :3, 3:6].reshape(9, 2))
    assert torch.equal(from_windows(windows, 3, (6, 9)), maps)


def test_relative_positions_by_a_loop():
    window, table = 3, relative_positions(3)
    for i in range(window**2):
        for j in range(window**2):
            rows, columns = i // window - j // window, i % window - j % window
            assert table[i, j] == (rows + window - 1) * (2 * window - 1) + columns + window - 1


def test_the_shift_mask_keeps_apart_what_the_roll_brought_together():
    size, window, shift = (6, 6), 3, 1
    mask = shift_mask(size, window, shift)
    places = torch.arange(36).reshape(1, 6, 6, 1).roll((-shift, -shift), dims=(1, 2))
    for number, places_of_window in enumerate(to_windows(places, window)[..., 0]):
        rows, columns = places_of_window // 6, places_of_window % 6
        near = ((rows[:, None] - rows).abs() < window) & ((columns[:, None] - columns).abs() < window)
        assert torch.equal(mask[number] == 0, near)


def test_patches_are_merged_channel_by_channel():
    merging = PatchMerging(2)
    seen = []
    merging.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps = torch.arange(12.0).reshape(1, 2, 3, 2)  # a third column without a neighbour
    assert merging(maps).shape == (1, 1, 2, 4)
    assert seen[0].tolist() == [[[[0, 2, 6, 8, 1, 3, 7, 9], [4, 0, 10, 0, 5, 0, 11, 0]]]]


def test_a_map_smaller_than_a_window_is_padded_and_still_shifted():
    torch.manual_seed(0)
    plain, shifted = (ShiftedWindows(4, 2, window=7, shift=shift).eval() for shift in (0, 3))
    shifted.load_state_dict(plain.state_dict())
    maps = torch.randn(1, 4, 2, 4)
    with torch.inference_mode():
        assert plain(maps).shape == shifted(maps).shape == (1, 4, 2, 4)
        assert (plain(maps) - shifted(maps)).abs().max() > 1e-4


@pytest.mark.parametrize("weight", [None, 0.0, 0.2])
def test_every_parameter_has_a_gradient_and_a_layer(weight):
    torch.manual_seed(0)
    network = SwinTransformer(SwinSettings(**TINY, semantic_weight=weight, drop_path=0.1))
    featuremap = network.forward_features(torch.randn(4, 3, 34, 20))
    assert featuremap.shape == (4, 8, 5, 3) == (4, network.num_features, 5, 3)
    featuremap.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    scales = layer_scales(network, 0.5)
    assert scales.keys() == dict(network.named_parameters()).keys()
    assert scales["patch_embed.norm.weight"] < scales["stages.0.blocks.0.norm1.weight"]
    assert scales["stages.0.blocks.1.norm1.weight"] < scales["stages.1.blocks.0.norm1.weight"] < scales["norm1.weight"]


def test_the_semantic_weight_changes_the_map():
    torch.manual_seed(0)
    network = SwinTransformer(SwinSettings(**TINY, semantic_weight=0.2)).eval()
    other = SwinTransformer(SwinSettings(**TINY, semantic_weight=0.9)).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 32, 16)
    with torch.inference_mode():
        assert (network.forward_features(images) - other.forward_features(images)).abs().max() > 1e-3


@pytest.mark.parametrize(("settings", "reason"), [
    ({"depths": [2, 2], "heads": [1, 2, 4]}, "heads and depths must have one number per stage"),
    ({"width": 8, "depths": [2, 2], "heads": [1, 3]}, "heads must divide the width 16 of their stage, got 3"),
    ({"semantic_weight": 1.5}, "semantic_weight"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_told(settings, reason):
    with pytest.raises(UserError, match=reason):
        build(SwinSettings, settings, source="model.architecture")
