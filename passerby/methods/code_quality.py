"""Quality of the codes that a stage of EBLL leaves: figures for the log, scores through the autoencoder, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from passerby.methods.autoencoder import Autoencoder, Place
from passerby.methods.reconstruction import COLLAPSED, LOW, Fit, Objective, objective, reconstructing
from passerby.models.embedder import Embedder
from passerby.types import Stage

if TYPE_CHECKING:
    from passerby.methods.ebll import EbllSettings
    from passerby.training.context import MethodContext


def code_figures(
    settings: EbllSettings, autoencoder: Autoencoder, name: Objective, fit: Fit
) -> Iterator[tuple[str, float]]:
    """Yield the loss of an autoencoder by its name, and its components."""
    error = torch.tensor(fit.error)
    yield name, float(objective(error, autoencoder, name, strength=settings.strength, reduction=settings.reduction))
    yield f"{name} error", fit.error
    yield f"{name} code variance", fit.code_variance
    yield f"{name} variance kept", fit.liveliness
    yield f"{name} R squared", fit.explained


def code_scores(
    ctx: MethodContext, model: Embedder, autoencoders: Mapping[Objective, Autoencoder], *, place: Place
) -> dict[str, float]:
    """Return mAP and rank-1 of a model, plain and with its features reconstructed by each autoencoder."""
    figures: dict[str, float] = {}
    for dataset, scores in ctx.scores(model).items():
        figures[f"{dataset} mAP"], figures[f"{dataset} rank-1"] = scores.mAP, scores.rank(1)
    for name, autoencoder in autoencoders.items():
        with reconstructing(model, autoencoder, place=place):
            reconstructed = ctx.scores(model)
        for dataset, scores in reconstructed.items():
            figures[f"{name} {dataset} mAP reconstructed"] = scores.mAP
            figures[f"{name} {dataset} rank-1 reconstructed"] = scores.rank(1)
    return figures


def code_warning(settings: EbllSettings, stage: Stage, name: Objective, fit: Fit) -> str:
    """Return a sentence about a code that keeps little of the variance; `""` for a good one."""
    if fit.liveliness < COLLAPSED:
        return f"{collapse_sentence(settings, stage, name, fit)}. It is kept, and its distance holds next to nothing."
    if fit.explained >= LOW:
        return ""
    return (
        f"The code {name} of stage {stage.name!r} explains {100 * max(fit.explained, 0):.0f} % of the variance of "
        "the features of its images (R squared). Where `mAP reconstructed` is far below `mAP`, it protects little: "
        f"raise method.ebll.code, or {_remedy(settings, name)}."
    )


def collapse_sentence(settings: EbllSettings, stage: Stage, name: Objective, fit: Fit) -> str:
    """Return a sentence about a code from which hardly any variance is reconstructed, and its remedy."""
    return (
        f"method.ebll: the code {name} of stage {stage.name!r} has collapsed, what is rebuilt from it hardly differs "
        f"between images ({100 * fit.liveliness:.2g} % of the variance of the features, below {100 * COLLAPSED:g} %; "
        f"error {fit.error:.4g}, variance {fit.variance:.4g}); {_remedy(settings, name)}"
    )


def _remedy(settings: EbllSettings, name: Objective) -> str:
    """Return the settings to change for a better code, with their present values."""
    longer = f"raise method.ebll.epochs (now {settings.epochs}) or method.ebll.lr (now {settings.lr:g})"
    weaker = f"lower method.ebll.strength (now {settings.strength:g})"
    if name == "ae":
        return longer
    if settings.reduction == "sum":
        return f"{weaker} or set method.ebll.reduction to mean (now sum)"
    return f"{weaker}, or {longer}"
