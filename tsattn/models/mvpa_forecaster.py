"""MVPA forecaster: patches of every variate on one time x channel grid, read by multi-variate parallel attention.

Ours: the authors of MVPFormer (Carzaniga et al., 2025) published no forecaster of tables. Theirs is the attention (see
`tsattn.layers.mvpa`); patches, instance normalisation and flatten head are those of PatchTST (Nie et al., 2023).
Different from MVPFormer: attention looks both ways, distances are absolute, no step is special, the position-wise
network follows the attention instead of standing beside it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork
from tsattn.layers.checks import check_batch, forecast_size
from tsattn.layers.dropout import Dropout
from tsattn.layers.encoder import FeedForward
from tsattn.layers.known import KnownEmbedding
from tsattn.layers.mvpa import MVPAttention
from tsattn.layers.norm import Normalised, normalise, restore
from tsattn.layers.patch import FlattenHead, patch_count, patches, patches_observed
from tsattn.ops.mvpa import MVPAMaps


class MVPAForecaster(ForecastNetwork):
    """Forecast every variate from its own patches, which have read those of all variates.

    A patch is a token at its time and channel. It knows its place by distances alone, which enter attention as terms
    beside the content: how many patches earlier or later, and how many channels away. The order of columns in a table
    means nothing in general, so by default the second is "my own variate or another": then reordering the variates
    reorders the forecast, and any number of them is read. The first `context` steps of each covariate in `known` are
    one further channel, through an embedding of their own; their horizon is not read.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        d_model: Length of a token.
        heads: Attention heads, a divisor of d_model.
        layers: Blocks.
        d_ff: Width of the position-wise networks.
        patch: Steps of a patch; a context that is shorter is one patch.
        stride: Steps from one patch's start to the next one's; None for `patch`. The last value is repeated until the
            last patch is full.
        window: Largest distance in patches at which attention looks at content; None for all. Beyond it, a patch is
            weighed by its place alone.
        channel_rows: Channel distances that are told apart: 0, 1, ..., and "channel_rows - 1 or more".
        dropout: Probability, of tokens and residual branches.
        known_rows: How many rows `known` has: each has a learned vector, by which they are told apart. None: they are a
            set, any number.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If a length or number is impossible.

    Source:
        Defaults: ours, by the validation loss of ETTh1 and ETTh2 96 -> 96.
    """

    last = ("head",)

    def __init__(
        self,
        context: int,
        horizon: int,
        d_model: int = 256,
        heads: int = 8,
        layers: int = 2,
        d_ff: int = 256,
        patch: int = 96,
        stride: int | None = None,
        window: int | None = None,
        channel_rows: int = 2,
        dropout: float = 0.1,
        known_rows: int | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        self.known_rows, self.outputs = known_rows, outputs
        if known_rows is not None and known_rows < 0:
            raise ValueError(f"MVPAForecaster: known_rows is {known_rows}, expected None or a number of rows.")
        if channel_rows < 1:
            raise ValueError(f"MVPAForecaster: channel_rows is {channel_rows}, expected at least 1.")
        if layers < 1:
            raise ValueError(f"MVPAForecaster: layers is {layers}, expected at least 1.")
        patch = min(patch, context)
        stride = patch if stride is None else stride
        self.patch, self.stride = patch, stride
        self.pad = -max(context - patch, 0) % max(stride, 1)
        self.count = patch_count(context, patch, stride, self.pad)
        self.patching = (patch, stride, self.count)
        self.embedding = nn.Linear(patch, d_model)
        self.known_embedding = KnownEmbedding(patch, d_model, known_rows)
        self.time_table = nn.Parameter(torch.randn(2, self.count, d_model) * 0.02)  # to earlier and to later patches
        self.channel_table = nn.Parameter(torch.randn(channel_rows, d_model) * 0.02)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Block(d_model, heads, d_ff, window, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d_model)
        size = forecast_size(self, outputs)
        self.head = FlattenHead(self.count, d_model, size, dropout=0.0)  # none on the forecast itself

    @property
    def feature_size(self) -> int:
        """Length of one variate's flattened tokens."""
        return self.head.linear.in_features

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate horizon *output"]:
        """Forecast every variate, in the scale of `past`.

        Args:
            past: The context of every variate.
            known: Known covariates; the first `context` steps are read.
            observed: False where a value is missing. A patch with nothing observed is not attended to; the forecast of
                a variate with nothing observed is its mean, 0, give or take 0.003 of what the network says.

        Raises:
            ValueError: If a shape does not fit.
        """
        flat, scale = self._encode(past, known, observed)
        return restore(self.head(flat), scale, self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate feature"]:
        """Return each variate's tokens after the last block, in one vector."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch head token token"]]:
        """Return "layer 0", ...: which token reads which.

        Token t * channels + c is patch t of channel c: variates first, then known covariates.
        """
        maps: list[MVPAMaps] = []
        self._encode(past, known, observed, maps)
        return {f"layer {i}": layer.weights.flatten(4, 5).flatten(2, 3) for i, layer in enumerate(maps)}

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        return {"": ("head", "cell", "cell")}

    def marginals(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch layer head query key"]]:
        """Return which channel reads which and which patch reads which, also without a term of the attention.

        "channels all" is the share that each channel gives to each other one, over all patches of the key and in the
        mean over those of the query; "steps all" is the same of patches, over channels. In "channels without content",
        "... without time" and "... without channel" (and for steps) the softmax is taken anew from the logits less that
        term; what its layer reads is not changed by that, and no later layer is. Every row sums to 1, or is 0 where
        nothing may be read. Channels are the variates, then the rows of `known`.
        """
        maps: list[MVPAMaps] = []
        tokens, mask, _ = self._tokens(past, known, observed)
        self._mix(tokens, mask, maps)
        found: dict[str, list[Tensor]] = {}
        for layer in maps:
            terms = {"content": layer.content, "time": layer.time, "channel": layer.channel}
            shares = {"all": layer.weights}
            for left in terms:
                shares[f"without {left}"] = _softmax([x for term, x in terms.items() if term != left], mask)
            for name, weights in shares.items():
                found.setdefault(f"channels {name}", []).append(weights.sum(4).mean(2))
                found.setdefault(f"steps {name}", []).append(weights.sum(5).mean(3))
        return {name: torch.stack(of_layers, 1) for name, of_layers in found.items()}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[MVPAMaps] | None = None,
    ) -> tuple[Float[Tensor, "batch variate feature"], Normalised]:
        tokens, mask, scale = self._tokens(past, known, observed)
        tokens = self._mix(tokens, mask, maps)
        return self.norm(tokens[:, :, : past.shape[1]]).transpose(1, 2).flatten(2), scale

    def _tokens(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
    ) -> tuple[Float[Tensor, "batch patch channel d_model"], Bool[Tensor, "batch patch channel"] | None, Normalised]:
        """Return the grid of tokens, which of them may be read, and the scale of the series."""
        check_batch(self, past, known, observed)
        scale = normalise(past, observed)
        cut = (self.patch, self.stride, self.pad)
        tokens = self.embedding(patches(scale.series, *cut))
        seen = None if observed is None else patches_observed(observed, *cut)
        if known is not None:
            marks = self.known_embedding(patches(known[..., : self.context], *cut))
            tokens = torch.cat([tokens, marks], 1)
            seen = None if seen is None else torch.cat([seen, seen.new_ones(marks.shape[:3])], 1)
        return self.dropout(tokens).transpose(1, 2), None if seen is None else seen.transpose(1, 2), scale

    def _mix(
        self,
        tokens: Float[Tensor, "batch patch channel d_model"],
        mask: Bool[Tensor, "batch patch channel"] | None,
        maps: list[MVPAMaps] | None,
    ) -> Float[Tensor, "batch patch channel d_model"]:
        distance = torch.arange(tokens.shape[2], device=tokens.device).clamp(max=len(self.channel_table) - 1)
        channel_table = self.channel_table[distance]
        for layer in self.layers:
            tokens = layer(tokens, self.time_table, channel_table, mask, maps)
        return tokens


def _softmax(
    terms: list[Float[Tensor, "batch head patch channel patch channel"]],
    mask: Bool[Tensor, "batch patch channel"] | None,
) -> Float[Tensor, "batch head patch channel patch channel"]:
    """Return the softmax of a sum of terms over the keys that may be read; 0 where there are none."""
    logits = torch.stack(terms).sum(0).flatten(4)
    if mask is None:
        return logits.softmax(-1).view_as(terms[0])
    hidden = ~mask.flatten(1)[:, None, None, None]
    weights = logits.masked_fill(hidden, torch.finfo(logits.dtype).min).softmax(-1).masked_fill(hidden, 0)
    return weights.view_as(terms[0])


class _Block(nn.Module):
    """Attention over the grid, then a position-wise network; each input is normalised first (pre-norm)."""

    def __init__(self, d_model: int, heads: int, d_ff: int, window: int | None, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = MVPAttention(d_model, heads, window=window, causal=False, full_last=False, index="absolute")
        self.norm2 = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_ff, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch time channel d_model"],
        time_table: Float[Tensor, "2 time d_model"],
        channel_table: Float[Tensor, "channel d_model"],
        mask: Bool[Tensor, "batch time channel"] | None,
        maps: list[MVPAMaps] | None,
    ) -> Float[Tensor, "batch time channel d_model"]:
        mixed = self.attention(self.norm1(tokens), time_table, channel_table, key_mask=mask, maps=maps)
        tokens = self.dropout.add(tokens, mixed)
        return self.feedforward(self.norm2(tokens), tokens)
