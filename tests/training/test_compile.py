"""`engine.compile`: the same numbers, in training only, and never those of a copy."""

import copy

import pytest
import torch

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.training import setup
from passerby.training.trainer import make_trainer
from passerby.types import Inputs


@pytest.fixture
def embedder():
    torch.manual_seed(0)
    settings = InputSettings(size=(64, 32))
    return Embedder(ModelSettings(backbone="test_resnet"), settings).train()


@pytest.fixture
def inputs():
    return Inputs.of_images(torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8))


def test_only_training_runs_the_compiled_backbone_and_a_copy_has_none(embedder, inputs, monkeypatch):
    calls = []

    def compile_as(function, *, backend):
        def compiled(given):
            calls.append(backend)
            return function(given)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_as)
    embedder.compile_training(backend="eager")
    names = list(embedder.state_dict())
    embedder(inputs)
    assert calls == ["eager"]
    embedder.eval()(inputs)
    duplicate = copy.deepcopy(embedder).train()
    with torch.no_grad():
        next(duplicate.backbone.parameters()).zero_()
    vectors = duplicate(inputs).before_neck
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors))
    assert calls == ["eager"]
    assert names == list(duplicate.state_dict())


def test_a_compiled_step_has_the_same_gradients(embedder, inputs):
    plain = copy.deepcopy(embedder)
    embedder.compile_training(backend="eager")
    for each in (plain, embedder):
        each(inputs).after_neck.square().sum().backward()
    pairs = zip(plain.parameters(), embedder.parameters(), strict=True)
    for expected, parameter in pairs:
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_a_run_that_is_to_be_compiled_needs_a_compiler(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"engine\.compile: .*g\+\+.* is installed; install one"):
        make_trainer(tiny("engine.compile=true"), tmp_path)


def test_a_recipe_switches_it_on(tiny, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(Embedder, "compile_training", lambda self: compiled.append(self))
    trainer = make_trainer(tiny("engine.compile=true"), tmp_path)
    make_trainer(tiny(), tmp_path)
    assert compiled == [trainer.state.embedder]
