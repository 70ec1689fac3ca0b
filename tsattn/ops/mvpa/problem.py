"""What every form of MVPA is given: `Inputs` and `Options`, checked and complete.

B samples, H query heads, Hk key/value heads, T steps, C channels, d numbers a head. Query head h reads key/value head
h // (H // Hk).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """The tensors of a call.

    Attributes:
        query: (B, H, T, C, d).
        key: (B, Hk, T, C, d); None for no content term.
        value: (B, Hk, T, C, d).
        time_key: (1 or B, Hk, T, d): row t - t' if causal, else (1 or B, Hk, 2T - 1, d): row t - t' + T - 1.
        channel_key: (1 or B, Hk, C, d): row |c - c'|.
        content_bias: u, (H, d).
        time_bias: v, (H, d).
        channel_bias: z, (H, d).
        channel_mask: (B, C), False for a padded channel: never read, its own output is 0. None: no padding.
        time_mask: (B, T), the same for a step.
        key_mask: (B, T, C), False for a token that is not to be read; it still has an output.
    """

    query: Tensor
    key: Tensor | None
    value: Tensor
    time_key: Tensor
    channel_key: Tensor
    content_bias: Tensor
    time_bias: Tensor
    channel_bias: Tensor
    channel_mask: Tensor | None = None
    time_mask: Tensor | None = None
    key_mask: Tensor | None = None


class Options(NamedTuple):
    """The numbers of a call.

    Attributes:
        window: Largest |t - t'| with a content term.
        causal: Whether keys of steps after the query's are hidden.
        full_last: Whether a sample's last step that is not padding has content terms with every key.
        scale: Factor of the logits.
    """

    window: int
    causal: bool
    full_last: bool
    scale: float


def padding(channel_mask: Tensor | None, time_mask: Tensor | None) -> Tensor | None:
    """Return where tokens are padding, broadcastable to (B, H, T, C), or None if nowhere."""
    parts = []
    if channel_mask is not None:
        parts.append(~channel_mask[:, None, None, :])
    if time_mask is not None:
        parts.append(~time_mask[:, None, :, None])
    return parts[0] | parts[-1] if parts else None


def last_steps(time_mask: Tensor) -> Tensor:
    """Return the index of each sample's last step that is not padding, (B,)."""
    steps = torch.arange(time_mask.shape[1], device=time_mask.device)
    return torch.where(time_mask, steps, 0).amax(1)


def check_masks(inputs: Inputs) -> None:
    """Refuse a sample that is all padding. Reads the masks, so a GPU is waited for.

    Raises:
        ValueError: If there is one.
    """
    for name, mask in (("channel_mask", inputs.channel_mask), ("time_mask", inputs.time_mask)):
        if mask is not None and not bool(mask.any(1).all()):
            empty = (~mask.any(1)).nonzero()[0].item()
            raise ValueError(f"{name}[{empty}] is all False, expected at least one that is real in every sample.")
