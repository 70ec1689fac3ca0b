"""From a recording network to a class for each window: pooling and a linear map on top, adapters inside.

Ours. "mean" is MVPFormer's way (Carzaniga et al., 2025): the mean over channels of the last segment. "attentive" pools
with learned queries over channels and segments (attentive probing, as V-JEPA, Bardes et al., 2024, and REVE, 2025).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.contracts import Network, SegmentNetwork, SignalSpec
from tsattn.layers.lora import add_adapters, merge_adapters

Pooling = Literal["mean", "attentive"]


class SegmentClassifier(Network):
    """A recording network with a head; says of each window which class its last segment is of.

    Args:
        network: What reads the recordings.
        outputs: Classes; class 1 is the seizure.
        pooling: "mean" over the last segment's channels, or "attentive" over all channels and segments.
        queries: Of attentive pooling.
        lora_rank: Of adapters inside the network, which is frozen then; 0 for none.
        lora_alpha: Scale of the adapters, times rank.
        lora_targets: Which linear maps have one, by the ends of their names.

    Raises:
        ValueError: If a number or a word has no sense, or a target is not there.
    """

    spec_type = SignalSpec

    def __init__(
        self,
        network: SegmentNetwork,
        outputs: int = 2,
        pooling: Pooling = "mean",
        queries: int = 4,
        lora_rank: int = 0,
        lora_alpha: float = 16.0,
        lora_targets: Sequence[str] = ("query", "value"),
    ) -> None:
        super().__init__()
        if outputs < 2:
            raise ValueError(f"outputs is {outputs}, expected at least 2 classes.")
        if pooling not in ("mean", "attentive"):
            raise ValueError(f"pooling is {pooling!r}, expected mean or attentive.")
        self.network = network
        self.pooling = pooling
        self.pool = AttentivePool(network.d_model, queries) if pooling == "attentive" else None
        self.head = nn.Linear(network.d_model, outputs, bias=False)
        if network.head is not None:
            network.head.requires_grad_(False)  # nothing here reads it
        if lora_rank:
            add_adapters(network, tuple(lora_targets), lora_rank, lora_alpha)

    def forward(
        self,
        signal: Float[Tensor, "batch segment channel time"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Return the logits of each window.

        Args:
            signal: In microvolts.
            channel_mask: False for a channel that a recording does not have.
            observed: False for a segment that was not recorded.
        """
        return self.classify(self.network.encode(signal), channel_mask, observed)

    def classify(
        self,
        tokens: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Return the logits of windows whose segments are encoded already.

        Args:
            tokens: Of `SegmentNetwork.encode`.
            channel_mask: As in `forward`.
            observed: As in `forward`.
            weights: A list for each layer's attention, see `SegmentNetwork.mix_last`.
        """
        if self.pool is not None:
            if weights is not None:
                self.network.mix_last(tokens, channel_mask, observed, weights)
            return self.head(self.pool(self.network.mix(tokens, channel_mask, observed), channel_mask, observed))
        last = self.network.mix_last(tokens, channel_mask, observed, weights)
        if channel_mask is None and observed is None:
            return self.head(last.mean(1))
        kept = last.new_ones(last.shape[:2], dtype=torch.bool) if channel_mask is None else channel_mask
        kept = kept if observed is None else kept & observed[:, -1]
        total = torch.where(kept[..., None], last, 0).sum(1)
        return self.head(total / kept.sum(1, keepdim=True).clamp(min=1))

    def merged(self) -> "SegmentClassifier":
        """Return this classifier without adapters, which are added into its maps; this one is used up.

        Everything is trainable then, as in a new classifier without adapters.
        """
        arguments = {**self.recipe["init_args"], "network": self.network, "lora_rank": 0}
        merge_adapters(self.network)
        self.requires_grad_(True)
        plain = SegmentClassifier(**arguments)
        plain.pool, plain.head = self.pool, self.head
        return plain.train(self.training)


def answered(
    observed: Bool[Tensor, "batch segment channel"],
    gaps: str,
    channel_mask: Bool[Tensor, "batch channel"] | None = None,
) -> Bool[Tensor, " batch"]:
    """Return for which windows there is an answer.

    Args:
        observed: False for a segment that was not recorded.
        gaps: "drop": a window has none if a segment was not recorded in any channel. "mask": it has none if less than
            half of it was recorded, or nothing of its last segment.
        channel_mask: False for a channel that a recording does not have.
    """
    real = torch.ones_like(observed[:, 0]) if channel_mask is None else channel_mask
    seen = observed & real[:, None]
    recorded = seen.any(-1)
    if gaps == "drop":
        return recorded.all(-1)
    whole = real.sum(1).clamp(min=1) * observed.shape[1]
    return (seen.sum((1, 2)) >= 0.5 * whole) & recorded[:, -1]


class AttentivePool(nn.Module):
    """One vector of all tokens: some learned queries read them, and their answers are averaged through a map.

    Args:
        d_model: Length of a token.
        queries: How many.
    """

    def __init__(self, d_model: int, queries: int) -> None:
        super().__init__()
        if queries < 1:
            raise ValueError(f"queries is {queries}, expected at least 1.")
        self.queries = nn.Parameter(torch.randn(queries, d_model) / math.sqrt(d_model))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(queries * d_model, d_model, bias=False)

    def forward(
        self,
        hidden: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
    ) -> Float[Tensor, "batch d_model"]:
        """Pool; what is masked is not read."""
        kept = None
        if channel_mask is not None or observed is not None:
            kept = hidden.new_ones(hidden.shape[:3], dtype=torch.bool)
            kept = kept if channel_mask is None else kept & channel_mask[:, None]
            kept = (kept if observed is None else kept & observed).flatten(1)
        tokens = hidden.flatten(1, 2)
        if kept is not None:
            tokens = tokens.masked_fill(~kept[..., None], 0)  # whatever stands there: 0 times NaN is NaN
        logits = self.queries @ self.key(tokens).transpose(1, 2) / math.sqrt(tokens.shape[-1])
        if kept is not None:
            logits = logits.masked_fill(~kept[:, None], torch.finfo(logits.dtype).min)
        return self.out((logits.softmax(-1) @ self.value(tokens)).flatten(1))
