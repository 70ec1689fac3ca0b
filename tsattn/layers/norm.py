"""Instance normalisation of a series, and its inverse; root-mean-square normalisation of a token.

Ours. The "non-stationary" normalisation of the forecasters (Liu et al., 2022, arXiv:2205.14415) with one addition:
missing values count neither in the mean nor in the deviation, and become 0 (the mean) afterwards.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

EPSILON = 1e-5  # added to the variance: a constant series has a deviation of 0.00316


class Normalised(NamedTuple):
    """A series of mean 0 and deviation 1 and the two numbers that bring it back."""

    series: Float[Tensor, "batch variate time"]
    mean: Float[Tensor, "batch variate 1"]
    scale: Float[Tensor, "batch variate 1"]


def normalise(
    past: Float[Tensor, "batch variate time"], observed: Bool[Tensor, "batch variate time"] | None = None
) -> Normalised:
    """Centre every series and divide by its deviation over time, sqrt(biased variance + 1e-5).

    The mean carries no gradient, the deviation does, as in the authors' code.

    Args:
        past: One series per sample and variate. What stands at unobserved places is not read, NaN included.
        observed: False where a value is missing; None if none is. A series with nothing observed has mean 0 and
            deviation sqrt(1e-5).
    """
    if observed is None:
        mean = past.mean(-1, keepdim=True).detach()
        centred = past - mean
        scale = (centred.square().mean(-1, keepdim=True) + EPSILON).sqrt()  # half the time of `var`
        return Normalised(centred / scale, mean, scale)
    nothing = past.new_zeros(())
    count = observed.sum(-1, keepdim=True).clamp(min=1)
    mean = (torch.where(observed, past, nothing).sum(-1, keepdim=True) / count).detach()
    centred = torch.where(observed, past - mean, nothing)
    # The mean of `centred` is 0 in exact arithmetic; subtracting it again keeps the gradient of the variance right.
    middle = centred.sum(-1, keepdim=True) / count
    variance = torch.where(observed, centred - middle, nothing).square().sum(-1, keepdim=True) / count
    scale = (variance + EPSILON).sqrt()
    return Normalised(centred / scale, mean, scale)


def restore(
    forecast: Float[Tensor, "batch target number"], scale: Normalised, outputs: int = 1
) -> Float[Tensor, "batch target horizon *output"]:
    """Bring a forecast of the first variates back to the units of the series; see `per_step` for `outputs`."""
    targets = forecast.shape[1]
    return per_step(torch.addcmul(scale.mean[:, :targets], forecast, scale.scale[:, :targets]), outputs)


def per_step(
    forecast: Float[Tensor, "batch target number"], outputs: int
) -> Float[Tensor, "batch target horizon *output"]:
    """Give the `outputs` numbers of every step, which stand side by side, an axis of their own; 1: none."""
    return forecast if outputs == 1 else forecast.unflatten(-1, (-1, outputs))


def unchanged(past: Float[Tensor, "batch variate time"]) -> Normalised:
    """Return the series as it is, with mean 0 and deviation 1, for a network that does not normalise."""
    return Normalised(
        past, past.new_zeros(1, 1, 1).expand(*past.shape[:2], 1), past.new_ones(1, 1, 1).expand(*past.shape[:2], 1)
    )


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` with its weight in the type of what comes in, for which torch has a fused form."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Divide each token by its root mean square, and scale it."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, tuple(self.normalized_shape), weight, self.eps)
