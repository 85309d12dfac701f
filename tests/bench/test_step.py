"""The benches of a training step: equal work for both sides, for networks of both kinds, and with torch.compile."""

import pytest
import torch
from rich.console import Console

from passerby.bench import compile as bench
from passerby.bench import step
from passerby.bench.compile import CompileRow, CompileTable, bench_compile, print_compile
from passerby.bench.step import PlainStep, Shape, make_batch, make_step_run

TINY = {"resnet50": Shape("resnet18", (32, 32), 16), "vit_small": Shape("vit_tiny_patch16_224", (64, 32), 8)}


@pytest.mark.parametrize("name", list(TINY))
def test_the_plain_step_trains_a_network_of_the_same_size(name):
    plain, ours = PlainStep(TINY[name], bf16=False), make_step_run(TINY[name], bf16=False)
    count = sum(p.numel() for p in ours.state.embedder.backbone.parameters())
    assert sum(p.numel() for p in plain.body.parameters()) == count
    batch = make_batch(TINY[name])
    before = [p.clone() for p in plain.body.parameters()]
    plain(batch.inputs.images, batch.labels)
    assert any(not torch.equal(a, b) for a, b in zip(before, plain.body.parameters(), strict=True))


def test_compiled_and_plain_steps_take_turns(monkeypatch):
    monkeypatch.setattr(bench, "SHAPES", TINY)
    monkeypatch.setattr("passerby.models.embedder.Embedder.compile_training", lambda self: None)
    table = bench_compile(quick=True, bf16=True)
    assert [row.precision for row in table.rows] == ["float32", "bf16"]
    assert all(row.seconds > 0 and row.compiled > 0 and row.preparation > 0 for row in table.rows)
    assert "resnet18, 32x32, batch 2" in table.title


def test_the_table_shows_what_never_pays():
    rows = (CompileRow("float32", 2.0, 1.5, 51.5, 1.0), CompileRow("bf16", 1.0, 1.25, 60.0, None))
    console = Console(record=True, width=100)
    print_compile(CompileTable("steps", "a machine", rows), console)
    lines = console.export_text().splitlines()
    assert any("float32" in line and "0.75" in line and "1.0" in line for line in lines)
    assert any("bf16" in line and "1.25" in line and "never" in line for line in lines)


def test_both_kinds_of_networks_can_be_measured():
    assert {step.is_transformer(shape) for shape in step.SHAPES.values()} == {True, False}
