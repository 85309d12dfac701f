"""Encoder based lifelong learning: each stage leaves codes of its features, which later models should not change.

In two steps. At the end of a stage autoencoders are trained on the features of the final model: one for each named
loss, independent of each other. From the next stage on their encoders map the features of the earlier and of the
present model to codes, whose distances are losses; every earlier stage has encoders of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mix import LossTerm
from passerby.methods.autoencoder import Activation, Autoencoder, Place, Reduction, code_distance
from passerby.methods.code_quality import code_figures, code_scores, code_warning, collapse_sentence
from passerby.methods.encoder import Description, Encoder, describe_encoder, empty_encoder, input_width, require_fit
from passerby.methods.method import Method, frozen
from passerby.methods.reconstruction import (
    COLLAPSED,
    OBJECTIVES,
    AutoencoderLoss,
    AutoencoderTraining,
    FeatureSource,
    Fit,
    Objective,
    fit_autoencoders,
    measure,
    objective,
    output_from,
)
from passerby.methods.settings import Adds, BaseMethodSettings
from passerby.models.embedder import Embedder
from passerby.types import Batch, Output, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

NonNegative = Annotated[float, Field(ge=0)]


class EbllSettings(BaseMethodSettings):
    """Encoder based lifelong learning (Rannen et al., ICCV 2017)."""

    uses_previous_model: ClassVar[bool] = True
    transfers: ClassVar[bool] = True
    reported: ClassVar[tuple[str, ...]] = OBJECTIVES

    place: Place = "after_pooling"
    code: Annotated[int, Field(ge=1)] = Field(512, description="dimension of the code, below that of the feature")
    activation: Activation = "sigmoid"
    kernel: Annotated[int, Field(ge=1)] = Field(
        1, description="kernel size of the convolutions, odd, for before_pooling"
    )
    autoencoders: Annotated[tuple[Objective, ...], Field(min_length=1)] = Field(
        ("ae",),
        description="autoencoders that a stage trains, by their loss: the reconstruction error, alone or with a "
        "penalty on the weights; codes of earlier stages are compared by encoders of these losses",
    )
    strength: NonNegative = Field(0.01, description="weight of the penalties (lambda)")
    reduction: Reduction = Field(
        "sum", description="reduction of the penalties over all weights; as a sum, 0.01 already makes the code constant"
    )
    task: NonNegative = Field(0.0, description="weight of the classification loss of the reconstruction; paper: 1")
    epochs: Annotated[int, Field(ge=0)] = Field(
        20, description="training epochs of the autoencoder; 0 = the stage leaves no code"
    )
    batch: Annotated[int, Field(ge=1)] = Field(128, description="images per step of the autoencoder")
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="learning rate of the autoencoder, for Adam")
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="epochs of the autoencoder at which its learning rate falls to a tenth"
    )
    weight: NonNegative = Field(1.0, description="weight of the distance of the codes; 0 = only leave a code")
    distance: Literal["mse", "bce"] = Field(
        "mse", description="distance of the codes; bce has hardly any gradient without its scale"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(10.0, description="temperature of the codes in bce")
    scale: Literal["none", "size_squared"] = Field(
        "none", description="factor of bce: size_squared multiplies it by code x temperature^2"
    )

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if not self.epochs and not self.weight:
            raise ValueError("epochs: 0 and weight: 0 have no effect; leave the method out")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if len(set(self.autoencoders)) != len(self.autoencoders):
            raise ValueError(f"autoencoders names one twice: {', '.join(self.autoencoders)}")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        if self.epochs and self.milestones and self.milestones[-1] >= self.epochs:
            raise ValueError(
                f"milestones {list(self.milestones)} go beyond the {self.epochs} epochs of the autoencoder"
            )
        owners = {"kernel": f"place: {self.place}", "temperature": "distance: mse", "scale": "distance: mse"}
        owners |= dict.fromkeys(("strength", "reduction"), "autoencoders: [ae], which has no penalty")
        for field in sorted(self.idle):
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field} has no effect with {owners[field]}")
        return self

    @property
    def adds_loss(self) -> Adds:
        """From the second stage on, which compares codes of the first."""
        return "later" if self.weight else "never"

    @property
    def acts_at_end(self) -> bool:
        """Only where the stage leaves codes."""
        return bool(self.epochs)

    @property
    def idle(self) -> frozenset[str]:
        """The kernel after pooling, the settings of `bce` with `mse`, and those of the penalty with `ae` alone."""
        of_place = {"kernel"} if self.place == "after_pooling" else set()
        of_distance = {"temperature", "scale"} if self.distance == "mse" else set()
        of_penalty = {"strength", "reduction"} if self.autoencoders == ("ae",) else set()
        return frozenset(of_place | of_distance | of_penalty)


class Ebll(Method, settings_class=EbllSettings):
    """Encoders of each stage that leaves some, and the distances of codes from the second stage on, added.

    Reference: Rannen et al., "Encoder Based Lifelong Learning", ICCV 2017, sections 3.2 and 3.3.
    Differs from the paper: features are those after pooling, or the maps before; penalties on the weights can be added;
    the distance is a mean over the numbers of the code, without a factor 1/2; the other terms of the paper are those of
    `lwf`.

    """

    settings: EbllSettings

    def __init__(self, settings: EbllSettings) -> None:
        super().__init__(settings)
        self.encoders = nn.ModuleList()

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Check before the training the conditions of the end of the stage."""
        if ctx.previous_model is None and not self.settings.epochs:
            raise UserError(f"method.ebll: epochs 0 and no earlier stage, so it would do nothing in {ctx.stage.name!r}")
        if ctx.previous_model is not None and self.settings.weight and not len(self.encoders):
            raise UserError(
                f"method.ebll: no stage before {ctx.stage.name!r} left a code, so there is nothing to compare; name "
                "the method in an earlier stage, start from a run that has it, or set weight: 0 to only leave a code"
            )
        if ctx.previous_model is not None and self.settings.weight and not self._compared:
            left = ", ".join(dict.fromkeys(encoder.objective for encoder in self._all))
            raise UserError(
                f"method.ebll.autoencoders: [{', '.join(self.settings.autoencoders)}] are to be held in "
                f"{ctx.stage.name!r}, and the stages before left {left}; name one of these"
            )
        for encoder in self._all:
            require_fit(encoder, ctx.embedder)
        if self.settings.epochs:
            self._require_learnable(ctx, ctx.stage)

    def _require_learnable(self, ctx: MethodContext, stage: Stage) -> None:
        settings, width = self.settings, input_width(ctx.embedder, self.settings.place)
        if settings.code >= width:
            raise UserError(
                f"method.ebll.code is {settings.code}, which must be below the {width} numbers that it codes"
            )
        if settings.place == "before_pooling" and ctx.embedder.backbone.pools_itself:
            raise UserError(
                f"method.ebll.place: {ctx.embedder.settings.backbone!r} pools its own tokens, so there is no map "
                "before the pooling; use after_pooling"
            )
        if settings.task and settings.place == "before_pooling" and ctx.view(stage.train).pooling == "weighted":
            raise UserError(
                "method.ebll.task with place: before_pooling pools reconstructed maps without the masks of "
                "foreground.use: pool; use place: after_pooling or task: 0"
            )
        if settings.task and ("softmax" not in ctx.losses.losses or not stage.labelled):
            raise UserError("method.ebll.task needs the classifier of losses.softmax, and the stage has no such loss")

    def get_extra_state(self) -> list[Description]:
        """Return the description of each encoder."""
        return [describe_encoder(encoder) for encoder in self._all]

    def set_extra_state(self, state: list[Description]) -> None:
        """Build the encoders."""
        self.encoders = nn.ModuleList(frozen(empty_encoder(description)) for description in state)

    @property
    def _all(self) -> list[Encoder]:
        return [encoder for encoder in self.encoders if isinstance(encoder, Encoder)]

    @property
    def _compared(self) -> list[Encoder]:
        """The encoders whose codes are compared in the present stage."""
        return [encoder for encoder in self._all if encoder.objective in self.settings.autoencoders]

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the distances of the codes of each past stage, all from the model of the stage before."""
        settings = self.settings
        if ctx.previous_model is None or not settings.weight:
            return {}
        earlier, terms = ctx.previous_model.output(ctx, batch), {}
        for encoder in self._compared:
            with torch.no_grad():
                old = encoder(earlier)
            loss = code_distance(
                old, encoder(out), kind=settings.distance, temperature=settings.temperature, scale=settings.scale
            )
            terms[f"code {encoder.number} {encoder.objective}"] = LossTerm(loss, settings.weight)
        return terms

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Train the autoencoders of the stage, log their quality, and keep their encoders.

        Raises:
            UserError: the code of an autoencoder without a penalty has collapsed.

        """
        settings = self.settings
        if not settings.epochs:
            return
        model = frozen(ctx.tested)
        autoencoders, fits = self._train(ctx, model)
        figures = {
            key: value
            for name, fit in fits.items()
            for key, value in code_figures(settings, autoencoders[name], name, fit)
        }
        if (fit := fits.get("ae")) is not None and fit.liveliness < COLLAPSED:
            ctx.log_metrics("ebll", figures)
            raise UserError(
                collapse_sentence(settings, ctx.stage, "ae", fit) + "; the trained model is kept in last.pt"
            )
        figures |= code_scores(ctx, model, autoencoders, place=settings.place)
        notes = [code_warning(settings, ctx.stage, name, fit) for name, fit in fits.items()]
        ctx.log_metrics("ebll", figures, note=" ".join(note for note in notes if note))
        self._keep(autoencoders, ctx.device)

    def _train(self, ctx: MethodContext, model: Embedder) -> tuple[dict[Objective, Autoencoder], dict[Objective, Fit]]:
        """Train an autoencoder for each named loss on the features of a frozen model, and measure it."""
        settings, train = self.settings, ctx.stage.train
        source = FeatureSource(model, train, place=settings.place, precision=ctx.precision, view=ctx.view(train))
        task_loss = _make_task_loss(settings, ctx, ctx.stage, model)
        autoencoders = {name: self._new(ctx) for name in settings.autoencoders}
        fit_autoencoders(
            [AutoencoderTraining(each, _loss(settings, each, name, task_loss)) for name, each in autoencoders.items()],
            source,
            epochs=settings.epochs,
            batch=settings.batch,
            lr=settings.lr,
            milestones=settings.milestones,
            seed=ctx.seed,
        )
        fits = {name: measure(each.requires_grad_(False), source) for name, each in autoencoders.items()}
        return autoencoders, fits

    def _keep(self, autoencoders: Mapping[Objective, Autoencoder], device: torch.device) -> None:
        """Keep the encoders of the stage, numbered after those of earlier stages."""
        number = 1 + max((encoder.number for encoder in self._all), default=0)
        for name, autoencoder in autoencoders.items():
            encoder = Encoder(autoencoder.encoder, self.settings.activation, objective=name, number=number)
            self.encoders.append(frozen(encoder))
        self.encoders.to(device)

    def _new(self, ctx: MethodContext) -> Autoencoder:
        """Build an autoencoder with initial weights that depend on the stage alone."""
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seeds(ctx.seed, 1))
            autoencoder = Autoencoder(
                input_width(ctx.embedder, settings.place),
                settings.code,
                place=settings.place,
                activation=settings.activation,
                kernel=settings.kernel,
            )
        return autoencoder.to(ctx.device)


# ---- losses of the autoencoders


def _make_task_loss(
    settings: EbllSettings, ctx: MethodContext, stage: Stage, model: Embedder
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the loss of reconstructions by the frozen classifier of the stage, None without a weight."""
    if not settings.task:
        return None
    softmax = frozen(ctx.losses.losses["softmax"])
    labels = torch.from_numpy(stage.train.pid)

    def task_loss(reconstruction: Tensor, rows: Tensor) -> Tensor:
        loss: Tensor = softmax(output_from(model, reconstruction, place=settings.place), labels[rows].to(ctx.device))
        return loss

    return task_loss


def _loss(
    settings: EbllSettings,
    autoencoder: Autoencoder,
    name: Objective,
    task_loss: Callable[[Tensor, Tensor], Tensor] | None,
) -> AutoencoderLoss:
    def loss(x: Tensor, reconstruction: Tensor, rows: Tensor) -> Tensor:
        error = F.mse_loss(reconstruction, x)
        total = objective(error, autoencoder, name, strength=settings.strength, reduction=settings.reduction)
        return total if task_loss is None else total + settings.task * task_loss(reconstruction, rows)

    return loss
