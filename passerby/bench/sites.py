"""Random vectors with the counts of well-known test sets: images, identities and cameras, in loose clusters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from passerby.metrics.relevance import Relevance, relevance
from passerby.types import Floats, Ints, Split

SizeName = Literal["market1501", "msmt17"]


@dataclass(frozen=True)
class Size:
    """Counts of a test set; `distractors` is the fraction of gallery images without an identity."""

    count_query: int
    count_gallery: int
    count_identities: int
    count_cameras: int
    distractors: float
    dims: int = 2048

    def smaller(self, factor: int) -> Size:
        """Return the same with everything but the cameras divided by `factor`."""
        return Size(
            self.count_query // factor,
            self.count_gallery // factor,
            self.count_identities // factor,
            self.count_cameras,
            self.distractors,
            self.dims // factor,
        )

    def __str__(self) -> str:
        """Query x gallery x dims."""
        return f"{self.count_query:,} x {self.count_gallery:,} x {self.dims:,}"


SIZES: dict[SizeName, Size] = {
    "market1501": Size(3368, 15913, 750, 6, distractors=0.176),
    "msmt17": Size(11659, 82161, 3060, 15, distractors=0.0),
}


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors with the columns of their images, queries first.

    Attributes:
        vectors: (Q + G, D).
        pid, cam: (Q + G,).
        count_query: Q.

    """

    vectors: Floats
    pid: Ints
    cam: Ints
    count_query: int

    @property
    def query(self) -> Floats:
        """(Q, D), a view."""
        return self.vectors[: self.count_query]

    @property
    def gallery(self) -> Floats:
        """(G, D), a view."""
        return self.vectors[self.count_query :]

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return self.count_query, len(self.vectors) - self.count_query

    def relevance(self) -> Relevance:
        """Apply the Market-1501 rule."""
        split = Split(np.full(len(self.pid), ""), self.pid, self.cam)
        rows = np.arange(len(self.pid))
        return relevance(split.select(rows[: self.count_query]), split.select(rows[self.count_query :]))

    @cached_property
    def product(self) -> torch.Tensor:
        """(Q, G) buffer of a whole matrix product, written once."""
        return torch.zeros(self.shape)

    @cached_property
    def negated_similarity(self) -> Floats:
        """(Q, G) negated cosine similarities, all at once as public toolkits hold them."""
        unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (-self.query, self.gallery)]
        return np.asarray(unit[0] @ unit[1].T, np.float32)


def make_features(size: Size) -> Features:
    """Return the same random features each time: a centre per identity, and noise of twice its length."""
    rng = np.random.default_rng(0)
    count = size.count_query + size.count_gallery
    pid = rng.integers(1, size.count_identities + 1, count)
    distractor = (rng.random(count) < size.distractors) & (np.arange(count) >= size.count_query)
    pid[distractor] = 0
    centres = rng.standard_normal((size.count_identities + 1, size.dims), dtype=np.float32) * np.float32(0.5)
    centres[0] = 0
    vectors = np.empty((count, size.dims), np.float32)
    for first in range(0, count, 1024):
        part = vectors[first : first + 1024]
        rng.standard_normal(out=part, dtype=np.float32)
        part += centres[pid[first : first + 1024]]
    return Features(vectors, pid, rng.integers(0, size.count_cameras, count), size.count_query)
