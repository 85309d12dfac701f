"""The registry table of the backbone families, and the files of weights that backbones are loaded from.

Weights come from a local file (torchvision, timm, IBN-Net, torchreid, fast-reid or passerby) or from timm's hub; a file
that does not fit is refused with the keys that differ, because a network that was silently left at random weights costs
a person days.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from passerby.errors import UserError, did_you_mean
from passerby.models.backbone import Backbone
from passerby.models.blocks import AttentionKind, IBNKind, NonLocalKind
from passerby.models.clip_resnet import ClipResnetBackbone
from passerby.models.fitting import blocks_beyond, fit_plain, fit_positions, inner, new_to
from passerby.models.mgn import MgnBackbone
from passerby.models.osnet import OsnetBackbone
from passerby.models.surgery import StemPool, Surgery
from passerby.models.timm_backbone import TimmBackbone
from passerby.models.transformer_backbones import ClipVitBackbone, SwinBackbone, VitBackbone
from passerby.models.weights_file import few_names, read_weights
from passerby.plugins import load_plugins
from passerby.registry import Table
from passerby.settings import Plain, Settings, build

_CLASSIFIERS = {
    f"{name}.{kind}"
    for name in ("fc", "head", "head.fc", "head_dist", "classifier", "last_linear")
    for kind in ("weight", "bias")
}


BACKBONES: Table[Backbone] = Table(
    "backbone family",
    Backbone,
    {
        "timm": TimmBackbone,
        "osnet": OsnetBackbone,
        "vit": VitBackbone,
        "clip_vit": ClipVitBackbone,
        "swin": SwinBackbone,
        "mgn": MgnBackbone,
        "clip_resnet": ClipResnetBackbone,
    },
)
"""The families of backbones; where several know a name, the last one builds it."""


def make_backbone(
    name: str,
    size: tuple[int, int],
    *,
    last_stride: Literal[1, 2] = 2,
    ibn: IBNKind = "none",
    attention: AttentionKind = "none",
    non_local: NonLocalKind = "none",
    stem_pool: StemPool = "torchvision",
    architecture: Mapping[str, Plain] | None = None,
    pretrained: bool = False,
    count_cameras: int = 0,
) -> Backbone:
    """Build a backbone by the family that knows its name.

    Args:
        name: a timm model name, with or without a weights tag (`resnet50`, `resnet50.tv_in1k`), an OSNet, or a network
            of a family that was registered.
        size: (H, W) of the images; models with fixed position tables are built for it.
        last_stride: see `Surgery`.
        ibn: see `Surgery`.
        attention: see `Surgery`.
        non_local: see `Surgery`.
        stem_pool: see `Surgery`.
        architecture: settings of the family (its `settings_class`); None = the defaults.
        pretrained: whether the family loads its own weights.
        count_cameras: rows of the camera table of the model; of no effect where the network uses no cameras.

    Raises:
        UserError: an unknown name, settings or surgery that the model has no place for, or weights that cannot be had.

    """
    load_plugins()
    family = next((family for family in reversed(list(BACKBONES.values())) if family.knows(name)), None)
    if family is None:
        hint = did_you_mean(name, [known for family in BACKBONES.values() for known in family.names()])
        hint = hint or f"; known: {'; '.join(family.summary for family in BACKBONES.values())}"
        raise UserError(f"model.backbone: no family of backbones knows {name!r}{hint}")
    surgery = Surgery(last_stride, ibn, attention, non_local, stem_pool)
    return family(
        name,
        size,
        surgery=surgery,
        architecture=_architecture(family, name, architecture or {}),
        pretrained=pretrained,
        count_cameras=count_cameras,
    )


def _architecture(family: type[Backbone], name: str, architecture: Mapping[str, Plain]) -> Settings:
    if architecture and not family.settings_class.model_fields:
        raise UserError(f"model.architecture: {name!r} has no settings of its own; leave it out")
    return build(family.settings_class, architecture, source="model.architecture")


# ---- weights


@dataclass(frozen=True)
class Loaded:
    """Report of loading a file of weights.

    Attributes:
        count_matched: tensors that were taken from the file.
        kept: tensors of blocks that the file does not know; they have their initial values.
        unused: tensors of the file that have no place, classifiers left out.
        resampled: tables of positions that were made for another size of images.
        notes: sentences on how the file is meant to be used, where the network is used in another way.

    """

    count_matched: int
    kept: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say all of it in one line."""
        parts = {"keep their initial values": self.kept, "unused": self.unused, "resampled": self.resampled}
        listed = [f"{len(names)} {fate} ({few_names(names)})" for fate, names in parts.items() if names]
        return "; ".join([", ".join([f"{self.count_matched} tensors match", *listed]), *self.notes])


def load_backbone(backbone: Backbone, path: str | Path) -> Loaded:
    """Load published or own weights into a backbone, every tensor or nothing.

    Blocks that the file does not know at all keep their initial values. Layers that only the file has are an error,
    because its other weights were learnt with them. See `fit_plain` and `fit_positions`.

    Raises:
        UserError: no such file, not a weights file, missing tensors, tensors of another shape, or layers too many.

    """
    return fit_tensors(backbone, _plain_keys(read_weights(path), path), source=str(path))


def fit_tensors(
    backbone: Backbone, tensors: Mapping[str, Tensor], *, source: str, optional: Collection[str] = ()
) -> Loaded:
    """Load tensors by the names of the network into a backbone, every tensor or nothing; see `load_backbone`.

    Args:
        backbone: the backbone.
        tensors: by name.
        source: how error texts call them.
        optional: tensors of the network that keep their initial values where they are missing.

    Raises:
        UserError: missing tensors, tensors of another shape, or layers too many.

    """
    body = backbone.body
    fitted = fit_plain(tensors, body)
    resampled = fit_positions(fitted, body)
    state = body.state_dict()
    initial = new_to(fitted, body) | (set(optional) & state.keys() - fitted.keys())
    matched = {key: value for key, value in fitted.items() if key in state and key not in initial}
    unused = tuple(sorted(k for k in fitted if k not in matched and k not in _CLASSIFIERS))
    odd = {
        "missing": [k for k in state if not (k in fitted or k in initial or k.endswith("num_batches_tracked"))],
        "of another shape": [_shapes(k, v, state[k]) for k, v in matched.items() if v.shape != state[k].shape],
        "only in the file": inner(unused, body),
    }
    beyond = blocks_beyond(fitted, body)
    if beyond or any(odd.values()):
        count = len(matched) - len(odd["of another shape"])
        listed = [f"{len(keys)} {fault} ({few_names(keys)})" for fault, keys in odd.items() if keys]
        listed += [f"the file was written with {' and '.join(beyond)}"] if beyond else []
        reasons = "; ".join([f"{count} of {len(state)} tensors match", *listed])
        raise UserError(f"{source} does not fit the backbone: {reasons}")
    body.load_state_dict(matched, strict=False)
    return Loaded(len(matched), tuple(k for k in state if k in initial), unused, resampled)


def _shapes(key: str, tensor: Tensor, expected: Tensor) -> str:
    return f"{key} {tuple(tensor.shape)} instead of {tuple(expected.shape)}"


def _plain_keys(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        for prefix in ("module.", "model.", "backbone.", "base.", "body."):
            key = key.removeprefix(prefix)
        if key in plain:
            raise UserError(f"{path} holds {key!r} twice, as of two networks; keep the one that is meant")
        plain[key] = value
    return plain
