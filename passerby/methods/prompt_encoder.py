"""Learnt words in a fixed sentence, and the frozen text tower that encodes it."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from passerby.errors import UserError
from passerby.models.clip_text import ClipTextSettings, ClipTextTower


class PromptEncoder(nn.Module):
    """The texts of identities: tokens of a sentence, and between them the learnt words of the identity.

    Args:
        tower: without its table of tokens.
        sizes: numbers of tokens before the words and after them, of identities and of words of each.

    Attributes:
        words: (C, M, D) of M words, drawn from N(0, 0.02).
        before: (L, D) embedded tokens in front of the words.
        after: (L', D) embedded tokens behind them; the last one ends the text.

    """

    before: Tensor
    after: Tensor

    def __init__(self, tower: ClipTextTower, *, sizes: dict[str, int]) -> None:
        super().__init__()
        width = tower.settings.width
        self.tower = tower.requires_grad_(False)
        self.register_buffer("before", torch.empty(sizes["before"], width))
        self.register_buffer("after", torch.empty(sizes["after"], width))
        self.words = nn.Parameter(torch.empty(sizes["identities"], sizes["words"], width))

    @classmethod
    def of_tower(
        cls, tower: ClipTextTower, before: tuple[int, ...], after: tuple[int, ...], *, identities: int, words: int
    ) -> Self:
        """Begin words for a number of identities in a sentence.

        Args:
            tower: with its table of tokens.
            before: tokens in front of the words.
            after: tokens behind them.
            identities: C.
            words: M, of each identity.

        Raises:
            UserError: a text tower without a table of tokens, or with one that is too small, or a text that is too
                long for it.

        """
        settings = tower.settings
        if max(before + after) >= settings.vocabulary:
            raise UserError(
                f"method.prompts.text_tower: it has vectors of {settings.vocabulary} tokens, and the prompt has token "
                f"{max(before + after)}; give a file of CLIP as OpenAI or open_clip publish it"
            )
        if (count := len(before) + words + len(after)) > settings.context:
            raise UserError(
                f"method.prompts: a prompt of {count} tokens is longer than the {settings.context} of the text tower; "
                "lower method.prompts.words, or shorten method.prompts.prompt"
            )
        with torch.no_grad():
            vectors = [tower.token_embedding(torch.tensor(tokens)) for tokens in (before, after)]
        smaller = ClipTextTower(settings.model_copy(update={"vocabulary": 0}))
        smaller.load_state_dict({key: v for key, v in tower.state_dict().items() if not key.startswith("token_")})
        sizes = {"before": len(before), "after": len(after), "identities": identities, "words": words}
        encoder = cls(smaller.eval(), sizes=sizes)
        encoder.before, encoder.after = vectors
        nn.init.normal_(encoder.words, std=0.02)
        return encoder

    @classmethod
    def of_description(cls, description: dict[str, dict[str, int]]) -> Self:
        """Build an encoder without values, by what `describe` returns."""
        with torch.device("meta"):
            tower = ClipTextTower(ClipTextSettings(**description["tower"]))
            return cls(tower, sizes=description["sizes"])

    def describe(self) -> dict[str, dict[str, int]]:
        """Return the dimensions of tower and prompts as plain data."""
        identities, words, _ = self.words.shape
        sizes = {"before": len(self.before), "after": len(self.after), "identities": identities, "words": words}
        return {"tower": self.tower.settings.model_dump(), "sizes": sizes}

    def forward(self, identities: Tensor) -> Tensor:
        """Return the vectors (B, E) of the texts of identities (B,) int64."""
        words = self.words[identities]  # (B, M, D)
        ends = (self.before.expand(len(words), -1, -1), self.after.expand(len(words), -1, -1))
        tokens = torch.cat([ends[0], words, ends[1]], dim=1)
        last = torch.full((len(words),), tokens.shape[1] - 1, device=tokens.device)
        return self.tower.encode(tokens, last)
