"""Ranked lists agree with the evaluation."""

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.report.ranked_lists import choose_queries, describe_list, rank_for
from passerby.types import CameraRerank
from tests.report.conftest import PEOPLE, RERANK


@pytest.mark.parametrize("rerank", [None, RERANK, CameraRerank(k1_intra=2, k1_inter=4)])
@pytest.mark.parametrize("cameras", ["standard", "ignore"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_average_precision_is_that_of_the_evaluation(run, rerank, cameras, distance):
    scores = evaluate(run.embeddings, rerank=rerank, cameras=cameras, distance=distance)
    lists = rank_for(run.embeddings, range(PEOPLE), rerank=rerank, cameras=cameras, distance=distance)
    np.testing.assert_allclose([found.ap for found in lists], scores.ap)


def test_what_the_protocol_leaves_out_is_not_in_the_list(run):
    for found in rank_for(run.embeddings, range(PEOPLE), k=100):
        assert all(shot.pid != -1 for shot in found.shots)
        assert not any(shot.right and shot.cam == found.query.cam for shot in found.shots)
        assert found.count == len(found.shots) == 28
        assert tuple(shot.rank for shot in found.shots if shot.right) == found.hits


def test_the_first_right_image_follows_a_list_without_one(run):
    flipped = run.embeddings.select(np.arange(len(run.embeddings)))
    flipped.vectors[flipped.role == "query"] *= -1  # now the right ones are the farthest
    found = rank_for(flipped, [0], k=2)[0]
    assert [shot.rank for shot in found.shots] == [1, 2, found.hits[0]]
    assert [shot.right for shot in found.shots] == [False, False, True]
    assert f"at rank {found.hits[0]} of 28" in describe_list(found)


def test_chosen_queries_are_the_extremes_and_of_different_people(run):
    pid = run.embeddings.query.pid
    scores = evaluate(run.embeddings)
    best = choose_queries(scores, kind="best", count=2, pid=pid)
    worst = choose_queries(scores, kind="worst", count=2, pid=pid)
    assert scores.ap[best[0]] == np.nanmax(scores.ap)
    assert scores.ap[worst[0]] == np.nanmin(scores.ap)
    assert choose_queries(scores, kind="worst", count=9, pid=np.zeros_like(pid)) == worst[:1]
    draws = [
        choose_queries(scores, kind="random", count=3, pid=pid, generator=np.random.default_rng(7)) for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 3


def test_what_the_rule_leaves_out_can_be_shown_in_its_place_without_a_rank(run):
    hidden, shown = (rank_for(run.embeddings, range(PEOPLE), k=100, left_out=how) for how in ("hide", "show"))
    for before, after in zip(hidden, shown, strict=True):
        own = [shot for shot in after.shots if shot.mark == "own camera"]
        assert len(own) == 2
        assert all(shot.pid == after.query.pid and shot.cam == after.query.cam and not shot.right for shot in own)
        assert [shot for shot in after.shots if shot.rank] == list(before.shots)
        assert (after.hits, after.count, after.ap) == (before.hits, before.count, before.ap)
    with_places = rank_for(run.embeddings, [0], k=3, left_out="show")[0]
    assert len(with_places.shots) == 3 + (not any(shot.right for shot in with_places.shots[:3]))


@pytest.mark.parametrize(("queries", "k"), [([PEOPLE], 5), ([-1], 5), ([0], 0)])
def test_a_query_that_is_none_is_refused(run, queries, k):
    with pytest.raises(UserError, match="queries from 0 to 4"):
        rank_for(run.embeddings, queries, k=k)
