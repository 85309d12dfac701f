"""Transformers with the weights and inputs of the oracle `vit_clip_tiny.json`, which are drawn by a rule."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parents[1] / "oracles_data"
ORACLE = json.loads((DATA / "vit_clip_tiny.json").read_text())


def drawn(key, shape):
    """Return the tensor of a name, by the rule of the oracle."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if len(shape) == 4:
        noise *= np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2 and key.endswith("weight"):
        noise *= np.sqrt(1 / shape[1])
    elif key.endswith("running_var"):
        noise = 1 + 0.1 * np.abs(noise)
    elif len(shape) == 1 and key.endswith(".weight"):
        noise = 1 + 0.1 * noise
    elif key.endswith(("bias", "running_mean")):
        noise *= 0.1
    else:
        noise *= 0.2
    return torch.from_numpy(np.asarray(noise))


def oracle_images(settings, seed):
    """Return the images of the oracle: (2, 3, H, W) in double precision."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 3, *settings["image"])))
