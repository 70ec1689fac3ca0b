"""Two seizure detectors without a deep network, to compare against: line length, and a linear model of band powers.

And a floor that calls everything a seizure, which an event score rewards well where seizures are dense. The detectors
speak of each 5 s segment of a prepared recording; they are fitted on training subjects, choose on validation subjects.
Features are logarithms per channel and segment, brought to a level of their own in one of two ways:

    "past"       less the median of the 24 segments (120 s) before: causal, and what a window of 125 s can know
    "recording"  less the median of the whole recording, over its spread (1.4826 MAD): looks ahead, and so stronger

Line length was proposed for seizure onsets in iEEG by Esteller et al. (2001), doi 10.1109/IEMBS.2001.1020545.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from scipy import fft
from scipy.optimize import minimize
from scipy.special import expit

from tsattn.recordings.recording import Recording
from tsattn.recordings.windows.labels import label_windows

SEGMENT = 5.0  # s
PAST = 24  # segments
BANDS = {  # Hz; 50 and 60 Hz of the mains lie in none
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "low gamma": (30.0, 45.0),
    "gamma": (65.0, 90.0),
    "high gamma": (90.0, 120.0),
}
LEAST_POWER = 1e-3  # uV^2 in a band, so that a flat channel has a logarithm; an amplifier's noise is far above
LEAST_LENGTH = 1e-2  # uV per sample
LEAST_SPREAD = 0.05  # of a logarithm over a recording, so that a flat channel does not explode
AT_ONCE = 60  # segments that are read together
PENALTIES = tuple(10.0**power for power in range(-5, 2))
Level = Literal["past", "recording"]
Signal = Float[np.ndarray, "segment channel time"]
Series = Float[np.ndarray, "segment ..."]


def segment_begins(recording: Recording) -> Float[np.ndarray, " segment"]:
    """Return when each whole segment of a recording begins, seconds."""
    return SEGMENT * np.arange(int((recording.duration + 1e-9) // SEGMENT))


def segment_labels(recording: Recording) -> Bool[np.ndarray, " segment"]:
    """Return which segments a seizure touches."""
    return label_windows(recording.events, segment_begins(recording), 1, SEGMENT).astype(bool)


def by_segment(
    recording: Recording, function: Callable[[Signal, float], Float[np.ndarray, "segment channel *feature"]]
) -> Float[np.ndarray, "segment channel *feature"]:
    """Return a function of all segments, some of which it gets at a time: microvolts, and the rate in Hz."""
    length, found = round(SEGMENT * recording.sfreq), []
    segments = len(segment_begins(recording))
    for first in range(0, segments, AT_ONCE):
        count = min(AT_ONCE, segments - first)
        values = recording.read(first * length, (first + count) * length)
        pieces = values.reshape(len(values), count, length).swapaxes(0, 1)
        found.append(function(pieces.astype(np.float32), recording.sfreq))
    return np.concatenate(found)


def line_length(signal: Signal, sfreq: float) -> Float[np.ndarray, "segment channel"]:
    """Return the logarithm of the mean absolute step from sample to sample, in uV per second."""
    return np.log(np.maximum(np.abs(np.diff(signal)).mean(-1), LEAST_LENGTH) * sfreq)


def band_powers(signal: Signal, sfreq: float) -> Float[np.ndarray, "segment channel band"]:
    """Return the logarithm of the power in each band (uV^2, Hann window), and of the line length behind them."""
    length = signal.shape[-1]
    taper = np.hanning(length).astype(np.float32)
    centred = signal - signal.mean(-1, keepdims=True)
    power = np.abs(fft.rfft(centred * taper)) ** 2 / (length * (taper**2).sum() / 2)
    frequency = fft.rfftfreq(length, 1 / sfreq)
    found = [power[..., (frequency >= low) & (frequency < high)].sum(-1) for low, high in BANDS.values()]
    powers = np.log(np.maximum(np.stack(found, -1), LEAST_POWER))
    return np.concatenate([powers, line_length(signal, sfreq)[..., None]], -1)


def past(values: Series, count: int, reduce: Callable[..., np.ndarray]) -> Series:
    """Reduce, for each segment, up to `count` segments before it; NaN where none of them is known."""
    before = np.concatenate([np.full((count, *values.shape[1:]), np.nan, values.dtype), values[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(before, count, axis=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(All-NaN|Mean of empty)", RuntimeWarning)
        return reduce(windows, axis=-1)


def levelled(values: Series, level: Level) -> Series:
    """Bring each channel's logarithms to a level of their own; see the file's head."""
    if level == "past":
        return values - past(values, PAST, np.nanmedian)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        middle = np.nanmedian(values, axis=0)
        spread = 1.4826 * np.nanmedian(np.abs(values - middle), axis=0)
    return (values - middle) / np.maximum(spread, LEAST_SPREAD)


def top_quarter(values: Float[np.ndarray, "segment channel"]) -> Float[np.ndarray, " segment"]:
    """Return the mean over the quarter of the channels (at least one) with the highest values; NaN without any."""
    known = np.isfinite(values).sum(1)
    high_first = -np.sort(-values, axis=1)  # NaN comes last
    many = np.maximum(np.ceil(known / 4), 1).astype(int)
    total = np.cumsum(np.nan_to_num(high_first), axis=1)
    return np.where(known > 0, total[np.arange(len(values)), many - 1] / many, np.nan)


def over_channels(values: Float[np.ndarray, "segment channel feature"]) -> Float[np.ndarray, "segment kind"]:
    """Return mean, median, upper quarter, 90 % quantile and maximum over channels of each feature."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(All-NaN|Mean of empty)", RuntimeWarning)
        quantiles = np.nanquantile(values, [0.5, 0.75, 0.9, 1.0], axis=1)
        return np.concatenate([np.nanmean(values, axis=1), *quantiles], axis=-1)


class Always:
    """Calls every segment a seizure. What does not score clearly better has found nothing."""

    def fit(self, train: Sequence[Recording], val: Sequence[Recording]) -> None:
        """Learn nothing."""

    def probability(self, recording: Recording) -> xr.DataArray:
        """Return 1 for each segment."""
        begins = segment_begins(recording)
        return xr.DataArray(np.ones(len(begins)), dims="time", coords={"time": begins})


class Logistic:
    """Logistic regression with an L2 penalty, both classes weighing the same, on standardised features.

    Args:
        penalty: Weight of half the sum of the squared coefficients, beside the mean loss.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def fit(self, x: Float[np.ndarray, "row feature"], y: Bool[np.ndarray, " row"]) -> "Logistic":
        """Find the one minimum."""
        if not (y.any() and not y.all()):
            raise ValueError(f"{int(y.sum())} of {len(y)} segments are in a seizure, expected some of both classes.")
        self.mean, self.sd = x.mean(0), np.maximum(x.std(0), 1e-9)
        z, sign = (x - self.mean) / self.sd, np.where(y, 1.0, -1.0)
        weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            margin = sign * (z @ parameters[1:] + parameters[0])
            slope = -weight * sign * expit(-margin)
            inner = self.penalty * parameters[1:]
            value = weight @ np.logaddexp(0, -margin) + inner @ parameters[1:] / 2
            return value, np.r_[slope.sum(), z.T @ slope + inner]

        found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
        self.parameters = found.x
        return self

    def __call__(self, x: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, " row"]:
        """Return probabilities, as if half of all segments were in a seizure; NaN where a feature is."""
        return expit((x - self.mean) / self.sd @ self.parameters[1:] + self.parameters[0])

    def loss(self, x: Float[np.ndarray, "row feature"], y: Bool[np.ndarray, " row"]) -> float:
        """Return the mean loss of both classes, without the penalty."""
        margin = np.where(y, 1.0, -1.0) * ((x - self.mean) / self.sd @ self.parameters[1:] + self.parameters[0])
        losses = np.logaddexp(0, -margin)
        return float((losses[y].mean() + losses[~y].mean()) / 2)


class Baseline:
    """A logistic regression on features of segments, its penalty chosen on validation subjects.

    Args:
        level: "past" or "recording", as in the file's head.
    """

    def __init__(self, level: Level) -> None:
        self.level: Level = level
        self._known: dict[str, np.ndarray] = {}

    def compute(self, recording: Recording) -> Float[np.ndarray, "segment feature"]:
        """Return the features of a recording's segments; NaN where they are not known."""
        raise NotImplementedError

    def features(self, recording: Recording) -> Float[np.ndarray, "segment feature"]:
        """Return the features, computed once a recording."""
        if recording.id not in self._known:
            self._known[recording.id] = self.compute(recording)
        return self._known[recording.id]

    def fit(self, train: Sequence[Recording], val: Sequence[Recording]) -> None:
        """Fit on training subjects with each penalty; the one with the smallest loss on validation subjects stays."""
        fits = [Logistic(penalty).fit(*self._rows(train)) for penalty in PENALTIES]
        rows = self._rows(val)
        self.model = min(fits, key=lambda fit: fit.loss(*rows))

    def probability(self, recording: Recording) -> xr.DataArray:
        """Return one probability a segment, coordinate `time`: when the segment begins, seconds."""
        return xr.DataArray(
            self.model(self.features(recording)), dims="time", coords={"time": segment_begins(recording)}
        )

    def _rows(self, recordings: Sequence[Recording]) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of all segments that have a whole past and no gap."""
        x = np.concatenate([self.features(recording)[PAST:] for recording in recordings])
        y = np.concatenate([segment_labels(recording)[PAST:] for recording in recordings])
        known = np.isfinite(x).all(1)
        return x[known], y[known]


class LineLength(Baseline):
    """Line length of each channel at its own level; the mean of the top quarter of the channels is the one feature."""

    def compute(self, recording: Recording) -> Float[np.ndarray, "segment feature"]:
        """Return the one feature."""
        return top_quarter(levelled(by_segment(recording, line_length), self.level))[:, None].astype(float)


class BandPower(Baseline):
    """Band powers and line length of each channel at their own level, over channels, now and on average of late.

    With the level "recording", how far each lies above its past is among the features as well.
    """

    AVERAGES = (3, 6, 12)  # segments, the one at hand among them

    def compute(self, recording: Recording) -> Float[np.ndarray, "segment feature"]:
        """Return the features: (8 values) x (5 over channels) x (now and 3 averages) x (1 or 2 levels)."""
        values = by_segment(recording, band_powers)
        levels: tuple[Level, ...] = ("past",) if self.level == "past" else ("recording", "past")
        now = np.concatenate([over_channels(levelled(values, level)) for level in levels], axis=1).astype(float)
        ahead = np.concatenate([now, now[-1:]])  # so that what lies before the next segment ends with this one
        late = [past(ahead, count, np.nanmean)[1:] for count in self.AVERAGES]
        return np.concatenate([now, *late], axis=1)
