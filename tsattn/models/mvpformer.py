"""MVPFormer: a foundation model of intracranial EEG. Carzaniga et al. (2025), arXiv:2506.20354.

Ours, from a description of IBM/multi-variate-parallel-transformer (Apache-2.0), whose numbers it gives and whose
weights it reads (`from_authors`), as it does those of braindecode's port. Different: any channels in a batch, segments
that were not recorded, distances that may be absolute, a last layer that is computed for the last segment alone where
nothing else is asked for; no unused parameters.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tsattn import messages
from tsattn.contracts import SegmentNetwork
from tsattn.layers.convert import Conversion, Foreign
from tsattn.layers.mvpa import Index, MVPAttention, take_attention
from tsattn.layers.norm import RMSNorm
from tsattn.layers.wavelet import WaveletEncoder, coefficient_count

HEADS = {(768, 256): (12, 4), (2048, 1024): (16, 8)}  # of S and M, by d_model and numbers of all key/value heads
RELEASED = (25, 512.0)  # segments and Hz of the released weights, whose segments have RELEASED_SAMPLES
RELEASED_SAMPLES = 2560
ONE_WAY: dict[str, Any] = {"activation": "silu", "global_attention": True}  # ours, where the authors' code has more
CLASSIFIER = "tsattn.layers.classifier.SegmentClassifier"


class MVPFormer(SegmentNetwork):
    """Wavelet tokens of every channel's segments, read by multi-variate parallel attention.

    A block adds to its input an attention over segments x channels and a gated map of each token (SwiGLU), both of the
    same normalised input. Place enters attention alone, through two tables of distances that all layers share.

    Args:
        sfreq: Hz of the signal.
        segment_seconds: Length of a segment.
        segments: Of a window.
        d_model: Length of a token.
        layers: Blocks.
        heads: Query heads.
        kv_heads: Key/value heads.
        d_ff: Width of the gated map.
        positions: Rows of the table of time distances, at least `segments`.
        max_channels: Rows of the table of channel distances: the largest number of channels.
        window: Largest distance in segments at which attention looks at content; the last segment looks at all.
        index: "current", as the authors trained: a table's row is counted from the present number of segments or
            channels, so weights belong to one number of segments. "absolute": row d is distance d, always.
        dropout: Probability of dropping whole segments and whole channels from attention in training.
        residual_dropout: Probability, of what attention adds and of tokens.
        generative: Whether there is a head that predicts the next segment's token.
        level_power: Whether a token also holds the power of its signal in each octave, which the authors' normalisation
            takes away; see `WaveletEncoder`.
        checkpointing: Whether blocks are computed again in the backward pass instead of being kept.

    Raises:
        ValueError: If a number is impossible.

    Source:
        Defaults: MVPFormer-S of the paper's repository. M: d_model 2048, 24 layers, 16 and 8 heads, d_ff 5632.
    """

    def __init__(
        self,
        sfreq: float = 512.0,
        segment_seconds: float = 5.0,
        segments: int = 25,
        d_model: int = 768,
        layers: int = 12,
        heads: int = 12,
        kv_heads: int = 4,
        d_ff: int = 1728,
        positions: int = 110,
        max_channels: int = 128,
        window: int = 10,
        index: Index = "current",
        dropout: float = 0.0,
        residual_dropout: float = 0.0,
        generative: bool = True,
        checkpointing: bool = False,
        level_power: bool = False,
    ) -> None:
        super().__init__(sfreq, segment_seconds, segments, d_model, max_channels)
        for name, number, least in (("layers", layers, 1), ("max_channels", max_channels, 1), ("d_ff", d_ff, 1)):
            if number < least:
                raise ValueError(f"MVPFormer: {name} is {number}, expected at least {least}.")
        if positions < segments:
            raise ValueError(f"MVPFormer: positions is {positions}, expected at least segments={segments}.")
        self.index, self.checkpointing = index, checkpointing
        self.encoder = WaveletEncoder(self.samples, d_model, level_power)
        self.time_table = nn.Parameter(torch.randn(positions, d_model) * 0.02)
        self.channel_table = nn.Parameter(torch.randn(max_channels, d_model) * 0.02)
        self.dropout = nn.Dropout(residual_dropout)
        self.layers = nn.ModuleList(
            _Block(d_model, heads, kv_heads, d_ff, window, index, dropout, residual_dropout) for _ in range(layers)
        )
        self.norm = RMSNorm(d_model, eps=1e-5)
        self.head = nn.Linear(d_model, d_model, bias=False) if generative else None

    def encode(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch d_model"]:
        """Turn each segment of one channel, in microvolts, into a token."""
        return self.encoder(signal)

    def mix(
        self,
        tokens: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
    ) -> Float[Tensor, "batch segment channel d_model"]:
        """Let the tokens of a window read each other; see `SegmentNetwork.mix`.

        Raises:
            ValueError: If there are more channels or segments than rows in a table, or, with `index="current"`, another
                number of segments than the network was made for.
        """
        hidden = self._begin(tokens)
        for layer in self.layers:
            hidden = self._run(layer, hidden, channel_mask, observed)
        hidden = self.norm(hidden)
        return hidden if channel_mask is None else hidden.masked_fill(~channel_mask[:, None, :, None], 0)

    def mix_last(
        self,
        tokens: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch channel d_model"]:
        """Return `mix(...)[:, -1]`; the last block is computed for the last segment alone."""
        hidden = self._begin(tokens)
        *first, final = cast(Iterable[_Block], self.layers)
        rest = (self.time_table, self.channel_table, channel_mask, observed, weights)
        for layer in first:
            if weights is not None:
                layer.last(hidden, *rest)
            hidden = self._run(layer, hidden, channel_mask, observed)
        last = self.norm(final.last(hidden, *rest))
        return last if channel_mask is None else last.masked_fill(~channel_mask[:, :, None], 0)

    def predict_next(
        self, hidden: Float[Tensor, "batch segment channel d_model"]
    ) -> Float[Tensor, "batch segment channel d_model"]:
        """Predict the token of the segment after each one."""
        return super().predict_next(hidden) if self.head is None else self.head(hidden)

    def _begin(self, tokens: Tensor) -> Tensor:
        segments, channels = tokens.shape[1:3]
        if self.max_channels is not None and channels > self.max_channels:
            raise ValueError(
                f"MVPFormer: {channels} channels, expected at most {self.max_channels}: choose some, or read them in "
                "several readings (more_channels)."
            )
        if segments != self.segments and self.index == "current":
            raise ValueError(
                f"MVPFormer: {segments} segments, expected {self.segments}: with index='current' weights belong to one "
                "number of segments."
            )
        if segments > len(self.time_table):
            raise ValueError(
                f"MVPFormer: {segments} segments, expected at most positions={len(self.time_table)}: take shorter "
                "windows."
            )
        return self.dropout(tokens)

    def _run(self, layer: nn.Module, hidden: Tensor, channel_mask: Tensor | None, observed: Tensor | None) -> Tensor:
        arguments = (hidden, self.time_table, self.channel_table, channel_mask, observed)
        if self.checkpointing and self.training and torch.is_grad_enabled():
            result: Any = checkpoint(layer, *arguments, use_reentrant=False)
            return result
        return layer(*arguments)

    @classmethod
    def from_authors(
        cls,
        state: dict[str, Tensor],
        source: str = "mvpformer",
        *,
        head: dict[str, Tensor] | None = None,
        merged: bool | None = None,
        classifier: bool = True,
        lora_alpha: float = 16.0,
        allow: Sequence[str] = (),
        **given: Any,
    ) -> Conversion:
        """Convert weights of IBM's code (public or released layout) or of braindecode's port.

        With class weights in it, the conversion is of a `SegmentClassifier` around the network; adapters stay adapters.

        Args:
            state: The state dict.
            source: "mvpformer": IBM's, keys under "mvpformer." or "genie.". "braindecode": its MVPFormer.
            head: IBM's second file: adapters and head.
            merged: Of a `state` that holds adapters, too: whether their products are in the weights already (loralib
                does that in evaluation mode). No key tells.
            classifier: Of braindecode's: whether its last layer was trained.
            lora_alpha: Of the adapters (scale, times rank); the authors' is 16.
            allow: Keys that may be missing (ours stay as initialised), or that may be there without a place.
            **given: What shapes do not tell, but for the sizes S and M that IBM published: `heads`, `segments`,
                `sfreq`, `window`, `segment_seconds` where no key tells, and `activation` and `global_attention`, of
                which ours has "silu" and True only.

        Raises:
            ValueError: If the layout is not recognised, something was not given or contradicts a shape, or a key is
                missing or unknown and not allowed.
        """
        if source == "braindecode":
            foreign = Foreign(state, source, given, allow)
            return _from_braindecode(foreign, classifier)
        layouts = [prefix for prefix in ("mvpformer.", "genie.") if f"{prefix}ln_f.weight" in state]
        if not layouts:
            raise ValueError(
                f"{source}: none of mvpformer.ln_f.weight, genie.ln_f.weight is among {len(state)} keys"
                f"{_some(state)}, expected IBM's base file first (then, if wanted, its file of adapters and head)."
            )
        both = dict(state)
        prefix = layouts[0]
        for key, value in (head or {}).items():
            theirs = next((p for p in ("mvpformer.", "genie.") if key.startswith(p)), "")
            key = f"head file: {prefix}{key.removeprefix(theirs)}" if theirs else f"head file: {key}"
            both[key] = value
        foreign = Foreign(both, source, given, allow)
        return _from_ibm(foreign, prefix, "head file: " if head is not None else "", merged, lora_alpha)


def _some(state: dict[str, Tensor]) -> str:
    names = list(state)[:3]
    return f" ({', '.join(names)}, ...)" if names else ""


def _arguments(foreign: Foreign, names: dict[str, str], generative: bool) -> dict[str, Any]:
    """Return our arguments from shapes and what was given; `names` are the foreign keys by our words."""
    d_model = foreign.size(names["norm"], 0)
    values = foreign.size(names["block"].format(0) + "attn.position_net.weight", 0)
    known = HEADS.get((d_model, values)) if foreign.source == "mvpformer" else None  # the two that IBM published
    told = ["segment_seconds"] if "seizure_embeddings" not in foreign else []
    if known is None:
        foreign.need("heads", "segments", "sfreq", *told, "window", *ONE_WAY)
    foreign.only(**{name: value for name, value in ONE_WAY.items() if known is None or name in foreign.given})
    if known and "heads" not in foreign.given:
        heads, kv_heads = known
    else:
        heads = foreign.given["heads"]
        if heads < 1 or d_model % heads or values % (d_model // heads):
            raise ValueError(
                f"{foreign.source}: heads={heads} given, expected a divisor of {d_model}, the quotient one of {values}."
            )
        kv_heads = values // (d_model // heads)
    size = foreign.size(names["encoder_norm"], 0)
    samples = foreign.size("seizure_embeddings", 1) if "seizure_embeddings" in foreign else None
    if samples is None and "segment_seconds" in foreign.given and "sfreq" in foreign.given:
        samples = round(foreign.given["segment_seconds"] * foreign.given["sfreq"])
    if samples is None and size == coefficient_count(RELEASED_SAMPLES):
        samples = RELEASED_SAMPLES
    if samples is None:
        foreign.need("sfreq", "segment_seconds")
    assert samples is not None
    if coefficient_count(samples) != size:
        raise ValueError(
            f"{foreign.source}: the encoder reads {size} coefficients, a segment of {samples} samples has "
            f"{coefficient_count(samples)}: give the sfreq and segment_seconds of the training."
        )
    if samples != RELEASED_SAMPLES:
        foreign.need("segments")
    sfreq = float(foreign.given.get("sfreq", RELEASED[1]))
    block = names["block"]
    arguments = foreign.agree(
        sfreq=sfreq,
        segment_seconds=samples / sfreq,
        segments=foreign.given.get("segments", RELEASED[0]),
        d_model=d_model,
        layers=foreign.count(block),
        heads=heads,
        kv_heads=kv_heads,
        d_ff=foreign.size(block.format(0) + "mlp.gate_proj.weight", 0),
        positions=foreign.size(names["positions"], 0),
        max_channels=foreign.size(names["channels"], 0),
        generative=generative,
    )
    return arguments | {name: float(arguments[name]) for name in ("sfreq", "segment_seconds")}


def _backbone(foreign: Foreign, ours: str, names: dict[str, str], arguments: dict[str, Any]) -> None:
    foreign.use(f"{ours}encoder.norm.weight", names["encoder_norm"])
    foreign.use(f"{ours}encoder.out.weight", names["encoder_out"])
    foreign.use(f"{ours}time_table", names["positions"])
    foreign.use(f"{ours}channel_table", names["channels"])
    foreign.use(f"{ours}norm.weight", names["norm"])
    foreign.drop("seizure_embeddings", "nothing in training or inference reads it")
    for i in range(arguments["layers"]):
        mine, theirs = f"{ours}layers.{i}", names["block"].format(i)
        foreign.use(f"{mine}.norm.weight", f"{theirs}ln_1.weight")
        foreign.drop(f"{theirs}ln_2.weight", "never used")
        take_attention(foreign, f"{mine}.attention", f"{theirs}attn", arguments["kv_heads"])
        for name in ("gate", "up", "down"):
            foreign.use(f"{mine}.feedforward.{name}.weight", f"{theirs}mlp.{name}_proj.weight")


def _from_ibm(foreign: Foreign, prefix: str, other: str, merged: bool | None, alpha: float) -> Conversion:
    names = {
        "norm": f"{prefix}ln_f.weight",
        "block": f"{prefix}h.{{}}.",
        "encoder_norm": "encoder.ln.weight",
        "encoder_out": "encoder.proj.weight",
        "positions": f"{prefix}positional_embedding.weight",
        "channels": f"{prefix}channel_embedding.weight",
    }
    d_model = foreign.size(names["norm"], 0)
    lora = [key for key in foreign.state if ".lora_" in key]
    if other and not lora and not any(key.startswith(f"{other}head.") for key in foreign.state):
        raise ValueError(f"{foreign.source}: the second file has neither adapters (lora_*) nor head.head.weight.")
    if lora and not other and merged is None:
        raise ValueError(
            f"{foreign.source}: the file holds weights and adapters ({lora[0]}, ...), and no key tells whether the "
            "adapters were added into the weights already (a state dict taken in evaluation mode): pass "
            f"{messages.option('merged', True)} or {messages.option('merged', False)}."
        )
    classifier = bool(other or lora) or foreign.size("head.head.weight", 0) != d_model
    generative = not classifier or (bool(other) and "head.head.weight" in foreign)
    ours = "network." if classifier else ""
    arguments = _arguments(foreign, names, generative)
    _backbone(foreign, ours, names, arguments)
    if generative:
        foreign.use(f"{ours}head.weight", "head.head.weight")
    if not classifier:
        return foreign.finish(f"{MVPFormer.__module__}.MVPFormer", arguments)

    foreign.use("head.weight", f"{other}head.head.weight")
    foreign.drop(f"{other}class_loss.weight", "weights of the classes in the authors' loss")
    outputs = foreign.size(f"{other}head.head.weight", 0)
    rank, targets = 0, ["query", "value"]
    if lora and merged:
        for key in lora:
            foreign.drop(key, "added into the weights already, as you said")
    elif lora:
        values = arguments["kv_heads"] * (d_model // arguments["heads"])
        first = f"{other}{names['block'].format(0)}attn."
        rank = foreign.size(f"{first}q_attn.lora_A", 0)
        keys_too = foreign.size(f"{first}c_attn.lora_B", 0) == 2 * values
        targets = ["query", "key", "value"] if keys_too else targets
        for i in range(arguments["layers"]):
            mine, theirs = f"network.layers.{i}.attention", f"{other}{names['block'].format(i)}attn"
            for kind in ("lora_A", "lora_B"):
                foreign.use(f"{mine}.query.{kind}", f"{theirs}.q_attn.{kind}")
            for part, target in enumerate(targets[1:]):
                foreign.use(f"{mine}.{target}.lora_A", f"{theirs}.c_attn.lora_A")
                foreign.use(
                    f"{mine}.{target}.lora_B",
                    f"{theirs}.c_attn.lora_B",
                    (lambda b, part=part: b.chunk(2)[part]) if keys_too else None,
                )
    network = {"class_path": f"{MVPFormer.__module__}.MVPFormer", "init_args": arguments}
    return foreign.finish(
        CLASSIFIER,
        {"network": network, "outputs": outputs, "lora_rank": rank, "lora_alpha": alpha, "lora_targets": targets},
    )


def _from_braindecode(foreign: Foreign, classifier: bool) -> Conversion:
    names = {
        "norm": "ln_f.weight",
        "block": "blocks.{}.",
        "encoder_norm": "patch_embed.ln.weight",
        "encoder_out": "patch_embed.proj.weight",
        "positions": "positional_embedding.weight",
        "channels": "channel_embedding.weight",
    }
    if names["encoder_norm"] not in foreign:
        raise ValueError(
            f"{foreign.source}: no {names['encoder_norm']} among {len(foreign.state)} keys{_some(foreign.state)}, "
            "expected braindecode's MVPFormer."
        )
    arguments = _arguments(foreign, names, generative=False)
    _backbone(foreign, "network." if classifier else "", names, arguments)
    if not classifier:
        foreign.drop("final_layer.weight", "not trained, as you said")
        return foreign.finish(f"{MVPFormer.__module__}.MVPFormer", arguments)
    foreign.use("head.weight", "final_layer.weight")
    network = {"class_path": f"{MVPFormer.__module__}.MVPFormer", "init_args": arguments}
    outputs = foreign.size("final_layer.weight", 0)
    return foreign.finish(CLASSIFIER, {"network": network, "outputs": outputs})


class _Block(nn.Module):
    """Attention over the grid and a gated map of each token, side by side, both of one normalised input."""

    def __init__(
        self,
        d_model: int,
        heads: int,
        kv_heads: int,
        d_ff: int,
        window: int,
        index: Index,
        dropout: float,
        residual_dropout: float,
    ) -> None:
        super().__init__()
        self.norm = RMSNorm(d_model, eps=1e-5)
        self.attention = MVPAttention(
            d_model,
            heads,
            kv_heads,
            window=window,
            index=index,
            dropout=dropout,
            residual_dropout=residual_dropout,
        )
        self.feedforward = _SwiGLU(d_model, d_ff)

    def forward(
        self,
        hidden: Float[Tensor, "batch time channel d_model"],
        time_table: Float[Tensor, "row d_model"],
        channel_table: Float[Tensor, "channel_row d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None,
        observed: Bool[Tensor, "batch time channel"] | None,
    ) -> Float[Tensor, "batch time channel d_model"]:
        normed = self.norm(hidden)
        mixed = self.attention(normed, time_table, channel_table, channel_mask, key_mask=observed)
        return hidden + self.feedforward(normed) + mixed

    def last(
        self,
        hidden: Float[Tensor, "batch time channel d_model"],
        time_table: Float[Tensor, "row d_model"],
        channel_table: Float[Tensor, "channel_row d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None,
        observed: Bool[Tensor, "batch time channel"] | None,
        weights: list[Tensor] | None,
    ) -> Float[Tensor, "batch channel d_model"]:
        """Return the last step of `forward`."""
        normed = self.norm(hidden)
        mixed = self.attention.last(normed, time_table, channel_table, channel_mask, observed, weights)
        return hidden[:, -1] + self.feedforward(normed[:, -1]) + mixed


class _SwiGLU(nn.Module):
    """`down(silu(gate(x)) * up(x))`, no biases."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)
        for linear in (self.gate, self.up, self.down):
            nn.init.normal_(linear.weight, std=0.02)  # as the authors

    def forward(self, tokens: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.down(nn.functional.silu(self.gate(tokens)) * self.up(tokens))
