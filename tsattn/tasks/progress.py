"""One line per epoch, and on a terminal a bar with the time left for the whole run.

Lightning's own bars count one epoch at a time and fill log files with redrawn lines; its CSV logger deletes the rows of
the epochs before when a run goes on.
"""

import csv
import math
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from tqdm import tqdm


class Progress(Callback):
    """Print the epoch's losses and seconds, and append them to a CSV file.

    Args:
        best: Knows the best validation score, also of a run that goes on.
        path: CSV file, one row per epoch; rows of epochs that are run again are replaced.
        shown: Names of the validation's scores.
    """

    def __init__(self, best: ModelCheckpoint, path: Path, shown: tuple[str, ...]) -> None:
        self.best = best
        self.path = path
        self.shown = shown
        self.columns = ("epoch", "train_loss", *shown, "lr", "seconds")
        self.bar: tqdm | None = None
        self.scored = False  # whether this epoch was validated
        self.since = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Open the bar, and forget the rows of epochs that are to come."""
        steps = trainer.estimated_stepping_batches
        self.bar = tqdm(
            total=int(steps) if math.isfinite(steps) else None,
            initial=trainer.global_step,
            disable=not (sys.stderr.isatty() and trainer.is_global_zero),
            unit="step",
            mininterval=0.5,
        )
        self.since = time.perf_counter()
        kept = []
        if not trainer.is_global_zero:
            return
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.current_epoch]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(kept)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *rest: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note that there are scores of this epoch."""
        self.scored = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Print and keep the epoch; its validation has run already, and the module's own hook comes after this one."""
        there = trainer.callback_metrics if self.scored else {}  # else they are of an epoch before
        scores = {name: float(there[name]) if name in there else math.nan for name in self.shown}
        self.scored = False
        best, name = self.best.best_model_score, str(self.best.monitor)
        sign = 1 if self.best.mode == "min" else -1
        better = best is None or sign * scores[name] <= sign * float(best)
        mark = " *" if better and math.isfinite(scores[name]) else ""
        seconds = time.perf_counter() - self.since
        row = {"epoch": trainer.current_epoch + 1, "train_loss": module.train_loss, **scores, "lr": module.epoch_lr}
        if trainer.is_global_zero:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow({**row, "seconds": round(seconds, 1)})
            value = f"{scores[name]:.4f}" if math.isfinite(scores[name]) else "-"
            told = f"val {value}" if name == "val_loss" else f"{name} {value}"
            most = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
            tqdm.write(
                f"epoch {trainer.current_epoch + 1}{most}  train {row['train_loss']:.4f}  {told}{mark}  "
                f"lr {module.epoch_lr:.2g}  {seconds:.1f} s"
            )

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar so that an error message stands alone."""
        if self.bar is not None:
            self.bar.close()
