"""Training augmentation on uint8 tensors: learnt policies, colours, blur, flip, pad and crop, random erasing.

Each image has its own seed, so a batch is the same for one process, several workers and a resumed run.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from passerby.inputs import InputSettings, Share
from passerby.settings import Settings

Sigma = Annotated[float, Field(gt=0, le=10)]


class PolicySettings(Settings):
    """Shears, rotations and colour changes drawn from a policy published for classification.

    Reference: `auto`: Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019 (the ImageNet
    policy); `rand`: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
    NeurIPS 2020; `trivial`: Mueller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation",
    ICCV 2021 (the wide ranges). All three are those of torchvision.
    """

    kind: Literal["auto", "rand", "trivial"] = "auto"
    probability: Share = Field(1.0, description="probability of changing an image")
    operations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="number of operations of kind rand; null = 2"
    )
    magnitude: Annotated[int, Field(ge=1, le=30)] | None = Field(
        None, description="strength of the operations of kind rand, of 30; null = 9"
    )

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        for name in ("operations", "magnitude"):
            if self.kind != "rand" and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect with kind: {self.kind}; it belongs to rand")
        return self

    def step(self, inputs: InputSettings) -> v2.Transform:
        """Return the transform; pixels from outside the image have the mean colour."""
        fill: list[float] = [float(level) for level in _mean_bytes(inputs)]
        if self.kind == "auto":
            return v2.AutoAugment(fill=fill)
        if self.kind == "trivial":
            return v2.TrivialAugmentWide(fill=fill)
        operations, magnitude = (
            default if chosen is None else chosen for chosen, default in ((self.operations, 2), (self.magnitude, 9))
        )
        return v2.RandAugment(operations, magnitude, fill=fill)


class BlurSettings(Settings):
    """Gaussian blur."""

    probability: Share = Field(0.5, description="probability of blurring an image")
    sigma: tuple[Sigma, Sigma] = Field((0.1, 2.0), description="least and largest standard deviation in pixels")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sigma[0] > self.sigma[1]:
            raise ValueError(f"sigma must rise, got {self.sigma[0]} and {self.sigma[1]}")
        return self

    def step(self, inputs: InputSettings) -> v2.Transform:
        """Return the transform; its window covers two standard deviations to either side, limited by the image."""
        reach = min(math.ceil(2 * self.sigma[1]), min(inputs.size) - 1)
        return v2.GaussianBlur(2 * reach + 1, self.sigma)


class JitterSettings(Settings):
    """Random colour changes (torchvision's ColorJitter), each a half-range around no change."""

    probability: Share = Field(1.0, description="probability of changing an image")
    brightness: Annotated[float, Field(ge=0)] = Field(0.2, description="half-range of the brightness factor around 1")
    contrast: Annotated[float, Field(ge=0)] = Field(0.15, description="half-range of the contrast factor around 1")
    saturation: Annotated[float, Field(ge=0)] = Field(0.0, description="half-range of the saturation factor around 1")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="half-range of the hue shift, of a full turn")


class EraseSettings(Settings):
    """Random erasing (Zhong et al., AAAI 2020), filled with the mean colour before normalisation."""

    probability: Share = Field(0.5, description="probability of erasing a rectangle")
    area: tuple[Share, Share] = Field((0.02, 0.4), description="least and largest share of the image that is erased")
    aspect: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (0.3, 3.3), description="least and largest ratio of height to width of the erased rectangle"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (least, most) in (("area", self.area), ("aspect", self.aspect)):
            if least > most:
                raise ValueError(f"{name} must rise, got {least} and {most}")
        return self


class AugmentSettings(Settings):
    """Augmentation of a training image after resizing."""

    flip: Share = Field(0.5, description="probability of mirroring")
    pad: Annotated[int, Field(ge=0)] = Field(
        10, description="width of the black border in pixels before random cropping"
    )
    policy: PolicySettings | None = Field(
        None, description="learnt augmentation policy: auto, rand or trivial; null = none"
    )
    jitter: JitterSettings | None = Field(None, description="random colour changes; null = none")
    grayscale: Share = Field(0.0, description="probability of conversion to grey")
    blur: BlurSettings | None = Field(None, description="Gaussian blur; null = none")
    erase: EraseSettings | None = Field(EraseSettings(), description="random erasing; null = none")


def training_transform(settings: AugmentSettings, inputs: InputSettings) -> v2.Compose:
    """Return the augmentation of one uint8 image (3, H, W), already resized, which keeps shape and dtype."""
    steps = _colour_steps(settings, inputs)
    if settings.flip:
        steps.append(v2.RandomHorizontalFlip(settings.flip))
    if settings.pad:
        steps.append(v2.RandomCrop(inputs.size, padding=settings.pad))
    if settings.erase is not None:
        erase = settings.erase
        steps.append(v2.RandomErasing(erase.probability, erase.area, erase.aspect, value=_mean_bytes(inputs)))
    return v2.Compose(steps or [v2.Identity()])


def _colour_steps(settings: AugmentSettings, inputs: InputSettings) -> list[torch.nn.Module]:
    steps: list[torch.nn.Module] = []
    if settings.policy is not None:
        steps.append(_sometimes(settings.policy.step(inputs), settings.policy.probability))
    if settings.jitter is not None:
        settings_of_jitter = settings.jitter
        jitter = v2.ColorJitter(
            settings_of_jitter.brightness,
            settings_of_jitter.contrast,
            settings_of_jitter.saturation,
            settings_of_jitter.hue,
        )
        steps.append(_sometimes(jitter, settings_of_jitter.probability))
    if settings.grayscale:
        steps.append(v2.RandomGrayscale(settings.grayscale))
    if settings.blur is not None:
        steps.append(_sometimes(settings.blur.step(inputs), settings.blur.probability))
    return steps


def _sometimes(step: torch.nn.Module, probability: float) -> torch.nn.Module:
    """Apply a step with a probability; for 1 no number is drawn, so that later draws are unchanged."""
    return step if probability == 1 else v2.RandomApply([step], probability)


def _mean_bytes(inputs: InputSettings) -> list[int]:
    return [round(255 * value) for value in inputs.mean]


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

    Colour changes and erasing leave the mask as it is. Padding of the mask is background. A policy rotates and shears,
    which torchvision does not apply to masks; recipes refuse it.
    """
    changed_mask = tv_tensors.Mask(mask)
    with seeded(seed):
        for step in transform.transforms:
            if isinstance(step, v2.RandomErasing):
                image = step(image)
            else:
                image, changed_mask = step(image, changed_mask)
    return image, changed_mask.as_subclass(Tensor)
