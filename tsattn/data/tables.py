"""Tables: a file or a DataFrame in, an xarray Dataset `values (variate, time)` with a regular clock out.

pandas reads; here it is decided which column is the clock, whether the table is wide or long, and whether the clock is
regular. Nothing is repaired in silence: what is broken is an error that names the row and the option that mends it.
"""

import gzip
import hashlib
import logging
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from tsattn.contracts import Fill
from tsattn.data import grid, zones
from tsattn.data.labels import with_index_columns
from tsattn.data.reading import Reading
from tsattn.data.words import listed, plain

log = logging.getLogger(__name__)

Clock = Literal["strict", "ignore"]


CLOCK_NAMES = ("date", "ds", "timestamp", "time", "datetime")  # looked for in this order, whatever their case
_SENTINEL = -9999.0  # stands for "missing" in many station records, among them the weather benchmark


def read_table(
    path: str | Path,
    *,
    timestamp: str | None = None,
    time_format: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    columns: Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    zone: str | None = None,
    snap: str | None = None,
    resample: str | None = None,
    freq: str | None = None,
    drop_duplicates: bool = False,
    clock: Clock = "strict",
    decimal: str = ".",
    training: str | None = None,
) -> xr.Dataset:
    """Read a table from `.csv`, `.csv.gz`, `.txt`, `.txt.gz`, `.npz` or `.parquet`.

    A `.txt` whose first line holds only numbers has no header and no clock (`solar_AL.txt`). Of an `.npz` the array
    `data`, (time, variate) or (time, variate, feature), is read, of several features the first (PEMS: flow).

    Args:
        path: The file.
        timestamp: Column with the times; None: found; "none": the rows have no clock.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"); None: ISO 8601, else month before day.
        variate_column: Of a long table, the column that says which variate a row is of.
        value_column: Of a long table, the column with the values.
        columns: Of a wide table, the only columns to read beside the times, if it has all of them.
        exclude: Columns that are left out.
        zone: Time zone of the clock: times are brought there, and times without a zone are of it.
        snap: Step to whose nearest point each time is moved (pandas alias such as "1h").
        resample: Longer step to which the rows are averaged; empty bins stay missing, and a first or last bin that is
            not full is left out.
        freq: Step at which absent rows are missing ones.
        drop_duplicates: Keep the first of several rows with the same time.
        clock: "strict": the times must be equally spaced. "ignore": rows are taken as equally spaced whatever the
            times say, which is what the papers do with the benchmark files whose clocks are broken.
        decimal: What stands before the decimals in a text file, "." or ",".
        training: Zone of a training, to which times are brought, "" if its times have none; None: there is none yet.

    Returns:
        Dataset with `values` (variate, time), float64, NaN where missing; the coordinates `variate` (names in the
        order of the file) and `time` (times, with their zone, or row numbers); and the attributes `frequency` (pandas
        alias, "" without a clock), `source`, `sha256` (of the values) and `timestamp` (name of the column).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, no clock is found, a column is not numeric, a value is infinite, or the
            clock is irregular or repeats itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.absolute()} does not exist, expected a table; check `--data.table`.")
    frame, has_clock = read_frame(path, decimal)
    return from_frame(
        frame,
        timestamp=timestamp if has_clock else "none",
        time_format=time_format,
        variate_column=variate_column,
        value_column=value_column,
        columns=columns,
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
    timestamp: str | None = None,
    time_format: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    columns: Sequence[str] | None = None,
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
    frame = with_plain_names(with_index_columns(frame, source, (timestamp, variate_column, value_column)), source)
    units = frame.attrs.get("units")
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    absent = [name for name in excluded if name not in frame.columns]
    if absent:
        raise ValueError(
            f"{source} has no column {absent[0]!r} to exclude, expected some of {listed(frame.columns)}; "
            "check `--data.exclude`."
        )
    frame = frame.drop(columns=excluded)

    times, clock_name = find_clock(frame, timestamp, time_format, source)
    offsets = None
    if times is not None:
        written = frame[clock_name] if clock_name in frame.columns else None
        offsets = zones.offsets_of(written) if clock == "strict" and zones.zone_of(times) == "UTC" else None
        likely = "" if offsets is None or zone or training else zones.likely_zone(times, offsets)
        times = zones.settle(times, zone, training, source, offsets)
    frame = frame.drop(columns=[name for name in frame.columns if times is not None and name == clock_name])
    if columns is not None and set(columns) <= set(frame.columns):
        frame = frame[list(columns)]
    long = _long_columns(frame, times, variate_column, value_column, source)
    if long is None:
        names, matrix = _wide_values(frame, source)
    else:
        assert times is not None
        times, names, matrix = _pivot(frame, times, *long, drop_duplicates, source)
    if not names:
        raise ValueError(f"{source} has no column of numbers, expected at least one beside the times.")
    if not matrix.size:
        raise ValueError(f"{source} has no rows, expected at least one.")
    _check_finite(names, matrix, source)
    if clock == "strict":
        _warn_of_sentinels(names, matrix, source)

    frequency = ""
    how = Reading(drop_duplicates=drop_duplicates, snap=snap, resample=resample, freq=freq)
    if times is not None and clock == "ignore":
        frequency = _usual_step(times, source)
    elif times is not None:
        if (np.diff(times.asi8) < 0).any():
            wrong = int(np.argmax(np.diff(times.asi8) < 0))
            place = f" in data row {wrong + 2}" if long is None else ""
            raise ValueError(
                f"{source} goes back from {times[wrong]} to {times[wrong + 1]}{place}, expected rows in the order of "
                "time; sort the file."
            )
        places = np.arange(len(times)) if long is None else None
        alone = np.array(["0"], dtype=object)
        rows = grid.Rows(times, np.array([0, len(times)]), {"values": matrix}, alone, source, places, likely)
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
            "source": source,
            "sha256": hashlib.sha256(values.data).hexdigest(),
            "timestamp": clock_name,
            "zone": zones.zone_of(times),
            "excluded": list(excluded),
            "units": dict(units) if isinstance(units, dict) else {},
        },
    )
    step = f"step {frequency}" if frequency else "no clock"
    log.info("%s: %d rows of %d variates, %s.", source, values.shape[1], len(names), step)
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
    times, name = find_clock(frame, how.timestamp, how.time_format, what, "timestamp")
    assert times is not None
    assert how.variate_column is not None
    assert how.value_column is not None
    offsets = zones.offsets_of(frame[name]) if name in frame.columns else None
    if offsets is not None and zones.zone_of(times) != "UTC":
        times = times.tz_convert("UTC")
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


# Reading ---------------------------------------------------------------------------------------------------------


def read_frame(path: Path, decimal: str) -> tuple[pd.DataFrame, bool]:
    """Read a file into a frame; the flag says whether a clock may be expected in it."""
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return _read_text(path, False, decimal), True
    if name.endswith((".txt", ".txt.gz")):
        headerless = _is_numbers(_first_line(path))
        return _read_text(path, headerless, decimal), not headerless
    if name.endswith(".npz"):
        try:
            with np.load(path, allow_pickle=False) as archive:
                if "data" not in archive:
                    raise ValueError(f"{path} holds the arrays {listed(archive.files)}, expected one called `data`.")
                data = archive["data"]
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{path} is cut short or no .npz file ({error}).") from error
        if data.ndim == 3:
            data = data[..., 0]
        if data.ndim != 2:
            raise ValueError(f"`data` in {path} has {data.ndim} axes, expected (time, variate) or one more (feature).")
        return pd.DataFrame(data.astype(np.float64)), False
    if name.endswith(".parquet"):
        return pd.read_parquet(path), True
    raise ValueError(
        f"{path} has an unknown ending, expected .csv, .tsv or .txt (or these with .gz), .npz or .parquet."
    )


def _read_text(path: Path, headerless: bool, decimal: str) -> pd.DataFrame:
    first = _first_line(path)
    if not first.strip():
        raise ValueError(f"{path} is empty or begins with an empty line, expected a header.")
    separator = max(",;\t", key=first.count)
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            decimal=decimal,
            header=None if headerless else 0,
            encoding="utf-8-sig",
            encoding_errors="replace",  # old weather headers hold a degree sign in latin-1
            engine="c",
            low_memory=False,
        )
    except (pd.errors.ParserError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} cannot be read as a table ({str(error).strip()}), expected the same number of fields in every "
            "line of a complete file."
        ) from error
    index = frame.columns[0]
    if index == "Unnamed: 0" and (frame[index] == np.arange(len(frame))).all():
        log.warning("%s: the first column has no name and counts the rows; it is left out.", path)
        return frame.drop(columns=index)
    return frame


def _first_line(path: Path) -> str:
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        return stream.readline().decode("utf-8-sig", errors="replace")


def _is_numbers(line: str) -> bool:
    try:
        [float(field) for field in line.replace(";", ",").replace("\t", ",").split(",")]
    except ValueError:
        return False
    return True


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
    frame: pd.DataFrame, timestamp: str | None, time_format: str | None, source: str, option: str = "--data.timestamp"
) -> tuple[pd.DatetimeIndex | None, str]:
    """Find the times; return them and the name of their column or index; `option` names it in errors."""
    if timestamp == "none":
        return None, ""
    index = frame.index.to_timestamp() if isinstance(frame.index, pd.PeriodIndex) else frame.index
    if isinstance(index, pd.DatetimeIndex) and timestamp in (None, frame.index.name):
        return index, str(frame.index.name or "")
    if timestamp is not None:
        if timestamp not in frame.columns:
            raise ValueError(
                f"{source} has no column {timestamp!r}, expected one of {listed(frame.columns)}; check `{option}`."
            )
        name = timestamp
        times = _as_times(frame[name], time_format)
        if times is None:
            bad = _first_unparsable(frame[name])
            on_line = option.startswith("--")
            inside = source.replace("The table", "the table")
            form = "`--data.time_format '%d/%m/%Y %H:%M'`" if on_line else "`pandas.to_datetime(..., format=)`"
            raise ValueError(
                f"Column {name!r} of {inside} holds {plain(frame[name].iloc[bad])} in data row {bad + 1}, expected a "
                f"time, written as in the other rows; name another column by `{option}`, or say how times are written "
                f"by {form}."
            )
        return times, name

    candidates = [c for n in CLOCK_NAMES for c in frame.columns if c.lower() == n]
    others = [c for c in frame.columns if c not in candidates and not pd.api.types.is_numeric_dtype(frame[c].dtype)]
    for name in candidates:
        times = _as_times(frame[name], time_format)
        if times is not None:
            return times, name
    found = {name: times for name in others if (times := _as_times(frame[name], time_format)) is not None}
    text = [name for name in candidates if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if not found and len(text) == 1 and len(frame):
        return find_clock(frame, text[0], time_format, source, option)  # says which row is no time
    if len(found) == 1:
        [(name, times)] = found.items()
        return times, name
    what = f"several columns that could be times ({listed(found)})" if found else "no column of times"
    none = f"{option} none" if option.startswith("--") else f'{option}="none"'
    raise ValueError(
        f"{source} has {what} among {listed(frame.columns)}, expected one; name it by `{option}`, or say "
        f"`{none}` if the rows are equally spaced and have no times."
    )


def _as_times(column: pd.Series, time_format: str | None = None) -> pd.DatetimeIndex | None:
    """Parse a column as times; None if any of it is not a time."""
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.DatetimeIndex(column.dt.to_timestamp())
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return None if column.isna().any() else pd.DatetimeIndex(column)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return None  # years, row numbers, Unix time: only a person knows
    if not len(column):
        return None
    if time_format is not None:
        times = pd.to_datetime(column, format=time_format, errors="coerce")
        return None if times.isna().any() else pd.DatetimeIndex(times)
    first = str(column.iloc[0]).strip()
    if first.replace(".", "").isdigit() and len(first) < 8:
        return None  # "17" is a number written as text, though it could be read as a day
    with warnings.catch_warnings():  # "could not infer format": the answer None says it
        warnings.simplefilter("ignore", UserWarning)
        if pd.isna(pd.to_datetime(pd.Series([column.iloc[0]]), errors="coerce", utc=True).iloc[0]):
            return None
        try:
            times = pd.to_datetime(column)
        except (ValueError, TypeError):  # also: offsets that change with daylight saving
            try:
                times = pd.to_datetime(column, utc=True)
            except (ValueError, TypeError):
                return None
    return None if times.isna().any() else pd.DatetimeIndex(times)


def _first_unparsable(column: pd.Series) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        bad = np.ones(len(column), bool) if numeric else pd.to_datetime(column, errors="coerce", utc=True).isna()
    return int(np.argmax(np.asarray(bad)))


def _long_columns(
    frame: pd.DataFrame,
    times: pd.DatetimeIndex | None,
    variate_column: str | None,
    value_column: str | None,
    source: str,
) -> tuple[str, str] | None:
    """Name the variate and the value column of a long table; None if the table is wide."""
    if variate_column is None and value_column is None:
        if times is None or not times.has_duplicates or len(frame.columns) != 2:
            return None
        words = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c].dtype)]
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
            "expected both; give `--data.variate_column` and `--data.value_column`."
        )
    for name in (variate_column, value_column):
        if name not in frame.columns:
            raise ValueError(f"{source} has no column {name!r}, expected one of {listed(frame.columns)}.")
    if times is None:
        raise ValueError(f"{source} is a long table without times, expected a column of times.")
    return variate_column, value_column


def to_numbers(column: pd.Series) -> tuple[Float[np.ndarray, " row"], int | None]:
    """Turn a column into float64, blanks and NA into NaN; return it and the first row that is no number, if any."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), None
    given = column.astype(object)
    given = given.map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    blank = given.isna() | (given == "")
    numbers = pd.to_numeric(given.where(~blank, None), errors="coerce")
    bad = np.asarray(numbers.isna() & ~blank)
    if bad.any() or pd.api.types.is_datetime64_any_dtype(column.dtype) or column.dtype.kind in "mc":
        return numbers.to_numpy(dtype=np.float64), int(np.argmax(bad))
    return numbers.to_numpy(dtype=np.float64), None


def _numbers(column: pd.Series, name: str, source: str) -> np.ndarray:
    values, bad = to_numbers(column)
    if bad is not None:
        raise ValueError(
            f"Column {name!r} of {source} holds {column.iloc[bad]!r} in data row {bad + 1}, expected a number; leave "
            f"the column out by `--data.exclude {name!r}` or correct the file."
        )
    return values


def _wide_values(frame: pd.DataFrame, source: str) -> tuple[list[str], np.ndarray]:
    dtypes = set(frame.dtypes)
    if dtypes == {np.dtype(np.float64)}:
        return list(frame.columns), frame.to_numpy()
    columns = [_numbers(frame[name], name, source) for name in frame.columns]
    return list(frame.columns), np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))


def _pivot(
    frame: pd.DataFrame, times: pd.DatetimeIndex, variate: str, value: str, drop_duplicates: bool, source: str
) -> tuple[pd.DatetimeIndex, list[str], np.ndarray]:
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
                "one; keep the first ones by `--data.drop_duplicates true`."
            )
        log.warning("%s: %d repeated values dropped, the first in data row %d.", source, again.sum(), row + 1)
    matrix = np.full((len(steps), len(names)), np.nan)
    matrix.ravel()[place[~again]] = values[~again]
    return pd.DatetimeIndex(steps), [str(name).strip() for name in names], matrix


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
