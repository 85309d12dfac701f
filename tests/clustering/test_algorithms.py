"""Every algorithm finds clusters that are there, on graphs in several pieces too, and refuses what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN, HDBSCAN

from passerby.clustering.algorithms import (
    AnyClustering,
    DbscanSettings,
    HdbscanSettings,
    InfomapSettings,
    KmeansSettings,
    clustering_settings,
)
from passerby.clustering.clusters import Clusters, numbered, require_usable
from passerby.clustering.graph import jaccard_neighbours, missing_at_1, smallest_share_mean
from passerby.errors import UserError
from passerby.settings import Settings, build
from tests.clustering.test_graph import FEATURES, JACCARD, SSG, stored

PEOPLE = np.repeat(np.arange(5), 8)


class Choice(Settings):
    cluster: AnyClustering


def people(noise=0.05, seed=0):
    """Five people, far apart, in no order; the last two images are of nobody."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(12, dtype=np.float32)[PEOPLE] + rng.normal(0, noise, (40, 12)).astype(np.float32)
    order = rng.permutation(40)
    strangers = np.eye(12, dtype=np.float32)[[10, 11]]
    return np.concatenate([vectors[order], strangers]), np.concatenate([PEOPLE[order], [-1, -1]])


def settings_of(kind, **more):
    if kind == "infomap":
        pytest.importorskip("infomap")
    more = {"kmeans": {"k": 5}, "linkage": {}}.get(kind, {"k1": 7, "k2": 2}) | more
    return build(Choice, {"cluster": {"kind": kind} | more}, source="test").cluster


@pytest.mark.parametrize("kind", ["dbscan", "hdbscan", "kmeans", "infomap", "linkage"])
def test_the_people_are_found(kind):
    vectors, pids = people()
    if kind in ("kmeans", "hdbscan"):  # they leave hardly anybody alone
        vectors, pids = vectors[:40], pids[:40]
    found = settings_of(kind).fit(vectors)
    np.testing.assert_array_equal(found.labels, numbered(pids))
    assert (found.count, found.sizes.tolist()) == (5, [8] * 5)
    np.testing.assert_array_equal(settings_of(kind).fit(vectors).labels, found.labels)


@pytest.mark.parametrize("eps", [0.6, 0.5])
def test_dbscan_equals_the_oracle(eps):
    found = DbscanSettings(eps=eps, k1=20).fit(FEATURES)
    np.testing.assert_array_equal(found.labels, JACCARD["dbscan"][f"eps_0_{10 * eps:.0f}_min4"])
    assert found.eps == eps
    assert found.noise == 1 / 40


@pytest.mark.parametrize("share", ["0.01", "0.05", "0.1"])
def test_dbscan_with_the_radius_of_ssg_equals_the_oracle(share):
    graph, expected = stored(np.array(SSG["dist"])), SSG["by_rho"][share]
    found = DbscanSettings(eps="share", share=float(share)).fit(FEATURES, graph)
    np.testing.assert_array_equal(found.labels, expected["labels_min4"])
    assert found.eps == pytest.approx(expected["eps"], rel=1e-5)


def test_a_radius_that_was_kept_is_used():
    settings = DbscanSettings(eps="share", share=0.1, k1=20)
    graph = settings.neighbours(FEATURES)
    assert settings.fit(FEATURES).eps == settings.radius(graph) == smallest_share_mean(graph, 0.1)
    kept = settings.fit(FEATURES, graph, eps=0.5)
    np.testing.assert_array_equal(kept.labels, JACCARD["dbscan"]["eps_0_5_min4"])
    np.testing.assert_array_equal(settings.fit(FEATURES, eps=0.5).labels, kept.labels)


def test_a_graph_that_dbscan_makes_for_itself_has_only_the_near_pairs(monkeypatch):
    """Nearly all pairs with common neighbours are farther apart than any radius in use, and take memory."""
    asked = []

    def spy(vectors, **options):
        asked.append(options["at_most"])
        return jaccard_neighbours(vectors, **options)

    monkeypatch.setattr("passerby.clustering.graph_settings.jaccard_neighbours", spy)
    DbscanSettings(k1=20).fit(FEATURES)
    DbscanSettings(k1=20).fit(FEATURES, eps=0.5)
    DbscanSettings(k1=20, eps="share").fit(FEATURES)
    assert asked == [0.6, 0.5, 1.0]


def test_dbscan_on_the_graph_is_dbscan_on_the_whole_matrix():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(150, 4)).astype(np.float32)
    vectors[3] = vectors[60]
    graph = jaccard_neighbours(vectors, k1=10, k2=3)
    for eps in (0.3, 0.5, 0.7):
        whole = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(missing_at_1(graph))
        np.testing.assert_array_equal(DbscanSettings(eps=eps).fit(vectors, graph).labels, numbered(whole.labels_))


@pytest.mark.parametrize("selection", ["eom", "leaf"])
def test_hdbscan_on_a_graph_in_pieces_is_hdbscan_on_the_whole_matrix(selection):
    graph = jaccard_neighbours(people(noise=0.2)[0][:40], k1=7, k2=2)
    assert connected_components(graph.scipy())[0] == 4
    whole = missing_at_1(graph).astype(np.float64)
    peer = HDBSCAN(
        min_cluster_size=4, min_samples=4, metric="precomputed", cluster_selection_method=selection, copy=True
    ).fit((whole + whole.T) / 2)
    found = HdbscanSettings(selection=selection).fit(FEATURES, graph)
    np.testing.assert_array_equal(found.labels, numbered(peer.labels_))
    assert found.count > 1


def test_hdbscan_leaves_images_without_neighbours_alone():
    vectors, pids = people()
    found = HdbscanSettings().fit(vectors, jaccard_neighbours(vectors, k1=7, k2=1))
    np.testing.assert_array_equal(found.labels, numbered(pids))


def test_small_groups_of_infomap_are_noise():
    pytest.importorskip("infomap")
    vectors, _ = people()
    found = InfomapSettings(k1=7, k2=2, min_size=9).fit(vectors)
    assert (found.count, found.noise) == (0, 1.0)
    assert InfomapSettings(k1=7, eps=1e-7).fit(vectors).noise == 1.0, "no pair is that near"


def test_without_infomap_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr("passerby.clustering.algorithms.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'infomap>=2\.16'"):
        InfomapSettings().fit(FEATURES)


def test_kmeans_does_not_see_lengths_and_starts_from_its_seed():
    vectors, _ = people(noise=0.6)
    settings = KmeansSettings(k=9, restarts=2)
    scaled = vectors * np.linspace(0.1, 9, len(vectors), dtype=np.float32)[:, None]
    np.testing.assert_array_equal(settings.fit(vectors).labels, settings.fit(scaled).labels)
    other = KmeansSettings(k=9, seed=1).fit(vectors).labels
    assert (other != settings.fit(vectors).labels).any()


def test_clusters_are_numbered_as_they_appear():
    found = Clusters(np.array([4, -1, 9, 4, 0, -1]))
    assert found.labels.tolist() == [0, -1, 1, 0, 2, -1]
    assert (found.count, found.sizes.tolist(), found.noise) == (3, [2, 1, 1], 1 / 3)
    nothing = Clusters(np.full(3, -1))
    assert (nothing.count, nothing.sizes.tolist(), nothing.noise) == (0, [], 1.0)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([-1] * 50, "only noise, in 50 images: raise eps"),
        ([0] * 4 + [1] * 4 + [-1] * 192, "96.0 % of 200 images as noise, more than the 95 % allowed: raise eps"),
        ([0] * 30 + [-1], "30 of 31 images into one cluster, as if all were one person: lower eps"),
    ],
)
def test_useless_clusters_are_refused(labels, sentence):
    with pytest.raises(UserError, match=sentence):
        require_usable(Clusters(np.array(labels)))


def test_useful_clusters_pass():
    require_usable(Clusters(np.array([0, 0, 1, 1])))
    require_usable(Clusters(np.array([0, 1] + [-1] * 38)))
    with pytest.raises(UserError, match="more than the 90 %"):
        require_usable(Clusters(np.array([0, 1] + [-1] * 38)), max_noise_ratio=0.9)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kind": "dbscan", "share": 0.01}, "share has no effect with eps: 0.6"),
        ({"kind": "dbscan", "eps": 1.0}, "cluster.eps is 1.0"),
        ({"kind": "dbscn"}, "did you mean 'dbscan'"),
        ({"kind": "kmeans", "k1": 30}, "unknown key cluster.k1"),
    ],
)
def test_settings_without_sense_are_refused(given, sentence):
    with pytest.raises(UserError, match=sentence):
        build(Choice, {"cluster": given}, source="test")


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(UserError, match="fewer images than clusters: 40 images with k=41"):
        KmeansSettings(k=41).fit(FEATURES)
    with pytest.raises(UserError, match=r"eps must be in \(0, 1\), got 1"):
        DbscanSettings().fit(FEATURES, eps=1.0)
    with pytest.raises(UserError, match="fewer than min_size=50"):
        HdbscanSettings(min_size=50).fit(FEATURES)
    for settings in (DbscanSettings(), HdbscanSettings(), DbscanSettings(form="reranking")):
        with pytest.raises(UserError, match="fewer images than k1: 30 images with k1=30"):
            settings.fit(FEATURES[:30])


def test_a_setting_of_another_algorithm_is_refused_with_its_name():
    with pytest.raises(UserError, match="eps is a setting of dbscan and infomap, not of linkage; add --kind dbscan"):
        clustering_settings("linkage", ["eps=0.5"])
    assert clustering_settings("dbscan", ["eps=0.5"]).eps == 0.5
