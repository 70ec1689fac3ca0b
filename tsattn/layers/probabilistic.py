"""From numbers to quantiles: wrappers around a forecaster that make it say how sure it is.

Ours. `QuantileForecaster` learns quantiles by the pinball loss (Koenker and Bassett, 1978), `StudentTForecaster` the
location and scale of a Student t by its likelihood; `CalibratedForecaster` puts intervals around any trained forecaster
by its errors in windows that it was not trained on: split conformal prediction (Vovk et al., 2005; Lei et al., 2018),
around quantiles as Romano et al. (2019, arXiv:1905.03222) do it.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from tsattn import checkpoint
from tsattn.contracts import ForecastNetwork
from tsattn.layers.checks import check_batch
from tsattn.layers.norm import normalise
from tsattn.quantiles import check_levels, listed, pinball

Distribution = Literal["quantile", "student-t"]
SMALLEST_SIGMA = 1e-4  # added to the scale of a Student t: two equal numbers would have an infinite likelihood
SMALLEST_FREEDOM = 2.1  # below 2 degrees of freedom a Student t has no variance
FIRST_FREEDOM = 5.0  # degrees of freedom before training
CHUNK = 1 << 24  # residuals that are sorted at a time
PASSED_ON = (
    "variates", "targets", "reads_missing", "why_no_missing", "reads_covariates", "reads_known", "future_covariates",
    "known_rows", "patching",
)  # fmt: skip


def with_levels(
    network: ForecastNetwork, levels: Sequence[float], distribution: Distribution = "quantile"
) -> "ProbabilisticForecaster":
    """Make a fresh network like another one that forecasts quantiles.

    Quantiles start in order, as those of a normal distribution do, and a Student t with the scale of its context: each
    number of the last map has its place from the first step on. (Otherwise training is slow, since which number is
    sorted where keeps changing.)

    Args:
        network: Of a point forecast; its weights are not taken over.
        levels: As in `check_levels`.
        distribution: "quantile": each by itself; "student-t": those of a Student t distribution.

    Raises:
        ValueError: If the levels mean nothing, or there is no such distribution.
    """
    if distribution not in ("quantile", "student-t"):
        raise ValueError(f'distribution is "{distribution}", expected "quantile" or "student-t".')
    outputs = len(check_levels(levels)) if distribution == "quantile" else 2
    recipe = {**network.recipe, "init_args": {**network.recipe["init_args"], "outputs": outputs}}
    made = checkpoint.build(recipe)
    assert isinstance(made, ForecastNetwork)
    start = torch.special.ndtri(torch.tensor(levels)) if distribution == "quantile" else torch.tensor([-1.0, 1.0])
    linear = [m for name in made.last for m in made.get_submodule(name).modules() if isinstance(m, nn.Linear)]
    for last in linear[:1]:
        if last.bias is not None and last.out_features == made.horizon * outputs:
            with torch.no_grad():
                last.bias.view(made.horizon, outputs).add_(start)
    return QuantileForecaster(made, levels) if distribution == "quantile" else StudentTForecaster(made, levels)


class ProbabilisticForecaster(ForecastNetwork):
    """A forecaster whose numbers are read as a distribution; its forecasts are quantiles.

    Missing values, covariates, features and attention are those of the wrapped network.

    Args:
        network: The forecaster.
        levels: Of the quantiles, ascending.

    Raises:
        ValueError: If the levels mean nothing.
    """

    levels: tuple[float, ...]

    def __init__(self, network: ForecastNetwork, levels: Sequence[float]) -> None:
        super().__init__(network.context, network.horizon)
        self.network = network
        self.levels = check_levels(levels)
        for name in PASSED_ON:
            setattr(self, name, getattr(network, name))
        self.last = tuple(f"network.{name}" for name in network.last)

    def forward(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target horizon level"]:
        """Forecast quantiles of the targets, in the scale of `past`; they ascend with their levels.

        Args:
            past: As in the network, and so for the others.
            known: See there.
            observed: See there.
        """
        return self.finish(self.raw(past, known, observed))

    def raw(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target horizon *output"]:
        """Return the numbers of the network, which `finish` and `losses` read."""
        return self.network(past, known, observed)

    def finish(self, raw: Float[Tensor, "batch target horizon *output"]) -> Float[Tensor, "batch target horizon level"]:
        """Turn the numbers of `raw` into quantiles."""
        raise NotImplementedError

    def losses(
        self, raw: Float[Tensor, "batch target horizon *output"], future: Float[Tensor, "batch target horizon"]
    ) -> Float[Tensor, "batch target horizon"]:
        """Return what training makes small, for every target and step.

        Args:
            raw: Of `raw`.
            future: What came; finite, also where it is not to count.
        """
        raise NotImplementedError

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target feature"]:
        """Return the network's."""
        return self.network.features(past, known, observed)

    @property
    def feature_size(self) -> int:
        """The network's."""
        return self.network.feature_size

    def attention_maps(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> dict[str, Tensor]:
        """Return the network's."""
        return self.network.attention_maps(past, known, observed)

    @property
    def attention_axes(self) -> dict[str, tuple[str, ...]]:
        """The network's."""
        return self.network.attention_axes


class QuantileForecaster(ProbabilisticForecaster):
    """A network with one number per level, which are learned as quantiles.

    The numbers are sorted, in training, too, so quantiles never cross. The loss is the mean over levels of the pinball
    loss, max(level * error, (level - 1) * error) with error = future - quantile: for the level 0.5 alone, half the
    absolute error.

    Args:
        network: A network made with `outputs=len(levels)`.
        levels: Of the quantiles, ascending.

    Raises:
        ValueError: If the levels mean nothing, or the network gives another number of outputs.
    """

    def __init__(self, network: ForecastNetwork, levels: Sequence[float]) -> None:
        super().__init__(network, levels)
        _need_outputs(self, len(self.levels))

    def finish(self, raw: Float[Tensor, "batch target horizon *output"]) -> Float[Tensor, "batch target horizon level"]:
        """Sort the numbers."""
        return (raw[..., None] if self.network.outputs == 1 else raw).sort(-1).values

    def losses(
        self, raw: Float[Tensor, "batch target horizon *output"], future: Float[Tensor, "batch target horizon"]
    ) -> Float[Tensor, "batch target horizon"]:
        """Return the mean over levels of the pinball loss.

        Args:
            raw: Of `raw`.
            future: What came; finite, also where it is not to count.
        """
        return pinball(self.finish(raw), future, self.levels).mean(-1)


class StudentTForecaster(ProbabilisticForecaster):
    """A network whose two numbers per step are a Student t: its location minus and plus its scale.

    So the distribution moves and grows with the series. The degrees of freedom, one parameter per step of the horizon,
    are the same for all targets. The loss is the negative log likelihood.

    In evaluation mode, quantiles of the standard distribution are those of the parameters at the last call of `eval` or
    `load_state_dict`; in training mode they are worked out anew, which `torch.compile` cannot trace in one graph
    (`raw` and `losses` it can).

    Args:
        network: A network made with `outputs=2`.
        levels: Of the quantiles, ascending.

    Raises:
        ValueError: If the levels mean nothing, or the network gives another number of outputs.
    """

    def __init__(self, network: ForecastNetwork, levels: Sequence[float]) -> None:
        super().__init__(network, levels)
        _need_outputs(self, 2)
        self.freedom = _Freedom(self.horizon, self.levels)
        self.last = (*self.last, "freedom")

    def finish(self, raw: Float[Tensor, "batch target horizon *output"]) -> Float[Tensor, "batch target horizon level"]:
        """Return location + scale * the standard distribution's quantiles."""
        location, scale = _location_and_scale(raw)
        return location[..., None] + scale[..., None] * self.freedom.standard()

    def losses(
        self, raw: Float[Tensor, "batch target horizon *output"], future: Float[Tensor, "batch target horizon"]
    ) -> Float[Tensor, "batch target horizon"]:
        """Return the negative log likelihood.

        Args:
            raw: Of `raw`.
            future: What came; finite, also where it is not to count.
        """
        location, scale = _location_and_scale(raw)
        freedom = self.freedom()
        distance = ((future - location) / scale).square() / freedom
        constant = (freedom / 2).lgamma() - ((freedom + 1) / 2).lgamma() + (freedom * math.pi).log() / 2
        return constant + scale.log() + (freedom + 1) / 2 * distance.log1p()


class _Freedom(nn.Module):
    """Degrees of freedom of each step of the horizon, and the quantiles of the standard distribution."""

    quantiles: Tensor

    def __init__(self, horizon: int, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.levels = levels
        beyond = FIRST_FREEDOM - SMALLEST_FREEDOM
        self.raw = nn.Parameter(torch.full((horizon,), math.log(math.expm1(beyond))))
        self.register_buffer("quantiles", self._work_out(), persistent=False)

    def forward(self) -> Float[Tensor, " horizon"]:
        return SMALLEST_FREEDOM + F.softplus(self.raw)

    def standard(self) -> Float[Tensor, "horizon level"]:
        return self._work_out() if self.training else self.quantiles

    def train(self, mode: bool = True) -> "_Freedom":
        super().train(mode)
        if not mode:
            self.quantiles = self._work_out()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.quantiles = self._work_out()

    @torch.no_grad()
    def _work_out(self) -> Float[Tensor, "horizon level"]:
        from scipy.special import stdtrit  # the quantile function of Student's t

        if self.raw.is_meta:  # nothing but shapes is asked for
            return self.raw.new_empty(len(self.raw), len(self.levels))
        freedom = self().double().cpu().numpy()
        return torch.as_tensor(stdtrit(freedom[:, None], self.levels)).to(self.raw)


class CalibratedForecaster(ProbabilisticForecaster):
    """A trained forecaster with intervals from its errors in windows that it was not trained on.

    A quantile is the network's forecast plus an offset, which belongs to a target, a step and a level. Around a point
    forecast, offsets of the levels q and 1 - q are equal and opposite and that of 0.5 is 0; around quantiles, each
    level has its own. If a new window is exchangeable with those that the offsets are from, the future lies in the
    interval between the levels q and 1 - q with a probability of at least 1 - 2q. Windows of one series are so only
    roughly: they overlap, and series change.

    Args:
        network: A point forecaster, or one of quantiles of the same levels.
        levels: Of the quantiles, ascending.
        targets: How many of the network's first forecasts are targets; the others are left out.
        local: Whether offsets grow with the deviation of the target's context: wide where a series is restless.

    Attributes:
        offset: (targets, horizon, levels), NaN until `fit_offsets`; in the data's units, or in deviations if `local`.

    Raises:
        ValueError: If the levels mean nothing or are not the network's, or the network has too few targets.
    """

    offset: Tensor

    def __init__(self, network: ForecastNetwork, levels: Sequence[float], targets: int, local: bool = True) -> None:
        super().__init__(network, levels)
        if network.levels is None and network.outputs > 1:
            raise ValueError(
                f"CalibratedForecaster: {type(network).__name__} has outputs={network.outputs} that mean nothing by "
                "themselves, expected a point forecaster or one of quantiles."
            )
        if network.levels is not None and network.levels != self.levels:
            raise ValueError(
                f"CalibratedForecaster: levels is {listed(self.levels)}, expected those of the network, "
                f"{listed(network.levels)}."
            )
        most = network.variates if network.targets is None else network.targets
        if targets < 1 or (most is not None and targets > most):
            fitting = "at least 1" if most is None else f"1 to {most}"
            raise ValueError(
                f"CalibratedForecaster: targets is {targets}, expected {fitting} of {type(network).__name__}."
            )
        self.targets, self.local = targets, local
        shape = (targets, self.horizon, len(self.levels))
        self.register_buffer("offset", torch.full(shape, float("nan")))

    def raw(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target horizon level"]:
        """Return the network's forecast plus the offsets."""
        check_batch(self, past, known, observed)
        forecast = self.network(past, known, observed)[:, : self.targets]
        if forecast.shape[1] != len(self.offset):
            raise ValueError(
                f"CalibratedForecaster: the network forecasts {forecast.shape[1]} targets, expected {len(self.offset)}."
            )
        if self.network.levels is None:
            forecast = forecast[..., None]
        return forecast + self.offset * self.spread(past, observed)[..., None]

    def finish(self, raw: Float[Tensor, "batch target horizon *output"]) -> Float[Tensor, "batch target horizon level"]:
        """Sort the numbers."""
        return raw.sort(-1).values

    def losses(
        self, raw: Float[Tensor, "batch target horizon *output"], future: Float[Tensor, "batch target horizon"]
    ) -> Float[Tensor, "batch target horizon"]:
        """Refuse: offsets are not learned.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("CalibratedForecaster has no loss: train its network, then call fit_offsets.")

    def features(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target feature"]:
        """Return the network's, of the targets."""
        return self.network.features(past, known, observed)[:, : self.targets]

    def spread(
        self,
        past: Float[Tensor, "batch variate context"],
        observed: Bool[Tensor, "batch variate context"] | None = None,
    ) -> Float[Tensor, "batch target 1"]:
        """Return what offsets are multiplied with: the deviation of each target's context, or 1 if not `local`."""
        targets = past[:, : self.targets]
        if not self.local:
            return past.new_ones(()).expand(*targets.shape[:2], 1)
        return normalise(targets, None if observed is None else observed[:, : self.targets]).scale

    def fit_offsets(
        self,
        forecasts: Float[Tensor, "window target horizon *level"],
        futures: Float[Tensor, "window target horizon"],
        spreads: Float[Tensor, "window target 1"],
    ) -> None:
        """Take the offsets from windows that the network was not trained on.

        Args:
            forecasts: Of the wrapped network, for the targets.
            futures: What came; NaN where it is missing.
            spreads: Of `spread`.

        Raises:
            ValueError: As `conformal_offsets`.
        """
        with torch.no_grad():
            self.offset.copy_(conformal_offsets(forecasts, futures, spreads, self.levels))


@torch.no_grad()
def conformal_offsets(
    forecasts: Float[Tensor, "window target horizon *level"],
    futures: Float[Tensor, "window target horizon"],
    spreads: Float[Tensor, "window target 1"],
    levels: Sequence[float],
) -> Float64[Tensor, "target horizon level"]:
    """Return by how many spreads the future was above the forecast, at each level, over windows.

    With n windows and errors (future - forecast) / spread, the offset of level q is the ceil((n + 1) q)-th smallest
    error if q is at least 0.5, else the floor((n + 1) q)-th. Around a point forecast (no axis of levels) it is minus or
    plus the ceil((n + 1) |1 - 2q|)-th smallest absolute error, and 0 for 0.5.

    Args:
        forecasts: Points, or quantiles of `levels`.
        futures: What came; NaN where it is missing, which leaves a window out for that target and step.
        spreads: Above 0.
        levels: As in `check_levels`.

    Raises:
        ValueError: If a target has so few observed windows that a level's rank is not among them.
    """
    levels = check_levels(levels)
    windows, targets, horizon = futures.shape
    point = forecasts.ndim == 3
    offsets = torch.zeros(targets, horizon, len(levels), dtype=torch.float64, device=futures.device)
    at_a_time = max(1, CHUNK // max(1, windows * horizon))
    for begin in range(0, targets, at_a_time):
        part = slice(begin, begin + at_a_time)
        future, spread = futures[:, part].double(), spreads[:, part].double()
        count = (~future.isnan()).sum(0)  # (target, horizon)
        errors: Tensor | None = None
        for i, level in enumerate(levels):
            rank, needed = _rank(count, level, point)
            if rank is None:
                continue
            few = int(count.min())
            if few < needed:
                target, step = divmod(int(count.argmin()), horizon)
                raise ValueError(
                    f"Target {begin + target} has {few} windows in which step {step + 1} of the horizon was observed, "
                    f"expected at least {needed} for the level {level:g}: calibrate with more rows, or with levels "
                    "nearer to 0.5."
                )
            if errors is None or not point:
                forecast = (forecasts if point else forecasts[..., i])[:, part].double()
                error = (future - forecast) / spread
                # NaN sorts last, behind every rank.
                errors = (error.abs() if point else error).permute(1, 2, 0).contiguous().sort(-1).values
            found = errors.gather(-1, (rank - 1)[..., None])[..., 0]
            offsets[part, :, i] = found.copysign(found.new_tensor(level - 0.5)) if point else found
    return offsets


@torch.no_grad()
def intervals_loss(
    forecasts: Float[Tensor, "window target horizon *level"],
    futures: Float[Tensor, "window target horizon"],
    spreads: Float[Tensor, "window target 1"],
    levels: Sequence[float],
) -> float:
    """Return the mean pinball loss in the later half of windows, by offsets of the earlier half; inf if that is short.

    Args:
        forecasts: As in `conformal_offsets`, in the order of time, and so for the others.
        futures: See there.
        spreads: See there.
        levels: See there.
    """
    half = len(futures) // 2
    try:
        offsets = conformal_offsets(forecasts[:half], futures[:half], spreads[:half], levels).to(futures)
    except ValueError:  # too few windows for the outermost level
        return math.inf
    later = forecasts[half:] if forecasts.ndim == 4 else forecasts[half:, ..., None]
    quantiles = (later + offsets * spreads[half:, ..., None]).sort(-1).values
    there = ~futures[half:].isnan()
    each = pinball(quantiles, torch.where(there, futures[half:], 0), levels)
    return float(each[there].mean())


def _rank(count: Tensor, level: float, point: bool) -> tuple[Tensor | None, int]:
    """Return which of `count` sorted errors is a level's offset, None if it is 0, and how many errors that takes."""
    tiny = 1e-9  # 10 * (1 - 2 * 0.35) is 3.0000000000000004 and means 3
    if point:
        share = abs(1 - 2 * level)
        if share == 0:
            return None, 0
    else:
        share = level
    if point or level >= 0.5:
        return ((count + 1) * share - tiny).ceil().long().clamp(min=1), math.ceil(share / (1 - share) - tiny)
    return ((count + 1) * share + tiny).floor().long(), math.ceil(1 / share - 1 - tiny)


def _need_outputs(wrapper: ProbabilisticForecaster, outputs: int) -> None:
    network = wrapper.network
    if network.levels is not None or network.outputs != outputs:
        found = f"outputs={network.outputs}" if network.levels is None else "quantiles already"
        raise ValueError(
            f"{type(wrapper).__name__}: {type(network).__name__} has {found}, expected a network made with "
            f"outputs={outputs} for levels={listed(wrapper.levels)}."
        )


def _location_and_scale(
    raw: Float[Tensor, "batch target horizon 2"],
) -> tuple[Float[Tensor, "batch target horizon"], Float[Tensor, "batch target horizon"]]:
    """Return the middle of two numbers and half their distance; which of them is larger does not matter."""
    return raw.mean(-1), (raw[..., 1] - raw[..., 0]).abs() / 2 + SMALLEST_SIGMA
