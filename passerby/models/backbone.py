"""Base class of a backbone: a network, built by name, that maps images to its last map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from passerby.errors import UserError, first_line
from passerby.models.surgery import UNCHANGED, Surgery, operate
from passerby.settings import Settings
from passerby.types import Inputs, UnknownCamera


class NoArchitecture(Settings):
    """Architecture settings of a family whose networks are complete by their names."""


A = TypeVar("A", bound=Settings)


class Backbone(nn.Module):
    """Base of a backbone family.

    A subclass sets `summary`, gives its networks' names and builds them. A network has `num_features`, the channels of
    its last map, and `forward_features`, which maps images to it; its tensors are named as in published files.

    A family whose names leave something open (widths, heads, cameras, ...) declares a `settings_class` and overrides
    `build_as` instead of `build`.

    Args:
        name: of a network of the family.
        size: (H, W) of the images.
        surgery: changes to a ResNet.
        architecture: settings of the family, an instance of its `settings_class`; None = the defaults.
        pretrained: whether the network comes with weights of its own.
        count_cameras: rows of the camera table of the model, for a network that uses cameras.

    Attributes:
        body: the network.
        architecture: settings of the family.
        uses_cameras: whether `forward` reads `Inputs.cam`; by default it does not. A family may set it in `operate`.
        channels: C of the last map.
        dimension: D, length of the feature, after `head`.
        projection: length E of the last part of the vector, which is the image in the space of texts; 0 = none.
        pools_itself: whether `forward` returns a pooled vector too, as networks of tokens do.

    Raises:
        UserError: surgery on a network that has no place for it, images of a size that does not suit it, weights
            that cannot be had, or no camera for a network that uses cameras.

    """

    summary: ClassVar[str]
    """The networks of the family, in a few words."""
    uses_cameras: bool = False
    unknown_camera: UnknownCamera = "refuse"
    """Treatment of an image of an unknown camera (-1), where the network uses cameras."""

    settings_class: ClassVar[type[Settings]] = NoArchitecture
    """Settings of what the names leave open: `model.architecture`."""

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        *,
        surgery: Surgery = UNCHANGED,
        architecture: Settings | None = None,
        pretrained: bool = False,
        count_cameras: int = 0,
    ) -> None:
        super().__init__()
        if pretrained:
            self.require_pretrained(name)
        self.architecture = self.settings_class() if architecture is None else architecture
        self.body: Any = self.build_as(name, size, self.architecture, pretrained=pretrained)
        self.channels = int(self.body.num_features)
        self.dimension = self.count_features()
        self.projection = self.count_projected()
        self.operate(name, surgery)
        if self.uses_cameras:
            if not count_cameras:
                raise UserError(f"model.backbone: {name!r} uses cameras, and no camera of a training image is known")
            self.add_cameras(count_cameras)
        self._require_fit(name, size)

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the names of the networks, as error texts suggest them."""
        raise NotImplementedError

    @classmethod
    def knows(cls, name: str) -> bool:
        """Whether a network of that name can be built."""
        return name in cls.names()

    @classmethod
    def build(cls, name: str, size: tuple[int, int], *, pretrained: bool) -> Any:  # they share no class
        """Return a network.

        Raises:
            UserError: a size that does not suit it, or weights that cannot be had.

        """
        raise NotImplementedError

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> Any:
        """Return a network of a family with settings, which overrides it; by default `build` is called.

        Args:
            name: of a network of the family.
            size: (H, W) of the images.
            architecture: an instance of `settings_class`.
            pretrained: whether it comes with weights of its own.

        Raises:
            UserError: a size or settings that do not suit it, or weights that cannot be had.

        """
        return cls.build(name, size, pretrained=pretrained)

    @classmethod
    def require_pretrained(cls, name: str) -> None:
        """Raise `UserError` unless `build` can load weights of its own; by default it cannot."""
        raise UserError(f"{name!r} comes without pretrained weights; set model.weights to a file or to 'none'")

    def operate(self, name: str, surgery: Surgery) -> None:
        """Change the network as a recipe asks, or raise `UserError` where it has no place for the change."""
        operate(self.body, name, surgery)

    def add_cameras(self, count: int) -> None:
        """Add what a network that uses cameras learns of each of them; rows 0..count-1 of the camera table."""
        raise NotImplementedError

    def count_features(self) -> int:
        """Return the length D of what `head` returns."""
        return self.channels

    def count_projected(self) -> int:
        """Return the length E of the last part of the vector that is the image in the space of texts; 0 = none."""
        return 0

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the map (B, C, h, w) and, for token models, the pooled (B, C).

        A family whose networks use cameras or viewpoints overrides it; by default only the images are used.
        """
        featuremap: Tensor = self.body.forward_features(inputs.images)
        return featuremap, None

    def forward_all(self, inputs: Inputs) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what `forward` does and, of a family that has one, the vector (B, C') of an earlier layer."""
        return *self(inputs), None

    def inputs_of(self, images: Tensor) -> Inputs:
        """Return images (B, 3, H, W) of the first camera, for trials in which the vectors do not matter."""
        inputs = Inputs.of_images(images)
        return replace(inputs, cam=torch.zeros_like(inputs.cam)) if self.uses_cameras else inputs

    def head(self, pooled: Tensor) -> Tensor:
        """Map the pooled (B, C) to the feature (B, D)."""
        return pooled

    def _require_fit(self, name: str, size: tuple[int, int]) -> None:
        """Run one black image through the network, because many reject an image size only then."""
        self.eval()
        try:
            with torch.no_grad():
                featuremap, pooled = self(self.inputs_of(torch.zeros(1, 3, *size)))
        except Exception as error:  # each family has its own way to say no
            raise UserError(f"{name!r} cannot take images of input.size {size} ({first_line(error)})") from error
        finally:
            self.train()
        if featuremap.ndim != 4 or featuremap.shape[1] != self.channels:
            raise UserError(f"model.backbone: {name!r} makes maps of a kind that passerby does not know")
        self.pools_itself = pooled is not None


def require_kind(settings: Settings, kind: type[A]) -> A:
    """Return architecture settings as those of a family; anything else is a mistake in the program."""
    assert isinstance(settings, kind), f"{type(settings).__name__} instead of {kind.__name__}"
    return settings
