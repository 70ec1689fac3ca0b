"""Labels of windows from a table of events, by named rules; times are seconds, and touching a border counts.

`last_segment` is MVPFormer's rule (Carzaniga et al., 2026): what happens in the last segment is what is detected.
"""

from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8

from tsattn.events.table import check_events, seizures

Rule = Literal["last_segment", "any_segment", "share", "per_segment", "preictal"]
NO_LABEL = -1


def label_windows(
    events: pd.DataFrame,
    begin: Float[np.ndarray, " window"],
    segments: int,
    segment_seconds: float,
    rule: Rule = "last_segment",
    *,
    share: float = 0.5,
    horizon: float = 1800.0,
    last_seconds: float | None = None,
) -> Int8[np.ndarray, "window *segment"]:
    """Label windows by the seizures of their recording.

    Args:
        events: Of the recording; rows that are no seizures are not looked at.
        begin: Seconds from the recording's start to each window's first sample.
        segments: Of a window.
        segment_seconds: Of a segment.
        rule: "last_segment": 1 if a seizure touches the last segment, both ends included (onset <= the segment's end
            and offset >= its begin). "any_segment": the same for the whole window. "share": 1 if seizures cover at
            least `share` of the window. "per_segment": one label for each segment, by touch. "preictal": 1 if no
            seizure touches the window and one begins at most `horizon` after its end; a window that a seizure touches
            has no label.
        share: Of the window, above 0 up to 1.
        horizon: Seconds.
        last_seconds: Length of what "last_segment" looks at; None: a segment.

    Returns:
        1, 0, or -1 for no label; `(window, segment)` for "per_segment", else `(window,)`.

    Raises:
        ValueError: If the rule is unknown, its number is out of range, or a seizure has no onset or duration.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share:g}, expected above 0 and at most 1 (of a window, in seizures).")
    if not horizon > 0:
        raise ValueError(f"horizon is {horizon:g} s, expected above 0.")
    table = check_events(seizures(events), overlapping="keep", outside="clip")
    onset = table["onset"].to_numpy(float)
    offset = onset + table["duration"].to_numpy(float)
    end = begin + segments * segment_seconds
    if rule == "last_segment":
        last = segment_seconds if last_seconds is None else last_seconds
        return touches(onset, offset, end - last, end).astype(np.int8)
    if rule == "any_segment":
        return touches(onset, offset, begin, end).astype(np.int8)
    if rule == "share":
        covered = seconds_before(onset, offset, end) - seconds_before(onset, offset, begin)
        return (covered >= share * segments * segment_seconds * (1 - 1e-9)).astype(np.int8)
    if rule == "per_segment":
        edges = begin[:, None] + np.arange(segments) * segment_seconds
        return touches(onset, offset, edges, edges + segment_seconds).astype(np.int8)
    if rule == "preictal":
        soon = np.searchsorted(np.sort(onset), end + horizon, "right") > np.searchsorted(np.sort(onset), end, "right")
        return np.where(touches(onset, offset, begin, end), NO_LABEL, soon).astype(np.int8)
    raise ValueError(f'The label rule is "{rule}", expected one of {", ".join(get_args(Rule))}.')


def touches(
    onset: Float[np.ndarray, " event"],
    offset: Float[np.ndarray, " event"],
    begin: Float[np.ndarray, "*stretch"],
    end: Float[np.ndarray, "*stretch"],
) -> np.ndarray:
    """Return which stretches `[begin, end]` share at least a point with an event `[onset, offset]`.

    Events may overlap and need no order: as none ends before it begins, those that begin by the stretch's end, less
    those that end before its begin, touch it.
    """
    begun = np.searchsorted(np.sort(onset), end, side="right")
    over = np.searchsorted(np.sort(offset), begin, side="left")
    return begun > over


def seconds_before(
    onset: Float[np.ndarray, " event"], offset: Float[np.ndarray, " event"], time: Float[np.ndarray, "*time"]
) -> np.ndarray:
    """Return how many seconds before each time lie within events; what two events share counts once."""
    order = np.argsort(onset, kind="stable")
    edges, total, known_end = [-np.inf], [0.0], -np.inf
    for a, b in zip(onset[order], offset[order], strict=True):
        a = max(a, known_end)
        if b > a:
            edges += [a, b]
            total += [total[-1], total[-1] + b - a]
            known_end = b
    if len(edges) == 1:
        return np.zeros(np.shape(time))
    return np.interp(time, edges[1:], total[1:])
