"""From embeddings to scores, and the sentences a person reads when nothing can be scored."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from passerby.distances import kreciprocal
from passerby.distances.nearest import smallest_by_torch
from passerby.errors import UserError
from passerby.evaluation import evaluate, explain_skipped, scores_json
from passerby.metrics import ranking, verification
from passerby.metrics.pooling import average_queries
from passerby.types import CameraRerank, Embeddings, Rerank
from tests.oracles import camera_reranked, market_scores, ranked_gallery, reranked, squared_euclidean, tpr_at_fpr


def people(*, count=240, count_query=40, identities=12, shuffle=False, seed=0):
    """Return clustered vectors: some junk (-1) and distractors (0), four cameras."""
    rng = np.random.default_rng(seed)
    pid = rng.integers(-1, identities, count)
    vectors = rng.standard_normal((identities + 1, 16))[pid] + rng.standard_normal((count, 16))
    role = np.where(np.arange(count) < count_query, "query", "gallery")
    if shuffle:
        role = rng.permutation(role)
    return Embeddings(vectors.astype(np.float32), pid, rng.integers(0, 4, count), role, dataset="town")


def slow_scores(embeddings, distances_of, *, cameras="standard"):
    query, gallery = embeddings.query, embeddings.gallery
    gallery = gallery.select(gallery.pid != -1)
    lists = ranked_gallery(
        distances_of(query.vectors, gallery.vectors), query.pid, query.cam, gallery.pid, gallery.cam, cameras=cameras
    )
    return market_scores(lists, 50)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=["compiled", "torch"])
def _path(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(ranking, "count_ranks", ranking.count_ranks_by_torch)
        monkeypatch.setattr(verification, "count_steps", verification.count_steps_by_torch)
        monkeypatch.setattr(kreciprocal, "_by_halves", kreciprocal._by_rows)
        monkeypatch.setattr(kreciprocal, "smallest", smallest_by_torch)


def slowly_averaged(embeddings, *, distance):
    """Average the images of each query's person and camera, one query at a time."""
    vectors = unit(embeddings.vectors) if distance == "cosine" else embeddings.vectors
    averaged = embeddings.vectors.copy()
    for row in np.flatnonzero((embeddings.role == "query") & (embeddings.pid != -1)):
        alike = (embeddings.pid == embeddings.pid[row]) & (embeddings.cam == embeddings.cam[row])
        averaged[row] = vectors[alike & (embeddings.role != "")].mean(0)
    return replace(embeddings, vectors=averaged)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_several_images_of_a_query_are_averaged(distance, shuffle):
    embeddings = people(shuffle=shuffle)
    role = np.where(np.arange(len(embeddings)) % 7 == 3, "", embeddings.role)  # rows that take no part
    embeddings = replace(embeddings, role=role)
    wanted, before = slowly_averaged(embeddings, distance=distance), embeddings.vectors.copy()
    found = average_queries(embeddings, distance=distance)
    np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-6)
    np.testing.assert_array_equal(embeddings.vectors, before)
    multi, single = (evaluate(embeddings, distance=distance, queries=word) for word in ("multi", "single"))
    np.testing.assert_allclose(multi.ap, evaluate(wanted, distance=distance).ap, atol=1e-6)
    assert multi.mAP > single.mAP + 0.05
    assert (multi.protocol.queries, single.protocol.queries) == ("multi", "single")
    assert multi.valid.tolist() == single.valid.tolist()


def test_a_query_without_companions_stays_itself():
    embeddings = Embeddings(
        np.array([[2, 0], [0, 3], [5, 5]], np.float32), [1, -1, 1], [0, 0, 1], ["query", "query", "gallery"]
    )
    assert average_queries(embeddings).vectors.tolist() == [[1, 0], [0, 3], [5, 5]]
    assert average_queries(embeddings, distance="euclidean").vectors.tolist() == embeddings.vectors.tolist()


def test_averaged_queries_need_the_rule_that_leaves_them_out():
    with pytest.raises(UserError, match="averages the images that cameras: 'standard' leaves out"):
        evaluate(people(), queries="multi", cameras="ignore")


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("options", "distances_of"),
    [
        ({}, lambda q, g: -unit(q) @ unit(g).T),
        ({"cameras": "ignore"}, lambda q, g: -unit(q) @ unit(g).T),
        ({"distance": "euclidean"}, squared_euclidean),
        (
            {"distance": "euclidean", "rerank": Rerank(k1=9, k2=3)},
            lambda q, g: reranked(q, g, k1=9, k2=3, weight=0.3),
        ),
        ({"rerank": Rerank(k1=7, k2=1)}, lambda q, g: reranked(unit(q), unit(g), k1=7, k2=1, weight=0.3)),
    ],
    ids=["cosine", "no cameras", "euclidean", "re-ranked euclidean", "re-ranked cosine"],
)
def test_equals_the_slow_loop(options, distances_of, shuffle):
    embeddings = people(shuffle=shuffle)
    scores = evaluate(embeddings, **options)
    ap, inp, cmc = slow_scores(embeddings, distances_of, cameras=options.get("cameras", "standard"))
    np.testing.assert_allclose(scores.ap, ap, atol=1e-9)
    np.testing.assert_allclose(scores.cmc, cmc, atol=1e-12)
    assert scores.mAP == pytest.approx(np.nanmean(ap))
    assert scores.mINP == pytest.approx(np.nanmean(inp))
    np.testing.assert_array_equal(scores.valid, ~np.isnan(ap))
    assert 0 < scores.valid.sum() < len(scores.valid)


def test_reranking_by_camera_equals_the_slow_loop():
    embeddings, parameters = people(), CameraRerank(k1_intra=3, k1_inter=8)
    cam = np.concatenate([embeddings.query.cam, embeddings.gallery.cam[embeddings.gallery.pid != -1]])
    scores = evaluate(embeddings, rerank=parameters)
    ap, _, _ = slow_scores(embeddings, lambda q, g: camera_reranked(unit(q), unit(g), cam, **asdict(parameters)))
    np.testing.assert_allclose(scores.ap, ap, atol=1e-9)
    assert scores.protocol.rerank == parameters


def test_verification_rates_equal_the_slow_loop():
    embeddings = people()
    query, gallery = embeddings.query, embeddings.gallery
    gallery = gallery.select(gallery.pid != -1)
    distances = -unit(query.vectors) @ unit(gallery.vectors).T
    together = query.pid[:, None] == gallery.pid[None]
    kept = (query.pid[:, None] != -1) & ~(together & (query.cam[:, None] == gallery.cam[None]))
    scores = evaluate(embeddings)
    same, different = distances[together & kept], np.sort(distances[~together & kept])
    edges = [different[int(rate * len(different))] for rate in scores.fpr]
    expected = tpr_at_fpr(same, different, scores.fpr, [-2.0, *edges])
    np.testing.assert_allclose(scores.tpr, expected, atol=2 / len(same))
    assert (np.diff(scores.tpr) >= 0).all()
    assert scores.tpr[-1] > 0.3


def test_the_number_of_threads_changes_nothing():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = evaluate(people(count=600, count_query=300), rerank=Rerank(k1=5))
        torch.set_num_threads(3)
        together = evaluate(people(count=600, count_query=300), rerank=Rerank(k1=5))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(alone.ap, together.ap, atol=1e-9)
    np.testing.assert_allclose(alone.tpr, together.tpr, atol=1e-3)


def test_order_of_rows_changes_no_score():
    embeddings = people()
    order = np.random.default_rng(5).permutation(len(embeddings))
    first, second = evaluate(embeddings), evaluate(embeddings.select(order))
    assert first.mAP == pytest.approx(second.mAP, abs=1e-9)
    assert first.mINP == pytest.approx(second.mINP, abs=1e-9)


def test_cmc_is_as_long_as_asked_even_for_a_small_gallery():
    embeddings = Embeddings(
        np.eye(4, dtype=np.float32), [1, 1, 2, 1], [0, 1, 1, 2], ["query", "gallery", "gallery", "gallery"]
    )
    scores = evaluate(embeddings, count_ranks=7)
    assert scores.cmc.tolist() == [1.0] * 7
    assert scores.rank(10) == 1.0


def test_the_same_file_is_left_out_when_cameras_are_ignored():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    role = ["query", "gallery", "gallery", "gallery"]
    embeddings = Embeddings(vectors, [1, 1, 2, 1], [-1] * 4, role, ["a.jpg", "a.jpg", "b.jpg", "c.jpg"])
    assert evaluate(embeddings, cameras="ignore").ap.tolist() == [1.0]
    unnamed = Embeddings(vectors, [1, 1, 2, 1], [-1] * 4, role)
    assert evaluate(unnamed, cameras="ignore").mINP == 1.0
    alone = embeddings.select(np.array([0, 1, 2]))
    with pytest.raises(UserError, match=r"1 match nothing but the query's own file$"):
        evaluate(alone, cameras="ignore")


def test_no_valid_query_says_why():
    role = ["query", "query", "query", "gallery", "gallery"]
    embeddings = Embeddings(np.eye(5, dtype=np.float32), [1, 2, -1, 1, 3], [0, 0, 0, 0, 0], role)
    with pytest.raises(UserError) as caught:
        evaluate(embeddings)
    assert str(caught.value) == (
        "no query can be scored: of 3 queries, 1 have no known identity (pid -1) and 1 have an identity that never "
        "occurs in the gallery and 1 match nothing but an image of the query's own camera; "
        "cameras='ignore' would count those"
    )
    assert evaluate(embeddings, cameras="ignore").valid.tolist() == [True, False, False]


def test_skipped_queries_are_named_by_row_and_reason():
    embeddings = Embeddings(
        np.eye(7, dtype=np.float32),
        [9, 1, 2, -1, 1, 3, 3],
        [0, 0, 0, 0, 0, 1, 0],
        ["gallery", "query", "query", "query", "gallery", "gallery", "query"],
    )
    skipped = explain_skipped(embeddings)
    assert (skipped.count_query, skipped.count) == (4, 3)
    assert skipped.unknown.tolist() == [3]
    assert skipped.absent.tolist() == [2]
    assert skipped.left_out.tolist() == [1]


def test_nothing_skipped_reads_well():
    embeddings = Embeddings(np.eye(2, dtype=np.float32), [1, 1], [0, 1], ["query", "gallery"])
    assert str(explain_skipped(embeddings)) == "all 1 queries can be scored"


@pytest.mark.parametrize("missing", ["query", "gallery"])
def test_a_missing_role_is_refused(missing):
    embeddings = people()
    with pytest.raises(UserError, match=f"0 with role '{missing}'"):
        evaluate(embeddings.select(embeddings.role != missing))


def test_impossible_arguments_are_refused():
    with pytest.raises(UserError, match="count_ranks must be at least 1, got 0"):
        evaluate(people(), count_ranks=0)
    with pytest.raises(UserError, match="gallery_draws must be at least 0, got -1"):
        evaluate(people(), gallery_draws=-1)
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used"):
        evaluate(people(), device="cuda:99")


def test_json_holds_percent_and_the_protocol():
    scores = evaluate(people(), rerank=Rerank(k1=5))
    record = scores_json(scores)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["mAP"] == pytest.approx(100 * scores.mAP)
    assert record["cmc"] == {k: pytest.approx(100 * scores.rank(int(k))) for k in ("1", "5", "10")}
    assert list(record["tpr_at_fpr"]) == ["0.0001", "0.001", "0.01", "0.1"]
    assert record["queries"] + record["queries_skipped"] == 40
    assert record["protocol"]["rerank"] == {"k1": 5, "k2": 6, "weight": 0.3}
    assert record["protocol"]["dataset"] == "town"


def test_without_verification_the_other_scores_stay():
    full, quick = evaluate(people()), evaluate(people(), verification=False)
    np.testing.assert_array_equal(full.ap, quick.ap)
    assert np.isnan(quick.tpr).all()


def test_json_of_undefined_rates_is_null():
    embeddings = Embeddings(np.eye(2, dtype=np.float32), [1, 1], [0, 1], ["query", "gallery"])
    assert scores_json(evaluate(embeddings))["tpr_at_fpr"]["0.1"] is None


def scores_at(vectors, table, **options):
    return evaluate(replace(table, vectors=vectors), **options)


@pytest.mark.parametrize("queries", ["single", "multi"])
@pytest.mark.parametrize("rerank", [None, Rerank(k1=5, k2=2)])
def test_scores_by_cosine_do_not_depend_on_the_scale_of_the_vectors(queries, rerank):
    rng = np.random.default_rng(5)
    role = np.array(["query", "gallery", "gallery"] * 12)
    table = Embeddings(
        rng.standard_normal((36, 6)).astype(np.float32), np.repeat(np.arange(12), 3), np.tile([0, 1, 2], 12), role
    )
    plain = scores_at(table.vectors, table, queries=queries, rerank=rerank)
    for power in (-110, 64, 120):
        scaled = scores_at(np.ldexp(table.vectors, power), table, queries=queries, rerank=rerank)
        np.testing.assert_array_equal(scaled.ap, plain.ap)
        np.testing.assert_array_equal(scaled.tpr, plain.tpr)


@pytest.mark.parametrize("rerank", [None, Rerank(k1=5, k2=2)])
def test_one_vector_at_the_end_of_float32_is_scored(rerank):
    rng = np.random.default_rng(6)
    vectors = rng.standard_normal((24, 8)).astype(np.float32)
    vectors[3] = 3e38
    role = np.array(["query", "gallery"] * 12)
    table = Embeddings(vectors, np.repeat(np.arange(6), 4), np.tile([0, 1, 2, 3], 6), role)
    assert 0 < evaluate(table, rerank=rerank).mAP < 1


def camera_table(*, shift):
    """Make eight people seen by three cameras, two of which add something to all their vectors."""
    people = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    vectors = np.concatenate([people, people + np.float32(shift), people - np.float32(shift)])
    return Embeddings(vectors, [*range(8)] * 3, np.repeat([0, 1, 2], 8), np.repeat(["query", "gallery"], [8, 16]))


def test_the_effect_of_cameras_costs_nothing_with_camera_norm_and_the_protocol_names_it():
    table = camera_table(shift=np.linspace(-4, 4, 16))
    plain = evaluate(table, distance="euclidean")
    assert plain.mAP < 0.95
    assert plain.protocol.camera_norm == "none"
    for how in ("centre", "standardise"):
        scores = evaluate(table, camera_norm=how, distance="euclidean")
        assert scores.mAP == 1
        assert scores.protocol.camera_norm == how
        with pytest.raises(UserError, match="camera_norm"):
            scores.protocol.require_like(plain.protocol)
    assert plain.mAP <= evaluate(table, camera_norm="auto", distance="euclidean").mAP


def test_camera_norm_is_refused_where_no_camera_is_known():
    table = replace(camera_table(shift=0), cam=np.full(24, -1))
    with pytest.raises(UserError, match="needs to know the camera of each image"):
        evaluate(table, camera_norm="auto")
