"""What a forecaster learns: loss, metrics, optimiser, schedule, and the statistics of the table that it was given.

The schedules and early-stopping rules are those of the papers' training scripts (thuml/Time-Series-Library and
yuqinie98/PatchTST), stated epoch by epoch in `epoch_factors`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torchmetrics import MeanMetric

import tsattn
from tsattn import checkpoint as files
from tsattn.contracts import Batch, ForecastNetwork, TableSpec
from tsattn.metrics import ForecastErrors

Loss = Literal["mse", "mae", "huber"]
Schedule = Literal["constant", "constant-patchtst", "type1", "type3", "type3-patchtst", "cosine", "onecycle"]
LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


def epoch_factors(schedule: Schedule, epochs: int) -> list[float]:
    """Return the factor on the learning rate during each epoch.

    - `constant`: 1.
    - `type1`: epochs 1 and 2 at 1, then halved every epoch.
    - `type3`: epochs 1 to 4 at 1, then times 0.9 every epoch.
    - `constant-patchtst`, `type3-patchtst`: the same with 1/25 in the first epoch. The official PatchTST code always
      constructs a one-cycle schedule, which leaves its start value behind; it also leaves Adam's first beta at 0.95.
    - `cosine`: half a cosine from 1 to 0 over all epochs.

    Source:
        `adjust_learning_rate` of the papers' repositories; pinned by the parity fixture `data_protocol.json`.
    """
    if schedule in ("constant-patchtst", "type3-patchtst"):
        return [1 / 25, *epoch_factors("constant" if schedule[0] == "c" else "type3", epochs)[1:]]
    if schedule == "constant":
        return [1.0] * epochs
    if schedule == "type1":
        return [0.5 ** max(0, e - 1) for e in range(epochs)]
    if schedule == "type3":
        return [0.9 ** max(0, e - 3) for e in range(epochs)]
    if schedule == "cosine":
        return [0.5 * (1 + math.cos(math.pi * e / epochs)) for e in range(epochs)]
    raise ValueError(f"schedule {schedule!r} is not stepped by epochs.")


class ForecastTask(L.LightningModule):
    """Train, validate and test any forecaster.

    Args:
        network: The forecaster; it owns context and horizon.
        loss: Minimised on standardised values; missing truths are left out.
        lr: Largest learning rate.
        schedule: How it changes; see `epoch_factors`, and torch's OneCycleLR (per step) for `onecycle`.
        optimizer: Fused where torch has it.
        weight_decay: Decoupled with `adamw`.
        betas: Of Adam.
        onecycle_start: Share of the steps in which `onecycle` rises.
        weights: Start from these weights: a folder of `tsattn import-checkpoint`, an exported folder or a `.ckpt`.
    """

    def __init__(
        self,
        network: ForecastNetwork,
        loss: Loss = "mse",
        lr: float = 1e-4,
        schedule: Schedule = "type1",
        optimizer: Literal["adam", "adamw"] = "adam",
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        onecycle_start: float = 0.3,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss_name = loss
        self.lr = lr
        self.schedule = schedule
        self.optimizer_name = optimizer
        self.weight_decay = weight_decay
        self.betas = betas
        self.onecycle_start = onecycle_start
        self.spec: TableSpec | None = None  # from the data at fit, from the checkpoint at test
        self.about: dict[str, Any] = {"tsattn": tsattn.__version__, "torch": str(torch.__version__)}
        self.errors = ForecastErrors(1)  # of the last evaluation; made anew for the targets at its start
        self.mean_loss = MeanMetric()
        self._random_state: dict[str, Any] | None = None
        self.settings: dict[str, Any] = {}  # what must not change when a run goes on
        self.train_sum, self.train_steps, self.epoch_lr = torch.zeros(()), 0, lr
        if weights is not None:
            self.load_weights(weights)

    # ---- data in, forecast out

    def forward(self, batch: Batch) -> Float[Tensor, "batch target horizon"]:
        """Forecast the targets of one batch, standardised."""
        return self.network(batch.past, batch.known, batch.observed)[:, : batch.future.shape[1]]

    def loss(self, forecast: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss over the truths that are there."""
        there = ~batch.future.isnan()
        each = LOSSES[self.loss_name](forecast, torch.where(there, batch.future, 0), reduction="none")
        return torch.where(there, each, 0).sum() / there.sum().clamp(min=1)

    # ---- the loops

    def setup(self, stage: str) -> None:
        """Take the table's statistics from the data module, once."""
        data = getattr(self.trainer, "datamodule", None)
        if self.spec is None and data is not None and hasattr(data, "spec"):
            self.spec = data.spec
        if data is not None and hasattr(data, "fingerprint"):
            self.about["fingerprint"] = data.fingerprint
        if data is not None:
            self.settings = self._settings_with(data)
        forecast = self.network.targets
        if self.spec is not None and forecast is not None and forecast != self.spec.targets:
            raise ValueError(
                f"{type(self.network).__name__} forecasts {forecast} target, the table has {self.spec.targets}: choose "
                "one with --data.target, or take a network that forecasts every series."
            )

    def on_train_start(self) -> None:
        """Continue an interrupted run with the random numbers it would have drawn."""
        self.train_sum = self.train_sum.to(self.device)
        self.epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["cpu"].cpu())
            if "cuda" in self._random_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random_state["cuda"].cpu(), self.device)
            self._random_state = None

    def on_train_epoch_start(self) -> None:
        """Start the epoch's mean loss, and note its learning rate, which Lightning steps before the epoch ends.

        Lightning does not call this when it continues within an epoch; then the checkpoint's sums go on.
        """
        self.epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.train_sum = torch.zeros((), device=self.device)
        self.train_steps = 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss; nothing is logged per step, so a step costs what the network costs."""
        loss = self.loss(self(batch), batch)
        self.train_sum += loss.detach()
        self.train_steps += 1
        return loss

    @property
    def train_loss(self) -> float:
        """Mean loss over this epoch's steps so far."""
        return (self.train_sum / max(1, self.train_steps)).item()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and learning rate; a loss that is not finite stops the run here."""
        mean = self.train_loss
        if not math.isfinite(mean):
            raise ValueError(
                f"The training loss of epoch {self.current_epoch + 1} is {mean}. Lower --model.lr (now {self.lr:g}), "
                "or look for infinite values in the table."
            )
        self.log("train_loss", mean)
        self.log("lr", self.epoch_lr)

    def on_validation_epoch_start(self) -> None:
        """Start the scores; they know how many targets there are once a checkpoint is loaded."""
        self.errors = ForecastErrors(self.spec.targets if self.spec else 1)
        if self.device.type != "mps":  # no float64 there
            self.errors.to(self.device)
        self.mean_loss.reset()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add one batch; `errors` keeps the scores after the run."""
        forecast = self(batch)
        self.errors.update(forecast, batch.future)
        self.mean_loss.update(self.loss(forecast, batch), (~batch.future.isnan()).sum())

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` (what early stopping and the best checkpoint go by), `val_mse` and `val_mae`."""
        self.log("val_loss", self.mean_loss.compute())
        self.log_dict({f"val_{name}": value for name, value in self.errors.compute().items()})

    def on_test_epoch_start(self) -> None:
        """Start the scores."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, index: int) -> None:
        """Add one batch; `errors` keeps the scores after the run."""
        self.errors.update(self(batch), batch.future)

    def on_test_epoch_end(self) -> None:
        """Log `test_mse` and `test_mae` over every window."""
        self.log_dict({f"test_{name}": value for name, value in self.errors.compute().items()})

    def _settings_with(self, data: Any) -> dict[str, Any]:
        names = ("loss_name", "lr", "schedule", "optimizer_name", "weight_decay", "betas", "onecycle_start")
        own = {name.removesuffix("_name"): getattr(self, name) for name in names}
        of_data = {name: getattr(data, name, None) for name in ("fingerprint", "batch_size", "seed")}
        plain = {**own, "betas": list(self.betas), **of_data, "splits": getattr(data, "splits", None)}
        if self.schedule in ("cosine", "onecycle"):  # the others do not depend on how long the run is to be
            plain["max_epochs"] = self.trainer.max_epochs
        return plain

    # ---- optimiser

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule."""
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer_name]
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = make(trained, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)
        scheduler: LRScheduler
        if self.schedule == "onecycle":
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler = OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps, pct_start=self.onecycle_start)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        factors = epoch_factors(self.schedule, max(1, self.trainer.max_epochs or 1))
        scheduler = LambdaLR(optimizer, lambda epoch: factors[min(epoch, len(factors) - 1)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the recipe, the table's statistics and the state of the random numbers, all in plain data."""
        checkpoint[files.KEY] = files.make_entry(self.network, self.spec, self.about)
        checkpoint["random"] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            checkpoint["random"]["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["train_loss"] = {"sum": self.train_sum.cpu(), "steps": self.train_steps}
        checkpoint["settings"] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the state of a run that goes on, after refusing that of another network, table or setting.

        Raises:
            ValueError: Naming what differs, with both values.
        """
        entry = checkpoint[files.KEY]
        expect_same_recipe(self.network, entry["network"], "The checkpoint")
        before = checkpoint.get("settings", {})
        different = [
            f"{name} was {before[name]!r} and is {value!r}"
            for name, value in self.settings.items()
            if name in before and before[name] != value
        ]
        if different and self.trainer.training:
            raise ValueError(
                f"The run cannot go on as another one: {'; '.join(different)}. Pass the run's own config.yaml, or "
                "start a new run from its weights with --model.weights."
            )
        if "train_loss" in checkpoint:
            self.train_sum, self.train_steps = checkpoint["train_loss"]["sum"], checkpoint["train_loss"]["steps"]
        if entry["spec"]:
            self.spec = TableSpec.from_dict(entry["spec"])
        self._random_state = checkpoint.get("random")

    def load_weights(self, path: str | Path) -> TableSpec | None:
        """Load a `.ckpt` or an exported folder into the network; return the table it was trained on.

        Raises:
            ValueError: If it is damaged, not ours, or of another network.
        """
        loaded = files.load(path, ForecastNetwork)
        expect_same_recipe(self.network, loaded.network.recipe, path)
        files.load_strictly(self.network, loaded.network.state_dict(), path)
        return loaded.spec

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> "ForecastTask":
        """Rebuild the network from the checkpoint's recipe and load its weights; further arguments are the task's."""
        loaded = files.load(checkpoint_path, ForecastNetwork)
        task = cls(loaded.network, *args, **kwargs)
        task.spec = loaded.spec
        task.about = loaded.about
        return task


def expect_same_recipe(network: ForecastNetwork, recipe: dict[str, Any], source: Any) -> None:
    """Raise if a checkpoint's recipe differs from a network's in anything but dropout, naming what differs.

    Raises:
        ValueError: With both values of every argument that differs.
    """
    own = network.recipe
    if recipe["class_path"] != own["class_path"]:
        raise ValueError(
            f"{source} holds {recipe['class_path'].rpartition('.')[2]}, the configuration asks for "
            f"{own['class_path'].rpartition('.')[2]}. Pass the configuration of the run that wrote it."
        )
    free = {"dropout", "head_dropout"}  # they change no weight
    different = [
        f"{name} is {recipe['init_args'].get(name)!r} there and {value!r} here"
        for name, value in own["init_args"].items()
        if name not in free and recipe["init_args"].get(name) != value
    ]
    if different:
        raise ValueError(
            f"{source} does not fit the configured {type(network).__name__}: {'; '.join(different)}. "
            "Pass the configuration of the run that wrote it (config.yaml in its folder)."
        )
