"""The table of events that everything here passes on: one row an event, times in seconds from the recording's start.

Columns, in this order: `onset` and `duration` (float64, s), `event_type` (str, what the event means: "sz", SzCORE's
sub-types "sz-foc-ia", ...; "annotation" for every other text), `confidence` (float64 in [0, 1], NaN if nobody stated
one), `channels` (str: names joined by commas, "all" if the event has no channels of its own, "n/a" if the file says
that nobody stated them), `text` (str: what the file says, if the caller let it through; else empty).
Sorted by onset. An event ends at `onset + duration`; zero duration is a mark.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from tsattn import messages

COLUMNS = ("onset", "duration", "event_type", "confidence", "channels", "text")
SEIZURE = "sz"
ALL, NOT_STATED = "all", "n/a"  # in `channels`, for events without channels of their own
ROUNDING = 0.02  # s; SzCORE files round onset, duration and the recording's duration to 0.01 s each
SAME_TIME = 1e-6  # s; two times that differ by less are one time, written by two sums


Numbers = Sequence[float | int] | np.ndarray | pd.Series
Words = Sequence[str] | pd.Series


def make_events(
    onset: Numbers,
    duration: Numbers,
    event_type: str | Words = SEIZURE,
    confidence: float | int | Numbers = np.nan,
    channels: str | Words = ALL,
    text: str | Words = "",
) -> pd.DataFrame:
    """Return a table of events, sorted by onset.

    Args:
        onset: Seconds from the recording's start.
        duration: Seconds.
        event_type: One for all, or one for each.
        confidence: In [0, 1]; NaN if nobody stated one.
        channels: Names joined by commas, "all", or "n/a".
        text: What may be shown of the file's own words.
    """
    onset = np.asarray(onset, float).reshape(-1)
    index = pd.RangeIndex(len(onset))  # one for all columns: nothing is aligned
    table = pd.DataFrame(
        {
            "onset": onset,
            "duration": np.asarray(duration, float).reshape(-1),
            "event_type": _words(event_type, index),
            "confidence": np.broadcast_to(np.asarray(confidence, float), len(onset)),  # values only, without an index
            "channels": _words(channels, index),
            "text": _words(text, index),
        },
        index=index,
    )
    if bool((onset[1:] >= onset[:-1]).all()):  # most tables are sorted, and a data set has thousands of them
        return table
    return table.sort_values("onset", kind="stable", ignore_index=True)


def _words(words: str | Words, index: pd.Index) -> pd.Series:
    """Return a column of texts as objects, made as such: converting a column of strings costs ten times as much."""
    told = [words] * len(index) if isinstance(words, str) else list(words)
    return pd.Series(told, index, dtype=object)


def no_events() -> pd.DataFrame:
    """Return a table of events without a row."""
    return _empty().copy()


@lru_cache(maxsize=1)
def _empty() -> pd.DataFrame:
    """Return the table that `no_events` copies: every recording begins with one."""
    return make_events([], [])


def is_seizure(event_type: Iterable[str]) -> np.ndarray:
    """Return which types are seizures: "sz" and what begins with "sz-"."""
    return np.array([kind == SEIZURE or kind.startswith(SEIZURE + "-") for kind in event_type], dtype=bool)


def own_channels(channels: str) -> list[str]:
    """Return the names in a cell of `channels`; none for "all" and "n/a"."""
    return [] if channels in (ALL, NOT_STATED) else [name for name in channels.split(",") if name]


def seizures(events: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are seizures."""
    return events[is_seizure(events["event_type"])].reset_index(drop=True)


def check_events(
    events: pd.DataFrame,
    duration: float | None = None,
    *,
    overlapping: Literal["raise", "merge", "keep"] = "raise",
    outside: Literal["raise", "clip"] = "raise",
) -> pd.DataFrame:
    """Return a table of events that is known to be right, sorted by onset; the caller's table stays as it is.

    Args:
        events: Any table with the columns `onset`, `duration` and `event_type`; the others are added if absent.
        duration: Of the recording, seconds; None leaves its end unchecked. An end that passes it by less than
            `ROUNDING` is rounding in a file and is cut.
        overlapping: What happens to events of one type and the same channels that overlap: an error, one event (its
            confidence the highest of them), or nothing. Events that only touch do not overlap, and marks never do.
        outside: What happens to events before 0 or after `duration`: an error, or the part outside is cut off and an
            event with no part inside is left out.

    Raises:
        ValueError: If a column is missing, or a row has a NaN, infinite or negative time, a confidence outside [0, 1],
            or what the two policies refuse. The row is named by its index.
    """
    _refuse_other_words(overlapping=(overlapping, ("raise", "merge", "keep")), outside=(outside, ("raise", "clip")))
    missing = [name for name in COLUMNS[:3] if name not in events.columns]
    if missing:
        raise ValueError(f"The events have no column {missing[0]!r}, expected at least onset, duration, event_type.")
    if duration is not None and not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"The recording's duration is {duration:g} s, expected a number above 0.")
    rows = events.index
    onset, length, confidence = (_numbers(events, name) for name in ("onset", "duration", "confidence"))
    _refuse(rows, ~np.isfinite(onset), "no finite onset, expected seconds from the recording's start")
    _refuse(rows, ~np.isfinite(length), "no finite duration, expected seconds (0 for a mark)")
    _refuse(rows, length < 0, "a negative duration ({:g} s), expected 0 or more", length)
    _refuse(rows, (confidence < 0) | (confidence > 1), "a confidence of {:g}, expected 0 to 1", confidence)
    words = {name: list(events.get(name, [ALL] * len(events))) for name in ("event_type", "channels")}
    texts = ["" if not isinstance(text, str) else text for text in events.get("text", [""] * len(events))]
    for name, told in words.items():
        missing_word = np.array([not isinstance(word, str) or word == "" for word in told], dtype=bool)
        _refuse(rows, missing_word, f"no {name!r}, expected a word")

    last = np.inf if duration is None else duration
    end = onset + length
    if outside == "raise":
        way = messages.advice("pass {outside=clip}")
        _refuse(
            rows, onset < 0, "an onset of {:g} s, before the recording's start" + (f"; {way}" if way else ""), onset
        )
        what = f"s, after the recording's ({last:g} s); check the duration{f' or {way}' if way else ''}"
        _refuse(rows, end > last + ROUNDING, "an end at {:g} " + what, end)
    onset, length, inside = within(onset, length, last)
    inside |= outside == "raise"  # what passes the end is rounding then
    table = make_events(onset, length, words["event_type"], confidence, words["channels"], texts)
    order = np.argsort(onset, kind="stable")
    table.index = rows[order]
    table = table[inside[order]]
    if overlapping != "keep" and len(table) > 1:
        table = _apart(table, overlapping).sort_values("onset", kind="stable")
    return table.reset_index(drop=True)


def within(onset: np.ndarray, length: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut events at a recording's ends.

    Args:
        onset: Seconds.
        length: Seconds, 0 or more.
        last: The recording's end, seconds.

    Returns:
        Onset and length of what lies inside, and which events have a part there. An event that only touches an end has
        none, a mark there has.
    """
    end = onset + length
    inside = (onset < last) & (end > 0) | (length == 0) & (onset >= 0) & (onset <= last)
    cut = (onset < 0) | (end > last)
    begin = np.clip(onset, 0, last)
    return begin, np.where(cut, np.minimum(end, last) - begin, length), inside  # untouched if inside: no rounding


def _apart(table: pd.DataFrame, overlapping: str) -> pd.DataFrame:
    parts = [table[table["duration"] == 0]]
    for _, alike in table[table["duration"] > 0].groupby(["event_type", "channels"], sort=False):
        end = np.maximum.accumulate((alike["onset"] + alike["duration"]).to_numpy())
        new = np.r_[True, alike["onset"].to_numpy()[1:] >= end[:-1] - SAME_TIME]
        if overlapping == "raise" and not new.all():
            late = int(np.argmin(new))
            raise ValueError(
                f"Event row {alike.index[late]} begins at {alike['onset'].iloc[late]:g} s, before an earlier one of "
                f"its type ends ({end[late - 1]:g} s): pass overlapping='merge' to make them one."
            )
        first = np.flatnonzero(new)
        last = np.r_[first[1:], len(alike)] - 1
        merged = alike.iloc[first].copy()
        several = last > first
        merged.loc[several, "duration"] = (end[last] - alike["onset"].to_numpy()[first])[several]
        merged["confidence"] = alike.groupby(np.cumsum(new))["confidence"].max().to_numpy()
        parts.append(merged)
    return pd.concat([part for part in parts if len(part)])


def _numbers(events: pd.DataFrame, name: str) -> np.ndarray:
    if name not in events.columns:
        return np.full(len(events), np.nan)
    told = events[name]
    if told.dtype.kind in "fiu":
        return told.to_numpy(float)
    numbers = pd.to_numeric(told, errors="coerce").to_numpy(float)
    _refuse(events.index, np.isnan(numbers) & told.notna().to_numpy(), f"a text in {name!r}, expected a number")
    return numbers


def _refuse(rows: pd.Index, wrong: np.ndarray, what: str, values: np.ndarray | None = None) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"Event row {rows[first]} has {what.format(*([] if values is None else [values[first]]))}.")


def _refuse_other_words(**given: tuple[str, tuple[str, ...]]) -> None:
    for name, (word, words) in given.items():
        if word not in words:
            raise ValueError(f"{name} is {word!r}, expected one of {', '.join(words)}.")
