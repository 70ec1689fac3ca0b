"""Windows of a recording: where they lie, which touch gaps, and how their samples become (segment, channel, time).

Positions are arithmetic on arrays, so a day at a stride of 5 s costs nothing; samples are read where somebody asks.
All windows that fit are placed. `protocol="ibm"` places and reads them as the authors' loader of MVPFormer does
(`ibm_protocol.py`), for comparison only.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64

from tsattn.recordings.recording import Recording
from tsattn.recordings.windows import ibm_protocol
from tsattn.recordings.windows.labels import seconds_before, touches

Gaps = Literal["drop", "mask"]


@dataclass(frozen=True)
class Windowing:
    """How windows are laid over recordings; the defaults are MVPFormer's.

    Attributes:
        segments: Of a window.
        segment_seconds: Length of a segment.
        stride_seconds: From one window's begin to the next one's.
        gaps: "drop" leaves out windows that touch a gap; "mask" keeps them, and says which segments were recorded.
        min_recorded: With "mask": share of a window that must have been recorded for it to be kept.
        protocol: "all" windows that fit; "ibm": those of the authors' loader, one window's length too few, whether
            they touch gaps or not.
        slowdown: With "ibm": stride / segments near seizures.
        sfreq: With "ibm": rate in Hz to which each window is interpolated, without a filter. Else recordings keep
            their rate: preparation is where they are resampled.
    """

    segments: int = 25
    segment_seconds: float = 5.0
    stride_seconds: float = 5.0
    gaps: Gaps = "drop"
    min_recorded: float = 0.5
    protocol: Literal["all", "ibm"] = "all"
    slowdown: bool = False
    sfreq: float | None = None

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise ValueError(f"segments is {self.segments}, expected at least 1.")
        for name, seconds in (("segment_seconds", self.segment_seconds), ("stride_seconds", self.stride_seconds)):
            if not 0 < seconds < np.inf:
                raise ValueError(f"{name} is {seconds:g}, expected above 0.")
        if self.gaps not in ("drop", "mask"):
            raise ValueError(f'gaps is "{self.gaps}", expected "drop" or "mask".')
        if not 0 < self.min_recorded <= 1:
            raise ValueError(f"min_recorded is {self.min_recorded:g}, expected above 0 and at most 1.")
        if self.protocol not in ("all", "ibm"):
            raise ValueError(f'protocol is "{self.protocol}", expected "all" or "ibm".')
        if self.protocol == "all" and (self.slowdown or self.sfreq is not None):
            raise ValueError('slowdown and sfreq belong to protocol="ibm"; prepare recordings to bring them to a rate.')

    @property
    def window_seconds(self) -> float:
        """Length of a window."""
        return self.segments * self.segment_seconds

    @property
    def last_seconds(self) -> float:
        """Length of what the label rule "last_segment" looks at: the authors floor it to whole seconds."""
        if self.protocol == "ibm":
            return self.window_seconds // self.segments
        return self.segment_seconds

    def segment_samples(self, sfreq: float) -> int:
        """Return the samples of a segment at a rate in Hz, at which it must be a whole number of them."""
        samples = self.segment_seconds * sfreq
        if abs(samples - round(samples)) > 1e-6 or round(samples) < 1:
            raise ValueError(
                f"A segment of {self.segment_seconds:g} s is {samples:g} samples at {sfreq:g} Hz, expected a whole "
                "number; choose another segment_seconds, or prepare the recordings at another rate."
            )
        return round(samples)


@dataclass(frozen=True)
class Placed:
    """Windows of one recording.

    Attributes:
        start: First sample, at the recording's rate.
        begin: Seconds from the recording's start.
        dropped: How many were left out because they touch a gap (with "mask": because too little was recorded).
    """

    start: Int64[np.ndarray, " window"]
    begin: Float[np.ndarray, " window"]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.start)


def place_windows(recording: Recording, windowing: Windowing, begin: float = 0.0, end: float | None = None) -> Placed:
    """List the windows of a recording, or of a stretch of it, in time order.

    The grid of positions begins at the recording's start, whatever the stretch, so a window keeps its place in every
    split. Each start is rounded to a sample by itself: rounding never adds up.

    Args:
        recording: With one sampling rate.
        windowing: How.
        begin: Seconds; no window begins before.
        end: Seconds; no window ends after. None: the recording's end.

    Raises:
        ValueError: If a segment is no whole number of samples at the recording's rate.
    """
    sfreq = recording.sfreq
    length = windowing.segments * windowing.segment_samples(sfreq)
    end = recording.duration if end is None else min(end, recording.duration)
    if windowing.protocol == "ibm":
        seconds = ibm_protocol.begins(
            recording, windowing.window_seconds, windowing.stride_seconds, windowing.segments, windowing.slowdown
        )
        inside = (seconds >= begin) & (seconds + windowing.window_seconds <= end)
        return Placed((seconds[inside] * sfreq).astype(np.int64), seconds[inside])
    first, stop = _sample(begin, sfreq, up=True), _sample(end, sfreq, up=False)
    step = windowing.stride_seconds * sfreq
    if step < 1 - 1e-6:
        raise ValueError(
            f"stride_seconds is {windowing.stride_seconds:g}, expected at least a sample, {1 / sfreq:g} s."
        )
    index = np.arange(max(int(first / step) - 1, 0), max(int((stop - length) / step) + 2, 0))
    start = np.rint(index * step).astype(np.int64)
    start = start[(start >= first) & (start + length <= stop)]
    keep = _kept(recording, windowing, start / sfreq, length / sfreq)
    return Placed(start[keep], start[keep] / sfreq, int((~keep).sum()))


def _sample(seconds: float, sfreq: float, up: bool) -> int:
    """The sample at a time, or the next one inwards if the time lies between two."""
    exact = seconds * sfreq
    near = round(exact)
    if abs(exact - near) < 1e-3:
        return near
    return int(np.ceil(exact)) if up else int(np.floor(exact))


def _kept(
    recording: Recording, windowing: Windowing, begin: Float[np.ndarray, " window"], seconds: float
) -> Bool[np.ndarray, " window"]:
    if not recording.gaps:
        return np.ones(len(begin), dtype=bool)
    gap_begin, gap_end = np.array(recording.gaps, dtype=float).T
    if windowing.gaps == "mask":
        missing = seconds_before(gap_begin, gap_end, begin + seconds) - seconds_before(gap_begin, gap_end, begin)
        return missing <= (1 - windowing.min_recorded) * seconds + 1e-9
    half = 0.5 / recording.sfreq  # samples stand at points: a gap that ends where a window begins does not touch it
    return ~touches(gap_begin, gap_end, begin + half, begin + seconds - half)


def read_window(
    recording: Recording, start: int, windowing: Windowing, channels: list[int] | None = None
) -> tuple[Float[np.ndarray, "segment channel time"], Bool[np.ndarray, "segment channel"]]:
    """Read one window.

    Args:
        recording: With one sampling rate.
        start: First sample.
        windowing: How windows were placed.
        channels: Places in `recording.channels`; None reads all.

    Returns:
        Microvolts (float32), and False where a segment of a channel was not recorded whole; the signal is zero there.
    """
    samples = windowing.segment_samples(recording.sfreq)
    values = recording.read(start, start + windowing.segments * samples, channels)
    if windowing.sfreq is not None:
        samples = windowing.segment_samples(windowing.sfreq)
        values = ibm_protocol.interpolate(values, windowing.segments * samples)
    signal = np.empty((windowing.segments, len(values), samples), np.float32)
    observed = cut(values, signal)
    return signal, observed


def cut(
    values: Float[np.ndarray, "channel window"], out: Float[np.ndarray, "segment channel time"]
) -> Bool[np.ndarray, "segment channel"]:
    """Cut a stretch into segments, and set to zero what was not recorded whole.

    Args:
        values: Microvolts, NaN where nothing was recorded.
        out: Is written.

    Returns:
        False where a segment of a channel holds a sample that is not finite.
    """
    segments, channels, samples = out.shape
    np.copyto(out, values.reshape(channels, segments, samples).transpose(1, 0, 2))
    with np.errstate(invalid="ignore", over="ignore"):
        observed = np.isfinite(np.add.reduce(out, axis=-1))
    if not observed.all():
        out[~observed] = 0.0
    return observed
