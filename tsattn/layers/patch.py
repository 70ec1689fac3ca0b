"""Patches of a series, their positions, and which of them hold anything observed.

Ours. Shared by PatchTST, TimeXer and Gateformer; the sinusoids are those of Vaswani et al. (2017).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from tsattn.layers.dropout import Dropout


def patch_count(context: int, patch: int, stride: int, pad: int = 0) -> int:
    """Return how many patches of `patch` steps, `stride` apart, fit into `context` steps and `pad` more.

    Raises:
        ValueError: If a length is below 1, steps between patches would never be read, or not even one patch fits.
    """
    if patch < 1 or stride < 1:
        raise ValueError(f"patch is {patch} and stride is {stride}, expected at least 1 step each.")
    if stride > patch:
        raise ValueError(
            f"stride is {stride} and patch {patch}, expected stride <= patch: steps between would never be read."
        )
    if context + pad < patch:
        raise ValueError(f"context is {context} steps, expected at least patch={patch}: not even one patch fits.")
    return (context + pad - patch) // stride + 1


def patches(
    series: Float[Tensor, "batch variate time"], patch: int, stride: int, pad: int = 0
) -> Float[Tensor, "batch variate patches patch"]:
    """Cut every series into patches; the last value is repeated `pad` times at the end first."""
    if pad:
        series = F.pad(series, (0, pad), mode="replicate")
    return series.unfold(-1, patch, stride)


def patches_observed(
    observed: Bool[Tensor, "batch variate time"], patch: int, stride: int, pad: int = 0
) -> Bool[Tensor, "batch variate patches"]:
    """Return True for each patch that holds at least one observed value, padding as in `patches`."""
    if pad:
        observed = torch.cat([observed, observed[..., -1:].expand(*observed.shape[:-1], pad)], dim=-1)
    return observed.unfold(-1, patch, stride).any(-1)


def sinusoids(positions: int, d_model: int) -> Float[Tensor, "positions d_model"]:
    """Return the sine (even columns) and cosine (odd columns) of each position at d_model / 2 frequencies.

    Raises:
        ValueError: If `d_model` is odd.
    """
    if d_model % 2:
        raise ValueError(f"d_model is {d_model}, expected an even number: sines and cosines come in pairs.")
    angle = torch.arange(positions).float()[:, None] * torch.exp(
        torch.arange(0, d_model, 2).float() * -(math.log(10000.0) / d_model)
    )
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class PatchEmbedding(nn.Module):
    """One linear map for every patch, plus sinusoidal positions.

    Args:
        context: Steps of a series.
        patch: Steps of a patch.
        stride: Steps from one patch's start to the next one's.
        pad: Times that the last value is repeated at the end.
        d_model: Length of an embedded patch.

    Attributes:
        count: Patches of one series.
        position: Sinusoids, one row per patch. Computed, hence no part of a checkpoint.
    """

    position: Tensor

    def __init__(self, context: int, patch: int, stride: int, pad: int, d_model: int) -> None:
        super().__init__()
        self.patch, self.stride, self.pad = patch, stride, pad
        self.count = patch_count(context, patch, stride, pad)
        self.value = nn.Linear(patch, d_model, bias=False)
        self.register_buffer("position", sinusoids(self.count, d_model), persistent=False)

    def forward(self, series: Float[Tensor, "batch variate time"]) -> Float[Tensor, "batch variate patches d_model"]:
        """Cut and embed."""
        return self.value(patches(series, self.patch, self.stride, self.pad)) + self.position

    def observed(self, observed: Bool[Tensor, "batch variate time"]) -> Bool[Tensor, "batch variate patches"]:
        """Return True for each patch that holds at least one observed value."""
        return patches_observed(observed, self.patch, self.stride, self.pad)


class FlattenHead(nn.Module):
    """Forecast of a series from all its tokens: one linear map and dropout on the forecast itself.

    The weight reads token after token (the authors' reads dimension after dimension), so nothing is transposed.

    Args:
        tokens: Tokens of one series.
        d_model: Length of a token.
        size: Length of the result.
        dropout: Probability.
    """

    def __init__(self, tokens: int, d_model: int, size: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(tokens * d_model, size)
        self.dropout = Dropout(dropout)

    def forward(self, flat: Float[Tensor, "batch variate feature"]) -> Float[Tensor, "batch variate size"]:
        """Map flattened tokens."""
        return self.dropout(self.linear(flat))
