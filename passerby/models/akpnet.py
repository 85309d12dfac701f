"""The style-transfer network of DASK: predicts for each image one small convolution into the colours of a domain.

It learns from a site's own images whose colours were drawn anew: the convolution must bring the image back. What it
knows afterwards is how the images of that site look, and of the images themselves it keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.backbones import load_backbone, make_backbone
from passerby.types import Inputs

SIDE = 3
"""Of the convolution, in pixels."""

NUMBERS = 3 * 3 * SIDE * SIDE + 3
"""In a kernel and its three shifts."""


def resample_colours(images: Tensor, generator: torch.Generator) -> Tensor:
    """Give each image a mean and a standard deviation per channel that are drawn as those of the batch lie.

    Both are drawn from a Gaussian per channel with the mean and the standard deviation that they have over the batch,
    for each image and channel apart; a standard deviation below 0 counts as 0.

    Args:
        images: (B, 3, H, W) with B > 1, of any range; what comes out may leave it.
        generator: source of randomness, on the CPU.

    Returns:
        (B, 3, H, W).

    Reference: Xu et al., "DASK: Distribution Rehearsing via Adaptive Style Kernel Learning for Exemplar-Free Lifelong
    Person Re-Identification", AAAI 2025 (published code).

    """
    means = images.mean(dim=(2, 3), keepdim=True)  # (B, 3, 1, 1)
    deviations = images.std(dim=(2, 3), keepdim=True)  # (B, 3, 1, 1)
    sampled = []
    for figures in (means, deviations):
        noise = torch.randn(figures.shape, generator=generator).to(images)
        sampled.append(figures.mean(dim=0) + figures.std(dim=0) * noise)
    return (images - means) / deviations.clamp_min(1e-6) * sampled[1].clamp_min(0) + sampled[0]


def convolve_each(images: Tensor, numbers: Tensor) -> Tensor:
    """Convolve every image with a kernel of its own, with a border of zeros, so that its size stays.

    Args:
        images: (B, 3, H, W).
        numbers: (B, 84), of each kernel (3, 3, 3, 3) and its shifts (3,).

    Returns:
        (B, 3, H, W).

    >>> numbers = torch.zeros(1, NUMBERS)
    >>> numbers[0, -3:] = torch.tensor([1.0, 2.0, 3.0])
    >>> convolve_each(torch.zeros(1, 3, 4, 2), numbers)[0, :, 0, 0]
    tensor([1., 2., 3.])
    """
    count = len(images)
    kernels = numbers[:, :-3].reshape(count * 3, 3, SIDE, SIDE)
    joined = images.reshape(1, count * 3, *images.shape[2:])
    convolved = F.conv2d(joined, kernels, numbers[:, -3:].reshape(-1), padding=SIDE // 2, groups=count)
    return convolved.reshape(images.shape)


class AKPNet(nn.Module):
    """A small backbone, the maximum over its map, and two layers that predict a convolution.

    Args:
        backbone: any timm model or OSNet.
        inputs: what images look like, and how they are normalised.
        weights: of the backbone: none | pretrained | a local file.

    Raises:
        UserError: an unknown backbone, or weights that cannot be had.

    Reference: Xu et al., "DASK: Distribution Rehearsing via Adaptive Style Kernel Learning for Exemplar-Free Lifelong
    Person Re-Identification", AAAI 2025.
    Differs from the published code: before it has learnt, its convolution is the plain normalisation of an image, where
    the published one begins at random and needs some hundred steps to do as well as that.

    """

    def __init__(self, backbone: str, inputs: InputSettings, *, weights: str = "none") -> None:
        super().__init__()
        try:
            self.backbone = make_backbone(backbone, inputs.size, pretrained=weights == "pretrained")
            if weights not in ("none", "pretrained"):
                load_backbone(self.backbone, weights)
        except UserError as error:  # which speaks of the embedder's settings
            reason = str(error).replace("model.backbone", "its backbone").replace("model.weights", "its weights")
            raise UserError(reason) from error
        hidden = self.backbone.channels // 2
        self.predict = nn.Sequential(nn.Linear(self.backbone.channels, hidden), nn.ReLU(), nn.Linear(hidden, NUMBERS))
        self.description = [backbone, inputs.model_dump_json()]
        self._begin(inputs)

    @classmethod
    def of(cls, description: Sequence[str]) -> AKPNet:
        """Build a network from the `description` of another one, without its weights."""
        backbone, inputs = description
        return cls(backbone, InputSettings.model_validate_json(inputs))

    def _begin(self, inputs: InputSettings) -> None:
        """Set the last layer to predict, for any image, the convolution that normalises it."""
        last, middle = self.predict[-1], SIDE // 2
        assert isinstance(last, nn.Linear)
        kernel = torch.zeros(3, 3, SIDE, SIDE)
        kernel[range(3), range(3), middle, middle] = 1 / torch.tensor(inputs.std)
        shift = -torch.tensor(inputs.mean) / torch.tensor(inputs.std)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.cat([kernel.flatten(), shift]))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values in [0, 1], to normalised ones in the colours of the site that was learnt."""
        featuremap, _ = self.backbone(Inputs.of_images(images))
        return convolve_each(images, self.predict(featuremap.amax(dim=(2, 3))))
