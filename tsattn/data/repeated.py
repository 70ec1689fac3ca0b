"""What is said of times that are there several times: mixed series, a second part of the clock, doubled rows."""

import numpy as np
import pandas as pd

from tsattn import messages
from tsattn.data import clock as clocks
from tsattn.data import keys
from tsattn.data.clock import Clock
from tsattn.data.wording import Door, advice, listed


def check(
    frame: pd.DataFrame,
    clock: Clock,
    *,
    resample: str | None,
    drop_duplicates: bool,
    source: str,
) -> None:
    """Refuse a table of one series whose repeated times have a cause that dropping or averaging rows would hide.

    Args:
        frame: All columns of the table, those that are left out among them.
        clock: Its times.
        resample: As in `tables.from_frame`.
        drop_duplicates: As in `tables.from_frame`.
        source: For messages.

    Raises:
        ValueError: If a column tells series or the parts of a day apart.
    """
    assert clock.times is not None
    times = clocks.ticks(clock.times)
    again = pd.Index(times).duplicated()
    if not again.any():
        mixed = keys.mixed(frame, times, clock.columns) if resample is not None else ""
        if mixed:
            raise ValueError(f"Averaging {source} would mix series: {of_key(frame, [mixed], clock, 'table')}.")
        return
    asked = drop_duplicates or resample is not None
    row = int(again.argmax())
    found = f"{source} has the time {clock.times[row]} again in data row {row + 1}"
    other = other_clock(frame, clock, "table")
    if other and (not asked or keys.many(times)):
        raise ValueError(f"{found}, expected every time once; {other}.")
    key = keys.likely_keys(frame, times, clock.columns)
    if key and (not asked or keys.many(times)):
        raise ValueError(f"{found}, expected every time once; {of_key(frame, key, clock, 'table')}.")


def check_dropping(clock: Clock, values: np.ndarray, source: str) -> None:
    """Raise ValueError if dropping repeated times would drop most rows, and these differ from those that stay.

    Args:
        clock: The times.
        values: What is read of each row, (row, variate).
        source: For messages.
    """
    assert clock.times is not None
    times = clocks.ticks(clock.times)
    again = pd.Index(times).duplicated()
    if 2 * again.sum() <= len(times):
        return
    first = pd.Index(times[~again]).get_indexer(times)
    if not np.array_equal(values, values[~again][first], equal_nan=True):
        row = int(again.argmax())
        raise ValueError(
            f"{source} has the time {clock.times[row]} again in data row {row + 1}: {again.sum()} of {len(times)} rows "
            "repeat a time and differ from the first one of it, expected at most half of them to be dropped; "
            f"{advice('table', 'do without {drop_duplicates}')} and keep the rows of one series in the table."
        )


def of_key(frame: pd.DataFrame, key: list[str], clock: Clock, door: Door) -> str:
    """Say that a column tells series apart, and how such a table is read."""
    series = len(frame[key].drop_duplicates())
    what = f"the column {key[0]!r} tells" if len(key) == 1 else f"the columns {listed(key)} tell"
    told = f"{what} {series} series apart"
    if len(key) > 1:
        return f"{told}: join them to one column of items first"
    if door == "panel":
        return f"{told}: {advice(door, 'read them as items by {item_id}', item_id=key[0])}"
    rest = [name for name in frame.columns if name not in (*clock.columns, *key) and name not in clock.others]
    rest = [name for name in rest if name not in keys.row_numbers(frame[rest], (), frame.columns[0]) and pd.api.types.is_numeric_dtype(frame[name].dtype)]  # fmt: skip  # noqa: E501
    ways = []
    if rest and messages.has("variate_column") and messages.has("value_column"):
        spelled = f"{messages.option('variate_column', key[0])}{' ' if messages.on_command_line() else ', '}"
        ways.append(f"read one column of each as its own by `{spelled}{messages.option('value_column', rest[0])}`")
    ways.append("keep the rows of one of them in the table")
    ways.append(f"train on all as items in Python, `Forecaster.fit(item_id={key[0]!r})`")
    return f"{told}, expected a table of one series: {', or '.join(ways)}"


def other_clock(frame: pd.DataFrame, clock: Clock, door: Door) -> str:
    """Say which other column makes the times differ: a full clock, or the time of day; "" if none does."""
    assert clock.times is not None
    repeated = int(pd.Index(clocks.ticks(clock.times)).duplicated().sum())
    days = isinstance(clock.times, pd.DatetimeIndex) and bool((clock.times == clock.times.normalize()).all())
    for name in frame.columns:
        if name in clock.columns:
            continue
        column = frame[name]
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        if not numeric:
            times, _ = clocks.read(column)
            if times is not None and len(clock.columns) == 1 and not times.has_duplicates:
                way = advice(door, "name it by {timestamp}", timestamp=name)
                return f"the column {name!r} holds times that are each there once: {way}"
        if not days or len(clock.columns) != 1:
            continue
        if numeric and clocks.from_one(column, name):
            way = advice(door, "join them by {timestamp}", timestamp=[clock.columns[0], name])
            return f"the column {name!r} holds hours from 1 to 24: bring them to 0 to 23, the hour's begin, and {way}"
        hours = clocks.hours(column, name)
        if (
            hours is not None
            and pd.Index(clocks.ticks(clock.times + pd.TimedeltaIndex(hours))).duplicated().sum() < repeated
        ):
            way = advice(door, "join them by {timestamp}", timestamp=[clock.columns[0], name])
            return f"the column {name!r} holds the time of day: {way}"
    return ""
