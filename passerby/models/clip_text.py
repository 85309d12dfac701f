"""The text tower of CLIP: a causal transformer whose vector of a text is compared with projected images."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from passerby.models.clip_vit import ClipBlocks
from passerby.models.transformer import AtLeastOne
from passerby.settings import Settings


class ClipTextSettings(Settings):
    """Dimensions of a text tower; the defaults are those beside ViT-B/16."""

    width: AtLeastOne = Field(512, description="D of the tokens")
    depth: AtLeastOne = Field(12, description="number of blocks")
    heads: AtLeastOne = Field(8, description="of the attention; divides width")
    projection: AtLeastOne = Field(512, description="E, length of the vector of a text")
    vocabulary: Annotated[int, Field(ge=0)] = Field(
        49408, description="number of tokens; 0 = tokens come as vectors alone"
    )
    context: AtLeastOne = Field(77, description="number of tokens of a text at most, first and last one included")


class ClipTextTower(nn.Module):
    """The text tower.

    Attention is causal, so what follows the last token of a text has no part in its vector.

    Args:
        settings: its dimensions.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
    section 2.4.

    """

    def __init__(self, settings: ClipTextSettings) -> None:
        super().__init__()
        self.settings, width = settings, settings.width
        if settings.vocabulary:
            self.token_embedding = nn.Embedding(settings.vocabulary, width)
            nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(settings.context, width))
        self.transformer = ClipBlocks(width, settings.heads, settings.depth)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, settings.projection))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map texts (B, L) int64, each with the highest number as its last token, to their vectors (B, E)."""
        return self.encode(self.token_embedding(tokens), tokens.argmax(dim=1))

    def encode(self, embedded: Tensor, last: Tensor) -> Tensor:
        """Map texts of embedded tokens (B, L, D), L <= `context`, to their vectors (B, E).

        Args:
            embedded: tokens as vectors, without positions.
            last: (B,) int64 place of the last token of each text.

        """
        tokens = embedded + self.positional_embedding[: embedded.shape[1]]
        for block in self.transformer.resblocks:
            tokens = block(tokens, is_causal=True)
        ends = tokens[torch.arange(len(tokens), device=tokens.device), last]  # (B, D)
        vectors: Tensor = self.ln_final(ends) @ self.text_projection
        return vectors
