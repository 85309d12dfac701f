"""Names of the tensors of a CLIP: those of transformers as those of OpenAI."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"\.layer_norm(\d)\.", r".ln_\1."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
"""Names of transformers and those of OpenAI, as regular expressions and their replacements."""
_TRANSPOSED = ("text_projection.weight", "visual_projection.weight")


def is_of_transformers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether names are those of a CLIP of transformers."""
    return any(name.startswith(("text_model.encoder.", "vision_model.encoder.")) for name in tensors)


def openai_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a CLIP of transformers by the names of OpenAI, with queries, keys and values as one.

    >>> list(openai_names({"vision_model.post_layernorm.bias": torch.ones(2)}))
    ['visual.ln_post.bias']
    """
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith("position_ids"):
            continue
        name = key
        for old, new in _NAMES:
            name = re.sub(old, new, name)
        renamed[name] = value.T if key in _TRANSPOSED else value
    for key in [key for key in renamed if ".self_attn.q_proj." in key]:
        block, kind = key.split(".self_attn.q_proj.")
        parts = [f"{block}.self_attn.{part}_proj.{kind}" for part in "qkv"]
        if all(part in renamed for part in parts):  # else the missing one is named by whoever needs it
            renamed[f"{block}.attn.in_proj_{kind}"] = torch.cat([renamed.pop(part) for part in parts])
    return renamed
