"""The radius that DBSCAN chooses from the images, and the default that all commands share."""

import numpy as np
import pytest

from passerby.clustering.algorithms import USUAL, DbscanSettings, KmeansSettings, clustering_settings
from passerby.clustering.quality import against_truth
from passerby.clustering.radius import RADII, choose_radius, covered_clusters
from passerby.methods.contrast import ContrastSettings


def noisy_people(*, spread, count=20, images=9, seed=0):
    """Return vectors (N, 16) of people in directions of their own, with so much spread, and who is in each."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.normal(size=(count, 16)), images, axis=0)
    vectors = centres + spread * generator.normal(size=centres.shape)
    return vectors.astype(np.float32), np.repeat(np.arange(count), images)


def steps(radius):
    """Return labels of ten images: more in clusters as the radius grows, until clusters merge."""
    if radius < 0.4:
        return np.array([0, 0, 1, 1, -1, -1, -1, -1, -1, -1])
    if radius < 0.5:
        return np.array([0, 0, 1, 1, 2, 2, 3, 3, -1, -1])
    return np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])


def test_many_clusters_that_hold_most_images_are_best():
    assert covered_clusters(steps(0.3)) == pytest.approx(2 * 0.4)
    assert covered_clusters(steps(0.45)) == pytest.approx(4 * 0.8)
    assert covered_clusters(np.zeros(0, np.int64)) == covered_clusters(np.full(3, -1)) == 0
    assert 0.4 < choose_radius(steps) < 0.5


def test_one_lucky_radius_does_not_decide():
    def lucky(radius):
        return np.arange(10) if radius == RADII[-3] else steps(radius)

    assert choose_radius(lambda radius: np.repeat(np.arange(5), 2) if radius == RADII[-3] else steps(radius)) < 0.5
    assert choose_radius(lucky) >= RADII[-4], "ten clusters of all images are more than luck"


@pytest.mark.parametrize("spread", [0.3, 0.5, 0.7])
def test_people_are_not_chained_together(spread):
    vectors, pids = noisy_people(spread=spread)
    found = clustering_settings("dbscan").fit(vectors)
    assert found.eps in RADII
    assert against_truth(found.labels, pids).precision > 0.8  # eps 0.6 and k1 30: 0.82, 0.75 and 0.28
    assert 18 <= found.count <= 22


def test_a_radius_that_is_asked_for_is_used():
    vectors, _ = noisy_people(spread=0.5)
    assert clustering_settings("dbscan", ["eps=0.5"]).fit(vectors).eps == 0.5
    auto = DbscanSettings(eps="auto", k1=15, k2=4)
    assert auto.fit(vectors, eps=0.31).eps == 0.31


def test_adapt_and_cluster_use_the_same_settings():
    assert clustering_settings("dbscan").model_dump().items() >= USUAL["dbscan"].items()
    assert DbscanSettings().eps == 0.6, "published methods keep their radius"


def test_a_method_keeps_the_radius_of_its_first_epoch():
    part = ContrastSettings(cluster={**USUAL["dbscan"]}).make()
    first, _ = noisy_people(spread=0.5)
    clusters, _ = part.find(first)
    assert float(part.eps[0]) == clusters.eps
    part.find(noisy_people(spread=0.9, seed=1)[0])
    assert float(part.eps[0]) == clusters.eps


def test_kmeans_works_on_few_images():
    vectors, pids = noisy_people(spread=0.4)
    assert against_truth(clustering_settings("kmeans").fit(vectors).labels, pids).f > 0.9
    assert clustering_settings("kmeans").fit(vectors[:5]).count == 2
    assert KmeansSettings().k == 500, "as published where a recipe names k-means"
