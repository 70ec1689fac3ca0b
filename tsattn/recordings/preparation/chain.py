"""The steps of a preparation on one recording, planned (`plan`), run for any block of samples, without a state.

Order: channels kept by type and status -> each brought to the one rate (polyphase, anti-aliased) -> notches and
band-pass, forwards and backwards -> re-reference. Filters come after resampling because they are cheaper there and do
not see what the anti-aliasing takes away; the reference comes last because a median over channels that still have
their own constant and drift would follow one channel, not all. Inside it is float64, what comes out float32.

A block is read with so much around it that it equals the same block of the whole recording: `filters.reach` seconds for
the filters, the resampler's length at each piece that is read. A stretch between gaps is a recording of its own.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from tsattn import messages
from tsattn.recordings.preparation.filters import zero_phase
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.preparation.reference import Montage
from tsattn.recordings.preparation.resample import Resampler
from tsattn.recordings.recording import Note, Recording

PIECE = 32e6  # bytes that are read at once
TOGETHER = 4  # channels that are filtered together, in the cache
COPIES = (
    28  # bytes that a new sample of a channel takes at most, while it is prepared and written: tests/bench/prepare.py
)


@dataclass(frozen=True, eq=False)
class Rate:
    """Channels with one rate.

    Attributes:
        sfreq: Hz.
        rows: Places among the channels that are kept.
        samples: Of a channel.
        gaps: `(start, stop)` of what was not recorded, samples.
        resampler: To the new rate.
    """

    sfreq: float
    rows: tuple[int, ...]
    samples: int
    gaps: tuple[tuple[int, int], ...]
    resampler: Resampler


@dataclass(frozen=True, eq=False)
class Chain:
    """A planned preparation.

    Attributes:
        recording: With the channels that are read.
        preset: The parameters.
        sfreq: Hz, of what comes out.
        samples: That come out, of each channel.
        rates: The channels by rate.
        sos: Second-order sections of the filters.
        overlap: New samples around a block.
        pad: New samples by which the ends of a stretch are continued.
        montage: The reference.
        gaps: `(start, stop)`, new samples that are missing in all channels.
        notes: What was found and decided.
        steps: The same in plain data, for the store.
    """

    recording: Recording
    preset: Preset
    sfreq: float
    samples: int
    rates: tuple[Rate, ...]
    sos: Float64[np.ndarray, "section 6"] | None
    overlap: int
    pad: int
    montage: Montage
    gaps: tuple[tuple[int, int], ...]
    notes: tuple[Note, ...]
    steps: tuple[dict, ...]

    def block(self, start: int, stop: int) -> Float32[np.ndarray, "channel time"]:
        """Return the prepared samples `[start, stop)` of all channels, in microvolts; NaN is missing."""
        low, high = max(0, start - self.overlap), min(self.samples, stop + self.overlap)
        values = self._resampled(low, high)
        out = np.empty((len(values), stop - start), np.float32)
        core = slice(start - low, stop - low)
        if self.sos is None:
            out[:] = values[:, core]
        else:
            begins, ends = low == 0, high == self.samples
            for row in range(0, len(values), TOGETHER):
                part = values[row : row + TOGETHER]
                out[row : row + TOGETHER] = zero_phase(part, self.sos, self.pad, begins, ends)[:, core]
        del values
        for begin, end in self.gaps:
            out[:, max(begin - start, 0) : max(end - start, 0)] = np.nan
        return self.montage.apply(out)

    def _resampled(self, start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        kind = np.float64 if self.sos is not None else np.float32
        values = np.empty((len(self.recording.channels), stop - start), kind)
        for rate in self.rates:
            step = max(1, int(PIECE / 8 / len(rate.rows) * self.sfreq / rate.sfreq))
            for low in range(start, stop, step):
                high = min(stop, low + step)
                first, last = rate.resampler.span(low, high, rate.samples)
                read = self._read(rate, first, last)
                part = rate.resampler.run(read, first, rate.samples, low, high)
                values[list(rate.rows), low - start : high - start] = part
        return values

    def _read(self, rate: Rate, first: int, last: int) -> Float[np.ndarray, "channel time"]:
        values = self.recording.read(first, last, list(rate.rows))
        inside = [(max(a, first), min(b, last)) for a, b in rate.gaps if a < last and b > first]
        if inside:
            values = values.copy()
            for begin, end in inside:
                values[:, begin - first : end - first] = np.nan
        if not np.isfinite(values.sum(dtype=float)) and np.isinf(values).any():
            row, column = np.argwhere(np.isinf(values))[0]
            name = self.recording.channels["name"].iloc[rate.rows[row]]
            raise ValueError(
                f"{self.recording.id}: channel {name} is infinite at {(first + column) / rate.sfreq:.3f} s, expected "
                "microvolts, or NaN where a sample is missing. Repair the file, or leave the channel out."
            )
        return values

    def block_samples(self, memory: float, unit: int) -> int:
        """Return how long a block may be: a multiple of `unit` samples, whatever the recording's length.

        Args:
            memory: Bytes that a block, what is around it and its copies may take.
            unit: Samples.

        Raises:
            ValueError: If what is around it takes more already.
        """
        width = max(len(self.recording.channels), len(self.montage.channels)) * COPIES
        longest = int(memory / width) - 2 * self.overlap
        if longest < max(unit, self.overlap // 2):
            needed = (max(unit, self.overlap // 2) + 2 * self.overlap) * width
            raise ValueError(
                f"{self.recording.id}: {width // COPIES} channels at {self.sfreq:g} Hz take {needed / 1e6:.3g} MB at "
                f"once (a block, and what the filters see around it), {memory / 1e6:.3g} MB are allowed."
                + messages.hint("pass {memory}", memory=float(f"{needed * 1.05:.2g}"))
            )
        return longest // unit * unit
