"""A recording of an `mne.io.Raw` object that lies in memory or is read as it is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tsattn.events.clock import union
from tsattn.events.interpret import Rows
from tsattn.events.vocabulary import MACHINE
from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording, make_channels

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

    mne holds volts. Annotations that begin with "BAD_ACQ_SKIP" are where recording was interrupted; others become
    events as a file's do (`tsattn.recordings.readers.annotations`). Names and dates in its `info` stay behind.

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
            f"The Raw object has channels of type {', '.join(sorted(set(types)))}, none of a brain signal: "
            "raw.set_channel_types(...) says what they are."
        )
    bad = set(raw.info["bads"])
    status = ["bad" if name in bad else "good" for name in raw.ch_names]
    duration = raw.n_times / sfreq
    notes = raw.annotations
    begins = notes.onset - raw.first_time  # onsets count from before what was cropped away
    skips, marks, joined = [], [], 0
    for place, text in enumerate(notes.description):
        if text.upper().startswith("BAD_ACQ_SKIP"):
            begin, end = (round(t * sfreq) for t in (begins[place], begins[place] + notes.duration[place]))
            skips.append((float(max(0, begin)), float(min(raw.n_times, end))))
        elif text.casefold() in MACHINE:
            joined += text.casefold() != "bad boundary"  # mne writes that one and "EDGE boundary" at each place
        else:
            marks.append(place)
    gaps = tuple((round(a), round(b)) for a, b in union(skips))
    where = [",".join(notes.ch_names[place]) or "all" for place in marks]
    texts = [str(notes.description[place]) for place in marks]
    rows = Rows(begins[marks], notes.duration[marks], texts, where)
    events, told = to_events(rows, Reading(), raw.ch_names, duration, sfreq)
    if joined:
        text = f"mne says {joined} times that stretches were joined; how much time is missing is lost."
        told = (*told, Note("warning", text))
    channels = make_channels(raw.ch_names, sfreq, types, status)
    seconds = tuple((a / sfreq, b / sfreq) for a, b in gaps)
    return Recording(RawSource(raw, gaps), id, subject or id, channels, duration, events, gaps=seconds, notes=told)
