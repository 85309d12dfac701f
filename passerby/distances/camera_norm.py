"""Removal of a camera's light and background from vectors, by the statistics of the vectors of each camera.

`centre` and `standardise` trust the mean (and spread) of each camera. Where a camera has seen few people, its mean is
mostly that of these people, and subtracting it takes identities away. `auto` therefore moves the mean and the spread of
each camera towards those of all cameras, by as much as the number of different people leaves them uncertain.

The model behind `auto`, in each principal direction d of the variation within cameras: the mean of camera c is
m + a_c + e_c, with an effect a_c of the camera of variance tau_d, and an error e_c of variance w_d / k_c, where w_d is
the variance between the images of different people and k_c is the number of people that the camera has seen. The best
linear estimate of a_c from the mean of the camera is then

    tau_d / (tau_d + w_d / k_c) * (mean of camera c - m).

By what the spread of a camera differs from that of all is moved towards nothing in the same way, as a logarithm.

Reference: James and Stein, "Estimation with Quadratic Loss", Berkeley Symposium 1961; Efron and Morris, "Stein's
Estimation Rule and its Competitors - an Empirical Bayes Approach", JASA 1973 (the estimate of tau).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.types import UNKNOWN, CameraNorm, Doubles, Floats, Ints

SMALLEST_SPREAD = 1e-3
"""Of the standard deviations within a camera, against dimensions in which it has none."""
TINY = float(np.finfo(np.float64).tiny)
SAMPLE = 2000
"""Most images of a camera of which pairs are compared; more are thinned out evenly."""
NEAREST_SHARE = 0.65
"""Where images of one person begin, from the mean squared distance of two images (0) to that of neighbours (1)."""


@dataclass(frozen=True, eq=False)
class CameraStatistics:
    """Shift subtracted from the vectors of each camera, and spread by which they are divided.

    Attributes:
        cameras: (C,) ascending; of -1 where images of unknown camera were among them.
        shift: (C, D).
        spread: (C, D), all positive.
        other: (D,) shift of a camera that was not among them.
        people: (C,) estimated effective number of different people; NaN unless the method is `auto`.
        trust: (C,) mean share in [0, 1] of the deviation of each camera's mean that is subtracted.

    """

    cameras: Ints
    shift: Floats | Doubles
    spread: Floats | Doubles
    other: Floats | Doubles
    people: Doubles
    trust: Doubles

    def apply(self, vectors: Floats, cam: Ints) -> Floats:
        """Return vectors (N, D) of cameras (N,) without the effects of the cameras.

        A camera that is unknown here gets the mean of all cameras subtracted.
        """
        rows = np.minimum(np.searchsorted(self.cameras, cam), len(self.cameras) - 1)
        known = self.cameras[rows] == cam
        shift = np.where(known[:, None], self.shift[rows], self.other)
        spread = np.where(known[:, None], self.spread[rows], np.ones_like(self.other))
        return np.asarray((vectors - shift) / spread, np.float32)


def normalise_cameras(vectors: Floats, cam: Ints, *, how: CameraNorm) -> Floats:
    """Return vectors without the effects of their cameras; no labels are used.

    Args:
        vectors: (N, D), for `auto` of comparable length, as unit vectors are.
        cam: (N,) camera of each; images of unknown camera (-1) count as one more camera.
        how: see `CameraNorm`.

    Returns:
        (N, D) float32.

    >>> normalise_cameras(np.array([[1.0], [3.0], [8.0], [9.0]]), np.array([0, 0, 1, 1]), how="centre").ravel().tolist()
    [-1.0, 1.0, -0.5, 0.5]
    """
    if how == "none" or not len(vectors):
        return vectors
    return camera_statistics(vectors, cam, how=how).apply(vectors, cam)


def camera_statistics(vectors: Floats, cam: Ints, *, how: Literal["centre", "standardise", "auto"]) -> CameraStatistics:
    """Return the statistics of each camera, to be applied to these vectors or to others of the same cameras.

    Args:
        vectors: (N, D), N >= 1.
        cam: (N,) camera of each.
        how: see `CameraNorm`.

    """
    cameras, rows = np.unique(cam, return_inverse=True)
    groups = [vectors[rows == number] for number in range(len(cameras))]
    if how == "auto":
        return _shrunk(cameras, [group.astype(np.float64) for group in groups])
    means = np.stack([group.mean(axis=0) for group in groups])  # (C, D)
    spread = np.ones_like(means)
    if how == "standardise":
        deviations = [(group - mean).std(axis=0) for group, mean in zip(groups, means, strict=True)]
        spread = np.maximum(np.stack(deviations), SMALLEST_SPREAD)
    unknown, full = np.full(len(cameras), np.nan), np.ones(len(cameras))
    return CameraStatistics(cameras, means, spread, vectors.mean(axis=0), unknown, full)


def _shrunk(cameras: Ints, groups: list[Doubles]) -> CameraStatistics:
    """Return the statistics of `auto`: means of cameras moved towards the mean of all by their uncertainty."""
    means = np.stack([group.mean(axis=0) for group in groups])  # (C, D)
    centred = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
    values, basis = np.linalg.eigh(centred.T @ centred)  # (D,), (D, D)
    turned = [group @ basis for group in groups]
    # halfway to equal variances: a weak model has a few directions, of light or pose, that outweigh all others
    people = count_people([group * np.maximum(values, values[-1] * 1e-9 + TINY) ** -0.25 for group in turned])
    overall = np.average(means, axis=0, weights=people)
    deviation = (means - overall) @ basis  # (C, D)
    # k / (k - 1): a variance around the mean of the same k people is too small
    correction = people / np.maximum(people - 1, 0.5)
    within = np.stack([group.var(axis=0) for group in turned])
    within = (within * correction[:, None]).mean(axis=0)  # (D,), w_d
    error = within / people[:, None]  # (C, D), variance of e_c
    effect = _effect(deviation, within, error)
    trust = effect / np.maximum(effect + error, TINY)
    # the mean of all is uncertain too: an estimate of positive part around 0
    square, uncertain = float(overall @ overall), float(within.sum() / people.sum())
    overall = overall * max(0.0, 1 - uncertain / square) if square else overall
    known = cameras != UNKNOWN  # images of unknown camera may come from anywhere
    shift = overall + known[:, None] * ((trust * deviation) @ basis.T)
    spread = np.where(known[:, None], _spread(groups, people), 1.0)
    share = np.where(known, np.average(trust, axis=1, weights=within if within.any() else None), 0.0)
    return CameraStatistics(cameras, shift, spread, overall, people, share)


def _effect(deviation: Doubles, within: Doubles, error: Doubles) -> Doubles:
    """Return the variance (D,) of the effects of cameras, tau_d.

    What the means of cameras vary more than their errors explain; few cameras make that uncertain in a single
    direction, so half of it is the value that a common ratio tau / w gives.
    """
    count = len(deviation)
    if count < 2:
        return np.zeros_like(within)
    observed = deviation.var(axis=0, ddof=1)
    excess = np.maximum(observed - error.mean(axis=0), 0)
    total = float(within.sum())
    common = excess.sum() / total * within if total else excess
    return np.asarray((excess + common) / 2, np.float64)


def _spread(groups: list[Doubles], people: Doubles) -> Doubles:
    """Return by which factor (C, D) the spread of each camera differs from the usual one, moved towards 1.

    The logarithm of the standard deviation over k people has an error of variance (q - 1) / (4 (k - 1)) for a kurtosis
    q, here 1 / (k - 1), as for tails heavier than those of a normal distribution. The variance of the true logarithms
    is estimated from all cameras and dimensions. What all dimensions of a camera share is left out: no cosine depends
    on it.

    Reference: DerSimonian and Laird, "Meta-Analysis in Clinical Trials", Controlled Clinical Trials 1986.
    """
    logs = np.log(np.maximum(np.stack([group.std(axis=0) for group in groups]), SMALLEST_SPREAD))
    weight = (people - 1)[:, None]  # (C, 1), 1 / variance of the error
    total = float(weight.sum())
    spare = total - float((weight**2).sum()) / max(total, TINY)
    if spare <= 0:  # no two cameras with two people
        return np.ones_like(logs)
    deviation = logs - (weight * logs).sum(axis=0) / total
    deviation -= deviation.mean(axis=1, keepdims=True)
    excess = float((weight * deviation**2).sum()) / logs.shape[1] - (len(groups) - 1)
    trust = weight / (weight + spare / max(excess, TINY))
    return np.asarray(np.exp(trust * deviation), np.float64)


def count_people(groups: list[Doubles]) -> Doubles:
    """Estimate the effective number of different people in the images of each camera, (C,) >= 1.

    The number is n^2 / sum of squares of the n images by person: k people with equal numbers of images count as k,
    unequal numbers as fewer, since the mean of a camera is then mostly that of a few people. Two images of one camera
    are taken for one person if their squared distance is within a multiple of those to the nearest neighbour of either
    image. The multiple lies between 1 and what any two images have on average, the same in all cameras. So
    neither the place where a camera has moved the vectors matters, nor how far it spreads them.

    Args:
        groups: (n, D) vectors of each camera.

    Reference: Zelnik-Manor and Perona, "Self-Tuning Spectral Clustering", NIPS 2004 (the scale of each image).
    """
    tables = [_squares(group) for group in groups]  # (n, n) each
    nearest = [table.min(axis=1) for table in tables]
    ratios = [
        table[np.isfinite(table)].mean() / near.mean()
        for table, near in zip(tables, nearest, strict=True)
        if len(near) > 1 and near.any()
    ]
    multiple = 1 + (1 - NEAREST_SHARE) * (np.mean(ratios) - 1) if ratios else 1.0
    counts = []
    for group, table, near in zip(groups, tables, nearest, strict=True):
        images, sample = len(group), len(table)
        # (i, j) of one person among the pairs of different images, then the same share among all of them
        same = table <= multiple * np.minimum(near[:, None], near)
        np.fill_diagonal(same, False)
        share = same.sum() / (sample * (sample - 1)) if sample > 1 else 0.0
        counts.append(images**2 / (share * images * (images - 1) + images))
    return np.array(counts)


def _squares(vectors: Doubles) -> Doubles:
    """Return the squared distances (n, n) of vectors, at most `SAMPLE` of them; infinite of each to itself."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(int)
    some = vectors[rows] - vectors.mean(axis=0)
    square = (some**2).sum(axis=1)
    table = np.maximum(square[:, None] + square - 2 * some @ some.T, 0)
    np.fill_diagonal(table, np.inf)
    return np.asarray(table, np.float64)
