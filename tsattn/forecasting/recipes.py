"""From a word to a network: the shipped configuration of a model, the user's changes, and what the table says.

Ours. There is no list of models here: each file of `configs/forecast/` is one.
"""

import copy
import difflib
import inspect
import logging
import math
import operator
from dataclasses import dataclass, field
from typing import Any

from tsattn import checkpoint, shipped
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.layers.probabilistic import ProbabilisticForecaster

log = logging.getLogger(__name__)

TRAINING: dict[str, Any] = {"lr": 1e-4, "schedule": "type1", "batch_size": 32, "max_epochs": 10, "patience": 3}


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
class Recipe:
    """What a network is made of, before the table is known.

    Attributes:
        name: For messages.
        network: Its class.
        arguments: Of the class.
        training: Learning rate, schedule, batch size, epochs and patience.
    """

    name: str
    network: type[ForecastNetwork]
    arguments: dict[str, Any]
    training: dict[str, Any] = field(default_factory=lambda: dict(TRAINING))

    @classmethod
    def of(cls, network: ForecastNetwork, training: dict[str, Any] | None = None) -> "Recipe":
        """Return the recipe of a network that is there; of a wrapped one, that of the innermost."""
        inner = unwrapped(network)
        arguments = copy.deepcopy(inner.recipe["init_args"])
        _lengths(arguments).update(context=network.context, horizon=network.horizon)
        return cls(type(inner).__name__, type(inner), arguments, TRAINING | (training or {}))

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
        variates, targets = len(spec.variates), spec.targets
        rows = len(spec.known_rows) if spec.covariates else None
        table: dict[str, Any] = {"variates": variates, "known_rows": rows, "outputs": 1}
        if "features" in parameters:
            table["features"] = "S" if variates == 1 else "MS" if targets == 1 else "M"
            table["targets"] = targets if 1 < targets < variates else None
        if self.network.takes_future:
            table["future_covariates"] = spec.future_covariates if spec.covariates else None
        table = {name: value for name, value in table.items() if name in parameters}
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
        names = [
            n.removeprefix("forecast/").removesuffix(".yaml") for n in shipped.names() if n.startswith("forecast/")
        ]
        if model.lower() not in names:
            near = difflib.get_close_matches(model.lower(), names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"There is no model {model!r}, expected one of {', '.join(names)}.{hint}")
        config = shipped.merged(f"forecast/{model.lower()}.yaml", own=False)
        task = config["model"]["init_args"]
        network: Any = checkpoint.class_of({"init_args": {}, **task["network"]})
        name = network.__name__
        arguments = copy.deepcopy(task["network"].get("init_args", {}))
        training = TRAINING | {key: task[key] for key in ("lr", "schedule") if key in task}
        of_paper = config.get("data", {}).get("init_args", {}).get("batch_size", 32)
        training["batch_size"] = max(32, of_paper)  # a smaller one is slow
        training["lr"] *= math.sqrt(training["batch_size"] / of_paper)
        training |= {"max_epochs": config["trainer"]["max_epochs"], "patience": config["patience"]}
    elif isinstance(model, type) and issubclass(model, ForecastNetwork):
        network, arguments, training, name = model, {}, dict(TRAINING), model.__name__
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
    return Recipe(name, network, arguments, training)


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
