"""Tokens of texts for CLIP, by the tokenizer and the vocabulary of open_clip (extra `clip`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from passerby.errors import UserError

PHRASE = "A photo of a {} person."
"""The sentence of CLIP-ReID; the words that are learnt take the place of the braces."""

_PHRASE_TOKENS = ((49406, 320, 1125, 539, 320), (2533, 269, 49407))
"""Tokens of `PHRASE` before and after the braces, so that training with it needs no tokenizer."""


def tokenise(texts: Sequence[str], *, context: int = 77) -> Tensor:
    """Return the tokens (B, context) int64 of texts, each begun and ended, filled with 0.

    Raises:
        UserError: open_clip is not installed, or a text that is empty or too long.

    """
    start, end, encode = _tokenizer()
    rows = torch.zeros(len(texts), context, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = encode(text)
        if not tokens:
            raise UserError(f"the text {text!r} holds no word")
        if len(tokens) + 2 > context:
            raise UserError(
                f"a text may have {context - 2} tokens (about as many words), and {text[:40]!r}... has {len(tokens)}"
            )
        row[: len(tokens) + 2] = torch.tensor([start, *tokens, end])
    return rows


def phrase_tokens(phrase: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens before and after the braces of a sentence, the first and the last token of a text included.

    Raises:
        UserError: not one pair of braces, or open_clip is needed and not installed.

    """
    if phrase.count("{}") != 1:
        raise UserError(f"a prompt has one {{}} where the learnt words go, as in {PHRASE!r}; got {phrase!r}")
    if phrase == PHRASE:
        return _PHRASE_TOKENS
    start, end, encode = _tokenizer()
    before, after = phrase.split("{}")
    return (start, *encode(before)), (*encode(after), end)


@cache
def _tokenizer() -> tuple[int, int, Callable[[str], list[int]]]:
    """Return the first and the last token of every text, and the function that maps a text to those between."""
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise UserError(
            "texts need the tokenizer of open_clip, which is not installed: pip install 'passerby[clip]'"
        ) from error
    tokenizer = SimpleTokenizer()
    return int(tokenizer.sot_token_id), int(tokenizer.eot_token_id), tokenizer.encode
