"""Parts of one recording (`_split-01`, `_split-02`) on one clock, with what lies between them as a gap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn.events.clock import follow, union
from tsattn.recordings.recording import Note, Recording, Source

TOLERANCE = 1e-3  # s


@dataclass(frozen=True)
class PartsSource:
    """Samples of several sources, each at its place on the true clock.

    Attributes:
        sources: Of the parts, in order; they have the same channels.
        onsets: Seconds from the first part's start.
        lengths: Seconds of each part.
        sfreqs: Of the channels.
    """

    sources: tuple[Source, ...]
    onsets: tuple[float, ...]
    lengths: tuple[float, ...]
    sfreqs: tuple[float, ...]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full((len(rows), stop - start), np.nan, np.float32)
        for source, onset, length in zip(self.sources, self.onsets, self.lengths, strict=True):
            if not rows:
                break
            sfreq = self.sfreqs[rows[0]]
            first, count = round(onset * sfreq), round(length * sfreq)
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                out[:, begin - start : end - start] = source.read(rows, begin - first, end - first)
        return out


def join_parts(parts: Sequence[Recording], starts: Sequence[datetime | None], called: Sequence[str]) -> Recording:
    """Put the parts of one recording on one clock.

    Args:
        parts: In order, with the same channels.
        starts: When each began.
        called: How errors may call them.

    Raises:
        ValueError: If nothing tells when a part began, parts overlap, or their channels differ.
    """
    first = parts[0]
    for part, name in zip(parts, called, strict=True):
        same = [part.channels[column].tolist() == first.channels[column].tolist() for column in ("name", "sfreq")]
        if not all(same):
            raise ValueError(f"{name} has other channels or rates than {called[0]}, expected parts of one recording.")
    if any(start is None for start in starts):
        raise ValueError(
            f"{called[0]} has {len(parts)} parts, and nothing tells when they began: write acq_time into scans.tsv."
        )
    seconds = [(start - starts[0]).total_seconds() for start in starts]  # type: ignore[operator]
    order = sorted(range(len(parts)), key=lambda i: seconds[i])
    seconds, parts = [seconds[i] - min(seconds) for i in order], [parts[i] for i in order]
    lengths = [part.duration for part in parts]
    try:
        clock, _ = follow(seconds, lengths, TOLERANCE, "part")
    except ValueError as problem:
        raise ValueError(f"{called[0]}: {problem}") from None
    seconds = _placed(seconds, lengths)
    events = pd.concat(
        [part.events.assign(onset=part.events["onset"] + at) for part, at in zip(parts, seconds, strict=True)],
        ignore_index=True,
    )
    inner = [(a + at, b + at) for part, at in zip(parts, seconds, strict=True) for a, b in part.gaps]
    told = Note("info", f"{len(parts)} parts were put on one clock, with {len(clock.gaps)} gaps between them.")
    return replace(
        parts[0],
        source=PartsSource(
            tuple(part.source for part in parts), tuple(seconds), tuple(lengths), tuple(first.channels["sfreq"])
        ),
        duration=clock.duration,
        events=events.sort_values("onset", kind="stable", ignore_index=True),
        gaps=union((*clock.gaps, *inner)),
        start=min(start for start in starts if start is not None),
        notes=(*dict.fromkeys(note for part in parts for note in part.notes), told),
        files=tuple(dict.fromkeys(file for part in parts for file in part.files)),
    )


def _placed(seconds: Sequence[float], lengths: Sequence[float]) -> list[float]:
    """Return where each part begins once parts that follow each other closely are joined."""
    out: list[float] = []
    for begin in seconds:
        end = out[-1] + lengths[len(out) - 1] if out else 0.0
        out.append(end if out and abs(begin - end) <= TOLERANCE else begin)
    return out
