"""The choice between engines by measured times, without a clock."""

import pytest
import torch

from passerby.engines import candidates
from passerby.engines.candidates import EXACT, Candidate, Speed, candidates_of, cheapest
from passerby.models.embedder import Embedder

BF16, OPENVINO = Candidate("torch", "bf16"), Candidate("openvino", "bf16")
SPEEDS = {EXACT: Speed(0.04), BF16: Speed(0.02), OPENVINO: Speed(0.01, setup=15.0)}


@pytest.mark.parametrize(("images", "expected"), [(10, BF16), (1400, BF16), (1600, OPENVINO)])
def test_a_conversion_pays_only_for_many_images(images, expected):
    assert cheapest(SPEEDS, images) == expected


def test_a_converted_network_needs_no_further_time():
    assert cheapest(SPEEDS, 10, ready=[OPENVINO]) == OPENVINO


@pytest.mark.parametrize(("seconds", "expected"), [(0.05, EXACT), (0.04, EXACT), (0.039, EXACT), (0.037, BF16)])
def test_only_a_clearly_faster_candidate_takes_the_place_of_the_exact_one(seconds, expected):
    assert cheapest({BF16: Speed(seconds), EXACT: Speed(0.04)}, 1000) == expected


def test_candidates_are_those_that_processor_packages_and_network_allow(tiny, monkeypatch):
    recipe = tiny()
    embedder = Embedder(recipe.model, recipe.input)
    monkeypatch.setattr(candidates, "is_installed", lambda name: name == "openvino")
    monkeypatch.setattr(candidates, "ends_in_one_column", lambda _: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert [str(each) for each in candidates_of(embedder)] == [
        "torch float32", "torch bf16", "openvino float32", "openvino bf16"
    ]  # fmt: skip
    assert [str(each) for each in candidates_of(embedder, "float32")] == ["torch float32", "openvino float32"]
    assert [str(each) for each in candidates_of(embedder, "bf16")] == ["torch bf16", "openvino bf16"]
    monkeypatch.setattr(candidates, "ends_in_one_column", lambda _: True)
    assert [str(each) for each in candidates_of(embedder)] == ["torch float32", "openvino float32"]
    monkeypatch.setattr(candidates, "ends_in_one_column", lambda _: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert [str(each) for each in candidates_of(embedder)] == ["torch float32", "openvino float32"]


def test_onnxruntime_has_no_bf16_on_a_cpu():
    assert candidates.is_possible("onnxruntime", "float32")
    assert not candidates.is_possible("onnxruntime", "bf16")
    assert not candidates.is_possible("openvino", "fp16")
