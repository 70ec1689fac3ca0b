"""iTransformer: one token per variate, attention between variates (Liu et al., 2024, arXiv:2310.06625).

Written from a description of github.com/thuml/iTransformer and github.com/thuml/Time-Series-Library (both MIT); same
maths, same initial distributions. Different: one matrix product for queries, keys and values; position-wise maps are
linear instead of convolutions of width 1; missing values are masked. `from_authors` reads checkpoints of both.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork
from tsattn.layers.attention import readable
from tsattn.layers.checks import check_batch, check_future, forecast_size
from tsattn.layers.convert import Conversion, Foreign
from tsattn.layers.dropout import Dropout
from tsattn.layers.encoder import EncoderLayer
from tsattn.layers.known import KnownEmbedding, normalise_known
from tsattn.layers.norm import Normalised, normalise, restore, unchanged


class ITransformer(ForecastNetwork):
    """Forecast every variate from its whole context, read as one token, and from all other variates' tokens.

    No weight depends on the number of variates or marks and no token knows its place: the network reads any number, and
    reordering the variates reorders the forecast. The first `context` steps of each mark in `known` become one further
    token through the same linear map; the horizon's marks are not read, as in the authors' code. With
    `future_covariates` (ours), all steps of each row of `known` do, through a linear map of their own.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        d_model: Length of a token.
        heads: Attention heads, each of d_model // heads.
        layers: Encoder layers.
        d_ff: Width of the position-wise networks.
        dropout: Probability, everywhere.
        activation: "gelu" or "relu".
        normalize: Whether each series is normalised over its context (the authors' use_norm).
        future_covariates: None, or how many rows of `known` are covariates, first, whose context is normalised as that
            of a series (if `normalize`) and their horizon likewise; then all of `known` is read, NaN where missing.
        known_rows: With `future_covariates`, how many rows `known` has: each has a learned vector, by which they are
            told apart. None: they are a set, any number.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If a length or number is impossible.

    Source:
        Defaults: the authors' run.py.
    """

    takes_future = True
    last = ("projection",)

    def __init__(
        self,
        context: int,
        horizon: int,
        d_model: int = 512,
        heads: int = 8,
        layers: int = 2,
        d_ff: int = 2048,
        dropout: float = 0.1,
        activation: str = "gelu",
        normalize: bool = True,
        future_covariates: int | None = None,
        known_rows: int | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        check_future(self, future_covariates, known_rows)
        self.future_covariates, self.known_rows, self.outputs = future_covariates, known_rows, outputs
        self.normalize = normalize
        self.reads_missing = normalize
        self.why_no_missing = "" if normalize else "normalize=False leaves no mean to stand in for a missing value"
        self.embedding = nn.Linear(context, d_model)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(d_model)
        self.projection = nn.Linear(d_model, forecast_size(self, outputs))
        if future_covariates is not None:
            self.known_embedding = KnownEmbedding(context + horizon, d_model, known_rows)

    @property
    def feature_size(self) -> int:
        """Length of one variate's token."""
        return self.projection.in_features

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate horizon *output"]:
        """Forecast every variate, in the scale of `past`.

        Args:
            past: The context of every variate.
            known: Covariates and calendar marks; the first `context` steps are read, all with `future_covariates`.
            observed: False where a value is missing. A variate with nothing observed is not attended to; its own
                forecast is its mean, 0, give or take 0.003 of what the network says.

        Raises:
            ValueError: If a shape or number does not fit, or values are missing and `normalize` is False.
        """
        tokens, scale = self._encode(past, known, observed)
        return restore(self.projection(tokens), scale, self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate feature"]:
        """Return each variate's token after the last layer."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch head token token"]]:
        """Return "layer 0", ...: which variate or row of `known` (in this order) reads which."""
        maps: list[Tensor] = []
        self._encode(past, known, observed, maps)
        return {f"layer {i}": weights for i, weights in enumerate(maps)}

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        return {"": ("head", "variate", "variate")}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch variate d_model"], Normalised]:
        check_batch(self, past, known, observed)
        scale = normalise(past, observed) if self.normalize else unchanged(past)
        series = scale.series
        mask = None if observed is None else observed.any(-1)
        variates = past.shape[1]
        if known is not None and self.future_covariates is not None:
            covariates = self.future_covariates if self.normalize else 0
            rows, seen = normalise_known(known, covariates, self.context)
            tokens = torch.cat([self.embedding(series), self.known_embedding(rows)], dim=1)
            mask = torch.cat([seen.new_ones(past.shape[:2]) if mask is None else mask, seen], dim=1)
        else:
            if known is not None:
                marks = known[:, :, : self.context]
                series = torch.cat([series, marks], dim=1)
                if mask is not None:
                    mask = torch.cat([mask, mask.new_ones(marks.shape[:2])], dim=1)
            tokens = self.embedding(series)
        tokens = self.dropout(tokens)
        if mask is not None:
            mask = readable(mask)
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1 and maps is None  # nobody reads the marks after it
            tokens = layer(tokens, mask, maps, first=variates if last else None)
        return self.norm(tokens[:, :variates]), scale

    @classmethod
    def from_authors(cls, state: dict[str, Tensor], source: str = "itransformer", **given: Any) -> Conversion:
        """Convert a state dict of thuml/iTransformer or of Time-Series-Library's iTransformer.

        Args:
            state: The authors' state dict.
            source: "itransformer" or "tslib" (where normalisation is always on).
            **given: Arguments by our names that shapes do not tell: `heads`, `activation`, and `normalize` (use_norm)
                for "itransformer"; `dropout`, which only training reads, where it differs from the default.

        Raises:
            ValueError: If something was not given, contradicts a shape, or a key is missing or unknown.
        """
        foreign = Foreign(state, source, given)
        foreign.need("heads", "activation", *([] if source == "tslib" else ["normalize"]))
        last = "projection" if "projection.weight" in foreign else "projector"
        layers = foreign.count("encoder.attn_layers.{}.")
        arguments = foreign.agree(
            context=foreign.size("enc_embedding.value_embedding.weight", 1),
            horizon=foreign.size(f"{last}.weight", 0),
            d_model=foreign.size("enc_embedding.value_embedding.weight", 0),
            layers=layers,
            **({"d_ff": foreign.size("encoder.attn_layers.0.conv1.weight", 0)} if layers else {}),
            **({"normalize": True} if source == "tslib" else {}),
        )
        foreign.linear("embedding", "enc_embedding.value_embedding")
        for i in range(layers):
            foreign.post_norm_layer(f"layers.{i}", f"encoder.attn_layers.{i}")
        foreign.same("norm", "encoder.norm")
        foreign.linear("projection", last)
        return foreign.finish(f"{cls.__module__}.{cls.__qualname__}", arguments)
