"""Onsets and offsets of a data set's own table of seizures as a table of events that fits the recording."""

from typing import Any

import numpy as np
import pandas as pd

from tsattn.events.fitting import Outside, fit_events
from tsattn.events.table import make_events
from tsattn.recordings.recording import Note


def seizure_table(
    onset: Any, offset: Any, duration: float, sfreq: float, who: str, outside: Outside
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the seizures as events, and what there is to say of them.

    Args:
        onset: Seconds from the recording's start, of any shape with as many values as `offset`.
        offset: Seconds from the recording's start.
        duration: Of the recording, seconds.
        sfreq: Hz.
        who: How to call the recording in an error.
        outside: What to do with a seizure that no recording can hold: see `tsattn.events.fitting.fit_events`.

    Raises:
        ValueError: If there are more onsets than offsets, or as `outside` says.
    """
    onset, offset = (np.asarray(times, float).reshape(-1) for times in (onset, offset))
    if len(onset) != len(offset):
        raise ValueError(f"{who} has {len(onset)} seizure onsets and {len(offset)} offsets, expected as many of both.")
    try:
        events, notes = fit_events(make_events(onset, offset - onset), duration, outside, sfreq)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
    last = np.max(offset[np.isfinite(offset)], initial=0.0)
    if last > duration + 1:
        text = f"A seizure lies at {last:g} s, the samples end at {duration:g} s: is a file missing, or the rate wrong?"
        notes += (Note("warning", text),)
    return events, notes
