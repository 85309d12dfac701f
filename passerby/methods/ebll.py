"""Encoder based lifelong learning: at its end each stage leaves a code, and later models may not change those numbers.

In two steps. At the end of a stage an autoencoder learns what the model, which then stands still, makes of the stage's
images. From the next stage on its encoder looks at the features of the earlier and of the present model, and the
distance of the two codes is a loss; every past stage keeps an encoder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mining import widen
from passerby.losses.mix import Term
from passerby.methods.autoencoder import Activation, Autoencoder, Place, Reduction, code_distance
from passerby.methods.part import Adds, Part, RunState, frozen
from passerby.methods.reconstruction import (
    COLLAPSED,
    LOW,
    Fit,
    Material,
    Objective,
    lead_through,
    learn,
    looked_at,
    measure,
    objectives,
    rebuilt,
)
from passerby.models.embedder import Embedder
from passerby.settings import Settings
from passerby.types import Batch, Output, Stage

Share = Annotated[float, Field(ge=0)]


class EbllSettings(Settings):
    """Encoder based lifelong learning (Rannen et al., ICCV 2017)."""

    place: Place = "after_pooling"
    code: Annotated[int, Field(ge=1)] = Field(512, description="numbers in a code, fewer than in a feature")
    activation: Activation = "sigmoid"
    kernel: Annotated[int, Field(ge=1)] = Field(1, description="side of the convolutions, odd, for before_pooling")
    loss: Objective = Field("ae", description="error of the reconstruction, alone or with a penalty, or all added")
    strength: Share = Field(0.01, description="of the penalties (lambda); their values are told whatever the loss")
    reduction: Reduction = Field("sum", description="of the penalties over all weights; as a sum they rule")
    task: Share = Field(0.0, description="weight of what losses.softmax says of the reconstruction; paper: 1")
    epochs: Annotated[int, Field(ge=0)] = Field(20, description="of the autoencoder; 0 = this stage leaves no code")
    batch: Annotated[int, Field(ge=1)] = Field(128, description="images per step of the autoencoder")
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="of the autoencoder, for Adam")
    weight: Share = Field(1.0, description="of the distance of the codes; 0 = only leave a code")
    distance: Literal["mse", "bce"] = Field("mse", description="of the codes; bce is near inert without its scale")
    temperature: Annotated[float, Field(gt=0)] = Field(10.0, description="for bce")
    scale: Literal["none", "size_squared"] = Field(
        "none", description="for bce: size_squared multiplies it by code x temperature^2"
    )

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if not self.epochs and not self.weight:
            raise ValueError("with epochs: 0 and weight: 0 it does nothing; leave it out")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        owners = {"kernel": f"place: {self.place}", "temperature": "distance: mse", "scale": "distance: mse"}
        for field in sorted(self.idle):
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field} has no effect with {owners[field]}")
        return self

    @property
    def idle(self) -> frozenset[str]:
        """The side of convolutions that are none, and what only `bce` looks at."""
        of_place = {"kernel"} if self.place == "after_pooling" else set()
        return frozenset(of_place | ({"temperature", "scale"} if self.distance == "mse" else set()))

    def make(self) -> Ebll:
        """Build the part."""
        return Ebll(self)


class Encoder(nn.Module):
    """The half of an autoencoder that stays, at the place that it was trained for.

    Args:
        layer: from features or maps to the code.
        activation: of the code; kept as a buffer, because the settings of a later stage may say otherwise.

    """

    squashed: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.register_buffer("squashed", torch.tensor(activation == "sigmoid"))

    @property
    def place(self) -> Place:
        """Where it looks."""
        return "after_pooling" if isinstance(self.layer, nn.Linear) else "before_pooling"

    @property
    def dimension(self) -> int:
        """Length of what it sees."""
        return self.layer.in_features if isinstance(self.layer, nn.Linear) else self.layer.in_channels

    def forward(self, out: Output) -> Tensor:
        """Return the code (B, S) or (B, S, h, w) of what a model said."""
        code: Tensor = self.layer(widen(looked_at(out, place=self.place)))
        return code.sigmoid() if self.activation == "sigmoid" else code


class Ebll(Part):
    """An encoder per stage that leaves one, and the distance of codes from the second stage on.

    Reference: Rannen et al., "Encoder Based Lifelong Learning", ICCV 2017, sections 3.2 and 3.3.
    Differs from the paper: features are those after pooling, or the maps before; penalties on the weights can be added;
    the distance is a mean over the numbers of the code, without a factor 1/2; the other terms of the paper are the part
    `lwf`.

    """

    settings: EbllSettings
    wants_teacher = True

    def __init__(self, settings: EbllSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoders = nn.ModuleList()

    @property
    def adds_loss(self) -> Adds:
        """From the second stage on, which holds the codes of the first."""
        return "later" if self.settings.weight else "never"

    def begin(self, run: RunState, stage: Stage) -> None:
        """Check, before anything is trained, what would fail after the last epoch."""
        if run.teacher is None and not self.settings.epochs:
            raise UserError(f"method.ebll: epochs 0 and no earlier stage, so it would do nothing in {stage.name!r}")
        if run.teacher is not None and self.settings.weight and not len(self.encoders):
            raise UserError(
                f"method.ebll: no stage before {stage.name!r} left a code, so there is nothing to hold; name the part "
                "in an earlier stage, start from a run that has it, or set weight: 0 to only leave a code"
            )
        for encoder in self.encoders:
            _require_fit(cast("Encoder", encoder), run.embedder)
        if self.settings.epochs:
            self._require_learnable(run, stage)

    def _require_learnable(self, run: RunState, stage: Stage) -> None:
        chosen, width = self.settings, _width(run.embedder, self.settings.place)
        if chosen.code >= width:
            raise UserError(f"method.ebll.code is {chosen.code}, which must be below the {width} numbers that it codes")
        if chosen.place == "before_pooling" and run.embedder.backbone.pools_itself:
            raise UserError(
                f"method.ebll.place: {run.embedder.settings.backbone!r} pools its own tokens, so nothing can stand "
                "before the pooling; use after_pooling"
            )
        if chosen.task and chosen.place == "before_pooling" and run.view(stage.train).pooling == "weighted":
            raise UserError(
                "method.ebll.task with place: before_pooling pools what is reconstructed without the masks that "
                "foreground: pool weights it by; use place: after_pooling or task: 0"
            )
        if chosen.task and ("softmax" not in run.losses.losses or not stage.labelled):
            raise UserError("method.ebll.task asks the classifier of losses.softmax, and the stage has no such loss")

    def make_room(self, run: RunState, state: Mapping[str, Tensor]) -> None:
        """Build as many encoders as the checkpoint has, each as it was."""
        count = len({key.split(".")[1] for key in state if key.startswith("encoders.")})
        found = (
            _empty(state[f"encoders.{n}.layer.weight"], squashed=bool(state[f"encoders.{n}.squashed"]))
            for n in range(count)
        )
        self.encoders = nn.ModuleList(frozen(encoder) for encoder in found).to(run.device)

    def terms(self, run: RunState, batch: Batch, out: Output) -> dict[str, Term]:
        """Return the distance of the codes of each past stage, all from the model of the stage before."""
        chosen = self.settings
        if run.teacher is None or not chosen.weight:
            return {}
        earlier, terms = run.teacher.answer(run, batch), {}
        for number, encoder in enumerate(self.encoders, start=1):
            with torch.no_grad():
                old = encoder(earlier)
            loss = code_distance(
                old, encoder(out), kind=chosen.distance, temperature=chosen.temperature, scale=chosen.scale
            )
            terms[f"code {number}"] = Term(loss, chosen.weight)
        return terms

    def end(self, run: RunState, stage: Stage) -> None:
        """Train the autoencoder of the stage, tell how good it is, and keep its encoder.

        Raises:
            UserError: the code has collapsed.

        """
        chosen = self.settings
        if not chosen.epochs:
            return
        model = frozen(run.tested)
        material = Material(
            model,
            stage.train.path,
            place=chosen.place,
            device=run.device,
            autocast=run.autocast,
            view=run.view(stage.train),
        )
        autoencoder = self._new(run)
        learn(
            autoencoder,
            material,
            loss=_loss(chosen, autoencoder, _judge(chosen, run, stage, model)),
            epochs=chosen.epochs,
            batch=chosen.batch,
            lr=chosen.lr,
            seed=run.seed,
        )
        autoencoder.requires_grad_(False)
        fit = measure(autoencoder, material)
        found = _figures(chosen, autoencoder, fit)
        if fit.liveliness < COLLAPSED:
            run.tell("ebll", found)
            raise UserError(_collapse(chosen, stage, fit))
        original = run.scores(model)
        lead_through(model, autoencoder, place=chosen.place)
        for name, scores in run.scores(model).items():
            found[f"{name} mAP"], found[f"{name} rank-1"] = original[name].mAP, original[name].rank(1)
            found[f"{name} mAP reconstructed"], found[f"{name} rank-1 reconstructed"] = scores.mAP, scores.rank(1)
        run.tell("ebll", found, note=_warning(chosen, stage, fit))
        self.encoders.append(frozen(Encoder(autoencoder.encoder, chosen.activation)))

    def _new(self, run: RunState) -> Autoencoder:
        """Make an autoencoder whose first weights depend on the stage alone."""
        chosen = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seeds(run.seed, 1))
            autoencoder = Autoencoder(
                _width(run.embedder, chosen.place),
                chosen.code,
                place=chosen.place,
                activation=chosen.activation,
                kernel=chosen.kernel,
            )
        return autoencoder.to(run.device)


def _width(embedder: Embedder, place: Place) -> int:
    return embedder.dimension if place == "after_pooling" else embedder.backbone.channels


def _empty(weight: Tensor, *, squashed: bool) -> Encoder:
    """Build an encoder of the shape of a weight (S, D) or (S, D, k, k)."""
    size, dimension = weight.shape[:2]
    place: Place = "after_pooling" if weight.ndim == 2 else "before_pooling"
    activation: Activation = "sigmoid" if squashed else "none"
    kernel = 1 if weight.ndim == 2 else weight.shape[2]
    made = Autoencoder(dimension, size, place=place, activation=activation, kernel=kernel)
    return Encoder(made.encoder, activation)


def _require_fit(encoder: Encoder, embedder: Embedder) -> None:
    width = _width(embedder, encoder.place)
    if encoder.dimension != width:
        raise UserError(
            f"method.ebll: an autoencoder of {encoder.dimension} numbers cannot look at the {width} of "
            f"{embedder.settings.backbone!r}; it was made with another network"
        )


# ---- learning and telling


def _judge(
    chosen: EbllSettings, run: RunState, stage: Stage, model: Embedder
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return what the classifier of the stage, standing still, makes of reconstructions and the numbers of images."""
    if not chosen.task:
        return None
    softmax = frozen(run.losses.losses["softmax"])
    labels = torch.from_numpy(stage.train.pid)

    def judge(reconstruction: Tensor, rows: Tensor) -> Tensor:
        loss: Tensor = softmax(rebuilt(model, reconstruction, place=chosen.place), labels[rows].to(run.device))
        return loss

    return judge


def _loss(
    chosen: EbllSettings, autoencoder: Autoencoder, judge: Callable[[Tensor, Tensor], Tensor] | None
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def loss(x: Tensor, reconstruction: Tensor, rows: Tensor) -> Tensor:
        error = F.mse_loss(reconstruction, x)
        found = objectives(error, autoencoder, strength=chosen.strength, reduction=chosen.reduction, which=chosen.loss)
        total = torch.stack(list(found.values())).sum()
        return total if judge is None else total + chosen.task * judge(reconstruction, rows)

    return loss


def _figures(chosen: EbllSettings, autoencoder: Autoencoder, fit: Fit) -> dict[str, float]:
    error = torch.tensor(fit.error)
    found = objectives(error, autoencoder, strength=chosen.strength, reduction=chosen.reduction)
    told = {name: float(value) for name, value in found.items()}
    variances = {"code variance": fit.code_variance, "variance kept": fit.liveliness}
    return {**told, **variances, "R squared": fit.explained}


def _warning(chosen: EbllSettings, stage: Stage, fit: Fit) -> str:
    """Return a sentence about a code that keeps little; none when it keeps enough."""
    if fit.explained >= LOW:
        return ""
    return (
        f"The code of stage {stage.name!r} tells {100 * max(fit.explained, 0):.0f} % of what differs between the "
        "features of its images (R squared). Where `mAP reconstructed` is far below `mAP`, it protects little: "
        f"raise method.ebll.code, or {_mending(chosen)}."
    )


def _mending(chosen: EbllSettings) -> str:
    """Return what would make a better code."""
    longer = f"raise method.ebll.epochs (now {chosen.epochs}) or method.ebll.lr (now {chosen.lr:g})"
    weaker = f"lower method.ebll.strength (now {chosen.strength:g})"
    if chosen.loss == "ae":
        return longer
    if chosen.reduction == "sum":
        return f"{weaker} or set method.ebll.reduction to mean (now sum)"
    return f"{weaker}, or {longer}"


def _collapse(chosen: EbllSettings, stage: Stage, fit: Fit) -> str:
    return (
        f"method.ebll: the code of stage {stage.name!r} has collapsed, what is rebuilt from it hardly differs between "
        f"images ({100 * fit.liveliness:.2g} % of the variance of the features, below {100 * COLLAPSED:g} %); "
        f"{_mending(chosen)}; the trained model is kept in last.pt"
    )
