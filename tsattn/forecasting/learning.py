"""From a frame and the roles of its columns to a trained network and its table's specification.

Ours. Statistics come from the training rows alone; the windows of validation predict each item's last rows.
"""

import dataclasses
import difflib
import logging
import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork, Role, TableSpec
from tsattn.data import calendar, keys, tables
from tsattn.data import clock as clocks
from tsattn.data import panel as panels
from tsattn.data.calendar import Marks
from tsattn.data.panel import Panel
from tsattn.data.reading import Reading
from tsattn.data.specify import check_names, specify
from tsattn.forecasting.recipes import Recipe, whole
from tsattn.layers.lora import add_adapters, merge_adapters
from tsattn.layers.probabilistic import Distribution, with_levels
from tsattn.tasks.optim import Loss, Optimizer, Schedule

log = logging.getLogger(__name__)

Mode = Literal["full", "head", "lora"]
Columns = str | int | np.integer | Sequence[str | int | np.integer]  # one name or several; 101 names the column "101"
Pace = Schedule | Literal["paper"]
PACES: tuple[str, ...] = (*get_args(Schedule), "paper")


@dataclass(frozen=True)
class Roles:
    """What each column is.

    Attributes:
        targets: Forecast.
        past: Numbers that end with the context.
        covariates: Name, role and whether it holds categories, of what stands in the known rows, in their order.
    """

    targets: tuple[str, ...]
    past: tuple[str, ...]
    covariates: tuple[tuple[str, Role, bool], ...]

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        target: Columns | None,
        past: Columns,
        known: Columns,
        static: Columns,
        item: str | None,
        clock: str | Sequence[str] | None,
        time_format: str | None = None,
    ) -> "Roles":
        """Sort out the columns of a frame.

        Raises:
            ValueError: If a column is absent or has two roles, or nothing is left to forecast.
        """
        frame = tables.with_plain_names(frame, "The table")
        given = {
            "target": target,
            "past_covariates": past,
            "known_covariates": known,
            "static_covariates": static,
        }
        declared = {role: _names(role, names) for role, names in given.items()}
        owner: dict[str, str] = {}
        for role, names in declared.items():
            for name in names:
                if name not in frame.columns:
                    raise ValueError(
                        f"The table has no column {name!r}, expected one of {tables.listed(frame.columns)}; check "
                        f"`{role}`."
                    )
                if name in owner:
                    twice = f"twice in {role}" if owner[name] == role else f"both {owner[name]} and {role}"
                    raise ValueError(f"{name!r} is {twice}, expected one role for each column.")
                owner[name] = role
        if target is None:
            found = clocks.find(
                frame,
                clock,
                time_format,
                "The table",
                door="panel",
                codes=_codes(frame, item),
                keep=[*owner],
                quiet=True,
            )
            rest = frame.drop(columns=[n for n in {*found.columns, item or "item_id"} if n in frame and n not in owner])
            chosen = keys.readable(
                rest, "The table", named=[*owner], others=found.others, first=frame.columns[0], truth=False
            )
            declared["target"] = [name for name in chosen if name not in owner]
        if not declared["target"]:
            raise ValueError(
                f"No column of {tables.listed(frame.columns)} is left to forecast, expected one of numbers; name it by "
                "`target`."
            )
        text = {name: panels.is_category(frame[name]) for name in owner}
        rows: list[tuple[str, Role, bool]] = []
        rows += [(name, "known", text[name]) for name in declared["known_covariates"]]
        rows.sort(key=lambda row: row[2])  # numbers known ahead come first
        rows += [(name, "past", True) for name in declared["past_covariates"] if text[name]]
        rows += [(name, "static", text[name]) for name in declared["static_covariates"]]
        past_numbers = tuple(name for name in declared["past_covariates"] if not text[name])
        return cls(tuple(declared["target"]), past_numbers, tuple(rows))

    @classmethod
    def from_spec(cls, spec: TableSpec) -> "Roles":
        """Return the roles that the columns had in a training."""
        covariates = tuple((c.name, c.role, c.categories is not None) for c in spec.covariates)
        return cls(spec.target_names, spec.variates[spec.targets :], covariates)

    @property
    def numbers(self) -> list[str]:
        """Columns of numbers."""
        return [*self.targets, *self.past, *(name for name, _, text in self.covariates if not text)]

    @property
    def texts(self) -> list[str]:
        """Columns of categories."""
        return [name for name, _, text in self.covariates if text]


def _codes(frame: pd.DataFrame, item: str | None) -> np.ndarray | None:
    """Number the items of a frame by row; None if it has no column of them."""
    name = item or "item_id"
    return pd.factorize(frame[name])[0] if name in frame.columns else None


def _names(role: str, given: Columns | None) -> list[str]:
    """Return names as the text that they are in a table; the number 101 names the column "101"."""
    if given is None:
        return []
    single = isinstance(given, str | int | np.integer)
    names = [given] if single or not isinstance(given, Iterable) else list(given)
    if not all(isinstance(name, str | int | np.integer) for name in names):
        raise ValueError(f"{role} is {given!r}, expected the name of a column, or several.")
    return [str(name) for name in names]


def rows_of(size: int | float, lengths: Int[np.ndarray, " item"]) -> Int[np.ndarray, " item"]:
    """Turn a number of rows, or a share of each item's, into rows of each item.

    Raises:
        ValueError: If it is negative, or not a whole number above 1.
    """
    if not (isinstance(size, numbers.Real) and size >= 0) or (size >= 1 and not isinstance(size, numbers.Integral)):
        raise ValueError(f"The size of a part is {size!r}, expected a whole number of rows, or a share below 1.")
    if size < 1:
        return np.round(size * lengths).astype(np.int64)
    return np.minimum(int(size), lengths)


def part_starts(
    begins: Int[np.ndarray, " item_and_end"],
    first: Int[np.ndarray, " item"],
    end: Int[np.ndarray, " item"],
    context: int,
    horizon: int,
    *,
    reach_back: bool,
) -> Int[Tensor, " window"]:
    """List the windows whose horizon lies in rows [first, end) of their item.

    Args:
        begins: First row of each item, and the number of rows.
        first: First row of the part, of each item.
        end: One past its last row.
        context: Steps read.
        horizon: Steps predicted.
        reach_back: Whether the context may lie before the part.
    """
    low = np.maximum(first - context, begins[:-1]) if reach_back else first
    counts = np.maximum(end - context - horizon - low + 1, 0)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return torch.from_numpy(np.repeat(low, counts) + number)


@dataclass(frozen=True)
class Training:
    """How a network is trained: the options that `Forecaster.fit` and `finetune` share, and explain.

    Attributes:
        val_size: Last rows of each item, or their share of it, by which the best epoch is chosen.
        loss: Minimised where no quantiles are; None: as in the recipe, and so for the next four.
        max_epochs: Epochs.
        learning_rate: Largest one.
        batch_size: Windows in a training batch.
        patience: Epochs without a smaller validation loss after which training ends.
        schedule: How the learning rate changes; "paper": as in the recipe.
        optimizer: None: as in the recipe, and so for the next two.
        weight_decay: Of the optimiser.
        betas: Of the optimiser.
        seed: Of the first weights, and of the order of the windows.
        verbose: Whether each epoch prints a line.
        trainer_kwargs: Further arguments of `lightning.Trainer`.

    Raises:
        ValueError: If one is impossible.
    """

    val_size: int | float = 0.1
    loss: Loss | None = None
    max_epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    patience: int | None = None
    schedule: Pace = "cosine"
    optimizer: Optimizer | None = None
    weight_decay: float | None = None
    betas: Sequence[float] | None = None
    seed: int = 0
    verbose: bool = False
    trainer_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        words = {"loss": get_args(Loss), "schedule": PACES, "optimizer": get_args(Optimizer)}
        for name, allowed in words.items():
            value = getattr(self, name)
            if value not in allowed and (value is not None or name == "schedule"):
                near = difflib.get_close_matches(str(value), allowed, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(allowed)}.{hint}")
        for name, least in (("max_epochs", 1), ("batch_size", 1), ("patience", 0), ("seed", 0)):
            if getattr(self, name) is not None:  # numpy's numbers, too, which Lightning and JSON do not take
                object.__setattr__(self, name, whole(name, getattr(self, name), least))
        rate = self.learning_rate
        if rate is not None and not (isinstance(rate, numbers.Real) and 0 < rate < math.inf):
            raise ValueError(f"learning_rate is {rate!r}, expected a number above 0.")
        decay = self.weight_decay
        if decay is not None and not (isinstance(decay, numbers.Real) and 0 <= decay < math.inf):
            raise ValueError(f"weight_decay is {decay!r}, expected a number of at least 0.")
        if self.betas is not None:
            object.__setattr__(self, "betas", _betas(self.betas))
        if self.trainer_kwargs is not None and not isinstance(self.trainer_kwargs, dict):
            raise ValueError(
                f"trainer_kwargs is {self.trainer_kwargs!r}, expected arguments of lightning.Trainer by name, such as "
                "{'gradient_clip_val': 1.0}."
            )

    def settled(self, recipe: Recipe) -> dict[str, Any]:
        """Return the arguments of `tasks.fit.fit`: the whole of a recipe's task, and what was given in its place."""
        settings = recipe.settings
        task = {
            "loss": self.loss,
            "lr": self.learning_rate,
            "schedule": None if self.schedule == "paper" else self.schedule,
            "optimizer": self.optimizer,
            "weight_decay": self.weight_decay,
            "betas": self.betas,
        }
        counts = {"max_epochs": self.max_epochs, "batch_size": self.batch_size, "patience": self.patience}
        return {
            **settings.task,
            **({"betas": _betas(settings.task["betas"])} if "betas" in settings.task else {}),
            **{name: value for name, value in task.items() if value is not None},
            **{name: getattr(settings, name) if value is None else value for name, value in counts.items()},
            "seed": self.seed,
            "verbose": self.verbose,
            "trainer_kwargs": {**settings.trainer, **(self.trainer_kwargs or {})},
        }


def _betas(betas: Any) -> tuple[float, float]:
    try:
        first, second = (float(beta) for beta in betas)
    except (TypeError, ValueError):
        first = second = math.nan
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f"betas is {betas!r}, expected two numbers from 0 to below 1, such as (0.9, 0.999).")
    return first, second


def train(
    recipe: Recipe,
    frame: pd.DataFrame,
    roles: Roles,
    training: Training,
    *,
    item: str | None,
    timestamp: str | Sequence[str] | None,
    how: Reading,
    units: dict[str, str],
    marks: Marks = "true",
    levels: tuple[float, ...] | None = None,
    distribution: Distribution = "quantile",
    start: ForecastNetwork | None = None,
    before: TableSpec | None = None,
    mode: Mode = "full",
    lora_rank: int = 8,
) -> tuple[ForecastNetwork, TableSpec, dict[str, Any]]:
    """Train a network of a recipe, or go on with one that is there.

    Args:
        recipe: Of the network.
        frame: The table.
        roles: Of its columns.
        training: How.
        item: As in `Forecaster.fit`.
        timestamp: As in `Forecaster.fit`.
        how: How the table is read.
        units: Of the columns that have one.
        marks: As in `Forecaster.fit`.
        levels: As in `Forecaster.fit`.
        distribution: As in `Forecaster.fit`.
        start: A network to go on with; it is changed.
        before: The specification that it was trained with.
        mode: As in `Forecaster.finetune`.
        lora_rank: As there.

    Returns:
        The network, the specification of the table, and how it was trained, in plain data.

    Raises:
        ValueError: As in `Forecaster.fit`.
    """
    from tsattn.tasks.fit import fit

    if start is None and levels is None and distribution != "quantile":
        raise ValueError(
            f'distribution is "{distribution}", but no `quantile_levels` were asked for, expected some, such as '
            "(0.1, 0.5, 0.9)."
        )
    arguments = training.settled(recipe)
    of_recipe = arguments.pop("quantiles", None), arguments.pop("distribution", None)
    if start is None and levels is None and of_recipe[0] is not None:
        levels, distribution = tuple(of_recipe[0]), of_recipe[1] or distribution
    if (levels or (start is not None and start.levels)) and training.loss is not None:
        raise ValueError(
            f"loss is {training.loss!r}, and quantiles have a loss of their own (pinball, or the likelihood of their "
            "distribution), expected one of the two: leave out `loss`, or `quantile_levels`."
        )
    if mode not in get_args(Mode):
        raise ValueError(f'mode is "{mode}", expected one of {", ".join(get_args(Mode))}.')
    context, horizon = recipe.lengths
    frequency, zone, step = (None, None, None) if before is None else (before.frequency, before.zone, before.step)
    panel = panels.read_panel(
        frame, roles.numbers, roles.texts, item=item, timestamp=timestamp, how=how, frequency=frequency, zone=zone,
        step=step, what="The table",
    )  # fmt: skip
    clock = panel.clock[0] if timestamp is not None and len(panel.clock) == 1 else "timestamp"
    names = (item or "item_id", clock) if before is None else before.columns
    check_names((), names, levels or ())
    validation = rows_of(training.val_size, panel.lengths)
    taught = np.ones(panel.rows, dtype=bool)
    for end, held in zip(panel.begins[1:], validation, strict=True):
        taught[end - held : end] = False
    spec = specify(
        panel, taught, targets=roles.targets, past=roles.past, covariates=roles.covariates,
        marks=calendar.feature_names(panel.frequency, marks), names=names, units=units,
        how=how.found(panel.clock), before=before,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = recipe.build(spec) if start is None else start
        if not network.reads_known:
            spec = dataclasses.replace(spec, marks=())
        if levels is not None:
            network = with_levels(network, levels, distribution)
        _choose(network, mode, lora_rank)
        panel = _lengthened(panel, network, validation, context, horizon)
        windows = panels.make_windows(panel, spec, context, horizon, what="The table")
        _refuse_missing(windows.observed, network, spec)
        panels.check_known(windows.known, network, spec)
        ends = panel.begins[1:]
        starts = part_starts(panel.begins, panel.begins[:-1], ends - validation, context, horizon, reach_back=False)
        held_out = part_starts(panel.begins, ends - validation, ends, context, horizon, reach_back=True)
        if not len(starts):
            most = int((panel.lengths - validation).max())
            raise ValueError(
                f"The longest item has {most} training rows, expected at least context + horizon = {context} + "
                f"{horizon}; shorten them, or choose a smaller `val_size`."
            )
        if training.val_size and not len(held_out):
            log.warning(
                "The last %d rows of an item hold no horizon of %d steps, so the last epoch is kept, not the best one: "
                "choose a larger `val_size`.",
                int(validation.max()), horizon,
            )  # fmt: skip
        used, outcome = fit(network, windows, starts, held_out, spec, **arguments)
    merge_adapters(network)
    network.requires_grad_(True)
    about = {
        "torch": str(torch.__version__),
        "training": used,
        "fit": {
            **outcome,
            "mode": mode if start is not None else "from scratch",
            "seed": training.seed,
            "val_size": float(training.val_size) if training.val_size < 1 else int(training.val_size),
            "items": len(panel.items),
            "windows": len(starts),
            "validation_windows": len(held_out),
        },
    }
    return network, spec, about


def _choose(network: ForecastNetwork, mode: Mode, rank: int) -> None:
    """Say which parameters are trained."""
    if mode == "head":
        network.requires_grad_(False)
        for name in network.last:
            network.get_submodule(name).requires_grad_(True)
    elif mode == "lora":
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        ends = ("qkv", "out")  # of an attention that is written out in its layer
        chosen = [name for name in linear if "attention" in name or name.rpartition(".")[2] in ends]
        if not chosen:
            raise ValueError(
                f'{type(network).__name__} has no linear map of an attention, expected one for "lora"; take the mode '
                '"head" or "full".'
            )
        add_adapters(network, chosen, rank=rank, alpha=2.0 * rank)


def _lengthened(
    panel: Panel, network: ForecastNetwork, validation: Int[np.ndarray, " item"], context: int, horizon: int
) -> Panel:
    """Put missing rows in front of items that are too short for a window, where the network can read that."""
    rows = panel.lengths - validation
    short = rows < context + horizon
    if not short.any():
        return panel
    if not network.reads_missing:
        log.warning(
            "%d of %d items are shorter than context + horizon = %d and are left out of the training, because %s.",
            short.sum(), len(short), context + horizon, network.why_no_missing,
        )  # fmt: skip
        return panel
    usable = short & (rows > horizon)
    left_out = int((short & ~usable).sum())
    if left_out:
        log.warning(
            "%d of %d items have no more than %d training rows, the horizon, and are left out of the training.",
            left_out, len(short), horizon,
        )  # fmt: skip
    return panel.padded(np.where(usable, context + horizon + validation, 0))


def _refuse_missing(observed: Tensor | None, network: ForecastNetwork, spec: TableSpec) -> None:
    if observed is None or network.reads_missing:
        return
    lost = (~observed).sum(1)
    row = int((lost > 0).nonzero()[0])
    raise ValueError(
        f"{int(lost.sum())} values are missing ({int(lost[row])} of {spec.variates[row]!r}), and "
        f"{type(network).__name__} reads none: {network.why_no_missing}; fill them first (`DataFrame.ffill`)."
    )
