"""Blocks that a ResNet can be given after it was built: IBN-a, IBN-b, squeeze-and-excitation, non-local.

timm builds the network and the surgery changes it in place, so every ResNet, ResNeXt and their weights take part. The
names of the new tensors are those of IBN-Net (`bn1.IN`, `bn1.BN`, `IN`) and of the usual gates
(`se.fc.0`, `se.fc.2`), so that published files load.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from passerby.errors import UserError

IBNKind = Literal["none", "a", "b"]
AttentionKind = Literal["none", "se"]
NonLocalKind = Literal["none", "half", "single"]


class SplitNorm(nn.Module):
    """Instance norm for the first half of the channels, batch norm for the second: style out, identity kept.

    Args:
        channels: C, of which C // 2 are instance-normalised.

    Reference: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018,
    figure 3 (a).

    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.count_instance = channels // 2
        self.IN = nn.InstanceNorm2d(self.count_instance, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.count_instance)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, h, w)."""
        return torch.cat([self.IN(x[:, : self.count_instance]), self.BN(x[:, self.count_instance :])], dim=1)


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a gate in (0, 1) that sees the averages of all channels.

    Args:
        channels: C.
        reduction: C over the width of the gate's hidden layer.

    Reference: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, equations 2 to 4.
    Differs from the paper: none of the linear layers has a shift, as in the code that re-identification uses.

    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh maps (B, C, h, w)."""
        gate: Tensor = self.fc(x.mean(dim=(2, 3)))  # (B, C)
        return x * gate[:, :, None, None]


class NonLocal(nn.Module):
    """Add to each position what it gathers from all positions, weighed by dot products; at first it adds nothing.

    Args:
        channels: C.
        inner: width of the three projections.

    Reference: Wang et al., "Non-local Neural Networks", CVPR 2018, equations 4 and 6 (dot product).

    """

    def __init__(self, channels: int, *, inner: int) -> None:
        super().__init__()
        self.g = nn.Conv2d(channels, inner, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), norm)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        # The sum grows with the cube of the activations, which is soon too large for half precision.
        device = x.device.type
        known = torch.amp.is_autocast_available(device)  # the meta device has no autocast
        with torch.autocast(device, enabled=False) if known else nullcontext():
            wide = x.to(self.g.weight.dtype)
            value, query, key = (project(wide).flatten(2) for project in (self.g, self.theta, self.phi))  # (B, I, h*w)
            # Without a softmax the products may be bracketed so that no (h*w, h*w) matrix is made.
            summary = value @ key.transpose(1, 2) / key.shape[2]  # (B, I, I)
            gathered = (summary @ query).unflatten(2, x.shape[2:])  # (B, I, h, w)
            added: Tensor = self.W(gathered)
        return x + added.to(x.dtype)


# ---- surgery


def add_ibn(body: nn.Module, name: str, *, kind: Literal["a", "b"]) -> None:
    """Turn a timm ResNet into IBN-a or IBN-b, keeping the weights that still have a place.

    IBN-a splits the norm after the first convolution of every block of the first three stages. IBN-b makes the
    stem's norm an instance norm and adds one after the residual sum of the last block of the first two stages.
    New instance norms start at scale 1 and shift 0.

    Raises:
        UserError: a network without plain residual blocks and batch norms.

    """
    network: Any = body
    stages = _stages(body, name, "model.ibn")
    if not all(isinstance(m, nn.BatchNorm2d) for m in (network.bn1, *(b.bn1 for stage in stages for b in stage))):
        raise UserError(f"model.ibn: {name!r} has no batch norms to replace; leave it at 'none'")
    if kind == "a":
        for block in (block for stage in stages[:3] for block in stage):
            split_norm(block)
    else:
        network.bn1 = nn.InstanceNorm2d(network.bn1.num_features, affine=True)
        for stage in stages[:2]:
            norm_after_sum(stage[-1])


def add_se(body: nn.Module, name: str) -> None:
    """Give every block of a timm ResNet squeeze-and-excitation between its last norm and its residual sum.

    Raises:
        UserError: a network without plain residual blocks, or one that has such a module already.

    """
    blocks = [block for stage in _stages(body, name, "model.attention") for block in stage]
    if any(block.se is not None for block in blocks):
        raise UserError(f"model.attention: the blocks of {name!r} have a gate of their own; leave it at 'none'")
    for block in blocks:
        block.se = SqueezeExcitation(_width(block))


def add_non_local(body: nn.Module, name: str, *, kind: Literal["half", "single"]) -> None:
    """Put `NonLocal` behind the last blocks of the second and third stage of a bottleneck ResNet.

    Two blocks of the second stage, and of the third stage three where it has six blocks (ResNet-50) and nine where it
    has more (ResNet-101, and by the same rule ResNet-152).

    Args:
        body: the network.
        name: what the person calls it.
        kind: `half` projects to C / 2 channels, `single` to one, which is what much published code does.

    Raises:
        UserError: a network without plain bottlenecks, or with too few of them.

    Reference: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021 (AGW).

    """
    stages = _stages(body, name, "model.non_local")
    if not isinstance(stages[2][0], Bottleneck) or len(stages[2]) < 6:
        raise UserError(
            f"model.non_local: its places are known for ResNet-50 and deeper bottleneck networks; "
            f"{name!r} is not one, leave it at 'none'"
        )
    for block in stages[1][-2:] + stages[2][-3 if len(stages[2]) == 6 else -9 :]:
        channels = _width(block)
        _extend(block)
        block.NL = NonLocal(channels, inner=channels // 2 if kind == "half" else 1)


def _width(block: Any) -> int:
    last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
    return int(last.out_channels)


def _stages(body: nn.Module, name: str, setting: str) -> list[list[Any]]:
    stages = [list(getattr(body, f"layer{i}")) for i in range(1, 5)] if isinstance(body, ResNet) else []
    if not stages or any(type(block) not in (BasicBlock, Bottleneck) for stage in stages for block in stage):
        raise UserError(
            f"{setting}: only ResNets and ResNeXts with plain residual blocks have a place for it; "
            f"{name!r} has none, leave it at 'none'"
        )
    return stages


def split_norm(block: Any) -> None:
    """Replace the first norm of a timm residual block by a `SplitNorm` that keeps the second half of its weights."""
    plain = block.bn1.state_dict()
    block.bn1 = SplitNorm(block.bn1.num_features)
    half = block.bn1.count_instance
    block.bn1.BN.load_state_dict({key: value[half:] if value.ndim else value for key, value in plain.items()})


def norm_after_sum(block: Any) -> None:
    """Give a timm residual block an instance norm between its residual sum and its last activation."""
    _extend(block)
    block.IN = nn.InstanceNorm2d(_width(block), affine=True)


def _extend(block: Any) -> None:
    """Make room after the residual sum: for a norm, the activation, and a non-local block.

    The modules are children of the block and applied by a hook, so that the names of its tensors stay.
    """
    if hasattr(block, "last_act"):
        return
    name = "act3" if isinstance(block, Bottleneck) else "act2"
    block.last_act = getattr(block, name)
    setattr(block, name, nn.Identity())
    block.IN = nn.Identity()
    block.NL = nn.Identity()
    block.register_forward_hook(_after_sum)


def _after_sum(block: Any, _inputs: object, total: Tensor) -> Tensor:
    after: Tensor = block.NL(block.last_act(block.IN(total)))
    return after
