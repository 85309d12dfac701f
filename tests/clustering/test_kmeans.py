"""k-means by torch: the clusters of well separated groups, empty clusters, and its use on other devices."""

import numpy as np
import pytest
import torch

from passerby.clustering import algorithms, graph_settings
from passerby.clustering.algorithms import KmeansSettings, clustering_settings
from passerby.clustering.findings import find_clusters
from passerby.clustering.kmeans import _means, kmeans
from passerby.clustering.quality import agreement
from passerby.errors import UserError
from passerby.types import Embeddings

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def groups(*, people=9, images=12, dims=16, noise=0.2, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(people * images) % people
    vectors = generator.normal(size=(people, dims))[labels] + noise * generator.normal(size=(len(labels), dims))
    return vectors.astype(np.float32), labels


def inertia(vectors, labels):
    return sum(((part := vectors[labels == k]) - part.mean(0)).__pow__(2).sum() for k in np.unique(labels))


@pytest.mark.parametrize("device", DEVICES)
def test_separate_groups_are_the_clusters(device):
    vectors, labels = groups()
    found = kmeans(vectors, 9, seed=0, device=device)
    assert agreement(found, labels).rand == 1
    np.testing.assert_array_equal(found, kmeans(vectors, 9, seed=0, device=device))
    assert found.dtype == np.int64


@pytest.mark.parametrize("device", DEVICES)
def test_the_inertia_is_that_of_the_implementation_on_the_cpu(device):
    from sklearn.cluster import KMeans

    vectors, _ = groups(people=12, noise=1.5, images=20)
    expected = np.median([KMeans(12, n_init=1, random_state=seed).fit(vectors).inertia_ for seed in range(5)])
    measured = np.median([inertia(vectors, kmeans(vectors, 12, seed=seed, device=device)) for seed in range(5)])
    assert measured == pytest.approx(expected, rel=0.03)


def test_more_starts_do_not_raise_the_inertia():
    vectors, _ = groups(people=12, noise=1.0)
    once, often = (inertia(vectors, kmeans(vectors, 12, seed=3, restarts=n)) for n in (1, 6))
    assert often <= once + 1e-3


def test_every_image_alone_and_all_together():
    vectors, _ = groups(people=3, images=3)
    assert sorted(kmeans(vectors, 9, seed=0)) == list(range(9))
    assert set(kmeans(vectors, 1, seed=0)) == {0}
    assert len(kmeans(np.ones((6, 4), np.float32), 3, seed=0)) == 6


def test_an_empty_cluster_moves_to_the_farthest_image():
    rows = torch.tensor([[0.0], [1.0], [9.0]])
    means = _means(rows, torch.tensor([0, 0, 0]), torch.tensor([[0.0], [50.0]]))
    assert means[:, 0].tolist() == pytest.approx([10 / 3, 9.0])


def test_the_device_reaches_the_arithmetic(monkeypatch):
    """On a machine without a GPU: everything that a GPU would compute is asked for with its name."""
    vectors, labels = groups()
    asked = []

    def fake(name):
        asked.append(name)
        return torch.device(name if name == "cpu" else "cuda")

    monkeypatch.setattr(algorithms, "find_device", fake)
    by_torch = kmeans
    monkeypatch.setattr(
        algorithms,
        "kmeans",
        lambda rows, k, *, seed, restarts, device: asked.append(device) or by_torch(rows, k, seed=seed),
    )
    graph = graph_settings.jaccard_neighbours
    monkeypatch.setattr(
        graph_settings, "jaccard_neighbours", lambda *rows, device, **more: asked.append(device) or graph(*rows, **more)
    )
    monkeypatch.setattr(
        "passerby.clustering.findings.jaccard_neighbours",
        lambda *rows, device, **more: asked.append(device) or graph(*rows, **more),
    )
    unknown = np.full(len(labels), -1)
    table = Embeddings(vectors, unknown, unknown, np.full(len(labels), ""))
    for settings in (clustering_settings("kmeans"), clustering_settings("dbscan", ["k1=8"])):
        asked.clear()
        assert find_clusters(table, settings, device="cuda:1").clusters.count == 9
        assert set(asked) == {"cuda:1"}


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU"):
        KmeansSettings(k=3).fit(groups()[0], device="cuda:1")
