"""Text towers out of files of CLIP, by the names of OpenAI, open_clip, transformers or CLIP-ReID."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from passerby.errors import UserError
from passerby.files import reading
from passerby.metadata import safetensors_texts
from passerby.models.clip_names import is_of_transformers, openai_names
from passerby.models.clip_text import ClipTextSettings, ClipTextTower
from passerby.models.embedder import TEXT_TOWER
from passerby.models.weights_file import few_names, read_weights
from passerby.settings import build

_PREFIXES = ("text_encoder.", "text.", "")
_NAMES = (
    r"token_embedding\.weight|positional_embedding|text_projection|ln_final\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.(ln_[12]|attn\.out_proj|mlp\.c_(fc|proj))\.(weight|bias)"
    r"|transformer\.resblocks\.\d+\.attn\.in_proj_(weight|bias)"
)
_HEAD_WIDTH = 64
"""Channels of a head in every published CLIP."""


def read_text_tower(path: str | Path) -> ClipTextTower:
    """Return the text tower of a file of CLIP, frozen and in `eval` mode; no code of the file is run.

    Raises:
        UserError: no such file, or one without a whole text tower.

    """
    return text_tower_of(read_weights(path), source=str(path))


def load_text_tower(path: str | Path) -> ClipTextTower | None:
    """Return the text tower that a model file of passerby holds, frozen and in `eval` mode; None = it holds none.

    Raises:
        UserError: a file that is damaged, or was written by another program.

    """
    path = Path(path)
    with reading(path, "a model of passerby"):
        settings = json.loads(safetensors_texts(path)["passerby"]).get("text_tower")
    if settings is None:
        return None
    with torch.device("meta"):
        tower = ClipTextTower(build(ClipTextSettings, settings, source=str(path)))
    state = {key.removeprefix(TEXT_TOWER): v for key, v in read_weights(path).items() if key.startswith(TEXT_TOWER)}
    return _filled(tower, state, source=str(path))


def text_tower_of(tensors: Mapping[str, Tensor], *, source: str) -> ClipTextTower:
    """Return the text tower among the tensors of a CLIP, frozen and in `eval` mode.

    Args:
        tensors: by name; others than those of the tower are left alone.
        source: how error texts call them.

    Raises:
        UserError: no text tower, or one with missing or odd tensors.

    """
    state = text_tensors(tensors)
    if not state:
        raise UserError(
            f"{source} holds no text tower of CLIP (transformer.resblocks, text_projection); give a whole CLIP"
        )
    state.setdefault("token_embedding.weight", torch.empty(0))
    missing = [name for name in ("positional_embedding", "text_projection", "ln_final.weight") if name not in state]
    if missing:
        raise UserError(f"{source}: its text tower lacks {few_names(missing)}")
    settings = _settings_of(state, source=source)
    if not settings.vocabulary:
        del state["token_embedding.weight"]
    with torch.device("meta"):
        tower = ClipTextTower(settings)
    return _filled(tower, state, source=source)


def _filled(tower: ClipTextTower, state: Mapping[str, Tensor], *, source: str) -> ClipTextTower:
    """Return a tower without values with those of a state, frozen and in `eval` mode."""
    try:
        tower.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise UserError(f"{source}: its text tower does not fit together: {first}") from error
    return tower.eval().requires_grad_(False)


def text_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the text tower of a CLIP by OpenAI's names; empty where there is none."""
    if is_of_transformers(tensors):
        tensors = openai_names(tensors)
    for prefix in _PREFIXES:
        below = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if "transformer.resblocks.0.ln_1.weight" in below and "text_projection" in below:
            return {key: value for key, value in below.items() if re.fullmatch(_NAMES, key)}
    return {}


def _settings_of(state: Mapping[str, Tensor], *, source: str) -> ClipTextSettings:
    """Return the dimensions of a tower."""
    width, projection = state["text_projection"].shape
    if width % _HEAD_WIDTH:
        raise UserError(
            f"{source}: the width {width} of its text tower is no multiple of {_HEAD_WIDTH}, a head's width"
        )
    numbers = [int(found[1]) for key in state if (found := re.match(r"transformer\.resblocks\.(\d+)\.", key))]
    return ClipTextSettings(
        width=width,
        depth=max(numbers) + 1,
        heads=width // _HEAD_WIDTH,
        projection=projection,
        vocabulary=len(state["token_embedding.weight"]),
        context=len(state["positional_embedding"]),
    )
