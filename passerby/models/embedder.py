"""The embedder: image in, vectors out. Classifiers belong to the losses, so this is all that search and export need.

Images arrive as bytes; the mean and the standard deviation are buffers of the model. Whatever holds the weights
therefore prepares its images in the same way, wherever it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.files import atomic_write, reading
from passerby.inputs import InputSettings
from passerby.metadata import safetensors_texts
from passerby.models.backbone import Backbone
from passerby.models.backbones import Loaded, load_backbone, make_backbone
from passerby.models.blocks import AttentionKind, IBNKind, NonLocalKind
from passerby.models.groups import fixed_statistics
from passerby.models.normalisation import normalise, register_normalisation
from passerby.models.pooling import Pool, PoolKind, coverage
from passerby.models.surgery import StemPool
from passerby.models.weights_file import read_weights
from passerby.settings import Settings, build
from passerby.types import NO_CAMERAS, CameraTable, Inputs, Output

if TYPE_CHECKING:
    from passerby.models.clip_text import ClipTextTower

TEXT_TOWER = "text_tower."
"""Beginning of the names of the tensors of a text tower in a model file of passerby."""


class ModelSettings(Settings):
    """Network that turns an image into a vector."""

    backbone: str = Field("resnet50", description="any timm model, for example resnet50.tv_in1k, or an OSNet")
    weights: str = Field("none", description="none | pretrained (timm's, downloaded) | a local file")
    last_stride: Literal[1, 2] = Field(2, description="1 doubles a ResNet's last map, without dilation")
    ibn: IBNKind = Field("none", description="instance and batch norms in a ResNet, as IBN-Net-a or IBN-Net-b")
    attention: AttentionKind = Field("none", description="se: squeeze-and-excitation in every block of a ResNet")
    non_local: NonLocalKind = Field("none", description="non-local blocks; inner width half the channels, or single")
    stem_pool: StemPool = Field(
        "torchvision", description="fastreid: a ResNet's first pooling as in fast-reid's weights"
    )
    architecture: dict[str, JsonValue] = Field(
        {}, description="settings of the backbone's family for what its name leaves open, such as widths or heads"
    )
    pool: PoolKind = Field("avg", description="avg_max is their sum; gem has p = 3, gem_learned learns p from 3 on")
    neck: Literal["bnneck", "none"] = "bnneck"
    stripes: Annotated[int, Field(ge=2)] | None = Field(
        None, description="also pool so many horizontal stripes of the map, for methods that look at them; null = none"
    )


class Embedder(nn.Module):
    """Backbone, pooling and neck.

    The neck is a batch norm without shift between the feature (which metric losses see) and the embedding (which the
    classifier and the search see).

    Args:
        settings: the network.
        input_settings: what its images look like.
        load: whether to load the weights that the settings name; off when a checkpoint follows.
        loader: function that loads the file of weights that the settings name into a backbone.
        cameras: those of the training images; kept, as the attribute `cameras`, only where the backbone uses cameras.

    Reference: Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019.

    """

    divisor: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        input_settings: InputSettings,
        *,
        load: bool = True,
        loader: Callable[[Backbone, str], Loaded] = load_backbone,
        cameras: CameraTable = NO_CAMERAS,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.input = input_settings
        self.loaded: Loaded | None = None
        self._compiled: Callable[[Inputs], tuple[Tensor, Tensor | None, Tensor | None]] | None = None
        pretrained = load and settings.weights == "pretrained"
        self.backbone = make_backbone(
            settings.backbone,
            input_settings.size,
            last_stride=settings.last_stride,
            ibn=settings.ibn,
            attention=settings.attention,
            non_local=settings.non_local,
            stem_pool=settings.stem_pool,
            architecture=settings.architecture,
            pretrained=pretrained,
            count_cameras=cameras.count,
        )
        self.cameras = cameras if self.backbone.uses_cameras else NO_CAMERAS
        if self.backbone.pools_itself and settings.pool != "avg":
            raise UserError(
                f"model.pool: {settings.backbone!r} pools its own tokens, so {settings.pool!r} has no effect; "
                "leave it at 'avg'"
            )
        if self.backbone.pools_itself and settings.stripes is not None:
            raise UserError(
                f"model.stripes: {settings.backbone!r} pools its own tokens, so it has no map to cut; leave it out"
            )
        self.pool = Pool(settings.pool)
        self.neck = nn.Identity() if settings.neck == "none" else bnneck(self.dimension)
        register_normalisation(self, input_settings)
        if load and settings.weights not in ("none", "pretrained"):
            self.loaded = loader(self.backbone, settings.weights)

    @property
    def dimension(self) -> int:
        """Length D of both vectors."""
        return self.backbone.dimension

    def forward(self, inputs: Inputs) -> Output:
        """Map inputs to an `Output` with D = `dimension`; a backbone that pools itself takes no mask."""
        images, mask = self.normalise(inputs.images), inputs.mask
        run = self.backbone.forward_all if self._compiled is None or not self.training else self._compiled
        featuremap, pooled, earlier = run(replace(inputs, images=images))
        feature = self.backbone.head(self.pool(featuremap, mask)) if pooled is None else pooled.float()  # (B, D)
        return Output(
            feature,
            self.neck(feature),
            featuremap,
            self._stripes(featuremap, mask),
            projected=feature[:, -self.backbone.projection :] if self.backbone.projection else None,
            penultimate=None if earlier is None else earlier.float(),
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W), values 0 to 255 in any dtype, as the backbone takes them."""
        return normalise(images, divisor=self.divisor, mean=self.mean, std=self.std)

    def compile_training(self, *, backend: str = "inductor") -> None:
        """Run the backbone by torch.compile in `train` mode; copies of the embedder, and `eval` mode, are not compiled.

        Args:
            backend: of torch.compile.

        """
        self._compiled = torch.compile(self.backbone.forward_all, backend=backend)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the compiled backbone, which holds the weights of this embedder."""
        return {**super().__getstate__(), "_compiled": None}  # type: ignore[no-untyped-call]

    def _stripes(self, featuremap: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the pooled stripes (B, P, D) of a map, from top to bottom, like the feature of the whole."""
        count, height = self.settings.stripes, featuremap.shape[2]
        if count is None:
            return None
        if height < count:
            raise UserError(f"model.stripes: the map is {height} rows high, which cannot be cut into {count} stripes")
        # The mask is brought to the map's size before it is cut: pixel rows are not cut where map rows are.
        cells = None if mask is None else coverage(mask, (height, featuremap.shape[3]))
        masks = [None] * count if cells is None else cells.tensor_split(count, dim=2)
        pieces = zip(featuremap.tensor_split(count, dim=2), masks, strict=True)
        # A batch norm after the pooling has the statistics of whole images, which stripes use and do not move.
        with fixed_statistics(self.backbone):
            return torch.stack(
                [self.backbone.head(self.pool(piece, piece_mask)) for piece, piece_mask in pieces], dim=1
            )


def bnneck(dimension: int) -> nn.BatchNorm1d:
    """Return a batch norm whose shift stays 0."""
    neck = nn.BatchNorm1d(dimension)
    neck.bias.requires_grad_(False)
    return neck


# ---- the architecture as plain data


def describe_network(embedder: Embedder) -> list[str]:
    """Return the settings that build a network like this one, and its cameras where it uses them, as JSON."""
    cameras = [json.dumps(embedder.cameras.to_plain())] if embedder.cameras.count else []
    return [embedder.settings.model_dump_json(), embedder.input.model_dump_json(), *cameras]


def network_of(description: Sequence[str]) -> Embedder:
    """Build a network from `describe_network`, with weights drawn at random."""
    model, inputs, *further = description
    cameras = CameraTable.from_plain(json.loads(further[0]), source="the network") if further else NO_CAMERAS
    settings, input_settings = ModelSettings.model_validate_json(model), InputSettings.model_validate_json(inputs)
    return Embedder(settings, input_settings, load=False, cameras=cameras)


# ---- one file that is all of a trained model


def save_embedder(
    embedder: Embedder, path: str | Path, *, recipe: str, text_tower: ClipTextTower | None = None
) -> None:
    """Write weights, input settings and recipe as one .safetensors, atomically.

    Args:
        embedder: the model.
        path: the file.
        recipe: YAML of the run that made it, kept for the record.
        text_tower: encoder of texts in the space of projected images, stored beside the model; see `load_text_tower`.

    """
    from safetensors.torch import save

    state = {key: value.detach().contiguous().cpu() for key, value in embedder.state_dict().items()}
    described = {"model": embedder.settings.model_dump(mode="json"), "input": embedder.input.model_dump(mode="json")}
    if embedder.cameras.count:
        described["cameras"] = embedder.cameras.to_plain()
    if text_tower is not None:
        state |= {f"{TEXT_TOWER}{key}": value.contiguous().cpu() for key, value in text_tower.state_dict().items()}
        described["text_tower"] = text_tower.settings.model_dump(mode="json")
    with atomic_write(path) as file:
        file.write(_in_order(save(state, {"passerby": json.dumps(described), "recipe": recipe})))


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a .safetensors, which come in any order, so that the same model gives the same file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def load_embedder(path: str | Path) -> Embedder:
    """Read a file written by `save_embedder`, ready to embed (`eval` mode).

    Raises:
        UserError: no such file, or one that passerby did not write.

    """
    path = Path(path)
    state = {key: value for key, value in read_weights(path).items() if not key.startswith(TEXT_TOWER)}
    try:
        described = json.loads(safetensors_texts(path)["passerby"])
        model, inputs = dict(described["model"]), dict(described["input"])
        cameras = dict(described.get("cameras", {}))
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"{path} holds weights but no passerby settings; it was written by another program") from error
    settings = build(ModelSettings, model, source=str(path))
    with reading(path, "a model that fits into this program"):
        table = CameraTable.from_plain(cameras, source=str(path))
        embedder = Embedder(settings, build(InputSettings, inputs, source=str(path)), load=False, cameras=table)
    load_state(embedder, state, source=str(path))
    return embedder.eval()


def load_state(embedder: Embedder, state: dict[str, Tensor], *, source: str) -> None:
    """Load a full embedder state; a key or shape that differs is a `UserError` that names it."""
    try:
        embedder.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise UserError(f"{source} was made by another model: {first}") from error
