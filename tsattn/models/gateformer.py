"""Gateformer: two pathways per variate, gated into one token, then attention between variates behind a second gate.

Lan and Oermann (2025), arXiv:2505.00307. Written from a description of its behaviour alone; the authors' repository
(nyuolab/Gateformer) names no licence and no line of it was used. `Gateformer` is the paper's own network;
`GatedForecaster` puts the gated variate stage on top of any other network's features: the paper's framework.
"""

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork
from tsattn.layers.attention import readable
from tsattn.layers.checks import check_batch, forecast_size
from tsattn.layers.convert import Conversion, Foreign
from tsattn.layers.dropout import Dropout
from tsattn.layers.encoder import PreNormLayer
from tsattn.layers.norm import Normalised, normalise, restore
from tsattn.layers.patch import FlattenHead, PatchEmbedding, sinusoids


class Gateformer(ForecastNetwork):
    """Forecast every variate from its patches, its whole context, and the other variates.

    A variate's temporal token comes from attention over its patches, its global token from one linear map of the whole
    context. Gate 1 mixes the two, attention between variates follows, gate 2 decides how much of it to take. No weight
    depends on the number of variates. Marks are not read.

    Args:
        context: Steps read.
        horizon: Steps predicted.
        d_model: Length of a token, a multiple of `heads` and even.
        heads: Attention heads.
        layers: Layers of each of the two encoders.
        d_ff: Width of the position-wise networks.
        patch: Steps of a patch.
        stride: Steps from one patch's start to the next one's; the last value is repeated as often at the end.
        dropout: Probability, everywhere.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If a length or number is impossible.

    Source:
        Defaults: the authors' ETTh1 script (d_model, heads, d_ff) and run.py (others).
    """

    reads_known = False
    last = ("stage.projection",)

    def __init__(
        self,
        context: int,
        horizon: int,
        d_model: int = 64,
        heads: int = 4,
        layers: int = 2,
        d_ff: int = 64,
        patch: int = 8,
        stride: int = 8,
        dropout: float = 0.1,
        outputs: int = 1,
    ) -> None:
        super().__init__(context, horizon)
        self.outputs = outputs
        self.patch_embedding = PatchEmbedding(context, patch, stride, stride, d_model)
        self.temporal = _alike(PreNormLayer(d_model, heads, d_ff, dropout), layers)
        self.head = FlattenHead(self.patch_embedding.count, d_model, d_model, dropout)
        self.stage = _VariateStage(context, forecast_size(self, outputs), d_model, heads, layers, d_ff, dropout)
        self.dropout = Dropout(dropout)
        self.patching = (patch, stride, self.patch_embedding.count)

    @property
    def feature_size(self) -> int:
        """Length of one variate's token."""
        return self.stage.projection.in_features

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
            observed: False where a value is missing. Patches and variates with nothing observed are not attended to.

        Raises:
            ValueError: If a shape does not fit.
        """
        tokens, scale = self._encode(past, known, observed)
        return restore(self.stage.projection(tokens), scale, self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate feature"]:
        """Return each variate's token after gate 2."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Tensor]:
        """Return the softmaxes of both encoders.

        "temporal layer 0" is (batch, variate, head, patch, patch), "variate layer 0" (batch, head, variate, variate).
        """
        maps: list[Tensor] = []
        self._encode(past, known, observed, maps)
        count = len(self.temporal)
        named = {
            f"temporal layer {i}": weights.unflatten(0, (past.shape[0], -1)) for i, weights in enumerate(maps[:count])
        }
        return named | {f"variate layer {i}": weights for i, weights in enumerate(maps[count:])}

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        return {"variate": ("head", "variate", "variate"), "temporal": ("variate", "head", "patch", "patch")}

    def gates(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch variate d_model"]]:
        """Return what the gates let through, between 0 and 1, one number per variate and dimension.

        "gate 1" is the weight of the token of the whole context, 1 minus it that of the temporal token. "gate 2" is the
        weight of the token before attention between variates, 1 minus it that of the token after.
        """
        gates: list[Tensor] = []
        self._encode(past, known, observed, gates=gates)
        return {f"gate {i}": gate for i, gate in enumerate(gates, 1)}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
        gates: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch variate d_model"], Normalised]:
        check_batch(self, past, known, observed)
        scale = normalise(past, observed)
        tokens = self.dropout(self.patch_embedding(scale.series)).flatten(0, 1)  # (batch * variate, patch, d_model)
        mask = None if observed is None else readable(self.patch_embedding.observed(observed).flatten(0, 1))
        for layer in self.temporal:
            tokens = layer(tokens, mask, maps)
        temporal = self.head(tokens.flatten(1).unflatten(0, past.shape[:2]))
        return self.stage(scale.series, temporal, observed, maps, gates), scale

    @classmethod
    def from_authors(cls, state: dict[str, Tensor], source: str = "gateformer", **given: Any) -> Conversion:
        """Convert a state dict of nyuolab/Gateformer.

        Args:
            state: The authors' state dict.
            source: Name for messages.
            **given: Arguments by our names that shapes do not tell: `heads` and `stride`; `dropout`, which
                only training reads, where it differs from the default.

        Raises:
            ValueError: If something was not given, contradicts a shape, or a key is missing or unknown.
        """
        foreign = Foreign(state, source, given)
        foreign.need("heads", "stride")
        layers = foreign.count("enc_temporal.layers.{}.")
        d_model = foreign.size("patch_embedding.value_embedding.weight", 0)
        patch = foreign.size("patch_embedding.value_embedding.weight", 1)
        context = foreign.size("project_embedding.value_embedding.weight", 1)
        arguments = foreign.agree(
            context=context,
            horizon=foreign.size("projection.weight", 0),
            d_model=d_model,
            layers=layers,
            patch=patch,
            **({"d_ff": foreign.size("enc_temporal.layers.0.linear1.weight", 0)} if layers else {}),
        )
        count = foreign.size("head.linear.weight", 1) // d_model
        foreign.patches_fit(count, context, patch, arguments["stride"], arguments["stride"])
        foreign.same("patch_embedding.value", "patch_embedding.value_embedding", ["weight"])
        foreign.drop_positions("patch_embedding.position_embedding.pe", sinusoids(count, d_model))
        foreign.flatten_head("head.linear", "head.linear", d_model)
        foreign.linear("stage.embedding", "project_embedding.value_embedding")
        gates = ("gate_global", "gate_temporal", "gate_before", "gate_after")
        for ours, theirs in zip(gates, ("gate_w1", "gate_w2", "gate_w3", "gate_w4"), strict=True):
            foreign.linear(f"stage.{ours}", theirs)
        for ours, theirs in (("temporal", "enc_temporal"), ("stage.layers", "enc_variate")):
            for i in range(layers):
                here, there = f"{ours}.{i}", f"{theirs}.layers.{i}"
                foreign.use(f"{here}.attention.qkv.weight", f"{there}.self_attn.in_proj_weight")
                foreign.use(f"{here}.attention.qkv.bias", f"{there}.self_attn.in_proj_bias")
                foreign.linear(f"{here}.attention.out", f"{there}.self_attn.out_proj")
                foreign.linear(f"{here}.feedforward.up", f"{there}.linear1")
                foreign.linear(f"{here}.feedforward.down", f"{there}.linear2")
                foreign.same(f"{here}.norm1", f"{there}.norm1")
                foreign.same(f"{here}.norm2", f"{there}.norm2")
        foreign.linear("stage.projection", "projection")
        return foreign.finish(f"{cls.__module__}.{cls.__qualname__}", arguments)


class GatedForecaster(ForecastNetwork):
    """Any forecaster of ours with Gateformer's gated variate stage on top: the paper's framework form.

    The other network's `features` become the temporal token of each variate through one linear map. Its own last linear
    map is not used and gets no gradient (under DistributedDataParallel: find_unused_parameters=True).

    Args:
        network: A network whose features cover all variates.
        d_model: Length of a variate's token, a multiple of `heads`.
        heads: Attention heads between variates.
        layers: Encoder layers between variates.
        d_ff: Width of the position-wise networks.
        dropout: Probability, everywhere in the stage.
        outputs: Numbers forecast per step, for a wrapper in `tsattn.layers.probabilistic`.

    Raises:
        ValueError: If the network has no per-variate features or forecasts one target of several series only.

    Source:
        Defaults: those of `Gateformer`.
    """

    last = ("stage.projection",)

    def __init__(
        self,
        network: ForecastNetwork,
        d_model: int = 64,
        heads: int = 4,
        layers: int = 2,
        d_ff: int = 64,
        dropout: float = 0.1,
        outputs: int = 1,
    ) -> None:
        super().__init__(network.context, network.horizon)
        try:
            size = network.feature_size
        except NotImplementedError as error:
            raise ValueError(
                f"GatedForecaster: {type(network).__name__} has no per-variate features, expected a network that does."
            ) from error
        self.variates, self.targets, self.outputs = network.variates, network.targets, outputs
        self.reads_missing, self.why_no_missing = network.reads_missing, network.why_no_missing
        self.reads_known, self.known_rows = network.reads_known, network.known_rows
        self.future_covariates = network.future_covariates
        self.patching = network.patching
        self.network = network
        self.temporal = nn.Linear(size, d_model)
        self.dropout = Dropout(dropout)
        self.stage = _VariateStage(self.context, forecast_size(self, outputs), d_model, heads, layers, d_ff, dropout)

    @property
    def feature_size(self) -> int:
        """Length of one variate's token."""
        return self.stage.projection.in_features

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate horizon *output"]:
        """Forecast every variate, in the scale of `past`.

        Args:
            past: The context of every variate.
            known: Passed on to the network.
            observed: False where a value is missing, if the network reads that.

        Raises:
            ValueError: If a shape does not fit, or the network's features leave variates out.
        """
        tokens, scale = self._encode(past, known, observed)
        return restore(self.stage.projection(tokens), scale, self.outputs)

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch variate feature"]:
        """Return each variate's token after gate 2."""
        return self._encode(past, known, observed)[0]

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Tensor]:
        """Return "variate layer 0", ... (batch, head, variate, variate) and the network's own as "network ..."."""
        maps: list[Tensor] = []
        self._encode(past, known, observed, maps)
        named = {f"variate layer {i}": weights for i, weights in enumerate(maps)}
        theirs = self.network.attention_maps(past, known, observed)
        return named | {f"network {name}": weights for name, weights in theirs.items()}

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the maps."""
        theirs = {f"network {kind}".rstrip(): axes for kind, axes in self.network.attention_axes.items()}
        return {"variate": ("head", "variate", "variate")} | theirs

    def gates(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Float[Tensor, "batch variate d_model"]]:
        """Return what the gates let through, between 0 and 1, one number per variate and dimension.

        "gate 1" is the weight of the token of the whole context, 1 minus it that of the temporal token. "gate 2" is the
        weight of the token before attention between variates, 1 minus it that of the token after.
        """
        gates: list[Tensor] = []
        self._encode(past, known, observed, gates=gates)
        return {f"gate {i}": gate for i, gate in enumerate(gates, 1)}

    def _encode(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None,
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None = None,
        gates: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch variate d_model"], Normalised]:
        check_batch(self, past, known, observed)
        features = self.network.features(past, known, observed)
        if features.shape[1] != past.shape[1]:
            raise ValueError(
                f"GatedForecaster: {type(self.network).__name__} gives features of {features.shape[1]} variates, "
                f"expected all {past.shape[1]}."
            )
        scale = normalise(past, observed)
        return self.stage(scale.series, self.dropout(self.temporal(features)), observed, maps, gates), scale


class _VariateStage(nn.Module):
    """Global token, gate 1, attention between variates, gate 2; `projection` is the last linear map, for the caller."""

    def __init__(
        self, context: int, size: int, d_model: int, heads: int, layers: int, d_ff: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(context, d_model)
        self.gate_global = nn.Linear(d_model, d_model)
        self.gate_temporal = nn.Linear(d_model, d_model)
        self.gate_before = nn.Linear(d_model, d_model)
        self.gate_after = nn.Linear(d_model, d_model)
        self.layers = _alike(PreNormLayer(d_model, heads, d_ff, dropout), layers)
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(d_model, size)

    def forward(
        self,
        series: Float[Tensor, "batch variate context"],
        temporal: Float[Tensor, "batch variate d_model"],
        observed: Bool[Tensor, "batch variate context"] | None,
        maps: list[Tensor] | None,
        gates: list[Tensor] | None,
    ) -> Float[Tensor, "batch variate d_model"]:
        whole = self.dropout(self.embedding(series))
        first = (self.gate_global(whole) + self.gate_temporal(temporal)).sigmoid()
        before = torch.lerp(temporal, whole, first)
        mask = None if observed is None else readable(observed.any(-1))
        after = before
        for layer in self.layers:
            after = layer(after, mask, maps)
        second = (self.gate_before(before) + self.gate_after(after)).sigmoid()
        if gates is not None:
            gates += [first, second]
        return torch.lerp(after, before, second)


def _alike(layer: nn.Module, count: int) -> nn.ModuleList:
    """Return `count` copies that start from the same weights, as `torch.nn.TransformerEncoder` makes them."""
    return nn.ModuleList(copy.deepcopy(layer) for _ in range(count))
