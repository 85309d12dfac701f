"""Weight interpolation between two models, evaluated without training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passerby.device import AUTOMATIC, InferenceSettings
from passerby.encoders import Trained, embed_dataset, load_trained
from passerby.errors import UserError
from passerby.evaluation import compared_rows, evaluate_by
from passerby.methods.consolidation import interpolate_weights
from passerby.types import Dataset, Scores

ALPHAS = tuple(number / 10 for number in range(11))
"""From the old model (0) to the new one (1) in steps of 0.1."""


@dataclass(frozen=True, eq=False)
class Interpolated:
    """The scores by data set of the weights alpha x new + (1 - alpha) x old."""

    alpha: float
    scores: dict[str, Scores]


def interpolate(
    old: Trained,
    new: Trained,
    *,
    datasets: Sequence[Dataset],
    alphas: Sequence[float] = ALPHAS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Interpolated]:
    """Evaluate alpha x new + (1 - alpha) x old for several alphas, batch-norm statistics included.

    Args:
        old, new: two models of one architecture, one trained from the other; between unrelated weights, interpolation
            has no meaning.
        datasets: the test sets, evaluated by the protocol of the new model's recipe.
        alphas: weights of the new model, each in [0, 1].
        progress: called with (searches done, searches in all).

    Raises:
        UserError: models that are built differently, or an alpha outside [0, 1].

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, equation 1.

    """
    require_alphas(alphas)
    _require_alike(old, new)
    rules, results = new.recipe.test.rules, []
    for number, alpha in enumerate(alphas):
        mixed = replace(new, embedder=copy.deepcopy(new.embedder))
        interpolate_weights(mixed.embedder, old.embedder, alpha=alpha)
        scores = {}
        for position, dataset in enumerate(datasets, start=1):
            table = compared_rows(embed_dataset(mixed, dataset), rules)
            scores[dataset.name] = evaluate_by(table, rules, device=mixed.device, verification=False)
            if progress is not None:
                progress(number * len(datasets) + position, len(alphas) * len(datasets))
        results.append(Interpolated(alpha, scores))
    return results


def read_alphas(text: str) -> list[float]:
    """Return the alphas in a text, separated by commas.

    >>> read_alphas("0, 0.25,1")
    [0.0, 0.25, 1.0]
    """
    try:
        alphas = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UserError(f"--alphas {text}: give numbers with commas between them, for example 0.1,0.5,0.9") from error
    require_alphas(alphas)
    return alphas


def require_alphas(alphas: Sequence[float]) -> None:
    """Raise `UserError` unless there are alphas and each is in [0, 1]."""
    outside = [alpha for alpha in alphas if not 0 <= alpha <= 1]
    if outside or not alphas:
        raise UserError(f"alphas must be numbers from 0 to 1, got {outside[0] if outside else 'none'}")


def load_pair(old: Path, new: Path, *, inference: InferenceSettings = AUTOMATIC) -> tuple[Trained, Trained]:
    """Load two models that were built alike: run folders, or files such as stage-1.safetensors.

    Raises:
        UserError: no model, or two that are built differently.

    """
    pair = load_trained(old, inference=inference), load_trained(new, inference=inference)
    _require_alike(*pair)
    return pair


def _require_alike(old: Trained, new: Trained) -> None:
    old_shapes, new_shapes = ({k: tuple(v.shape) for k, v in each.embedder.state_dict().items()} for each in (old, new))
    different = sorted(set(old_shapes.items()) ^ set(new_shapes.items()))
    if different:
        raise UserError(
            f"{old.source} and {new.source} are built differently (first: {different[0][0]}), so their weights cannot "
            "be interpolated"
        )
    if old.cameras != new.cameras:
        raise UserError(f"{old.source} and {new.source} learnt different cameras ({old.cameras}; {new.cameras})")
    if old.embedder.input != new.embedder.input:
        raise UserError(f"{old.source} and {new.source} expect different images; their input settings must agree")
