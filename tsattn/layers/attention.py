"""Multi-head attention over tokens, with one matrix product for queries, keys and values.

Ours, after Vaswani et al. (2017). The head size is d_model // heads, so d_model need not be a multiple of heads.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tsattn.layers.dropout import dropout


def readable(mask: Bool[Tensor, "batch key"]) -> Bool[Tensor, "batch key"]:
    """Return the mask, with every key allowed where none was: a softmax over nothing would not be finite."""
    return mask | ~mask.any(-1, keepdim=True)


def attend(
    query: Float[Tensor, "batch head query size"],
    key: Float[Tensor, "batch head key size"],
    value: Float[Tensor, "batch head key size"],
    mask: Bool[Tensor, "batch key"] | None = None,
    p: float = 0.0,
    maps: list[Tensor] | None = None,
) -> Float[Tensor, "batch head query size"]:
    """Return softmax(query keyᵀ / sqrt(size)) value; over no keys at all, zeros.

    Torch's fused kernel does it, except where the softmax itself is asked for, or where there is dropout on a CPU, for
    which torch has no fused kernel.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: False where a key must not be read; each row has at least one True (see `readable`).
        p: Probability of dropping an attention weight.
        maps: A list to which the softmax is appended.
    """
    blocked = None if mask is None else mask[:, None, None, :]
    if key.shape[2] == 0:
        if maps is not None:
            maps.append(query.new_zeros(*query.shape[:3], 0))
        return torch.zeros_like(query)
    if maps is None and not (p > 0.0 and query.is_cpu):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=blocked, dropout_p=p)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if blocked is not None:
        scores = scores.masked_fill(~blocked, float("-inf"))
    weights = scores.softmax(-1)
    if maps is not None:
        maps.append(weights)
    return dropout(weights, p) @ value


class SelfAttention(nn.Module):
    """Attention of tokens to each other.

    Args:
        d_model: Length of a token.
        heads: Number of heads, each of d_model // heads.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, d_model: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = head_width(d_model, heads)
        self.heads, self.p = heads, dropout
        self.qkv = nn.Linear(d_model, 3 * inner)  # torch's bounds depend on d_model only: as three maps would start
        self.out = nn.Linear(inner, d_model)

    def forward(
        self,
        tokens: Float[Tensor, "batch token d_model"],
        mask: Bool[Tensor, "batch token"] | None = None,
        maps: list[Tensor] | None = None,
        first: int | None = None,
    ) -> Float[Tensor, "batch read d_model"]:
        """Mix tokens; `mask` is False for those that must not be read, `maps` collects the softmax.

        With `first`, only so many tokens read (the others are read), and only they are returned.
        """
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(query[:, :, :first], key, value, mask, self.p if self.training else 0.0, maps)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class CrossAttention(nn.Module):
    """Attention of tokens to a memory.

    Args:
        d_model: Length of a token.
        heads: Number of heads, each of d_model // heads.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, d_model: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = head_width(d_model, heads)
        self.heads, self.p = heads, dropout
        self.query = nn.Linear(d_model, inner)
        self.kv = nn.Linear(d_model, 2 * inner)
        self.out = nn.Linear(inner, d_model)

    def forward(
        self,
        tokens: Float[Tensor, "batch token d_model"],
        memory: Float[Tensor, "batch key d_model"],
        mask: Bool[Tensor, "batch key"] | None = None,
        maps: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch token d_model"]:
        """Read the memory; `mask` is False for what must not be read, `maps` collects the softmax."""
        size = self.query.out_features // self.heads
        query = self.query(tokens).unflatten(-1, (self.heads, size)).transpose(1, 2)
        key, value = self.kv(memory).unflatten(-1, (2, self.heads, size)).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, mask, self.p if self.training else 0.0, maps)
        return self.out(mixed.transpose(1, 2).flatten(-2))


def head_width(d_model: int, heads: int) -> int:
    """Return the width of all heads together, heads * (d_model // heads).

    Raises:
        ValueError: If a head would have no width.
    """
    if not 1 <= heads <= d_model:
        raise ValueError(f"heads is {heads}, expected 1 to d_model={d_model}.")
    return heads * (d_model // heads)
