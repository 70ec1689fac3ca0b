"""Formulas on arrays: forecast errors as sums and counts, so that neither the batch size nor the last batch matters."""

from collections.abc import Sequence

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor


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
