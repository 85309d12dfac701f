"""Ranks by counting against the slow loop and the Market-1501 oracle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.metrics import ranking as module
from passerby.metrics.ranking import (
    LEFT_OUT,
    MATCH,
    OTHER,
    average_precision,
    count_ranks_by_torch,
    cumulative_matches,
    inverse_negative_penalty,
    nearest,
    rank_matches,
)
from passerby.metrics.relevance import relevance
from passerby.types import Split
from tests.oracles import market_scores, ranked_gallery

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "rank_market.json").read_text())


class Given:
    """A distance source that holds its matrix, in blocks of a chosen height."""

    offset = 0.0
    bounds = (0.0, 1.0)

    def __init__(self, distances, rows=2):
        self.distances, self.rows = np.asarray(distances, np.float32), rows
        self.shape = self.distances.shape

    def blocks(self):
        buffer = torch.empty(self.rows, self.shape[1])
        for start in range(0, self.shape[0], self.rows):
            block = self.distances[start : start + self.rows]
            buffer[: len(block)] = torch.from_numpy(block)
            yield start, buffer[: len(block)]
            buffer.fill_(torch.nan)  # whoever keeps a block finds rubbish


def columns(pid, cam, path=None):
    return Split(path=np.full(len(pid), "") if path is None else path, pid=np.array(pid), cam=np.array(cam))


@pytest.fixture(params=["compiled", "torch"])
def _path(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(module, "count_ranks", count_ranks_by_torch)


@pytest.mark.usefixtures("_path")
def test_equals_the_market_oracle():
    allowed = relevance(
        columns(ORACLE["q_pids"], ORACLE["q_camids"]), columns(ORACLE["g_pids"], ORACLE["g_camids"]), cameras="standard"
    )
    ranking = rank_matches(Given(ORACLE["distmat"], rows=3), allowed)
    assert np.flatnonzero(ranking.valid).tolist() == ORACLE["valid_queries"]
    np.testing.assert_allclose(average_precision(ranking)[ranking.valid], ORACLE["AP"], atol=1e-8)
    np.testing.assert_allclose(inverse_negative_penalty(ranking)[ranking.valid], ORACLE["INP"], atol=1e-8)
    np.testing.assert_allclose(cumulative_matches(ranking, 20), ORACLE["cmc_top20"], atol=1e-12)
    assert np.nanmean(average_precision(ranking)) == pytest.approx(ORACLE["mAP"], abs=1e-8)
    assert np.nanmean(average_precision(ranking)) != pytest.approx(ORACLE["market_matlab_mAP"], abs=1e-3)


def test_ignoring_cameras_gives_the_known_other_value():
    allowed = relevance(
        columns(ORACLE["q_pids"], ORACLE["q_camids"]), columns(ORACLE["g_pids"], ORACLE["g_camids"]), cameras="ignore"
    )
    ap = average_precision(rank_matches(Given(ORACLE["distmat"]), allowed))
    assert np.nanmean(ap) == pytest.approx(ORACLE["WRONG_mAP_without_camera_filter"], abs=1e-8)


@st.composite
def problems(draw):
    count_query, count_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    levels, identities, cameras = draw(st.integers(1, 50)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (
        rng.integers(0, levels, (count_query, count_gallery)) / 64 - draw(st.sampled_from([0.0, 0.25])),
        rng.integers(-1, identities, count_query),
        rng.integers(0, cameras, count_query),
        rng.integers(0, identities, count_gallery),
        rng.integers(0, cameras, count_gallery),
    )


@settings(max_examples=150, deadline=None)
@given(problem=problems(), rows=st.integers(1, 4), cameras=st.sampled_from(["standard", "ignore"]))
def test_equals_the_slow_loop_with_ties(problem, rows, cameras):
    distances, query_pid, query_cam, gallery_pid, gallery_cam = problem
    lists = ranked_gallery(*problem, cameras=cameras)
    allowed = relevance(columns(query_pid, query_cam), columns(gallery_pid, gallery_cam), cameras=cameras)
    ranking = rank_matches(Given(distances, rows=rows), allowed)
    for q, (order, matches) in enumerate(lists):
        entries = slice(ranking.start[q], ranking.start[q + 1])
        expected = [place + 1 for place, match in enumerate(matches) if match]
        assert ranking.rank[entries].tolist() == expected
        assert ranking.gallery_row[entries].tolist() == [order[rank - 1] for rank in expected]
        assert ranking.kept[q] == len(order)
    by_torch = np.zeros_like(ranking.rank)
    for start, block in Given(distances, rows=rows).blocks():
        before = block.clone()
        count_ranks_by_torch(block, start, relevance=allowed, rank=by_torch)
        assert torch.equal(block, before)
    compiled = np.zeros_like(ranking.rank)
    for start, block in Given(distances, rows=rows).blocks():
        module.count_ranks(block, start, relevance=allowed, rank=compiled)
    np.testing.assert_array_equal(by_torch, compiled)
    ap, inp, cmc = market_scores(lists, 40)
    np.testing.assert_allclose(average_precision(ranking), ap, atol=1e-12)
    np.testing.assert_allclose(inverse_negative_penalty(ranking), inp, atol=1e-12)
    assert cumulative_matches(ranking, 40).shape == (40,)
    if ranking.valid.any():
        np.testing.assert_allclose(cumulative_matches(ranking, 40), cmc, atol=1e-12)
    else:
        assert np.isnan(cumulative_matches(ranking, 40)).all()


def test_rows_longer_than_one_piece():
    rng = np.random.default_rng(0)
    problem = (
        rng.integers(0, 3000, (3, 9001)),
        np.array([1, 2, 3]),
        np.zeros(3, int),
        rng.integers(0, 300, 9001),
        rng.integers(0, 3, 9001),
    )
    allowed = relevance(columns(*problem[1:3]), columns(*problem[3:]))
    ranking = rank_matches(Given(problem[0]), allowed)
    ap, _, _ = market_scores(ranked_gallery(*problem), 10)
    np.testing.assert_allclose(average_precision(ranking), ap, atol=1e-12)


def test_of_two_equal_distances_the_lower_row_comes_first():
    allowed = relevance(columns([1], [0]), columns([2, 1, 3, 1], [1, 1, 1, 1]))
    ranking = rank_matches(Given([[0.5, 0.5, 0.5, 0.5]]), allowed)
    assert ranking.rank.tolist() == [2, 4]


def test_minus_zero_ties_with_zero():
    allowed = relevance(columns([1], [0]), columns([2, 1, 3], [1, 1, 1]))
    rank = np.zeros(1, np.int64)
    count_ranks_by_torch(torch.tensor([[0.0, -0.0, -0.0]]), 0, relevance=allowed, rank=rank)
    assert rank.tolist() == rank_matches(Given([[0.0, -0.0, -0.0]]), allowed).rank.tolist() == [2]


@settings(max_examples=60, deadline=None)
@given(problem=problems(), count=st.integers(1, 12))
def test_nearest_equals_the_head_of_the_sorted_list(problem, count):
    distances, query_pid, _, gallery_pid, gallery_cam = problem
    allowed = relevance(columns(query_pid, problem[2]), columns(gallery_pid, gallery_cam))
    shown = nearest(Given(distances), allowed, count=count, left_out="show")
    skipped = nearest(Given(distances), allowed, count=count)
    for q, (order, matches) in enumerate(ranked_gallery(*problem)):
        head = min(count, len(order))
        assert skipped.row[q, :head].tolist() == order[:head]
        assert skipped.relation[q, :head].tolist() == [MATCH if match else OTHER for match in matches[:head]]
        assert (skipped.relation[q, head:] == LEFT_OUT).all()
        expected = sorted(range(distances.shape[1]), key=lambda g, q=q: (distances[q, g], g))[:count]
        assert shown.row[q].tolist() == expected
        np.testing.assert_array_equal(shown.distance[q], np.float32(distances[q, expected]))


def test_only_the_file_itself_is_left_out_without_cameras():
    query = columns([1, 1], [0, 0], ["a.jpg", ""])
    gallery = columns([1, 1, 2], [0, 0, 0], ["a.jpg", "", "b.jpg"])
    allowed = relevance(query, gallery, cameras="ignore")
    assert allowed.left_out_row.tolist() == [0]
    assert allowed.match_start.tolist() == [0, 1, 3]


def test_distances_of_other_images_are_refused():
    allowed = relevance(columns([1], [0]), columns([2, 1, 3], [1, 1, 1]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\), relevance has \(1, 3\)"):
        rank_matches(Given([[0.0, 1.0]]), allowed)
