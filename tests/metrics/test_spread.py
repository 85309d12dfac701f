"""Vectors that do not differ are told, whatever they are asked for."""

import numpy as np
import pytest

from passerby.metrics.spread import mean_distance, spread_notes

RANDOM = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


def test_ordinary_vectors_have_no_note():
    assert spread_notes(RANDOM) == []
    assert spread_notes(RANDOM[:1]) == []
    assert spread_notes(1 + 0.05 * RANDOM) == []  # as of a network with random weights


@pytest.mark.parametrize("noise", [0, 1e-8, 1e-7, 1e-4, 1e-3])
def test_vectors_that_have_collapsed(noise):
    (note,) = spread_notes((1 + noise * RANDOM).astype(np.float32))
    assert "the model has collapsed" in note


def test_the_mean_distance_is_that_of_all_pairs():
    unit = RANDOM / np.linalg.norm(RANDOM, axis=1, keepdims=True)
    pairs = 1 - unit @ unit.T
    expected = (pairs.sum() - np.trace(pairs)) / (40 * 39)
    assert mean_distance(RANDOM) == pytest.approx(expected, rel=1e-5)


def test_few_different_vectors_zeros_and_constant_numbers():
    assert spread_notes(RANDOM[:4].repeat(10, axis=0)) == [
        "only 4 of 40 vectors differ; equal ones are ranked by the order of the rows"
    ]
    some = RANDOM.copy()
    some[:2] = 0
    assert spread_notes(some) == ["2 of 40 vectors are zero, which have no cosine distance to any other"]
    some = RANDOM.copy()
    some[:, :9] = 1
    assert spread_notes(some) == ["9 of 16 numbers are the same in all vectors"]
