"""The K smallest of a row against sorting it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.distances.nearest import NearestSoFar, smallest, smallest_by_torch


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    levels=st.sampled_from([1, 2, 9, 10**6]),
    size=st.integers(6, 40),
    count=st.integers(1, 6),
    own=st.sampled_from([None, 0, 1]),
)
def test_equals_a_stable_sort(seed, levels, size, count, own):
    block = np.random.default_rng(seed).integers(-levels, levels, (5, size)).astype(np.float32)
    for function in (smallest, smallest_by_torch):
        column, value = function(torch.from_numpy(block), count, own=own)
        for line, row in enumerate(block):
            mine = -1 if own is None else own + line
            expected = sorted(range(size), key=lambda c, row=row, mine=mine: (c != mine, row[c], c))[:count]
            assert column[line].tolist() == expected
            np.testing.assert_array_equal(value[line], row[expected])


@pytest.mark.parametrize("function", [smallest, smallest_by_torch])
def test_minus_zero_ties_with_zero(function):
    column, _ = function(torch.tensor([[0.0, -0.0, 0.0]]), 3)
    assert column.tolist() == [[0, 1, 2]]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    levels=st.sampled_from([1, 2, 9, 10**6]),
    size=st.integers(1, 30),
    step=st.integers(1, 12),
    count=st.integers(1, 6),
)
def test_the_upper_half_is_enough(seed, levels, size, step, count):
    half = np.random.default_rng(seed).integers(-levels, levels, (size, size)).astype(np.float32)
    whole, count = np.triu(half) + np.triu(half, 1).T, min(count, size)
    found = NearestSoFar(size, count)
    for first in range(0, size, step):
        found.offer(np.ascontiguousarray(whole[first : first + step, first:]), first)
    row, value = smallest(torch.from_numpy(whole), count, own=0)
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_array_equal(found.value[:, 1:], value[:, 1:])
