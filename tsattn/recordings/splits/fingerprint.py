"""Find the same signal in two recordings, whatever their names: SWEC iEEG, for one, has 18 patients twice.

A landmark is a run of twelve intervals between zero crossings of one channel's 2-8 Hz signal. Gain, sign, channel
order, names and most resampling leave it as it is; so do a late start and a cut: it does not know where it lies.
Which landmarks are kept depends on themselves only (one in 2^level), so copies keep the same ones. Two recordings are
twins where landmarks match that lie the same time apart. A copy with another reference is another signal, and is not
found. The idea of matching hashed landmarks by a common offset is that of audio search (Wang, ISMIR 2003).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt64

from tsattn.recordings.recording import Recording

VERSION = 1
BAND = (2.0, 8.0)  # Hz: within every preparation that is in use
RATE = 64.0  # Hz, about: what a recording is averaged down to before
TAPS_SECONDS = 1.0  # length of the filter
INTERVALS = 12  # of a landmark: 60 bits, five each
QUANTUM = 1 / 64  # s, of an interval: the jitter of copies is some hundred times smaller
LONGEST = 31  # quanta; a longer silence ends a run
KEEP = 2**16  # landmarks of a recording, about, at most
REACH = INTERVALS * (LONGEST + 1) * QUANTUM + TAPS_SECONDS + 0.1  # s that a landmark can see to either side
BLOCK_SECONDS = 240.0  # read at a time, or less, down to 30 s, if that is more than BLOCK_BYTES
BLOCK_BYTES = 64e6
DISTINCT = 6  # different intervals that a run must have: rhythms resemble each other
OFFSET_BIN = 0.25  # s
CELL = 2.0  # s; matches of a channel within a cell count once
MATCHES = 6  # cells, for twins; unrelated simulated seizures at the same times reach 2


@dataclass(frozen=True)
class Fingerprint:
    """Landmarks of a recording, in time order.

    Attributes:
        hash: Of the intervals.
        seconds: Where each begins, from the recording's start.
        channel: Place in `Recording.channels`.
        level: One landmark in 2^level is kept.
    """

    hash: UInt64[np.ndarray, " landmark"]
    seconds: Float[np.ndarray, " landmark"]
    channel: np.ndarray
    level: int

    def __len__(self) -> int:
        return len(self.hash)


@dataclass(frozen=True)
class Twins:
    """A stretch of one signal that stands in two recordings.

    Attributes:
        first: Place of a recording in the list.
        second: Place of the other.
        begin: Seconds in the first where the match begins, as far as landmarks tell.
        end: Seconds in the first where it ends.
        offset: What lies at t in the first lies at t + offset in the second, s.
        matches: Cells of 2 s and a channel that match.
    """

    first: int
    second: int
    begin: float
    end: float
    offset: float
    matches: int


def level_of(duration: float, channels: int) -> int:
    """Return the level at which a recording keeps at most about 65,000 landmarks (eight a second and channel exist)."""
    return max(0, int(np.ceil(np.log2(max(duration * channels * 8 / KEEP, 1)))))


def fingerprint(recording: Recording) -> Fingerprint:
    """Take the landmarks of a recording, in one pass over its samples with bounded memory.

    Args:
        recording: With one sampling rate, of at least 32 Hz.

    Raises:
        ValueError: If the rate is too low for the band.
    """
    sfreq = recording.sfreq
    level = level_of(recording.duration, len(recording.names))
    factor = max(1, round(sfreq / RATE))
    seconds = min(BLOCK_SECONDS, max(30.0, BLOCK_BYTES / (4 * sfreq * len(recording.names))))
    step = max(1, round(seconds * sfreq / factor)) * factor
    reach = round(REACH * sfreq / factor) * factor
    parts = []
    for begin in range(0, recording.n_samples, step):
        first = max(begin - reach, 0)
        values = recording.read(first, min(begin + step + reach, recording.n_samples))
        part = landmarks(values, sfreq, first / sfreq, level)
        inside = (part.seconds >= begin / sfreq) & (part.seconds < (begin + step) / sfreq)
        parts.append((part.hash[inside], part.seconds[inside], part.channel[inside]))
    if not parts:
        return Fingerprint(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.int32), level)
    hashed, begins, channels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Fingerprint(hashed, begins, channels, level)


def landmarks(values: Float[np.ndarray, "channel time"], sfreq: float, begin: float, level: int) -> Fingerprint:
    """Take the landmarks of a stretch.

    Args:
        values: Any unit; NaN where missing.
        sfreq: Hz.
        begin: Seconds of the first sample.
        level: One landmark in 2^level is kept.
    """
    if sfreq < 4 * BAND[1]:
        raise ValueError(f"The sampling rate is {sfreq:g} Hz, expected at least {4 * BAND[1]:g} Hz for a fingerprint.")
    channel, at = _crossings(values, sfreq)
    run = np.diff(at)
    same = (np.diff(channel) == 0) & (run < (LONGEST + 1) * QUANTUM)
    quanta = np.where(same, run / QUANTUM, 0).astype(np.uint64)
    number = len(run) - INTERVALS + 1
    if number < 1:
        return Fingerprint(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.int32), level)
    breaks = np.concatenate([[0], np.cumsum(~same)])
    whole = breaks[INTERVALS:] == breaks[:number]
    key = np.zeros(number, np.uint64)
    for i in range(INTERVALS):
        key = (key << np.uint64(5)) | quanta[i : i + number]
    hashed = _mix(key)
    chosen = np.flatnonzero(whole & _kept(hashed, level))
    several = np.sort(quanta[chosen[:, None] + np.arange(INTERVALS)], axis=1)
    chosen = chosen[(np.diff(several.astype(np.int64), axis=1) > 0).sum(1) + 1 >= DISTINCT]
    chosen = chosen[np.argsort(at[chosen], kind="stable")]
    return Fingerprint(hashed[chosen], begin + at[chosen], channel[chosen].astype(np.int32), level)


def _crossings(values: Float[np.ndarray, "channel time"], sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Channel and second of every zero crossing of the band, by channel and time; none near missing samples."""
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.signal import firwin

    factor = max(1, round(sfreq / RATE))
    rate, count = sfreq / factor, values.shape[1] // factor
    slow = np.add.reduce(values[:, : count * factor].reshape(len(values), count, factor), axis=2).astype(np.float32)
    missing = ~np.isfinite(slow)
    slow[missing] = 0.0
    taps = firwin(2 * round(TAPS_SECONDS * rate / 2) + 1, BAND, pass_zero=False, fs=rate).astype(np.float32)
    half = len(taps) // 2
    length = next_fast_len(count + 2 * half, real=True)
    band = irfft(rfft(slow, length, axis=1) * rfft(taps, length), length, axis=1)[:, half : half + count]
    sign = band > 0
    crossing = sign[:, 1:] != sign[:, :-1]
    crossing[:, :half] = crossing[:, count - 1 - half :] = False  # the stretch's own edges
    if missing.any():
        total = np.cumsum(np.pad(missing, ((0, 0), (half + 1, half + 1))), axis=1)
        crossing &= (total[:, 2 * half + 2 :] == total[:, :count])[:, : count - 1]
    channel, index = np.nonzero(crossing)
    left, right = band[channel, index].astype(float), band[channel, index + 1].astype(float)
    return channel, (index + left / (left - right) + (factor - 1) / 2 / factor) / rate


def _mix(key: UInt64[np.ndarray, " key"]) -> UInt64[np.ndarray, " key"]:
    """Spread the bits of a key over all 64 (the finaliser of splitmix64)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _kept(hashed: UInt64[np.ndarray, " key"], level: int) -> np.ndarray:
    return (hashed & np.uint64((1 << level) - 1)) == 0


def find_twins(fingerprints: Sequence[Fingerprint] | Iterable[Fingerprint]) -> list[Twins]:
    """Find stretches that stand in two recordings: one sort of all landmarks, whatever the number of pairs.

    Args:
        fingerprints: One for each recording.

    Returns:
        Sorted by recordings; a pair has several entries if its copy was cut and joined.
    """
    prints = list(fingerprints)
    if len(prints) < 2:
        return []
    owner = np.repeat(np.arange(len(prints)), [len(p) for p in prints])
    hashed = np.concatenate([p.hash for p in prints])
    seconds = np.concatenate([p.seconds for p in prints])
    channel = np.concatenate([p.channel for p in prints])
    order = np.lexsort((owner, hashed))
    hashed, owner, seconds, channel = hashed[order], owner[order], seconds[order], channel[order]
    pairs = []
    for lag in range(1, 32):  # a landmark that stands more than 32 times says nothing
        left = np.flatnonzero((hashed[lag:] == hashed[:-lag]) & (owner[lag:] != owner[:-lag]))
        if not len(left):
            if lag > 1 and not (hashed[lag:] == hashed[:-lag]).any():
                break
            continue
        right = left + lag
        pairs.append(np.stack([owner[left], owner[right], seconds[left], seconds[right], channel[left]]))
    if not pairs:
        return []
    first, second, at, other, row = np.concatenate(pairs, axis=1)
    return _vote(first.astype(int), second.astype(int), at, other - at, row.astype(int))


def _vote(
    first: np.ndarray, second: np.ndarray, at: np.ndarray, offset: np.ndarray, channel: np.ndarray
) -> list[Twins]:
    """Count matches by pair and offset; each match votes for its bin and is found again from the neighbouring one."""
    found = []
    order = np.lexsort((offset, second, first))
    first, second, at, offset, channel = (values[order] for values in (first, second, at, offset, channel))
    edges = np.flatnonzero((np.diff(first) != 0) | (np.diff(second) != 0) | (np.diff(offset) > OFFSET_BIN)) + 1
    for begin, end in zip([0, *edges], [*edges, len(first)], strict=True):
        if end - begin < MATCHES:
            continue
        for low, high in _peaks(offset[begin:end]):
            part = slice(begin + low, begin + high)
            cells = np.unique(np.stack([np.floor(at[part] / CELL), channel[part]]), axis=1).shape[1]
            if cells >= MATCHES:
                middle = float(np.median(offset[part]))
                span = float(at[part].min()), float(at[part].max()) + INTERVALS * QUANTUM
                found.append(Twins(int(first[begin]), int(second[begin]), *span, round(middle, 4), cells))
    return found


def _peaks(offset: Float[np.ndarray, " match"]) -> list[tuple[int, int]]:
    """Cut a run of sorted offsets into runs no wider than a bin, the fullest first."""
    found, rest = [], [(0, len(offset))]
    while rest:
        begin, end = rest.pop()
        if end - begin < MATCHES:
            continue
        stop = np.searchsorted(offset[begin:end], offset[begin:end] + OFFSET_BIN, side="right")
        low = int(np.argmax(stop - np.arange(end - begin)))
        high = begin + int(stop[low])
        found.append((begin + low, high))
        rest += [(begin, begin + low), (high, end)]
    return found
