"""Blocks of vision transformers, with the tensor names of timm: attention, perceptron, residual branches."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

AttentionScale = Literal["head", "width"]
AtLeastOne = Annotated[int, Field(ge=1)]


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: D of the tokens.
        heads: number of heads; divides `width`.
        qkv_bias: whether queries, keys and values have a bias.
        scale: of the products of queries and keys: `head`, 1 / sqrt(D / heads), or `width`, 1 / sqrt(D).

    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True, scale: AttentionScale = "head") -> None:
        super().__init__()
        self.heads = heads
        self.scale = float((width // heads if scale == "head" else width) ** -0.5)
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)  # (B, heads, T, D / heads) each
        attended = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, count, width))
        return projected


class Perceptron(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        width: D of the tokens.
        hidden: width between the layers.

    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D)."""
        mapped: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return mapped


class Block(nn.Module):
    """A pre-norm block: tokens + attention(norm(tokens)), and the same with the perceptron.

    Args:
        width: D of the tokens.
        heads: number of heads.
        mlp_ratio: hidden width of the perceptron in units of D.
        qkv_bias: see `Attention`.
        scale: see `Attention`.
        drop_path: probability in [0, 1) with which a sample skips a branch in training; the others are scaled up.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, equations 2 and 3; Huang et al., "Deep
    Networks with Stochastic Depth", ECCV 2016.

    """

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: float, qkv_bias: bool, scale: AttentionScale, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, qkv_bias=qkv_bias, scale=scale)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T, D) to (B, T, D)."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return cast("Tensor", tokens + self.drop_path(self.mlp(self.norm2(tokens))))


def drop_rates(highest: float, depth: int) -> list[float]:
    """Return the drop-path probability of each block, which rises linearly from 0 to `highest`.

    >>> drop_rates(0.1, 3)
    [0.0, 0.05, 0.1]
    """
    return [highest * block / max(1, depth - 1) for block in range(depth)]


def initialise_tokens(module: nn.Module) -> None:
    """Draw the weights of linear layers and convolutions from N(0, 0.02), cut at two units, with biases of 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
