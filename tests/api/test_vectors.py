"""Re-ranking and clustering of plain arrays are those of the tables."""

import numpy as np
import pytest

import passerby


@pytest.fixture
def table():
    pid = np.arange(60) % 12
    vectors = (np.eye(12)[pid] + 0.05 * np.random.default_rng(0).normal(size=(60, 12))).astype(np.float32)
    return passerby.Embeddings(vectors, pid=pid, cam=np.arange(60) // 12, role=["query"] * 12 + ["gallery"] * 48)


def test_reranked_distances_give_the_ranking_of_the_scores(table):
    chosen = passerby.Rerank(k1=4, k2=2)
    distances = passerby.rerank(table.query.vectors, table.gallery.vectors, parameters=chosen)
    assert distances.shape == (12, 48)
    scores = passerby.evaluate(table, rerank=chosen, cameras="ignore")
    same = table.query.pid[:, None] == table.gallery.pid
    first = np.take_along_axis(same, distances.argmin(axis=1)[:, None], axis=1)[:, 0]
    assert first.mean() == pytest.approx(scores.rank(1))


def test_an_array_gives_the_clusters_of_its_table(table):
    settings = ["k1=5", "k2=2", "min_samples=2"]
    plain, known = (passerby.cluster(v, "dbscan", settings) for v in (table.vectors, table))
    assert (plain.clusters.labels == known.clusters.labels).all()
    assert plain.clusters.count == 12
    assert plain.truth is None
    assert known.truth is not None
