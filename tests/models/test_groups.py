"""Batch norm over groups: what several devices with small batches would do, on one."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.models.groups import group_batch_norms
from passerby.types import Inputs

given = Inputs.of_images


def filled(norm, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
    norm.running_var.copy_(1 + torch.rand(norm.running_var.shape, generator=generator))
    return norm


def batch(norm, count=12):
    shape = (count, 5) if isinstance(norm, nn.BatchNorm1d) else (count, 5, 4, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 1
    x = x + torch.arange(count).reshape(-1, *[1] * (len(shape) - 1))  # groups that differ
    return x.contiguous(memory_format=torch.channels_last).requires_grad_() if x.ndim == 4 else x.requires_grad_()


@pytest.mark.parametrize("momentum", [0.1, 0.6, 1.0, None])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d])
def test_equals_separate_batch_norms(kind, momentum):
    grouped = filled(kind(5))
    grouped.momentum = momentum
    devices = [copy.deepcopy(grouped) for _ in range(4)]
    keys = list(grouped.state_dict())
    group_batch_norms(nn.Sequential(grouped), 3)
    x, y = batch(grouped), batch(grouped)
    found = grouped(x)
    wanted = torch.cat([device(piece) for device, piece in zip(devices, y.split(3), strict=True)])
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(grouped.weight.grad, sum(device.weight.grad for device in devices))
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(device, name) for device in devices]).mean(0)
        torch.testing.assert_close(getattr(grouped, name), mean)
    assert grouped.momentum == momentum
    assert list(grouped.state_dict()) == keys
    if kind is nn.BatchNorm2d:
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_outside_training_nothing_is_different(kind):
    plain = filled(kind(5)).eval()
    grouped = copy.deepcopy(plain)
    group_batch_norms(nn.Sequential(grouped), 3)
    assert torch.equal(grouped(batch(plain)), plain(batch(plain)))
    assert torch.equal(grouped.running_mean, plain.running_mean)


@pytest.mark.parametrize("settings", [{"backbone": "resnet18", "ibn": "a"}, {"backbone": "test_resnet"}])
def test_a_whole_model_sees_its_batch_as_several_devices_would(settings):
    torch.manual_seed(0)
    embedder = Embedder(ModelSettings(**settings), InputSettings(size=(64, 32)))
    plain = copy.deepcopy(embedder)
    group_batch_norms(embedder, 4)
    assert list(embedder.state_dict()) == list(plain.state_dict())
    images = torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8)
    images[4:] //= 3  # or both halves would have much the same statistics
    with torch.no_grad():
        found = embedder(given(images))
        halves = [copy.deepcopy(plain)(given(half)) for half in images.split(4)]
        for name in ("before_neck", "after_neck"):
            wanted = torch.cat([getattr(half, name) for half in halves])
            torch.testing.assert_close(getattr(found, name), wanted, rtol=1e-3, atol=1e-4)
            assert not torch.allclose(getattr(copy.deepcopy(plain)(given(images)), name), wanted, rtol=1e-2, atol=1e-2)
    embedder = copy.deepcopy(embedder)  # as a running mean of the weights does
    embedder.load_state_dict(plain.state_dict())
    assert torch.equal(embedder.eval()(given(images)).after_neck, plain.eval()(given(images)).after_neck)


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(UserError, match=r"engine\.ghost_batch_size: this model has no batch norm"):
        group_batch_norms(nn.Linear(2, 2), 4)
