"""A tiny CLIP with random weights, and its tensors by the names of OpenAI."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from passerby.models.clip_text import ClipTextSettings, ClipTextTower
from passerby.models.clip_vit import ClipVisionTransformer, ClipVitSettings

ARCHITECTURE = {"width": 16, "depth": 2, "heads": 2, "projection": 12, "patch": 8, "stride": 8}
"""Of an image tower for images of 32 x 16."""
TEXT = ClipTextSettings(width=64, depth=2, heads=1, projection=12, vocabulary=49408)


def text_tower(settings=TEXT, seed=0):
    """Return a text tower with weights that are far from those at the start, so that each of them counts."""
    torch.manual_seed(seed)
    tower = ClipTextTower(settings).eval()
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.02 if name.startswith("token") else 0.1)
    return tower


def tiny_clip(settings=TEXT, seed=0):
    """Return the tensors of a whole CLIP."""
    tower = text_tower(settings, seed)
    image = ClipVisionTransformer(ClipVitSettings(**ARCHITECTURE), (32, 16))
    return {
        **{f"visual.{key}": value for key, value in image.state_dict().items()},
        **tower.state_dict(),
        "logit_scale": torch.tensor(4.6),
    }


@cache
def clip_file():
    """Return a file of a tiny CLIP, which this process deletes at its end."""
    folder = tempfile.mkdtemp(prefix="passerby-clip-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_file({key: value.half() for key, value in tiny_clip().items()}, path := Path(folder) / "clip.safetensors")
    return str(path)


def two_stages(*, stages=("", ""), model=None):
    """Return overrides of the tiny recipe for both stages of CLIP-ReID.

    Args:
        stages: further settings of each.
        model: changes of the settings of the model.

    """
    prompts, images = stages
    settings = {"backbone": "clip_vit", "architecture": ARCHITECTURE, "weights": clip_file(), **(model or {})}
    losses = {"softmax": {"pieces": "projection"}, "triplet": {"pieces": "projection"}}
    sampler = "data: {sampler: {kind: shuffle, size: 8}}, losses: {softmax: null, triplet: null}"
    return [
        f"model={json.dumps(settings)}", "model.last_stride=2", f"losses={json.dumps(losses)}",
        f"method.prompts.text_tower={clip_file()}",
        f"stages=[{{train: [market1501], epochs: 1, {sampler}, method: {{prompts: {{train: prompts}}}}{prompts}}}, "
        f"{{train: [market1501], epochs: 1{images}}}]",
    ]  # fmt: skip
