"""Structured dropout of MVPA: whole steps and whole channels of keys.

Ours, from a description of MVPFormer's flash path (IBM/multi-variate-parallel-transformer).
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def structured_dropout(
    value: Float[Tensor, "batch kv_head time channel size"],
    p: float,
    per: Literal["sample", "call"] = "sample",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch kv_head time channel size"]:
    """Drop whole steps and whole channels: a weight survives if both of its key's do, and is divided by 1 - p.

    What is dropped depends on the key alone, so it is the values that are multiplied, and attention itself never hears
    of it.

    Args:
        value: Values of all tokens.
        p: Probability that a token is dropped; a step or channel is with 1 - sqrt(1 - p).
        per: "sample" draws for each sample, "call" once.
        generator: On the device of `value`.

    Source:
        The flash path of MVPFormer, which draws the channels first, then the steps, once per call.
    """
    batch, _, time, channels, _ = value.shape
    draws = batch if per == "sample" else 1
    keep = math.sqrt(1 - p)
    of_channel = uniform((draws, 1, 1, channels, 1), value.device, generator) < keep
    of_time = uniform((draws, 1, time, 1, 1), value.device, generator) < keep
    return drop(value, of_time, of_channel, p)


def uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1). `torch.compile` with dynamic shapes cannot trace a generator, not even None."""
    return (
        torch.rand(shape, device=device) if generator is None else torch.rand(shape, device=device, generator=generator)
    )


def drop(value: Tensor, keep_time: Tensor, keep_channel: Tensor, p: float) -> Tensor:
    """Return the values times what is kept, over 1 - p; what is dropped becomes 0, whatever it was."""
    return (value * (1 / (1 - p))).masked_fill(~(keep_time & keep_channel), 0)
