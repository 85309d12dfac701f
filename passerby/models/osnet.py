"""OSNet: a small network whose blocks look at four scales at once and weigh them by the image.

The names of all tensors are those of torchreid, so that its published files load. They come in two layouts, because
the variant that was found by search (AIN) was published with other names for the same parts: `conv2a` to `conv2d`
became `conv2.0.layers` to `conv2.3.layers`, and what shrinks the map moved from `conv2.2` to `pool2`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.models.backbone import Backbone, require_kind
from passerby.models.surgery import Surgery
from passerby.settings import Settings

TensorNames = Literal["plain", "searched"]
NormPlace = Literal["nowhere", "residual", "sum"]
"""Where a block has an instance norm: nowhere, on the residual before it is added, or on the sum."""

NormPlaces = tuple[tuple[NormPlace, NormPlace], tuple[NormPlace, NormPlace], tuple[NormPlace, NormPlace]]


@dataclass(frozen=True)
class Design:
    """Width, names and instance norms of an OSNet.

    Attributes:
        width: factor of all channels.
        layout: how tensors are named.
        places: instance norms in the two blocks of each of the three stages; with any, the stem has one too.

    """

    width: float
    layout: TensorNames = "plain"
    places: NormPlaces = (("nowhere", "nowhere"), ("nowhere", "nowhere"), ("nowhere", "nowhere"))


_IBN: NormPlaces = (("sum", "sum"), ("nowhere", "nowhere"), ("nowhere", "nowhere"))
_AIN: NormPlaces = (("residual", "residual"), ("nowhere", "residual"), ("residual", "nowhere"))
OSNETS = {
    "osnet_x1_0": Design(1.0),
    "osnet_x0_75": Design(0.75),
    "osnet_x0_5": Design(0.5),
    "osnet_x0_25": Design(0.25),
    "osnet_ibn_x1_0": Design(1.0, places=_IBN),
    "osnet_ain_x1_0": Design(1.0, "searched", _AIN),
    "osnet_ain_x0_75": Design(0.75, "searched", _AIN),
    "osnet_ain_x0_5": Design(0.5, "searched", _AIN),
    "osnet_ain_x0_25": Design(0.25, "searched", _AIN),
}
"""The OSNets that were published, by torchreid's names."""


class AggregationGate(nn.Module):
    """Weigh each channel by a gate in (0, 1) that sees the averages of all; one gate serves all streams of a block.

    Args:
        channels: C >= 16; the hidden layer has C // 16.

    Reference: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, equation 3.

    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh maps (B, C, h, w)."""
        hidden = F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))
        gate: Tensor = self.fc2(hidden).sigmoid()  # (B, C, 1, 1)
        return x * gate


class OmniScaleBlock(nn.Module):
    """A residual block of four streams, one to four light 3x3 convolutions deep, added up behind their gate.

    Args:
        before: channels of the maps that come in.
        after: channels of the maps that go out; the streams have a quarter of them.
        layout: how the streams are named.
        place: where the block has an instance norm.

    Reference: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, equations 1 to 3;
    Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021, for the
    instance norms.

    """

    def __init__(self, before: int, after: int, *, layout: TensorNames, place: NormPlace) -> None:
        super().__init__()
        hidden = after // 4
        self.place = place
        self.conv1 = _convolution(before, hidden)
        streams = [[_light(hidden) for _ in range(depth)] for depth in (1, 2, 3, 4)]
        if layout == "plain":
            self.names = [f"conv2{letter}" for letter in "abcd"]
            for name, stream in zip(self.names, streams, strict=True):
                self.add_module(name, stream[0] if len(stream) == 1 else nn.Sequential(*stream))
        else:
            self.names = [f"conv2.{number}" for number in range(4)]
            self.conv2 = nn.ModuleList(nn.Sequential(OrderedDict(layers=nn.Sequential(*stream))) for stream in streams)
        self.gate = AggregationGate(hidden)
        self.conv3 = _projection(hidden, after)
        self.downsample = nn.Identity() if before == after else _projection(before, after)
        self.IN = nn.Identity() if place == "nowhere" else nn.InstanceNorm2d(after, affine=True)
        if place == "residual":
            del self.conv3.bn  # the instance norm stands in its place

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, h, w) to (B, after, h, w)."""
        shared = self.conv1(x)
        residual = self.conv3(sum(self.gate(self.get_submodule(name)(shared)) for name in self.names))
        if self.place == "residual":
            return F.relu(self.IN(residual) + self.downsample(x))
        return F.relu(self.IN(residual + self.downsample(x)))


class OSNet(nn.Module):
    """The network: a stem, three stages of two blocks, a last convolution; and `fc`, which comes after the pooling.

    `fc` (a linear layer, a batch norm and a ReLU) makes 512 numbers at every width. It belongs to the network because
    the published accuracy, and so what a published file is worth, is that of its output; whoever pools the map passes
    the pooled vector through it. Average pooling gives torchreid's features.

    Args:
        design: one of `OSNETS`.

    Reference: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, section 3.

    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        stem, second, third, last = (round(design.width * channels) for channels in (64, 256, 384, 512))
        self.num_features, self.dimension = last, 512
        self.conv1 = _convolution(3, stem, kernel=7, stride=2)
        if any(place != "nowhere" for stage in design.places for place in stage):
            self.conv1.bn = nn.InstanceNorm2d(stem, affine=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, second, layout=design.layout, places=design.places[0])
        self.conv3 = _stage(second, third, layout=design.layout, places=design.places[1])
        self.conv4 = _stage(third, last, layout=design.layout, places=design.places[2])
        self.pool2, self.pool3 = _shrink(second), _shrink(third)
        if design.layout == "plain":
            self.conv2.append(self.pool2)
            self.conv3.append(self.pool3)
            self.pool2, self.pool3 = nn.Sequential(), nn.Sequential()
        self.conv5 = _convolution(last, last)
        self.fc = nn.Sequential(nn.Linear(last, self.dimension), nn.BatchNorm1d(self.dimension), nn.ReLU())
        self.apply(_initialise)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to the map (B, C, H / 16, W / 16)."""
        x = self.maxpool(self.conv1(images))
        x = self.pool2(self.conv2(x))
        x = self.pool3(self.conv3(x))
        featuremap: Tensor = self.conv5(self.conv4(x))
        return featuremap


def _convolution(before: int, after: int, *, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(after), relu=nn.ReLU(inplace=True)))


def _projection(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(before, after, 1, bias=False), bn=nn.BatchNorm2d(after)))


def _light(channels: int) -> nn.Sequential:
    """Build a 3x3 convolution in two: first across channels, then each channel by itself."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, channels, 1, bias=False),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )


def _stage(before: int, after: int, *, layout: TensorNames, places: tuple[NormPlace, NormPlace]) -> nn.Sequential:
    return nn.Sequential(
        OmniScaleBlock(before, after, layout=layout, place=places[0]),
        OmniScaleBlock(after, after, layout=layout, place=places[1]),
    )


def _shrink(channels: int) -> nn.Sequential:
    return nn.Sequential(_convolution(channels, channels), nn.AvgPool2d(2))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class OsnetArchitecture(Settings):
    """Architecture settings of an OSNet."""

    width: Annotated[float, Field(gt=0, le=4)] | None = Field(
        None, description="factor of all channels, for widths that have no name; null = as the name says"
    )


class OsnetBackbone(Backbone):
    """An OSNet by torchreid's name; its `head` is the layer `fc`, so that vectors are the published ones."""

    summary: ClassVar[str] = f"OSNet: {', '.join(OSNETS)}"
    settings_class: ClassVar[type[Settings]] = OsnetArchitecture

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the names of the published OSNets."""
        return tuple(OSNETS)

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> OSNet:
        """Build an OSNet, for images of any size."""
        width = require_kind(architecture, OsnetArchitecture).width
        design = OSNETS[name]
        return OSNet(design if width is None else replace(design, width=width))

    @classmethod
    def require_pretrained(cls, name: str) -> None:
        """Raise `UserError` that says where the weights are."""
        raise UserError(f"torchreid publishes the weights of {name!r} as a file; fetch it and set model.weights to it")

    def operate(self, name: str, surgery: Surgery) -> None:
        """Refuse instance norms by a setting, which an OSNet has by its name, and all that is for ResNets."""
        if surgery.ibn != "none":
            variants = ", ".join(other for other in OSNETS if "_ibn_" in other or "_ain_" in other)
            raise UserError(
                f"model.ibn: an OSNet has its instance norms by name, so leave it at 'none' and choose one of "
                f"{variants}"
            )
        super().operate(name, surgery)

    def count_features(self) -> int:
        """Return the length of what `fc` makes, 512 whatever the channels of the map."""
        return int(self.body.dimension)

    def head(self, pooled: Tensor) -> Tensor:
        """Map the pooled (B, C) to the feature (B, 512) in float32."""
        feature: Tensor = self.body.fc(pooled).float()
        return feature
