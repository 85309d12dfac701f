"""The device of a run: the one that its recipe names, among those that are there."""

import pytest
import torch

from passerby.errors import UserError
from passerby.recipe import EngineSettings, load_recipe
from passerby.training.setup import choose_device


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 2)


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda:2"), ("cuda", "cuda:2"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_the_named_device_is_used(three_gpus, name, device):
    assert choose_device(EngineSettings(device=name)) == torch.device(device)


def test_a_gpu_that_is_not_there_is_refused(three_gpus):
    with pytest.raises(
        UserError, match=r"engine\.device: device 'cuda:3' cannot be used, because torch sees 3 GPU here"
    ):
        choose_device(EngineSettings(device="cuda:3"))


def test_one_gpu_by_its_number_is_refused_for_several_processes(three_gpus, monkeypatch):
    monkeypatch.setattr("passerby.training.distributed.world", lambda: 2)
    with pytest.raises(UserError, match="'cuda:1', one GPU, but there are 2 processes"):
        choose_device(EngineSettings(device="cuda:1"))
    assert choose_device(EngineSettings(device="cuda")).index == 2


def test_a_recipe_names_one_of_several_gpus():
    recipe = load_recipe("small", ["engine.device=cuda:1"])
    assert recipe.engine.device == "cuda:1"
    assert [stage.name for stage in recipe.stages] == [stage.name for stage in load_recipe("small").stages]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "1"])
def test_another_name_is_refused_with_what_is_allowed(name):
    with pytest.raises(
        UserError, match=r"engine\.device.* (auto, cpu, cuda, or one of several GPUs as in cuda:1|must be text)"
    ):
        load_recipe("small", [f"engine.device={name}"])
