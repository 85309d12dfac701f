"""MGN: a ResNet whose last stages are three branches, of which two are cut into horizontal stripes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, cat, nn

from passerby.errors import UserError
from passerby.models.backbone import Backbone, require_kind
from passerby.models.pooling import Pool, PoolKind
from passerby.models.resnet import ResnetArchitecture, build_resnet
from passerby.models.surgery import Surgery, operate, set_last_stride
from passerby.settings import Settings
from passerby.types import Inputs

MGN_NETWORKS = {"mgn_resnet50": "resnet50", "mgn_resnet101": "resnet101"}
"""Networks, and the ResNets that they begin with."""

MGN_HEADS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
"""Parts of the vector in fast-reid's order: the three branches whole, then the stripes of the second and the third."""

_STRIPES = {"b2": ("b21", "b22"), "b3": ("b31", "b32", "b33")}


class MgnArchitecture(Settings):
    """Architecture settings of an MGN."""

    width: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="channels of the ResNet's stem; others follow")
    part: Annotated[int, Field(ge=1)] = Field(256, description="length of each of the eight parts of the vector")
    pool: PoolKind = Field("gem_learned", description="pooling of each part, see model.pool")
    map_norms: bool = Field(False, description="a batch norm on each branch's map before it is cut, as in LUPerson's")


class MgnPart(nn.Module):
    """One part of the vector: pooling and a linear layer without shift.

    Args:
        channels: C of the map.
        dimension: length of the part.
        pool: kind of pooling.

    """

    def __init__(self, channels: int, dimension: int, pool: PoolKind) -> None:
        super().__init__()
        self.pool = Pool(pool)
        self.reduction = nn.Linear(channels, dimension, bias=False)

    def forward(self, featuremap: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, D)."""
        part: Tensor = self.reduction(self.pool(featuremap))
        return part


class Mgn(nn.Module):
    """The network: shared stages, three branches, eight parts.

    Args:
        body: a ResNet of timm after the surgery; its last stage has the stride of the first branch.
        name: what a person calls it.
        architecture: what else is open.

    Reference: Wang et al., "Learning Discriminative Features with Multiple Granularities for Person Re-Identification",
    ACM Multimedia 2018. Differs from the paper: fast-reid's variant, where all branches share the map's size and each
    has one whole part.

    """

    def __init__(self, body: Any, name: str, architecture: MgnArchitecture) -> None:
        super().__init__()
        self.num_features = int(body.num_features)
        first, *others = body.layer3
        stem = {key: getattr(body, key) for key in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2")}
        self.shared = nn.Sequential(OrderedDict(stem, layer3=first))
        finer = copy.deepcopy(body)
        set_last_stride(finer, name)
        lasts = {"b1": body.layer4, "b2": finer.layer4, "b3": copy.deepcopy(finer.layer4)}
        self.branches = nn.ModuleDict(
            {
                key: nn.Sequential(OrderedDict(layer3=nn.Sequential(*copy.deepcopy(others)), layer4=last))
                for key, last in lasts.items()
            }
        )
        norms = {key: nn.BatchNorm2d(self.num_features) for key in lasts}
        self.norms = nn.ModuleDict(norms if architecture.map_norms else {})
        self.parts = nn.ModuleDict(
            {key: MgnPart(self.num_features, architecture.part, architecture.pool) for key in MGN_HEADS}
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images (B, 3, H, W) to the first branch's map (B, C, h, w) and the vector (B, 8 D)."""
        shared = self.shared(images)
        maps = {key: branch(shared) for key, branch in self.branches.items()}
        first = maps["b1"]
        for key, norm in self.norms.items():
            maps[key] = norm(maps[key])
        for key, names in _STRIPES.items():
            maps |= dict(zip(names, _cut(maps[key], len(names)), strict=True))
        return first, cat([self.parts[key](maps[key]) for key in MGN_HEADS], dim=1)


def _cut(featuremap: Tensor, count: int) -> tuple[Tensor, ...]:
    """Cut a map (B, C, h, w) into stripes as torch.chunk does, the last of which may be lower."""
    stripes = featuremap.chunk(count, dim=2)
    if len(stripes) != count:
        raise UserError(f"its map is {featuremap.shape[2]} rows high, which cannot be cut into {count} stripes")
    return stripes


class MgnBackbone(Backbone):
    """An MGN on a ResNet of timm, which takes the surgery; the vector is the parts one after the other."""

    summary: ClassVar[str] = f"MGN: {', '.join(MGN_NETWORKS)}"
    settings_class: ClassVar[type[Settings]] = MgnArchitecture

    @classmethod
    def names(cls) -> Sequence[str]:
        """Return the names of the networks."""
        return tuple(MGN_NETWORKS)

    @classmethod
    def build_as(cls, name: str, size: tuple[int, int], architecture: Settings, *, pretrained: bool) -> Any:
        """Build the ResNet, which `operate` changes and cuts into branches."""
        width = require_kind(architecture, MgnArchitecture).width
        return build_resnet(MGN_NETWORKS[name], ResnetArchitecture(width=width))

    def operate(self, name: str, surgery: Surgery) -> None:
        """Change the ResNet as a recipe asks, then cut it into branches."""
        operate(self.body, name, surgery)
        self.body = Mgn(self.body, name, require_kind(self.architecture, MgnArchitecture))

    def count_features(self) -> int:
        """Return the length of all parts together."""
        return len(MGN_HEADS) * require_kind(self.architecture, MgnArchitecture).part

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Map inputs, whose images are normalised, to the first branch's map (B, C, h, w) and the vector (B, D)."""
        featuremap, vector = self.body(inputs.images)
        return featuremap, vector
