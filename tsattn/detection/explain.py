"""Why a window was called what it was: what the last segment read, and what the answer is without a part of that.

Ours. The mass is the exact softmax of the layers (`SegmentNetwork.mix_last`), its marginals over query channels and
heads; attention says what was read, not what the answer is due to (Jain and Wallace, 2019, arXiv:1902.10186), so terms
and channels are also left out and the network is asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.mvpa import MVPAttention

TERMS = {"content": "key", "time": "time_key", "channel": "channel_key"}  # the map whose keys a term is a product with
SEIZURE_CLASS = 1


@dataclass(frozen=True, eq=False)
class Explanation:
    """Of one window.

    Attributes:
        channels: Names.
        mass: Share of the attention of the last segment that each earlier segment and channel got; see
            `attention_mass`.
        probability: Of a seizure, as it is and without each term; see `probability_without`.
        segment_seconds: Length of a segment.
        begin: Of the window, seconds from the recording's start.
        occlusion: Of a seizure, without each channel, if that was asked for; see `probability_without_channel`.
    """

    channels: tuple[str, ...]
    mass: Float[Tensor, "layer segment channel"]
    probability: dict[str, float]
    segment_seconds: float
    begin: float = 0.0
    occlusion: Float[Tensor, " channel"] | None = None

    def __post_init__(self) -> None:
        if len(self.channels) != self.mass.shape[-1]:
            raise ValueError(f"{len(self.channels)} names for {self.mass.shape[-1]} channels, expected one each.")

    @property
    def end(self) -> float:
        """Of the window, seconds from the recording's start."""
        return self.begin + self.mass.shape[1] * self.segment_seconds

    @property
    def by_channel(self) -> dict[str, float]:
        """Share of attention of each channel, mean over layers, largest first; sums to 1."""
        mass = dict(zip(self.channels, self.mass.mean(0).sum(0).tolist(), strict=True))
        return dict(sorted(mass.items(), key=lambda one: -one[1]))

    def to_xarray(self) -> xr.Dataset:
        """Return labelled arrays.

        Returns:
            `mass` (layer, segment, channel), `probability` (term, "whole" among them: without which term) and, if it
            was asked for, `occlusion` (channel). `segment` is where a segment begins, in seconds before the window's
            end, negative. The attribute `begin` is the window's, in seconds from the recording's start.
        """
        layers, segments, _ = self.mass.shape
        place = [(i - segments) * self.segment_seconds for i in range(segments)]
        data: dict[str, Any] = {
            "mass": (("layer", "segment", "channel"), self.mass.detach().cpu().numpy()),
            "probability": ("term", list(self.probability.values())),
        }
        if self.occlusion is not None:
            data["occlusion"] = ("channel", self.occlusion.detach().cpu().numpy())
        coords = {
            "layer": range(layers),
            "segment": ("segment", place, {"units": "s"}),
            "channel": list(self.channels),
            "term": list(self.probability),
        }
        attrs = {"begin": self.begin, "segment_seconds": self.segment_seconds}
        return xr.Dataset(data, coords, attrs)


def explain_window(
    classifier: SegmentClassifier,
    tokens: Float[Tensor, "1 segment channel d_model"],
    names: Sequence[str],
    *,
    begin: float = 0.0,
    channel_mask: Bool[Tensor, "1 channel"] | None = None,
    observed: Bool[Tensor, "1 segment channel"] | None = None,
    occlusion: bool = False,
) -> Explanation:
    """Explain the answer for one window.

    Args:
        classifier: In evaluation mode.
        tokens: Of `SegmentNetwork.encode`.
        names: Of the channels that are there, in their order.
        begin: Of the window, seconds from the recording's start.
        channel_mask: False for a channel that the recording does not have; it is not in the result.
        observed: False for a segment that was not recorded.
        occlusion: Whether the network is asked again without each channel; as many readings of it as channels.

    Raises:
        ValueError: If there is not one name for each channel, or as in `attention_mass`.
    """
    real = slice(None) if channel_mask is None else channel_mask[0]
    count = tokens.shape[2] if channel_mask is None else int(channel_mask.sum())
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} channels, expected one for each that the recording has.")
    without = probability_without_channel(classifier, tokens, channel_mask, observed)[real] if occlusion else None
    return Explanation(
        tuple(names),
        attention_mass(classifier, tokens, channel_mask, observed)[..., real],
        probability_without(classifier, tokens, channel_mask, observed),
        classifier.network.segment_seconds,
        begin,
        without,
    )


def joined(explanations: Sequence[Explanation]) -> Explanation:
    """Return one explanation of several readings of a window, of different channels: shares of the whole, and means."""
    first, count = explanations[0], len(explanations)
    if count == 1:
        return first
    occlusion = [one.occlusion for one in explanations]
    return Explanation(
        tuple(name for one in explanations for name in one.channels),
        torch.cat([one.mass / count for one in explanations], -1),
        {term: sum(one.probability[term] for one in explanations) / count for term in first.probability},
        first.segment_seconds,
        first.begin,
        torch.cat([x for x in occlusion if x is not None]) if all(x is not None for x in occlusion) else None,
    )


@torch.no_grad()
def attention_mass(
    classifier: SegmentClassifier,
    tokens: Float[Tensor, "1 segment channel d_model"],
    channel_mask: Bool[Tensor, "1 channel"] | None = None,
    observed: Bool[Tensor, "1 segment channel"] | None = None,
) -> Float[Tensor, "layer segment channel"]:
    """Return whom the last segment reads in each layer: the mean of its softmax over heads and over its channels.

    Of the last segment's channels those count that are there and were recorded: the ones that "mean" pooling averages.
    Each layer sums to 1. No layer's map of all tokens by all tokens is made.

    Args:
        classifier: In evaluation mode.
        tokens: Of `SegmentNetwork.encode`.
        channel_mask: False for a channel that the recording does not have.
        observed: False for a segment that was not recorded.

    Raises:
        ValueError: If the classifier is in training mode, or nothing was recorded in the last segment.
    """
    _refuse_training(classifier)
    asking = tokens.new_ones(tokens.shape[2], dtype=torch.bool)
    for mask in (channel_mask, None if observed is None else observed[:, -1]):
        asking = asking if mask is None else asking & mask[0]
    if not asking.any():
        raise ValueError("No channel was recorded in the window's last segment: there is no answer to explain.")
    marginals = _Marginals(asking)
    classifier.classify(tokens, channel_mask, observed, weights=marginals)
    return torch.stack(marginals)


@torch.no_grad()
def probability_without(
    classifier: SegmentClassifier,
    tokens: Float[Tensor, "1 segment channel d_model"],
    channel_mask: Bool[Tensor, "1 channel"] | None = None,
    observed: Bool[Tensor, "1 segment channel"] | None = None,
) -> dict[str, float]:
    """Return the seizure probability as it is ("whole"), and with one term of all attention left out.

    The logits of multi-variate parallel attention are sums of a content, a time and a channel term, each a product with
    keys of its own; with the map to these keys at zero, adapters included, the term is zero, biases included. A network
    without content terms gives the same with and "without" them.

    Args:
        classifier: In evaluation mode.
        tokens: See `attention_mass`, and so for the masks.
        channel_mask: See there.
        observed: See there.

    Returns:
        By "whole", "content", "time", "channel".

    Raises:
        ValueError: If the classifier is in training mode, or has no attention of this kind.
    """
    _refuse_training(classifier)
    caller = _Classify(classifier)
    layers = {name: module for name, module in caller.named_modules() if isinstance(module, MVPAttention)}
    if not layers:
        raise ValueError("The classifier has no MVPAttention, whose terms could be left out.")
    arguments = (tokens, channel_mask, observed)
    found = {"whole": _seizure(caller(*arguments)).item()}
    for term, attribute in TERMS.items():
        zeros = {
            f"{name}.{attribute}.{parameter}": torch.zeros_like(value)
            for name, layer in layers.items()
            if getattr(layer, attribute) is not None
            for parameter, value in getattr(layer, attribute).named_parameters()
        }
        found[term] = _seizure(functional_call(caller, zeros, arguments)).item()
    return found


@torch.no_grad()
def probability_without_channel(
    classifier: SegmentClassifier,
    tokens: Float[Tensor, "1 segment channel d_model"],
    channel_mask: Bool[Tensor, "1 channel"] | None = None,
    observed: Bool[Tensor, "1 segment channel"] | None = None,
    *,
    at_once: int = 4,
) -> Float[Tensor, " channel"]:
    """Return the seizure probability with one channel hidden: nobody reads it, and the answer is pooled without it.

    It keeps its place, so distances between the others stay as they are.

    Args:
        classifier: In evaluation mode.
        tokens: See `attention_mass`, and so for the masks.
        channel_mask: See there.
        observed: See there.
        at_once: Channels that are asked about in one call.

    Returns:
        By the channel that was hidden; NaN for one that the recording does not have, and where nothing of the last
        segment is left.

    Raises:
        ValueError: If the classifier is in training mode.
    """
    _refuse_training(classifier)
    channels = tokens.shape[2]
    whole = tokens.new_ones(tokens.shape[:3], dtype=torch.bool) if observed is None else observed
    there = whole.new_ones(1, channels) if channel_mask is None else channel_mask
    found = []
    for hidden in torch.arange(channels, device=tokens.device).split(at_once):
        rows = len(hidden)
        left = whole.repeat(rows, 1, 1)
        left[torch.arange(rows, device=tokens.device), :, hidden] = False
        logits = classifier.classify(tokens.expand(rows, -1, -1, -1), there.expand(rows, -1), left)
        known = there[0, hidden] & (left[:, -1] & there).any(-1)
        found.append(_seizure(logits).masked_fill(~known, torch.nan))
    return torch.cat(found)


class _Marginals(list[Tensor]):
    """Takes in each layer's weights and keeps their mean alone: the weights of 128 channels are 25 MB a layer.

    Args:
        asking: Channels whose queries count.
    """

    def __init__(self, asking: Bool[Tensor, " channel"]) -> None:
        super().__init__()
        self.asking = asking

    def append(self, weights: Tensor) -> None:
        super().append(weights[0][:, self.asking].mean((0, 1)))


class _Classify(nn.Module):
    """`functional_call` calls modules, and what is to be called is a method."""

    def __init__(self, classifier: SegmentClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, tokens: Tensor, channel_mask: Tensor | None, observed: Tensor | None) -> Tensor:
        return self.classifier.classify(tokens, channel_mask, observed)


def _seizure(logits: Float[Tensor, "batch class"]) -> Float[Tensor, " batch"]:
    return logits.double().softmax(-1)[:, SEIZURE_CLASS]


def _refuse_training(classifier: SegmentClassifier) -> None:
    if any(module.training for module in classifier.modules()):
        raise ValueError("The classifier is in training mode, where chance drops what is read: call eval() first.")
