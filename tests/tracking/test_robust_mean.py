"""The robust mean: the geometric median, which outliers cannot carry away."""

import numpy as np
import pytest
from scipy.optimize import minimize

from passerby.distances.units import unit_rows
from passerby.tracking.robust_mean import robust_mean


def drawn(count, seed, spread=0.3):
    generator = np.random.default_rng(seed)
    return unit_rows((generator.normal(size=(1, 8)) + spread * generator.normal(size=(count, 8))).astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_minimum_of_the_sum_of_distances(seed):
    vectors = drawn(6, seed).astype(np.float64)
    best = minimize(lambda point: np.linalg.norm(vectors - point, axis=1).sum(), vectors.mean(axis=0), tol=1e-12).x
    np.testing.assert_allclose(robust_mean(vectors), best / np.linalg.norm(best), atol=1e-4)


def test_outliers_move_it_less_than_the_mean():
    clean = drawn(5, seed=0, spread=0.1)
    mixed = np.concatenate([clean, drawn(2, seed=9)])
    truth = unit_rows(clean.mean(axis=0)[None])[0]
    median, mean = robust_mean(mixed), unit_rows(mixed.mean(axis=0)[None])[0]
    assert 1 - median @ truth < 0.3 * (1 - mean @ truth)


@pytest.mark.parametrize(
    "vectors", [[[0, 1]], [[1, 0], [1, 0], [1, 0]], [[1, 0], [-1, 0]], [[1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]]]
)
def test_degenerate_sets_have_a_unit_vector(vectors):
    result = robust_mean(np.array(vectors, np.float32))
    assert result.dtype == np.float32
    assert np.linalg.norm(result) == pytest.approx(1)


def test_a_majority_at_one_point_wins():
    assert robust_mean(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)).tolist() == pytest.approx(
        [1, 0], abs=1e-4
    )
