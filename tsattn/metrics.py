"""Formulas on arrays: forecast errors as sums and counts, so that neither the batch size nor the last batch matters.

Quantile scores follow Gneiting and Raftery (2007); the weighted quantile loss is that of GluonTS and AutoGluon.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor

from tsattn.quantiles import intervals, pinball


class ForecastErrors(torchmetrics.Metric):
    """Squared and absolute errors per target, summed over every window and step; missing truths are not counted.

    Sums and counts are float64 and add up over batches and processes. They may lie on another device than the
    forecasts: Apple's GPUs have no float64.

    Args:
        targets: Number of targets.
    """

    full_state_update = False
    squared: Tensor
    absolute: Tensor
    count: Tensor
    windows: Tensor

    def __init__(self, targets: int) -> None:
        super().__init__()
        for name in ("squared", "absolute", "count"):
            self.add_state(name, torch.zeros(targets, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("windows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(
        self, forecast: Float[Tensor, "batch target horizon"], future: Float[Tensor, "batch target horizon"]
    ) -> None:
        """Add one batch.

        Args:
            forecast: No NaN.
            future: The truth; NaN where it is missing.

        Raises:
            ValueError: If a forecast is not finite.
        """
        forecast, future = forecast.to(self.count.device), future.to(self.count.device)
        if not torch.isfinite(forecast).all():
            bad = (~torch.isfinite(forecast)).nonzero()[0].tolist()
            raise ValueError(
                f"forecast[{bad[0]}, target {bad[1]}, step {bad[2]}] is {forecast[tuple(bad)].item()}, expected a "
                "finite number. The training diverged, or missing values reached a network without `observed`."
            )
        counted = ~future.isnan()
        error = torch.where(counted, forecast - future, 0).double()
        self.squared += error.square().sum(dim=(0, 2))
        self.absolute += error.abs().sum(dim=(0, 2))
        self.count += counted.sum(dim=(0, 2))
        self.windows += len(future)

    def compute(self) -> dict[str, Tensor]:
        """Return `mse` and `mae` over all counted values."""
        total = self.count.sum()
        return {"mse": self.squared.sum() / total, "mae": self.absolute.sum() / total}

    def in_units(self, scale: Sequence[float]) -> dict[str, Tensor]:
        """Return `mse` and `mae` in the table's units.

        Args:
            scale: Standard deviation of each target, the factor between standardised and original values.
        """
        factor = torch.tensor(scale, dtype=torch.float64, device=self.squared.device)
        total = self.count.sum()
        return {"mse": (self.squared * factor**2).sum() / total, "mae": (self.absolute * factor).sum() / total}

    def per_target(self, scale: Sequence[float]) -> dict[str, Tensor]:
        """Return `mse`, `mae` (standardised) and `mae_units`, one value per target; NaN where nothing was counted."""
        factor = torch.tensor(scale, dtype=torch.float64, device=self.squared.device)
        return {
            "mse": self.squared / self.count,
            "mae": self.absolute / self.count,
            "mae_units": self.absolute / self.count * factor,
        }


class QuantileErrors(torchmetrics.Metric):
    """Pinball loss, coverage and width of quantile forecasts, summed over every window and step.

    Sums and counts are float64 and add up over batches and processes; missing truths are not counted.

    Args:
        levels: Of the quantiles, ascending.
        mean: Of each target, to bring standardised values back to the table's units.
        scale: Standard deviation of each target, for the same.
    """

    full_state_update = False
    mean: Tensor
    scale: Tensor
    pinball: Tensor
    inside: Tensor
    width: Tensor
    truth: Tensor
    count: Tensor

    def __init__(self, levels: Sequence[float], mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.pairs = intervals(levels)
        targets = len(mean)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64), persistent=False)
        for name, columns in (("pinball", len(levels)), ("inside", len(self.pairs)), ("width", len(self.pairs))):
            self.add_state(name, torch.zeros(targets, columns, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("truth", "count"):
            self.add_state(name, torch.zeros(targets, dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(
        self, quantiles: Float[Tensor, "batch target horizon level"], future: Float[Tensor, "batch target horizon"]
    ) -> None:
        """Add one batch, standardised; NaN in `future` is missing."""
        quantiles, future = quantiles.to(self.count.device), future.to(self.count.device)
        counted = ~future.isnan()
        each = pinball(quantiles, torch.where(counted, future, 0), self.levels)
        self.pinball += torch.where(counted[..., None], each, 0).double().sum(dim=(0, 2))
        for i, (low, high, _) in enumerate(self.pairs):
            inside = (future >= quantiles[..., low]) & (future <= quantiles[..., high])
            self.inside[:, i] += (inside & counted).sum(dim=(0, 2))
            width = torch.where(counted, quantiles[..., high] - quantiles[..., low], 0)
            self.width[:, i] += width.double().sum(dim=(0, 2))
        units = future.double() * self.scale[:, None] + self.mean[:, None]
        self.truth += torch.where(counted, units, 0).abs().sum(dim=(0, 2))
        self.count += counted.sum(dim=(0, 2))

    def compute(self) -> dict[str, Tensor]:
        """Return the scores over all targets.

        `crps` (standardised) is twice the mean pinball loss over the levels, `wql` (in units) twice its sum divided by
        the sum of the truths' magnitudes, meaned over the levels; for each central interval, `coverage_80` and the mean
        `width_80` (standardised), and so on.
        """
        total = self.count.sum()
        scores = {
            "crps": 2 * self.pinball.sum() / total / len(self.levels),
            "wql": 2 * (self.pinball * self.scale[:, None]).sum() / self.truth.sum() / len(self.levels),
        }
        for i, (_, _, nominal) in enumerate(self.pairs):
            scores[f"coverage_{100 * nominal:.4g}"] = self.inside[:, i].sum() / total
            scores[f"width_{100 * nominal:.4g}"] = self.width[:, i].sum() / total
        return scores


def mean_scaled_error(mae: Sequence[float], train: Float[np.ndarray, "target time"], season: int) -> float:
    """Return the mean absolute scaled error (MASE; Hyndman and Koehler, 2006) over targets.

    Args:
        mae: Mean absolute error of each target, in the table's units.
        train: The training rows; NaN where missing. Each error is divided by that of repeating the last season here; a
            target for which that is 0 or unknown is left out.
        season: Steps of a season.

    Returns:
        NaN if no target is left.
    """
    naive = np.abs(train[:, season:] - train[:, :-season])
    counts = (~np.isnan(naive)).sum(1)
    own = np.nansum(naive, 1) / np.maximum(counts, 1)
    scaled = np.array([error / scale for error, scale in zip(mae, own, strict=True) if scale > 0])
    scaled = scaled[~np.isnan(scaled)]
    return float(scaled.mean()) if len(scaled) else float("nan")
