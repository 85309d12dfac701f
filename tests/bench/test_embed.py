"""The bench of embedding: what is compared, what is chosen, and what counts as time of the network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from passerby.bench import embed as bench
from passerby.bench.embed import EmbedRow, Network, bench_embed, fastest_equal, make_model, measure_steps, print_embed
from passerby.bench.embed_files import embed_files, timed_model, write_images
from passerby.engines.candidates import EXACT, Candidate
from passerby.errors import UserError

SMALL = Network("osnet_x0_25", (64, 32), 4)
OPENVINO = Candidate("openvino", "bf16")


def row(engine, speed, difference):
    return EmbedRow("n", engine, speed, 1.0, difference, 0.0)


def test_only_candidates_with_equal_vectors_are_chosen():
    rows = [row(bench.EAGER, 10, 0), row(str(EXACT), 11, 0), row(bench.INT8, 50, 0), row(str(OPENVINO), 30, 1e-4)]
    assert fastest_equal(rows, [EXACT, OPENVINO]).engine == "openvino bf16"
    assert fastest_equal([*rows[:3], row(str(OPENVINO), 30, 2e-3)], [EXACT, OPENVINO]).engine == "torch float32"
    assert fastest_equal([*rows[:3], row(str(OPENVINO), 30, float("nan"))], [EXACT, OPENVINO]).engine == "torch float32"


def test_speeds_are_relative_to_plain_torch(monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(bench, "time", clock)

    def step(seconds, turn):
        def embed():
            clock.now += seconds
            return np.float32([[1, turn], [0, 1]])

        return embed

    steps = {bench.EAGER: step(0.03, 0), "other": step(0.01, 1)}
    plain, other = measure_steps(SMALL, steps, {"other": 2.0}, rounds=3)
    assert (plain.ratio, plain.difference, other.setup) == (1.0, 0.0, 2.0)
    assert other.ratio == pytest.approx(3)
    assert other.difference == pytest.approx(1 - 2**-0.5)


def test_the_whole_bench_runs_on_a_small_network(monkeypatch):
    monkeypatch.setattr(bench, "NETWORKS", {"resnet18": SMALL})
    monkeypatch.setattr(bench, "candidates_of", lambda _: [EXACT])
    said = []
    found = bench_embed(quick=True, say=said.append)
    assert said[0].startswith("osnet_x0_25, 64x32: torch float32, ")
    assert [each.engine for each in found.rows] == ["plain torch float32", "torch float32"]
    assert found.rows[1].difference < 1e-6
    assert found.to_json()["files"][0]["engine"] == "torch float32"
    console = Console(record=True, width=100)
    print_embed(found, console)
    assert "osnet_x0_25, 64x32" in console.export_text()
    with pytest.raises(UserError, match="network 'resnet19' is not one of resnet18"):
        bench_embed(networks=["resnet19"])


def test_the_time_of_the_network_is_a_part_of_that_of_the_files(tmp_path):
    paths, trained = write_images(tmp_path, 16), make_model(SMALL)
    timed, running = timed_model(trained)
    np.testing.assert_array_equal(timed.vectors(paths), trained.vectors(paths))
    assert len(running) == 1
    assert running[0] > 0
    assert 0 < embed_files(trained, paths, seconds=0.01).busy < 1
