"""Precision and layout are what a probe of the steps finds faster; it disturbs nothing and is remembered."""

import json
from types import SimpleNamespace

import pytest
import torch

from passerby.models.embedder import Embedder
from passerby.training import probe as module
from passerby.training.precision import choose_arithmetic
from passerby.training.probe import BUDGET, Arithmetic, cache_file, fastest, measure, probe
from passerby.training.run_log import read
from passerby.training.session import train
from passerby.training.start_messages import start_messages
from passerby.training.trainer import make_trainer
from tests.training.runs import state_hash, weights

CPU = torch.device("cpu")
BOTH = [Arithmetic("float32", True), Arithmetic("bf16", True)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([1, 1.02, 0.95, 0.9], 0), ([1, 1.02, 0.5, 0.6], 2), ([1, 0.9, 1.2, 1.3], 1), ([1, 1, 1.9, 1.0], 0)],
)
def test_what_is_less_exact_has_to_be_clearly_faster(seconds, expected):
    candidates = [Arithmetic(p, last) for p in ("float32", "bf16") for last in (True, False)]
    assert fastest(candidates, seconds) == candidates[expected]


class Steps:
    """Steps of so many seconds per image on an imagined clock; the first call at each size takes ten times as long."""

    def __init__(self, *per_image):
        self.time, self.calls = 0.0, [[] for _ in per_image]
        self.steps = [lambda images, n=n: self.step(n, images) for n in range(len(per_image))]
        self.per_image = per_image

    def step(self, number, images):
        first = images not in self.calls[number]
        self.calls[number].append(images)
        self.time += self.per_image[number] * images * (10 if first else 1)


def test_first_calls_do_not_count_and_the_whole_batch_is_used_where_there_is_time():
    steps = Steps(0.002, 0.001)
    assert measure(steps.steps, batch=32, clock=lambda: steps.time) == pytest.approx([0.002, 0.001])
    assert steps.calls[0][-1] == 32
    assert steps.time < BUDGET


@pytest.mark.parametrize(("per_image", "unit"), [(0.01, 2), (0.02, 4)])
def test_a_slow_network_is_measured_on_fewer_images(per_image, unit):
    steps = Steps(per_image, 2 * per_image)
    found = measure(steps.steps, batch=64, unit=unit, clock=lambda: steps.time)
    assert found == pytest.approx([per_image, 2 * per_image])
    assert steps.calls[0][-1] < 64
    assert all(images % unit == 0 for images in steps.calls[0])
    assert steps.time < 12 * BUDGET


@pytest.fixture
def embedder(tiny):
    recipe = tiny()
    return Embedder(recipe.model, recipe.input)


@pytest.mark.timed
def test_a_probe_changes_neither_weights_nor_random_numbers(embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 0.0)
    before, state = state_hash(embedder.state_dict()), torch.get_rng_state()
    embedder.eval()
    seconds = probe(embedder, BOTH, batch=8, file=tmp_path / "steps.json")
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert state_hash(embedder.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not embedder.training
    assert all(parameter.grad is None for parameter in embedder.parameters())


def test_a_measurement_is_remembered_for_the_same_network_and_batch(embedder, tmp_path, monkeypatch):
    file, calls = tmp_path / "cache" / "steps.json", []
    monkeypatch.setattr(module, "measure", lambda steps, **_: calls.append(len(steps)) or [2.0, 1.0])
    for batch in (8, 8, 16, 8):
        assert probe(embedder, BOTH, batch=batch, file=file) == [2.0, 1.0]
    assert len(calls) == 2
    assert len(json.loads(file.read_text())) == 2


def test_a_measurement_on_a_busy_machine_is_not_kept(embedder, tmp_path, monkeypatch):
    file, seconds = tmp_path / "steps.json", iter([0.0, 4.0])  # 4 s go by, of which the thread has none
    monkeypatch.setattr(module, "measure", lambda *_, **__: [2.0, 1.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(seconds), thread_time=lambda: 0.0))
    assert probe(embedder, BOTH, batch=8, file=file) == [2.0, 1.0]
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"a": [null]}', "\0"])
def test_a_damaged_cache_is_measured_anew(embedder, tmp_path, monkeypatch, text):
    file = tmp_path / "steps.json"
    file.write_text(text)
    monkeypatch.setattr(module, "measure", lambda *_, **__: [2.0, 1.0])
    assert probe(embedder, BOTH, batch=8, file=file) == [2.0, 1.0]
    assert len(json.loads(file.read_text())) == 1


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(embedder, tmp_path):
    (tmp_path / "file").write_text("")
    assert probe(embedder, BOTH, batch=8, file=tmp_path / "file" / "steps.json") == [1.0, 1.0]


def test_the_cache_is_where_the_system_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "passerby" / "steps.json"


AUTO = ["engine.precision=auto", "engine.channels_last=auto"]
WIDE = "input.size=[64, 64]"  # no map of one column, where bf16 does not come into question


@pytest.fixture
def bf16_is_faster(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(module, "measure", lambda *_, **__: [1.0, 0.9, 0.4, 0.3])


def test_a_run_says_what_was_measured(bf16_is_faster, tiny, tmp_path):
    run = make_trainer(tiny(*AUTO, WIDE), tmp_path)
    assert (run.setup.precision, run.setup.arithmetic.channels_last) == ("bf16", False)
    assert start_messages(run)[-1] == (
        "bf16, channels first, by a probe of its steps (images/s: float32, channels last 1; float32, channels first 1; "
        "bf16, channels last 2; bf16, channels first 3); engine.precision and engine.channels_last fix it"
    )


def test_what_is_named_is_not_measured(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(module, "measure", lambda *_, **__: pytest.fail("measured"))
    run = make_trainer(tiny("engine.channels_last=false"), tmp_path)
    assert (run.setup.precision, run.setup.arithmetic.channels_last, run.setup.probe_note) == ("float32", False, "")


def test_a_resume_keeps_what_was_chosen(bf16_is_faster, monkeypatch, tiny, tmp_path):
    recipe = tiny(*AUTO, WIDE, "stages.0.epochs=1")
    train(recipe, tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["precision"] == "bf16"
    monkeypatch.setattr(module, "measure", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr(module, "read_measurements", lambda _: {})
    said = []
    train(recipe, tmp_path, start="resume", say=said.append)
    assert any(sentence.startswith("test_resnet in bf16") for sentence in said)


def test_a_choice_that_is_no_longer_possible_is_made_anew(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    run = make_trainer(tiny(*AUTO), tmp_path, arithmetic=Arithmetic("bf16", True))
    assert run.setup.precision == "float32"


def test_a_probed_run_has_the_bits_of_one_that_names_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    train(tiny(*AUTO), tmp_path / "probed")  # equally fast, so float32 and channels last
    train(tiny(), tmp_path / "named")
    assert weights(tmp_path / "probed") == weights(tmp_path / "named")
    assert read(tmp_path / "probed" / "log.jsonl")


def test_the_layout_alone_may_be_left_open(monkeypatch, tiny):
    recipe = tiny("engine.channels_last=auto")
    monkeypatch.setattr(module, "measure", lambda *_, **__: [1.0, 0.5])
    choice = choose_arithmetic(recipe.engine, CPU, Embedder(recipe.model, recipe.input), batch=4)
    assert choice.arithmetic == Arithmetic("float32", False)
