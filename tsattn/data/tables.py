"""Tables: a file or a DataFrame in, an xarray Dataset `values (variate, time)` with a regular clock out.

pandas reads; here it is decided which column is the clock, whether the table is wide or long, and whether the clock is
regular. Nothing is repaired in silence: what is broken is an error that names the row and the option that mends it.
"""

import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from tsattn import typed
from tsattn.contracts import Fill
from tsattn.data import clock as clocks
from tsattn.data import keys, numbers, repeated
from tsattn.data.calendar import plain_quarter
from tsattn.data.clock import Clock as FoundClock
from tsattn.data.numbers import to_numbers
from tsattn.data.table_files import read_frame
from tsattn.data.wording import advice, listed, plain

__all__ = [
    "alias",
    "calendar_alias",
    "fill_missing",
    "find_clock",
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


CLOCK_NAMES = clocks.NAMES
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
    resample: str | None = None,
    drop_duplicates: bool = False,
    clock: Clock = "strict",
    decimal: str = ".",
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
        resample: Step to which the rows are averaged (pandas alias such as "1h"); empty bins stay missing.
        drop_duplicates: Keep the first of several rows with the same time.
        clock: "strict": the times must be equally spaced. "ignore": rows are taken as equally spaced whatever the
            times say, which is what the papers do with the benchmark files whose clocks are broken.
        decimal: What stands before the decimals in a text file, "." or ",".
        thousands: What stands between the thousands in a text file, such as "," or "."; "none": nothing; None: not
            known, and what could be read in two ways is an error.
        encoding: Of a text file; None: UTF-8, else Windows-1252 with a warning.

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
        resample=resample,
        drop_duplicates=drop_duplicates,
        clock=clock,
        source=str(path),
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
    resample: str | None = None,
    drop_duplicates: bool = False,
    clock: Clock = "strict",
    source: str = "DataFrame",
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
        resample: As in `read_table`.
        drop_duplicates: As in `read_table`.
        clock: As in `read_table`.
        source: Where the frame comes from, for messages and for the attribute.

    Raises:
        ValueError: As in `read_table`.
    """
    if clock not in ("strict", "ignore"):
        raise ValueError(f'clock is "{clock}", expected "strict" or "ignore".')
    frame = everything = with_plain_names(frame, source)
    excluded = typed.chosen(exclude, frame.columns)
    absent = [name for name in excluded if name not in frame.columns]
    if absent:
        raise ValueError(
            f"{source} has no column {absent[0]!r} to exclude, expected some of {listed(frame.columns)}; check "
            f"{advice('table', '{exclude}')}."
        )
    frame = frame.drop(columns=[name for name in excluded if name not in (variate_column, value_column)])

    named = [*keep, *(columns or ())]
    found = clocks.find(frame, timestamp, time_format, source, keep=named)
    times, clock_name = found.times, found.name
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
    if times is not None and not isinstance(times, pd.DatetimeIndex):
        times, matrix, step = _whole_numbers(times, matrix, resample, drop_duplicates, clock, source)
    elif times is not None:
        rows = np.arange(len(times)) if long is None else None
        times, matrix, rows = _mend_clock(times, matrix, rows, resample, drop_duplicates, source)
        frequency = _frequency(times, rows, clock, source)
    elif resample is not None or drop_duplicates:
        raise ValueError(f"{source} has no times, expected some to resample or to drop duplicates by.")

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
            "timestamp": clock_name,
        },
    )
    told = f"step {frequency or step}" if frequency or step else "no clock"
    log.info("%s: %d rows of %d variates, %s.", source, values.shape[1], len(names), told)
    return table


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


def find_clock(
    frame: pd.DataFrame, timestamp: str | Sequence[str] | None, time_format: str | None, source: str, option: str = ""
) -> tuple[Any, str]:
    """Return the times of a table, and what an answer calls them; see `clock.find`."""
    found = clocks.find(frame, timestamp, time_format, source, door="panel" if option == "timestamp" else "table")
    return found.times, found.name


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


def _mend_clock(
    times: pd.DatetimeIndex,
    matrix: np.ndarray,
    rows: np.ndarray | None,
    resample: str | None,
    drop_duplicates: bool,
    source: str,
) -> tuple[pd.DatetimeIndex, np.ndarray, np.ndarray | None]:
    """Drop repeated times and average into bins, each only if asked to; `rows` says where a time stood in the file."""
    again = times.duplicated()
    if drop_duplicates and again.any():
        log.warning("%s: %d repeated times dropped, the first in data row %d.", source, again.sum(), again.argmax() + 1)
        times, matrix = times[~again], matrix[~again]
        rows = None if rows is None else rows[~again]
    if resample is not None:
        try:
            binned = pd.DataFrame(matrix, index=times).resample(resample).mean()
        except ValueError as error:
            raise ValueError(
                f"Resampling {source} to {resample!r} failed ({error}), expected a step such as 1h."
            ) from error
        filled = int(binned.notna().any(axis=1).sum())
        if 2 * filled < len(binned):
            raise ValueError(
                f"Resampling {source} to {resample} makes {len(binned)} rows, {filled} of them not empty, expected "
                "at least half. Are the times read right (day before month? `--data.time_format '%d/%m/%Y %H:%M'`)?"
            )
        log.info("%s: %d rows averaged into %d of %s.", source, len(times), len(binned), resample)
        times, matrix, rows = pd.DatetimeIndex(binned.index), binned.to_numpy(), None
    return times, matrix, rows


def _whole_numbers(
    times: pd.Index, matrix: np.ndarray, resample: str | None, drop_duplicates: bool, clock: Clock, source: str
) -> tuple[pd.Index, np.ndarray, int]:
    """Check a clock of whole numbers (years, steps), and return its step."""
    if resample is not None:
        raise ValueError(
            f"{source} has whole numbers as times ({times[0]}, ...), expected dates to resample by; leave "
            f"{advice('table', '{resample}')} out."
        )
    again = times.duplicated()
    if drop_duplicates and again.any():
        log.warning("%s: %d repeated times dropped, the first in data row %d.", source, again.sum(), again.argmax() + 1)
        times, matrix = times[~again], matrix[~again]
    steps = np.diff(times.to_numpy())
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
        f"{told}, expected a regular step of {usual}; add the absent rows with empty values, or, if the rows are "
        f"equally spaced, {advice('table', 'say {timestamp=none}')}."
    )


def _frequency(times: pd.DatetimeIndex, rows: np.ndarray | None, clock: Clock, source: str) -> str:
    """Name the step of a regular clock, or complain about the first row that breaks it."""
    if len(times) < 2:
        raise ValueError(f"{source} has {len(times)} time, expected at least two to know their step.")
    steps = np.diff(times.asi8)
    unit = times.unit
    if (steps == steps[0]).all() and steps[0] > 0:
        return alias(times, int(steps[0]))
    if (steps > 0).all() and clock == "strict" and len(times) >= 3:
        named = calendar_alias(times)  # months, business days, days across a change of daylight saving
        if named:
            return named
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    usual = int(found[counts.argmax()]) if len(found) else 0
    if clock == "ignore":
        if not usual:
            raise ValueError(f"The times of {source} never go forward, expected a clock.")
        return alias(times[:1], usual)

    def place(step: int) -> str:
        return "" if rows is None else f" in data row {rows[step + 1] + 1}"

    wrong = int(np.argmax(steps != usual))
    if times.has_duplicates:
        wrong = int(times.duplicated().argmax()) - 1
        raise ValueError(
            f"{source} has the time {times[wrong + 1]} again{place(wrong)}, expected every time once; keep "
            "the first rows by `--data.drop_duplicates true`, or average rows by `--data.resample "
            f"{alias(times[:1], usual) if usual else '1h'}`."
        )
    if (steps < 0).any():
        wrong = int(np.argmax(steps < 0))
        raise ValueError(
            f"{source} goes back from {times[wrong]} to {times[wrong + 1]}{place(wrong)}, expected rows in "
            "the order of time; sort the file."
        )
    step = alias(times[:1], usual)
    raise ValueError(
        f"{source} steps from {times[wrong]} to {times[wrong + 1]}{place(wrong)}, expected a regular step of "
        f"{pd.Timedelta(usual, unit=unit)}; average into regular steps by `--data.resample {step}`."
    )


def alias(times: pd.DatetimeIndex, step: int) -> str:
    """Name an even step; weeks by their day, as pandas does."""
    delta = pd.Timedelta(step, unit=times.unit)
    if delta % pd.Timedelta(days=7) == pd.Timedelta(0) and len(times) >= 3:
        return calendar_alias(times) or f"{delta.days}D"
    if delta % pd.Timedelta(days=1) == pd.Timedelta(0):
        return "D" if delta.days == 1 else f"{delta.days}D"
    return pd.tseries.frequencies.to_offset(delta).freqstr


def calendar_alias(times: pd.DatetimeIndex) -> str:
    """Name the step of a calendar (months, business days) that at least three times follow, or ""."""
    with warnings.catch_warnings():  # pandas 3.1 announces another return type; both are accepted here
        warnings.simplefilter("ignore")
        named = pd.infer_freq(times)
    return "" if named is None else plain_quarter(pd.tseries.frequencies.to_offset(named).freqstr)
