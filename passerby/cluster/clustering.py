from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
import numpy as np
from passerby.settings import Settings
from passerby.types import Floats, Ints
from passerby.errors import UserError


@dataclass(frozen=True)
class Clusters:
    labels: Ints
    eps: float | None

    @property
    def count(self):
        return int(self.labels.max()) + 1

    @property
    def noise(self):
        return float((self.labels < 0).mean())


class DbscanSettings(Settings):
    kind: Literal["dbscan"] = "dbscan"
    eps: float = 0.6
    min_samples: int = 4
    k1: int = 30
    k2: int = 6

    def fit(self, vectors: Floats, *, eps=None, seed=0):
        from sklearn.cluster import DBSCAN

        d = 1 - vectors @ vectors.T
        l = (
            DBSCAN(eps=self.eps, min_samples=self.min_samples, metric="precomputed")
            .fit_predict(np.maximum(d, 0))
            .astype(np.int64)
        )
        return Clusters(l, self.eps)


class HdbscanSettings(Settings):
    kind: Literal["hdbscan"] = "hdbscan"


AnyClustering = DbscanSettings | HdbscanSettings


def require_usable(c, *, outliers=0.95):
    if c.count < 2:
        raise UserError("clustering found fewer than two people")
