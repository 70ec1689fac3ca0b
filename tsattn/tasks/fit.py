"""Train a forecaster from a notebook: Lightning's loop without its noise, the best epoch's weights, nothing on disk.

`tsattn fit` keeps a run folder instead (`tsattn.train`); task, windows and optimiser are the same.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.windows import WindowLoader, Windows
from tsattn.tasks.forecast import ForecastTask

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "devices": 1,
}


def fit(
    network: ForecastNetwork,
    windows: Windows,
    train: Int[Tensor, " window"],
    validation: Int[Tensor, " held_out"],
    spec: TableSpec,
    *,
    batch_size: int,
    max_epochs: int,
    patience: int,
    seed: int = 0,
    verbose: bool = False,
    trainer_kwargs: dict[str, Any] | None = None,
    **task: Any,
) -> dict[str, Any]:
    """Train a network in place, and leave it with the weights of its best epoch, in eval mode on the CPU.

    Args:
        network: What is trained; parameters that need no gradient stay as they are.
        windows: Of the training and validation rows.
        train: First rows of the training windows.
        validation: First rows of the validation windows; without any, the last epoch's weights are kept.
        spec: Of the table.
        batch_size: Windows in a training batch.
        max_epochs: Epochs.
        patience: Epochs without a smaller validation loss after which training ends.
        seed: Of the order of the windows.
        verbose: Whether each epoch prints a line.
        trainer_kwargs: Further arguments of `lightning.Trainer`, or others than ours.
        **task: Further arguments of `ForecastTask`.

    Returns:
        `epochs`, `best_epoch` and `val_loss`, in plain numbers.

    Raises:
        ValueError: If the training loss is not finite.
    """
    made = ForecastTask(network, **task)
    made.spec = spec
    best = _BestEpoch(verbose)
    callbacks: list[Callback] = [best]
    if len(validation):
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_finite=True))
    given = dict(trainer_kwargs or {})
    callbacks += given.pop("callbacks", None) or []
    with _silence():
        trainer = L.Trainer(**{"max_epochs": max_epochs, **QUIET, "callbacks": callbacks, **given})
        buffer = windows.to(trainer.strategy.root_device)
        of_training = WindowLoader(buffer, train, batch_size, shuffle=True, seed=seed)
        of_validation = WindowLoader(buffer, validation, max(batch_size, 128)) if len(validation) else None
        trainer.fit(made, of_training, of_validation)
    epochs = trainer.current_epoch
    network.cpu().eval()
    if best.weights is not None:
        network.load_state_dict(best.weights)
    network.eval()  # quantiles of a distribution follow its weights
    loss = None if best.weights is None else best.loss
    return {"epochs": epochs, "best_epoch": epochs if loss is None else best.epoch, "val_loss": loss}


class _BestEpoch(Callback):
    """Keeps the weights of the epoch with the smallest validation loss, and tells each epoch's losses."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.loss, self.epoch = float("inf"), 0
        self.weights: dict[str, Tensor] | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert isinstance(module, ForecastTask)
        losses["train_loss"] = module.train_loss  # Lightning has not logged it yet
        if losses.get("val_loss", float("inf")) < self.loss:
            self.loss, self.epoch = losses["val_loss"], trainer.current_epoch + 1
            self.weights = {name: value.cpu().clone() for name, value in module.network.state_dict().items()}
        if self.verbose:
            told = ", ".join(f"{name} {losses[name]:.4f}" for name in ("train_loss", "val_loss") if name in losses)
            print(f"epoch {trainer.current_epoch + 1}: {told}", file=sys.stderr)


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back Lightning's banners and tips for a while."""
    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [each.level for each in logs]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*`isinstance\(treespec, LeafSpec\)` is deprecated")  # with torch 2.13
        warnings.filterwarnings("ignore", module="lightning")
        try:
            for each in logs:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(logs, before, strict=True):
                each.setLevel(level)
