"""Speed of exact ranking, compared with the matrix product alone and with sorting every row as public toolkits do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch

from passerby.bench.measure import BenchTable, Contender, contest
from passerby.bench.sites import SIZES, Features, Size, SizeName, make_features
from passerby.compiled import compiled
from passerby.distances.pairwise import pairwise, rows_per_block
from passerby.metrics.ranking import Ranking, average_precision, rank_matches
from passerby.metrics.verification import PairCounts
from passerby.types import Doubles, Floats, Ints

PRODUCT = "matrix product alone"
RANKED = "distances and ranking"
SCORED = "distances, ranking, verification rates"
STAGE = "ranking stage"
SORTED = "argsort and a compiled loop"
TORCHREID = "torchreid"

TINY = Size(8, 40, 4, 3, distractors=0.1, dims=16)


@dataclass(frozen=True, eq=False)
class HeldDistances:
    """A distance source over a matrix (Q, G) that exists already."""

    values: Floats
    offset: float = 1.0
    bounds: tuple[float, float] = (-1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return self.values.shape[0], self.values.shape[1]

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield views of the matrix."""
        rows = rows_per_block(*self.shape)
        for start in range(0, len(self.values), rows):
            yield start, torch.from_numpy(self.values[start : start + rows])


def bench_ranking(*, quick: bool = False, site: SizeName = "market1501") -> BenchTable:
    """Measure ranking at the size of a test set (`quick`: an eighth of it in every direction).

    The peers that sort need the whole matrix and its order in memory, and are left out at the size of MSMT17.
    """
    size = SIZES[site].smaller(8) if quick else SIZES[site]
    rounds = 5 if site == "market1501" else 2  # the first product also touches its room for the first time
    contenders = [
        Contender(PRODUCT, _product, rounds),
        Contender(RANKED, _ranked, rounds, against=PRODUCT, measure_peak=True),
        Contender(SCORED, _scored, rounds, against=PRODUCT, measure_peak=True),
    ]
    if site == "market1501":
        contenders += [
            Contender(STAGE, _stage, rounds),
            Contender(SORTED, _sorted, 2, against=STAGE, measure_peak=True),
        ]
        if find_spec("torchreid") is not None:
            contenders.append(Contender(TORCHREID, _torchreid, 1, against=STAGE))
    return contest(f"ranking at {site} size, {size}", tuple(contenders), make=partial(make_features, size), warm=_warm)


def _warm() -> None:
    features = make_features(TINY)
    for run in (_product, _scored, _stage, _sorted):
        run(features)


def _product(features: Features) -> None:
    torch.mm(torch.from_numpy(features.query), torch.from_numpy(features.gallery).T, out=features.product)


def _ranked(features: Features) -> Ranking:
    return rank_matches(pairwise(features.query, features.gallery), features.relevance())


def _scored(features: Features) -> Ranking:
    source = pairwise(features.query, features.gallery)
    return rank_matches(source, features.relevance(), pairs=PairCounts(source.bounds))


def _stage(features: Features) -> Doubles:
    return average_precision(rank_matches(HeldDistances(features.negated_similarity), features.relevance()))


def _sorted(features: Features) -> Doubles:
    order = np.argsort(features.negated_similarity, axis=1)
    pid, cam, count = features.pid, features.cam, features.count_query
    return _average_precision_of_order(order, pid[:count], cam[:count], pid[count:], cam[count:])


@compiled()
def _average_precision_of_order(
    order: Ints, query_pid: Ints, query_cam: Ints, gallery_pid: Ints, gallery_cam: Ints
) -> Doubles:
    scores = np.full(len(order), np.nan)
    for q in range(len(order)):
        rank, hits, total = 0, 0, 0.0
        for row in order[q]:
            same = gallery_pid[row] == query_pid[q]
            if same and gallery_cam[row] == query_cam[q]:
                continue
            rank += 1
            if same:
                hits += 1
                total += hits / rank
        if hits:
            scores[q] = total / hits
    return scores


def _torchreid(features: Features) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchreid.metrics.rank import evaluate_rank
    evaluate_peer: Callable[..., object] = evaluate_rank
    pid, cam, count = features.pid, features.cam, features.count_query
    return evaluate_peer(features.negated_similarity, pid[:count], pid[count:], cam[:count], cam[count:])
