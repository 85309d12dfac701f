"""Backbones: any timm model or OSNet by name, and the usual changes of ResNets for re-identification.

Weights come from a local file (torchvision, timm, IBN-Net, torchreid, fast-reid or passerby) or from timm's hub; a file
that does not fit is refused with the keys that differ, because a network that was silently left at random weights costs
a person days.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from passerby.errors import UserError, did_you_mean, first_line
from passerby.models.blocks import (
    AttentionKind,
    IBNKind,
    NonLocalKind,
    add_ibn,
    add_non_local,
    add_se,
)
from passerby.models.fitting import blocks_beyond, fit_plain, fit_positions, inner, new_to
from passerby.models.osnet import OSNETS, OSNet
from passerby.models.weights_file import read_weights

StemPool = Literal["torchvision", "fastreid"]

_CLASSIFIERS = {
    f"{name}.{kind}"
    for name in ("fc", "head", "head.fc", "head_dist", "classifier", "last_linear")
    for kind in ("weight", "bias")
}
_HUB = ("huggingface.co", 443)


class Backbone(nn.Module):
    """A timm model or an OSNet that returns its last feature map.

    Whoever pools the map passes the pooled vector through `head`. That does nothing to most networks; an OSNet has a
    layer there, so that its vectors are the published ones, of length 512 whatever the channels of its map.

    Args:
        name: a timm model name, with or without a weights tag (`resnet50`, `resnet50.tv_in1k`), or one of `OSNETS`.
        size: (H, W) of the images; models with fixed position tables are built for it.
        last_stride: stride of a ResNet's last stage, 1 or 2. Stride 1 doubles the map without dilation
            (Luo et al., CVPR Workshops 2019, section 3.5).
        ibn: instance-batch normalisation of a ResNet.
        attention: channel gates in the blocks of a ResNet.
        non_local: non-local blocks in a bottleneck ResNet, with half the channels or a single one inside.
        stem_pool: borders of a ResNet's first pooling; see `set_stem_pool`.
        pretrained: whether timm loads its own weights.

    Raises:
        UserError: an unknown name, surgery on a model that has no place for it, or weights that cannot be had.

    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        *,
        last_stride: Literal[1, 2] = 2,
        ibn: IBNKind = "none",
        attention: AttentionKind = "none",
        non_local: NonLocalKind = "none",
        stem_pool: StemPool = "torchvision",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        _require_known(name)
        if pretrained:
            _require_reachable(name)
        self.body = _create(name, size, pretrained=pretrained)
        self.channels = int(self.body.num_features)
        self.dimension = self.body.dimension if isinstance(self.body, OSNet) else self.channels
        if last_stride == 1:
            set_last_stride(self.body, name)
        if stem_pool == "fastreid":
            set_stem_pool(self.body, name)
        if ibn != "none":
            _require_no_variant(name)
            add_ibn(self.body, name, kind=ibn)
        if attention == "se":
            add_se(self.body, name)
        if non_local != "none":
            add_non_local(self.body, name, kind=non_local)
        self._require_fit(name, size)

    def _require_fit(self, name: str, size: tuple[int, int]) -> None:
        """Run one black image through the model, because many models reject an image size only then."""
        self.eval()
        try:
            with torch.no_grad():
                featuremap, pooled = self(torch.zeros(1, 3, *size))
        except Exception as error:  # each family has its own way to say no
            raise UserError(f"{name!r} cannot take images of input.size {size} ({first_line(error)})") from error
        finally:
            self.train()
        if featuremap.shape[1] != self.channels:
            raise UserError(f"model.backbone: {name!r} makes maps of a kind that passerby does not know")
        self.pools_itself = pooled is not None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map normalised images (B, 3, H, W) to the map (B, C, h, w) and, for token models, their own pooled (B, C)."""
        features = self.body.forward_features(images)
        if features.ndim == 4:
            channels_first = features.shape[1] == self.channels
            return (features if channels_first else features.permute(0, 3, 1, 2).contiguous()), None
        pooled = self.body.forward_head(features, pre_logits=True)
        tokens = features[:, getattr(self.body, "num_prefix_tokens", 0) :]  # (B, h*w, C)
        height, width = self.body.patch_embed.grid_size
        return tokens.transpose(1, 2).unflatten(2, (height, width)), pooled

    def head(self, pooled: Tensor) -> Tensor:
        """Map the pooled (B, C) to the feature (B, D) in float32: by the `fc` of an OSNet, unchanged by others."""
        return self.body.fc(pooled).float() if isinstance(self.body, OSNet) else pooled


def _require_known(name: str) -> None:
    if name not in OSNETS and not timm.is_model(name.split(".")[0]):
        hint = did_you_mean(name, [*timm.list_models(), *OSNETS])
        hint = hint or f"; `timm.list_models()` names all, and the OSNets are {', '.join(OSNETS)}"
        raise UserError(f"model.backbone: {name!r} is not a timm model and not an OSNet{hint}")


def _require_no_variant(name: str) -> None:
    if name in OSNETS:
        variants = ", ".join(other for other in OSNETS if "_ibn_" in other or "_ain_" in other)
        raise UserError(
            f"model.ibn: an OSNet has its instance norms by name, so leave it at 'none' and choose one of {variants}"
        )


def _create(name: str, size: tuple[int, int], *, pretrained: bool) -> Any:  # timm's models share a manner, not a class
    if name in OSNETS:
        return OSNet(OSNETS[name])
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size)
    except TypeError:  # most convolutional networks take any size and know no img_size
        return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except RuntimeError as error:
        raise UserError(f"model.backbone: timm cannot build {name!r}: {error}") from error
    except AssertionError as error:
        raise UserError(f"input.size {size} does not suit {name!r}: {error}") from error


def set_last_stride(body: Any, name: str) -> None:
    """Give the last stage of a timm ResNet stride 1, in the convolution that carried it and in its shortcut."""
    if not isinstance(body, timm.models.resnet.ResNet):
        raise UserError(f"model.last_stride: 1 is for the ResNet family; {name!r} has no such stride, leave it at 2")
    last: Any = body.layer4
    block = last[0]
    shortcut = [] if block.downsample is None else list(block.downsample.modules())
    for module in (block.conv1, block.conv2, *shortcut):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d):  # the shortcut of the "d" variants pools first
            module.kernel_size = module.stride = 1


def set_stem_pool(body: Any, name: str) -> None:
    """Let the first pooling of a ResNet see the pixels beyond the right and lower border instead of all round.

    fast-reid pools so, and its weights give its own vectors only so.
    """
    pool: Any = getattr(body, "maxpool", None)
    if not isinstance(body, timm.models.resnet.ResNet) or not isinstance(pool, nn.MaxPool2d):
        raise UserError(
            f"model.stem_pool: only ResNets that begin with a max pooling have a place for it; "
            f"{name!r} has none, leave it at 'torchvision'"
        )
    pool.padding, pool.ceil_mode = 0, True


# ---- weights


@dataclass(frozen=True)
class Loaded:
    """Report of loading a file of weights.

    Attributes:
        count_matched: tensors that were taken from the file.
        kept: tensors of blocks that the file does not know; they have their initial values.
        unused: tensors of the file that have no place, classifiers left out.
        resampled: tables of positions that were made for another size of images.

    """

    count_matched: int
    kept: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say all of it in one line."""
        parts = {"keep their initial values": self.kept, "unused": self.unused, "resampled": self.resampled}
        told = [f"{len(names)} {what} ({_few(names)})" for what, names in parts.items() if names]
        return ", ".join([f"{self.count_matched} tensors match", *told])


def _few(names: Sequence[str], *, most: int = 3) -> str:
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def load_backbone(backbone: Backbone, path: str | Path) -> Loaded:
    """Load published or own weights into a backbone, every tensor or nothing.

    Blocks that the file does not know at all keep their initial values. Layers that only the file has are an error,
    because its other weights were learnt with them. See `fit_plain` and `fit_positions`.

    Raises:
        UserError: no such file, not a weights file, missing tensors, tensors of another shape, or layers too many.

    """
    body = backbone.body
    found = fit_plain(_plain_keys(read_weights(path), path), body)
    resampled = fit_positions(found, body)
    wanted, kept = body.state_dict(), new_to(found, body)
    matched = {key: value for key, value in found.items() if key in wanted and key not in kept}
    unused = tuple(sorted(k for k in found if k not in matched and k not in _CLASSIFIERS))
    odd = {
        "missing": [k for k in wanted if not (k in found or k in kept or k.endswith("num_batches_tracked"))],
        "of another shape": [_shapes(k, v, wanted[k]) for k, v in matched.items() if v.shape != wanted[k].shape],
        "only in the file": inner(unused, body),
    }
    beyond = blocks_beyond(found, body)
    if beyond or any(odd.values()):
        count = len(matched) - len(odd["of another shape"])
        told = "; ".join(f"{len(keys)} {what} ({_few(keys)})" for what, keys in odd.items() if keys)
        hint = f"; the file was written with {' and '.join(beyond)}" if beyond else ""
        raise UserError(f"{path} does not fit the backbone: {count} of {len(wanted)} tensors match; {told}{hint}")
    body.load_state_dict(matched, strict=False)
    return Loaded(len(matched), tuple(k for k in wanted if k in kept), unused, resampled)


def _shapes(key: str, found: Tensor, wanted: Tensor) -> str:
    return f"{key} {tuple(found.shape)} instead of {tuple(wanted.shape)}"


def _plain_keys(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        for prefix in ("module.", "model.", "backbone.", "base.", "body."):
            key = key.removeprefix(prefix)
        if key in plain:
            raise UserError(f"{path} holds {key!r} twice, as of two networks; keep the one that is meant")
        plain[key] = value
    return plain


def _require_reachable(name: str) -> None:
    """Raise an error at once if weights cannot be downloaded, before timm's retries and traceback."""
    if name in OSNETS:
        raise UserError(f"torchreid publishes the weights of {name!r} as a file; fetch it and set model.weights to it")
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UserError(f"timm has no pretrained weights for {name!r}; set model.weights to a file or to 'none'")
    if not config.hf_hub_id or _cached(config.hf_hub_id):
        return
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        try:
            socket.create_connection(_HUB, timeout=3).close()
            return
        except OSError:
            pass
    raise UserError(
        f"the pretrained weights of {name!r} are not on this machine and {_HUB[0]} cannot be reached; fetch "
        f"https://{_HUB[0]}/{config.hf_hub_id}/resolve/main/model.safetensors elsewhere and set model.weights to it"
    )


def _cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files)
