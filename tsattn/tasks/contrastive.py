"""The objective of MVPFormer's pre-training: tell the next segment's token from others (Carzaniga et al., 2025).

Ours, from a description of IBM/multi-variate-parallel-transformer. A prediction is compared by cosine with the token of
the segment that follows and with some others, the negatives; the loss is the cross entropy of choosing the right one.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Objective = Literal["reference", "corrected"]
EPSILON = 1e-8  # least length of a vector in a cosine
SAME = (1e-8, 1e-5)  # absolute and relative distance below which a negative is the positive
AT_ONCE = 2**25  # numbers that are gathered at once


class Contrast(NamedTuple):
    """What a batch gave.

    Attributes:
        loss: Mean over the rows that count.
        accuracy: Share of them whose positive has the largest logit.
        logits: Of each row of `(batch, segment - 1, channel)`; the positive first; -inf for what is left out.
        counted: Which rows count.
    """

    loss: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]
    logits: Float[Tensor, "row candidate"]
    counted: Bool[Tensor, " row"]


def draw_reference(
    shape: tuple[int, int, int], count: int, device: torch.device, generator: torch.Generator | None = None
) -> Int[Tensor, "batch segment channel negative"]:
    """Draw negatives as the authors do: tokens of the last row of a batch (almost) never are, padding may be.

    Args:
        shape: Batch, segments, channels.
        count: Negatives of a token.
        device: Of the result.
        generator: For the draw.

    Returns:
        Places in the flattened tokens.

    Raises:
        ValueError: If the batch has one row, for which their range is empty.
    """
    batch, segments, channels = shape
    if batch < 2:
        raise ValueError(
            "objective='reference' takes negatives from all rows but the last, and the batch has 1: pass "
            "objective='corrected', or batch_size 2 or more."
        )
    own = torch.arange(batch * segments * channels, device=device).view(*shape, 1)
    drawn = torch.randint(0, (batch - 1) * segments * channels, (*shape, count), device=device, generator=generator)
    return drawn + (drawn >= own)


def draw_corrected(
    real: Bool[Tensor, "batch segment channel"], count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "batch segment channel negative"]:
    """Draw negatives from all real tokens of the batch but the own one: every row, other subjects where there are some.

    Args:
        real: False for tokens that must not be drawn: padded channels, segments that were not recorded.
        count: Negatives of a token.
        generator: For the draw.

    Returns:
        Places in the flattened tokens; those of tokens that are not real mean nothing.

    Raises:
        ValueError: If fewer than two tokens are real.
    """
    flat = real.flatten()
    places = flat.nonzero()[:, 0]
    if len(real) and len(places) < 2:
        raise ValueError(f"The batch has {len(places)} recorded segments, expected at least 2 to tell apart.")
    rank = (flat.cumsum(0) - 1).clamp(min=0).view(*real.shape, 1)  # of each real token among the real ones
    drawn = torch.randint(0, max(1, len(places) - 1), (*real.shape, count), device=real.device, generator=generator)
    return places[drawn + (drawn >= rank)]


def contrast(
    prediction: Float[Tensor, "batch segment channel d_model"],
    tokens: Float[Tensor, "batch segment channel d_model"],
    negatives: Int[Tensor, "batch segment channel negative"],
    temperature: float = 0.1,
    real: Bool[Tensor, "batch segment channel"] | None = None,
) -> Contrast:
    """Compare the predictions of all segments but the last with the tokens of the segments that follow.

    Positives carry a gradient, so that the encoder is trained through its targets, too; negatives do not. A negative
    that equals the positive is left out.

    Args:
        prediction: Of the segment after each one; the last one is not read.
        tokens: Of `SegmentNetwork.encode`.
        negatives: Places in the flattened tokens, for the token that is to be found (not for the one that predicts).
        temperature: Of the cosine.
        real: False for tokens that are not there: neither they nor what should predict them, or is predicted from
            them, counts.
    """
    size = prediction.shape[-1]
    with torch.autocast(prediction.device.type, enabled=False):
        query = F.normalize(prediction[:, :-1].reshape(-1, size).float(), dim=-1, eps=EPSILON)
        positive = tokens[:, 1:].reshape(-1, size).float()
        table = tokens.detach().reshape(-1, size).float()
        places = negatives[:, 1:].flatten(0, 2)
        step = max(1, AT_ONCE // (places.shape[1] * size))
        right = (query * F.normalize(positive, dim=-1, eps=EPSILON)).sum(-1)
        pieces = zip(query.split(step), positive.detach().split(step), places.split(step), strict=True)
        if len(query) <= step:
            others = _cosines(query, positive.detach(), table, places)
        else:  # in pieces that are computed again in the backward pass: the negatives of all rows are gigabytes
            others = torch.cat([checkpoint(_cosines, q, p, table, i, use_reentrant=False) for q, p, i in pieces])
        logits = torch.cat([right[:, None], others], 1) / temperature
    counted = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if real is not None:
        counted = (real[:, 1:] & real[:, :-1]).flatten()
    each = -logits.log_softmax(-1)[:, 0]
    number = counted.sum().clamp(min=1)
    loss = torch.where(counted, each, 0).sum() / number
    found = (logits.argmax(-1) == 0) & counted
    return Contrast(loss, found.sum() / number, logits, counted)


def _cosines(query: Tensor, positive: Tensor, table: Tensor, places: Tensor) -> Tensor:
    """Cosines of each query, a unit vector, with its negatives; -inf where a negative is the positive."""
    negative = table[places]
    near = SAME[0] + SAME[1] * positive.norm(dim=-1, keepdim=True)
    same = (negative - positive[:, None]).square().sum(-1) < near.square()
    length = table.norm(dim=-1).clamp(min=EPSILON)[places]
    return (torch.bmm(negative, query[:, :, None])[..., 0] / length).masked_fill(same, float("-inf"))
