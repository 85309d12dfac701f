"""What the tensors of a published vision transformer show: sizes, strides, heads, cameras, necks."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from passerby.errors import UserError
from passerby.published.tensors import FileTensors
from passerby.published.vits import SideChoices, camera_table, count_heads, join_necks, patch_layout, take_neck

GRIDS = json.loads((Path(__file__).parents[1] / "oracles_data" / "sie_jpm.json").read_text())["grids"]


def layout(count, *, stride=None, size=None):
    return patch_layout(count, patch=16, stride=stride, size=size, source="a.pth")


@pytest.mark.parametrize("row", GRIDS, ids=lambda row: f"{row['H']}x{row['W']}/{row['stride']}")
def test_published_numbers_of_positions_give_size_and_stride(row):
    found = layout(row["patches"])
    assert (found.size, found.stride, found.new) == ((row["H"], row["W"]), row["stride"], (row["rows"], row["cols"]))
    assert found.notes == ()
    assert layout(row["patches"], size=(row["H"], row["W"])) == found


def test_another_size_or_stride_resizes_the_table():
    found = layout(128, size=(384, 128))
    assert (found.stride, found.old, found.new) == (16, (16, 8), (24, 8))
    assert found.notes == ("positions resized from 16x8 to 24x8 patches, bilinearly",)
    found = layout(128, stride=12, size=(256, 128))
    assert (found.old, found.new) == ((16, 8), (21, 10))
    assert layout(196, size=(256, 128)).old == (14, 14)


@pytest.mark.parametrize(("width", "asked", "usual", "heads"), [
    (768, None, None, 12), (384, None, None, 6), (768, None, 8, 8), (1024, None, None, 16), (32, 4, None, 4),
])  # fmt: skip
def test_heads_are_the_published_ones_of_a_width(width, asked, usual, heads):
    assert count_heads(width, asked, usual=usual, source="a.pth") == heads


@pytest.mark.parametrize(("rows", "name"), [(6, "market1501"), (8, "dukemtmc"), (15, "msmt17"), (4, "published")])
def test_cameras_are_those_of_the_published_data_set_with_as_many(rows, name):
    table, note = camera_table(rows, SideChoices(), source="a.pth")
    assert (table.datasets, table.numbers) == ((name,), (tuple(range(1, rows + 1)),))
    assert f"cameras 1 to {rows} of {name}" in note


def test_viewpoints_share_the_rows_of_a_camera():
    table, _ = camera_table(12, SideChoices(views=2, cameras_of="veri", first_camera=0), source="a.pth")
    assert table.numbers == (tuple(range(6)),)
    with pytest.raises(UserError, match=r"--set views=5: a\.pth holds 12 embeddings, which is no multiple"):
        camera_table(12, SideChoices(views=5), source="a.pth")


def test_necks_of_divided_features_are_one_neck():
    torch.manual_seed(0)
    necks = {"bottleneck": nn.BatchNorm1d(3), "bottleneck_1": nn.BatchNorm1d(2)}
    for neck in necks.values():
        nn.init.uniform_(neck.weight), nn.init.normal_(neck.bias), nn.init.normal_(neck.running_mean)
        nn.init.uniform_(neck.running_var, 1e-6, 1e-4)  # where the epsilon counts
        neck.eval()
    state = {f"{name}.{key}": value for name, neck in necks.items() for key, value in neck.state_dict().items()}
    tensors = FileTensors(state, source="a.pth")
    joined = join_necks([take_neck(tensors, "bottleneck"), take_neck(tensors, "bottleneck_1", divisor=4)])
    whole = nn.BatchNorm1d(5).eval().double()
    whole.load_state_dict({key.removeprefix("neck."): value for key, value in joined.items()}, strict=False)
    first, local = torch.randn(4, 3), torch.randn(4, 2)
    expected = torch.cat([necks["bottleneck"](first), necks["bottleneck_1"](local) / 4], dim=1)
    found = whole(torch.cat([first, local / 4], dim=1).double())
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)
