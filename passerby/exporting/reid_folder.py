"""A folder that Roboflow's `reid` loads: weights.safetensors and reid_config.json.

That program builds the network by itself, `osnet_*` or a model of timm with timm's own pooling, so there is no place
for anything that a graph could hold besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from passerby.encoders import Trained
from passerby.errors import UserError
from passerby.exporting.parity import Parity, parity, patchwork
from passerby.files import atomic_write, write_json
from passerby.inference.embed import tested_vectors
from passerby.models.embedder import Embedder
from passerby.models.osnet import OSNETS, OSNet, OsnetBackbone
from passerby.models.timm_backbone import TimmBackbone
from passerby.settings import Settings
from passerby.types import Floats, Inputs

OSNET_NAMES = ("osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25")
"""The OSNets of that program."""
_LIMIT = 1e-4


def write_reid_folder(trained: Trained, out: Path) -> Parity:
    """Write a model as a folder of `reid`, once its network gives the same vectors.

    Args:
        trained: the model.
        out: the folder.

    Raises:
        UserError: a part of the model that `reid` has no place for, named.

    """
    from safetensors.torch import save

    embedder = trained.embedder
    reasons = list(obstacles(trained))
    if reasons:
        raise UserError(
            f"reid builds its networks by itself and cannot take this model: {'; '.join(reasons)}. Export it for "
            "another program, or use it by passerby.Encoder"
        )
    architecture = embedder.settings.backbone
    if isinstance(embedder.backbone, TimmBackbone):
        architecture = f"timm:{architecture}"
    state = {key: value.detach().contiguous().cpu() for key, value in embedder.backbone.body.state_dict().items()}
    difference = _compare(trained, state)
    if not difference.cosine <= _LIMIT:
        raise UserError(
            f"{out} was not written: timm's own pooling would give vectors up to {difference.cosine:.1e} in cosine "
            f"distance from those of passerby, and {_LIMIT:.0e} is allowed"
        )
    with atomic_write(out / "weights.safetensors") as file:
        file.write(save(state))
    write_json(out / "reid_config.json", {"architecture": architecture, "preprocessing": preprocessing(embedder)})
    return difference


def preprocessing(embedder: Embedder) -> dict[str, object]:
    """Return how `reid` prepares the crops of a frame."""
    return {
        "input_size": list(embedder.input.size),
        "mean": list(embedder.input.mean),
        "std": list(embedder.input.std),
        "interpolation": embedder.input.interpolation,
        "to_rgb": True,
        "resize_mode": "stretch",
        "pad_value": 0,
    }


def obstacles(trained: Trained) -> Iterator[str]:
    """Yield the parts of a model that `reid` has no place for, as ends of a sentence."""
    embedder, settings = trained.embedder, trained.embedder.settings
    backbone = embedder.backbone
    if isinstance(backbone, OsnetBackbone):
        if settings.backbone not in OSNET_NAMES:
            yield f"it has no {settings.backbone} (only {', '.join(OSNET_NAMES)})"
    elif not isinstance(backbone, TimmBackbone):
        yield f"it has no {settings.backbone!r}, only OSNets and models of timm"
    if trained.feature == "after_neck" and settings.neck != "none":
        yield "the tested vector is after_neck, and it has no neck (--feature before_neck exports the other one)"
    if settings.pool != "avg":
        yield f"it has no pooling {settings.pool!r}, only the average"
    yield from _changes(settings, backbone.architecture)
    if trained.flip:
        yield "it averages no mirror images (--flip off)"
    if embedder.input.colour == "bgr":
        yield "it takes RGB images, and this model BGR"


def _changes(settings: Settings, architecture: Settings) -> Iterator[str]:
    """Yield the changes to a published network."""
    plain = {"ibn": "none", "attention": "none", "non_local": "none", "stem_pool": "torchvision"}
    values = settings.model_dump()
    for name, value in plain.items():
        if values[name] != value:
            yield f"it has no model.{name}={values[name]}"
    if architecture != type(architecture)():
        yield "it takes networks by name alone, without settings of model.architecture"
    if values["last_stride"] == 1 and "osnet" not in str(values["backbone"]):
        yield "it has no last stride of 1"


def _compare(trained: Trained, state: dict[str, torch.Tensor]) -> Parity:
    """Compare the network as `reid` builds it with the model, on the same images."""
    embedder = trained.embedder
    images = torch.from_numpy(patchwork(8, embedder.input.size)).to(embedder.mean.device)
    network = _network(embedder).to(embedder.mean.device)
    network.load_state_dict(state)
    network.eval()
    with torch.inference_mode():
        ours = tested_vectors(embedder, Inputs.of_images(images), feature=trained.feature, flip=False)
        theirs = network(embedder.normalise(images))
    return parity(_numbers(ours), _numbers(theirs))


def _numbers(vectors: torch.Tensor) -> Floats:
    return vectors.float().cpu().numpy()


def _network(embedder: Embedder) -> nn.Module:
    """Build the network as `reid` does: by its name alone."""
    import timm

    name = embedder.settings.backbone
    if isinstance(embedder.backbone, TimmBackbone):
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
        return network
    return _PooledOsnet(OSNETS[name])


class _PooledOsnet(OSNet):
    """An OSNet with average pooling and `fc`, as in torchreid."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to vectors (B, 512)."""
        vectors: torch.Tensor = self.fc(self.forward_features(images).mean(dim=(2, 3)))
        return vectors
