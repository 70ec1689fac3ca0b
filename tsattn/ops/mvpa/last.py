"""Multi-variate parallel attention of the last step alone: what a classifier reads, and what it looks at.

Ours; what it computes is said in `reference.py`. The queries of one step are C rows against T * C keys, few enough to
be dense: one product for content, and two tables of T and of C numbers a row that are added to it.
"""

import contextlib

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.ops.mvpa.dropout import structured_dropout, uniform
from tsattn.ops.mvpa.problem import DropoutKind, Inputs, check_choices, check_masks, check_tensors, last_steps


def mvpa_last(
    query: Float[Tensor, "batch head channel size"],
    key: Float[Tensor, "batch kv_head time channel size"] | None,
    value: Float[Tensor, "batch kv_head time channel size"],
    time_key: Float[Tensor, "#batch kv_head time size"],
    channel_key: Float[Tensor, "#batch kv_head channel size"],
    *,
    content_bias: Float[Tensor, "bias_head size"] | None = None,
    time_bias: Float[Tensor, "bias_head size"] | None = None,
    channel_bias: Float[Tensor, "bias_head size"] | None = None,
    window: int | None = 10,
    full_last: bool = True,
    channel_mask: Bool[Tensor, "batch channel"] | None = None,
    time_mask: Bool[Tensor, "batch time"] | None = None,
    key_mask: Bool[Tensor, "batch time channel"] | None = None,
    dropout_p: float = 0.0,
    dropout: DropoutKind = "sample",
    training: bool = True,
    generator: torch.Generator | None = None,
    scale: float | None = None,
    return_weights: bool = False,
) -> (
    Float[Tensor, "batch head channel size"]
    | tuple[Float[Tensor, "batch head channel size"], Float[Tensor, "batch head channel time channel"]]
):
    """Return what `mvpa_attention` does at each sample's last real step, and nothing else of it.

    Causal. All arguments but these mean what they do there. There is one form, dense in these rows: some tensors
    of (B, H, C, T, C) in float32 or float64 are alive at once. Derivatives are those of plain autograd, of any order.

    Args:
        query: Queries of the last step; with `time_mask`, of each sample's own last real step, from which elapsed time
            is counted.
        key: As there.
        value: As there.
        time_key: Row t is the key of t steps ago; T rows.
        channel_key: As there.
        content_bias: As there.
        time_bias: As there.
        channel_bias: As there.
        window: Largest number of steps back with a content term; None for all. Of no effect with `full_last`.
        full_last: Whether content is read over the whole past.
        channel_mask: As there.
        time_mask: As there.
        key_mask: As there.
        dropout_p: As there.
        dropout: As there; "sample" and "call" drop the same steps and channels as `mvpa_attention` with a generator in
            the same state, "element" draws for these rows alone, so other weights than there.
        training: As there.
        generator: As there.
        scale: As there.
        return_weights: Also return the softmax weights, before dropout.

    Returns:
        (B, H, C, size) in the type of `query` (under autocast, in autocast's type). With `return_weights` a pair of it
        and the weights by query channel, key step and key channel, (B, H, C, T, C), in float32 or float64: each row
        sums to 1; those of padding and of queries that may read nothing are 0.

    Raises:
        ValueError: If shapes, types or masks do not fit, or a sample is all padding (masks are read for it, so a GPU is
            waited for; not seen when compiled).

    Source:
        See `mvpa_attention`. That MVPFormer's classifier reads the last segment: Carzaniga et al. (2025).
    """
    kind = query.device.type if isinstance(query, Tensor) else "cpu"
    biases = dict(content_bias=content_bias, time_bias=time_bias, channel_bias=channel_bias)
    masks = dict(channel_mask=channel_mask, time_mask=time_mask, key_mask=key_mask)
    if not (isinstance(query, Tensor) and isinstance(value, Tensor) and (query.ndim, value.ndim) == (4, 5)):
        found = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in (query, value)]
        raise ValueError(
            f"query is {found[0]} and value {found[1]}, expected (batch, head, channel, size), of the last step alone, "
            "and (batch, kv head, time, channel, size)."
        )
    autocast = kind != "meta" and torch.is_autocast_enabled(kind) and query.dtype != torch.float64
    check_choices(window, scale, dropout_p, dropout, "reference")
    grid = query[:, :, None].expand(-1, -1, value.shape[2], -1, -1)
    check_tensors(grid, key, value, time_key, channel_key, biases, masks, True, autocast)
    if generator is not None and generator.device != query.device:
        raise ValueError(f"generator is on {generator.device}, expected {query.device} as query.")
    if autocast:
        half = torch.get_autocast_dtype(kind)
        query, value, time_key, channel_key = (x.to(half) for x in (query, value, time_key, channel_key))
        key = None if key is None else key.to(half)
    no_bias = query.new_zeros(value.shape[1], query.shape[-1])
    u, v, z = (no_bias if bias is None else bias for bias in biases.values())
    p = dropout_p if training else 0.0
    if p > 0 and dropout != "element":
        value = structured_dropout(value, p, dropout, generator)
    inputs = Inputs(query, key, value, time_key, channel_key, u, v, z, **masks)
    if not torch.compiler.is_compiling():
        check_masks(inputs)
    window = None if full_last else window
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(kind, enabled=False) if autocast else contextlib.nullcontext():
        out, weights, blank = _attend(inputs, window, scale, p if dropout == "element" else 0.0, generator)
    if not return_weights:
        return out
    return out, weights if blank is None else weights.masked_fill(blank[..., None], 0)


def _attend(
    inputs: Inputs, window: int | None, scale: float, p: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, the weights, and the rows (b, 1, C, 1) whose weights are to be taken for 0.

    Args:
        inputs: As anywhere, but for the query, (B, H, C, d), and biases with H or Hk rows.
        window: Largest distance with a content term, None for all.
        scale: Factor of the logits.
        p: Probability of element dropout.
        generator: For element dropout.
    """
    query, key, value, time_key, channel_key, *biases, channel_mask, time_mask, key_mask = inputs
    kv_heads, time, channels = value.shape[1:4]
    work = torch.float64 if query.dtype == torch.float64 else torch.float32
    channel, step = (torch.arange(count, device=query.device) for count in (channels, time))
    last = time - 1 if time_mask is None else last_steps(time_mask)[:, None]
    elapsed = (last - step[None]) % time  # (1 or B, T); a step after the last one takes a row that no other step does

    hidden, blank = None, None  # (B, T or 1, C or 1) where no key is to be read; (B, 1, C or 1, 1) where no query is
    for real in (
        key_mask,
        None if time_mask is None else time_mask[:, :, None],
        None if channel_mask is None else channel_mask[:, None],
    ):
        if real is not None:
            hidden = ~real if hidden is None else hidden | ~real
    if hidden is not None:
        nothing = hidden.flatten(1).all(1)[:, None, None]
        blank = nothing[..., None] if channel_mask is None else (nothing | ~channel_mask[:, None])[..., None]

    # What stands in masked tokens may be anything, NaN included, so it is replaced before it is multiplied by anything.
    if blank is not None:
        query = query.masked_fill(blank, 0)
    if hidden is not None:
        value = value.masked_fill(hidden[:, None, ..., None], 0)
    grouped = query.to(work).unflatten(1, (kv_heads, -1))  # (B, Hk, g, C, d)
    content_query, time_query, channel_query = (
        ((grouped + bias.to(work).unflatten(0, (kv_heads, -1))[:, :, None]) * scale).flatten(2, 3) for bias in biases
    )  # (B, Hk, g * C, d)

    by_time = time_query @ time_key.to(work).mT
    by_time = by_time.gather(-1, elapsed[:, None, None].expand_as(by_time))
    by_channel = (channel_query @ channel_key.to(work).mT).unflatten(2, (-1, channels))
    by_channel = by_channel.gather(-1, (channel[:, None] - channel).abs().expand_as(by_channel)).flatten(2, 3)
    logits = by_time[..., :, None] + by_channel[..., None, :]  # (B, Hk, g * C, T, C)
    if key is not None:
        unread = hidden
        if window is not None:
            beyond = (elapsed > window)[..., None]
            unread = beyond if unread is None else unread | beyond
        if unread is not None:
            key = key.masked_fill(unread[:, None, ..., None], 0)
        content = (content_query.flatten(0, 1), key.to(work).flatten(2, 3).flatten(0, 1).mT)
        logits = torch.baddbmm(logits.flatten(3).flatten(0, 1), *content).view(logits.shape)
    if hidden is not None:
        logits.masked_fill_((hidden & ~nothing)[:, None, None], float("-inf"))
    weights = logits.flatten(3).softmax(-1)  # (B, Hk, g * C, T * C)

    kept = weights
    if p > 0:
        kept = (weights * (1 / (1 - p))).masked_fill(uniform(weights.shape, query.device, generator) < p, 0)
    out = (kept @ value.to(work).flatten(2, 3)).view(query.shape).to(query.dtype)
    if blank is not None:
        out = out.masked_fill(blank, 0)
    return out, weights.view(*query.shape[:3], time, channels), blank
