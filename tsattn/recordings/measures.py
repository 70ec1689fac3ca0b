"""What is measured of a recording's samples, stretch by stretch, so that memory does not grow with the recording.

Per channel: flat, clipped and missing time, spread, offset, smallest step of the values, power at the mains; and which
channels carry one signal. What is done about it stands in `checks.py`. scipy's Welch spectrum, the rest our own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from tsattn.recordings.recording import Recording

MAINS = (50.0, 60.0)  # Hz
HARMONICS = 5
PROMINENT = 4.0  # power density at the mains over its neighbourhood, 6 dB: chance does not do that in 3 s
MAD_TO_SD = 1.4826  # of a normal distribution
FLOAT_NOISE = 1e-7  # relative; smaller differences are rounding of float32
MOST = 4_000_000  # samples in memory at once, over all channels
PAUSED = 0.9  # share of channels that are flat together before we call it a pause of the whole recording


def spans(
    recording: Recording, sfreq: float, stretches: int, seconds: float, whole: bool, channels: int
) -> Iterator[tuple[int, int]]:
    """Give `(start, stop)` samples of stretches that lie in what was recorded, evenly spread, in order.

    Args:
        recording: Says where its gaps are.
        sfreq: Hz.
        stretches: How many.
        seconds: Length of each.
        whole: Give everything, in pieces of that length.
        channels: How many are read at once.
    """
    observed = recording.observed(sfreq)
    length = max(1, min(round(seconds * sfreq), MOST // max(channels, 1)))
    total = sum(stop - start for start, stop in observed)
    if whole or total <= stretches * length:
        for start, stop in observed:
            for at in range(start, stop, length):
                yield at, min(at + length, stop)
        return
    before = np.cumsum([0, *(stop - start for start, stop in observed)])
    for at in np.linspace(0, total - length, stretches).round().astype(int):
        i = int(np.searchsorted(before, at, side="right")) - 1
        start, stop = observed[i]
        begin = min(start + int(at - before[i]), max(start, stop - length))  # rather back than into a gap
        yield begin, min(begin + length, stop)


@dataclass
class Tally:
    """Measures of channels that share one rate.

    Attributes:
        channels: How many.
        sfreq: Hz.
        judged: Channels that count where the whole recording is judged (not stimulus or miscellaneous ones).
    """

    channels: int
    sfreq: float
    judged: Bool[np.ndarray, " channel"]
    samples: int = 0
    missing: np.ndarray = field(init=False)
    seconds: list[np.ndarray] = field(default_factory=list)  # per block of a second: is each channel flat
    spread: list[np.ndarray] = field(default_factory=list)
    offset: list[np.ndarray] = field(default_factory=list)
    share: list[np.ndarray] = field(default_factory=list)  # of power at the mains, per candidate
    power: list[np.ndarray] = field(default_factory=list)
    prominence: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = np.zeros(self.channels)
        self.step = np.full(self.channels, np.inf)
        self.extreme = np.full((2, self.channels), -np.inf)  # of x and of -x
        self.at_extreme = np.zeros((2, self.channels))
        self.gram = np.zeros((self.channels, self.channels))

    def add(self, x: Float[np.ndarray, "channel time"]) -> None:
        """Take in one stretch, in microvolts, NaN where nothing was recorded."""
        x = np.asarray(x, np.float64)
        there = np.isfinite(x)
        whole = bool(there.all())
        self.samples += x.shape[1]
        self.missing += (~there).sum(1)
        if not whole:
            x = np.where(there, x, np.nan)
        middle, spread = _middle_and_spread(x)
        self.spread.append(spread)
        self.offset.append(middle)
        self.step = np.fmin(self.step, _smallest_step(x[:, :4096]))
        flat = self._flat_seconds(x, there)
        self.seconds.append(flat)
        self._count_extremes(x, flat)
        slope = np.diff(x, axis=1)
        slope[~np.isfinite(slope)] = 0.0
        self.gram += slope @ slope.T
        self._spectrum(x, there.all(1))

    def _flat_seconds(
        self, x: Float[np.ndarray, "channel time"], there: Bool[np.ndarray, "channel time"]
    ) -> Int[np.ndarray, "channel block"]:
        """Return 1 where a second is constant to one step of the values, 0 where not, -1 where too little is there."""
        size = max(2, round(self.sfreq))
        blocks = max(1, x.shape[1] // size)
        cut = x[:, : blocks * size].reshape(len(x), blocks, -1)
        enough = there[:, : blocks * size].reshape(cut.shape).mean(2) >= 0.5
        filled = np.where(np.isnan(cut), -np.inf, cut).max(2) - np.where(np.isnan(cut), np.inf, cut).min(2)
        step = np.where(np.isfinite(self.step), self.step, 0.0)[:, None]
        flat = (filled <= step * (1 + 1e-6)).astype(np.int8)
        return np.where(enough, flat, -1).astype(np.int8)

    def _count_extremes(self, x: Float[np.ndarray, "channel time"], flat: Int[np.ndarray, "channel block"]) -> None:
        """Count samples that stand at the highest or lowest value in runs of three or more, outside flat seconds."""
        size = max(2, round(self.sfreq))
        seconds = np.minimum(np.arange(x.shape[1]) // size, flat.shape[1] - 1)
        lively = (flat != 1)[:, seconds]
        for side, values in enumerate((x, -x)):
            top = np.where(np.isnan(values), -np.inf, values).max(1)
            at = (values == top[:, None]) & lively
            run = at[:, :-2] & at[:, 1:-1] & at[:, 2:]
            member = np.zeros_like(at)
            for shift in range(3):
                member[:, shift : shift + run.shape[1]] |= run
            count = member.sum(1)
            higher = top > self.extreme[side]
            self.at_extreme[side] = np.where(higher, 0, self.at_extreme[side])
            self.extreme[side] = np.maximum(top, self.extreme[side])
            self.at_extreme[side] += np.where(top == self.extreme[side], count, 0)

    def _spectrum(self, x: Float[np.ndarray, "channel time"], whole: Bool[np.ndarray, " channel"]) -> None:
        """Measure the share of power at each candidate mains frequency and its harmonics, above their neighbourhood."""
        from scipy.signal import welch

        share, power, prominence = np.full((3, len(MAINS), len(x)), np.nan)
        length = min(x.shape[1], round(2 * self.sfreq))
        if whole.any() and length >= self.sfreq:
            freqs, density = welch(x[whole], self.sfreq, nperseg=length)
            total = density[:, freqs >= 1].sum(1)
            for i, line in enumerate(MAINS):
                if line + 8 >= self.sfreq / 2:
                    continue
                above = np.zeros(int(whole.sum()))
                for k in range(1, HARMONICS + 1):
                    if line * k + 2 >= self.sfreq / 2:
                        break
                    away = np.abs(freqs - line * k)
                    floor = np.median(density[:, (away >= 3) & (away <= 8)], 1)
                    at = density[:, away <= 1]
                    above += np.maximum(at.sum(1) - floor * at.shape[1], 0)
                    if k == 1:
                        prominence[i, whole] = at.mean(1) / np.maximum(floor, 1e-30)
                share[i, whole] = above / np.maximum(total, 1e-30)
                power[i, whole] = above * (freqs[1] - freqs[0])
        self.share.append(share)
        self.power.append(power)
        self.prominence.append(prominence)

    def middle(self, of: list[np.ndarray]) -> Float[np.ndarray, " channel"]:
        """Return the median over stretches of `self.spread` or `self.offset`."""
        return _over_stretches(of)

    def paused(self) -> float:
        """Return the share of seconds in which nearly all judged channels are flat together."""
        seconds = np.concatenate(self.seconds, 1)
        return float(self._paused(seconds).mean())

    def _paused(self, seconds: Int[np.ndarray, "channel block"]) -> Bool[np.ndarray, " block"]:
        told = seconds[self.judged]
        if len(told) < 4:
            return np.zeros(seconds.shape[1], bool)
        return (told == 1).sum(0) >= np.maximum(PAUSED * (told >= 0).sum(0), 1)

    def flat(self) -> Float[np.ndarray, " channel"]:
        """Return each channel's share of flat seconds, pauses of the whole recording left out."""
        seconds = np.concatenate(self.seconds, 1)
        running = seconds[:, ~self._paused(seconds)]
        if running.shape[1] == 0:  # nothing but a pause: then every channel is flat
            running = seconds
        counted = (running >= 0).sum(1)
        return np.where(counted > 0, (running == 1).sum(1) / np.maximum(counted, 1), np.nan)

    def clipped(self) -> Float[np.ndarray, " channel"]:
        """Return each channel's share of samples at its highest or lowest value."""
        return self.at_extreme.sum(0) / np.maximum(self.samples - self.missing, 1)

    def mains(self) -> tuple[int | None, Float[np.ndarray, " channel"]]:
        """Return which of MAINS stands out (None: neither), and by how much in each channel (a ratio)."""
        prominence = _over_stretches(self.prominence)
        told = np.log(np.maximum(np.nan_to_num(prominence[:, self.judged], nan=1.0), 1e-30))
        evidence = np.maximum(told - np.log(PROMINENT), 0).sum(1)
        chosen = None if evidence.max(initial=0) == 0 else int(evidence.argmax())
        return chosen, np.full(self.channels, np.nan) if chosen is None else prominence[chosen]

    def mains_share(self, chosen: int | None) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
        """Return each channel's share of power at the mains, and that power in µV²."""
        if chosen is None:
            known = np.isfinite(_over_stretches(self.share)).any(0)
            nothing = np.where(known, 0.0, np.nan)
            return nothing, nothing
        return _over_stretches(self.share)[chosen], _over_stretches(self.power)[chosen]

    def duplicates(self) -> list[tuple[int, int, float]]:
        """Return pairs `(first, second, scale)` of channels with `second = scale * first`, up to rounding and offset.

        The residual of a regression of the differences must be what rounding to the values' steps explains (up to
        twice its standard deviation), or one part in 10^9 of the power; and the correlation above 0.999.
        """
        power = np.diag(self.gram)
        count = max(self.samples - 1, 1)
        step = np.where(np.isfinite(self.step), self.step, 0.0)
        found = []
        for i, j in zip(*np.triu_indices(self.channels, 1), strict=True):
            if power[i] <= 0 or power[j] <= 0:
                continue
            r2 = self.gram[i, j] ** 2 / (power[i] * power[j])
            if r2 < 0.999**2:
                continue
            scale = self.gram[i, j] / power[i]
            left = max(power[j] * (1 - r2), 0.0) / count
            rounding = (step[j] ** 2 + (scale * step[i]) ** 2) / 6  # variance of the difference of two roundings
            if left <= max(4 * rounding, 1e-9 * power[j] / count):
                found.append((int(i), int(j), float(scale)))
        return found


def _over_stretches(values: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    empty = np.isnan(stacked).all(0)
    return np.where(empty, np.nan, np.nanmedian(np.where(empty, 0.0, stacked), 0))


def _middle_and_spread(
    x: Float[np.ndarray, "channel time"],
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
    """Return the median, and the median absolute deviation scaled to a standard deviation; NaN if nothing is there."""
    empty = np.isnan(x).all(1)
    middle_of = np.nanmedian if np.isnan(x).any() else np.median
    filled = np.where(empty[:, None], 0.0, x) if empty.any() else x
    middle = middle_of(filled, axis=1)
    spread = MAD_TO_SD * middle_of(np.abs(filled - middle[:, None]), axis=1)
    return np.where(empty, np.nan, middle), np.where(empty, np.nan, spread)


def _smallest_step(x: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, " channel"]:
    """Return the smallest difference between two values of a channel; infinity if there is but one."""
    ordered = np.sort(x, axis=1)  # NaN goes last
    steps = np.diff(ordered, axis=1)
    largest = np.where(np.isnan(x), 0.0, np.abs(x)).max(1)
    steps[~(steps > FLOAT_NOISE * largest[:, None])] = np.inf
    return steps.min(1, initial=np.inf)
