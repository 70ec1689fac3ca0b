"""The table of events that everything here passes on: one row an event, times in seconds from the recording's start.

Columns, in this order: `onset` and `duration` (float64, s), `event_type` (str: "sz", SzCORE's sub-types "sz-foc-ia",
..., or what an allow-list let through; "annotation" for a text that it did not), `confidence` (float64 in [0, 1], NaN
if nobody stated one), `channels` (str: names joined by commas, "all" if the event has no channels of its own).
Sorted by onset. An event ends at `onset + duration`; zero duration is a mark.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

COLUMNS = ("onset", "duration", "event_type", "confidence", "channels")
SEIZURE = "sz"


def make_events(
    onset: Sequence[float] | np.ndarray,
    duration: Sequence[float] | np.ndarray,
    event_type: str | Sequence[str] = SEIZURE,
    confidence: float | Sequence[float] | np.ndarray = np.nan,
    channels: str | Sequence[str] = "all",
) -> pd.DataFrame:
    """Return a table of events, sorted by onset.

    Args:
        onset: Seconds from the recording's start.
        duration: Seconds.
        event_type: One for all, or one for each.
        confidence: In [0, 1]; NaN if nobody stated one.
        channels: Names joined by commas, or "all".
    """
    onset = np.asarray(onset, float).reshape(-1)
    table = pd.DataFrame(
        {
            "onset": onset,
            "duration": np.asarray(duration, float).reshape(-1),
            "event_type": event_type if isinstance(event_type, str) else list(event_type),
            "confidence": confidence,
            "channels": channels if isinstance(channels, str) else list(channels),
        },
        index=range(len(onset)),
    ).astype({"event_type": object, "confidence": float, "channels": object})
    return table.sort_values("onset", kind="stable", ignore_index=True)


def no_events() -> pd.DataFrame:
    """Return a table of events without a row."""
    return make_events([], [])


def is_seizure(event_type: Iterable[str]) -> np.ndarray:
    """Return which types are seizures: "sz" and what begins with "sz-"."""
    return np.array([kind == SEIZURE or kind.startswith(SEIZURE + "-") for kind in event_type], dtype=bool)


def seizures(events: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are seizures."""
    return events[is_seizure(events["event_type"])].reset_index(drop=True)
