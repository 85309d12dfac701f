"""The distance that means "the same person": thresholds at fixed false accept rates, with intervals by identity.

An impostor pair shows two different identities, seen by two different cameras. The false accept rate (FAR) of a
threshold is the share of the impostor pairs within it. Pairs that share a person are not independent, so intervals come
from drawing identities anew, never pairs.

Reference: ISO/IEC 19795-1:2021 (false match rate); Bolle et al., "Evaluating authentication systems using bootstrap
confidence intervals", AutoID 1999 (subsets of subjects instead of single comparisons).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from passerby.distances.camera_norm import normalise_cameras
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.settings import Settings
from passerby.types import UNKNOWN, CameraNorm, Doubles, Embeddings, Floats, Ints

_Rate = Annotated[float, Field(gt=0, lt=1)]
CosineDistance = Annotated[float, Field(ge=-1e-6, le=2 + 1e-6)]

RATES = (1e-2, 1e-3, 1e-4)
"""The false accept rates that are calibrated."""
FEWEST_ERRORS = 10
"""Impostor pairs that a rate must let through; with fewer, the threshold is that of a few odd pairs."""
COUNT_RESAMPLES = 300
CONFIDENCE = 0.95
_BINS, _ROWS = 1 << 16, 1024
_MARGIN = 4.0
"""Pairs are kept up to so many times the largest rate, because drawn identities move the threshold."""


class Threshold(Settings):
    """The threshold of one rate."""

    rate: _Rate = Field(description="false accept rate")
    distance: CosineDistance = Field(
        description="largest cosine distance at which no more than that share of the impostor pairs is accepted"
    )
    low: CosineDistance = Field(description="lower bound of the 95 % interval of the distance")
    high: CosineDistance = Field(description="upper bound of the 95 % interval of the distance")
    accepted: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="share of the pairs of one identity in two cameras within the distance; null without such pairs"
    )


class PairThresholds(Settings):
    """The thresholds of the images of some pairs of cameras."""

    cameras: tuple[int, int] | None = Field(description="the two cameras; null = all pairs of cameras together")
    count_impostors: int = Field(description="pairs of images of different identities")
    count_genuine: int = Field(description="pairs of images of one identity")
    thresholds: tuple[Threshold, ...] = Field(description="of the rates that the number of pairs supports")
    unsupported: tuple[_Rate, ...] = Field(description="the other rates")


class Calibration(Settings):
    """Thresholds of a model on a labelled data set."""

    dataset: str = Field(description="name of the data set")
    files: str = Field(description="fingerprint of its images")
    feature: str = Field(description="name of the vector of the model")
    flip: bool = Field(description="whether each vector is averaged with that of the mirror image")
    camera_norm: CameraNorm = Field(description="how the effects of cameras were taken out of the vectors before")
    count_identities: int = Field(description="identities that were compared")
    count_images: int = Field(description="images that were compared")
    pooled: PairThresholds = Field(description="thresholds over all pairs of cameras")
    by_cameras: tuple[PairThresholds, ...] = Field((), description="thresholds of each pair of cameras")

    def distance(self, rate: float) -> float:
        """Return the threshold of a false accept rate over all pairs of cameras.

        Raises:
            UserError: a rate that was not calibrated.

        """
        for row in self.pooled.thresholds:
            if math.isclose(row.rate, rate, rel_tol=1e-9):
                return row.distance
        known = ", ".join(f"{row.rate:g}" for row in self.pooled.thresholds)
        raise UserError(
            f"the model is calibrated for the false accept rates {known}, not for {rate:g}; calibrate it with "
            f"--rate {rate:g}, on more images where there are too few pairs"
        )


@dataclass(frozen=True, eq=False)
class _Images:
    """Unit vectors with the numbers of their identities and cameras, from 0."""

    vectors: Floats
    person: Ints
    camera: Ints
    cameras: Ints
    apart: bool  # whether cameras are known, so that pairs of one camera are left out

    def blocks(self) -> Iterator[tuple[slice, Doubles]]:
        """Yield (rows, (B, N) cosine distances) of rows with the rows from there on; NaN for pairs left out."""
        numbers = np.arange(len(self.vectors))
        for start in range(0, len(self.vectors), _ROWS):
            rows = slice(start, min(start + _ROWS, len(self.vectors)))
            distances = 1 - (self.vectors[rows] @ self.vectors[start:].T).astype(np.float64)
            left_out = numbers[rows, None] >= numbers[None, start:]
            if self.apart:
                left_out |= self.camera[rows, None] == self.camera[None, start:]
            distances[left_out] = np.nan
            yield rows, np.clip(distances, 0, 2)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of images with a small distance, ascending: their distance, identities and cameras (the smaller first)."""

    distance: Doubles
    first: Ints
    second: Ints
    cameras: Ints  # (M, 2)

    def of(self, cameras: tuple[int, int]) -> _Pairs:
        """Return the pairs of images of two cameras."""
        rows = (self.cameras == np.array(cameras)).all(axis=1)
        return _Pairs(self.distance[rows], self.first[rows], self.second[rows], self.cameras[rows])


def calibrate(
    embeddings: Embeddings, *, rates: Sequence[float] = RATES, camera_norm: CameraNorm = "none", seed: int = 0
) -> Calibration:
    """Find the distances at false accept rates.

    Args:
        embeddings: vectors with identities and cameras, whatever their role; images of unknown identity are left out.
            Where no camera is known, all pairs of images are compared.
        rates: in (0, 1).
        camera_norm: how the effects of cameras are taken out of the vectors before.
        seed: of the identities that are drawn anew.

    Raises:
        UserError: one identity only, one camera only, or so few impostor pairs that they support none of the rates.

    """
    images = _images(embeddings, camera_norm)
    counts = np.zeros((int(images.person.max()) + 1, len(images.cameras)))  # (P, C) images
    np.add.at(counts, (images.person, images.camera), 1)
    impostors, genuine = _small_pairs(images, max(rates))
    generator = np.random.default_rng(seed)
    draws = np.stack([_draw(len(counts), generator) for _ in range(COUNT_RESAMPLES)])  # (R, P)
    pooled = _thresholds(None, impostors, genuine, counts, draws, rates, apart=images.apart)
    if not pooled.thresholds:
        needed = math.ceil(FEWEST_ERRORS / max(rates))
        raise UserError(
            f"{pooled.count_impostors:,} pairs of different identities in different cameras cannot support a false "
            f"accept rate of {max(rates):g}, which needs {needed:,}; calibrate on more images, or allow a higher rate"
        )
    pairs = itertools.combinations(range(len(images.cameras)), 2) if images.apart else ()
    by_cameras = []
    for pair in pairs:
        pairs_and_counts = (impostors.of(pair), genuine.of(pair), counts[:, list(pair)])
        row = _thresholds(pair, *pairs_and_counts, draws, rates, apart=True)
        names = (int(images.cameras[pair[0]]), int(images.cameras[pair[1]]))
        by_cameras.append(row.model_copy(update={"cameras": names}))
    return Calibration(
        dataset=embeddings.dataset,
        files=embeddings.fingerprint,
        feature=embeddings.feature,
        flip=embeddings.flip,
        camera_norm=camera_norm,
        count_identities=len(counts),
        count_images=len(images.vectors),
        pooled=pooled,
        by_cameras=tuple(by_cameras),
    )


def _images(embeddings: Embeddings, camera_norm: CameraNorm) -> _Images:
    """Return the images of known identity."""
    table = embeddings.select(embeddings.pid != UNKNOWN)
    apart = bool((table.cam != UNKNOWN).any())
    people, person = np.unique(table.pid, return_inverse=True)
    cameras, camera = np.unique(table.cam, return_inverse=True)
    if len(people) < 2:
        raise UserError(f"a calibration compares different identities, and the data set has {len(people)}")
    if apart and len(cameras) < 2:
        raise UserError(
            f"a calibration compares images of different cameras, and all {len(table):,} are of camera {cameras[0]}"
        )
    vectors = normalise_cameras(unit_rows(table.vectors), table.cam, how=camera_norm)
    return _Images(unit_rows(vectors), person, camera, cameras, apart)


def _small_pairs(images: _Images, rate: float) -> tuple[_Pairs, _Pairs]:
    """Return the impostor pairs up to `_MARGIN` times a rate, and all genuine pairs."""
    histogram = np.zeros(_BINS, np.int64)
    for rows, distances in images.blocks():
        different = images.person[rows, None] != images.person[None, rows.start :]
        values = distances[different & ~np.isnan(distances)]
        histogram += np.bincount((values / 2 * (_BINS - 1)).astype(np.int64), minlength=_BINS)
    total = int(histogram.sum())
    if not total:
        raise UserError("no two images show different identities in different cameras, so nothing can be calibrated")
    enough = min(total, math.ceil(_MARGIN * rate * total) + FEWEST_ERRORS)
    limit = (int(np.searchsorted(np.cumsum(histogram), enough)) + 1) * 2 / (_BINS - 1)
    impostors: list[_Pairs] = []
    genuine: list[_Pairs] = []
    for rows, distances in images.blocks():
        same = images.person[rows, None] == images.person[None, rows.start :]
        for pairs, mask in ((genuine, same & ~np.isnan(distances)), (impostors, ~same & (distances <= limit))):
            left, right = np.nonzero(mask)
            first, second = left + rows.start, right + rows.start
            cameras = np.sort(np.stack([images.camera[first], images.camera[second]], axis=1), axis=1)
            pairs.append(_Pairs(distances[left, right], images.person[first], images.person[second], cameras))
    return _joined(impostors), _joined(genuine)


def _joined(parts: list[_Pairs]) -> _Pairs:
    columns = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("distance", "first", "second", "cameras")
    ]
    order = np.argsort(columns[0], kind="stable")
    return _Pairs(*(column[order] for column in columns))


def _draw(count: int, generator: np.random.Generator) -> Ints:
    """Return how often each of `count` identities is drawn, with replacement."""
    return np.asarray(np.bincount(generator.integers(count, size=count), minlength=count), np.int64)


def _thresholds(
    cameras: tuple[int, int] | None,
    impostors: _Pairs,
    genuine: _Pairs,
    counts: Doubles,
    draws: Ints,
    rates: Sequence[float],
    *,
    apart: bool,
) -> PairThresholds:
    """Return the thresholds of pairs of images; `counts` (P, C) are the images of each identity and camera."""
    total = _count_impostors(counts, np.ones(len(counts)), apart=apart)
    supported = [rate for rate in rates if rate * total >= FEWEST_ERRORS - 1e-9]
    resampled = _resampled_limits(
        impostors, counts, draws if supported else draws[:0], supported, apart=apart
    )  # (R, rates)
    edge = (1 - CONFIDENCE) / 2
    thresholds = []
    for place, rate in enumerate(supported):
        distance = _limit(impostors.distance, np.arange(1, len(impostors.distance) + 1), rate * total)
        low, high = np.quantile(resampled[:, place], [edge, 1 - edge])
        accepted = float((genuine.distance <= distance).mean()) if len(genuine.distance) else None
        threshold = Threshold(rate=rate, distance=distance, low=float(low), high=float(high), accepted=accepted)
        thresholds.append(threshold)
    return PairThresholds(
        cameras=cameras,
        count_impostors=int(total),
        count_genuine=len(genuine.distance),
        thresholds=tuple(thresholds),
        unsupported=tuple(rate for rate in rates if rate not in supported),
    )


def _resampled_limits(
    impostors: _Pairs, counts: Doubles, draws: Ints, rates: Sequence[float], *, apart: bool
) -> Doubles:
    """Return the thresholds (R, rates) of identities drawn anew; a pair counts as often as both are drawn."""
    limits = []
    for draw in draws:
        total = _count_impostors(counts, draw, apart=apart)
        if total:  # with few identities all that are drawn may be one
            accepted = np.cumsum(draw[impostors.first] * draw[impostors.second])
            limits.append([_limit(impostors.distance, accepted, rate * total) for rate in rates])
    return np.array(limits)


def _limit(distances: Doubles, accepted: Ints, allowed: float) -> float:
    """Return the largest distance within which no more than `allowed` pairs lie.

    Args:
        distances: ascending; the smallest of all.
        accepted: how many pairs lie within each of them.
        allowed: number of pairs.

    """
    first = int(np.searchsorted(accepted, math.floor(allowed + 1e-9), side="right"))
    return float(distances[-1] if first == len(distances) else np.nextafter(distances[first], -math.inf))


def _count_impostors(counts: Doubles, weight: Doubles | Ints, *, apart: bool) -> float:
    """Return the number of pairs of different identities, each identity taken `weight` (P,) times.

    With `apart`, of different cameras too: all pairs between cameras less those of one identity.
    """
    weighted = counts * weight[:, None]  # (P, C)
    cameras, people = weighted.sum(axis=0), weighted.sum(axis=1)  # (C,), (P,)
    everything, of_same = people.sum() ** 2, (people**2).sum()
    if not apart:
        return float((everything - of_same) / 2)
    return float((everything - (cameras**2).sum() - of_same + (weighted**2).sum()) / 2)
