"""In what precision a run computes: the fastest that this network can be trusted to."""

import pytest
import torch

from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.training.precision import choose_arithmetic, ends_in_one_column

CPU = torch.device("cpu")


@pytest.fixture
def chosen(tiny, monkeypatch):
    def choose(*overrides, supported=True, seconds=(1.0, 0.5)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
        recipe = tiny(*overrides)
        monkeypatch.setattr("passerby.training.precision.probe", lambda *_, **__: seconds)
        choice = choose_arithmetic(recipe.engine, CPU, Embedder(recipe.model, recipe.input), batch=8)
        return choice.arithmetic.precision

    return choose


RESNET = ["model.backbone=resnet18", "model.last_stride=2", "engine.precision=auto"]


@pytest.mark.parametrize(
    ("size", "stride", "column"), [((64, 32), 2, True), ((64, 64), 2, False), ((64, 32), 1, False), ((32, 16), 1, True)]
)
def test_it_is_seen_which_maps_end_in_one_column(tiny, size, stride, column):
    recipe = tiny(*RESNET, f"input.size={list(size)}", f"model.last_stride={stride}")
    embedder = Embedder(recipe.model, recipe.input).train()
    assert ends_in_one_column(embedder) == column
    assert embedder.training
    assert not any(module._forward_hooks for module in embedder.modules())


def test_auto_is_bf16_only_where_it_is_fast_and_safe(chosen):
    assert chosen(*RESNET, "input.size=[64, 64]") == "bf16"
    assert chosen(*RESNET, "input.size=[64, 64]", seconds=(1.0, 1.9)) == "float32"  # depthwise convolutions
    assert chosen(*RESNET, "input.size=[64, 64]", supported=False) == "float32"
    assert chosen(*RESNET, "input.size=[64, 32]") == "float32"


def test_what_is_asked_for_is_done_or_refused(chosen):
    assert chosen(*RESNET, "input.size=[64, 64]", "engine.precision=bf16", supported=False) == "bf16"
    assert chosen(*RESNET, "input.size=[64, 32]", "engine.precision=float32") == "float32"
    with pytest.raises(UserError, match="outputs a map of one column; use float32"):
        chosen(*RESNET, "input.size=[64, 32]", "engine.precision=bf16")
    with pytest.raises(UserError, match="fp16 is for GPUs"):
        chosen(*RESNET, "engine.precision=fp16")
