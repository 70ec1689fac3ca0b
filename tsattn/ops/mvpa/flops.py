"""Useful floating-point operations of MVPA: importing this tells `torch.utils.flop_counter.FlopCounterMode` of them.

Ours. A file of its own because torch's counter imports Triton. Counted is what the factorised form has to do (see
`factorised.py` and `kernel.py`), a multiply-add as two; masks are not subtracted, so a ratio to time is honest without
padding only.
"""

import torch
from torch.utils.flop_counter import register_flop_formula

from tsattn.ops.mvpa import registration as _registration  # noqa: F401  the operators must exist


def pairs(time: int, window: int, causal: bool, full_last: bool) -> tuple[int, int]:
    """Return how many (query step, key step) pairs there are, and how many of them have a content term."""
    total = content = 0
    for t in range(time):
        keys = t + 1 if causal else time
        near = min(keys, t + window + 1) - max(0, t - window)
        total += keys
        content += keys if full_last and t == time - 1 else near
    return total, content


def _useful(query, key, window, causal, full_last, near: int, far: int, bias: int) -> int:
    """Count `near` products for a pair in the window, `far` for another, `bias` for a query and a step or channel."""
    batch, heads, time, channels, size = query
    total, content = (
        pairs(time, window, causal, full_last) if key is not None else (pairs(time, time, causal, False)[0], 0)
    )
    each = 2 * size * batch * heads
    of_pairs = (near * content + far * (total - content)) * channels * channels
    return each * (of_pairs + bias * channels * (total + time * channels))


@register_flop_formula(torch.ops.tsattn.mvpa_forward)
def forward_flops(
    query, key, value, time_key, channel_key, u, v, z, cm, tm, km, window, causal, full_last, *_, **__
) -> int:
    """Count the useful floating-point operations of the forward pass (masks are not subtracted)."""
    return _useful(query, key, window, causal, full_last, near=2, far=1, bias=1)


@register_flop_formula(torch.ops.tsattn.mvpa_backward)
def backward_flops(
    grad, out, lse, query, key, value, time_key, channel_key, u, v, z, cm, tm, km, window, causal, full_last, *_, **__
) -> int:
    """Count those of the backward pass: 5 products for a pair in the window, 2 for another."""
    return _useful(query, key, window, causal, full_last, near=5, far=2, bias=3)
