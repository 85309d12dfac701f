"""Colours drawn anew, a convolution for each image, and the network that predicts it."""

import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.akpnet import NUMBERS, AKPNet, convolve_each, resample_colours
from passerby.types import Inputs

INPUTS = InputSettings(size=(32, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics(images):
    return images.mean(dim=(2, 3)), images.std(dim=(2, 3))


# ---- colours


def test_colours_are_drawn_as_those_of_the_batch_lie():
    count = 4000
    tint, contrast = 0.5 + 0.1 * noise(count, 3, 1, 1), 0.2 + 0.02 * noise(count, 3, 1, 1, seed=1)
    images = tint + contrast * noise(count, 3, 8, 4, seed=2)
    found = resample_colours(images, torch.Generator().manual_seed(3))
    for before, after in zip(statistics(images), statistics(found), strict=True):
        torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0), atol=0.01, rtol=0)
        torch.testing.assert_close(after.std(dim=0), before.std(dim=0), atol=0, rtol=0.1)
        assert abs(torch.corrcoef(torch.stack([before[:, 0], after[:, 0]]))[0, 1]) < 0.1  # each draws its own
        assert abs(torch.corrcoef(after.T)[0, 1]) < 0.1  # and so does each channel


def test_what_an_image_shows_stays():
    images = noise(6, 3, 8, 4) * torch.arange(1, 7).reshape(6, 1, 1, 1)
    found = resample_colours(images, torch.Generator().manual_seed(0))
    plain = [(x - x.mean(dim=(2, 3), keepdim=True)) / x.std(dim=(2, 3), keepdim=True) for x in (images, found)]
    flat = statistics(found)[1] < 1e-3  # a deviation below 0 was drawn
    torch.testing.assert_close(plain[1][~flat], plain[0][~flat], atol=1e-4, rtol=1e-3)
    assert flat.sum() < 9
    again = resample_colours(images, torch.Generator().manual_seed(0))
    assert torch.equal(again, found)
    assert not torch.equal(resample_colours(images, torch.Generator().manual_seed(1)), found)


def test_an_image_of_one_colour_gets_another_one():
    images = torch.stack([torch.full((3, 4, 2), value) for value in (0.1, 0.5, 0.9)])
    found = resample_colours(images, torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(found).all())
    assert statistics(found)[1].max() < 1e-6


# ---- the convolution


def test_each_image_has_a_kernel_of_its_own():
    images, numbers = noise(4, 3, 7, 5), noise(4, NUMBERS, seed=1)
    found = convolve_each(images, numbers)
    assert (found.shape, NUMBERS) == (images.shape, 84)
    padded = F.pad(images, (1, 1, 1, 1))
    wanted = torch.zeros_like(images)
    for image in range(4):
        kernel, shift = numbers[image, :81].reshape(3, 3, 3, 3), numbers[image, 81:]
        for row in range(7):
            for column in range(5):
                window = padded[image, :, row : row + 3, column : column + 3]
                wanted[image, :, row, column] = (kernel * window).sum(dim=(1, 2, 3)) + shift
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    alone = torch.cat([convolve_each(images[i : i + 1], numbers[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(found, alone)


# ---- the network


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_100", "test_vit"])
def test_before_it_learns_a_network_normalises(backbone):
    network = AKPNet(backbone, INPUTS).eval()
    images = torch.rand(2, 3, 32, 16)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (INPUTS.mean, INPUTS.std))
    torch.testing.assert_close(network(images), (images - mean) / std, atol=1e-5, rtol=1e-4)
    again = AKPNet.of(network.description).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images), network(images))
    network.train()
    F.l1_loss(network(images), images).backward()  # and yet it can learn from there
    assert network.predict[-1].weight.grad.abs().max() > 0


def test_the_maximum_of_the_map_is_what_predicts():
    network = AKPNet("test_resnet", INPUTS).eval()
    torch.nn.init.normal_(network.predict[-1].weight, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 32, 16)
    vectors = network.backbone(Inputs.of_images(images))[0].flatten(2).max(dim=2).values
    torch.testing.assert_close(network(images), convolve_each(images, network.predict(vectors)))


def test_weights_come_from_a_file(tmp_path):
    first = AKPNet("test_resnet", INPUTS)
    torch.save(first.backbone.body.state_dict(), tmp_path / "weights.pt")
    second = AKPNet("test_resnet", INPUTS, weights=str(tmp_path / "weights.pt"))
    same = [torch.equal(a, b) for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True)]
    assert all(same)


@pytest.mark.parametrize(
    ("backbone", "weights", "told"),
    [
        (
            "mobilenetv3_smal_100",
            "none",
            "no family of backbones knows 'mobilenetv3_smal_100'; did you mean",
        ),
        ("test_resnet", "nowhere.pt", "no weights file nowhere.pt"),
        ("osnet_x0_25", "pretrained", "publishes the weights of 'osnet_x0_25' as a file; fetch it and set its weights"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused(backbone, weights, told):
    with pytest.raises(UserError, match=told):
        AKPNet(backbone, INPUTS, weights=weights)
