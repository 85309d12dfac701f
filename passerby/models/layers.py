"""Layers of a backbone, for learning rates that fall with the depth."""

from __future__ import annotations

from typing import Any

from torch import nn

from passerby.errors import UserError


def layer_scales(body: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter of a network, by name: decay ** (L - layer).

    Layers count from 0, the stem, to L - 1, the last block; the layer L is whatever stands on the network.

    Args:
        body: a timm model without classifier; it knows its own layers.
        decay: factor from one layer to the one below it, in (0, 1).

    Raises:
        UserError: the network does not know its layers.

    Reference: Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022 (published code); the layers are
    those of timm.

    """
    from timm.models import group_parameters

    matcher: Any = getattr(body, "group_matcher", None)
    if matcher is None:
        raise UserError("optim.layer_decay: this backbone has no numbered layers; leave it out")
    layers: dict[str, int] = group_parameters(body, matcher(coarse=False), reverse=True)
    above = max(layers.values()) + 1
    return {name: decay ** (above - layer) for name, layer in layers.items()}
