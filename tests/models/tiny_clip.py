"""A tiny CLIP with random weights, and its tensors by the names of OpenAI."""

import torch

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
