"""Training augmentation on uint8 tensors: jitter, flip, pad and crop, random erasing.

Each image draws from a seed of its own, so a batch looks the same whoever loads it: one process, eight workers or a
resumed run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from passerby.inputs import InputSettings, Share
from passerby.settings import Settings


class JitterSettings(Settings):
    """Random colour changes (torchvision's ColorJitter), each a half-range around no change."""

    brightness: Annotated[float, Field(ge=0)] = 0.2
    contrast: Annotated[float, Field(ge=0)] = 0.15
    saturation: Annotated[float, Field(ge=0)] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class EraseSettings(Settings):
    """Random erasing (Zhong et al., AAAI 2020), filled with the mean colour before normalisation."""

    probability: Share = 0.5
    area: tuple[Share, Share] = Field((0.02, 0.4), description="share of the image, least and most")
    aspect: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.3, 3.3)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (least, most) in (("area", self.area), ("aspect", self.aspect)):
            if least > most:
                raise ValueError(f"{name} must rise, got {least} and {most}")
        return self


class AugmentSettings(Settings):
    """What happens to a training image after it was resized."""

    flip: Share = Field(0.5, description="probability of mirroring")
    pad: Annotated[int, Field(ge=0)] = Field(10, description="black border in pixels from which a crop is cut")
    jitter: JitterSettings | None = None
    erase: EraseSettings | None = EraseSettings()


def training_transform(settings: AugmentSettings, inputs: InputSettings) -> v2.Compose:
    """Return the augmentation of one uint8 image (3, H, W), already resized, which keeps shape and dtype."""
    steps: list[torch.nn.Module] = []
    if settings.jitter is not None:
        chosen = settings.jitter
        steps.append(v2.ColorJitter(chosen.brightness, chosen.contrast, chosen.saturation, chosen.hue))
    if settings.flip:
        steps.append(v2.RandomHorizontalFlip(settings.flip))
    if settings.pad:
        steps.append(v2.RandomCrop(inputs.size, padding=settings.pad))
    if settings.erase is not None:
        mean = [round(255 * value) for value in inputs.mean]
        erase = settings.erase
        steps.append(v2.RandomErasing(erase.probability, erase.area, erase.aspect, value=mean))
    return v2.Compose(steps or [v2.Identity()])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's CPU generator at `seed` and put the generator back afterwards."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def mix_seeds(*parts: int) -> int:
    """Hash whole numbers into one seed in [0, 2**63); neighbouring inputs give unrelated seeds (splitmix64)."""
    state = 0
    for part in parts:
        state = (state ^ (part & (2**64 - 1))) + 0x9E3779B97F4A7C15 & (2**64 - 1)
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state = (state ^ state >> 27) * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


def augment(transform: v2.Compose, image: Tensor, *, seed: int) -> Tensor:
    """Apply `transform` to one image (3, H, W) with its own randomness."""
    with seeded(seed):
        changed: Tensor = transform(image)
    return changed


def augment_with_mask(transform: v2.Compose, image: Tensor, mask: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Apply `transform` to an image (3, H, W) as `augment` does, and its flips and crops to the mask (1, H, W) too.

    Colours change in the image only, and so does erasing: the mask says where the person is, seen or not. Around the
    image there is no person.
    """
    moved = tv_tensors.Mask(mask)
    with seeded(seed):
        for step in transform.transforms:
            if isinstance(step, v2.RandomErasing):
                image = step(image)
            else:
                image, moved = step(image, moved)
    return image, moved.as_subclass(Tensor)
