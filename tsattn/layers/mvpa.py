"""Multi-variate parallel attention as a module: projections, distance tables, biases and output around `tsattn.ops`.

Ours, from a description of MVPFormer (Carzaniga et al., 2025; IBM/multi-variate-parallel-transformer, Apache-2.0), with
its parameters: `take_attention` reads them under their authors' names. Different: keys and values have a map each, so
that an adapter can sit on either; no buffers; padding at the end changes nothing; distances may be absolute.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.layers.convert import Foreign
from tsattn.layers.dropout import Dropout
from tsattn.ops.mvpa import MVPAMaps, mvpa_attention, mvpa_last
from tsattn.ops.mvpa.problem import Backend, DropoutKind, check_choices, check_grid_masks, last_steps, padding

Index = Literal["current", "absolute"]


class _Projected(NamedTuple):
    """What the operators are given, see `mvpa_attention`."""

    query: Tensor
    key: Tensor | None
    value: Tensor
    time_key: Tensor
    channel_key: Tensor


class MVPAttention(nn.Module):
    """Attention of the tokens of a time x channel grid to each other.

    The tables of time and channel distances belong to the model, which hands them to every layer. No parameter depends
    on their length or on the size of the grid.

    Args:
        d_model: Length of a token.
        heads: Query heads; a divisor of d_model.
        kv_heads: Key/value heads, a divisor of `heads`; None for as many.
        window: Largest distance in steps with a content term; None for all.
        causal: Whether a token reads its own and earlier steps only.
        full_last: Whether the last step has content terms with all steps.
        content: Whether there is a content term at all (the authors' global_att).
        index: Which row of a table stands for distance d. "current": row T - 1 - d for T steps (C - 1 - d for C
            channels), as MVPFormer was trained, so that results depend on T and C and the weights belong to one length.
            "absolute": row d, at any length. With padding, a sample's T and C go up to its last real step and channel:
            padding at the end changes nothing, a hole or padding in front counts.
        scale: Factor of the logits; None for 1 / sqrt(d_model / heads).
        dropout: Probability of dropping an attention weight in training.
        dropout_kind: "sample", "call" or "element", see `mvpa_attention`.
        residual_dropout: Probability of dropping an element of the output in training.
        backend: Form of the computation, see `mvpa_attention`.

    Raises:
        ValueError: If head counts do not divide, or an argument means nothing.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        window: int | None = 10,
        causal: bool = True,
        full_last: bool = True,
        content: bool = True,
        index: Index = "current",
        scale: float | None = None,
        dropout: float = 0.0,
        dropout_kind: DropoutKind = "sample",
        residual_dropout: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or d_model < 1 or d_model % heads:
            raise ValueError(f"MVPAttention: d_model is {d_model} and heads {heads}, expected a multiple of heads.")
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"MVPAttention: heads is {heads} and kv_heads {kv_heads}, expected a divisor of heads.")
        if index not in ("current", "absolute"):
            raise ValueError(f"MVPAttention: index is {index!r}, expected 'current' or 'absolute'.")
        check_choices(window, scale, dropout, dropout_kind, backend)
        size = d_model // heads
        self.heads, self.kv_heads, self.index = heads, kv_heads, index
        self.window, self.causal, self.full_last, self.scale = window, causal, full_last, scale
        self.dropout, self.dropout_kind, self.backend = dropout, dropout_kind, backend
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, kv_heads * size, bias=False) if content else None
        self.value = nn.Linear(d_model, kv_heads * size, bias=False)
        self.time_key = nn.Linear(d_model, kv_heads * size, bias=False)
        self.channel_key = nn.Linear(d_model, kv_heads * size, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.content_bias = nn.Parameter(torch.empty(kv_heads, size)) if content else None
        self.time_bias = nn.Parameter(torch.empty(kv_heads, size))
        self.channel_bias = nn.Parameter(torch.empty(kv_heads, size))
        self.residual_dropout = Dropout(residual_dropout)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)  # as the authors

    def forward(
        self,
        tokens: Float[Tensor, "batch time channel d_model"],
        time_table: Float[Tensor, "*direction row d_model"],
        channel_table: Float[Tensor, "channel_row d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        time_mask: Bool[Tensor, "batch time"] | None = None,
        key_mask: Bool[Tensor, "batch time channel"] | None = None,
        maps: list[MVPAMaps] | None = None,
    ) -> Float[Tensor, "batch time channel d_model"]:
        """Mix tokens.

        Args:
            tokens: One vector for each step and channel.
            time_table: At least T rows, by time distance. If not causal, either one table for |t - t'| or two stacked,
                (2, rows, d_model): for earlier keys (t' <= t) and for later ones.
            channel_table: At least C rows, by channel distance.
            channel_mask: False for a padded channel: whatever stands there, it is not read and its output is 0.
            time_mask: False for a padded step, likewise.
            key_mask: False for a token that must not be read, but has an output.
            maps: A list to which the attention maps are appended, which takes the dense form.

        Raises:
            ValueError: If a table has too few rows, or a mask does not fit.
        """
        result: Any = mvpa_attention(
            *self._project(tokens, time_table, channel_table, channel_mask, time_mask, key_mask),
            content_bias=self.content_bias, time_bias=self.time_bias, channel_bias=self.channel_bias,
            window=self.window, causal=self.causal, full_last=self.full_last,
            channel_mask=channel_mask, time_mask=time_mask, key_mask=key_mask,
            dropout_p=self.dropout, dropout=self.dropout_kind, training=self.training,
            scale=self.scale, backend=self.backend, return_maps=maps is not None,
        )  # fmt: skip
        if maps is not None:
            result, of_layer = result
            maps.append(of_layer)
        return self.residual_dropout(self.out(result.permute(0, 2, 3, 1, 4).flatten(-2)))

    def last(
        self,
        tokens: Float[Tensor, "batch time channel d_model"],
        time_table: Float[Tensor, "row d_model"],
        channel_table: Float[Tensor, "channel_row d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        key_mask: Bool[Tensor, "batch time channel"] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch channel d_model"]:
        """Return the last step of `forward`, without the work for the others.

        Args:
            tokens: See `forward`, and so for the tables and masks.
            time_table: See there.
            channel_table: See there.
            channel_mask: See there.
            key_mask: See there.
            weights: A list to which the softmax is appended, (batch, head, channel, time, channel): who of the last
                step reads whom.

        Raises:
            ValueError: If attention is not causal, or as in `forward`.
        """
        if not self.causal:
            raise ValueError("MVPAttention: last() is for causal attention.")
        inputs = self._project(tokens, time_table, channel_table, channel_mask, None, key_mask, last=True)
        result: Any = mvpa_last(
            *inputs,
            content_bias=self.content_bias, time_bias=self.time_bias, channel_bias=self.channel_bias,
            window=self.window, full_last=self.full_last, channel_mask=channel_mask, key_mask=key_mask,
            dropout_p=self.dropout, dropout=self.dropout_kind, training=self.training,
            scale=self.scale, return_weights=weights is not None,
        )  # fmt: skip
        if weights is not None:
            result, of_layer = result
            weights.append(of_layer)
        return self.residual_dropout(self.out(result.transpose(1, 2).flatten(-2)))

    def _project(
        self,
        tokens: Tensor,
        time_table: Tensor,
        channel_table: Tensor,
        channel_mask: Tensor | None,
        time_mask: Tensor | None,
        key_mask: Tensor | None,
        last: bool = False,
    ) -> _Projected:
        """Check, and return queries (of all steps, or of the last one), keys, values and keys by distance."""
        if tokens.ndim != 4 or tokens.shape[-1] != self.query.in_features:
            raise ValueError(
                f"MVPAttention: tokens has shape {tuple(tokens.shape)}, expected (batch, time, channel, "
                f"{self.query.in_features})."
            )
        batch, time, channels, width = tokens.shape
        if time < 1 or channels < 1:
            raise ValueError(
                f"MVPAttention: tokens has {time} steps and {channels} channels, expected at least 1 of each."
            )
        for name, table, count, ndims in (
            ("time", time_table, time, (2,) if self.causal else (2, 3)),
            ("channel", channel_table, channels, (2,)),
        ):
            stacked = table.ndim == 3 and table.shape[0] != 2
            if table.ndim not in ndims or stacked or table.shape[-2] < count or table.shape[-1] != width:
                two = f" or (2, at least {count}, {width})" if 3 in ndims else ""
                raise ValueError(
                    f"MVPAttention: {name}_table has shape {tuple(table.shape)}, "
                    f"expected (at least {count}, {width}){two} for {count} "
                    f"{'steps' if name == 'time' else 'channels'}."
                )
        check_grid_masks((batch, time, channels), channel_mask, time_mask, key_mask)
        padded = padding(channel_mask, time_mask)
        if padded is not None:  # what stands there must not reach the weights' gradients
            tokens = tokens.masked_fill(padded[:, 0, :, :, None], 0)
        size = width // self.heads
        asking = self.query(tokens[:, -1:] if last else tokens)
        query, value = (x.unflatten(-1, (-1, size)).permute(0, 3, 1, 2, 4) for x in (asking, self.value(tokens)))
        key = None if self.key is None else self.key(tokens).unflatten(-1, (-1, size)).permute(0, 3, 1, 2, 4)
        time_key = self._by_distance(self.time_key, time_table, time, time_mask)
        if time_table.ndim == 3:  # rows t - t' + T - 1: later keys, farthest first, then earlier ones, nearest first
            earlier, later = time_key.chunk(2)
            time_key = torch.cat([later[:, :, 1:].flip(2), earlier], 2)
        channel_key = self._by_distance(self.channel_key, channel_table, channels, channel_mask)
        return _Projected(query[:, :, 0] if last else query, key, value, time_key, channel_key)

    def extra_repr(self) -> str:
        """Say what the parameters do not."""
        return (
            f"heads={self.heads}, kv_heads={self.kv_heads}, window={self.window}, causal={self.causal}, "
            f"full_last={self.full_last}, index={self.index!r}, dropout={self.dropout} ({self.dropout_kind}), "
            f"backend={self.backend!r}"
        )

    def _by_distance(
        self, project: nn.Module, table: Tensor, count: int, mask: Tensor | None
    ) -> Float[Tensor, "samples kv_head distance size"]:
        """Return the projected rows for distances 0 ... count - 1; the samples of a second table follow the first's."""
        rows = project(table[..., :count, :]).unflatten(-1, (self.kv_heads, -1))  # (..., count, Hk, d)
        rows = rows.reshape(-1, 1, *rows.shape[-3:])  # (tables, 1, count, Hk, d)
        if self.index == "current" and mask is None:
            rows = rows.flip(2)
        elif self.index == "current" and mask is not None:  # each sample counts from its own last step or channel
            distance = torch.arange(count, device=mask.device)
            rows = rows[:, 0, (last_steps(mask)[:, None] - distance).clamp(min=0)]  # (tables, B, count, Hk, d)
        return rows.flatten(0, 1).transpose(1, 2)


def take_attention(foreign: Foreign, ours: str, theirs: str, kv_heads: int, content: bool = True) -> None:
    """Take one attention module of MVPFormer's authors.

    Args:
        foreign: Their state dict.
        ours: Our module's name; "" for the module itself.
        theirs: Theirs, for instance "h.0.attn".
        kv_heads: Key/value heads; shapes do not tell.
        content: Whether our module has a content term; if not, theirs is dropped.
    """
    ours, theirs = (name and f"{name}." for name in (ours, theirs))
    names = {"query": "q_attn", "time_key": "position_net", "channel_key": "channel_net", "out": "c_proj"}
    for mine, name in names.items():
        foreign.use(f"{ours}{mine}.weight", f"{theirs}{name}.weight")
    for i, mine in enumerate(("key", "value")):
        if content or mine == "value":
            foreign.use(f"{ours}{mine}.weight", f"{theirs}c_attn.weight", lambda w, i=i: w.chunk(2)[i])
    for i, mine in enumerate(("content_bias", "time_bias", "channel_bias")):
        if content or i:
            foreign.use(f"{ours}{mine}", f"{theirs}attn_bias", lambda b, i=i: b.view(3, kv_heads, -1)[i])
    for name in ("time_bias", "masked_bias"):
        foreign.drop(f"{theirs}{name}", "a buffer that nothing reads")
