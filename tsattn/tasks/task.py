"""What all tasks share: a network with what its checkpoint says of the data, the epoch's loss, runs that go on exactly.

A task's checkpoint holds recipe, specification and random state in plain data, so it loads without unpickling code.
"""

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

import tsattn
from tsattn import checkpoint as files
from tsattn import messages
from tsattn.contracts import Network, SignalSpec, TableSpec


class Task(L.LightningModule):
    """Base of the tasks.

    A subclass implements `training_step` with `self.count(loss)`, the validation, and `settings_with`.

    Args:
        lr: Largest learning rate.

    Attributes:
        monitor: Name of the score by which the best epoch is chosen, and whether it is to be small or large.
        shown: Scores of the validation, `monitor` among them, in the order in which they are printed.
        rate_by_step: Whether the learning rate changes within an epoch; then its last value is told.
        rate_option: What sets the learning rate, for messages.
        network: What is trained.
        spec: What a checkpoint says of the data; None until it is known.
        about: Versions and the like, in plain data.
        settings: What must not change when a run goes on.
    """

    monitor: ClassVar[tuple[str, Literal["min", "max"]]] = ("val_loss", "min")
    shown: ClassVar[tuple[str, ...]] = ("val_loss",)
    rate_by_step: ClassVar[bool] = False
    rate_option = "lr"
    network: Network
    spec: TableSpec | SignalSpec | None

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.spec = None
        self.about: dict[str, Any] = {"tsattn": tsattn.__version__, "torch": str(torch.__version__)}
        self.settings: dict[str, Any] = {}
        self._random_state: dict[str, Any] | None = None
        self.train_sum, self.train_steps, self.epoch_lr = torch.zeros(()), 0, lr

    def configure_model(self) -> None:
        """Share the weights out among the processes if Lightning's `ModelParallelStrategy` is to train them (FSDP2).

        Each block of the network (whatever stands in a list of modules) is one unit, and the rest another one.

        Raises:
            ValueError: If the strategy is to split a window's computation, or to write checkpoints in pieces.
        """
        if self.device_mesh is None:
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        if isinstance(self, FSDPModule):  # by `fit`, before `test`
            return
        if self.device_mesh["tensor_parallel"].size() > 1 or self.trainer.strategy._save_distributed_checkpoint:  # type: ignore[attr-defined]
            raise ValueError(
                "ModelParallelStrategy needs tensor_parallel_size=1, data_parallel_size=(number of processes) and "
                "save_distributed_checkpoint=False: weights are shared out, and a checkpoint is one file."
            )
        for value in self.network.state_dict().values():  # seeds may differ
            first = value.to(self.trainer.strategy.root_device)
            torch.distributed.broadcast(first, 0)
            value.copy_(first)
        mesh = self.device_mesh["data_parallel"]
        lists = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        for block in (block for modules in reversed(lists) for block in modules):
            fully_shard(block, mesh=mesh)
            if hasattr(block, "last"):  # called beside `forward`
                register_fsdp_forward_method(block, "last")
        fully_shard(self, mesh=mesh)

    def settings_with(self, data: Any) -> dict[str, Any]:
        """Return what must not change when a run goes on, of the task and of the data."""
        raise NotImplementedError

    def settings_of_trainer(self, length: bool) -> dict[str, Any]:
        """Return what must not change when a run goes on, of the trainer.

        Args:
            length: Whether the learning rate depends on how long the whole run is.
        """
        trainer = self.trainer
        names = ("accumulate_grad_batches", "limit_train_batches", "gradient_clip_val", "precision")
        plain = {name: getattr(trainer, name) for name in names}
        if isinstance(trainer.limit_train_batches, int):  # 1 is one batch, 1.0 are all
            plain["limit_train_batches"] = f"{trainer.limit_train_batches} of them"
        if length:
            plain["max_epochs"] = trainer.max_epochs
            if trainer.max_steps != -1:
                plain["max_steps"] = trainer.max_steps
        return plain

    def planned_epochs(self) -> int:
        """Return how many epochs the run is to have, at least 1; by `max_steps` if `max_epochs` sets no bound."""
        trainer = self.trainer
        if (trainer.max_epochs or 0) > 0:
            return int(trainer.max_epochs or 1)
        steps = trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ValueError("The schedule needs to know how long the run is: pass max_epochs or max_steps.")
        of_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        return max(1, math.ceil(steps / max(1, math.ceil(of_epoch))))

    # ---- the loop

    def on_train_start(self) -> None:
        """Continue an interrupted run with the random numbers it would have drawn; each process has its own."""
        self.train_sum = self.train_sum.to(self.device)
        for config in self.trainer.lr_scheduler_configs:  # a checkpoint's rate is that of the run as long as it was
            if isinstance(config.scheduler, LambdaLR) and config.scheduler.last_epoch > 0:
                own = config.scheduler
                for group, base, factor in zip(own.optimizer.param_groups, own.base_lrs, own.lr_lambdas, strict=True):
                    group["lr"] = base * factor(own.last_epoch)
        self.epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["cpu"].cpu())
            if "cuda" in self._random_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random_state["cuda"].cpu(), self.device)
            self._random_state = None
        elif self.global_rank:
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        for logger in self.loggers:
            logger.log_hyperparams(self.hyperparameters())

    def hyperparameters(self) -> dict[str, Any]:
        """Return what loggers are told, in plain data: network and arguments, and what must not change."""
        recipe = self.network.recipe
        return {
            "network": recipe["class_path"],
            **{f"network.{name}": value for name, value in recipe["init_args"].items()},
            **(self.settings or {"lr": self.lr}),
        }

    def on_train_epoch_start(self) -> None:
        """Start the epoch's mean loss, and note its learning rate, which Lightning steps before the epoch ends.

        Lightning does not call this when it continues within an epoch; then the checkpoint's sums go on.
        """
        self.epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.train_sum = torch.zeros((), device=self.device)
        self.train_steps = 0

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Let the step that `max_steps` ends with be followed by a validation, wherever in an epoch it is."""
        trainer = self.trainer
        if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps and trainer.enable_validation:
            trainer.val_check_batch = index + 1

    def count(self, loss: Tensor) -> Tensor:
        """Add a step's loss to the epoch's mean, and return it; nothing is logged per step, not even the rate."""
        if self.rate_by_step:
            self.epoch_lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.train_sum += loss.detach()
        self.train_steps += 1
        return loss

    @property
    def train_loss(self) -> float:
        """Mean loss over this epoch's steps so far, in all processes; all of them have to ask."""
        means = of_processes((self.train_sum / max(1, self.train_steps)).item())
        return sum(means) / len(means)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and learning rate; a loss that is not finite stops the run here."""
        mean = self.train_loss
        if not math.isfinite(mean):
            raise ValueError(
                f"The training loss of epoch {self.current_epoch + 1} is {mean}, expected a finite number. Lower "
                f"{self.called_rate()} (now {self.lr:g}), or look for infinite values in the data."
            )
        self.log_dict({"train_loss": mean, "lr": self.epoch_lr}, sync_dist=True)

    def called_rate(self) -> str:
        """Return what sets the learning rate, as the caller spells it, in backquotes."""
        of_command = messages.on_command_line() and messages.has("lr")
        return f"`{messages.option('lr') if of_command else self.rate_option}`"

    # ---- checkpoints

    def expect_same_data(self, before: Any) -> None:
        """Raise ValueError if a run that goes on had data of another kind; `before` is what its checkpoint says."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the recipe, what is known of the data and the state of the random numbers, all in plain data."""
        checkpoint[files.KEY] = files.make_entry(self.network, self.spec, self.about)
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        every = of_processes((random, self.train_sum.cpu()))
        checkpoint["random"], *checkpoint["random_of_others"] = [state for state, _ in every]
        checkpoint["train_loss"] = {"sum": sum(total for _, total in every) / len(every), "steps": self.train_steps}
        checkpoint["settings"] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the state of a run that goes on, after refusing that of another network, data set or setting.

        Raises:
            ValueError: Naming what differs, with both values.
        """
        entry = checkpoint[files.KEY]
        files.check_values(checkpoint["state_dict"], "The checkpoint")
        own = self.state_dict()
        checkpoint["state_dict"] = {  # scores are none of a network's weights
            name: value
            for name, value in checkpoint["state_dict"].items()
            if name in own or name.startswith("network.")
        }
        expect_same_recipe(self.network, entry["network"], "The checkpoint")
        before = checkpoint.get("settings", {})
        different = [
            f"{name} was {before[name]!r} and is {value!r}"
            for name, value in self.settings.items()
            if name in before and before[name] != value
        ]
        if different and self.trainer.training:
            lengths = {"max_epochs", "max_steps"} & {one.partition(" ")[0] for one in different}
            why = " The schedule of the learning rate depends on the number of epochs." if lengths else ""
            raise ValueError(
                f"The run cannot go on as another one: {'; '.join(different)}.{why} Pass the run's own config.yaml, or "
                f"start a new run from its weights with {messages.option(self.weights_option)}."
            )
        if "train_loss" in checkpoint:
            self.train_sum, self.train_steps = checkpoint["train_loss"]["sum"], checkpoint["train_loss"]["steps"]
        if entry["spec"]:
            spec = self.network.spec_type.from_dict(entry["spec"])
            if self.spec is not None and self.trainer.training:
                self.expect_same_data(spec)
            self.spec = spec
        states = [checkpoint.get("random"), *checkpoint.get("random_of_others", [])]
        self._random_state = states[self.global_rank] if self.global_rank < len(states) else None

    weights_option: ClassVar[str] = "weights"

    def load_weights(self, path: str | Path) -> Any:
        """Load a `.ckpt` or an exported folder into the network; return what it says of the data.

        Raises:
            ValueError: If it is damaged, not ours, or of another network.
        """
        loaded: files.Loaded[Network] = files.load(path)
        expect_same_recipe(self.network, loaded.network.recipe, path)
        files.load_strictly(self.network, loaded.network.state_dict(), path)
        return loaded.spec


def of_processes(value: Any) -> list[Any]:
    """Return a value as every process has it; all of them have to call this."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, value)
    return every


def expect_same_recipe(network: Network, recipe: dict[str, Any], source: Any) -> None:
    """Raise if a checkpoint's recipe differs from a network's in anything but dropout, naming what differs.

    Raises:
        ValueError: With both values of every argument that differs.
    """
    different = _differences(network.recipe, recipe, source)
    if different:
        raise ValueError(
            f"{source} does not fit the configured {type(network).__name__}: {'; '.join(different)}. "
            "Pass the configuration of the run that wrote it (config.yaml in its folder)."
        )


def _differences(own: dict[str, Any], other: dict[str, Any], source: Any) -> list[str]:
    if other["class_path"] != own["class_path"]:
        raise ValueError(
            f"{source} holds {other['class_path'].rpartition('.')[2]}, the configuration asks for "
            f"{own['class_path'].rpartition('.')[2]}. Pass the configuration of the run that wrote it."
        )
    free = {"dropout", "head_dropout", "residual_dropout", "checkpointing"}  # they change no weight
    found: list[str] = []
    for name, value in own["init_args"].items():
        there = other["init_args"].get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            found += _differences(value, there, source)
        elif name not in free and there != value:
            found.append(f"{name} is {there!r} there and {value!r} here")
    return found
