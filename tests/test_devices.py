"""Distances, ranks, neighbours and clusters on a GPU: the same results and the same order of ties as on the CPU.

Where there is no GPU the operations that a GPU would run are run on the CPU, against the compiled loops. Vectors of
small whole numbers have exact products and squares, so their distances are the same bits on every device.
"""

import numpy as np
import pytest
import torch

from passerby.clustering.algorithms import clustering_settings
from passerby.clustering.findings import find_clusters
from passerby.clustering.graph import jaccard_neighbours
from passerby.distances import kreciprocal
from passerby.distances.kreciprocal import k_reciprocal_rows, rerank
from passerby.distances.nearest import smallest_by_torch
from passerby.evaluation import evaluate
from passerby.metrics.ranking import count_ranks_by_torch, nearest
from passerby.metrics.relevance import relevance
from passerby.metrics.verification import count_steps_by_torch
from passerby.report.pair_distances import count_pairs
from passerby.report.ranked_lists import rank_for
from passerby.types import Embeddings, Rerank, Split

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def on_both(request, monkeypatch):
    """Return what a function of a device gives by compiled loops on the CPU, and by torch on the device."""

    def call(function):
        expected = function("cpu")
        with monkeypatch.context() as patched:
            for module in ("distances.kreciprocal", "metrics.ranking"):
                patched.setattr(f"passerby.{module}.smallest", smallest_by_torch)
            patched.setattr("passerby.metrics.ranking.count_ranks", count_ranks_by_torch)
            patched.setattr("passerby.metrics.verification.count_steps", count_steps_by_torch)
            patched.setattr(kreciprocal, "_by_halves", kreciprocal._by_rows)
            return expected, function(request.param)

    return call


def table(seed, *, count=90, dims=6, most=3, people=8, cameras=3):
    """Vectors of whole numbers from -most to most: few values, so that many distances are equal."""
    generator = np.random.default_rng(seed)
    vectors = generator.integers(-most, most + 1, (count, dims)).astype(np.float32)
    role = np.where(np.arange(count) < count // 3, "query", "gallery")
    return Embeddings(vectors, generator.integers(0, people, count), generator.integers(0, cameras, count), role)


def alike(count, *, value=0.0):
    """Vectors that are all the same."""
    identity = np.arange(count) % 3
    role = np.where(np.arange(count) < count // 2, "query", "gallery")
    return Embeddings(np.full((count, 2), value, np.float32), identity, np.arange(count) % 4, role)


TABLES = {
    "random": table(0, most=50, dims=12),
    "tied": table(1),
    "mostly tied": table(2, most=1, dims=2),
    "few": table(3, count=9, people=2),
    "all alike": alike(24, value=2.0),
    "all zero": alike(24),
}
every_table = pytest.mark.parametrize("name", TABLES)


@every_table
@pytest.mark.parametrize("cameras", ["standard", "ignore"])
def test_scores_are_the_same(on_both, name, cameras):
    expected, found = on_both(
        lambda device: evaluate(TABLES[name], distance="euclidean", cameras=cameras, device=device)
    )
    for field in ("ap", "cmc", "tpr", "valid"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@every_table
def test_cosine_scores_are_the_same_up_to_rounding(on_both, name):
    expected, found = on_both(lambda device: evaluate(TABLES[name], device=device))
    if name in ("random", "few", "all zero", "all alike"):  # elsewhere rounding breaks ties that are not bit for bit
        np.testing.assert_allclose(found.ap, expected.ap, atol=1e-6)
    assert found.mAP == pytest.approx(expected.mAP, abs=0.02)


def blocks_of(source):
    return np.concatenate([block.cpu().numpy().copy() for _, block in source.blocks()])


@every_table
@pytest.mark.parametrize("parameters", [Rerank(k1=5, k2=2), Rerank(k1=3, k2=1, weight=0.0), Rerank(k1=200, k2=6)])
def test_re_ranked_distances_are_the_same(on_both, name, parameters):
    query, gallery = TABLES[name].query.vectors, TABLES[name].gallery.vectors
    expected, found = on_both(
        lambda device: blocks_of(rerank(query, gallery, parameters=parameters, metric="euclidean", device=device))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@every_table
@pytest.mark.parametrize("variant", ["rerank", "cluster"])
def test_neighbours_are_the_same(on_both, name, variant):
    expected, found = on_both(
        lambda device: k_reciprocal_rows(
            TABLES[name].vectors, k1=4, k2=2, variant=variant, metric="euclidean", device=device
        )
    )
    np.testing.assert_array_equal(found.start, expected.start)
    np.testing.assert_array_equal(found.column, expected.column)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-6)


@every_table
@pytest.mark.parametrize("left_out", ["skip", "show"])
def test_nearest_rows_are_the_same(on_both, name, left_out):
    from passerby.distances.pairwise import pairwise

    query, gallery = TABLES[name].query, TABLES[name].gallery
    allowed = relevance(*(Split(np.full(len(side), ""), side.pid, side.cam) for side in (query, gallery)))
    expected, found = on_both(
        lambda device: nearest(
            pairwise(query.vectors, gallery.vectors, metric="euclidean", device=device),
            allowed,
            count=4,
            left_out=left_out,
        )
    )
    np.testing.assert_array_equal(found.row, expected.row)
    np.testing.assert_array_equal(found.distance, expected.distance)
    np.testing.assert_array_equal(found.relation, expected.relation)


@pytest.mark.parametrize("name", ["random", "tied"])
def test_pictures_draw_the_same_lists_and_pairs(on_both, name):
    embeddings = TABLES[name]
    for rerank_by in (None, Rerank(k1=5, k2=2)):
        expected, found = on_both(
            lambda device, how=rerank_by: rank_for(embeddings, [0, 3], distance="euclidean", rerank=how, device=device)
        )
        assert found == expected
    expected, found = on_both(lambda device: count_pairs(embeddings, distance="euclidean", device=device))
    np.testing.assert_array_equal(found.same, expected.same)
    np.testing.assert_array_equal(found.other, expected.other)


def test_clusters_are_the_same(on_both):
    centres = 20 * np.eye(6, dtype=np.float32)
    people = np.arange(60) % 6
    vectors = centres[people] + np.random.default_rng(0).integers(-2, 3, (60, 6)).astype(np.float32)
    unknown = np.full(60, -1)
    together = Embeddings(vectors, unknown, unknown, np.full(60, ""))
    settings = clustering_settings("dbscan", ["k1=8", "k2=2", "eps=0.6"])
    expected, found = on_both(lambda device: find_clusters(together, settings, device=device))
    np.testing.assert_array_equal(found.clusters.labels, expected.clusters.labels)
    assert found.clusters.count == 6
    expected, found = on_both(lambda device: jaccard_neighbours(vectors, k1=8, k2=2, device=device).scipy().toarray())
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ---- only where there is a GPU


@pytest.mark.cuda
def test_a_network_gives_the_same_vectors_on_a_gpu(tiny, site, tmp_path):
    from passerby.data.image_files import images_below
    from passerby.device import InferenceSettings
    from passerby.encoders import load_model
    from passerby.models.embedder import Embedder, save_embedder

    recipe = tiny()
    save_embedder(Embedder(recipe.model, recipe.input), tmp_path / "embedder.safetensors", recipe=recipe.dump())
    paths = np.array([str(site / "query" / name) for name in images_below(site / "query")])
    models = [load_model(tmp_path, inference=InferenceSettings(device=device, batch=3)) for device in ("cpu", "auto")]
    assert [model.device.partition(":")[0] for model in models] == ["cpu", "cuda"]
    on_cpu, on_gpu = (model.vectors(paths) for model in models)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=2e-2, atol=2e-2)  # convolutions round to TF32
    narrow = load_model(tmp_path, inference=InferenceSettings(precision="bf16")).vectors(paths)
    cosine = (narrow * on_cpu).sum(1) / np.linalg.norm(narrow, axis=1) / np.linalg.norm(on_cpu, axis=1)
    assert cosine.min() > 0.98


@pytest.mark.cuda
def test_a_batch_that_no_gpu_holds_is_halved():
    from passerby.device import FittingBatch

    notes = []
    fitting = FittingBatch(notes.append)
    size = torch.cuda.get_device_properties(0).total_memory // 2 // 4  # floats: two fill the memory

    def step(rows):
        held = torch.empty((rows.stop - rows.start) * size, device="cuda")
        return held[: rows.stop - rows.start].cpu()

    assert len(fitting.run(step, 8)) == 8
    assert notes
    assert fitting.size == 1


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["contrast", "spcl", "pseudo"])
def test_a_run_trains_and_adapts_on_a_gpu(tiny, site, tmp_path, method):
    from passerby.adaptation.clusters import find_identities
    from passerby.adaptation.recipe import adaptation
    from passerby.training.session import train

    source, out = tmp_path / "source", tmp_path / "out"
    train(tiny("engine.device=cuda", "engine.precision=auto", "stages.0.epochs=1"), source)
    cluster = f"method.{method}.cluster={{k1: 6, k2: 2, min_samples: 3}}"
    recipe = adaptation(source, site, method=method, overrides=[cluster, "stages.0.epochs=1", "stages.0.iterations=2"])
    assert recipe.engine.device == "cuda"
    train(recipe, out)
    assert find_identities(out).images > 0
