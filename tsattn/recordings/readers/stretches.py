"""Samples without a hole, on the clock of their recording, and the gaps between them; for formats that state times."""

from collections.abc import Sequence
from dataclasses import dataclass

from tsattn.recordings.recording import Note


@dataclass(frozen=True)
class Stretch:
    """Samples `[begin, begin + n)` on the clock, which are `[first, first + n)` in the file."""

    begin: int
    first: int
    n: int


def in_seconds(stretches: Sequence[Stretch], sfreq: float) -> list[tuple[float, float]]:
    """Return begin and end of each stretch in seconds."""
    return [(one.begin / sfreq, (one.begin + one.n) / sfreq) for one in stretches]


def common_gaps(
    recorded: Sequence[Sequence[tuple[float, float]]], rates: Sequence[float], duration: float
) -> tuple[tuple[tuple[float, float], ...], tuple[Note, ...]]:
    """Return where no channel was recorded, and what to say of it.

    Args:
        recorded: Begin and end in seconds of what was recorded, of each channel.
        rates: Of each channel, Hz.
        duration: Of the recording, seconds.

    Returns:
        `(begin, end)` in seconds, sorted.
    """
    tolerance = 1 / min(rates)
    gaps, at = [], 0.0
    for begin, end in sorted({span for spans in recorded for span in spans}):
        if begin > at + tolerance / 2:
            gaps.append((at, begin))
        at = max(at, end)
    lost = sum(end - begin for begin, end in gaps)
    notes = [Note("info", f"{len(gaps)} gaps of {lost:g} s in all: read as NaN.")] if gaps else []
    if any(abs(sum(end - begin for begin, end in spans) - (duration - lost)) > tolerance for spans in recorded):
        notes.append(Note("warning", "Channels lack stretches that others have: read as NaN there."))
    return tuple(gaps), tuple(notes)
