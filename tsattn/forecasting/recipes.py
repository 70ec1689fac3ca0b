"""From a word to a network: the shipped configuration of a model, the user's changes, and what the table says.

Ours. There is no list of models here: each file of `configs/forecast/` is one.
"""

import copy
import difflib
import inspect
import logging
import math
import operator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tsattn import checkpoint, shipped
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.layers.probabilistic import ProbabilisticForecaster

log = logging.getLogger(__name__)

TASK = "tsattn.tasks.forecast.ForecastTask"
SMALLEST_BATCH = 32  # of a shipped model in Python: smaller ones are slow


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return an argument that counts something.

    Raises:
        ValueError: If it is no whole number, or below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}.")
    return number


def unwrapped(network: ForecastNetwork) -> ForecastNetwork:
    """Return the network inside of what makes quantiles of its forecasts."""
    while isinstance(network, ProbabilisticForecaster):
        network = network.network
    return network


@dataclass(frozen=True)
class Settings:
    """How a model's configuration has it trained: all that it says but the network.

    Attributes:
        task: Arguments of `ForecastTask`: learning rate, loss, schedule, optimiser, ...
        batch_size: Windows in a training batch.
        max_epochs: Epochs.
        patience: Epochs without a smaller validation loss after which training ends.
        trainer: Further arguments of `lightning.Trainer`.
    """

    task: dict[str, Any] = field(default_factory=lambda: {"lr": 1e-4})
    batch_size: int = 32
    max_epochs: int = 10
    patience: int = 3
    trainer: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: dict[str, Any], name: str) -> "Settings":
        """Read a configuration as `tsattn fit -c` does.

        Raises:
            ValueError: If it says something that does not belong to the training of a forecaster.
        """
        config = copy.deepcopy(config)
        model, data = config.pop("model"), config.pop("data", {})
        kind = model.pop("class_path", TASK)
        if kind != TASK:
            raise ValueError(f"{name} trains by {kind}, expected {TASK}.")
        task, of_data, trainer = model.pop("init_args"), data.pop("init_args", {}), config.pop("trainer", {})
        task.pop("network")
        data.pop("class_path", None)
        known = {
            "batch_size": of_data.pop("batch_size", cls.batch_size),
            "max_epochs": trainer.pop("max_epochs", cls.max_epochs),
            "patience": config.pop("patience", cls.patience),
        }
        rest = [*config, *(f"model.{key}" for key in model), *(f"data.{key}" for key in {**data, **of_data})]
        if rest:
            raise ValueError(
                f"The configuration {name} says {', '.join(rest)}, which `Forecaster` has no use for, expected what "
                "belongs to the network, its task and its trainer."
            )
        return cls(task, trainer=trainer, **known)

    def with_larger_batch(self) -> "Settings":
        """Return batches of at least `SMALLEST_BATCH`; the learning rate grows with the square root of the batch."""
        size = max(SMALLEST_BATCH, self.batch_size)
        lr = self.task["lr"] * math.sqrt(size / self.batch_size) if "lr" in self.task else None
        task = self.task if lr is None else {**self.task, "lr": lr}
        return replace(self, task=task, batch_size=size)


@dataclass(frozen=True)
class Recipe:
    """What a network is made of, before the table is known.

    Attributes:
        name: For messages.
        network: Its class.
        arguments: Of the class.
        settings: How it is trained where nobody says otherwise.
    """

    name: str
    network: type[ForecastNetwork]
    arguments: dict[str, Any]
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def of(cls, network: ForecastNetwork) -> "Recipe":
        """Return the recipe of a network that is there; of a wrapped one, that of the innermost.

        A network of a shipped model is trained as that model's configuration says.
        """
        inner = unwrapped(network)
        arguments = copy.deepcopy(inner.recipe["init_args"])
        _lengths(arguments).update(context=network.context, horizon=network.horizon)
        word = _shipped_models().get(inner.recipe["class_path"])
        settings = Settings() if word is None else shipped_settings(word)
        return cls(type(inner).__name__, type(inner), arguments, settings)

    @property
    def lengths(self) -> tuple[int, int]:
        """Context and horizon."""
        lengths = _lengths(self.arguments)
        return lengths["context"], lengths["horizon"]

    def build(self, spec: TableSpec) -> ForecastNetwork:
        """Make the network for a table, with fresh weights.

        Raises:
            ValueError: If an argument is impossible, or a column is of no use to the network.
        """
        parameters = inspect.signature(self.network.__init__).parameters
        told = {**spec.network_arguments, "outputs": 1}
        table = {name: value for name, value in told.items() if name in parameters}
        made = {name: checkpoint.build(value) if _is_recipe(value) else value for name, value in self.arguments.items()}
        network = self.network(**{**made, **table})
        check_use(network, spec)
        return network


def recipe_of(model: str | type[ForecastNetwork], given: dict[str, Any]) -> Recipe:
    """Return what a word, or a class, and some arguments stand for.

    Raises:
        ValueError: If there is no such model or no such argument, or a class has no lengths.
    """
    if isinstance(model, str):
        names = _words()
        if model.lower() not in names:
            near = difflib.get_close_matches(model.lower(), names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"There is no model {model!r}, expected one of {', '.join(names)}.{hint}")
        config = shipped.merged(f"forecast/{model.lower()}.yaml", own=False)
        made = config["model"]["init_args"]["network"]
        network: Any = checkpoint.class_of({"init_args": {}, **made})
        name = network.__name__
        arguments = copy.deepcopy(made.get("init_args", {}))
        settings = shipped_settings(model.lower())
    elif isinstance(model, type) and issubclass(model, ForecastNetwork):
        network, arguments, settings, name = model, {}, Settings(), model.__name__
    else:
        raise ValueError(
            f"model is {model!r}, expected a name such as 'itransformer', or a class that keeps ForecastNetwork; a "
            "trained network comes by Forecaster.from_pretrained."
        )
    parameters = inspect.signature(network.__init__).parameters
    read_off = {"variates", "features", "targets", "future_covariates", "known_rows", "outputs"}
    inside = _is_recipe(arguments.get("network"))  # a network around another one has the lengths of that one
    lengths = {name: value for name, value in given.items() if inside and name in ("context", "horizon")}
    given = {name: value for name, value in given.items() if name not in lengths}
    for argument in given:
        if argument not in parameters or argument in read_off:
            allowed = [p for p in parameters if p not in read_off | {"self"}]
            allowed = ["context", "horizon", *(p for p in allowed if p != "network")] if inside else allowed
            raise ValueError(f"{name} has no argument {argument!r} to set here, expected one of {', '.join(allowed)}.")
    arguments |= given
    inner = _lengths(arguments)
    inner.update(lengths)
    for length in ("context", "horizon"):
        if length not in inner:
            raise ValueError(f"{name} was given no {length}, expected a number of steps.")
        inner[length] = whole(length, inner[length])
    _fit_patches(arguments, given, parameters)
    return Recipe(name, network, arguments, settings)


def shipped_settings(word: str) -> Settings:
    """Return how a shipped model is trained in Python."""
    name = f"forecast/{word}.yaml"
    return Settings.of(shipped.merged(name), name).with_larger_batch()


def _words() -> list[str]:
    """Return the names of the shipped models."""
    return [n.removeprefix("forecast/").removesuffix(".yaml") for n in shipped.names() if n.startswith("forecast/")]


@cache
def _shipped_models() -> dict[str, str]:
    """Return the name of each shipped model by the class of its network."""
    return {
        shipped.merged(f"forecast/{word}.yaml")["model"]["init_args"]["network"]["class_path"]: word
        for word in _words()
    }


def _is_recipe(value: Any) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _lengths(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that hold context and horizon: these, or those of the network inside."""
    inside = arguments.get("network")
    return _lengths(inside["init_args"]) if inside and _is_recipe(inside) else arguments


def _fit_patches(arguments: dict[str, Any], given: dict[str, Any], parameters: Any) -> None:
    """Where patches do not overlap and nobody chose their length, take the one nearest to it that fills the context."""
    if "patch" in given or "patch" not in arguments or "stride" in parameters:
        return
    context, wanted = arguments["context"], arguments["patch"]
    divisors = [n for n in range(1, context + 1) if context % n == 0]
    arguments["patch"] = min(divisors, key=lambda n: (abs(n - wanted), -n))
    if arguments["patch"] != wanted:
        log.info("A patch of %d steps does not fill %d: it is %d.", wanted, context, arguments["patch"])


def check_use(network: ForecastNetwork, spec: TableSpec) -> None:
    """Refuse a column that was declared and that the network would not read.

    Raises:
        ValueError: Naming the column, and what to do.
    """
    name = type(network).__name__
    past = spec.variates[spec.targets :]
    if past and not network.reads_covariates:
        raise ValueError(
            f"{name} forecasts each series from its own past and cannot use {past[0]!r} (past_covariates): leave it "
            "out, or take a network that reads covariates (itransformer, timexer, gateformer, mvpa)."
        )
    for covariate in spec.covariates:
        if not network.reads_known:
            raise ValueError(
                f"{name} cannot use {covariate.name!r} ({covariate.role}_covariates): leave it out, or take a network "
                "that reads it (itransformer, timexer)."
            )
        if covariate.role == "known" and network.future_covariates is None:
            raise ValueError(
                f"{name} would read {covariate.name!r} in its past only: pass it by past_covariates, or take a network "
                "that reads what is known ahead (itransformer, timexer)."
            )
        if covariate.categories is not None and network.known_rows is None:
            raise ValueError(
                f"{name} sets no `known_rows`, so it cannot tell one category of {covariate.name!r} from another: "
                "leave it out, or take a network that can (itransformer, timexer, mvpa)."
            )
    if network.targets is not None and network.targets != spec.targets:
        raise ValueError(
            f"{name} forecasts {network.targets} target beside past_covariates, the table has {spec.targets}: choose "
            "one target, or take another network."
        )
