"""Events that no recording can hold: outside of it, of negative or unknown duration, one over the other."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn import messages
from tsattn.events.notes import Note
from tsattn.events.table import ROUNDING, is_seizure, make_events, within

Outside = Literal["raise", "clip", "drop", "keep"]


def fit_events(
    events: pd.DataFrame, duration: float | int | None, outside: Outside = "clip", sfreq: float | int | None = None
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the events that lie in the recording, and what was done to the others.

    Args:
        events: `tsattn.events.table`.
        duration: Of the recording, in seconds; None leaves its end unchecked.
        outside: "clip" cuts an event at the recording's ends, makes a mark of one whose duration is negative or
            unknown, and drops what lies wholly outside; "drop" drops every such event; "raise" is an error for the
            first one. "keep" is for parts of a recording that are yet to be joined.
        sfreq: Hz; an event may end one sample after the recording, or `ROUNDING`, whichever is more.

    Raises:
        ValueError: If `outside` is "raise" and an event is bad.
    """
    if outside not in ("raise", "clip", "drop", "keep"):
        raise ValueError(f"outside is {outside!r}, expected one of raise, clip, drop.")
    if outside == "keep" or not len(events):
        return events, ()
    last = np.inf if duration is None else float(duration)
    slack = max(ROUNDING, 0.0 if sfreq is None else 1 / sfreq)
    onset, length = events["onset"].to_numpy(), events["duration"].to_numpy()
    lasting = np.where(length > 0, length, 0.0)
    begin, cut, inside = within(onset, lasting, last)
    nowhere = ~np.isfinite(onset)
    negative = ~nowhere & (length < 0)
    unknown = ~nowhere & ~np.isfinite(length)
    beyond = ~nowhere & ~inside
    across = ~nowhere & inside & ((onset < 0) | (onset + lasting > last + slack))
    found = {
        "have no onset": (nowhere, "dropped"),
        "have a negative duration": (negative, "kept as marks of no duration"),
        "have no duration": (unknown, "kept as marks of no duration"),
        "lie outside the recording": (beyond, "dropped"),
        "reach beyond the recording": (across, "cut at its ends"),
    }
    notes = []
    for what, (which, done) in found.items():
        if which.any():
            if outside == "raise" and what != "have no duration":
                first = events.iloc[int(np.flatnonzero(which)[0])]
                whole = "" if duration is None else f" (of {duration:g} s)"
                raise ValueError(
                    f"{which.sum()} events {what}{whole}, the first with onset {first['onset']:g} s and "
                    f"duration {first['duration']:g} s. "
                    + mend("cut them by {outside=clip}", "leave them out by {outside=drop}")
                )
            drop = outside == "drop" and what != "have no duration"
            notes.append(Note("warning", f"{which.sum()} events {what}: {'dropped' if drop else done}."))
    keep = ~nowhere & ~beyond
    if outside == "drop":
        keep &= ~negative & ~across
    columns = {name: events[name].to_numpy() for name in events.columns} | {"onset": begin, "duration": cut}
    fitted = {name: column[keep].tolist() for name, column in columns.items()}  # lists: tables have few rows each
    overlapping = _overlaps(fitted)
    if overlapping:
        notes.append(
            Note("warning", f"{overlapping} seizures begin before the one before them ends; kept as they are.")
        )
    return make_events(*fitted.values()), tuple(notes)


def mend(*ways: str) -> str:
    """Return what to do about a file that is wrong: mend it, or one of the ways that the caller has."""
    possible = messages.advice(*ways)
    return f"Mend the file, or {possible}." if possible else "Mend the file."


def _overlaps(events: Mapping[str, list[Any]]) -> int:
    """Return how many seizures begin before one of the same channels has ended."""
    count = 0
    ends: dict[str, float] = {}
    for i in np.flatnonzero(is_seizure(events["event_type"])):
        onset, channels = events["onset"][i], events["channels"][i]
        last = ends.get(channels, -np.inf)
        count += onset < last
        ends[channels] = max(last, onset + events["duration"][i])
    return count
