"""The benches run, hold what they say, and their peers compute the same thing."""

from __future__ import annotations

import json
import mmap
from functools import partial

import numpy as np
import pytest

from passerby.bench import ranking as bench
from passerby.bench import rerank as bench_rerank_module
from passerby.bench.measure import Contender, contest, resident_mb
from passerby.bench.ranking import TINY
from passerby.bench.rerank import K1, K2, WEIGHT, RerankInput, dense_reranked
from passerby.bench.sites import SIZES, Size, make_features
from passerby.distances.kreciprocal import rerank
from passerby.metrics.ranking import average_precision
from passerby.types import Rerank

SMALL = Size(20, 150, 9, 3, distractors=0.1, dims=16)


def make_numbers():
    return np.arange(1000)


def take_40_mb(numbers):
    return np.ones(40 << 17).sum() + numbers.sum()


def take_nothing(numbers):
    return numbers.sum()


def do_nothing():
    return None


def test_a_contest_measures_time_ratio_and_memory():
    contenders = (
        Contender("small", take_nothing, measure_peak=True),
        Contender("large", take_40_mb, rounds=1, against="small", measure_peak=True),
    )
    table = contest("sums", contenders, make=make_numbers, warm=do_nothing)
    assert table.row("large").ratio == pytest.approx(table.row("large").seconds / table.row("small").seconds)
    assert 35 < table.row("large").peak_mb < 60
    assert table.row("small").peak_mb < 10
    assert json.loads(json.dumps(table.to_json()))["rows"][0]["name"] == "small"


def test_peak_memory_can_start_anew():
    before = resident_mb(forget_peak=True)
    pages = mmap.mmap(-1, 40 << 20)  # not by the C library, which may have such memory left
    np.frombuffer(pages, np.uint8)[:] = 1
    assert resident_mb() > before + 30


def test_features_repeat_and_have_the_shape_of_the_site():
    first, second = make_features(SMALL), make_features(SMALL)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.shape == (20, 150)
    assert (first.pid[:20] > 0).all()
    assert (first.pid == 0).any()
    assert str(SIZES["market1501"]) == "3,368 x 15,913 x 2,048"


def test_the_peers_of_ranking_find_the_same():
    features = make_features(SMALL)
    ours = average_precision(bench._ranked(features))
    np.testing.assert_allclose(bench._stage(features), ours, atol=1e-9)
    np.testing.assert_allclose(bench._sorted(features), ours, atol=1e-9)


def test_the_dense_peer_finds_the_same():
    prepared = RerankInput(make_features(SMALL))
    source = rerank(prepared.features.query, prepared.features.gallery, parameters=Rerank(K1, K2, WEIGHT))
    ours = np.concatenate([block.numpy().copy() for _, block in source.blocks()])
    dense = dense_reranked(prepared.all_squares, prepared.order, prepared.features.count_query)
    np.testing.assert_allclose(ours, dense, atol=1e-5)


@pytest.mark.parametrize("module", [bench, bench_rerank_module], ids=["ranking", "rerank"])
def test_the_benches_run(module, monkeypatch):
    """At a tiny size, and without the processes of the memory measurement (tested above)."""

    def quick_contest(title, contenders, *, make, warm):
        plain = tuple(Contender(c.name, c.run, 1, c.against) for c in contenders)
        return contest(title, plain, make=make, warm=warm)

    monkeypatch.setattr(module, "contest", quick_contest)
    monkeypatch.setitem(module.SIZES, "market1501", TINY.smaller(1))
    monkeypatch.setitem(module.SIZES, "msmt17", TINY)
    run = module.bench_ranking if module is bench else module.bench_rerank
    for site in ("market1501", "msmt17"):
        table = partial(run, site=site)()
        assert all(row.seconds > 0 for row in table.rows)
        assert site in table.title
