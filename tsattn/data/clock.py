"""Which columns of a table are its clock, and how they are read: dates, days and hours apart, epochs, years, steps.

Both doors come here: `tables.from_frame` and `panel.read_panel`. A clock is chosen by what parses to increasing times
that are each there once, not by its name; names decide between equals. Whole numbers that are no dates (years, steps)
stay whole numbers. What was assumed is logged.
"""

import datetime
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsattn import typed
from tsattn.data.keys import likely_keys
from tsattn.data.numbers import kind
from tsattn.data.wording import Door, advice, listed, plain

log = logging.getLogger(__name__)

NAMES = ("date", "ds", "timestamp", "time", "datetime")  # of equals the first one is taken, whatever the case
NUMBERED = (*NAMES, "year", "epoch", "unix", "unixtime", "unix_time", "step", "time_idx")  # may hold numbers as a clock
_HOURS = ("hour", "hr", "hours", "time", "hour_of_day")
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_OF_DAY = re.compile(r"(\d{1,2})[:.h](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,9}))?)?\s*(?:([AaPp])\.?[Mm]\.?)?")
_DOTTED = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}(?!\d)")
_SLASHED = re.compile(r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}(?!\d)")
_EPOCHS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCH_RANGE = (10**8, 41 * 10**8)  # seconds since 1970: the years 1973 to 2099
FORMATS = {  # words for `time_format`, beside those of strptime
    **{f"epoch_{unit}": f"{word} since 1970" for unit, word in _EPOCH_WORDS.items()},
    "excel": "days of a spreadsheet, counted from the end of 1899",
    "steps": "whole numbers",
}


@dataclass(frozen=True)
class Clock:
    """Times of a table's rows.

    Attributes:
        times: Of every row: dates, or whole numbers (years, steps); None: there are none.
        name: What an answer calls them.
        columns: Of the frame, that they were made of; none if they are its index.
        others: Further columns that look like times.
    """

    times: pd.Index | None
    name: str = ""
    columns: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether the times are whole numbers."""
        return self.times is not None and not isinstance(self.times, pd.DatetimeIndex)


def ticks(times: pd.Index) -> Int[np.ndarray, " row"]:
    """Return times as whole numbers that can be compared and subtracted."""
    return times.asi8 if isinstance(times, pd.DatetimeIndex) else np.asarray(times, dtype=np.int64)


def find(
    frame: pd.DataFrame,
    timestamp: str | Sequence[str] | None,
    time_format: str | None,
    source: str,
    *,
    door: Door = "table",
    codes: Int[np.ndarray, " row"] | None = None,
    keep: Sequence[str] = (),
    quiet: bool = False,
) -> Clock:
    """Find the times of a table.

    Args:
        frame: With names that are text.
        timestamp: Column of times; several: the day and the time of day, or year, month, day, ..., to be joined; None:
            found; "none": the rows have no times.
        time_format: As in strptime, or one of `FORMATS`; None: read off the cells.
        source: For messages.
        door: Where the table came in, for messages.
        codes: Item of each row; None: all rows are of one.
        keep: Columns that somebody named for something else, which are no clock if they hold numbers.
        quiet: Say nothing, because the table is read once more.

    Raises:
        ValueError: If a column is absent or cannot be read as times, or nobody can tell which one is the clock.
    """
    if timestamp == "none" and "none" not in frame.columns:
        return _without(frame, time_format, source, door, codes, keep, quiet)
    index = frame.index.to_timestamp() if isinstance(frame.index, pd.PeriodIndex) else frame.index
    if isinstance(index, pd.DatetimeIndex) and timestamp in (None, frame.index.name):
        others = tuple(name for name in _candidates(frame, time_format, keep, codes) if not _is_text(frame[name]))
        others += tuple(name for name in _running(frame, keep) if name not in others)
        return Clock(index, str(frame.index.name or ""), (), others)
    names = None if timestamp is None else typed.chosen(timestamp, frame.columns)
    for name in names or ():
        if name not in frame.columns:
            raise ValueError(
                f"{source} has no column {name!r}, expected one of {listed(frame.columns)}; check "
                f"{advice(door, '{timestamp}')}."
            )
    if names is not None and len(names) > 1:
        return Clock(_join(frame, names, time_format, source, door), _free_name(frame, names), tuple(names))
    if names is not None:
        [name] = names
        times, words = read(frame[name], time_format)
        if times is None:
            raise ValueError(_why_not(frame, name, time_format, source, door))
        if words:
            _tell(source, name, words, quiet)
        return Clock(times, name, (name,))
    return _choose(frame, time_format, source, door, codes, keep, quiet)


def _tell(source: str, name: str, words: str, quiet: bool) -> None:
    level = logging.WARNING if "month first" in words else logging.INFO
    log.log(logging.DEBUG if quiet else level, "%s: the clock %r holds %s.", source, name, words)


def _free_name(frame: pd.DataFrame, names: Sequence[str]) -> str:
    rest = set(frame.columns) - set(names)
    return "timestamp" if "timestamp" not in rest else "_".join(names)


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column.dtype)


# Choosing --------------------------------------------------------------------------------------------------------


def _candidates(
    frame: pd.DataFrame,
    time_format: str | None,
    keep: Sequence[str],
    codes: np.ndarray | None,
    *,
    repeated: bool = False,
) -> dict[str, tuple[pd.Index, str]]:
    """Read every column that may be a clock; numbers only under a usual name, and whole ones only if each is once."""
    found: dict[str, tuple[pd.Index, str]] = {}
    for name in frame.columns:
        column = frame[name]
        if not _is_text(column) and (name.lower() not in NUMBERED or name in keep):
            continue
        times, words = read(column, time_format)
        if times is None or (not isinstance(times, pd.DatetimeIndex) and not repeated and _quality(times, codes)[0]):
            continue
        found[name] = times, words
    return found


def _running(frame: pd.DataFrame, keep: Sequence[str]) -> tuple[str, ...]:
    """Name the numbers that go forward under a usual name and are no clock that could be read: 0.0, 0.04, 0.08."""
    found = []
    for name in frame.columns:
        column = frame[name]
        if name.lower() not in NUMBERED or name in keep or not pd.api.types.is_float_dtype(column.dtype):
            continue
        if _goes_on(column) and not (column % 1 == 0).all():
            found.append(name)
    return tuple(found)


def _quality(times: pd.Index, codes: np.ndarray | None) -> tuple[int, bool]:
    """Return how many rows repeat a time of their item, and whether the times of each item go forward."""
    values = ticks(times)
    if codes is None:
        return int(pd.Index(values).duplicated().sum()), bool((np.diff(values) > 0).all())
    repeated = int(pd.MultiIndex.from_arrays([codes, values]).duplicated().sum())
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    return repeated, bool((np.diff(values[order])[same] > 0).all())


def _choose(
    frame: pd.DataFrame,
    time_format: str | None,
    source: str,
    door: Door,
    codes: np.ndarray | None,
    keep: Sequence[str],
    quiet: bool,
) -> Clock:
    found = _candidates(frame, time_format, keep, codes)
    if not found and _parts(frame, keep) is None:  # years of many countries: a key beside them says why they repeat
        numbers = _candidates(frame, time_format, keep, codes, repeated=True)
        found = {name: pair for name, pair in numbers.items() if likely_keys(frame, ticks(pair[0]), [name])}
    ranks: dict[str, tuple[Any, ...]] = {}
    for name, (times, _) in found.items():
        repeated, forward = _quality(times, codes)
        usual = NAMES.index(name.lower()) if name.lower() in NAMES else len(NAMES)
        ranks[name] = (repeated > 0, repeated, not forward, not _is_text(frame[name]), usual)
    best = min(ranks, key=lambda name: ranks[name]) if ranks else None
    if best is None:
        joined = _parts(frame, keep)
        if joined is not None:
            times = _join(frame, joined, time_format, source, door)
            log.log(
                logging.DEBUG if quiet else logging.WARNING, "%s: %s are joined to one clock.", source, listed(joined)
            )
            return Clock(times, _free_name(frame, joined), tuple(joined))
        raise ValueError(_why_none(frame, time_format, source, door, keep))
    equals = [name for name in ranks if ranks[name] == ranks[best]]
    if len(equals) > 1 and not all(found[name][0].equals(found[best][0]) for name in equals):
        raise ValueError(
            f"{source} has several columns that could be times ({listed(equals)}) among {listed(frame.columns)}, "
            f"expected one; {advice(door, 'name it by {timestamp}', timestamp=equals[0])}."
        )
    times, words = found[best]
    of_day = _hours_of(frame, times, codes, ranks[best][1], keep)
    others = (*(name for name in found if name != best), *(n for n in _running(frame, keep) if n not in found))
    if len(of_day) == 1:
        joined = [best, *of_day]
        level = logging.DEBUG if quiet else logging.WARNING
        log.log(
            level, "%s: the days of %r and the times of day of %r are joined to one clock.", source, best, of_day[0]
        )
        name = _free_name(frame, joined)
        others = tuple(other for other in others if other not in joined)
        return Clock(_join(frame, joined, time_format, source, door), name, tuple(joined), others)
    if of_day:
        raise ValueError(
            f"{source} has the days of {best!r} several times, and times of day in {listed(of_day)}, expected one such "
            f"column; {advice(door, 'join two by {timestamp}', timestamp=[best, of_day[0]])}."
        )
    if words:
        _tell(source, best, words, quiet)
    if others and not quiet:
        log.warning("%s: the clock is %r; %s could be times, too, and are not read.", source, best, listed(others))
    return Clock(times, best, (best,), others)


def _hours_of(
    frame: pd.DataFrame, times: pd.Index, codes: np.ndarray | None, repeated: int, keep: Sequence[str]
) -> list[str]:
    """Name the columns with times of day that tell the rows of a day apart."""
    if not repeated or not isinstance(times, pd.DatetimeIndex) or not (times == times.normalize()).all():
        return []
    found = []
    for name in frame.columns:
        of_day = None if name in keep and not _is_text(frame[name]) else hours(frame[name], name)
        if of_day is None:
            continue
        if _quality(times + pd.TimedeltaIndex(of_day), codes)[0] < repeated:
            found.append(name)
    return found


def _parts(frame: pd.DataFrame, keep: Sequence[str]) -> list[str] | None:
    """Name the columns of a clock that is written in parts: year, month, perhaps day, hour, minute, second."""
    lower = {name.lower(): name for name in frame.columns if name not in keep}
    if not {"year", "month"} <= set(lower):
        return None
    parts: list[str] = []
    for part in _PARTS:
        if part not in lower:
            break
        parts.append(lower[part])
    return parts


def _without(
    frame: pd.DataFrame,
    time_format: str | None,
    source: str,
    door: Door,
    codes: np.ndarray | None,
    keep: Sequence[str],
    quiet: bool,
) -> Clock:
    """Take rows as equally spaced, and say what is not read by that."""
    found = _candidates(frame, time_format, keep, codes)
    for name, (times, _) in found.items():
        values = ticks(times) if codes is None else ticks(times)[np.argsort(codes, kind="stable")]
        same = slice(None) if codes is None else np.diff(np.sort(codes, kind="stable")) == 0
        if (np.diff(values)[same] < 0).any():
            raise ValueError(
                f"{source} is to be read without times, and its rows are not in the order of {name!r}, which looks "
                f"like a clock, expected rows in their order; {advice(door, 'name it by {timestamp}', timestamp=name)}"
                ", or sort the rows."
            )
    others = (*found, *(name for name in _running(frame, keep) if name not in found))
    if others and not quiet:
        log.warning(
            "%s: %s could be times; they are not read, because the rows are said to have none, and the answer counts "
            "rows from 0.", source, listed(others),
        )  # fmt: skip
    return Clock(None, "", (), others)


# Reading ---------------------------------------------------------------------------------------------------------


def read(column: pd.Series, time_format: str | None = None) -> tuple[pd.Index | None, str]:
    """Read a column as times.

    Args:
        column: Times, text or numbers.
        time_format: As in `find`.

    Returns:
        Dates, or whole numbers (years, steps), and what numbers were read as, in words; None if a cell is not a time.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        return (None if column.isna().any() else pd.DatetimeIndex(column.dt.to_timestamp())), ""
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return (None if column.isna().any() else pd.DatetimeIndex(column)), ""
    if not len(column) or pd.api.types.is_bool_dtype(dtype) or dtype.kind == "m":
        return None, ""
    if pd.api.types.is_numeric_dtype(dtype):
        return _of_numbers(column, time_format)
    if time_format in FORMATS or (time_format is None and _is_digits(column)):
        try:
            return _of_numbers(pd.Series([int(cell) for cell in column]), time_format)
        except (ValueError, TypeError):
            return None, ""
    times = _of_text(column, time_format)
    if times is None or time_format is not None or not _SLASHED.match(str(column.iloc[0]).strip()):
        return times, ""
    month_first = bool(len(times) and (times.day <= 12).all() and str(times[0].month) in _first_number(column))
    return times, f"{_first_cell(column)}, which is read as {times[0].date()}, month first" if month_first else ""


def _first_cell(column: pd.Series) -> str:
    return str(column.iloc[0]).strip()


def _first_number(column: pd.Series) -> tuple[str, ...]:
    number = re.split(r"[/-]", _first_cell(column))[0]
    return number, number.lstrip("0")


def _is_digits(column: pd.Series) -> bool:
    return bool(re.fullmatch(r"\s*\d+\s*", str(column.iloc[0]))) and len(str(column.iloc[0]).strip()) != 8


def _of_text(column: pd.Series, time_format: str | None) -> pd.DatetimeIndex | None:
    if time_format is not None:
        times = pd.to_datetime(column, format=time_format, errors="coerce")
        return None if times.isna().any() else pd.DatetimeIndex(times)
    first = column.iloc[0]
    text = str(first).strip()
    if isinstance(first, datetime.time) or _OF_DAY.fullmatch(text):
        return None  # a time of day: pandas would put it on the day of today
    if text.replace(".", "").replace(",", "").isdigit() and len(text) != 8 and text.count(".") < 2:
        return None  # a number written as text, though it could be read as a day
    day_first = bool(_DOTTED.match(text))  # nobody writes dots and the month first
    with warnings.catch_warnings():  # "could not infer format": the answer None says it
        warnings.simplefilter("ignore", UserWarning)
        if pd.isna(pd.to_datetime(pd.Series([first]), errors="coerce", utc=True).iloc[0]):
            return None
        try:
            times = pd.to_datetime(column, dayfirst=day_first)
        except (ValueError, TypeError):  # also: offsets that change with daylight saving
            try:
                times = pd.to_datetime(column, utc=True)
            except (ValueError, TypeError):
                return None
    return None if times.isna().any() else pd.DatetimeIndex(times)


def _of_numbers(column: pd.Series, time_format: str | None) -> tuple[pd.Index | None, str]:
    if column.isna().any():
        return None, ""
    if pd.api.types.is_integer_dtype(column.dtype):
        values = column.to_numpy(dtype=np.int64)
        whole = True
    else:
        values = column.to_numpy(dtype=np.float64)
        whole = bool(np.isfinite(values).all() and (values % 1 == 0).all() and (np.abs(values) < 2**53).all())
        values = values.astype(np.int64) if whole else values
    if not whole and not np.isfinite(values).all():
        return None, ""
    if time_format == "steps" or (time_format == "%Y" and whole):
        return (pd.Index(values), _counted(values)) if whole else (None, "")
    if time_format == "excel":
        days = np.round(np.asarray(values, dtype=np.float64) * 86_400_000).astype(np.int64)
        return pd.DatetimeIndex(np.datetime64("1899-12-30", "ms") + days.astype("m8[ms]")), FORMATS["excel"]
    for unit, per_second in _EPOCHS.items():
        low, high = (limit * per_second for limit in _EPOCH_RANGE)
        if time_format == f"epoch_{unit}" or (time_format is None and (values >= low).all() and (values < high).all()):
            if whole:
                times = pd.DatetimeIndex(values.astype(f"M8[{unit}]"))
            else:  # a float64 holds seconds of today to a quarter of a microsecond
                times = pd.DatetimeIndex(np.round(values * (10**6 / per_second)).astype(np.int64).astype("M8[us]"))
            return times.tz_localize("UTC"), f"{_EPOCH_WORDS[unit]} since 1970 (Unix time, UTC)"
    if not whole:
        return None, ""
    if time_format is not None:
        return _of_text(pd.Series(values).astype(str), time_format), f"dates written as {time_format}"
    for digits, form in ((8, "%Y%m%d"), (6, "%Y%m")):
        low, high = 1800 * 10 ** (digits - 4), 2200 * 10 ** (digits - 4)
        if (values >= low).all() and (values < high).all():
            dates = _of_text(pd.Series(values).astype(str), form)
            if dates is not None:
                return dates, f"dates written as {form} ({values[0]} is {dates[0].date()})"
    return pd.Index(values), _counted(values)


def _counted(values: np.ndarray) -> str:
    years = (values >= 1500).all() and (values <= 2300).all()
    told = f"{'years' if years else 'whole numbers'} ({values[0]}, ...), which stay so in an answer"
    days = (values > 20_000).all() and (values < 80_000).all()
    said = advice("table", "{time_format=excel}") if days else ""
    return f"{told}; {said} reads days of a spreadsheet" if said else told


def hours(column: pd.Series, name: str) -> np.ndarray | None:
    """Read a column as times of day (timedeltas), numbers only under a usual name; None if it holds something else."""
    if not _is_text(column) and name.lower() not in _HOURS:
        return None
    return _of_day(column)


def from_one(column: pd.Series, name: str) -> bool:
    """Return whether a column counts the hours of a day from 1 to 24."""
    whole = pd.api.types.is_integer_dtype(column.dtype) and name.lower() in (*_HOURS, "he", "hour_ending", "hourending")
    return bool(whole and len(column) and column.min() == 1 and column.max() == 24)


def _of_day(column: pd.Series) -> np.ndarray | None:
    """Read a column as times of day, as timedeltas; None if it holds something else."""
    if column.dtype.kind == "m":
        return np.asarray(column, dtype="m8[ns]")
    if pd.api.types.is_numeric_dtype(column.dtype):
        if not pd.api.types.is_integer_dtype(column.dtype) or not column.between(0, 23).all():
            return None
        return column.to_numpy(dtype=np.int64).astype("m8[h]").astype("m8[ns]")
    codes, cells = pd.factorize(column)
    found = [_day_part(cell) for cell in cells]
    if (codes < 0).any() or not found or any(part is None for part in found):
        return None
    return np.array(found, dtype="m8[us]").astype("m8[ns]")[codes]


def _day_part(cell: Any) -> datetime.timedelta | None:
    if isinstance(cell, datetime.time):
        day = datetime.timedelta(hours=cell.hour, minutes=cell.minute, seconds=cell.second)
        return day + datetime.timedelta(microseconds=cell.microsecond)
    match = _OF_DAY.fullmatch(str(cell).strip())
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[5]:
        hour = hour % 12 + (12 if match[5] in "pP" else 0)
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and (minute or second)):
        return None
    fraction = float(f"0.{match[4] or 0}")
    return datetime.timedelta(hours=hour, minutes=minute, seconds=second + fraction)


def _join(
    frame: pd.DataFrame, names: Sequence[str], time_format: str | None, source: str, door: Door
) -> pd.DatetimeIndex:
    """Make times of a day and a time of day, or of year, month, day, ..., in columns of their own."""
    told = f"Columns {listed(names)} of {source}"
    if len(set(names)) < len(names):
        raise ValueError(f"{told} are named as the clock, expected each once.")
    if time_format is not None and time_format not in FORMATS:
        rows = frame[list(names)].itertuples(index=False)
        text = pd.Series([" ".join(str(cell).strip() for cell in row) for row in rows], dtype=object)
        times = pd.to_datetime(text, format=time_format, errors="coerce")
        if times.isna().any():
            row = int(np.argmax(times.isna()))
            raise ValueError(
                f"{told} hold {text.iloc[row]!r} in data row {row + 1}, expected times written as {time_format!r}; "
                f"check {advice(door, '{time_format}')}."
            )
        return pd.DatetimeIndex(times)
    lower = [name.lower() for name in names]
    if lower[:2] == ["year", "month"] and lower == list(_PARTS[: len(lower)]):
        parts = pd.DataFrame(
            {key: pd.to_numeric(frame[n], errors="coerce") for key, n in zip(lower, names, strict=True)}
        )
        times = pd.to_datetime(parts if "day" in parts else parts.assign(day=1), errors="coerce")
        if times.isna().any():
            row = int(np.argmax(times.isna()))
            cells = ", ".join(plain(frame[name].iloc[row]) for name in names)
            raise ValueError(f"{told} hold {cells} in data row {row + 1}, expected a time; correct the table.")
        return pd.DatetimeIndex(times)
    if len(names) == 2:
        days, _ = read(frame[names[0]])
        of_day = _of_day(frame[names[1]])
        if isinstance(days, pd.DatetimeIndex) and of_day is not None and (days == days.normalize()).all():
            if days.tz is None:
                return days + pd.TimedeltaIndex(of_day)
            return (days.tz_localize(None) + pd.TimedeltaIndex(of_day)).tz_localize(days.tz)
    raise ValueError(
        f"{told} cannot be joined to times (the first row holds {', '.join(plain(frame[n].iloc[0]) for n in names)}), "
        "expected a column of days and one of times of day (such as '06:30', or hours from 0 to 23), or year, month, "
        "day, hour in this order."
    )


# Refusals --------------------------------------------------------------------------------------------------------


def _why_not(frame: pd.DataFrame, name: str, time_format: str | None, source: str, door: Door) -> str:
    """Say why a column that was named cannot be read as times."""
    column = frame[name]
    inside = source.replace("The table", "the table")
    if _of_day(column) is not None and _is_text(column):
        days = [n for n in frame.columns if n != name and isinstance(read(frame[n])[0], pd.DatetimeIndex)]
        join = advice(
            door, "join it with the column of days by {timestamp}", timestamp=[days[0] if days else "day", name]
        )
        return (
            f"Column {name!r} of {inside} holds times of day ({plain(column.iloc[0])} in data row 1), expected days, "
            f"too; {join}."
        )
    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if numeric:
            bad = np.asarray(column.isna() | (column % 1 != 0))
        elif time_format is not None and time_format not in FORMATS:
            bad = np.asarray(pd.to_datetime(column, format=time_format, errors="coerce").isna())
        else:
            bad = np.asarray(pd.to_datetime(column, errors="coerce", utc=True).isna())
    row = int(np.argmax(bad)) if bad.any() else 0
    what = "a whole number or a time" if numeric else "a time, written as in the other rows"
    ways = advice(
        door,
        "name another column by {timestamp}",
        f"say how times are written by {{time_format}} (as in strptime, or {', '.join(FORMATS)})",
        "if the rows are equally spaced, leave the column out and say {timestamp=none}",
        time_format="%d/%m/%Y %H:%M",
    )
    if door == "panel":
        ways += ", or read it by `pandas.to_datetime(..., format=)` first"
    return (
        f"Column {name!r} of {inside} holds {plain(column.iloc[row])} in data row {row + 1}, expected {what}; {ways}."
    )


def _why_none(frame: pd.DataFrame, time_format: str | None, source: str, door: Door, keep: Sequence[str]) -> str:
    """Say why no clock was found, with the columns that may be one."""
    usual = sorted(
        (n for n in frame.columns if n.lower() in NAMES and _is_text(frame[n])), key=lambda n: NAMES.index(n.lower())
    )
    if len(usual) == 1 and len(frame):
        return _why_not(frame, usual[0], time_format, source, door)
    counting = [
        name
        for name in frame.columns
        if name not in keep and pd.api.types.is_integer_dtype(frame[name].dtype) and _goes_on(frame[name])
    ]
    named = advice(door, "name it by {timestamp}", timestamp=counting[0]) if counting else advice(door, "name it by {timestamp}")  # fmt: skip  # noqa: E501
    maybe = f" (perhaps {listed(counting[:3])}, which goes on from row to row)" if counting else ""
    return (
        f"{source} has no column of times among {listed(frame.columns)}, expected one{maybe}; {named}, or say "
        f"{advice(door, '{timestamp=none}')} if the rows are equally spaced and have no times."
    )


def _goes_on(column: pd.Series) -> bool:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return len(values) > 2 and bool((np.diff(values) > 0).all())


def is_time_like(column: pd.Series) -> bool:
    """Return whether a column holds times in some form, numbers not counted."""
    return kind(column) == "times" or (_is_text(column) and len(column) > 0 and read(column)[0] is not None)
