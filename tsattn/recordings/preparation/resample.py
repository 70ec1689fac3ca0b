"""Bring samples to another rate, block by block, on a grid that begins with the recording and not with the block.

Polyphase: the anti-aliasing filter of scipy.signal.resample_poly (a Kaiser window, beta 5, ten samples of the lower
rate to either side), run by scipy.signal.upfirdn at the phase that a block has. Sample m stands at m / rate seconds,
also after a gap. A stretch between gaps is continued by a point reflection of the filter's half length.

"ibm-linear" is torch.nn.functional.interpolate(mode="linear", align_corners=False), as IBM's loader of MVPFormer does
it: no anti-aliasing filter (2048 -> 512 Hz turns 500 Hz into 12 Hz at 0.72), and sample m stands (r - 1) / 2 samples of
the old rate late, with r the old rate over the new one. For parity only.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from scipy import signal

from tsattn.recordings.preparation.filters import reflect, stretches

HALF_WIDTH = 10  # samples of the lower rate on either side of the filter's middle: resample_poly's
BETA = 5.0  # of the Kaiser window: resample_poly's
LONGEST = 100_000  # largest up or down: a filter of two million taps
UNSEEN_DRIFT = 0.01  # new samples, over the recording, that a shorter filter may cost


def rate_ratio(old: float, new: float, seconds: float) -> Fraction:
    """Return `new / old` as a fraction.

    Args:
        old: Hz.
        new: Hz.
        seconds: How long the recording is: over it, an approximation may drift by less than half a new sample.

    Raises:
        ValueError: If no fraction with terms up to `LONGEST` does: before a filter is built.
    """
    if not 1 / LONGEST <= new / old <= LONGEST:
        raise ValueError(
            f"{old:.9g} Hz cannot be brought to {new:.9g} Hz, {max(new / old, old / new):.2g} times apart: no "
            "recording of a brain has such a rate, so its header is damaged. The preset 'raw' keeps the rate."
        )
    exact = Fraction(str(float(new))) / Fraction(str(float(old)))
    if max(exact.numerator, exact.denominator) <= LONGEST:
        return exact
    drift = math.inf
    for longest in (100, 1_000, 10_000, LONGEST):  # a short filter if it does as well
        close = exact.limit_denominator(max(1, longest // math.ceil(exact)))
        drift = abs(float(close / exact) - 1) * seconds * new
        if drift < UNSEEN_DRIFT or (longest == LONGEST and drift < 0.5):
            return close
    raise ValueError(
        f"{old:.9g} Hz cannot be brought to {new:.9g} Hz: the nearest fraction, {close}, drifts by {drift:.2g} "
        f"samples over {seconds:g} s, expected less than 0.5. Choose a rate that fits, such as "
        f"sfreq={float(close) * old:.10g}."
    )


@dataclass(frozen=True)
class Resampler:
    """From one rate to another, as `up / down`."""

    up: int
    down: int
    method: Literal["polyphase", "ibm-linear"] = "polyphase"
    taps: Float64[np.ndarray, " tap"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        taps = np.zeros(0)
        if self.method == "polyphase" and self.up != self.down:
            larger = max(self.up, self.down)
            length = 2 * HALF_WIDTH * larger + 1
            taps = signal.firwin(length, 1 / larger, window=("kaiser", BETA)) * self.up
        object.__setattr__(self, "taps", taps)

    @property
    def same(self) -> bool:
        """Whether nothing is to be done."""
        return self.up == self.down

    @property
    def padding(self) -> int:
        """Old samples by which the ends of a stretch are continued; a stretch must be longer."""
        return 0 if self.same else 1 if self.method == "ibm-linear" else len(self.taps) // 2 // self.up + 1

    @property
    def reach(self) -> int:
        """Old samples to read on either side: the filter's and, if a stretch ends there, their reflection."""
        return 2 * self.padding + 1 if self.padding else 0

    def place(self, old: int) -> int:
        """Return the first new sample that stands at old sample `old` or later."""
        return -(-old * self.up // self.down)

    def span(self, start: int, stop: int, samples: int) -> tuple[int, int]:
        """Return which old samples must be read for the new ones `[start, stop)`, of `samples` that there are."""
        if self.same:
            return min(start, samples), min(stop, samples)
        low, high = start * self.down // self.up, -(-(stop - 1) * self.down // self.up) + 1
        return min(max(0, low - self.reach), samples), min(samples, high + self.reach)

    def run(
        self, values: Float[np.ndarray, "channel old"], first: int, samples: int, start: int, stop: int
    ) -> Float[np.ndarray, "channel new"]:
        """Return the new samples `[start, stop)`.

        Args:
            values: The old samples of `span`; NaN is missing.
            first: Number of the first of them.
            samples: How many old samples there are in all: beyond them nothing was recorded.
            start: First new sample.
            stop: One past the last.
        """
        if self.same and values.shape[1] == stop - start:
            return values
        out = np.full((len(values), stop - start), np.nan)
        if self.same:
            out[:, : values.shape[1]] = values
            return out
        for rows, begin, end in stretches(np.isnan(values)):
            left = begin > 0 or first == 0
            right = end < values.shape[1] or first + end == samples
            if end - begin <= self.padding:
                continue
            low = max(start, self.place(first + begin)) if left else start
            high = min(stop, self.place(first + end)) if right else stop
            if low >= high:
                continue
            part = values[rows, begin:end].astype(float)
            run = self._polyphase if self.method == "polyphase" else self._linear
            out[rows, low - start : high - start] = run(part, first + begin, left, right, low, high)
        return out

    def _polyphase(
        self, part: Float64[np.ndarray, "channel old"], first: int, left: bool, right: bool, low: int, high: int
    ) -> Float64[np.ndarray, "channel new"]:
        pad = self.padding
        part = reflect(part, pad if left else 0, pad if right else 0)
        first -= pad if left else 0
        shift = low * self.down - first * self.up + len(self.taps) // 2  # tap that meets the first sample at `low`
        skip = -(-shift // self.down)
        taps = np.concatenate([np.zeros(skip * self.down - shift), self.taps])
        return signal.upfirdn(taps, part, self.up, self.down)[:, skip : skip + high - low]

    def _linear(
        self, part: Float64[np.ndarray, "channel old"], first: int, left: bool, right: bool, low: int, high: int
    ) -> Float64[np.ndarray, "channel new"]:
        ratio = self.down / self.up
        place = np.clip((np.arange(low, high) + 0.5) * ratio - 0.5 - first, 0, part.shape[1] - 1)
        lower = np.floor(place).astype(int)
        upper = np.minimum(lower + 1, part.shape[1] - 1)
        weight = place - lower
        return part[:, lower] * (1 - weight) + part[:, upper] * weight
