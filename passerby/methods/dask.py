"""DASK: a small network for each data set gives images its colours, in which later stages are trained a second time.

At the end of a stage the network is trained on the images of its data set; nothing else is kept of them. In a later
stage every batch is also transferred by the network of an earlier data set, with the same labels and the same losses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.data.loading import ImageStore
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mix import LossTerm
from passerby.methods.method import Method, frozen
from passerby.methods.settings import Adds, BaseMethodSettings, RecipeView, StageView
from passerby.models.akpnet import AKPNet, resample_colours
from passerby.types import Batch, Output

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

_MEASURED = 256
"""Number of images on which a network is measured."""


class DaskSettings(BaseMethodSettings):
    """Distribution rehearsing (Xu et al., AAAI 2025)."""

    weight: Annotated[float, Field(ge=0)] = Field(
        4.5, description="weight of all losses of images in earlier colours; 0 = only leave a network"
    )
    domain: Literal["last", "random"] = Field(
        "last", description="colours of the data set of the stage before, or in each epoch of any earlier stage"
    )
    backbone: str = Field("mobilenetv3_small_100", description="backbone of the network, any timm model or an OSNet")
    weights: str = Field("none", description="weights of that backbone: none | pretrained (as published) | a file")
    steps: Annotated[int, Field(ge=0)] = Field(
        400, description="training steps of the network; published: 20,000; 0 = the stage leaves no network"
    )
    batch: Annotated[int, Field(ge=2)] = Field(64, description="images in a step of the network; published: 128")
    lr: Annotated[float, Field(gt=0)] = Field(
        2e-4, description="learning rate of the network, for Adam with betas 0 and 0.999"
    )

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not self.steps and not self.weight:
            raise ValueError("steps: 0 and weight: 0 have no effect; leave the method out")
        return self

    @property
    def makes_images(self) -> bool:
        """Only with a weight of their losses."""
        return bool(self.weight)

    @property
    def adds_loss(self) -> Adds:
        """From the second stage on, which sees the colours of the first."""
        return "later" if self.weight else "never"

    @property
    def reads_memory(self) -> bool:
        """Only a method with a weight uses the networks."""
        return bool(self.weight)

    @property
    def acts_at_end(self) -> bool:
        """Only where the stage leaves a network."""
        return bool(self.steps)

    @property
    def idle(self) -> frozenset[str]:
        """The settings of the network where the stage leaves none."""
        return frozenset() if self.steps else frozenset({"backbone", "weights", "batch", "lr"})

    @property
    def note(self) -> str:
        """A hint at random weights of the network, where it has them."""
        if self.weights != "none" or not self.steps:
            return ""
        return "its network begins with random weights; the published one is pre-trained (weights: pretrained)"

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Refuse images of which only the foreground is left."""
        if stage.foreground.use == "mask":
            raise ValueError(
                "method.dask learns the colours of whole images, and foreground.use: mask covers the background; "
                "use pool or swap, or leave one of them out"
            )


class Dask(Method, settings_class=DaskSettings):
    """A network for the data set of the last stage, or one for each earlier stage, and a second pass of every batch.

    The model gets the batch and its transfer one after the other, so running statistics of batch norms are updated
    twice in a step, and so is the state of losses.

    Reference: Xu et al., "DASK: Distribution Rehearsing via Adaptive Style Kernel Learning for Exemplar-Free Lifelong
    Person Re-Identification", AAAI 2025.
    Differs from the published code: what is transferred is the augmented batch itself, where the published code flips
    and crops anew and erases nothing; the batch norms of the network are frozen, where the published ones are
    updated by each batch; it is trained on plain images drawn at random, not on augmented ones drawn by identity. The
    affinity distillation, the averaged weights and the expanding classifier are `affinity`, `average` and `grow`.

    """

    settings: DaskSettings

    def __init__(self, settings: DaskSettings) -> None:
        super().__init__(settings)
        self.networks = nn.ModuleList()

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Check, before anything is trained, what would fail after the last epoch."""
        settings = self.settings
        if not len(self.networks):
            if ctx.stage_number and settings.weight:
                raise UserError(
                    f"method.dask: no stage before {ctx.stage.name!r} left a network, so there are no earlier colours; "
                    "name the method in an earlier stage, or set weight: 0 to only leave a network"
                )
            if not settings.steps:
                raise UserError(
                    f"method.dask: steps 0 and no earlier stage, so it would do nothing in {ctx.stage.name!r}"
                )
        if settings.steps:
            self._new(ctx)

    def get_extra_state(self) -> list[list[str]]:
        """Return what builds each network."""
        return [network.description for network in self.networks if isinstance(network, AKPNet)]

    def set_extra_state(self, state: list[list[str]]) -> None:
        """Build the networks."""
        self.networks = nn.ModuleList(frozen(AKPNet.of(description)) for description in state)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of the batch in the colours of an earlier data set."""
        settings = self.settings
        if not settings.weight or not len(self.networks):
            return {}
        images = self.transfer(ctx, batch.inputs.images)
        transferred = replace(batch, inputs=replace(batch.inputs, images=images))
        return {
            f"dask {name}": _times(term, settings.weight)
            for name, term in ctx.compute_transferred_losses(transferred).items()
        }

    def transfer(self, ctx: MethodContext, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W), values around 0 to 255, in the colours of an earlier stage."""
        network = self.networks[self._which(ctx)]
        with torch.no_grad():
            normalised: Tensor = network(images.float() / 255)
            return ctx.embedder.divisor * (normalised * ctx.embedder.std + ctx.embedder.mean)

    def _which(self, ctx: MethodContext) -> int:
        """Return the number of the network of the present epoch."""
        if self.settings.domain == "last":
            return len(self.networks) - 1
        generator = torch.Generator().manual_seed(mix_seeds(ctx.seed, ctx.epoch))
        return int(torch.randint(len(self.networks), (), generator=generator))

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Train a network on the colours of the images of the stage, log its error, and keep it."""
        settings = self.settings
        if not settings.steps:
            return
        network = self._new(ctx)
        store = ImageStore(ctx.stage.train.path[ctx.stage.is_new], ctx.embedder.input)
        learn_colours(
            network, store, steps=settings.steps, batch=settings.batch, lr=settings.lr, seed=ctx.seed, device=ctx.device
        )
        network = frozen(network)
        ctx.log_metrics("dask", measure_colours(network, store, seed=ctx.seed, device=ctx.device))
        if settings.domain == "last":
            self.networks = nn.ModuleList()
        self.networks.append(network)

    def _new(self, ctx: MethodContext) -> AKPNet:
        """Make a network whose first weights depend on the stage alone."""
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seeds(ctx.seed, 1))
            try:
                network = AKPNet(settings.backbone, ctx.embedder.input, weights=settings.weights)
            except UserError as error:
                raise UserError(f"method.dask: {error}") from error
        return network.to(ctx.device)


def _times(term: LossTerm, weight: float) -> LossTerm:
    """Return a term that counts `weight` times as much; one whose own weight is learnt is taken as it is added."""
    if term.log_variance is None:
        return LossTerm(term.value, weight * term.weight)
    return LossTerm(term.weighted, weight)


# ---- learning


def learn_colours(
    network: AKPNet, store: ImageStore, *, steps: int, batch: int, lr: float, seed: int, device: torch.device
) -> None:
    """Train a network to restore images whose colours were drawn anew.

    Args:
        network: changed in place.
        store: the images of a data set.
        steps: number of training steps.
        batch: images per step, drawn with replacement.
        lr: learning rate of Adam.
        seed: seed of the images and colours that are drawn.
        device: device of the network.

    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.999), fused=True)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(store), (batch,), generator=generator).tolist()
        recoloured, target = _pair(store, rows, generator, device=device)
        loss = F.l1_loss(network(recoloured), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def measure_colours(network: AKPNet, store: ImageStore, *, seed: int, device: torch.device) -> dict[str, float]:
    """Return the error of images with other colours, restored by the network (`error`) and as they are.

    Both are mean absolute differences of normalised images, over at most 256 of them.
    """
    generator = torch.Generator().manual_seed(mix_seeds(seed, 2))
    rows = torch.randint(len(store), (_MEASURED,), generator=generator).split(64)
    errors: dict[str, float] = {"error": 0.0, "error without": 0.0}
    with torch.no_grad():
        for some in rows:
            recoloured, target = _pair(store, some.tolist(), generator, device=device)
            errors["error"] += float(F.l1_loss(network(recoloured), target)) / len(rows)
            errors["error without"] += float(F.l1_loss(_normalised(recoloured, store), target)) / len(rows)
    return errors


def _pair(
    store: ImageStore, rows: list[int], generator: torch.Generator, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, H, W) with colours drawn anew, values near [0, 1], and as they were, normalised."""
    images = torch.stack([store[row] for row in rows]).to(device).float() / 255
    return resample_colours(images, generator), _normalised(images, store)


def _normalised(images: Tensor, store: ImageStore) -> Tensor:
    mean, std = (images.new_tensor(values).reshape(3, 1, 1) for values in (store.inputs.mean, store.inputs.std))
    return (images - mean) / std
