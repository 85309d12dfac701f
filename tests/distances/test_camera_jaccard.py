"""The camera-aware encoding against the published numbers, and against the definition written as loops."""

import json
from pathlib import Path

import numpy as np
import pytest

from passerby.clustering.graph import camera_jaccard_neighbours, missing_at_1
from passerby.distances.camera_jaccard import camera_aware_rows
from passerby.errors import UserError

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "ca_jaccard.json").read_text())
FEATURES, CAM = np.array(ORACLE["features"], np.float32), np.array(ORACLE["camera"])
NUMBERS = {name: ORACLE[name] for name in ("k1_intra", "k1_inter", "k2_intra", "k2_inter")}


def by_loops(vectors, cam, *, k1_intra, k1_inter, k2_intra, k2_inter):
    """Return the encoding (N, N) by the definition, with lists that end where their group ends."""
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    square, rows = np.maximum(2 - 2 * unit @ unit.T, 0), range(len(unit))
    np.fill_diagonal(square, -1)  # every image comes first in its own list
    order = [sorted(rows, key=lambda j, i=i: square[i, j]) for i in rows]
    same = [[j for j in order[i] if cam[j] == cam[i]] for i in rows]
    other = [[j for j in order[i] if cam[j] != cam[i]] for i in rows]
    encoding = np.zeros_like(square)
    for i in rows:
        relevant = [j for j in same[i][: k1_intra + 1] if i in same[j][: k1_intra + 1]]
        relevant += [j for j in other[i][: k1_inter + 1] if i in other[j][: k1_inter + 1]]
        weights = np.exp(-np.maximum(square[i, relevant], 0))
        encoding[i, relevant] = weights / weights.sum()
    return np.stack([encoding[same[i][:k2_intra] + other[i][:k2_inter]].mean(axis=0) for i in rows])


def test_the_distance_equals_the_published_one():
    numbers = {"k1": (ORACLE["k1_intra"], ORACLE["k1_inter"]), "k2": (ORACLE["k2_intra"], ORACLE["k2_inter"])}
    found = missing_at_1(camera_jaccard_neighbours(7 * FEATURES, CAM, **numbers))
    np.testing.assert_allclose(found, ORACLE["distance"], atol=2e-6)
    pids = np.array(ORACLE["identity_for_reading_only"])
    is_same, one_camera = pids[:, None] == pids, CAM[:, None] == CAM
    means = ORACLE["mean_distances"]
    assert found[is_same & ~one_camera].mean() == pytest.approx(means["same_person_other_camera"], rel=1e-5)
    assert found[~is_same & one_camera].mean() == pytest.approx(means["other_person_same_camera"], rel=1e-5)


def test_an_image_is_related_to_reciprocal_neighbours_of_either_list():
    rows = camera_aware_rows(FEATURES, CAM, **{**NUMBERS, "k2_intra": 1, "k2_inter": 0}).scipy()
    assert sorted(rows[[0]].indices.tolist()) == ORACLE["relevant_of_0"]


@pytest.mark.parametrize(
    ("k1_intra", "k1_inter", "k2_intra", "k2_inter"), [(9, 1, 9, 1), (40, 2, 3, 60), (2, 40, 1, 0)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_list_ends_where_its_camera_ends(k1_intra, k1_inter, k2_intra, k2_inter, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(23, 4)).astype(np.float32)
    cam = np.array([-1, 4, 9])[generator.choice(3, 23, p=[0.1, 0.3, 0.6])]
    numbers = {"k1_intra": k1_intra, "k1_inter": k1_inter, "k2_intra": k2_intra, "k2_inter": k2_inter}
    found = camera_aware_rows(vectors, cam, **numbers).scipy().toarray()
    np.testing.assert_allclose(found, by_loops(vectors, cam, **numbers), atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_exact_duplicates_stay_in_the_graph():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    found = camera_jaccard_neighbours(vectors, np.arange(12) % 2, k1=(1, 1), k2=(1, 0))
    assert len(found.value) == 3 * 16
    assert found.value.min() >= np.float32(1e-6)


def test_numbers_of_neighbours_that_are_too_small_are_refused():
    with pytest.raises(UserError, match=r"k1_intra, k1_inter and k2_intra must be at least 1 .* k1_intra=0"):
        camera_aware_rows(FEATURES, CAM, k1_intra=0)
