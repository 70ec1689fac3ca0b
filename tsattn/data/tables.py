"""Tables: a file or a DataFrame in, an xarray Dataset `values (variate, time)` with a regular clock out.

pandas reads; here it is decided which column is the clock, whether the table is wide or long, and whether the clock is
regular. Nothing is repaired in silence: what is broken is an error that names the row and the option that mends it.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from tsattn import typed
from tsattn.contracts import Fill
from tsattn.data import clock as clocks
from tsattn.data import grid, keys, numbers, repeated, zones
from tsattn.data.clock import Clock as FoundClock
from tsattn.data.labels import with_index_columns
from tsattn.data.numbers import to_numbers
from tsattn.data.reading import Reading
from tsattn.data.table_files import read_frame
from tsattn.data.wording import advice, listed, plain

__all__ = [
    "fill_missing",
    "from_frame",
    "listed",
    "plain",
    "read_frame",
    "read_table",
    "to_numbers",
    "with_plain_names",
]

log = logging.getLogger(__name__)

Clock = Literal["strict", "ignore"]

_SENTINEL = -9999.0  # stands for "missing" in many station records, among them the weather benchmark


def read_table(
    path: str | Path,
    *,
    timestamp: str | Sequence[str] | None = None,
    time_format: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    zone: str | None = None,
    snap: str | None = None,
    resample: str | None = None,
    freq: str | None = None,
    drop_duplicates: bool = False,
    clock: Clock = "strict",
    decimal: str = ".",
    training: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
) -> xr.Dataset:
    """Read a table from `.csv`, `.csv.gz`, `.txt`, `.txt.gz`, `.npz` or `.parquet`.

    A `.txt` whose first line holds only numbers has no header and no clock (`solar_AL.txt`). Of an `.npz` the array
    `data`, (time, variate) or (time, variate, feature), is read, of several features the first (PEMS: flow).

    Args:
        path: The file.
        timestamp: Column with the times; several: day and time of day, or year, month, day, ..., to be joined; None:
            found; "none": the rows have no clock.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"), or for numbers "epoch_s", "epoch_ms",
            "epoch_us", "epoch_ns", "excel" or "steps"; None: ISO 8601, else month before day; numbers by their size.
        variate_column: Of a long table, the column that says which variate a row is of.
        value_column: Of a long table, the column with the values.
        columns: Of a wide table, the only columns to read beside the times, if it has all of them.
        keep: Columns that are read whatever they look like; of the others those that only number the rows, hold text
            or a second clock are left out with a warning.
        exclude: Columns that are left out.
        zone: Time zone of the clock: times are brought there, and times without a zone are of it.
        snap: Step to whose nearest point each time is moved (pandas alias such as "1h").
        resample: Longer step to which the rows are averaged; empty bins stay missing, and a first or last bin that is
            not full is left out.
        freq: Step at which absent rows are missing ones.
        drop_duplicates: Keep the first of several rows with the same time.
        clock: "strict": the times must be equally spaced. "ignore": rows are taken as equally spaced whatever the
            times say, which is what the papers do with the benchmark files whose clocks are broken.
        decimal: Decimal separator of a text file, "." or ",".
        training: Zone of a training, to which times are brought, "" if its times have none; None: there is none yet.
        thousands: Thousands separator of a text file, such as "," or "."; "none": there is none; None: not known, and
            what could be read in two ways is an error.
        encoding: Encoding of a text file; None: UTF-8, else Windows-1252 with a warning.

    Returns:
        Dataset with `values` (variate, time), float64, NaN where missing; the coordinates `variate` (names in the
        order of the file) and `time` (times, with their zone; whole numbers, such as years; or row numbers); and the
        attributes `frequency` (pandas alias, "" without a clock of dates), `step` (of a clock of whole numbers, else
        0), `source`, `sha256` (of the values) and `timestamp` (name of the column).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, no clock is found, a column is not numeric, a value is infinite, or the
            clock is irregular or repeats itself; or as `table_files.read_frame`.
    """
    path = Path(path)
    skip = [exclude] if isinstance(exclude, str) else list(exclude)
    skip += [timestamp] if isinstance(timestamp, str) else list(timestamp or ())
    frame, has_clock = read_frame(path, decimal, thousands, encoding, skip=skip, only=columns)
    return from_frame(
        frame,
        timestamp=timestamp if has_clock else "none",
        time_format=time_format,
        variate_column=variate_column,
        value_column=value_column,
        columns=columns,
        keep=keep,
        exclude=exclude,
        zone=zone,
        snap=snap,
        resample=resample,
        freq=freq,
        drop_duplicates=drop_duplicates,
        clock=clock,
        source=str(path),
        training=training,
    )


def from_frame(
    frame: pd.DataFrame,
    *,
    timestamp: str | Sequence[str] | None = None,
    time_format: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    zone: str | None = None,
    snap: str | None = None,
    resample: str | None = None,
    freq: str | None = None,
    drop_duplicates: bool = False,
    clock: Clock = "strict",
    source: str = "DataFrame",
    training: str | None = None,
) -> xr.Dataset:
    """Make the Dataset of `read_table` from a DataFrame, which is not changed.

    Args:
        frame: Wide (one column per variate; a time column or a DatetimeIndex) or long (one row per time and variate).
        timestamp: As in `read_table`.
        time_format: As in `read_table`.
        variate_column: As in `read_table`.
        value_column: As in `read_table`.
        columns: As in `read_table`.
        keep: As in `read_table`.
        exclude: As in `read_table`.
        zone: As in `read_table`.
        snap: As in `read_table`.
        resample: As in `read_table`.
        freq: As in `read_table`.
        drop_duplicates: As in `read_table`.
        clock: As in `read_table`.
        source: Where the frame comes from, for messages and for the attribute.
        training: As in `read_table`.

    Raises:
        ValueError: As in `read_table`.
    """
    if clock not in ("strict", "ignore"):
        raise ValueError(f'clock is "{clock}", expected "strict" or "ignore".')
    asked = timestamp if isinstance(timestamp, str) else None
    frame = with_index_columns(frame, source, (asked, variate_column, value_column))
    frame = everything = with_plain_names(frame, source)
    units = frame.attrs.get("units")
    excluded = typed.chosen(exclude, frame.columns)
    absent = [name for name in excluded if name not in frame.columns]
    if absent:
        raise ValueError(
            f"{source} has no column {absent[0]!r} to exclude, expected some of {listed(frame.columns)}; check "
            f"{advice('table', '{exclude}')}."
        )
    frame = frame.drop(columns=[name for name in excluded if name not in (variate_column, value_column)])

    keep = typed.chosen(keep, frame.columns)
    columns = None if columns is None else typed.chosen(columns, frame.columns)
    named = [*keep, *(columns or ())]
    found = clocks.find(frame, timestamp, time_format, source, keep=named)
    times, likely = found.times, ""
    if isinstance(times, pd.DatetimeIndex) and clock == "strict":
        times, likely = zones.settle(times, zone, training, source, zones.written(frame, found.columns, times))
        found = dataclasses.replace(found, times=times)
    frame = frame.drop(columns=list(found.columns))
    if columns is not None and set(columns) <= set(frame.columns):
        frame = frame[list(columns)]
    elif variate_column is None:
        frame = frame.drop(
            columns=keys.row_numbers(frame, named, everything.columns[0]) if len(frame.columns) == 3 else []
        )
    long = _long_columns(frame, times, variate_column, value_column, source)
    if long is None:
        if columns is None or not set(columns) <= set(frame.columns):
            _refuse_items(everything, found, named, excluded, source)
        if times is not None and clock == "strict":
            repeated.check(everything, found, resample=resample, drop_duplicates=drop_duplicates, source=source)
        if columns is None or not set(columns) <= set(frame.columns):
            frame = frame[keys.readable(frame, source, named=keep, others=found.others, first=everything.columns[0])]
        names, matrix = _wide_values(frame, source)
        if times is not None and clock == "strict" and drop_duplicates and resample is None:
            repeated.check_dropping(found, matrix, source)
    else:
        assert times is not None
        unread = [name for name in frame.columns if name not in long]
        if unread:
            log.warning("%s: of a long table %s are not read.", source, listed(unread))
        times, names, matrix = _pivot(frame, times, *long, drop_duplicates, source)
    if not names:
        raise ValueError(f"{source} has no column of numbers, expected at least one beside the times.")
    if not matrix.size:
        raise ValueError(f"{source} has no rows, expected at least one.")
    _check_finite(names, matrix, source)
    if clock == "strict":
        _warn_of_sentinels(names, matrix, source)

    frequency, step = "", 0
    how = Reading(drop_duplicates=drop_duplicates, snap=snap, resample=resample, freq=freq)
    if found.counts and times is not None:
        if snap is not None or resample is not None:
            raise ValueError(
                f"{source} has whole numbers as times ({times[0]}, ...), expected dates to snap or resample by; leave "
                f"{advice('table', '{snap}', '{resample}')} out."
            )
        times, matrix, step = _whole_numbers(times, matrix, freq, drop_duplicates, clock, source)
    elif isinstance(times, pd.DatetimeIndex) and clock == "ignore":
        frequency = _usual_step(times, source)
    elif isinstance(times, pd.DatetimeIndex):
        places = np.arange(len(times)) if long is None else None
        alone = np.array(["0"], dtype=object)
        rows = grid.Rows(times, np.array([0, len(times)]), {"values": matrix}, alone, source, places, likely, "table")
        rows = grid.without_repeated(rows) if drop_duplicates else rows
        back = np.diff(rows.times.asi8) < 0
        if back.any():
            row = int(np.argmax(back))
            raise ValueError(
                f"{source} goes back from {rows.times[row]} to {rows.times[row + 1]}{rows.where(row + 1)}, expected "
                "rows in the order of time; sort the file."
            )
        rows = grid.bring(rows, how)
        if len(rows.times) < 2:
            raise ValueError(f"{source} has {len(rows.times)} time, expected at least two to know their step.")
        frequency = freq or grid.step_of(rows)
        times, matrix = rows.times, rows.columns["values"]
    elif how != Reading():
        raise ValueError(f"{source} has no times, expected some to snap, resample, fill or drop duplicates by.")

    values = np.ascontiguousarray(matrix.T)
    steps: Any = pd.RangeIndex(values.shape[1]) if times is None else times
    table = xr.Dataset(
        {"values": (("variate", "time"), values)},
        coords={"variate": np.array(names, dtype=object), "time": ("time", steps.rename(None))},
        attrs={
            "frequency": frequency,
            "step": step,
            "source": source,
            "sha256": hashlib.sha256(values.data).hexdigest(),
            "timestamp": found.name,
            "clock": list(found.columns),
            "zone": zones.zone_of(times),
            "excluded": list(excluded),
            "units": dict(units) if isinstance(units, dict) else {},
        },
    )
    told = f"step {frequency or step}" if frequency or step else "no clock"
    log.info("%s: %d rows of %d variates, %s.", source, values.shape[1], len(names), told)
    return table


def spread(frame: pd.DataFrame, how: Reading, what: str, clock: str) -> pd.DataFrame:
    """Return a long table as a wide one: a column of times, and one per variate.

    Args:
        frame: With the columns that `how` names.
        how: How it is read.
        what: For messages.
        clock: Name of the column of times in the answer.

    Raises:
        ValueError: As in `from_frame`.
    """
    frame = with_plain_names(frame, what)
    found = clocks.find(frame, how.timestamp, how.time_format, what, door="panel", quiet=True)
    times = found.times
    assert times is not None
    assert how.variate_column is not None
    assert how.value_column is not None
    times, names, matrix = _pivot(frame, times, how.variate_column, how.value_column, how.drop_duplicates, what)
    return pd.DataFrame(matrix, columns=pd.Index(names, dtype=object)).assign(**{clock: times})


def fill_missing(values: xr.DataArray, fill: Fill) -> xr.DataArray:
    """Fill gaps along time.

    Args:
        values: Any array with the axis `time`, NaN where missing; it is not changed.
        fill: "forward": the last observed value; before the first one, the first one. "linear": on the line between
            the neighbours, outside of them the nearest one. "none": nothing is filled.

    Returns:
        The same labels; a series without any value stays missing.

    Raises:
        ValueError: If `fill` is another word.
    """
    if fill == "none":
        return values
    if fill not in ("forward", "linear"):
        raise ValueError(f'fill is "{fill}", expected "none", "forward" or "linear".')
    others = [str(axis) for axis in values.dims if axis != "time"]
    flat = values.transpose("time", *others)
    frame = pd.DataFrame(flat.values.reshape(values.sizes["time"], -1))
    if fill == "forward":
        frame = frame.ffill().bfill()
    else:
        frame = frame.interpolate(method="linear", limit_direction="both")
    filled = flat.copy(data=frame.to_numpy().reshape(flat.shape))
    return filled.transpose(*values.dims)


# Which column is what --------------------------------------------------------------------------------------------


def with_plain_names(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Copy the outer frame (not the data) with names that are text without blanks around them."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(f"{source} has columns of {frame.columns.nlevels} levels, expected one level.")
    frame = frame.copy(deep=False)
    frame.columns = pd.Index([str(name).strip() for name in frame.columns], dtype=object)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{source} has two columns called {twice!r}, expected every name once; rename one.")
    return frame


def _long_columns(
    frame: pd.DataFrame,
    times: pd.Index | None,
    variate_column: str | None,
    value_column: str | None,
    source: str,
) -> tuple[str, str] | None:
    """Name the variate and the value column of a long table; None if the table is wide."""
    if variate_column is None and value_column is None:
        if times is None or not times.has_duplicates or len(frame.columns) != 2:
            return None
        if not keys.many(clocks.ticks(times)):
            return None
        words = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c].dtype)]
        if any(clocks.is_time_like(frame[c]) or clocks.hours(frame[c], c) is not None for c in words):
            return None
        if len(words) != 1:
            if "unique_id" not in frame.columns:
                return None
            words = ["unique_id"]
        [value_column] = [c for c in frame.columns if c not in words]
        log.info("%s is read as a long table: variates from %r, values from %r.", source, words[0], value_column)
        return words[0], value_column
    if variate_column is None or value_column is None:
        raise ValueError(
            f"Of a long table only {'the value' if variate_column is None else 'the variate'} column is named, "
            f"expected both; give {advice('table', '{variate_column} and {value_column}')}."
        )
    for name in (variate_column, value_column):
        if name not in frame.columns:
            raise ValueError(f"{source} has no column {name!r}, expected one of {listed(frame.columns)}.")
    if times is None:
        raise ValueError(f"{source} is a long table without times, expected a column of times.")
    return variate_column, value_column


def _numbers(column: pd.Series, name: str, source: str) -> np.ndarray:
    values, bad = to_numbers(column)
    if bad is not None:
        raise ValueError(numbers.not_a_number(column, bad, name, source, "table"))
    return values


def _refuse_items(
    frame: pd.DataFrame, found: FoundClock, named: Sequence[str], excluded: Sequence[str], source: str
) -> None:
    """Raise ValueError if a column that always tells items apart holds several."""
    for name in frame.columns:
        column = frame[name]
        if name.lower() not in keys.ITEMS or name in named or name in excluded or name in found.columns:
            continue
        if pd.api.types.is_float_dtype(column.dtype) or not 2 <= column.nunique() <= max(len(column) // 2, 2):
            continue
        told = repeated.of_key(frame, [name], found, "table")
        raise ValueError(f"{source} has the items {listed(column.unique(), 4)} in {name!r}, expected one: {told}.")


def _wide_values(frame: pd.DataFrame, source: str) -> tuple[list[str], np.ndarray]:
    dtypes = set(frame.dtypes)
    if dtypes == {np.dtype(np.float64)}:
        return list(frame.columns), frame.to_numpy()
    columns = [_numbers(frame[name], name, source) for name in frame.columns]
    return list(frame.columns), np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))


def _pivot(
    frame: pd.DataFrame, times: pd.Index, variate: str, value: str, drop_duplicates: bool, source: str
) -> tuple[pd.Index, list[str], np.ndarray]:
    """Spread a long table into (time, variate), variates in the order of their first row."""
    values = _numbers(frame[value], value, source)
    codes, names = pd.factorize(frame[variate])
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise ValueError(f"Column {variate!r} of {source} is empty in data row {row + 1}, expected a variate's name.")
    rows, steps = pd.factorize(times, sort=True)
    place = rows.astype(np.int64) * len(names) + codes
    again = pd.Index(place).duplicated()
    if again.any():
        row = int(np.argmax(again))
        if not drop_duplicates:
            raise ValueError(
                f"{source} has a second value of {names[codes[row]]!r} at {times[row]} in data row {row + 1}, expected "
                f"one; {advice('table', 'keep the first ones by {drop_duplicates}', drop_duplicates=True)}."
            )
        log.warning("%s: %d repeated values dropped, the first in data row %d.", source, again.sum(), row + 1)
    matrix = np.full((len(steps), len(names)), np.nan)
    matrix.ravel()[place[~again]] = values[~again]
    return pd.Index(steps), [str(name).strip() for name in names], matrix


def _check_finite(names: Sequence[str], matrix: np.ndarray, source: str) -> None:
    if np.isfinite(matrix.sum()):  # one pass over a clean table
        return
    infinite = np.isinf(matrix)
    if infinite.any():
        row, column = (int(i) for i in np.argwhere(infinite)[0])
        raise ValueError(
            f"Column {names[column]!r} of {source} is {matrix[row, column]} in data row {row + 1}, expected a finite "
            "number; leave the cell empty if the value is missing."
        )


def _warn_of_sentinels(names: Sequence[str], matrix: np.ndarray, source: str) -> None:
    counts = (matrix == _SENTINEL).sum(axis=0)
    if counts.any():
        first = int(counts.argmax())
        log.warning(
            "%s holds %d values of -9999 (most in %r), which often means missing; they are taken as numbers.",
            source,
            counts.sum(),
            names[first],
        )


# The clock -------------------------------------------------------------------------------------------------------


def _whole_numbers(
    times: pd.Index, matrix: np.ndarray, freq: str | None, drop_duplicates: bool, clock: Clock, source: str
) -> tuple[pd.Index, np.ndarray, int]:
    """Check a clock of whole numbers (years, steps), and return its step."""
    again = times.duplicated()
    if drop_duplicates and again.any():
        log.warning("%s: %d repeated times dropped, the first in data row %d.", source, again.sum(), again.argmax() + 1)
        times, matrix = times[~again], matrix[~again]
    steps = np.diff(times.to_numpy())
    if freq is not None and not times.has_duplicates and (steps > 0).all():
        return _filled_numbers(times, matrix, freq, source)
    if not len(steps):
        raise ValueError(f"{source} has {len(times)} time, expected at least two to know their step.")
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    usual = int(found[counts.argmax()]) if len(found) else 1
    if clock == "ignore" or (steps == usual).all():
        return times, matrix, usual
    if times.has_duplicates:
        row = int(times.duplicated().argmax())
        raise ValueError(
            f"{source} has the time {times[row]} again in data row {row + 1}, expected every time once; "
            f"{advice('table', 'keep the first rows by {drop_duplicates}', drop_duplicates=True)}."
        )
    back = bool((steps < 0).any())
    row = int(np.argmax(steps < 0 if back else steps != usual))
    told = f"{source} goes {'back ' if back else ''}from {times[row]} to {times[row + 1]} in data row {row + 2}"
    if back:
        raise ValueError(f"{told}, expected rows in the order of time; sort the file.")
    raise ValueError(
        f"{told}, expected a regular step of {usual}; "
        f"{advice('table', 'take absent rows as missing by {freq}', freq=str(usual))}, or, if the rows are equally "
        f"spaced, {advice('table', 'say {timestamp=none}')}."
    )


def _filled_numbers(times: pd.Index, matrix: np.ndarray, freq: str, source: str) -> tuple[pd.Index, np.ndarray, int]:
    """Put rows of a clock of whole numbers on a grid; absent rows are missing."""
    if not freq.isdigit() or int(freq) < 1:
        raise ValueError(
            f"freq is {freq!r}, expected a whole number such as '1', because the times of {source} are whole numbers."
        )
    apart = times.to_numpy() - times[0]
    if (apart % int(freq)).any():
        row = int(np.argmax(apart % int(freq) != 0))
        raise ValueError(f"{source} has the time {times[row]} in data row {row + 1}, expected a step of {freq}.")
    whole = np.full((int(apart[-1]) // int(freq) + 1, matrix.shape[1]), np.nan)
    whole[apart // int(freq)] = matrix
    return pd.Index(times[0] + np.arange(len(whole)) * int(freq)), whole, int(freq)


def _usual_step(times: pd.DatetimeIndex, source: str) -> str:
    """Name the most frequent step of a clock that is ignored, as the papers do with their broken ones."""
    if len(times) < 2:
        raise ValueError(f"{source} has {len(times)} time, expected at least two to know their step.")
    steps = np.diff(times.asi8)
    if (steps == steps[0]).all() and steps[0] > 0:
        return grid.alias(times, int(steps[0]))
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    if not len(found):
        raise ValueError(f"The times of {source} never go forward, expected a clock.")
    return grid.alias(times[:1], int(found[counts.argmax()]))
