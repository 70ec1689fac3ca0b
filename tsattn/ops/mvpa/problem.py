"""What every form of MVPA is given: `Inputs` and `Options`, checked and complete.

B samples, H query heads, Hk key/value heads, T steps, C channels, d numbers a head. Query head h reads key/value head
h // (H // Hk).
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "torch", "triton"]
DropoutKind = Literal["sample", "call", "element"]
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        """All but the masks."""
        return self[:8]

    @property
    def biases(self) -> tuple[Tensor, Tensor, Tensor]:
        """u, v, z."""
        return self.content_bias, self.time_bias, self.channel_bias

    @property
    def masks(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of channels, steps and keys."""
        return self.channel_mask, self.time_mask, self.key_mask


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


def check_choices(window: int | None, scale: float | None, dropout_p: float, dropout: str, backend: str) -> None:
    """Refuse numbers and words that mean nothing.

    Raises:
        ValueError: In one sentence.
    """
    if window is not None and (not isinstance(window, int) or window < 0):
        raise ValueError(
            f"window is {window!r}, expected a whole number of steps from 0, None for all, or key=None for no content."
        )
    if scale is not None and not (isinstance(scale, (int, float)) and math.isfinite(scale)):
        raise ValueError(f"scale is {scale!r}, expected a finite number (no tensor: it would get no gradient).")
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is {dropout_p}, expected a probability in [0, 1).")
    for name, word, words in (("dropout", dropout, DropoutKind), ("backend", backend, Backend)):
        if word not in get_args(words):
            raise ValueError(f"{name} is {word!r}, expected one of {', '.join(map(repr, get_args(words)))}.")


def check_grid_masks(
    grid: tuple, channel_mask: Tensor | None, time_mask: Tensor | None, key_mask: Tensor | None
) -> None:
    """Refuse masks that do not fit a grid of (samples, steps, channels), by shape or type.

    Raises:
        ValueError: In one sentence.
    """
    batch, time, channels = grid
    for name, mask, shape in (
        ("channel_mask", channel_mask, (batch, channels)),
        ("time_mask", time_mask, (batch, time)),
        ("key_mask", key_mask, (batch, time, channels)),
    ):
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(f"{name} has type {mask.dtype}, expected torch.bool (True where the token is real).")
        if mask is not None and mask.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(mask.shape)}, expected {shape} for {batch} samples of {time} steps and "
                f"{channels} channels."
            )


def check_tensors(
    query: Tensor,
    key: Tensor | None,
    value: Tensor,
    time_key: Tensor,
    channel_key: Tensor,
    biases: dict[str, Tensor | None],
    masks: dict[str, Tensor | None],
    causal: bool,
    autocast: bool,
) -> None:
    """Refuse what does not fit, from shapes, types and devices alone.

    Sentences are made when they are needed: a compiled caller would take numbers in them for constants.

    Raises:
        ValueError: In one sentence.
    """
    for name, needed in dict(query=query, value=value, time_key=time_key, channel_key=channel_key).items():
        if not isinstance(needed, Tensor):
            raise ValueError(f"{name} is {type(needed).__name__}, expected a tensor.")
    if query.ndim != 5 or value.ndim != 5:
        raise ValueError(
            f"query has shape {tuple(query.shape)} and value {tuple(value.shape)}, "
            "expected (batch, head, time, channel, size)."
        )
    batch, heads, time, channels, size = query.shape
    kv_heads = value.shape[1]
    if heads < 1 or time < 1 or channels < 1 or size < 1:
        raise ValueError(
            f"query has {heads} heads, {time} steps, {channels} channels and size {size}, expected at least 1 of each."
        )
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"query has {heads} heads and value {kv_heads}, expected a multiple of those of value.")
    for name, x in (("value", value), ("key", key)):
        if x is not None and x.shape != (batch, kv_heads, time, channels, size):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, expected {(batch, kv_heads, time, channels, size)} to fit query "
                f"{tuple(query.shape)}."
            )
    for name, table, counts in (
        ("time_key", time_key, (time,) if causal else (time, 2 * time - 1)),
        ("channel_key", channel_key, (channels,)),
    ):
        fits = table.ndim == 4 and (table.shape[0] == 1 or table.shape[0] == batch)
        fits = fits and table.shape[1] == kv_heads and table.shape[3] == size
        if not fits or all(table.shape[2] != count for count in counts):
            count = " or ".join(map(str, counts))
            of = f"{channels} channels" if name == "channel_key" else f"{time} steps{'' if causal else ', not causal'}"
            raise ValueError(
                f"{name} has shape {tuple(table.shape)}, expected (1 or {batch}, {kv_heads}, {count}, {size}) for {of}."
            )
    for name, x in biases.items():
        if x is not None and x.shape != (heads, size) and x.shape != (kv_heads, size):
            raise ValueError(f"{name} has shape {tuple(x.shape)}, expected ({heads}, {size}) or ({kv_heads}, {size}).")
    check_grid_masks((batch, time, channels), **masks)

    if query.dtype not in FLOATING:
        raise ValueError(f"query has type {query.dtype}, expected one of {', '.join(map(str, FLOATING))}.")
    for name, x in dict(key=key, value=value, time_key=time_key, channel_key=channel_key, **biases, **masks).items():
        if x is None:
            continue
        if x.device != query.device:
            raise ValueError(f"{name} is on {x.device}, expected {query.device} as query.")
        free = name in biases or (autocast and torch.float64 not in (x.dtype, query.dtype))
        if name not in masks and x.dtype != query.dtype and not (free and x.dtype in FLOATING):
            raise ValueError(f"{name} has type {x.dtype}, expected {query.dtype} as query.")


def check_masks(inputs: Inputs) -> None:
    """Refuse a sample that is all padding. Reads the masks, so a GPU is waited for.

    Raises:
        ValueError: If there is one.
    """
    for name, mask in (("channel_mask", inputs.channel_mask), ("time_mask", inputs.time_mask)):
        if mask is not None and not bool(mask.any(1).all()):
            empty = (~mask.any(1)).nonzero()[0].item()
            raise ValueError(f"{name}[{empty}] is all False, expected at least one that is real in every sample.")
