"""The promises between the data wing and the model wing: the shape of a batch, what a network is, what its data was.

Nothing here reads files or trains. Axis order is `(batch, variate, time)` everywhere, time last.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from tsattn import documents

Fill = Literal["none", "forward", "linear"]
Role = Literal["known", "past", "static"]
NOTICE = "Research software. Not a medical device; nothing here may guide the care of a patient."


class Batch(NamedTuple):
    """One batch of windows. The targets are the first variates of `past`, in the same order.

    `total` is context + horizon. Values are standardised; a missing value is NaN. The rows of `known` are those of
    `TableSpec.known_rows`.
    """

    past: Float[Tensor, "batch variate context"]
    future: Float[Tensor, "batch target horizon"]
    known: Float[Tensor, "batch known total"] | None = None
    observed: Bool[Tensor, "batch variate context"] | None = None  # None: nothing is missing in `past`


class RecordingBatch(NamedTuple):
    """Windows of recordings, of patients with different channels, each cut into segments; in microvolts.

    A channel that a recording does not have is zero and False in `channel_mask`; a segment that was not recorded is
    zero and False in `observed`. Windows of a recording with more channels than a model's may come in several
    readings: rows with the same `recording` and `begin`, whose outputs are averaged.
    """

    signal: Float[Tensor, "batch segment channel time"]
    channel_mask: Bool[Tensor, "batch channel"]
    observed: Bool[Tensor, "batch segment channel"]
    label: Int[Tensor, "batch *segment"]
    recording: Int[Tensor, " batch"]  # place in the data module's `recordings`
    begin: Float64[Tensor, " batch"]  # seconds from the recording's start
    channels: Int[Tensor, "batch channel"]  # place in the recording's table of channels; -1 where there is none


def _remember_arguments(cls: type, init: Callable[..., None]) -> Callable[..., None]:
    """Wrap `__init__` so that the outermost call leaves its arguments behind as `recipe`."""

    @functools.wraps(init)
    def wrapped(self: "Network", *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self) is cls:
            bound = inspect.signature(init).bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = dict(list(bound.arguments.items())[1:])
            self.recipe = {
                "class_path": f"{cls.__module__}.{cls.__qualname__}",
                "init_args": {
                    name: value.recipe
                    if isinstance(value, Network)
                    else list(value)
                    if isinstance(value, tuple)
                    else value
                    for name, value in arguments.items()
                },
            }

    return wrapped


class Network(nn.Module):
    """A network that remembers the arguments it was made with.

    Attributes:
        recipe: `{"class_path": ..., "init_args": {...}}`, plain data from which `checkpoint.build` makes an equal one.
        spec_type: Class of what a checkpoint says of the data that the network was trained on.
    """

    recipe: dict[str, Any]
    spec_type: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__init__ = _remember_arguments(cls, cls.__init__)  # type: ignore[method-assign]


class ForecastNetwork(Network):
    """A network that reads `context` steps of several variates and forecasts `horizon` steps of the targets.

    A subclass calls `super().__init__(context, horizon)` and implements `forward` (and, where its maths has them,
    `features` and `attention_maps`). It sees tensors only: no file, no table, no trainer.

    Attributes:
        context: Steps read.
        horizon: Steps predicted.
        variates: Number of series in `past` that the weights are made for; None if any number will do.
        targets: Number of targets that are forecast; None if every series of `past` is.
        reads_missing: Whether `observed` may hold False. If not, `why_no_missing` says why in one clause.
        reads_covariates: Whether the forecast of a target depends on other series of `past`.
        reads_known: Whether it depends on the context of `known`.
        future_covariates: None: the horizon of `known` is not read. Else all of `known` is, NaN where missing, and so
            many of its first rows have a level and a spread of their own, which are taken out over their context.
        known_rows: Rows that `known` must have, each told from the others; None: any number, a set.
        takes_future: Whether the class has an argument `future_covariates`.
        levels: Quantile levels along the last axis of a forecast; None if a forecast is a point and has no such axis.
        outputs: Numbers that a network forecasts per step for a wrapper in `tsattn.layers.probabilistic`; 1: no axis.
        last: Names of the modules that turn features into a forecast.
        patching: Steps of a patch, steps from one to the next, and number of patches; None if there are none.
    """

    context: int
    horizon: int
    variates: int | None = None
    targets: int | None = None
    reads_missing: bool = True
    why_no_missing: str = ""
    reads_covariates: bool = True
    reads_known: bool = True
    future_covariates: int | None = None
    known_rows: int | None = None
    takes_future: ClassVar[bool] = False
    levels: tuple[float, ...] | None = None
    outputs: int = 1
    last: tuple[str, ...] = ()
    patching: tuple[int, int, int] | None = None

    def __init__(self, context: int, horizon: int) -> None:
        super().__init__()
        for name, value in (("context", context), ("horizon", horizon)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {value}, expected at least 1 step.")
        self.context = context
        self.horizon = horizon

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target horizon *output"]:
        """Forecast the targets, in the scale of `past`.

        Args:
            past: The context of every variate, targets first, then past-only covariates.
            known: What is known over context and horizon (covariates, calendar marks); networks without a use for it
                ignore it.
            observed: False where a value of `past` is missing; what stands there is not read. None: all observed.
        """
        raise NotImplementedError

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target feature"]:
        """Return what the network's last linear map reads, one vector per target; its size is `feature_size`."""
        raise NotImplementedError(f"{type(self).__name__} has no per-variate features.")

    @property
    def feature_size(self) -> int:
        """Length of one vector of `features`."""
        raise NotImplementedError(f"{type(self).__name__} has no per-variate features.")

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Tensor]:
        """Return every softmax of one forward pass by name (`layer 0`, ...); the last two axes are query and key.

        A name without "layer <number>" is the kind of a map; `attention_axes` says what its axes are.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attention maps.")

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes after `batch` for each kind of `attention_maps`, the first kind the most telling one.

        An axis is "head", "variate" (targets, past-only covariates; as query or key also rows of `known` after them),
        "target", "exogenous" (series and rows of `known` that targets read), "patch", "token" (a target's patches, then
        its global token) or "cell" (patch-major: patch 0 of every channel, patch 1, ...).
        """
        return {}


class SegmentNetwork(Network):
    """A network that reads a window of a recording as a grid of segments x channels: each alone, then all together.

    A subclass calls `super().__init__(...)` and implements `encode`, `mix` and `predict_next`. It sees tensors only.

    Attributes:
        sfreq: Hz of the signal.
        segment_seconds: Length of a segment.
        segments: Of a window.
        d_model: Length of a token.
        max_channels: Largest number of channels; None: any.
        head: What `predict_next` needs and nothing else does; None if there is none.
    """

    sfreq: float
    segment_seconds: float
    segments: int
    d_model: int
    max_channels: int | None
    head: nn.Module | None

    def __init__(
        self, sfreq: float, segment_seconds: float, segments: int, d_model: int, max_channels: int | None
    ) -> None:
        super().__init__()
        for name, number in (("sfreq", sfreq), ("segment_seconds", segment_seconds)):
            if not 0 < number < 1e6:
                raise ValueError(f"{type(self).__name__}: {name} is {number:g}, expected above 0.")
        if segments < 1:
            raise ValueError(f"{type(self).__name__}: segments is {segments}, expected at least 1.")
        samples = sfreq * segment_seconds
        if abs(samples - round(samples)) > 1e-6 or round(samples) < 1:
            raise ValueError(
                f"{type(self).__name__}: a segment of {segment_seconds:g} s is {samples:g} samples at {sfreq:g} Hz, "
                "expected a whole number."
            )
        self.sfreq, self.segment_seconds, self.segments = sfreq, segment_seconds, segments
        self.d_model, self.max_channels = d_model, max_channels
        self.head = None

    @property
    def samples(self) -> int:
        """Of a segment."""
        return round(self.sfreq * self.segment_seconds)

    @property
    def window_seconds(self) -> float:
        """Length of a window."""
        return self.segments * self.segment_seconds

    def encode(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch d_model"]:
        """Turn each segment of one channel, in microvolts, into a token, without a look at any other.

        Args:
            signal: `samples` long.
        """
        raise NotImplementedError

    def mix(
        self,
        tokens: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
    ) -> Float[Tensor, "batch segment channel d_model"]:
        """Let the tokens of a window read each other.

        Args:
            tokens: Of `encode`.
            channel_mask: False for a channel that a recording does not have: it changes nothing, its output is 0.
            observed: False for a segment that was not recorded: it is not read, and its output means nothing.
        """
        raise NotImplementedError

    def mix_last(
        self,
        tokens: Float[Tensor, "batch segment channel d_model"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch channel d_model"]:
        """Return `mix(...)[:, -1]`, which may take less work.

        Args:
            tokens: As in `mix`, and so for the masks.
            channel_mask: See there.
            observed: See there.
            weights: A list to which each layer's attention of the last segment's tokens is appended, (batch, head,
                channel, segment, channel): the last two axes are what is read.
        """
        if weights is not None:
            raise NotImplementedError(f"{type(self).__name__} has no attention weights.")
        return self.mix(tokens, channel_mask, observed)[:, -1]

    def predict_next(
        self, hidden: Float[Tensor, "batch segment channel d_model"]
    ) -> Float[Tensor, "batch segment channel d_model"]:
        """Predict, from the output of `mix`, the token of the segment after each one."""
        raise NotImplementedError(f"{type(self).__name__} was made without a head for pre-training.")

    def forward(
        self,
        signal: Float[Tensor, "batch segment channel time"],
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        observed: Bool[Tensor, "batch segment channel"] | None = None,
    ) -> Float[Tensor, "batch segment channel d_model"]:
        """Encode every segment, then let them read each other."""
        return self.mix(self.encode(signal), channel_mask, observed)


def _check_statistics(name: str, mean: float, scale: float) -> None:
    if not (math.isfinite(mean) and 0 < scale < math.inf):
        raise ValueError(
            f"{name!r} has the mean {mean} and the deviation {scale}, expected finite numbers, the second above 0."
        )


@dataclass(frozen=True)
class Covariate:
    """A column behind one row, or one row per category, of `Batch.known`.

    Attributes:
        name: Of the column.
        role: "known": its horizon is known, too; "past": it ends with the context; "static": it is constant in an item.
        categories: Its values, in order; None if it holds numbers.
        mean: Of the numbers, over the training rows.
        scale: Their standard deviation.
        shares: Share of each category in the training rows that have one: each row is standardised by it, as a column
            of 0 and 1 is by its mean and deviation. None: rows are 0 and 1, as in checkpoints of older versions.

    Raises:
        ValueError: If a statistic is impossible.
    """

    name: str
    role: Role
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    scale: float = 1.0
    shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_statistics(self.name, self.mean, self.scale)
        if self.shares is None:
            return
        if len(self.shares) != len(self.categories or ()) or not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(
                f"{self.name!r} has the shares {list(self.shares)} of {len(self.categories or ())} categories, "
                "expected a number from 0 to 1 of each."
            )

    @property
    def rows(self) -> int:
        """Rows of `Batch.known` that it fills."""
        return 1 if self.categories is None else len(self.categories)

    @property
    def statistics(self) -> tuple[tuple[float, float], ...]:
        """Mean and scale of each row, in the table's units: of a category those of a column of 0 and 1."""
        if self.categories is None:
            return ((self.mean, self.scale),)
        if self.shares is None:
            return ((0.0, 1.0),) * self.rows
        return tuple((share, math.sqrt(share * (1 - share)) or 1.0) for share in self.shares)

    @property
    def has_level(self) -> bool:
        """Whether its rows are standardised numbers, whose level over the context is taken out where they are known."""
        return self.categories is None or self.shares is not None


@dataclass(frozen=True)
class TableSpec:
    """What a forecaster must know of the table it was trained on, in plain data; travels in its checkpoint.

    Attributes:
        variates: Column names in the order of `Batch.past`: targets first, then past-only covariates of numbers.
        targets: How many of them are targets.
        mean: Of each variate over the observed rows of the training split.
        scale: Standard deviation (ddof 0) of the same; 1 for a constant column.
        frequency: Step of the table as a pandas offset alias ("h", "15min"), or "" if the rows have no clock.
        marks: Names of the calendar features in `Batch.known`, in order; empty if none are used.
        season: Steps of one season, for the seasonal-naive score.
        fill: How missing values are filled before the network sees them ("none": they are masked).
        covariates: What stands in `Batch.known` before the marks: numbers known ahead come first.
        units: Of each variate ("" if it has none); empty if no variate has one.
        columns: Names of the table's columns of items and of times.
        zone: Time zone of the clock, "" if it has none; None if that is not known.
        gaps: Step at which absent rows are missing ones (`freq` of a forecaster's `fit`); "": they are an error.
        reading: How the table was read, where that is not the default: what `tsattn.data.reading.Reading` holds.
        step: Of a clock of whole numbers, such as years; 0: the clock is of dates, or there is none.

    Raises:
        ValueError: If the parts do not fit together.
    """

    variates: tuple[str, ...]
    targets: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    frequency: str
    marks: tuple[str, ...] = ()
    season: int = 1
    fill: Fill = "none"
    covariates: tuple[Covariate, ...] = ()
    units: tuple[str, ...] = ()
    columns: tuple[str, str] = ("item_id", "timestamp")
    zone: str | None = None
    gaps: str = ""
    reading: dict[str, Any] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.reading, dict):
            raise ValueError(f"reading is {self.reading!r}, expected a table of options.")
        if not 1 <= self.targets <= len(self.variates):
            raise ValueError(f"targets is {self.targets}, expected 1 to {len(self.variates)}, the number of variates.")
        if len(self.columns) != 2 or not all(isinstance(name, str) for name in self.columns):
            raise ValueError(
                f"columns is {self.columns!r}, expected the names of the column of items and of that of times."
            )
        if len(set(self.columns_read)) < len(self.columns_read):
            raise ValueError(f"A column is named twice in {', '.join(self.columns_read)}, expected each once.")
        if not len(self.variates) == len(self.mean) == len(self.scale):
            raise ValueError(
                f"There are {len(self.mean)} means and {len(self.scale)} scales of {len(self.variates)} variates, "
                "expected one of each."
            )
        if len(self.units) not in (0, len(self.variates)):
            raise ValueError(f"There are {len(self.units)} units of {len(self.variates)} variates, expected one each.")
        if self.season < 1:
            raise ValueError(f"season is {self.season}, expected at least 1 step.")
        for name, mean, scale in zip(self.variates, self.mean, self.scale, strict=True):
            _check_statistics(name, mean, scale)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings; `TableSpec.from_dict` reads them back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "TableSpec":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: If a field is missing, unknown or of another type; names it.
        """
        arguments = documents.arguments_of(cls, plain, "the specification of the table")
        covariates = arguments.get("covariates", ())
        arguments["covariates"] = tuple(
            Covariate(**documents.arguments_of(Covariate, column, f"covariate {number} of the table"))
            for number, column in enumerate(covariates)
        )
        return cls(**arguments)

    @property
    def future_covariates(self) -> int:
        """How many rows hold standardised numbers that are known ahead: the first ones of `Batch.known`."""
        return sum(c.rows for c in self.covariates if c.role == "known" and c.has_level)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Names of all columns that a forecast needs."""
        return (*self.variates, *(c.name for c in self.covariates))

    @property
    def known_rows(self) -> tuple[str, ...]:
        """Names of the rows of `Batch.known`, in order; a category's is "column = value"."""
        rows: list[str] = []
        for c in self.covariates:
            rows += [c.name] if c.categories is None else [f"{c.name} = {value}" for value in c.categories]
        return (*rows, *self.marks)

    @property
    def known_statistics(self) -> tuple[tuple[float, float], ...]:
        """Mean and scale of each of the `known_rows` as a user has them: in the table's units, a category 1 or 0."""
        rows = [row for covariate in self.covariates for row in covariate.statistics]
        return (*rows, *((0.0, 1.0) for _ in self.marks))

    @property
    def network_arguments(self) -> dict[str, Any]:
        """What the table tells a network: the values of those of its arguments that are read off the table.

        `features` is the papers' word: "M" (all columns are targets, or several are beside others), "MS" (one is, the
        others are only read), "S" (there is only one column).
        """
        series = len(self.variates)
        ahead = bool(self.covariates)
        return {
            "variates": series,
            "features": "S" if series == 1 else "MS" if self.targets == 1 else "M",
            "targets": self.targets if 1 < self.targets < series else None,
            "future_covariates": self.future_covariates if ahead else None,
            "known_rows": len(self.known_rows) if ahead else None,
        }

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets."""
        return self.variates[: self.targets]

    def standardise(self, values: Float[Tensor, "*batch variate time"]) -> Float[Tensor, "*batch variate time"]:
        """Subtract the mean and divide by the scale, in float64, and return float32; one variate at a time.

        Raises:
            ValueError: If there are more or fewer variates than statistics.
        """
        if values.shape[-2] != len(self.mean):
            raise ValueError(
                f"The table has {values.shape[-2]} variates, expected {len(self.mean)}: {', '.join(self.variates)}."
            )
        if values.numel() < 1_000_000:  # one step costs less than one per variate
            mean = torch.tensor(self.mean, dtype=torch.float64, device=values.device)[:, None]
            scale = torch.tensor(self.scale, dtype=torch.float64, device=values.device)[:, None]
            return ((values - mean) / scale).float()
        scaled = torch.empty(values.shape, dtype=torch.float32, device=values.device)
        for i, (middle, spread) in enumerate(zip(self.mean, self.scale, strict=True)):
            scaled[..., i, :] = (values[..., i, :].double() - middle) / spread
        return scaled

    def restore(self, forecast: Float[Tensor, "batch target time *level"]) -> Float[Tensor, "batch target time *level"]:
        """Bring a forecast of the targets back to the table's units, in float64."""
        shape = (-1,) + (1,) * (forecast.ndim - 2)
        mean = torch.tensor(self.mean[: self.targets], dtype=torch.float64, device=forecast.device).view(shape)
        scale = torch.tensor(self.scale[: self.targets], dtype=torch.float64, device=forecast.device).view(shape)
        return forecast.double() * scale + mean


@dataclass(frozen=True)
class SignalSpec:
    """What a network must know of the recordings it was trained on, in plain data; travels in its checkpoint.

    Rate, segments and channels are the network's own; this is the rest of the contract.

    Attributes:
        preparation: How recordings were prepared: the parameters of `tsattn.recordings.preparation.preset.Preset`.
        unit: Of the signal.
        more_channels: What is done with more channels than the network's `max_channels`, by name.
        gaps: Whether windows that touch a gap are left without an answer ("drop") or read as far as they were
            recorded ("mask").
        postprocessing: From probabilities to events, fitted on validation subjects; None if that was not done.
        fitted: What the fit scored, and by which rules.
        pretrained_on: Pseudonyms of the subjects in pre-training, whose labels were not used.
        trained_on: Of those in training.
        validated_on: Of those by whom the best epoch and the post-processing were chosen.
        domain: What the training recordings were like: types of channels, rates at which they were recorded, numbers
            of channels, pairs or single contacts (`tsattn.recordings.domain`); None if that is not known.
    """

    preparation: dict[str, Any]
    unit: str = "uV"
    more_channels: str = "raise"
    gaps: str = "drop"
    postprocessing: dict[str, Any] | None = None
    fitted: dict[str, Any] | None = None
    pretrained_on: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    validated_on: tuple[str, ...] = ()
    domain: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings; `SignalSpec.from_dict` reads them back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "SignalSpec":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: If a field is missing, unknown or of another type; names it.
        """
        return cls(**documents.arguments_of(cls, plain, "the specification of the recordings"))


ForecastNetwork.spec_type = TableSpec
SegmentNetwork.spec_type = SignalSpec
