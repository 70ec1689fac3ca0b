"""TimeXer: patches of a target attend to each other, and one global token per target to whole series beside it.

Wang et al. (2024), arXiv:2402.19072. Written from a description of its behaviour alone; the authors' repository names
no licence and no line of it was used. Different from it: targets come first in `past` (theirs: last), there is one
matrix product for queries, keys and values, missing values are masked. `from_authors` reads its checkpoints and
Time-Series-Library's.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork
from tsattn.layers.attention import CrossAttention, SelfAttention, readable
from tsattn.layers.checks import check_batch, check_future, forecast_size
from tsattn.layers.convert import Conversion, Foreign
from tsattn.layers.dropout import Dropout
from tsattn.layers.encoder import FeedForward
from tsattn.layers.known import KnownEmbedding, normalise_known
from tsattn.layers.norm import Normalised, normalise, restore, unchanged
from tsattn.layers.patch import FlattenHead, PatchEmbedding, sinusoids


class TimeXer(ForecastNetwork):
    """Forecast targets from their own patches and from whole exogenous series.

    Exogenous are, for "M", all series of `past` themselves, else those after the first; and, for all, the first
    `context` steps of each mark in `known`. Their future is not read, as in the authors' code. With `future_covariates`
    (ours), all steps of each row of `known` are, through a linear map of their own.

    Where `patch` does not divide `context`, patches start at the oldest step and the newest `context % patch` steps are
    in no patch; only the exogenous tokens (for "M", those of the targets, too) see them. The authors' code does so.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        variates: Series in `past`. For "M" all are targets (see `targets`), and each target has its global token; for
            "MS" and "S" no weight depends on it.
        features: "M" (every series is a target), "MS" (the first is the target, the others are exogenous) or "S" (one
            series; only marks are exogenous, and without marks the cross-attention reads nothing and leaves its bias).
        d_model: Length of a token.
        heads: Attention heads, each of d_model // heads.
        layers: Layers.
        d_ff: Width of the position-wise networks.
        patch: Steps of a patch; patches do not overlap.
        dropout: Probability, everywhere, the forecast itself included.
        activation: "gelu" or "relu".
        normalize: Whether each series is normalised over its context (the authors' use_norm).
        targets: For "M": so many of the first series are targets, all are exogenous; None for all.
        future_covariates: None, or how many rows of `known` are covariates, first, whose context is normalised as that
            of a series (if `normalize`) and their horizon likewise; then all of `known` is read, NaN where missing.
        known_rows: With `future_covariates`, how many rows `known` has: each has a learned vector, by which they are
            told apart. None: they are a set, any number.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Attributes:
        variates: Series that `past` must have: `variates` for "M", any for "MS", 1 for "S".
        targets: None if all series are targets, else how many are.

    Raises:
        ValueError: If a length, number or name is impossible.

    Source:
        Defaults: the authors' run.py.
    """

    takes_future = True
    last = ("head",)

    def __init__(
        self,
        context: int,
        horizon: int,
        variates: int,
        features: str = "M",
        d_model: int = 512,
        heads: int = 8,
        layers: int = 2,
        d_ff: int = 2048,
        patch: int = 16,
        dropout: float = 0.1,
        activation: str = "gelu",
        normalize: bool = True,
        targets: int | None = None,
        future_covariates: int | None = None,
        known_rows: int | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        check_future(self, future_covariates, known_rows)
        if features not in ("M", "MS", "S"):
            raise ValueError(f'TimeXer: features is "{features}", expected "M", "MS" or "S".')
        if variates < 1 or (features == "S" and variates != 1):
            raise ValueError(f"TimeXer: variates is {variates}, expected {'1' if features == 'S' else 'at least 1'}.")
        most = variates if features == "M" else 1
        if targets is not None and not 1 <= targets <= most:
            raise ValueError(
                f"TimeXer: targets is {targets}, expected None or {'1' if most == 1 else f'1 to {most}'} with "
                f'features="{features}" and variates={variates}.'
            )
        self.mode, self.normalize = features, normalize
        self.variates = None if features == "MS" else variates
        self.targets = 1 if features != "M" else None if targets == variates else targets
        self.reads_covariates = features != "S"
        self.future_covariates, self.known_rows, self.outputs = future_covariates, known_rows, outputs
        self.reads_missing = normalize
        self.why_no_missing = "" if normalize else "normalize=False leaves no mean to stand in for a missing value"
        self.patch_embedding = PatchEmbedding(context, patch, patch, 0, d_model)
        self.global_token = nn.Parameter(torch.randn(self.targets or variates, d_model))
        self.series_embedding = nn.Linear(context, d_model)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(d_model, heads, d_ff, dropout, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = FlattenHead(self.patch_embedding.count + 1, d_model, forecast_size(self, outputs), dropout)
        if future_covariates is not None:
            self.known_embedding = KnownEmbedding(context + horizon, d_model, known_rows)
        self.patching = (patch, patch, self.patch_embedding.count)

    @property
    def feature_size(self) -> int:
        """Length of one target's flattened tokens."""
        return self.head.linear.in_features

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target horizon *output"]:
        """Forecast the targets, in the scale of `past`.

        Args:
            past: The context of every series; for "MS" the target first, then the exogenous ones, any number.
            known: Covariates and calendar marks; the first `context` steps are read, all with `future_covariates`.
            observed: False where a value is missing. A patch or exogenous series with nothing observed is not attended
                to.

        Raises:
            ValueError: If a shape or number does not fit, or values are missing and `normalize` is False.
        """
        flat, scale = self._encode(past, known, observed)
        return restore(self.head(flat), scale, self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target feature"]:
        """Return each target's tokens after the last layer, patches first, the global token last, in one vector."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Tensor]:
        """Return the softmaxes of every layer.

        "layer 0 patches" is (batch, target, head, token, token), the global token last; "layer 0 exogenous" is (batch,
        head, target, series and rows of `known`).
        """
        maps: list[Tensor] = []
        self._encode(past, known, observed, maps)
        named = {}
        for i in range(len(self.layers)):
            named[f"layer {i} patches"] = maps[2 * i].unflatten(0, (past.shape[0], -1))
            named[f"layer {i} exogenous"] = maps[2 * i + 1]
        return named

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        return {"exogenous": ("head", "target", "exogenous"), "patches": ("target", "head", "token", "token")}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch target feature"], Normalised]:
        check_batch(self, past, known, observed)
        scale = normalise(past, observed) if self.normalize else unchanged(past)
        targets = len(self.global_token)
        first = 0 if self.mode == "M" else 1  # of the exogenous series
        patches = self.patch_embedding(scale.series[:, :targets])
        tokens = torch.cat([patches, self.global_token[:, None].expand(past.shape[0], -1, -1, -1)], dim=2)
        tokens = self.dropout(tokens).flatten(0, 1)  # (batch * target, patches + 1, d_model)
        exogenous = scale.series[:, first:]
        told: Tensor | None = None  # which rows of `known` say something, if some may not
        if known is not None and self.future_covariates is not None:
            covariates = self.future_covariates if self.normalize else 0
            rows, told = normalise_known(known, covariates, self.context)
            memory = torch.cat([self.series_embedding(exogenous), self.known_embedding(rows)], dim=1)
        else:
            if known is not None:
                exogenous = torch.cat([exogenous, known[:, :, : self.context]], dim=1)
            memory = self.series_embedding(exogenous)
        memory = self.dropout(memory)
        token_mask = memory_mask = None
        if observed is not None:
            seen = self.patch_embedding.observed(observed[:, :targets]).flatten(0, 1)
            token_mask = torch.cat([seen, seen.new_ones(seen.shape[0], 1)], dim=1)
            memory_mask = observed[:, first:].any(-1)
        if known is not None and (memory_mask is not None or told is not None):
            series_mask = known.new_ones(exogenous.shape[:2], dtype=torch.bool) if memory_mask is None else memory_mask
            known_mask = known.new_ones(known.shape[:2], dtype=torch.bool) if told is None else told
            memory_mask = torch.cat([series_mask, known_mask], dim=1)
        if memory_mask is not None:
            memory_mask = readable(memory_mask)
        for layer in self.layers:
            tokens = layer(tokens, memory, token_mask, memory_mask, maps)
        return self.norm(tokens).flatten(1).unflatten(0, (-1, targets)), scale

    @classmethod
    def from_authors(cls, state: dict[str, Tensor], source: str = "timexer", **given: Any) -> Conversion:
        """Convert a state dict of thuml/TimeXer or of Time-Series-Library's TimeXer (the same names).

        Args:
            state: The authors' state dict.
            source: Name for messages: "timexer" or "tslib".
            **given: Arguments by our names that shapes do not tell: `heads`; `features` where there is one global
                token; `normalize` (use_norm); `activation`; `dropout`, which only training reads. `variates` of "MS"
                is 1 if not given; no weight depends on it.

        Raises:
            ValueError: If something was not given, contradicts a shape, or a key is missing or unknown.
        """
        foreign = Foreign(state, source, given)
        layers = foreign.count("encoder.layers.{}.")
        targets = foreign.size("en_embedding.glb_token", 1)
        patch = foreign.size("en_embedding.value_embedding.weight", 1)
        d_model = foreign.size("en_embedding.value_embedding.weight", 0)
        context = foreign.size("ex_embedding.value_embedding.weight", 1)
        foreign.need("heads", "normalize", "activation", *([] if targets > 1 else ["features"]))
        arguments = foreign.agree(
            context=context,
            horizon=foreign.size("head.linear.weight", 0),
            d_model=d_model,
            layers=layers,
            patch=patch,
            **({"d_ff": foreign.size("encoder.layers.0.conv1.weight", 0)} if layers else {}),
            **({"features": "M"} if targets > 1 else {}),
            **({"variates": targets} if targets > 1 or given.get("features") != "MS" else {}),
        )
        arguments.setdefault("variates", 1)
        foreign.use("global_token", "en_embedding.glb_token", lambda token: token.flatten(0, 2))
        foreign.same("patch_embedding.value", "en_embedding.value_embedding", ["weight"])
        foreign.drop_positions("en_embedding.position_embedding.pe", sinusoids(context // patch, d_model))
        foreign.linear("series_embedding", "ex_embedding.value_embedding")
        for i in range(layers):
            theirs, ours = f"encoder.layers.{i}", f"layers.{i}"
            for name in ("self_attention", "cross_attention"):
                query, key, value = (f"{theirs}.{name}.{x}_projection" for x in ("query", "key", "value"))
                if name == "self_attention":
                    foreign.linear(f"{ours}.{name}.qkv", [query, key, value])
                else:
                    foreign.linear(f"{ours}.{name}.query", query)
                    foreign.linear(f"{ours}.{name}.kv", [key, value])
                foreign.linear(f"{ours}.{name}.out", f"{theirs}.{name}.out_projection")
            foreign.linear(f"{ours}.feedforward.up", f"{theirs}.conv1")
            foreign.linear(f"{ours}.feedforward.down", f"{theirs}.conv2")
            for norm in ("norm1", "norm2", "norm3"):
                foreign.same(f"{ours}.{norm}", f"{theirs}.{norm}")
        foreign.same("norm", "encoder.norm")
        foreign.flatten_head("head.linear", "head.linear", d_model)
        return foreign.finish(f"{cls.__module__}.{cls.__qualname__}", arguments)


class _Layer(nn.Module):
    """Self-attention within each target, cross-attention of its global token, position-wise network; post-norm."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.self_attention = SelfAttention(d_model, heads, dropout)
        self.cross_attention = CrossAttention(d_model, heads, dropout)
        self.feedforward = FeedForward(d_model, d_ff, dropout, activation)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "series token d_model"],
        memory: Float[Tensor, "batch key d_model"],
        token_mask: Bool[Tensor, "series token"] | None,
        memory_mask: Bool[Tensor, "batch key"] | None,
        maps: list[Tensor] | None,
    ) -> Float[Tensor, "series token d_model"]:
        tokens = self.norm1(self.dropout.add(tokens, self.self_attention(tokens, token_mask, maps)))
        whole = tokens[:, -1].unflatten(0, (memory.shape[0], -1))  # (batch, target, d_model)
        read = self.cross_attention(whole, memory, memory_mask, maps)
        whole = self.norm2(self.dropout.add(whole, read)).flatten(0, 1)
        tokens = torch.cat([tokens[:, :-1], whole[:, None]], dim=1)
        return self.norm3(self.feedforward(tokens, tokens))
