"""What a forecaster learns: loss, metrics, optimiser, schedule, and the statistics of the table that it was given.

Optimiser and schedule are made in `tasks/optim.py`, whoever asks: `tsattn fit` or `Forecaster.fit`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanMetric

from tsattn import checkpoint as files
from tsattn import messages
from tsattn.contracts import Batch, ForecastNetwork, TableSpec
from tsattn.layers.probabilistic import Distribution, ProbabilisticForecaster, with_levels
from tsattn.metrics import ForecastErrors, QuantileErrors
from tsattn.quantiles import at_levels
from tsattn.tasks.optim import Loss, Optimizer, Schedule, adam
from tsattn.tasks.task import Task

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class ForecastTask(Task):
    """Train, validate and test any forecaster.

    Args:
        network: The forecaster; it owns context and horizon.
        loss: Minimised on standardised values; missing truths are left out. With quantiles, theirs takes its place.
        lr: Largest learning rate.
        schedule: How it changes; see `epoch_factors`, and torch's OneCycleLR (per step) for `onecycle`.
        optimizer: Fused where torch has it.
        weight_decay: Decoupled with `adamw`.
        betas: Of Adam.
        onecycle_start: Share of the steps in which `onecycle` rises.
        weights: Start from these weights: a folder of `tsattn import-checkpoint`, an exported folder or a `.ckpt`.
        quantiles: Levels between 0 and 1, ascending, to forecast in place of a point; 0.5 is the median.
        distribution: Whether each quantile is forecast by itself ("quantile") or all follow a Student t distribution
            ("student-t").
    """

    shown = ("val_loss", "val_mse", "val_mae")
    network: ForecastNetwork
    spec: TableSpec | None  # from the data at fit, from the checkpoint at test

    def __init__(
        self,
        network: ForecastNetwork,
        loss: Loss = "mse",
        lr: float = 1e-4,
        schedule: Schedule = "type1",
        optimizer: Optimizer = "adam",
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        onecycle_start: float = 0.3,
        weights: Path | None = None,
        quantiles: list[float] | None = None,
        distribution: Distribution = "quantile",
    ) -> None:
        super().__init__(lr)
        self.network = network if quantiles is None else with_levels(network, quantiles, distribution)
        self.loss_name = loss
        self.schedule = schedule
        self.optimizer_name = optimizer
        self.weight_decay = weight_decay
        self.betas = betas
        self.onecycle_start = onecycle_start
        self.errors = ForecastErrors(1)  # of the last evaluation; made anew for the targets at its start
        self.quantile_errors: QuantileErrors | None = None
        self.mean_loss = MeanMetric()
        self._sized = True
        if weights is not None:
            self.load_weights(weights)

    # ---- data in, forecast out

    def forward(self, batch: Batch) -> Float[Tensor, "batch target horizon *level"]:
        """Forecast the targets of one batch, standardised."""
        return self.network(batch.past, batch.known, batch.observed)[:, : batch.future.shape[1]]

    def raw(self, batch: Batch) -> Float[Tensor, "batch target horizon *output"]:
        """Return what `loss` reads: the forecast, or the numbers that quantiles are made of."""
        if not isinstance(self.network, ProbabilisticForecaster):
            return self(batch)
        return self.network.raw(batch.past, batch.known, batch.observed)[:, : batch.future.shape[1]]

    def loss(self, forecast: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss over the truths that are there."""
        there = ~batch.future.isnan()
        truth = torch.where(there, batch.future, 0)
        if isinstance(self.network, ProbabilisticForecaster):
            each = self.network.losses(forecast, truth)
        else:
            each = LOSSES[self.loss_name](forecast, truth, reduction="none")
        return torch.where(there, each, 0).sum() / there.sum().clamp(min=1)

    def count_errors(self, forecast: Tensor, batch: Batch) -> None:
        """Add a batch to the scores; of quantiles, the median is the point."""
        if not self._sized:  # plain loaders say only in a batch how many targets there are
            self._start_scores(batch.future.shape[1])
            self._sized = True
        levels = self.network.levels
        if levels is not None:
            assert self.quantile_errors is not None
            self.quantile_errors.update(forecast, batch.future)
            forecast = at_levels(forecast, levels, [0.5])[..., 0]
        self.errors.update(forecast, batch.future)

    # ---- the loops

    def setup(self, stage: str) -> None:
        """Take the table's statistics from the data module, once."""
        data = getattr(self.trainer, "datamodule", None)
        if self.spec is None and data is not None and hasattr(data, "spec"):
            self.spec = data.spec
        if data is not None and hasattr(data, "fingerprint"):
            self.about["fingerprint"] = data.fingerprint
        if data is not None:
            self.settings = self.settings_with(data)
        forecast = self.network.targets
        if self.spec is not None and forecast is not None and forecast != self.spec.targets:
            raise ValueError(
                f"{type(self.network).__name__} forecasts {forecast} target, the table has {self.spec.targets}: "
                + messages.advice("choose one by {target}", "take a network that forecasts every series")
                + "."
            )

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss; nothing is logged per step, so a step costs what the network costs."""
        return self.count(self.loss(self.raw(batch), batch))

    def on_validation_epoch_start(self) -> None:
        """Start the scores; they know how many targets there are once a checkpoint is loaded."""
        self._sized = self.spec is not None
        self._start_scores(self.spec.targets if self.spec else 1)
        self.mean_loss.reset()

    def _start_scores(self, targets: int) -> None:
        spec = self.spec
        self.errors = ForecastErrors(targets)
        if self.network.levels is not None:
            mean = spec.mean[:targets] if spec else (0.0,) * targets
            scale = spec.scale[:targets] if spec else (1.0,) * targets
            self.quantile_errors = QuantileErrors(self.network.levels, mean, scale)
        if self.device.type != "mps":  # no float64 there
            self.errors.to(self.device)
            if self.quantile_errors is not None:
                self.quantile_errors.to(self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch; `errors` keeps the scores after the run."""
        raw = self.raw(batch)
        network = self.network
        self.count_errors(network.finish(raw) if isinstance(network, ProbabilisticForecaster) else raw, batch)
        self.mean_loss.update(self.loss(raw, batch), (~batch.future.isnan()).sum())

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` (what early stopping and the best checkpoint go by), `val_mse` and `val_mae`."""
        self.log("val_loss", self.mean_loss.compute())
        self.log_dict({f"val_{name}": value for name, value in self.errors.compute().items()})

    def on_test_epoch_start(self) -> None:
        """Start the scores."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, index: int) -> None:
        """Add one batch; `errors` keeps the scores after the run."""
        self.count_errors(self(batch), batch)

    def on_test_epoch_end(self) -> None:
        """Log `test_mse` and `test_mae` over every window."""
        self.log_dict({f"test_{name}": value for name, value in self.errors.compute().items()})

    def settings_with(self, data: Any) -> dict[str, Any]:
        """Return what must not change when a run goes on."""
        names = ("loss_name", "lr", "schedule", "optimizer_name", "weight_decay", "betas", "onecycle_start")
        own = {name.removesuffix("_name"): getattr(self, name) for name in names}
        of_data = {name: getattr(data, name, None) for name in ("fingerprint", "batch_size", "seed")}
        plain = {**own, "betas": list(self.betas), **of_data, "splits": getattr(data, "splits", None)}
        plain |= self.settings_of_trainer(self.schedule in ("cosine", "onecycle"))  # depend on how long the run is
        return plain

    # ---- optimiser

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule."""
        onecycle = self.schedule == "onecycle"
        return adam(
            (p for p in self.network.parameters() if p.requires_grad),
            lr=self.lr,
            schedule=self.schedule,
            optimizer=self.optimizer_name,
            weight_decay=self.weight_decay,
            betas=self.betas,
            onecycle_start=self.onecycle_start,
            epochs=self.planned_epochs() if self.schedule == "cosine" else 1,
            steps=int(self.trainer.estimated_stepping_batches) if onecycle else None,
        )

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> "ForecastTask":
        """Rebuild the network from the checkpoint's recipe and load its weights; further arguments are the task's."""
        loaded = files.load(checkpoint_path, ForecastNetwork)
        task = cls(loaded.network, *args, **kwargs)
        task.spec = loaded.spec
        task.about = loaded.about
        return task
