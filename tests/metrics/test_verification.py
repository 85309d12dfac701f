"""Verification rates against the slow loop over thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.metrics.relevance import relevance
from passerby.metrics.verification import COUNT_STEPS, PairCounts, count_steps, count_steps_by_torch
from passerby.types import Split
from tests.oracles import tpr_at_fpr

FPR = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)


def columns(pid, cam):
    return Split(path=np.full(len(pid), ""), pid=np.array(pid), cam=np.array(cam))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), levels=st.sampled_from([2, 7, 64]))
def test_equals_the_slow_loop(seed, levels):
    rng = np.random.default_rng(seed)
    query = columns(rng.integers(-1, 3, 9), rng.integers(0, 2, 9))
    gallery = columns(rng.integers(0, 3, 20), rng.integers(0, 2, 20))
    distances = (rng.integers(0, levels, (9, 20)) / 32 - 1).astype(np.float32)
    pairs = PairCounts((-1.0, 1.0))
    allowed = relevance(query, gallery)
    for start in range(0, 9, 4):
        pairs.add(torch.from_numpy(distances[start : start + 4]), start, relevance=allowed)
    same, different = [], []
    for q in range(9):
        for g in range(20):
            if query.pid[q] == -1:
                continue
            if query.pid[q] != gallery.pid[g]:
                different.append(distances[q, g])
            elif query.cam[q] != gallery.cam[g]:
                same.append(distances[q, g])
    assert pairs.same.sum() == len(same)
    assert pairs.different.sum() == len(different)
    if same and different:
        expected = tpr_at_fpr(same, different, FPR, np.arange(65) / 32 - 1)
        np.testing.assert_allclose(pairs.rates(np.array(FPR)), expected, atol=1e-12)


def test_a_rate_that_rounds_below_a_whole_number_still_allows_it():
    pairs = PairCounts((0.0, 1.0))
    pairs.different[:30] = 1
    pairs.same[2] = pairs.same[3] = 1
    assert pairs.rates(np.array([0.1])).tolist() == [0.5]


def test_no_pairs_of_one_kind_give_no_rate():
    pairs = PairCounts((0.0, 1.0))
    pairs.same[0] = 5
    assert np.isnan(pairs.rates(np.array([0.1]))).all()


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 37.5)])
def test_the_torch_path_counts_alike(bounds):
    rng = np.random.default_rng(1)
    block = rng.uniform(bounds[0] - 0.01, bounds[1] + 0.01, (5, 3000)).astype(np.float32)
    known = np.array([True, False, True, True, True])
    options = {"low": bounds[0], "scale": COUNT_STEPS / (bounds[1] - bounds[0])}
    block = torch.from_numpy(block)
    counted = count_steps(block, known, **options)
    assert counted.sum() == 4 * 3000
    assert counted[0] > 0
    assert counted[-1] > 0
    np.testing.assert_array_equal(counted, count_steps_by_torch(block, known, **options))


def test_a_value_that_is_no_number_is_never_an_index():
    block = torch.tensor([[np.nan, np.inf, -np.inf, 0.0]], dtype=torch.float32)
    known = np.ones(1, np.bool_)
    for count in (count_steps, count_steps_by_torch):
        counts = count(block.clone(), known, low=-1.0, scale=COUNT_STEPS / 2)
        assert np.flatnonzero(counts).tolist() == [0, COUNT_STEPS // 2, COUNT_STEPS - 1]
        assert counts.sum() == 4
