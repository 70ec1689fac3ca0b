"""Where the samples of a file lie on the true clock: stretches that were recorded, and the gaps between them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from tsattn.events.table import SAME_TIME

LONGEST_GAP = 366 * 86400.0  # s; a longer one is a wrong time stamp, and would ask for endless NaN


class Piece(NamedTuple):
    """Samples that lie together: `length` of them, at `place` of what was asked for, from sample `at` of the file."""

    place: int
    at: int
    length: int


@dataclass(frozen=True)
class Clock:
    """Recorded stretches on the true clock, which begins with the first.

    Attributes:
        onsets: Seconds from the recording's start, ascending, the first is zero.
        lengths: Seconds that each stretch lasts; in the file they follow each other without a gap.
    """

    onsets: tuple[float, ...]
    lengths: tuple[float, ...]

    @property
    def duration(self) -> float:
        """Seconds, gaps included."""
        return self.onsets[-1] + self.lengths[-1]

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Begin and end of each gap, in seconds."""
        ends = [onset + length for onset, length in zip(self.onsets, self.lengths, strict=True)]
        return tuple((end, onset) for end, onset in zip(ends, self.onsets[1:], strict=False) if onset > end)

    def true_times(
        self, onset: Float[np.ndarray, " event"], length: Float[np.ndarray, " event"]
    ) -> tuple[Float[np.ndarray, " event"], Float[np.ndarray, " event"]]:
        """Return onsets and lengths on the true clock of events that are given in the time of the file.

        The time of the file counts recorded samples only. Begin and end are mapped each for itself, so an event that
        spans a pause lasts longer by the pause. At a pause, what begins lies after it, what ends lies before it.

        Args:
            onset: Seconds from the file's first sample.
            length: Seconds; NaN stays NaN, and what is not above zero stays as it is.
        """
        begin = self._true(onset, "right")
        end = self._true(onset + np.where(length > 0, length, 0.0), "left")
        return begin, np.where(length > 0, end - begin, length)

    def _true(self, seconds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        firsts = np.r_[0.0, np.cumsum(self.lengths)[:-1]]  # of each stretch, in the time of the file
        near = np.asarray(seconds, float) + (1 if side == "right" else -1) * SAME_TIME  # of a sum of samples
        place = np.clip(np.searchsorted(firsts, near, side=side) - 1, 0, len(firsts) - 1)
        return np.asarray(self.onsets)[place] + np.asarray(seconds, float) - firsts[place]

    def pieces(self, start: int, stop: int, sfreq: float) -> Iterator[Piece]:
        """Yield where samples `[start, stop)` of the true clock are in the file; what no piece covers is a gap."""
        at = 0
        for onset, length in zip(self.onsets, self.lengths, strict=True):
            first, count = round(onset * sfreq), round(length * sfreq)
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                yield Piece(begin - start, at + begin - first, end - begin)
            at += count


def union(spans: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return spans sorted and apart from each other: those that touch become one."""
    apart: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if apart and begin <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        elif end > begin:
            apart.append((begin, end))
    return tuple(apart)


def follow(begins: Sequence[float], seconds: Sequence[float], tolerance: float, what: str) -> tuple[Clock, float]:
    """Join parts whose begin is known to stretches.

    Args:
        begins: Seconds on any clock, one for each part (a data record, a file).
        seconds: That each part lasts.
        tolerance: A part that begins within so many seconds of the end of the one before it follows it.
        what: What a part is called in an error.

    Returns:
        The clock, and by how many seconds the parts' own times drift from their length where they follow each other.

    Raises:
        ValueError: If a part begins before the one before it ends, or absurdly late.
    """
    onsets, lengths, drift = [0.0], [0.0], 0.0
    last_begin, last_length = begins[0], 0.0
    for i, (begin, length) in enumerate(zip(begins, seconds, strict=True)):
        step = begin - (last_begin + last_length)
        if step < -tolerance:
            raise ValueError(
                f"{what} {i + 1} begins {-step:g} s before the one before it ends, expected them in order."
            )
        if step > LONGEST_GAP:
            raise ValueError(
                f"{what} {i + 1} begins {step / 86400:.0f} days after the one before it, expected under 366."
            )
        if step > tolerance:
            onsets.append(begin - begins[0])
            lengths.append(0.0)
        lengths[-1] += length
        drift = max(drift, abs(begin - begins[0] + length - onsets[-1] - lengths[-1]))
        last_begin, last_length = begin, length
    return Clock(tuple(onsets), tuple(lengths)), drift
