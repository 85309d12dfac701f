"""The camera-aware encoding against the published numbers, and against the definition written as loops."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from passerby.clustering.graph import camera_jaccard_neighbours, missing_at_1
from passerby.distances.camera_jaccard import camera_aware_rows, camera_rerank
from passerby.distances.nearest import smallest_by_torch
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.types import CameraRerank, Embeddings
from tests.oracles import camera_aware_encoding, camera_reranked

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "ca_jaccard.json").read_text())
FEATURES, CAM = np.array(ORACLE["features"], np.float32), np.array(ORACLE["camera"])
NUMBERS = {name: ORACLE[name] for name in ("k1_intra", "k1_inter", "k2_intra", "k2_inter")}


def by_loops(vectors, cam, **numbers):
    """Return the encoding (N, N) of one set, by the cosines of its vectors."""
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return camera_aware_encoding(np.maximum(2 - 2 * unit @ unit.T, 0), cam, **numbers)


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
    with pytest.raises(UserError, match=r"k1_intra, k1_inter and k2_intra must be at least 1, .* k1_intra=0"):
        camera_aware_rows(FEATURES, CAM, k1_intra=0)


# ---- re-ranking


def full(source):
    return np.concatenate([block.numpy().copy() for _, block in source.blocks()])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"k1_intra": 2, "k1_inter": 6, "k2_intra": 1, "k2_inter": 0, "weight": 0.0},
        {"k1_intra": 30, "k1_inter": 3, "k2_intra": 4, "k2_inter": 50, "weight": 0.6},
    ],
    ids=["published", "jaccard alone", "short cameras"],
)
def test_reranking_equals_the_dense_formula(metric, numbers):
    generator = np.random.default_rng(4)
    query, gallery = (generator.normal(size=(count, 5)).astype(np.float32) for count in (7, 38))
    cam = generator.integers(0, 4, 45)
    cam[:2] = -1
    parameters = CameraRerank(**numbers)
    source = camera_rerank(query, gallery, (cam[:7], cam[7:]), parameters=parameters, metric=metric)
    sides = [query, gallery]
    if metric == "cosine":
        sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    np.testing.assert_allclose(full(source), camera_reranked(*sides, cam, **asdict(parameters)), atol=1e-5)
    assert source.shape == (7, 38)
    assert source.bounds == (0.0, 1.0)


def test_reranking_by_torch_equals_that_by_compiled_kernels(monkeypatch):
    generator = np.random.default_rng(5)
    query, gallery = (generator.normal(size=(count, 4)).astype(np.float32) for count in (5, 30))
    cam = generator.integers(0, 3, 5), generator.integers(0, 3, 30)
    compiled = full(camera_rerank(query, gallery, cam, parameters=CameraRerank()))
    monkeypatch.setattr("passerby.distances.camera_jaccard.smallest", smallest_by_torch)
    np.testing.assert_array_equal(full(camera_rerank(query, gallery, cam, parameters=CameraRerank())), compiled)


def test_reranking_by_camera_needs_two_cameras_and_numbers_that_fit():
    vectors = np.eye(4, 2, dtype=np.float32)
    for cam, lack in ((-1, "no image has a camera number"), (3, "all images are of one camera")):
        table = Embeddings(vectors, [1, 1, 2, 2], [cam] * 4, ["query", "gallery"] * 2, list("abcd"))
        with pytest.raises(UserError, match=f"re-ranking by ca_jaccard needs two cameras, and {lack}; re-rank by"):
            evaluate(table, cameras="ignore", rerank=CameraRerank())
    with pytest.raises(UserError, match=r"k2_inter at least 0 and weight in .* weight=1.5"):
        CameraRerank(weight=1.5)
    with pytest.raises(UserError, match="2 dims, gallery vectors 3"):
        camera_rerank(vectors, np.ones((4, 3), np.float32), (np.arange(4), np.arange(4)), parameters=CameraRerank())
