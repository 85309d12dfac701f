"""Removal of a camera's light and background from vectors, by the statistics of the vectors of each camera.

`centre` and `standardise` trust the mean (and spread) of each camera. Where a camera has seen few people, its mean is
mostly that of these people, and subtracting it takes identities away. `auto` therefore moves the mean of each camera
towards that of all cameras, by as much as the number of different people leaves it uncertain.

The model behind `auto`, in each principal direction d of the variation within cameras: the mean of camera c is
m + a_c + e_c, with an effect a_c of the camera of variance tau_d, and an error e_c of variance w_d / k_c, where w_d is
the variance between the images of different people and k_c is the number of people that the camera has seen. The best
linear estimate of a_c from the mean of the camera is then

    tau_d / (tau_d + w_d / k_c) * (mean of camera c - m).

Reference: James and Stein, "Estimation with Quadratic Loss", Berkeley Symposium 1961; Efron and Morris, "Stein's
Estimation Rule and its Competitors - an Empirical Bayes Approach", JASA 1973 (the estimate of tau).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from passerby.distances.units import unit_rows
from passerby.types import UNKNOWN, CameraNorm, Doubles, Floats, Ints

SMALLEST_SPREAD = 1e-3
"""Of the standard deviations within a camera, against dimensions in which it has none."""
SAMPLE = 2000
"""Most images of a camera of which pairs are compared; more are thinned out evenly."""
NEAREST_SHARE = 0.65
"""Where images of one person begin, from the mean cosine of two images (0) to that of nearest neighbours (1)."""


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
    people = count_people(groups)
    overall = np.average(means, axis=0, weights=people)
    centred = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
    basis = np.linalg.eigh(centred.T @ centred)[1]  # (D, D)
    deviation = (means - overall) @ basis  # (C, D)
    # k / (k - 1): a variance around the mean of the same k people is too small
    correction = people / np.maximum(people - 1, 0.5)
    within = np.stack([((group - mean) @ basis).var(axis=0) for group, mean in zip(groups, means, strict=True)])
    within = (within * correction[:, None]).mean(axis=0)  # (D,), w_d
    error = within / people[:, None]  # (C, D), variance of e_c
    effect = _effect(deviation, within, error)
    trust = effect / np.maximum(effect + error, np.finfo(np.float64).tiny)
    # the mean of all is uncertain too: an estimate of positive part around 0
    square, uncertain = float(overall @ overall), float(within.sum() / people.sum())
    overall = overall * max(0.0, 1 - uncertain / square) if square else overall
    known = cameras != UNKNOWN  # images of unknown camera may come from anywhere
    shift = overall + known[:, None] * ((trust * deviation) @ basis.T)
    share = np.where(known, np.average(trust, axis=1, weights=within if within.any() else None), 0.0)
    return CameraStatistics(cameras, shift, np.ones_like(shift), overall, people, share)


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


def count_people(groups: list[Doubles]) -> Doubles:
    """Estimate the effective number of different people in the images of each camera, (C,) >= 1.

    The number is n^2 / sum of squares of the n images by person: k people with equal numbers of images count as k,
    unequal numbers as fewer, since the mean of a camera is then mostly that of a few people. Two images of one camera
    are taken for one person if their cosine is nearer to that of nearest neighbours than to that of any two images.

    Args:
        groups: (n, D) vectors of each camera.

    """
    overall = np.concatenate(groups).mean(axis=0)
    tables = [_cosines(group - overall) for group in groups]
    nearest = [table.max(axis=1) for table in tables if len(table) > 1]
    if not nearest:
        return np.ones(len(groups))
    mean = np.mean([table[~np.eye(len(table), dtype=bool)].mean() for table in tables if len(table) > 1])
    threshold = mean + NEAREST_SHARE * (np.median(np.concatenate(nearest)) - mean)
    counts = []
    for group, table in zip(groups, tables, strict=True):
        images, sample = len(group), len(table)
        # (i, j) of one person among the pairs of different images, then the same share among all of them
        share = (table > threshold).sum() / (sample * (sample - 1)) if sample > 1 else 0.0
        counts.append(images**2 / (share * images * (images - 1) + images))
    return np.array(counts)


def _cosines(vectors: Doubles) -> Doubles:
    """Return the cosines (n, n) of vectors, at most `SAMPLE` of them; -2 of each with itself."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(int)
    units = unit_rows(vectors[rows].astype(np.float32))
    table = (units @ units.T).astype(np.float64)
    np.fill_diagonal(table, -2)
    return table
