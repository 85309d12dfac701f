"""Signs that clusters are not people."""

import numpy as np
import pytest

from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.clusters import Clusters
from passerby.clustering.doubt import Doubt, doubtful_clusters, giant_sentence, measure_doubt
from passerby.clustering.findings import describe_clusters, find_clusters
from passerby.clustering.summary import CAUTION, ClusterSummary
from passerby.distances.sparse import SparseRows
from tests.clustering.test_findings import table_of
from tests.clustering.test_radius import noisy_people


@pytest.mark.parametrize(
    ("sizes", "warned"),
    [([375, 20], True), ([60, 40], False), ([14] * 10, False), ([100, *[9] * 60], True), ([40, *[9] * 200], False)],
)
def test_a_giant_cluster_is_warned_of(sizes, warned):
    sentence = giant_sentence(Clusters(np.repeat(np.arange(len(sizes)), sizes)))
    assert bool(sentence) == warned
    assert giant_sentence(Clusters(np.zeros(9, np.int64))) == ""


def test_the_command_warns_of_people_who_were_chained():
    chained = find_clusters(table_of(*noisy_people(spread=0.9)), DbscanSettings())
    assert "warning: the largest cluster holds" in describe_clusters(chained)
    assert chained.to_json()["warning"].startswith("the largest cluster holds")
    clear = find_clusters(table_of(*noisy_people(spread=0.4)), DbscanSettings(eps="auto", k1=15, k2=4))
    assert "warning" not in describe_clusters(clear)
    assert clear.to_json()["warning"] == ""


def graph_of(distances):
    count = len(distances)
    row, column = np.nonzero(distances < 1)
    start = np.searchsorted(row, np.arange(count + 1))
    return SparseRows(start, column, distances[row, column].astype(np.float32), count)


def test_clusters_that_merge_or_fall_apart_are_doubtful():
    labels = np.repeat([0, 1, 2, 3], 4)
    tight = np.array([0, 0, 0, 0, 1, -1, -1, 2, 3, 3, 3, 3, 4, 4, 4, 4])  # the second falls apart
    loose = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])  # the last two merge: half of each is left
    distances = np.where(labels[:, None] == labels, 0.2, 1.0)
    found = doubtful_clusters(graph_of(distances), labels, tight=tight, loose=loose)
    assert found.tolist() == [False, True, False, False]
    loose[-1] = -1
    loose[8:15] = 2
    loose[:4] = 2  # three merge
    assert doubtful_clusters(graph_of(distances), labels, tight=tight, loose=loose).tolist() == [True] * 2 + [True] * 2


def test_clusters_that_are_hardly_apart_are_doubtful():
    labels = np.repeat([0, 1, 2], 4)
    distances = np.where(labels[:, None] == labels, 0.4, 1.0)
    distances[:4, 4:8] = distances[4:8, :4] = 0.5  # a silhouette of 0.2
    assert doubtful_clusters(graph_of(distances), labels, tight=labels, loose=labels).tolist() == [True, True, False]


def test_the_interval_is_that_of_a_radius_a_tenth_smaller_and_larger():
    vectors, _ = noisy_people(spread=0.8)
    settings = DbscanSettings(eps=0.5, k1=15, k2=4)
    graph = settings.neighbours(vectors)
    doubt = measure_doubt(settings, vectors, graph, settings.fit(vectors, graph))
    counts = [settings.fit(vectors, graph, eps=0.5 * nudge).count for nudge in (0.9, 0.95, 1, 1.05, 1.1)]
    assert (doubt.fewest, doubt.most) == (min(counts), max(counts))
    assert 0 <= doubt.doubtful <= counts[2]


def test_the_headline_is_no_surer_than_the_clusters():
    found = ClusterSummary("yard", 512, 32, 0.14, 0.4, 0.9, Doubt(26, 35, 11))
    assert found.sentences() == [
        "yard: 26 to 35 people (32 clusters, 11 of them doubtful) in 512 images, 14.0 % of which are in no cluster",
        "how sure: agreement with the last epoch 0.90 (1 = the same clusters); "
        "silhouette 0.40 (1 = clusters far apart, 0 = none); "
        "26 to 35 clusters as the radius moves by a tenth; a cluster is doubtful where less than half of it stays the "
        "same, or where another cluster is as near",
        CAUTION,
    ]
    firm = ClusterSummary("yard", 512, 32, 0.0, None, None, Doubt(32, 32, 0), giant="the largest cluster holds all")
    assert firm.sentences()[:2] == [
        "yard: 32 people (32 clusters, 0 of them doubtful) in 512 images, 0.0 % of which are in no cluster",
        "warning: the largest cluster holds all",
    ]
    assert ClusterSummary("yard", 9, 2, 0.0, None, None, None).sentences()[0].startswith("yard: 2 people in 9 images")
