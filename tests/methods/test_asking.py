"""Who is asked about, and how far an answer carries."""

import numpy as np

from passerby.distances.sparse import SparseRows
from passerby.methods.asking import chosen_to_ask, count_to_name, merged_by_name, named_by_nearest

LABELS = np.array([0, 0, 0, -1, 1, 1, 2, 2, -1])
ALL = np.ones(len(LABELS), bool)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_one_image_of_every_cluster_is_asked_about():
    rows = chosen_to_ask(LABELS, generator(), known=ALL, ask="cluster")
    assert sorted(LABELS[rows].tolist()) == [0, 1, 2]
    others = {tuple(chosen_to_ask(LABELS, generator(seed), known=ALL, ask="cluster").tolist()) for seed in range(9)}
    assert len(others) > 1
    known = ALL.copy()
    known[[0, 1, 6, 7]] = False
    rows = chosen_to_ask(LABELS, generator(), known=known, ask="cluster")
    assert rows[0] == 2
    assert LABELS[rows].tolist() == [0, 1]


def test_as_many_at_random_may_be_outside_all_clusters():
    drawn = [chosen_to_ask(LABELS, generator(seed), known=ALL, ask="random") for seed in range(20)]
    assert {len(rows) for rows in drawn} == {3}
    assert any((LABELS[rows] == -1).any() for rows in drawn)
    assert all(len(set(rows.tolist())) == 3 for rows in drawn)


def test_names_grow_to_all_images_even_where_these_are_few():
    assert [count_to_name(epoch, epochs=7, unlabelled=3) for epoch in range(7)] == [0, 0, 1, 1, 2, 2, 3]


def test_names_go_to_the_nearest_images_first_as_in_a_loop():
    random = generator(3)
    whole = random.random((12, 12)).astype(np.float32)
    whole = (whole + whole.T) / 2
    row, column = np.nonzero((whole < 0.6) | np.eye(12, dtype=bool))
    order = random.permutation(len(row))  # in no particular order within a row
    order = order[np.argsort(row[order], kind="stable")]
    start = np.searchsorted(row, np.arange(13))
    graph = SparseRows(start, column[order], whole[row, column][order], 12)
    asked, names = np.array([2, 5, 9]), np.array([1, 0, 1])
    reachable = sorted(
        (min((whole[i, a], name) for a, name in zip(asked, names, strict=True)), i)
        for i in range(12)
        if i not in asked and whole[i, asked].min() < 0.6
    )
    for count in (0, 2, 5, 12):
        wanted = np.full(12, -1)
        wanted[asked] = names
        for (_, name), image in reachable[:count]:
            wanted[image] = name
        assert named_by_nearest(graph, asked, names, count=count).tolist() == wanted.tolist()


def test_clusters_of_one_person_are_merged_and_those_of_several_are_not_chained():
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 3, -1, -1])
    named = np.array([5, -1, 5, -1, 5, 6, 6, -1, 6, -1])  # cluster 2 is of person 6, by two to one
    asked = np.array([0, 2, 4, 5, 6])
    assert merged_by_name(labels, asked, named).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 1, -1]


def test_an_asked_person_without_a_cluster_is_a_new_one():
    labels, named = np.array([0, 0, 0, -1]), np.array([1, 1, 0, 0])
    assert merged_by_name(labels, np.array([0, 1, 2]), named).tolist() == [0, 0, 1, 1]


def test_what_was_only_believed_leaves_clusters_alone():
    labels, named = np.array([0, 0, 1, 1]), np.array([3, -1, 3, -1])
    assert merged_by_name(labels, np.array([0]), named).tolist() == [0, 0, 1, 1]
