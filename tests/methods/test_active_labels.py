"""Active labelling: which images an oracle labels, and how far its labels spread."""

import numpy as np

from passerby.distances.sparse import SparseRows
from passerby.methods.active_labels import count_spread, draw_queries, merge_by_identity, spread_to_nearest

LABELS = np.array([0, 0, 0, -1, 1, 1, 2, 2, -1])
ALL = np.ones(len(LABELS), bool)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_one_image_of_every_cluster_is_queried():
    rows = draw_queries(LABELS, generator(), known=ALL, oracle="cluster")
    assert sorted(LABELS[rows].tolist()) == [0, 1, 2]
    others = {tuple(draw_queries(LABELS, generator(seed), known=ALL, oracle="cluster").tolist()) for seed in range(9)}
    assert len(others) > 1
    known = ALL.copy()
    known[[0, 1, 6, 7]] = False
    rows = draw_queries(LABELS, generator(), known=known, oracle="cluster")
    assert rows[0] == 2
    assert LABELS[rows].tolist() == [0, 1]


def test_as_many_at_random_may_be_outside_all_clusters():
    drawn = [draw_queries(LABELS, generator(seed), known=ALL, oracle="random") for seed in range(20)]
    assert {len(rows) for rows in drawn} == {3}
    assert any((LABELS[rows] == -1).any() for rows in drawn)
    assert all(len(set(rows.tolist())) == 3 for rows in drawn)


def test_labels_spread_to_all_images_even_where_these_are_few():
    assert [count_spread(epoch, epochs=7, unlabelled=3) for epoch in range(7)] == [0, 0, 1, 1, 2, 2, 3]


def test_labels_spread_to_the_nearest_images_first_as_in_a_loop():
    random = generator(3)
    whole = random.random((12, 12)).astype(np.float32)
    whole = (whole + whole.T) / 2
    row, column = np.nonzero((whole < 0.6) | np.eye(12, dtype=bool))
    order = random.permutation(len(row))  # in no particular order within a row
    order = order[np.argsort(row[order], kind="stable")]
    start = np.searchsorted(row, np.arange(13))
    graph = SparseRows(start, column[order], whole[row, column][order], 12)
    queried, identities = np.array([2, 5, 9]), np.array([1, 0, 1])
    reachable = sorted(
        (min((whole[i, a], name) for a, name in zip(queried, identities, strict=True)), i)
        for i in range(12)
        if i not in queried and whole[i, queried].min() < 0.6
    )
    for count in (0, 2, 5, 12):
        wanted = np.full(12, -1)
        wanted[queried] = identities
        for (_, name), image in reachable[:count]:
            wanted[image] = name
        assert spread_to_nearest(graph, queried, identities, count=count).tolist() == wanted.tolist()


def test_clusters_of_one_person_are_merged_and_those_of_several_are_not_chained():
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 3, -1, -1])
    identities = np.array([5, -1, 5, -1, 5, 6, 6, -1, 6, -1])  # cluster 2 is of person 6, by two to one
    queried = np.array([0, 2, 4, 5, 6])
    assert merge_by_identity(labels, queried, identities).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 1, -1]


def test_a_queried_identity_without_a_cluster_is_a_new_one():
    labels, identities = np.array([0, 0, 0, -1]), np.array([1, 1, 0, 0])
    assert merge_by_identity(labels, np.array([0, 1, 2]), identities).tolist() == [0, 0, 1, 1]


def test_a_label_that_was_only_spread_leaves_clusters_alone():
    labels, identities = np.array([0, 0, 1, 1]), np.array([3, -1, 3, -1])
    assert merge_by_identity(labels, np.array([0]), identities).tolist() == [0, 0, 1, 1]
