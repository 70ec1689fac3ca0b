"""Events that no recording can hold: outside of it, of negative or unknown duration, one over the other."""

from typing import Literal

import numpy as np
import pandas as pd

from tsattn.events.table import make_events, seizures
from tsattn.recordings.recording import Note

Policy = Literal["clip", "drop", "raise"]


def fit_events(
    events: pd.DataFrame, duration: float | int, policy: Policy = "clip", sfreq: float | int = 1.0
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the events that lie in the recording, and what was done to the others.

    Args:
        events: `tsattn.events.table`.
        duration: Of the recording, in seconds.
        policy: "clip" cuts an event at the recording's ends, makes a mark of one whose duration is negative or unknown,
            and drops what lies wholly outside; "drop" drops every such event; "raise" is an error for the first one.
        sfreq: Hz; an event may end one sample after the recording.

    Raises:
        ValueError: If `policy` is "raise" and an event is bad.
    """
    onset, length = events["onset"].to_numpy(), events["duration"].to_numpy()
    end = onset + np.where(length > 0, length, 0)
    nowhere = ~np.isfinite(onset)
    negative = ~nowhere & (length < 0)
    unknown = ~nowhere & ~np.isfinite(length)
    lasts = length > 0  # an event that only touches the recording's ends lies outside, a mark there does not
    outside = ~nowhere & ((onset > duration) | (end < 0) | lasts & ((onset == duration) | (end == 0)))
    across = ~nowhere & ~outside & ((onset < 0) | (end > duration + 1 / sfreq))
    found = {
        "have no onset": (nowhere, "dropped"),
        "have a negative duration": (negative, "kept as marks of no duration"),
        "have no duration": (unknown, "kept as marks of no duration"),
        "lie outside the recording": (outside, "dropped"),
        "reach beyond the recording": (across, "cut at its ends"),
    }
    notes = []
    for what, (which, done) in found.items():
        if which.any():
            if policy == "raise" and what != "have no duration":
                first = events.iloc[int(np.flatnonzero(which)[0])]
                raise ValueError(
                    f"{which.sum()} events {what} (of {duration:g} s), the first with onset {first['onset']:g} s and "
                    f"duration {first['duration']:g} s. Mend the file, or pass bad_events='clip' or 'drop'."
                )
            drop = policy == "drop" and what != "have no duration"
            notes.append(Note("warning", f"{which.sum()} events {what}: {'dropped' if drop else done}."))
    keep = ~nowhere & ~outside
    if policy == "drop":
        keep &= ~negative & ~across
    begin = np.clip(onset, 0, duration)
    stop = np.clip(end, 0, duration)
    table = events.assign(onset=begin, duration=np.where(across, stop - begin, np.where(length > 0, length, 0.0)))
    table = table[keep]
    table["duration"] = np.minimum(table["duration"], np.maximum(duration - table["onset"], 0))
    overlapping = _overlaps(table)
    if overlapping:
        notes.append(
            Note("warning", f"{overlapping} seizures begin before the one before them ends; kept as they are.")
        )
    return make_events(*(table[name].tolist() for name in table.columns)), tuple(notes)


def _overlaps(events: pd.DataFrame) -> int:
    count = 0
    for _, same in seizures(events).groupby("channels"):
        ends = np.maximum.accumulate((same["onset"] + same["duration"]).to_numpy())[:-1]
        count += int((same["onset"].to_numpy()[1:] < ends).sum())
    return count
