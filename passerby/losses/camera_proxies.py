"""Losses against camera proxies: one vector for each pair of a cluster and a camera that sees it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast_with_hardest(
    logits: Tensor, is_positive: Tensor, is_negative: Tensor, *, ranking: Tensor | None = None, negatives: int = 50
) -> Tensor:
    """Return (B,) the mean over the positives of -log softmax, over the positives and the hardest negatives.

    Where there are fewer negatives, all of them are taken; a row without a positive is 0.

    Args:
        logits: (B, P).
        is_positive: (B, P) bool.
        is_negative: (B, P) bool, apart from the positives.
        ranking: (B, P) order of the negatives, the largest first, which no gradient reaches; None = that of the logits.
        negatives: how many are taken, >= 1.

    """
    rows = torch.nonzero(is_positive.any(dim=1)).flatten()
    chosen, positive, negative = logits[rows], is_positive[rows], is_negative[rows]
    order = (logits if ranking is None else ranking)[rows].detach().masked_fill(~negative, -torch.inf)
    hardest = order.topk(min(negatives, logits.shape[1]), dim=1).indices
    among = torch.cat(
        [chosen.masked_fill(~positive, -torch.inf), chosen.masked_fill(~negative, -torch.inf).gather(1, hardest)], dim=1
    )
    mean = chosen.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return (logits.sum(dim=1) * 0).index_put((rows,), among.logsumexp(dim=1) - mean)


def intra_camera_losses(
    vectors: Tensor, rows: Tensor, proxies: Tensor, cameras: Tensor, *, temperature: float
) -> Tensor:
    """Return (B,) the cross-entropy of each image against the proxies of its own camera.

    Args:
        vectors: (B, D) of unit length.
        rows: (B,) int64, the proxy of each image.
        proxies: (P, D) of unit length.
        cameras: (P,) the camera of each proxy.
        temperature: divisor of the cosines.

    Reference: Wang et al., "Camera-aware Proxies for Unsupervised Person Re-Identification", AAAI 2021.
    """
    logits = vectors @ proxies.T / temperature
    is_other = cameras != cameras[rows][:, None]
    return F.cross_entropy(logits.masked_fill(is_other, -torch.inf), rows, reduction="none")


def inter_camera_losses(
    vectors: Tensor, rows: Tensor, proxies: Tensor, clusters: Tensor, *, temperature: float, negatives: int = 50
) -> Tensor:
    """Return (B,) the contrast of each image with all proxies of its cluster, against the hardest of other clusters.

    Args:
        vectors: (B, D) of unit length.
        rows: (B,) int64, the proxy of each image.
        proxies: (P, D) of unit length.
        clusters: (P,) the cluster of each proxy.
        temperature: divisor of the cosines.
        negatives: number of proxies of other clusters.

    Reference: Wang et al., AAAI 2021; the offline term of Wang et al., "Offline-Online Associated Camera-Aware Proxies
    for Unsupervised Person Re-Identification", IEEE TIP 2022.
    Differs from the published code: where there are fewer negatives, positives are not taken in their place.
    """
    is_positive = clusters == clusters[rows][:, None]
    return contrast_with_hardest(vectors @ proxies.T / temperature, is_positive, ~is_positive, negatives=negatives)


def other_camera_losses(
    vectors: Tensor,
    rows: Tensor,
    proxies: Tensor,
    clusters: Tensor,
    cameras: Tensor,
    *,
    temperature: float,
    negatives: int = 50,
) -> Tensor:
    """Return (B,) the contrast with the proxies of its cluster in other cameras; 0 for a cluster of one camera.

    Args:
        vectors: (B, D) of unit length.
        rows: (B,) int64, the proxy of each image.
        proxies: (P, D) of unit length.
        clusters: (P,) the cluster of each proxy.
        cameras: (P,) its camera.
        temperature: divisor of the cosines.
        negatives: number of proxies of other clusters.

    Reference: Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification", CVPR 2022,
    the camera-aware form.
    Differs from the published code: where there are fewer negatives, positives are not taken in their place.
    """
    is_same = clusters == clusters[rows][:, None]
    is_positive = is_same & (cameras != cameras[rows][:, None])
    return contrast_with_hardest(vectors @ proxies.T / temperature, is_positive, ~is_same, negatives=negatives)


def online_positives(similarity: Tensor, cameras: Tensor, *, count: int) -> Tensor:
    """Return (B, P) bool: of the most similar proxy of each camera the `count` most similar ones, of all with fewer.

    Args:
        similarity: (B, P).
        cameras: (P,) the camera of each proxy.
        count: positives of an image, >= 1.

    """
    each = [similarity.masked_fill(cameras != camera, -torch.inf).max(dim=1) for camera in cameras.unique()]
    best = torch.stack([values for values, _ in each], dim=1)  # (B, C)
    index = torch.stack([indices for _, indices in each], dim=1)
    chosen = index.gather(1, best.topk(min(count, len(each)), dim=1).indices)
    return torch.zeros_like(similarity, dtype=torch.bool).scatter(1, chosen, True)


def online_losses(
    vectors: Tensor,
    rows: Tensor,
    proxies: Tensor,
    cameras: Tensor,
    *,
    temperature: float,
    positives: int = 3,
    negatives: int = 50,
    balance: float = 0.15,
) -> Tensor:
    """Return (B,) the contrast of each image with the most similar proxies of several cameras, whatever their cluster.

    The similarity of an image F with proxy p to a proxy q is w <F, q> + (1 - w) <p, q>; the positives are those of
    `online_positives`, and the negatives the most similar of all other proxies.

    Args:
        vectors: (B, D) of unit length.
        rows: (B,) int64, the proxy of each image.
        proxies: (P, D) of unit length.
        cameras: (P,) the camera of each proxy.
        temperature: divisor of the cosines.
        positives: number of cameras whose most similar proxy is a positive.
        negatives: number of other proxies.
        balance: w, the share of the image in the similarity, in [0, 1].

    Reference: the online term of Wang et al., IEEE TIP 2022.
    """
    cosines = vectors @ proxies.T
    similarity = balance * cosines.detach() + (1 - balance) * proxies[rows] @ proxies.T
    is_positive = online_positives(similarity, cameras, count=positives)
    return contrast_with_hardest(
        cosines / temperature, is_positive, ~is_positive, ranking=similarity, negatives=negatives
    )


ProxyReduction = Literal["cameras", "batch"]
"""`cameras`: the mean over the images of each camera, summed over the cameras of a batch; `batch`: the mean."""


def reduced(losses: Tensor, cameras: Tensor, *, reduction: ProxyReduction = "cameras") -> Tensor:
    """Return the loss () of a batch.

    Args:
        losses: (B,).
        cameras: (B,) the camera of each image.
        reduction: see `ProxyReduction`.

    >>> reduced(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])).item()
    7.0
    """
    if reduction == "batch":
        return losses.mean()
    place, sizes = torch.unique(cameras, return_inverse=True, return_counts=True)[1:]
    per_image: Tensor = losses / sizes[place]
    return per_image.sum()
