"""From one probability per window to events: smoothing, a threshold with hysteresis, joining, a minimum duration.

Which seconds a window's probability speaks of is the model's promise, not ours to guess: MVPFormer reads 125 s and
speaks of the last 5 s of them (its label: does the last segment touch a seizure), so `span=5, offset=120`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from tsattn import documents
from tsattn.events.table import SAME_TIME, make_events

Probability = xr.DataArray | np.ndarray | Sequence[float | int]


@dataclass(frozen=True)
class PostProcessing:
    """How probabilities become events; fitted on validation subjects and saved with the model.

    Attributes:
        smoothing: Seconds of a centred moving mean over windows; 0 for none. It looks `smoothing / 2` ahead.
        threshold: An event begins where the smoothed probability reaches this.
        low: It lasts while the probability is at least this; None: the threshold.
        merge_gap: Events less than so many seconds apart become one; 0 for none.
        min_duration: Then events shorter than so many seconds are left out; 0 for none.
    """

    smoothing: float = 0.0
    threshold: float = 0.5
    low: float | None = None
    merge_gap: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        for name in ("smoothing", "merge_gap", "min_duration"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value:g}, expected 0 s or more.")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold:g}, expected above 0 and at most 1.")
        if self.low is not None and not 0 < self.low <= self.threshold:
            raise ValueError(f"low is {self.low:g}, expected above 0 and at most the threshold, {self.threshold:g}.")

    def to_dict(self) -> dict[str, float | None]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PostProcessing":
        """Make it of plain data.

        Raises:
            ValueError: If a name is unknown or a value impossible.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"There is no setting {unknown[0]!r} of post-processing, expected {known}.")
        return cls(**documents.arguments_of(cls, dict(values), "the post-processing"))

    def __call__(self, probability: Probability, hop: float | None = None, **where: Any) -> pd.DataFrame:
        """Return the events of a recording; arguments as in `to_events`."""
        return to_events(probability, hop, **where, **self.to_dict())  # type: ignore[arg-type]


def to_events(
    probability: Probability,
    hop: float | None = None,
    *,
    span: float | None = None,
    offset: float = 0.0,
    begin: float = 0.0,
    duration: float | None = None,
    smoothing: float = 0.0,
    threshold: float = 0.5,
    low: float | None = None,
    merge_gap: float = 0.0,
    min_duration: float = 0.0,
    confidence: Literal["max", "mean"] = "max",
) -> pd.DataFrame:
    """Turn one seizure probability per window into events.

    In this order: smooth; mark windows from one that reaches `threshold` on, while they are at least `low`; join events
    under `merge_gap` apart; leave out those shorter than `min_duration`. An event lasts from the begin of its first
    window's span to the end of its last one's.

    A window whose probability is NaN (it touches a gap), and a hole between windows' times, is unknown: it ends an
    event, is never smoothed over and never joined across. Events never overlap: if spans of two do (`span` above `hop`)
    they are joined, or, with an unknown window between them, the first one ends where the second begins.

    Args:
        probability: Of each window, in [0, 1] or NaN, in time order; an xarray brings the windows' begins as its
            coordinate `time`, in seconds from the recording's start.
        hop: Seconds from one window's begin to the next one's; None takes the commonest step of `time`.
        span: Seconds that a probability speaks of; None: `hop`.
        offset: Seconds from a window's begin to the begin of its span.
        begin: The first window's begin, seconds from the recording's start; only without a coordinate `time`.
        duration: Of the recording, seconds: what would lie after it is cut off.
        smoothing: See `PostProcessing`, and so for the other settings.
        threshold: Smallest probability that begins an event.
        low: Smallest probability that keeps it.
        merge_gap: Seconds.
        min_duration: Seconds.
        confidence: Of an event: the largest or the mean smoothed probability of its windows.

    Returns:
        A table of events, type "sz".

    Raises:
        ValueError: If a probability leaves [0, 1], times are not in order, or `hop` is not known.
    """
    setting = PostProcessing(smoothing, threshold, low, merge_gap, min_duration)
    if confidence not in ("max", "mean"):
        raise ValueError(f"confidence is {confidence!r}, expected max or mean.")
    times, values, hop = windows(probability, hop, begin)
    span = hop if span is None else span
    if not span > 0:
        raise ValueError(f"span is {span:g} s, expected above 0.")
    stretch = stretches(times, np.isnan(values), hop)
    values = smooth(values, stretch, math.floor(setting.smoothing / hop / 2 + 1e-9))
    first, last = hysteresis(values, stretch, setting.threshold, setting.threshold if low is None else low)

    onset, end = times[first] + offset, times[last] + offset + span
    apart = (onset[1:] - end[:-1] >= merge_gap - SAME_TIME) | (stretch[first[1:]] != stretch[last[:-1]])
    onset, end = onset[np.r_[True, apart][: len(onset)]], end[np.r_[apart, True][: len(end)]]
    first, last = first[np.r_[True, apart][: len(first)]], last[np.r_[apart, True][: len(last)]]
    end[:-1] = np.minimum(end[:-1], onset[1:])
    onset, end = np.maximum(onset, 0), end if duration is None else np.minimum(end, duration)
    reduce = np.nanmax if confidence == "max" else np.nanmean
    sure = np.array([reduce(values[a : b + 1]) for a, b in zip(first, last, strict=True)])
    long = (end - onset >= min_duration - SAME_TIME) & (end > onset)
    return make_events(onset[long], (end - onset)[long], confidence=sure[long])


def windows(
    probability: Probability, hop: float | None, begin: float = 0.0
) -> tuple[Float[np.ndarray, " window"], Float[np.ndarray, " window"], float]:
    """Return the windows' begins, their probabilities and the step, all checked; see `to_events`."""
    values = np.array(probability, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"probability has the shape {values.shape}, expected one value a window.")
    outside = ~(np.isnan(values) | (values >= 0) & (values <= 1))
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(
            f"probability[{first}] is {values[first]:g}, expected a value in [0, 1] or NaN. "
            "Pass `logits.sigmoid()` if these are logits."
        )
    if isinstance(probability, xr.DataArray) and "time" in probability.coords:
        coordinate = probability["time"].values
        if coordinate.shape != values.shape or not np.issubdtype(coordinate.dtype, np.number):
            raise ValueError(f"time is {coordinate.dtype}, expected seconds from the recording's start, one a window.")
        times = coordinate.astype(float)
        steps = np.diff(times)
        if not (np.isfinite(times).all() and (steps > 0).all()):
            raise ValueError("time does not increase from window to window: sort the windows, one each.")
        if hop is None and len(steps):
            found, often = np.unique(np.round(steps, 6), return_counts=True)
            hop = float(found[often.argmax()])
    else:
        times = None
    if hop is None:
        raise ValueError("The step from window to window is not known: pass hop in seconds.")
    if not (math.isfinite(hop) and hop > 0):
        raise ValueError(f"hop is {hop:g} s, expected above 0.")
    return (begin + hop * np.arange(len(values)) if times is None else times), values, hop


def stretches(
    times: Float[np.ndarray, " window"], unknown: Bool[np.ndarray, " window"], hop: float
) -> Int[np.ndarray, " window"]:
    """Number the stretches of windows that follow each other without a hole; every NaN window begins a new one."""
    hole = np.diff(times, prepend=times[:1]) > hop * 1.001
    return np.cumsum(hole | unknown | np.r_[False, unknown[:-1]][: len(times)])


def smooth(
    values: Float[np.ndarray, " window"], stretch: Int[np.ndarray, " window"], reach: int
) -> Float[np.ndarray, " window"]:
    """Return the mean over up to `reach` windows before and after, within each stretch only; NaN stays NaN."""
    if reach == 0 or len(values) == 0:
        return values
    parts = []
    for part in np.split(values, np.flatnonzero(np.diff(stretch)) + 1):
        side = min(reach, len(part))
        around = np.ones(2 * side + 1)
        total, count = (np.convolve(x, around)[side : side + len(part)] for x in (part, np.ones(len(part))))
        parts.append(np.round(total / count, 12))  # the sums' rounding must not miss a threshold
    return np.concatenate(parts)


def hysteresis(
    values: Float[np.ndarray, " window"], stretch: Int[np.ndarray, " window"], threshold: float, low: float
) -> tuple[Int[np.ndarray, " event"], Int[np.ndarray, " event"]]:
    """Return first and last window of each event: from one at `threshold` on, while at least `low`."""
    kept = values >= low  # NaN is not
    begins = kept & ~(np.r_[False, kept[:-1]] & (np.diff(stretch, prepend=-1) == 0))[: len(kept)]
    run = np.cumsum(begins) - 1
    strong = np.flatnonzero(kept & (values >= threshold))
    runs, place = np.unique(run[strong], return_index=True)
    inside = np.flatnonzero(kept)
    last = inside[np.searchsorted(run[inside], runs, side="right") - 1]
    return strong[place], last
