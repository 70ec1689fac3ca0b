"""One line per epoch, and on a terminal a bar with the time left for the whole run.

Lightning's own bars count one epoch at a time and fill log files with redrawn lines.
"""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm


class Progress(Callback):
    """Print the epoch's losses and seconds; show a bar over all steps if standard error is a terminal."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.since = 0.0
        self.best = float("inf")

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Open the bar."""
        steps = int(trainer.estimated_stepping_batches)
        self.bar = tqdm(
            total=steps, initial=trainer.global_step, disable=not sys.stderr.isatty(), unit="step", mininterval=0.5
        )

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *rest: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Print the epoch's line; its validation has run already, and the module's own hook comes after this one."""
        val = float(trainer.callback_metrics.get("val_loss", float("nan")))
        mark = " *" if val < self.best else ""
        self.best = min(self.best, val)
        line = (
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  train {module.train_loss:.4f}  "
            f"val {val:.4f}{mark}  lr {module.epoch_lr:.2g}  "
            f"{time.perf_counter() - self.since:.1f} s"
        )
        tqdm.write(line)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar so that an error message stands alone."""
        if self.bar is not None:
            self.bar.close()
