"""Samples without a hole, on the clock of their recording, and the gaps between them; for formats that state times."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """Samples `[begin, begin + n)` on the clock, which are `[first, first + n)` in the file."""

    begin: int
    first: int
    n: int


def common_gaps(
    stretches: Sequence[Sequence[Stretch]], rates: Sequence[float], duration: float
) -> tuple[tuple[tuple[float, float], ...], bool]:
    """Return where no channel was recorded, and whether some channel has a gap of its own besides.

    Args:
        stretches: Of each channel, sorted.
        rates: Of each channel, Hz.
        duration: Of the recording, seconds.

    Returns:
        `(begin, end)` in seconds, sorted.
    """
    spans = [
        [(s.begin / sfreq, (s.begin + s.n) / sfreq) for s in found]
        for found, sfreq in zip(stretches, rates, strict=True)
    ]
    tolerance = 1 / min(rates)
    gaps, at = [], 0.0
    for a, b in sorted({span for found in spans for span in found}):
        if a > at + tolerance / 2:
            gaps.append((at, a))
        at = max(at, b)
    observed = duration - sum(b - a for a, b in gaps)
    own = any(abs(sum(b - a for a, b in found) - observed) > tolerance for found in spans)
    return tuple(gaps), own
