"""Weights and images by rule, so that networks written elsewhere can be compared by a few numbers."""

import zlib

import numpy as np
import pytest
import torch


def ruled(module):
    """Fill a module with the weights that the oracles used: a rule of each tensor's name and shape."""
    state = module.state_dict()
    for key, old in state.items():
        if not old.is_floating_point():
            continue
        shape = tuple(old.shape)
        n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        if len(shape) == 4:
            n = n * np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
        elif len(shape) == 2:
            n = n * np.sqrt(1 / shape[1])
        elif key.endswith("weight"):
            n = 1 + 0.1 * n
        else:
            n = 1 + 0.1 * np.abs(n) if key.endswith("running_var") else 0.1 * n
        state[key] = torch.from_numpy(n)
    module.double().load_state_dict(state)
    return module.eval()


def drawn(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


def check(found, wanted):
    assert list(found.shape) == wanted["shape"]
    assert found.mean().item() == pytest.approx(wanted["mean"], rel=1e-6)
    assert found.std(correction=0).item() == pytest.approx(wanted["std"], rel=1e-6)
    assert found.abs().mean().item() == pytest.approx(wanted["absmean"], rel=1e-6)
    assert found.flatten()[:8].tolist() == pytest.approx(wanted["first8"], abs=1e-6, rel=1e-6)
    assert found.flatten()[-4:].tolist() == pytest.approx(wanted["last4"], abs=1e-6, rel=1e-6)
