"""The bench of clustering runs, and its dense peer finds the same distances and clusters."""

from __future__ import annotations

import numpy as np
import pytest

from passerby.bench import cluster as bench
from passerby.bench.measure import Contender, contest
from passerby.bench.ranking import TINY
from passerby.bench.sites import Size
from passerby.clustering.graph import jaccard_neighbours, missing_at_1

SMALL = Size(0, 150, 5, 3, distractors=0.0, dims=512)


def test_the_dense_peer_finds_the_same():
    prepared = bench._prepare(SMALL)
    graph = missing_at_1(jaccard_neighbours(prepared.vectors))
    apart = ~np.eye(150, dtype=bool)
    dense = bench.dense_distances(prepared.unit, prepared.neighbours.row)
    np.testing.assert_allclose(dense[apart], graph[apart], atol=1e-5)
    ours = bench._sparse(prepared)
    for peer in (bench._sparse_after, bench._dense, bench._dense_after):
        np.testing.assert_array_equal(peer(prepared).labels, ours.labels)
    assert ours.count > 1


@pytest.mark.parametrize("site", ["market1501", "msmt17"])
def test_the_bench_runs(site, monkeypatch):
    """At a tiny size, and without the processes of the memory measurement."""

    def quick_contest(title, contenders, *, make, warm):
        plain = tuple(Contender(c.name, c.run, 1, c.against) for c in contenders)
        return contest(title, plain, make=make, warm=warm)

    monkeypatch.setattr(bench, "contest", quick_contest)
    monkeypatch.setitem(bench.TRAIN_SIZES, site, TINY)
    table = bench.bench_cluster(site=site)
    assert [row.name for row in table.rows][:2] == [bench.NEIGHBOURS, bench.SPARSE]
    assert (len(table.rows) == 5) == (site == "market1501")
    assert f"clustering at {site} size" in table.title
