"""Distillation losses between the frozen earlier model and the present one on the same batch.

They differ in the quantity that is preserved: the vectors, their softmax, the hardest pairs, the neighbourhoods, or the
logits of earlier classifiers. No gradient reaches the earlier model.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from passerby.losses.mining import complete_anchors, hardest, pair_distances, to_full_precision

Scale = Literal["none", "squared"]
"""Whether a softened cross-entropy is multiplied by its temperature squared, which undoes what the temperature does to
the gradient."""


def softened_cross_entropy(old: Tensor, new: Tensor, *, temperature: float = 10.0, scale: Scale = "none") -> Tensor:
    """Return -mean_i sum_d softmax(old / T)_id log softmax(new / T)_id, times T squared with `scale: squared`.

    With features for `old` and `new` this is the `ce_dist` of the reference rows, with the logits of an old classifier
    the knowledge distillation of LwF. Its minimum is not 0 but the entropy of the old model's softmax, near ln D
    for a large temperature; and its gradient falls with the temperature squared.

    Args:
        old: (B, D) of the earlier model.
        new: (B, D) of the present one.
        temperature: T > 0.
        scale: see `Scale`.

    Reference: Li and Hoiem, "Learning without Forgetting", ECCV 2016, equations 2 and 3.

    >>> round(softened_cross_entropy(torch.zeros(1, 4), torch.zeros(1, 4)).item(), 4)  # ln 4
    1.3863
    """
    target = (to_full_precision(old).detach() / temperature).softmax(dim=1)
    loss = -(target * (to_full_precision(new) / temperature).log_softmax(dim=1)).sum(dim=1).mean()
    return loss * temperature**2 if scale == "squared" else loss


def entropy(old: Tensor, *, temperature: float = 10.0, scale: Scale = "none") -> Tensor:
    """Return the mean entropy of softmax(old / T), the minimum of `softened_cross_entropy`."""
    return softened_cross_entropy(old, old.detach(), temperature=temperature, scale=scale)


def worst_triplet(old: Tensor, new: Tensor, labels: Tensor, *, margin: float = 0.3) -> Tensor:
    """Return mean_i relu(p_i - n_i + margin) with p the larger and n the smaller hardest distance of two models.

    This is the `tr_dist` of the reference rows. Distances are Euclidean between L2-normalised vectors, and each model
    mines its own pairs. A gradient exists only where the present model has the harder pair, so training cannot go
    below the value of the old model alone, and the new vectors are not tied to the old ones.

    Args:
        old: (B, D) of the earlier model.
        new: (B, D') of the present one.
        labels: (B,) identities.
        margin: of distances in [0, 2].

    >>> x, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    >>> round(worst_triplet(x, x, labels).item(), 4)
    0.3
    """
    new_pairs = hardest(pair_distances(new, distance="euclidean_norm"), labels)
    with torch.no_grad():
        old_pairs = hardest(pair_distances(old, distance="euclidean_norm"), labels)
    positive, negative = torch.maximum(new_pairs[0], old_pairs[0]), torch.minimum(new_pairs[1], old_pairs[1])
    valid = complete_anchors(labels)
    return (positive - negative + margin).relu()[valid].sum() / valid.sum().clamp_min(1)


def feature_gap(old: Tensor, new: Tensor, *, distance: Literal["cosine", "mse"] = "cosine") -> Tensor:
    """Return the mean change of the vectors (B, D): 1 - cos in [0, 2], or the squared difference.

    >>> feature_gap(torch.eye(2), torch.eye(2)).item(), feature_gap(torch.eye(2), -torch.eye(2)).item()
    (0.0, 2.0)
    """
    old, new = to_full_precision(old).detach(), to_full_precision(new)
    if distance == "mse":
        return F.mse_loss(new, old)
    return (1 - F.cosine_similarity(new, old, dim=1)).mean()


# ---- neighbourhoods


def affinity(x: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return the affinities (B, B), row by row the softmax of the cosines over T; an image is its own neighbour.

    Args:
        x: (B, D).
        temperature: T > 0.

    """
    directions = F.normalize(to_full_precision(x))
    return (directions @ directions.T / temperature).softmax(dim=1)


def affinity_divergence(target: Tensor, new: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return the mean over rows of KL(target | affinity of new).

    Args:
        target: (B, B) affinities, for example of the earlier model.
        new: (B, D) of the present model.
        temperature: as in `affinity`.

    """
    directions = F.normalize(to_full_precision(new))
    log_affinity = (directions @ directions.T / temperature).log_softmax(dim=1)
    return F.kl_div(log_affinity, target.detach(), reduction="batchmean")


def rectified_affinity(old: Tensor, new: Tensor, labels: Tensor) -> Tensor:
    """Return the target affinities: those of the old model, corrected where the old model is wrong.

    A positive is right in a model when it is nearer than every negative of its row, a negative when it is farther than
    every other positive. Where the old model is right its value is kept; where only the new one is, the new value is
    taken; where both are wrong, a positive gets the largest negative of either, and a negative the smallest positive.
    Rows are divided by their sum.

    Args:
        old: (B, B) affinities of the earlier model.
        new: (B, B) affinities of the present one; no gradient.
        labels: (B,) identities.

    Reference: Xu et al., "LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-identification",
    AAAI 2024, section on rectification.
    Differs from the published code: the target carries no gradient, although it holds values of the new model.

    """
    old, new = old.detach(), new.detach()
    same = labels[:, None] == labels[None, :]  # (B, B)
    right_old, least_old, most_old = _correctness(old, same)
    right_new, least_new, most_new = _correctness(new, same)
    both = torch.where(same, torch.maximum(most_old, most_new), torch.minimum(least_old, least_new))
    target = torch.where(right_old, old, torch.where(right_new, new, both))
    return target / target.sum(dim=1, keepdim=True)


def complementary_affinity(first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
    """Return the target affinities of two earlier models, each taken where it is right.

    Right and wrong as in `rectified_affinity`. Where both models are right the target is their mean, where one is, its
    value; where both are wrong, a positive gets the largest negative of either, and a negative the smallest positive.
    Rows are divided by their sum. With one model, given twice, this is the target of a single teacher. Values of the
    present model never enter.

    Args:
        first: (B, B) affinities of an earlier model; no gradient.
        second: (B, B) those of another one; no gradient.
        labels: (B,) identities.

    Reference: Xu et al., "Long Short-Term Knowledge Decomposition and Consolidation for Lifelong Person
    Re-Identification" (LSTKC++), TPAMI 2025, complementary knowledge transfer.

    """
    first, second = first.detach(), second.detach()
    same = labels[:, None] == labels[None, :]  # (B, B)
    right_first, least_first, most_first = _correctness(first, same)
    right_second, least_second, most_second = _correctness(second, same)
    neither = torch.where(same, torch.maximum(most_first, most_second), torch.minimum(least_first, least_second))
    either = torch.where(right_first, first, torch.where(right_second, second, neither))
    target = torch.where(right_first & right_second, (first + second) / 2, either)
    return target / target.sum(dim=1, keepdim=True)


def _correctness(values: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which pairs (B, B) are right, each row's smallest positive (B, 1) and its largest negative (B, 1)."""
    itself = torch.eye(len(values), dtype=torch.bool, device=values.device)
    most = values.masked_fill(same, -torch.inf).amax(dim=1, keepdim=True)  # (B, 1)
    least = values.masked_fill(~same | itself, torch.inf).amin(dim=1, keepdim=True)  # (B, 1)
    right = torch.where(same, (values > most) | itself, values <= least)
    return right, least, most
