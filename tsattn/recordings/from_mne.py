"""A recording of an `mne.io.Raw` object that lies in memory or is read as it is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tsattn.recordings.recording import SIGNAL_TYPES, Recording, make_channels

VOLTS_TO_MICROVOLTS = 1e6


@dataclass(frozen=True, eq=False)
class RawSource:
    """Samples of a Raw object; NaN where an annotation says that the recording was interrupted."""

    raw: Any
    gaps: tuple[tuple[int, int], ...]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        values = self.raw.get_data(list(rows), start, stop) * VOLTS_TO_MICROVOLTS
        for begin, end in self.gaps:
            values[:, max(begin - start, 0) : max(end - start, 0)] = np.nan
        return values


def from_mne(raw: Any, *, id: str = "raw", subject: str | None = None) -> Recording:
    """Make a recording of a Raw object.

    mne holds volts; annotations that begin with "BAD_ACQ_SKIP" or "EDGE" are where recording was interrupted. Names
    and dates in its `info` stay behind.

    Args:
        raw: Of mne.
        id: Of the recording; no name of a person.
        subject: Of the subject; the recording's id if not given.

    Raises:
        ValueError: If it has no channel of a brain signal.
    """
    sfreq = float(raw.info["sfreq"])
    types = [
        kind if kind in (*SIGNAL_TYPES, "ecg", "emg", "eog", "stim") else "misc" for kind in raw.get_channel_types()
    ]
    if not set(types) & set(SIGNAL_TYPES):
        raise ValueError(
            f"The Raw object has channels of type {', '.join(sorted(set(types)))}, none of a brain signal."
        )
    bad = set(raw.info["bads"])
    status = ["bad" if name in bad else "good" for name in raw.ch_names]
    duration = raw.n_times / sfreq
    found = []
    for note in raw.annotations:
        if note["description"].upper().startswith("BAD_ACQ_SKIP") and note["duration"] > 0:
            begin = note["onset"] - raw.first_time
            found.append((max(0, round(begin * sfreq)), min(raw.n_times, round((begin + note["duration"]) * sfreq))))
    gaps = tuple(sorted((a, b) for a, b in found if b > a))
    channels = make_channels(raw.ch_names, sfreq, types, status)
    seconds = tuple((a / sfreq, b / sfreq) for a, b in gaps)
    return Recording(RawSource(raw, gaps), id, subject or id, channels, duration, gaps=seconds)
