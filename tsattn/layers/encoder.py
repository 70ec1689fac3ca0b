"""Transformer encoder layers: attention and a position-wise network, normalised after or before.

Ours, after Vaswani et al. (2017); dropout stands where the forecasters' authors have it.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.layers.attention import SelfAttention
from tsattn.layers.dropout import Dropout


class FeedForward(nn.Module):
    """Two linear maps with an activation between, added to a residual; dropout after the activation and the second map.

    Args:
        d_model: Length of a token.
        d_ff: Width between the maps.
        dropout: Probability.
        activation: "gelu" (exact) or "relu".

    Raises:
        ValueError: If the activation has another name.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float, activation: str = "gelu") -> None:
        super().__init__()
        if activation not in ("gelu", "relu"):
            raise ValueError(f'activation is "{activation}", expected "gelu" or "relu".')
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "*batch d_model"], residual: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Map every token by itself and add the result to the residual."""
        return self.dropout.add(residual, self.down(self.dropout.activate(self.up(tokens), self.activation)))


class EncoderLayer(nn.Module):
    """Attention, then the position-wise network; each is added to its input and the sum normalised (post-norm).

    Args:
        d_model: Length of a token.
        heads: Attention heads.
        d_ff: Width of the position-wise network.
        dropout: Probability, everywhere.
        activation: "gelu" or "relu".
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float, activation: str = "gelu") -> None:
        super().__init__()
        self.attention = SelfAttention(d_model, heads, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_ff, dropout, activation)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch token d_model"],
        mask: Bool[Tensor, "batch token"] | None = None,
        maps: list[Tensor] | None = None,
        first: int | None = None,
    ) -> Float[Tensor, "batch read d_model"]:
        """Mix tokens; `mask` is False for those that must not be read, `maps` collects the softmax.

        With `first`, only so many tokens are worked out: all that a last layer has to when no one reads the others.
        """
        tokens = self.norm1(self.dropout.add(tokens[:, :first], self.attention(tokens, mask, maps, first)))
        return self.norm2(self.feedforward(tokens, tokens))


class PreNormLayer(nn.Module):
    """The same two steps with each input normalised first and ReLU between the maps (pre-norm).

    Starts from the distributions of `torch.nn.TransformerEncoderLayer`, whose maths this is.

    Args:
        d_model: Length of a token, a multiple of `heads`.
        heads: Attention heads.
        d_ff: Width of the position-wise network.
        dropout: Probability, everywhere.
    """

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        if d_model % heads:
            raise ValueError(f"d_model is {d_model}, expected a multiple of heads={heads}.")
        self.attention = SelfAttention(d_model, heads, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_ff, dropout, "relu")
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "batch token d_model"],
        mask: Bool[Tensor, "batch token"] | None = None,
        maps: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch token d_model"]:
        """Mix tokens; `mask` is False for those that must not be read, `maps` collects the softmax."""
        tokens = self.dropout.add(tokens, self.attention(self.norm1(tokens), mask, maps))
        return self.feedforward(self.norm2(tokens), tokens)
