"""PatchTST: patches of one series attend to each other, every series by itself (Nie et al., 2023, arXiv:2211.14730).

Two networks carry this name. `PatchTST` is that of github.com/thuml/Time-Series-Library (MIT), behind most published
tables with 96 steps of context; `PatchTSTOfficial` is that of the paper's authors, github.com/yuqinie98/PatchTST
(Apache-2.0). Both are written from a description of their behaviour; same maths, same initial distributions.
Different: one matrix product for queries, keys and values; tokens stay token-major, so that nothing is transposed for
batch normalisation and head; missing values are masked. `from_authors` reads the checkpoints.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tsattn.contracts import ForecastNetwork
from tsattn.layers.attention import readable
from tsattn.layers.checks import check_batch, forecast_size
from tsattn.layers.convert import Conversion, Foreign
from tsattn.layers.dropout import Dropout
from tsattn.layers.encoder import EncoderLayer, FeedForward
from tsattn.layers.norm import Normalised, normalise, per_step, restore, unchanged
from tsattn.layers.patch import FlattenHead, PatchEmbedding, patch_count, patches, patches_observed, sinusoids


class PatchTST(ForecastNetwork):
    """PatchTST as Time-Series-Library has it: sinusoidal positions, layer norm and at the end batch norm.

    Each series is forecast from its own patches alone, by weights that all share; any number of variates will do. Marks
    are not read.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        d_model: Length of a token, even.
        heads: Attention heads, each of d_model // heads.
        layers: Encoder layers.
        d_ff: Width of the position-wise networks.
        patch: Steps of a patch.
        stride: Steps from one patch's start to the next one's; the last value is repeated as often at the end.
        dropout: Probability, everywhere, the forecast itself included.
        activation: "gelu" or "relu".
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If a length or number is impossible.

    Source:
        Defaults: Time-Series-Library's run.py; patch and stride are constants there.
    """

    reads_covariates = False
    reads_known = False
    last = ("head",)

    def __init__(
        self,
        context: int,
        horizon: int,
        d_model: int = 512,
        heads: int = 8,
        layers: int = 2,
        d_ff: int = 2048,
        patch: int = 16,
        stride: int = 8,
        dropout: float = 0.1,
        activation: str = "gelu",
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        self.outputs = outputs
        self.patch_embedding = PatchEmbedding(context, patch, stride, stride, d_model)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(d_model, heads, d_ff, dropout, activation) for _ in range(layers))
        self.norm = nn.BatchNorm1d(d_model)
        self.head = FlattenHead(self.patch_embedding.count, d_model, forecast_size(self, outputs), dropout)
        self.patching = (patch, stride, self.patch_embedding.count)

    @property
    def feature_size(self) -> int:
        """Length of one series' flattened tokens."""
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
            known: Not read.
            observed: False where a value is missing. A patch with nothing observed is not attended to.

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
        """Return each series' tokens after batch normalisation in one vector."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch variate head patch patch"]]:
        """Return "layer 0", ...: which patch reads which, for every variate."""
        maps: list[Tensor] = []
        self._encode(past, known, observed, maps)
        return {f"layer {i}": weights.unflatten(0, past.shape[:2]) for i, weights in enumerate(maps)}

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        return {"": ("variate", "head", "patch", "patch")}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch variate feature"], Normalised]:
        check_batch(self, past, known, observed)
        scale = normalise(past, observed)
        tokens = self.dropout(self.patch_embedding(scale.series)).flatten(0, 1)  # (batch * variate, patch, d_model)
        mask = None if observed is None else readable(self.patch_embedding.observed(observed).flatten(0, 1))
        for layer in self.layers:
            tokens = layer(tokens, mask, maps)
        return self.norm(tokens.flatten(0, 1)).reshape(*past.shape[:2], -1), scale

    @classmethod
    def from_authors(cls, state: dict[str, Tensor], source: str = "tslib", **given: Any) -> Conversion:
        """Convert a state dict of Time-Series-Library's PatchTST.

        Args:
            state: The authors' state dict.
            source: Name for messages.
            **given: Arguments by our names that shapes do not tell: `heads`, `context`, `stride`, `activation`;
                `dropout`, which only training reads, where it differs from the default.

        Raises:
            ValueError: If something was not given, contradicts a shape, or a key is missing or unknown.
        """
        foreign = Foreign(state, source, given)
        foreign.need("heads", "context", "stride", "activation")
        layers = foreign.count("encoder.attn_layers.{}.")
        d_model = foreign.size("patch_embedding.value_embedding.weight", 0)
        patch = foreign.size("patch_embedding.value_embedding.weight", 1)
        arguments = foreign.agree(
            horizon=foreign.size("head.linear.weight", 0),
            d_model=d_model,
            layers=layers,
            patch=patch,
            **({"d_ff": foreign.size("encoder.attn_layers.0.conv1.weight", 0)} if layers else {}),
        )
        count = foreign.size("head.linear.weight", 1) // d_model
        foreign.patches_fit(count, arguments["context"], patch, arguments["stride"], arguments["stride"])
        foreign.same("patch_embedding.value", "patch_embedding.value_embedding", ["weight"])
        foreign.drop_positions("patch_embedding.position_embedding.pe", sinusoids(count, d_model))
        for i in range(layers):
            foreign.post_norm_layer(f"layers.{i}", f"encoder.attn_layers.{i}")
        foreign.same("norm", "encoder.norm.1", _BATCH_NORM)
        foreign.flatten_head("head.linear", "head.linear", d_model)
        return foreign.finish(f"{cls.__module__}.{cls.__qualname__}", arguments)


class PatchTSTOfficial(ForecastNetwork):
    """PatchTST as its authors have it: learned positions, residual attention scores, batch normalisation throughout.

    Each series is forecast from its own patches alone. Marks are not read.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        d_model: Length of a token, a multiple of `heads`.
        heads: Attention heads.
        layers: Encoder layers.
        d_ff: Width of the position-wise networks.
        patch: Steps of a patch.
        stride: Steps from one patch's start to the next one's.
        dropout: Probability, except on attention weights (none) and on the forecast.
        head_dropout: Probability on the forecast.
        pad_end: Whether the last value is repeated `stride` times at the end, for one more patch.
        revin: Whether each series is normalised over its context.
        affine: Whether a learned scale and shift per variate follow the normalisation; needs `variates`.
        subtract_last: Whether the last observed value is subtracted in place of the mean.
        decomposition: Whether the moving average and the rest are forecast by two networks and added.
        kernel_size: Steps of the moving average, odd.
        individual: Whether every variate has its own last linear map; needs `variates`.
        variates: Number of variates, for `affine` and `individual`; otherwise any number will do.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If a length or number is impossible or `variates` is missing.

    Source:
        Defaults: the authors' ETTm1 script (d_model, heads, layers, d_ff, dropout) and run_longExp.py (others).
    """

    reads_covariates = False
    reads_known = False

    def __init__(
        self,
        context: int,
        horizon: int,
        d_model: int = 128,
        heads: int = 16,
        layers: int = 3,
        d_ff: int = 256,
        patch: int = 16,
        stride: int = 8,
        dropout: float = 0.2,
        head_dropout: float = 0.0,
        pad_end: bool = True,
        revin: bool = True,
        affine: bool = False,
        subtract_last: bool = False,
        decomposition: bool = False,
        kernel_size: int = 25,
        individual: bool = False,
        variates: int | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        self.outputs = outputs
        tied = individual or (affine and revin)
        if tied and variates is None:
            raise ValueError(
                f"PatchTSTOfficial: variates is None with affine={affine} and individual={individual}, expected the "
                "number of variates, because each then has weights of its own."
            )
        if d_model % heads:
            raise ValueError(f"PatchTSTOfficial: d_model is {d_model}, expected a multiple of heads={heads}.")
        if decomposition and kernel_size % 2 == 0:
            raise ValueError(f"PatchTSTOfficial: kernel_size is {kernel_size}, expected an odd number of steps.")
        self.variates = variates if tied else None
        self.decomposition, self.kernel_size = decomposition, kernel_size
        if decomposition:
            self.reads_missing, self.why_no_missing = False, "the moving average of decomposition=True needs every step"
        elif not revin:
            self.reads_missing, self.why_no_missing = (
                False,
                "revin=False leaves no mean to stand in for a missing value",
            )
        size = forecast_size(self, outputs)
        self.parts = nn.ModuleDict(
            {
                name: _Backbone(
                    *(context, size, d_model, heads, layers, d_ff, patch, stride, dropout, head_dropout, pad_end),
                    *(_RevIN(variates if affine else None, subtract_last) if revin else None,),
                    variates if individual else None,
                )
                for name in (("residual", "trend") if decomposition else ("series",))
            }
        )
        self.last = tuple(f"parts.{name}.head" for name in self.parts)
        self.patching = (patch, stride, patch_count(context, patch, stride, stride if pad_end else 0))

    @property
    def feature_size(self) -> int:
        """Length of one series' flattened tokens; of moving average and rest together if there are two networks."""
        return sum(self._part(name).feature_size for name in self.parts)

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate horizon *output"]:
        """Forecast every variate, in the scale of `past`.

        Args:
            past: The context of every variate.
            known: Not read.
            observed: False where a value is missing. A patch with nothing observed is not attended to.

        Raises:
            ValueError: If a shape does not fit, or values are missing and `revin` is False or `decomposition` True.
        """
        forecasts = [self._part(name)(series, mask) for name, series, mask in self._split(past, known, observed)]
        return per_step(forecasts[0] if len(forecasts) == 1 else forecasts[0] + forecasts[1], self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate feature"]:
        """Return each series' tokens after the last layer in one vector; if decomposed, rest first, then trend."""
        return torch.cat(
            [self._part(name).encode(x, mask)[0] for name, x, mask in self._split(past, known, observed)], -1
        )

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch variate head patch patch"]]:
        """Return "layer 0", ...: which patch reads which, for every variate; "trend layer 0", ... if decomposed."""
        named: dict[str, Tensor] = {}
        for name, series, mask in self._split(past, known, observed):
            maps: list[Tensor] = []
            self._part(name).encode(series, mask, maps)
            prefix = f"{name} " if self.decomposition else ""
            named |= {f"{prefix}layer {i}": weights.unflatten(0, past.shape[:2]) for i, weights in enumerate(maps)}
        return named

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        kinds = list(self.parts) if self.decomposition else [""]
        return dict.fromkeys(kinds, ("variate", "head", "patch", "patch"))

    def _part(self, name: str) -> "_Backbone":
        return cast(_Backbone, self.parts[name])

    def _split(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
    ) -> list[tuple[str, Tensor, Tensor | None]]:
        check_batch(self, past, known, observed)
        if not self.reads_missing:
            observed = None  # all True, or `check_batch` had refused
        if not self.decomposition:
            return [("series", past, observed)]
        edge = self.kernel_size // 2
        trend = F.avg_pool1d(F.pad(past, (edge, edge), mode="replicate"), self.kernel_size, stride=1)
        return [("residual", past - trend, observed), ("trend", trend, observed)]

    @classmethod
    def from_authors(cls, state: dict[str, Tensor], source: str = "patchtst", **given: Any) -> Conversion:
        """Convert a state dict of yuqinie98/PatchTST (supervised).

        Args:
            state: The authors' state dict.
            source: Name for messages.
            **given: Arguments by our names that shapes do not tell: `context`, `stride`, `revin`, `subtract_last` and,
                with decomposition, `kernel_size`; `dropout` and `head_dropout`, which only training reads, where they
                differ from the defaults. The number of heads is told by the saved attention scale, `pad_end` by the
                number of patches.

        Raises:
            ValueError: If something was not given, contradicts a shape, or a key is missing or unknown.
        """
        foreign = Foreign(state, source, given)
        decomposition = "model_trend.backbone.W_pos" in foreign
        foreign.need("context", "stride", "revin", "subtract_last", *(["kernel_size"] if decomposition else []))
        parts = {"residual": "model_res", "trend": "model_trend"} if decomposition else {"series": "model"}
        first = next(iter(parts.values()))
        layers = foreign.count(f"{first}.backbone.encoder.layers.{{}}.")
        d_model = foreign.size(f"{first}.backbone.W_P.weight", 0)
        patch = foreign.size(f"{first}.backbone.W_P.weight", 1)
        count = foreign.size(f"{first}.backbone.W_pos", 0)
        individual = foreign.count(f"{first}.head.linears.{{}}.")
        affine = f"{first}.revin_layer.affine_weight" in foreign
        inferred: dict[str, Any] = {
            "horizon": foreign.size(f"{first}.head.linear{'s.0' if individual else ''}.weight", 0),
            "d_model": d_model,
            "layers": layers,
            "patch": patch,
            "affine": affine,
            "individual": bool(individual),
            "decomposition": decomposition,
        }
        scale = f"{first}.backbone.encoder.layers.0.self_attn.sdp_attn.scale"
        if layers:
            inferred["d_ff"] = foreign.size(f"{first}.backbone.encoder.layers.0.ff.0.weight", 0)
            if scale in foreign:
                inferred["heads"] = d_model // round(float(foreign.state[scale]) ** -2)
            else:
                foreign.need("heads")
        if individual or affine:
            key = f"{first}.revin_layer.affine_weight"
            inferred["variates"] = individual or foreign.size(key, 0)
        stride = given["stride"]
        inferred["pad_end"] = count != patch_count(given["context"], patch, stride)
        arguments = foreign.agree(**inferred)
        foreign.patches_fit(count, arguments["context"], patch, stride, stride if inferred["pad_end"] else 0)
        for part, theirs in parts.items():
            ours = f"parts.{part}"
            if affine:
                foreign.use(f"{ours}.revin.weight", f"{theirs}.revin_layer.affine_weight")
                foreign.use(f"{ours}.revin.bias", f"{theirs}.revin_layer.affine_bias")
            foreign.use(f"{ours}.position", f"{theirs}.backbone.W_pos")
            foreign.linear(f"{ours}.embedding", f"{theirs}.backbone.W_P")
            for i in range(layers):
                here, there = f"{ours}.layers.{i}", f"{theirs}.backbone.encoder.layers.{i}"
                foreign.linear(f"{here}.qkv", [f"{there}.self_attn.W_{x}" for x in "QKV"])
                foreign.drop(f"{there}.self_attn.sdp_attn.scale", "frozen head size ** -0.5, follows from heads")
                foreign.linear(f"{here}.out", f"{there}.self_attn.to_out.0")
                foreign.same(f"{here}.norm1", f"{there}.norm_attn.1", _BATCH_NORM)
                foreign.linear(f"{here}.feedforward.up", f"{there}.ff.0")
                foreign.linear(f"{here}.feedforward.down", f"{there}.ff.3")
                foreign.same(f"{here}.norm2", f"{there}.norm_ffn.1", _BATCH_NORM)
            if individual:
                heads = [f"{theirs}.head.linears.{c}" for c in range(individual)]
                foreign.use(
                    f"{ours}.head.weight",
                    [f"{head}.weight" for head in heads],
                    lambda *w: torch.stack(w).unflatten(2, (d_model, -1)).transpose(2, 3).flatten(2),
                )
                foreign.use(f"{ours}.head.bias", [f"{head}.bias" for head in heads], lambda *b: torch.stack(b))
            else:
                foreign.flatten_head(f"{ours}.head.linear", f"{theirs}.head.linear", d_model)
        return foreign.finish(f"{cls.__module__}.{cls.__qualname__}", arguments)


class _RevIN(nn.Module):
    """Reversible instance normalisation (Kim et al., 2022): statistics without gradient, optional scale and shift."""

    def __init__(self, variates: int | None, subtract_last: bool) -> None:
        super().__init__()
        self.subtract_last = subtract_last
        self.affine = variates is not None
        if variates is not None:
            self.weight = nn.Parameter(torch.ones(variates))
            self.bias = nn.Parameter(torch.zeros(variates))

    def forward(
        self, past: Float[Tensor, "batch variate context"], observed: Bool[Tensor, "batch variate context"] | None
    ) -> Normalised:
        _, middle, scale = normalise(past.detach(), observed)
        if self.subtract_last:
            middle = past[..., -1:]
            if observed is not None:
                steps = torch.arange(1, past.shape[-1] + 1, device=past.device)
                last = (observed * steps).argmax(-1, keepdim=True)
                middle = torch.where(observed.any(-1, keepdim=True), past.gather(-1, last), past.new_zeros(()))
        series = (past - middle) / scale
        if observed is not None:
            series = torch.where(observed, series, past.new_zeros(()))
        if self.affine:
            series = torch.addcmul(self.bias[:, None], series, self.weight[:, None])
        return Normalised(series, middle, scale)

    def restore(
        self, forecast: Float[Tensor, "batch variate size"], scale: Normalised
    ) -> Float[Tensor, "batch variate size"]:
        if self.affine:
            forecast = (forecast - self.bias[:, None]) / (self.weight[:, None] + 1e-10)
        return restore(forecast, scale)


class _Backbone(nn.Module):
    """One whole network of the official version: normalise, patch, encode, map, restore."""

    def __init__(
        self,
        context: int,
        size: int,
        d_model: int,
        heads: int,
        layers: int,
        d_ff: int,
        patch: int,
        stride: int,
        dropout: float,
        head_dropout: float,
        pad_end: bool,
        revin: _RevIN | None,
        individual: int | None,
    ) -> None:
        super().__init__()
        self.revin = revin
        self.patch, self.stride, self.pad = patch, stride, stride if pad_end else 0
        count = patch_count(context, patch, stride, self.pad)
        self.embedding = nn.Linear(patch, d_model)
        self.position = nn.Parameter(torch.empty(count, d_model).uniform_(-0.02, 0.02))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(d_model, heads, d_ff, dropout) for _ in range(layers))
        self.head: nn.Module
        if individual is None:
            self.head = FlattenHead(count, d_model, size, head_dropout)
        else:
            self.head = _IndividualHead(individual, count * d_model, size, head_dropout)
        self.feature_size = count * d_model

    def forward(
        self, past: Float[Tensor, "batch variate context"], observed: Bool[Tensor, "batch variate context"] | None
    ) -> Float[Tensor, "batch variate size"]:
        flat, scale = self.encode(past, observed)
        forecast = self.head(flat)
        return forecast if self.revin is None else self.revin.restore(forecast, scale)

    def encode(
        self,
        past: Float[Tensor, "batch variate context"],
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch variate feature"], Normalised]:
        scale = unchanged(past) if self.revin is None else self.revin(past, observed)
        tokens = self.embedding(patches(scale.series, self.patch, self.stride, self.pad)) + self.position
        tokens = self.dropout(tokens).flatten(0, 1)  # (batch * variate, patch, d_model)
        mask = None
        if observed is not None:
            mask = readable(patches_observed(observed, self.patch, self.stride, self.pad).flatten(0, 1))
        scores: Tensor | None = None
        for layer in self.layers:
            tokens, scores = layer(tokens, scores, mask, maps)
        return tokens.reshape(*past.shape[:2], -1), scale


class _Layer(nn.Module):
    """Attention that adds the previous layer's scores to its own (He et al., 2021), position-wise map; post-norm."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm1 = nn.BatchNorm1d(d_model)
        self.feedforward = FeedForward(d_model, d_ff, dropout)
        self.norm2 = nn.BatchNorm1d(d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "series token d_model"],
        before: Float[Tensor, "series head token token"] | None,
        mask: Bool[Tensor, "series token"] | None,
        maps: list[Tensor] | None,
    ) -> tuple[Float[Tensor, "series token d_model"], Float[Tensor, "series head token token"]]:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if before is not None:
            scores = scores + before
        allowed = scores if mask is None else scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        weights = allowed.softmax(-1)
        if maps is not None:
            maps.append(weights)
        mixed = self.out((weights @ value).transpose(1, 2).flatten(-2))
        tokens = _over_tokens(self.norm1, self.dropout.add(tokens, self.dropout(mixed)))  # twice, as the authors do
        return _over_tokens(self.norm2, self.feedforward(tokens, tokens)), scores


class _IndividualHead(nn.Module):
    """One linear map per variate."""

    def __init__(self, variates: int, feature: int, size: int, dropout: float) -> None:
        super().__init__()
        bound = feature**-0.5  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(variates, size, feature).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(variates, size).uniform_(-bound, bound))
        self.dropout = Dropout(dropout)

    def forward(self, flat: Float[Tensor, "batch variate feature"]) -> Float[Tensor, "batch variate size"]:
        return self.dropout(torch.einsum("bvf,vhf->bvh", flat, self.weight) + self.bias)


_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _over_tokens(norm: nn.Module, tokens: Float[Tensor, "series token d_model"]) -> Tensor:
    """Normalise every dimension over all tokens of all series."""
    return norm(tokens.flatten(0, 1)).view_as(tokens)
