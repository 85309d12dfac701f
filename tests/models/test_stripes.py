"""Stripes of a map: where masks are cut, and that they leave the statistics of whole images alone."""

import pytest
import torch

from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.models.groups import fixed_statistics
from passerby.types import Inputs


@pytest.mark.parametrize(
    ("row", "wanted"), [(0, [0.0, 8.0, 13.0]), (5, [5.0, 8.0, 13.0]), (6, [2.5, 6.0, 13.0]), (11, [2.5, 8.0, 11.0])]
)
def test_masks_are_cut_where_the_map_is(row, wanted):
    """A person in one row of a map of 16 rows, which 3 stripes cut into 6, 5 and 5; stripes without one are plain."""
    settings = ModelSettings(backbone="test_resnet", last_stride=1, stripes=3, pool="avg")
    embedder = Embedder(settings, InputSettings(size=(256, 128)), load=False)
    rows = torch.arange(16.0).reshape(1, 1, 16, 1).expand(1, embedder.dimension, 16, 8)  # each row holds its number
    mask = torch.zeros(1, 1, 256, 128, dtype=torch.uint8)
    mask[:, :, 16 * row : 16 * (row + 1)] = 1
    assert embedder._stripes(rows, mask)[0, :, 0].tolist() == wanted
    assert embedder._stripes(rows, torch.zeros_like(mask))[0, :, 0].tolist() == [2.5, 8.0, 13.0]


def test_stripes_do_not_move_the_statistics_of_whole_images():
    images = torch.randint(0, 256, (8, 3, 64, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    states, outs = [], []
    for stripes in (None, 2):
        torch.manual_seed(1)
        settings = ModelSettings(backbone="osnet_x0_25", stripes=stripes)
        embedder = Embedder(settings, InputSettings(size=(64, 32)), load=False).train()
        outs.append(embedder(Inputs.of_images(images)))
        states.append(embedder.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert torch.equal(outs[0].before_neck, outs[1].before_neck)
    assert embedder.backbone.body.fc[1].training
    assert outs[1].stripes.requires_grad


def test_statistics_are_fixed_for_a_while_only():
    norms = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval())
    with fixed_statistics(norms):
        assert [norm.training for norm in norms] == [False, False]
        norms(torch.randn(4, 2))
    assert [norm.training for norm in norms] == [True, False]
    assert [int(norm.num_batches_tracked) for norm in norms] == [0, 0]
