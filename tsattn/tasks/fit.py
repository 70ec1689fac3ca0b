"""Train a forecaster from a notebook: Lightning's loop without its noise, the best epoch's weights, nothing on disk.

`tsattn fit` keeps a run folder instead (`tsattn.train`); task, windows and optimiser are the same.
"""

import difflib
import inspect
import logging
import math
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.windows import WindowLoader, Windows
from tsattn.layers.probabilistic import ProbabilisticForecaster, StudentTForecaster
from tsattn.tasks.forecast import ForecastTask

log = logging.getLogger(__name__)

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
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a network in place, and leave it with the weights of its best epoch, in eval mode on the CPU.

    An interrupt (Ctrl-C) ends the training; the best epoch so far is kept.

    Args:
        network: What is trained; parameters that need no gradient stay as they are.
        windows: Of the training and validation rows.
        train: First rows of the training windows.
        validation: First rows of the validation windows; without any, the last epoch's weights are kept.
        spec: Of the table.
        batch_size: Windows in a training batch.
        max_epochs: Epochs.
        patience: Epochs without a smaller validation loss after which training ends.
        seed: Random seed for the order of the training windows.
        verbose: Whether each epoch prints a line.
        trainer_kwargs: Further arguments of `lightning.Trainer`, or others than ours.
        **task: Further arguments of `ForecastTask`.

    Returns:
        What was used (learning rate, batch size, epochs, loss, schedule, optimiser, ...), and what came of it
        (`epochs`, `best_epoch`, `val_loss`, the losses and rate of every epoch, whether it was interrupted), both in
        plain data.

    Raises:
        ValueError: If `task` or `trainer_kwargs` hold something that is not known or not possible, no step is trained,
            or a loss is not finite.
        KeyboardInterrupt: If it was interrupted before the first epoch ended.
    """
    given = dict(trainer_kwargs or {})
    _refuse_unknown("A model's configuration", task, ForecastTask, ForecastTask.__name__)
    _refuse_unknown("trainer_kwargs", given, L.Trainer, "lightning.Trainer")
    kind = next(network.parameters()).dtype
    made = ForecastTask(network, **task)
    made.spec, made.rate_option = spec, "learning_rate"
    best = _BestEpoch(verbose)
    callbacks: list[Callback] = [best]
    if len(validation):
        # Not strict: of a training that ends within its first epoch (max_steps) there is no validation.
        callbacks.append(EarlyStopping("val_loss", patience=patience, check_finite=True, strict=False))
    own = given.pop("callbacks", None) or []
    own = own if isinstance(own, list) else [own]
    if wrong := next((each for each in own if not isinstance(each, Callback)), None):
        raise ValueError(f"trainer_kwargs has the callback {wrong!r}, expected lightning.pytorch.callbacks.Callback.")
    callbacks += own
    interrupted = False
    with _silence(), _explained(given):
        trainer = L.Trainer(**{"max_epochs": max_epochs, **QUIET, "callbacks": callbacks, **given})
        if trainer.world_size > 1:
            raise ValueError(
                f"trainer_kwargs asks for {trainer.world_size} processes, and one is what forecasters train in: leave "
                "out `devices` and `num_nodes`."
            )
        buffer = windows.to(trainer.strategy.root_device)
        of_training = WindowLoader(buffer, train, batch_size, shuffle=True, seed=seed)
        of_validation = WindowLoader(buffer, validation, max(batch_size, 128)) if len(validation) else None
        with _interrupts() as caught:
            trainer.fit(made, of_training, of_validation)
        interrupted = bool(caught)
    if interrupted and best.weights is None:
        raise KeyboardInterrupt
    if not trainer.global_step:
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items() if name != "callbacks")
        raise ValueError(f"Not one step was trained, because of trainer_kwargs ({asked}), expected at least one.")
    epochs = trainer.current_epoch
    network.cpu().to(kind)  # a precision such as "64-true" is the training's alone
    if best.weights is not None:
        network.load_state_dict(best.weights)
    if best.validated and best.loss == math.inf:
        raise ValueError(
            f"The validation loss is {best.last_loss}, expected a finite number: lower `learning_rate`, or look for "
            "very large values in the last rows."
        )
    if len(validation) and not best.validated:
        log.warning(
            "No validation has run in %d steps (%d epochs), so the last weights are kept, not the best ones.",
            trainer.global_step, epochs,
        )  # fmt: skip
    network.eval()  # quantiles of a distribution follow its weights
    validated = best.loss < math.inf
    if interrupted:
        kept = f"epoch {best.epoch}" + (f" (val_loss {best.loss:.4f}) is the best so far and" if validated else "")
        log.warning("Interrupted in epoch %d of %d: %s is kept.", epochs + 1, trainer.max_epochs, kept)
    used = {
        "loss": _loss_of(made),
        "learning_rate": float(made.lr),
        "batch_size": batch_size,
        "max_epochs": trainer.max_epochs,
        "patience": patience,
        "schedule": made.schedule,
        "optimizer": made.optimizer_name,
        "weight_decay": float(made.weight_decay),
        "betas": [float(beta) for beta in made.betas],
        **({"onecycle_start": float(made.onecycle_start)} if made.schedule == "onecycle" else {}),
        **({"trainer_kwargs": {name: _plain(value) for name, value in given.items()}} if given else {}),
    }
    outcome = {
        "epochs": epochs,
        "steps": trainer.global_step,
        "best_epoch": best.epoch if best.weights is not None else epochs,
        "val_loss": best.loss if validated else None,
        "interrupted": interrupted,
        "history": best.history,
    }
    return used, outcome


def _loss_of(task: ForecastTask) -> str:
    """Name what was minimised."""
    if isinstance(task.network, StudentTForecaster):
        return "student-t likelihood"
    return "pinball" if isinstance(task.network, ProbabilisticForecaster) else task.loss_name


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _refuse_unknown(where: str, given: dict[str, Any], kind: type, name: str) -> None:
    """Raise ValueError if an argument is none of a class."""
    known = [argument for argument in inspect.signature(kind).parameters if argument not in ("self", "network")]
    for argument in given:
        if argument not in known:
            near = difflib.get_close_matches(argument, known, n=1)
            hint = f": did you mean {near[0]!r}?" if near else f", expected one of {', '.join(known)}."
            raise ValueError(f"{where} has {argument!r}, which is not an argument of {name}{hint}")


class _BestEpoch(Callback):
    """Keeps the weights of the epoch with the smallest validation loss, and every epoch's losses.

    Without a validation it keeps those of the last epoch.
    """

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.loss, self.epoch = float("inf"), 0
        self.weights: dict[str, Tensor] | None = None
        self.history: dict[str, list[float | None]] = {"train_loss": [], "val_loss": [], "rate": []}
        self.validated = False  # ever
        self.last_loss = float("nan")
        self._fresh = False  # whether this epoch was validated

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._fresh = "val_loss" in trainer.callback_metrics  # not there if nothing is logged (barebones)
        self.validated = self.validated or self._fresh

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert isinstance(module, ForecastTask)
        losses["train_loss"] = module.train_loss  # Lightning has not logged it yet
        fresh, self._fresh = self._fresh, False
        if fresh:
            self.last_loss = losses["val_loss"]
        else:
            losses.pop("val_loss", None)  # of an epoch before
        last = not self.validated and math.isfinite(losses["train_loss"])
        if last or losses.get("val_loss", math.inf) < self.loss:
            weights = {name: value.cpu().clone() for name, value in module.network.state_dict().items()}
            self.weights, self.epoch = weights, trainer.current_epoch + 1
            self.loss = losses.get("val_loss", math.inf)
        for name in ("train_loss", "val_loss"):
            value = losses.get(name, math.nan)
            self.history[name].append(value if math.isfinite(value) else None)
        self.history["rate"].append(module.epoch_lr)
        if self.verbose:
            told = ", ".join(f"{name} {losses[name]:.4f}" for name in ("train_loss", "val_loss") if name in losses)
            print(f"epoch {trainer.current_epoch + 1}: {told}", file=sys.stderr)


@contextmanager
def _interrupts() -> Iterator[list[BaseException]]:
    """Undo Lightning's answer to Ctrl-C, which ends the interpreter and ignores the next one.

    Yields:
        A list that holds the interrupt, if there was one.
    """
    caught: list[BaseException] = []
    before = signal.getsignal(signal.SIGINT)
    try:
        yield caught
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        caught.append(end.__context__)
        if signal.getsignal(signal.SIGINT) != before:
            signal.signal(signal.SIGINT, before)
    except KeyboardInterrupt as interrupt:
        caught.append(interrupt)


@contextmanager
def _explained(given: dict[str, Any]) -> Iterator[None]:
    """Say in a ValueError what Lightning refuses, and that it comes of `trainer_kwargs`."""
    try:
        yield
    except Exception as problem:
        if not _of_lightning(problem):
            raise
        asked = ", ".join(f"{name}={_plain(value)!r}" for name, value in given.items())
        told = " ".join(str(problem).split())
        cause = f"trainer_kwargs ({asked})" if asked else "The training"
        verb = "cannot be done" if asked else "stopped"
        raise ValueError(f"{cause} {verb}: {told or type(problem).__name__} (said by Lightning).") from problem


def _of_lightning(problem: Exception) -> bool:
    """Whether an exception was raised in Lightning's code, not in ours or in that of a user's callback."""
    frames = traceback.extract_tb(problem.__traceback__)
    parts = set(Path(frames[-1].filename).parts) if frames else set()
    return bool({"lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"} & parts)


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
