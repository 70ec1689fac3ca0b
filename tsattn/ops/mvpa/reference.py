"""Multi-variate parallel attention (MVPA), its definition: dense, slow, any dtype, any device.

Ours, from the description of MVPFormer (IBM/multi-variate-parallel-transformer). In float64 it is the oracle by which
the other two forms are judged; it imports neither. Memory grows with the square of the number of tokens.

Tokens stand on a grid of T time steps and C channels. A query at (t, c) reads a key at (t', c') with the logit

    scale * ( (q + u) · k[t', c']         content, 0 where it is out of the window
            + (q + v) · R[t - t']         time
            + (q + z) · Ch[|c - c'|] )    channel

A key out of the window keeps its time and channel terms and thereby its weight: the window limits content alone.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.ops.mvpa.problem import Inputs, Options, last_steps, padding


class MVPAMaps(NamedTuple):
    """What each query reads, and why: the softmax and the three terms of its logits, scaled.

    The last four axes are the query's time and channel and the key's time and channel. All four are 0 where a key must
    not be read; `content` is so out of the window, too.
    """

    weights: Float[Tensor, "batch head time channel time channel"]
    content: Float[Tensor, "batch head time channel time channel"]
    time: Float[Tensor, "batch head time channel time channel"]
    channel: Float[Tensor, "batch head time channel time channel"]


def mvpa_reference(
    inputs: Inputs, options: Options, multiplier: Float[Tensor, "batch head token token"] | None = None
) -> tuple[
    Float[Tensor, "batch head time channel size"],
    Float[Tensor, "batch head time channel"],
    MVPAMaps,
]:
    """Return the output, the log-sum-exp of every row (+inf where it may read nothing), and the maps.

    Args:
        inputs: Tensors; differentiable in all that are floating, any number of times.
        options: Numbers.
        multiplier: Factors of the softmax, applied after it: element dropout.
    """
    query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias, *masks = inputs
    channel_mask, time_mask, key_mask = masks
    window, causal, full_last, scale = options
    batch, heads, time, channels, size = query.shape
    group = heads // value.shape[1]
    tokens = time * channels
    step = torch.arange(tokens, device=query.device) // channels
    channel = torch.arange(tokens, device=query.device) % channels
    elapsed = step[:, None] - step[None, :]

    hidden = query.new_zeros(batch, 1, time, channels, dtype=torch.bool)  # padding
    padded = padding(channel_mask, time_mask)
    hidden = hidden if padded is None else hidden | padded
    unread = hidden if key_mask is None else hidden | ~key_mask[:, None]
    mask = ~hidden.flatten(2)[..., :, None] & ~unread.flatten(2)[..., None, :]  # (batch, 1, token, token): may be read
    if causal:
        mask = mask & (elapsed >= 0)

    within = elapsed.abs() <= window
    if full_last:
        last = query.new_full((batch,), time - 1, dtype=torch.long) if time_mask is None else last_steps(time_mask)
        within = within | (step[None, :, None] == last[:, None, None])
    within = within.expand(batch, tokens, tokens)[:, None]

    # What stands in masked tokens may be anything, NaN included, so it is replaced before it is multiplied by anything.
    q = query.masked_fill(hidden[..., None], 0).flatten(2, 3)
    v = value.masked_fill(unread[..., None], 0).repeat_interleave(group, 1).flatten(2, 3)
    r = time_key.repeat_interleave(group, 1)
    ch = channel_key.repeat_interleave(group, 1)

    if key is None:
        content = q.new_zeros(batch, heads, tokens, tokens)
    else:
        k = key.masked_fill(unread[..., None], 0).repeat_interleave(group, 1).flatten(2, 3)
        content = (q + content_bias[:, None]) @ k.transpose(-1, -2) * scale
        content = content.masked_fill(~(within & mask), 0)
    row = elapsed.clamp(min=0) if causal else elapsed + time - 1
    by_time = ((q + time_bias[:, None]) @ r.transpose(-1, -2) * scale).gather(-1, row.expand_as(content))
    row = (channel[:, None] - channel[None, :]).abs()
    by_channel = ((q + channel_bias[:, None]) @ ch.transpose(-1, -2) * scale).gather(-1, row.expand_as(content))

    logits = (content + by_time + by_channel).masked_fill(~mask, float("-inf"))
    empty = ~mask.any(-1, keepdim=True)  # a row that may read nothing
    weights = logits.masked_fill(empty, 0).softmax(-1).masked_fill(~mask, 0)
    lse = logits.logsumexp(-1).masked_fill(empty[..., 0], float("inf"))
    out = (weights if multiplier is None else weights * multiplier) @ v
    out = out.masked_fill(hidden.flatten(2)[..., None], 0)  # 0 already, but now nothing that comes back gets in

    grid = (batch, heads, time, channels)
    terms = (weights, content, by_time.masked_fill(~mask, 0), by_channel.masked_fill(~mask, 0))
    maps = MVPAMaps(*(x.unflatten(3, grid[2:4]).unflatten(2, grid[2:4]) for x in terms))
    return out.view(*grid, size), lse.view(grid), maps
