"""The grid of a clock: the step that rows follow, and the three ways to bring rows to one.

Ours. *Snapping* moves each time to the nearest point of a grid, and no row is lost; *filling* puts missing rows where
none are; *averaging* makes one row of many, and only of bins that are full at both ends. None of them is done unless it
was asked for, and none does another one's work. What stands here is behind every door: a table of one series is a
table of one item.
"""

import dataclasses
import itertools
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsattn import messages
from tsattn.data.calendar import as_calendar, is_fixed, plain_quarter
from tsattn.data.reading import Reading
from tsattn.data.wording import Door, advice, listed, plain

log = logging.getLogger(__name__)

REACH = 4  # a time is moved by at most a quarter of the step
_SECOND = 1_000_000_000
_NICE = sorted(  # steps that people choose, in nanoseconds
    {n * 1_000_000 for n in (1, 2, 4, 5, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500)}
    | {n * _SECOND for n in (1, 2, 5, 10, 15, 20, 30)}
    | {n * 60 * _SECOND for n in (1, 2, 3, 5, 6, 10, 12, 15, 20, 30)}
    | {n * 3600 * _SECOND for n in (1, 2, 3, 4, 6, 8, 12, 24, 168)}
)
_UNITS = (
    60 * _SECOND,
    _SECOND,
    100_000_000,
    10_000_000,
    1_000_000,
    100_000,
    10_000,
    1000,
)  # to which stamps are rounded


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of items with their times, item by item.

    Attributes:
        times: Of every row.
        begins: First row of each item, and the number of rows.
        columns: Arrays whose first axis is the row, float or object, by name.
        items: Names.
        what: The table, for messages.
        places: Data row of each row in the file, from 0; None where rows do not stand as they did there.
        zone: Zone that the times' changing offsets point to; "" if they do not change.
        door: Where the table came in, for messages.
    """

    times: pd.DatetimeIndex
    begins: Int[np.ndarray, " item_and_end"]
    columns: Mapping[str, np.ndarray]
    items: np.ndarray
    what: str
    places: np.ndarray | None = None
    zone: str = ""
    door: Door = "panel"

    @property
    def within(self) -> np.ndarray:
        """Whether a row and the next one are of the same item."""
        inside = np.ones(max(len(self.times) - 1, 0), dtype=bool)
        inside[self.begins[1:-1] - 1] = False
        return inside

    def parts(self) -> list[slice]:
        """Return the rows of each item."""
        return [slice(int(begin), int(end)) for begin, end in itertools.pairwise(self.begins)]

    def where(self, row: int) -> str:
        """Return in which item a row is, or in which line of the file, for a message."""
        if len(self.items) > 1:
            item = int(np.searchsorted(self.begins, row, "right")) - 1
            return f" in item {plain(self.items[item])}"
        return "" if self.places is None else f" in data row {self.places[row] + 1}"

    def kept(self, rows: np.ndarray) -> "Rows":
        """Return some rows, chosen by a mask."""
        counts = [int(rows[part].sum()) for part in self.parts()]
        return dataclasses.replace(
            self,
            times=self.times[rows],
            begins=np.concatenate([[0], np.cumsum(counts)]),
            columns={name: values[rows] for name, values in self.columns.items()},
            places=None if self.places is None else self.places[rows],
        )


def bring(rows: Rows, how: Reading) -> Rows:
    """Do what was asked for with the clock, in this order: drop repeated times, snap, average, fill.

    Raises:
        ValueError: As the four.
    """
    if how.drop_duplicates:
        rows = without_repeated(rows)
    if how.snap is not None:
        rows = snap(rows, how.snap)
    if how.resample is not None:
        rows = average(rows, how.resample)
    if how.freq is not None:
        rows = fill(rows, how.freq)
    return rows


# Steps -----------------------------------------------------------------------------------------------------------


def offset(step: str, name: str = "freq") -> Any:
    """Return the pandas offset of a step.

    Args:
        step: As pandas writes it.
        name: Of the option, for the message.

    Raises:
        ValueError: If it is no step.
    """
    try:
        found = pd.tseries.frequencies.to_offset(step)
    except (ValueError, TypeError):
        found = None
    if found is None or found.n < 1:
        raise ValueError(f"{name} is {step!r}, expected a step as pandas writes it, such as 'h', '15min' or 'MS'.")
    return found


def fixed_step(frequency: str) -> int | None:
    """Return the nanoseconds of a step that is always as long; None of months, business days and days of a zone."""
    step: Any = pd.tseries.frequencies.to_offset(frequency)
    return int(pd.Timedelta(step).value) if is_fixed(step) else None


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


def exact_step(frequency: str) -> Fraction | None:
    """Return the nanoseconds of a step, exactly: 33333333ns is the name of a thirtieth of a second."""
    step = fixed_step(frequency)
    if step is None or step % 1000 == 0:
        return None if step is None else Fraction(step)
    return _simplest(Fraction(2 * step - 1, 2 * _SECOND), Fraction(2 * step + 1, 2 * _SECOND)) * _SECOND


def line(start: pd.Timestamp, count: int, frequency: str | Any) -> pd.DatetimeIndex:
    """Return so many times from `start` on (before it, if `count` is negative), `start` among them.

    A step of the calendar is counted from where it stands in its month: of months, the 15th goes on to the next 15th.
    """
    step = pd.tseries.frequencies.to_offset(frequency)
    base = start if step.is_on_offset(start) else step.rollback(start)
    ends: dict[str, Any] = {"start": base} if count > 0 else {"end": base}
    times = pd.date_range(periods=abs(count), freq=step, **ends)
    return times if base == start else _shifted(times, base, start)


def _shifted(times: pd.DatetimeIndex, base: pd.Timestamp, start: pd.Timestamp) -> pd.DatetimeIndex:
    """Move times by the days and hours from `base` to `start`, on the clock of their zone."""
    wall = times.tz_localize(None) + (start.tz_localize(None) - base.tz_localize(None))
    return wall.tz_localize(times.tz, ambiguous=np.ones(len(wall), bool), nonexistent="shift_forward")


def step_of(rows: Rows, expected: str | None = None) -> str:
    """Name the step of all items, "" if none has two rows; complain about the first row that breaks it.

    Args:
        rows: In the order of time.
        expected: Step of the training. Rows that follow it have it: of a few rows alone nobody could tell business days
            from days, or months from 31 days.

    Raises:
        ValueError: If a time is there twice, or the rows do not follow one step.
    """
    refuse_repeated(rows)
    within = rows.within
    if not within.any():
        return ""
    found = _named(rows, within, expected)
    if found:
        return found
    raise ValueError(_irregular(rows, within))


def _named(rows: Rows, within: np.ndarray, expected: str | None) -> str:
    """Name the step that all rows follow; "" if there is none."""
    times, begins = rows.times, rows.begins
    if expected and fixed_step(expected) is None and _first_off(times, within, expected) is None:
        return expected
    steps = np.diff(times.asi8)
    inner = steps[within]
    if (inner == inner[0]).all() and inner[0] > 0:
        if expected and _is_rounded(rows, exact_step(expected) or Fraction(0)):
            return expected
        longest = times[:3] if len(rows.items) == 1 else _longest(times, begins)[:3]
        named = alias(longest, int(inner[0]))
        return named if len(rows.items) == 1 else _of_all(named, times[begins[:-1]], int(inner[0]))
    if times.tz is not None:  # a day of a zone is not always 24 hours
        wall = times.tz_localize(None)
        local = np.diff(wall.asi8)[within]
        if (local == local[0]).all() and local[0] > 0 and (local[0] * _ns(wall)) % (86_400 * _SECOND) == 0:
            return alias(wall[:1], int(local[0]))
    named = _calendar(times, begins)
    if named and _first_off(times, within, named) is None:
        return named
    months = _months(rows, within)
    if months:
        return months
    if expected and _is_rounded(rows, exact_step(expected) or Fraction(0)):
        return expected
    return _rounded(rows)


def ways_to(step: str, found: str) -> str:
    """Return how rows of one step are brought to another one, for a message."""
    if not step or not found:
        return "pass a table whose clock is of the same kind"
    start = pd.Timestamp("2023-01-01")
    longer = line(start, 3, step)[-1] > line(start, 3, found)[-1]
    if longer:
        return messages.advice("average its rows into that step by {resample}", resample=step)
    return messages.advice("leave absent rows missing by {freq}", freq=step)


def refuse_repeated(rows: Rows) -> None:
    """Raise ValueError if an item has a time twice."""
    again = (np.diff(rows.times.asi8) == 0) & rows.within
    if again.any():
        row = int(np.argmax(again)) + 1
        key, first = "name the column of items by {item_id}", "keep the first rows by {drop_duplicates}"
        several = 2 * int(again.sum()) > len(again)
        ways = advice(rows.door, *((key, first) if several else (first, key)), drop_duplicates=True)
        raise ValueError(
            f"{rows.what} has the time {rows.times[row]} again{rows.where(row)}, expected every time once"
            f"{'' if len(rows.items) == 1 else ' in an item'}; {ways}."
        )


def _irregular(rows: Rows, within: np.ndarray) -> str:
    """Say which row breaks the step, and what can be done."""
    times, begins, steps = rows.times, rows.begins, np.diff(rows.times.asi8)
    named = _calendar(times, begins)
    wrong = _first_off(times, within, named) if named else None
    if named and wrong is not None:
        step = named
    else:
        usual = _usual(steps[within])
        wrong = int(np.flatnonzero(within & (steps != usual))[0])
        named, step = alias(times[:1], usual), str(pd.Timedelta(usual, unit=times.unit))
    item = int(np.searchsorted(begins, wrong, "right")) - 1
    own = times[begins[item] : begins[item + 1]]
    even = (np.diff(own.asi8) == own.asi8[1] - own.asi8[0]).all()
    theirs = str(own[1] - own[0]) if even else calendar_alias(own) if len(own) > 2 else ""
    if len(rows.items) > 1 and theirs and theirs != step:
        return (
            f"{rows.what} has mixed frequencies: item {plain(rows.items[item])} steps by {theirs}, others by "
            f"{step}, expected one step; forecast them apart, or bring them to one step first."
        )
    where = rows.where(wrong) if len(rows.items) > 1 else rows.where(wrong + 1)
    ways = _ways(rows, named)
    return (
        f"{rows.what} steps from {times[wrong]} to {times[wrong + 1]}{where}, expected a regular step of {step}"
        f"{f'; {ways}' if ways else ''}."
    )


def _ways(rows: Rows, named: str) -> str:
    """Return what brings the rows to a step; each was tried."""
    if rows.zone and messages.has("zone"):
        return messages.advice("the offsets of its times change, so say whose days they are by {zone}", zone=rows.zone)
    months = _months(rows, rows.within, gaps=True)
    filled = next((step for step in dict.fromkeys([months, named]) if step and _works(fill, rows, step)), None)
    if filled is not None:
        return messages.advice("take absent rows as missing by {freq}", freq=filled)
    within = rows.within
    length = float(np.median(np.diff(rows.times.asi8)[within])) * _ns(rows.times)
    near = sorted((step for step in _NICE if abs(step - length) <= 0.1 * length), key=lambda step: abs(step - length))
    calendar = [named] if named and fixed_step(named) is None else []
    days = length / (86_400 * _SECOND)
    for least, most, steps in ((26, 33, ("MS", "ME")), (85, 96, ("QS", "QE")), (355, 375, ("YS", "YE"))):
        calendar += steps if least < days < most else ()
    for step in (*calendar, *map(_text, near)):
        if _works(snap, rows, step):
            return messages.advice("move each row to the nearest point of a regular step by {snap}", snap=step)
    coarse = _coarser(rows)
    if coarse:
        return messages.advice("average rows into a regular step by {resample}", resample=coarse)
    return "correct or leave out that row"


def _coarser(rows: Rows) -> str:
    """Return the first step that people choose of at least two rows, into which the rows can be averaged."""
    length = float(np.median(np.diff(rows.times.asi8)[rows.within])) * _ns(rows.times)
    for step in _NICE:
        if step >= 2 * length and _works(average, rows, _text(step)):
            return _text(step)
    return ""


def _works(do: Callable[[Rows, str], Rows], rows: Rows, step: str) -> bool:
    """Try what is proposed."""
    level, log.disabled = log.disabled, True
    try:
        made = do(dataclasses.replace(rows, columns={}), step)
    except ValueError:
        return False
    finally:
        log.disabled = level
    return len(made.times) >= 2 and len(made.times) <= 4 * len(rows.times)


def _text(nanoseconds: int) -> str:
    """Write a step as people do: "1h", "15min", "D"."""
    for unit, size in (
        ("D", 86_400 * _SECOND),
        ("h", 3600 * _SECOND),
        ("min", 60 * _SECOND),
        ("s", _SECOND),
        ("ms", 1_000_000),
    ):
        if nanoseconds % size == 0:
            count = nanoseconds // size
            return unit if unit == "D" and count == 1 else f"{count}{unit}"
    return f"{nanoseconds}ns"


def _ns(times: pd.DatetimeIndex) -> int:
    """Return the nanoseconds of one tick of some times."""
    return {"s": _SECOND, "ms": 1_000_000, "us": 1000, "ns": 1}[times.unit]


def _joined(parts: list[pd.DatetimeIndex]) -> pd.DatetimeIndex:
    """Return the times of all items, item by item."""
    return pd.DatetimeIndex(parts[0].append(parts[1:]) if len(parts) > 1 else parts[0])


def _usual(steps: np.ndarray) -> int:
    found, counts = np.unique(steps[steps > 0], return_counts=True)
    return int(found[counts.argmax()]) if len(found) else 0


def _of_all(named: str, first: pd.DatetimeIndex, step: int) -> str:
    """Return the name of an even step, by days if items begin on different days of the week."""
    by: Any = pd.tseries.frequencies.to_offset(named)
    if fixed_step(named) is not None or all(by.is_on_offset(time) for time in first.unique()):
        return named
    return f"{pd.Timedelta(step, unit=first.unit).days}D"


def _calendar(times: pd.DatetimeIndex, begins: np.ndarray) -> str:
    """Name the calendar's step (months, business days) that an item, or its first or last rows, follow; "" if none."""
    longest = _longest(times, begins)
    others = [times[begin:end] for begin, end in itertools.pairwise(begins[:9])]
    for part in (longest, longest[:12], longest[-12:], *others):
        named = calendar_alias(part) if len(part) > 2 else ""
        if named and fixed_step(named) is None:
            return named
    return ""


def _longest(times: pd.DatetimeIndex, begins: np.ndarray) -> pd.DatetimeIndex:
    item = int(np.diff(begins).argmax())
    return times[begins[item] : begins[item + 1]]


def _first_off(times: pd.DatetimeIndex, within: np.ndarray, named: str) -> int | None:
    """Return the first row that is not one of a calendar's times followed by the next one; None if all are."""
    step: Any = pd.tseries.frequencies.to_offset(named)
    before, after = times[:-1], times[1:]
    distinct = times.unique()  # few: items share their times
    if isinstance(step, pd.offsets.MonthBegin | pd.offsets.QuarterBegin | pd.offsets.YearBegin):
        wall = distinct.tz_localize(None)  # the 15th of each month is a step of a month, too
        bases = pd.DatetimeIndex([step.rollback(time.normalize()) for time in wall])
        apart = wall - bases
        follows = np.asarray(apart <= pd.Timedelta(days=28))
        onward = bases + step + apart
        place, then = distinct.get_indexer(before), distinct.get_indexer(after)
        off = within & ~(follows[place] & np.asarray(onward[place] == wall[then]))
        return int(off.argmax()) if off.any() else None
    follows = np.array([step.is_on_offset(time) for time in distinct])
    place = distinct.get_indexer(before)
    off = within & ~(follows[place] & np.asarray((distinct + as_calendar(step))[place] == after))
    return int(off.argmax()) if off.any() else None


def _months(rows: Rows, within: np.ndarray, gaps: bool = False) -> str:
    """Name a step of months whose rows stand on the same day and time of the month, such as the 15th; "" if none.

    Args:
        rows: All of them.
        within: As `Rows.within`.
        gaps: Whether months may be absent; then the step is one month.
    """
    wall = rows.times.tz_localize(None)
    day, time = np.asarray(wall.day), (wall - wall.normalize()).asi8
    if day[0] > 28 or (day != day[0]).any() or (time != time[0]).any() or not within.any():
        return ""
    number = np.asarray(wall.year, dtype=np.int64) * 12 + np.asarray(wall.month)
    steps = np.diff(number)[within]
    if (steps <= 0).any() or (steps != steps[0]).any():
        return "MS" if gaps and (steps > 0).all() else ""
    month = wall[0].strftime("%b").upper()
    named = {1: "MS", 3: plain_quarter(f"QS-{month}"), 12: f"YS-{month}"}
    return named.get(int(steps[0]), f"{int(steps[0])}MS")


# Stamps that are rounded: 30 rows a second, written in milliseconds ----------------------------------------------


def _resolution(times: pd.DatetimeIndex) -> int:
    """Return the largest unit, in nanoseconds, of which all times are multiples."""
    ticks = times.asi8 * _ns(times)
    return next((unit for unit in _UNITS if (ticks % unit == 0).all()), 1)


def _is_rounded(rows: Rows, step: Fraction) -> bool:
    """Whether all rows are those of an even step, each rounded to the unit in which the times are written."""
    unit = _resolution(rows.times)
    if not step or unit * REACH > step:
        return False
    for part in rows.parts():
        ticks = (rows.times[part].asi8 - rows.times[part].asi8[0]) * _ns(rows.times)
        apart = ticks.astype(np.float64) - np.arange(len(ticks)) * float(step)
        if apart.max() - apart.min() > unit + len(ticks):  # a name holds whole nanoseconds
            return False
    return True


def _rounded(rows: Rows) -> str:
    """Name the even step whose times were rounded; "" if there is none."""
    own = _longest(rows.times, rows.begins)
    unit, count = _resolution(own), len(own) - 1
    length = int(own.asi8[-1] - own.asi8[0]) * _ns(own)
    if count < 2 or length <= 0 or unit * REACH > Fraction(length, count):
        return ""
    low, high = Fraction(max(length - unit, 1), count * _SECOND), Fraction(length + unit, count * _SECOND)
    seconds = _simplest(low, high)
    if not _is_rounded(rows, seconds * _SECOND):
        return ""
    nanoseconds = round(seconds * _SECOND)
    log.info("%s: the times are rounded to %s; they step by %s s.", rows.what, pd.Timedelta(unit), seconds)
    return alias(own[:1].as_unit("ns"), nanoseconds)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction with the smallest denominator between two positive ones (Stern and Brocot)."""
    whole = low.__floor__()
    if whole == low:
        return low
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


# Dropping --------------------------------------------------------------------------------------------------------


def without_repeated(rows: Rows) -> Rows:
    """Keep the first of several rows of an item with the same time.

    Raises:
        ValueError: If most rows would go: then they belong to several series.
    """
    keep = np.ones(len(rows.times), dtype=bool)
    for part in rows.parts():
        keep[part] = ~rows.times[part].duplicated()
    lost = int((~keep).sum())
    if not lost:
        return rows
    if 2 * lost > len(keep) and _differ(rows, keep):
        ways = advice(
            rows.door,
            "Name the column that tells them apart by {item_id}",
            "Of a long table, name its columns by {variate_column}",
        )
        raise ValueError(
            f"{rows.what} has {lost} of {len(keep)} rows at a time that is there before, expected a few: they seem to "
            f"be of several series. {ways}."
        )
    first = int(np.argmax(~keep))
    log.warning(
        "%s: %d repeated times dropped, the first%s.", rows.what, lost, rows.where(first) or f" {rows.times[first]}"
    )
    return rows.kept(keep)


def _differ(rows: Rows, keep: np.ndarray) -> bool:
    """Whether a row that is dropped differs from the one of its time that stays."""
    for part in rows.parts():
        times, kept = rows.times[part], keep[part]
        place = times[kept].get_indexer(times)
        for values in rows.columns.values():
            own = pd.DataFrame(values[part])
            if not own.equals(own[kept].iloc[place].set_axis(own.index)):
                return True
    return False


# Snapping --------------------------------------------------------------------------------------------------------


def snap(rows: Rows, step: str) -> Rows:
    """Move each time to the nearest point of a grid; every row stays one row.

    The grid of a step of fixed length begins at midnight, or as long after it as the rows do (hours at 7 minutes past);
    days and longer are those of the zone's clock.

    Args:
        rows: In the order of time.
        step: As pandas writes it.

    Raises:
        ValueError: If a row is farther than a quarter of a step from its point, or two rows have the same one.
    """
    by = offset(step, "snap")
    moved = [_snapped(rows, part, by, step) for part in rows.parts()]
    times = _joined(moved)
    again = (np.diff(times.asi8) <= 0) & rows.within
    if again.any():
        row = int(np.argmax(again))
        raise ValueError(
            f"{rows.what} has {rows.times[row]} and {rows.times[row + 1]}{rows.where(row + 1)}, both nearest to "
            f"{times[row + 1]} at the step {step}, expected one row for each point; choose a shorter step, or drop or "
            "average one of the two rows."
        )
    most = pd.Timedelta(int(np.abs(times.as_unit("ns").asi8 - rows.times.as_unit("ns").asi8).max()))
    count = int((times != rows.times).sum())
    if count:
        log.info("%s: %d rows moved to the nearest point of the step %s, by at most %s.", rows.what, count, step, most)
    return dataclasses.replace(rows, times=times)


def _snapped(rows: Rows, part: slice, by: Any, step: str) -> pd.DatetimeIndex:
    times = rows.times[part].as_unit("ns")
    wall = times.tz_localize(None)
    fixed = by.n * 86_400 * _SECOND if isinstance(by, pd.offsets.Day) else fixed_step(step)
    days = not is_fixed(by)
    if fixed is not None:
        ticks = wall.asi8 if days else times.asi8 + (wall.asi8[0] - times.asi8[0])
        apart = _apart(ticks, _phase(ticks, fixed), fixed)
        points, reach = ticks - apart, np.full(len(ticks), fixed / REACH)
        if not days:
            points -= wall.asi8[0] - times.asi8[0]
    else:
        day = pd.Timedelta(days=1)
        span = pd.date_range(wall.min().normalize() - by - day, wall.max().normalize() + by + by + day, freq=by).asi8
        after = np.clip(np.searchsorted(span, wall.asi8), 1, len(span) - 1)
        nearest = np.where(wall.asi8 - span[after - 1] <= span[after] - wall.asi8, after - 1, after)
        points, apart = span[nearest], wall.asi8 - span[nearest]
        reach = (span[after] - span[after - 1]) / REACH
    if (np.abs(apart) > reach).any():
        row = int(np.argmax(np.abs(apart) / reach))
        far = pd.Timedelta(int(abs(apart[row])))
        ways = messages.advice("choose another step for {snap}", "average rows by {resample}")
        raise ValueError(
            f"{rows.what} has {rows.times[part][row]}{rows.where(part.start + row)}, {far} from the "
            f"nearest point of the step {step}, expected at most a quarter of a step; {ways}."
        )
    found = pd.DatetimeIndex(points.view("M8[ns]"))
    if times.tz is None:
        return found
    if not days:
        return found.tz_localize("UTC").tz_convert(times.tz)
    return found.tz_localize(times.tz, ambiguous=np.ones(len(found), bool), nonexistent="shift_forward")


def _apart(ticks: np.ndarray, phase: int, step: int) -> np.ndarray:
    """Return how far each time is after (or before) its nearest point, in (-step / 2, step / 2]."""
    return (ticks - phase + step // 2) % step - step // 2


def _phase(ticks: np.ndarray, step: int) -> int:
    """Return how long after midnight the grid begins that is nearest to all times: the roundest one that fits."""
    turns = np.exp(2j * np.pi * ((ticks % step) / step))
    middle = round(float(np.angle(turns.mean()) / (2 * np.pi)) % 1 * step) % step
    middle = (middle + int(np.median(_apart(ticks, middle, step)))) % step

    def spread(phase: int) -> float:  # of most rows: a few may be far off
        return float(np.quantile(np.abs(_apart(ticks, phase, step)), 0.9))

    for unit in (step, *(nice for nice in reversed(_NICE) if nice < step and step % nice == 0)):
        rounded = round(middle / unit) * unit % step
        if spread(rounded) <= min(2.5 * spread(middle) + 1, step / REACH):
            return rounded
    return middle


# Filling ---------------------------------------------------------------------------------------------------------


def fill(rows: Rows, step: str) -> Rows:
    """Put every item's rows on a grid from its first time on; absent rows are missing ones.

    Args:
        rows: In the order of time, without repeated times.
        step: As pandas writes it.

    Raises:
        ValueError: If a time is not on the grid.
    """
    refuse_repeated(rows)
    by = offset(step)
    grids: list[pd.DatetimeIndex] = []
    places: list[np.ndarray] = []
    for part in rows.parts():
        grid, place = _filled(rows, part, by, step)
        places.append(place + sum(len(one) for one in grids))
        grids.append(grid)
    lengths = np.array([len(grid) for grid in grids])
    if int(lengths.sum()) == len(rows.times):
        return rows
    place = np.concatenate(places)
    if 2 * len(rows.times) < lengths.sum():
        log.warning(
            "%s has %d rows and lacks %d at the step %r: is that its step?",
            rows.what, len(rows.times), lengths.sum() - len(rows.times), step,
        )  # fmt: skip
    columns: dict[str, np.ndarray] = {}
    for name, values in rows.columns.items():
        empty = None if values.dtype == object else np.nan
        columns[name] = np.full((int(lengths.sum()), *values.shape[1:]), empty, dtype=values.dtype)
        columns[name][place] = values
    times = _joined(grids)
    return dataclasses.replace(
        rows,
        times=pd.DatetimeIndex(times),
        begins=np.concatenate([[0], np.cumsum(lengths)]),
        columns=columns,
        places=None,
    )


def _filled(rows: Rows, part: slice, by: Any, step: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Return the grid of an item, and where on it each of its rows stands."""
    times = rows.times[part]
    fixed = fixed_step(step)
    if fixed is not None:
        apart = (times.asi8 - times.asi8[0]) * _ns(times)
        exact = float(exact_step(step) or fixed)
        place = np.rint(apart / exact).astype(np.int64)
        unit = _resolution(times)
        off = np.abs(apart - place * exact) > (unit + 1 if unit * REACH <= fixed else 0)
        off[1:] |= np.diff(place) <= 0
        if (apart % fixed).any() or fixed % _ns(times):  # rounded stamps
            count = np.rint(np.arange(int(place.max()) + 1) * exact).astype("m8[ns]")
            grid = times[:1].as_unit("ns").repeat(len(count)) + pd.TimedeltaIndex(count)
        else:
            grid = pd.date_range(times[0], periods=int(place.max()) + 1, freq=by)
            grid = grid.as_unit(times.unit)
    else:
        grid = line(times[0], 1, by)
        while grid[-1] < times[-1]:
            grid = line(times[0], 2 * len(grid), by)
        grid = grid[grid <= times[-1]].as_unit(times.unit)
        place = grid.get_indexer(times)
        off = place < 0
    if off.any():
        row = int(np.argmax(off))
        snapped = ["move each row to the nearest point by {snap}"] if _works(snap, rows, step) else []
        ways = messages.advice(*snapped, snap=step) or "correct that row, or average rows into a longer step"
        raise ValueError(
            f"{rows.what} has the time {times[row]}{rows.where(part.start + row)}, which is not on the grid of {step} "
            f"that begins at {times[0]}, expected times of that step; {ways}."
        )
    return grid, place


# Averaging -------------------------------------------------------------------------------------------------------


def average(rows: Rows, step: str) -> Rows:
    """Make one row of all rows in a bin; days and longer are those of the zone's clock.

    A first or last bin that the rows do not fill is left out, which is said. An empty bin between others is a missing
    row.

    Args:
        rows: In the order of time.
        step: As pandas writes it; longer than the rows' own step.

    Raises:
        ValueError: If a bin holds about one row and rows would be moved or joined by chance, most bins are empty, or a
            column of categories has two values in a bin.
    """
    by = offset(step, "resample")
    if rows.zone and fixed_step(step) is None:
        way = messages.advice("say which by {zone}", zone=rows.zone)
        raise ValueError(
            f"The offsets of the times of {rows.what} change, so it is not known whose days {step!r} means, expected a "
            f"zone; {way}."
        )
    done = [_averaged(rows, part, by, step) for part in rows.parts()]
    lengths = [len(times) for times, _ in done]
    times = _joined([one for one, _ in done])
    columns = {name: np.concatenate([made[name] for _, made in done]) for name in rows.columns}
    log.info("%s: %d rows averaged into %d of %s.", rows.what, len(rows.times), len(times), step)
    return dataclasses.replace(
        rows, times=times, begins=np.concatenate([[0], np.cumsum(lengths)]), columns=columns, places=None
    )


def _averaged(rows: Rows, part: slice, by: Any, step: str) -> tuple[pd.DatetimeIndex, dict[str, np.ndarray]]:
    times = rows.times[part]
    if len(times) < 2:
        raise ValueError(f"{rows.what} has {len(times)} row{rows.where(part.start)}, expected several to average.")
    bins = pd.Series(1.0, index=times).resample(by)
    counts = bins.sum()
    first = pd.Series(np.arange(len(times)), index=times).resample(by).min()
    there = np.asarray(counts > 0)
    own = max(int(np.median(np.diff(times.unique().as_unit("ns").asi8))), 1) if times.nunique() > 1 else 1
    edges = _edges(pd.DatetimeIndex(counts.index), by)
    typical = float(np.median(np.diff(edges.as_unit("ns").asi8)))
    if 2 * there.sum() < len(counts):
        way = messages.advice("say how times are written by {time_format}", time_format="%d/%m/%Y %H:%M")
        raise ValueError(
            f"Averaging {rows.what} into the step {step} makes {len(counts)} rows, {there.sum()} of them not empty, "
            f"expected at least half. Are the times read right (is the day before the month)? If they are not, {way}."
        )
    if typical < 1.5 * own and not times.isin(counts.index).all():
        round_step = next((s for s in _NICE if abs(s - own) <= 0.1 * own), None)
        ways = messages.advice(
            "move each row to the nearest point by {snap}", snap=_text(round_step) if round_step else step
        )
        raise ValueError(
            f"The rows of {rows.what} step by about {pd.Timedelta(own)} already, so a bin of {step} holds one of them, "
            f"or by jitter two or none, expected a longer step to average into; {ways}."
        )
    row = np.asarray(first)[there].astype(np.int64)
    lengths = np.diff(np.append(row, len(times)))
    columns: dict[str, np.ndarray] = {}
    for name, values in rows.columns.items():
        columns[name] = _mean(rows, name, values[part], row, lengths, there, counts.index)
    keep = np.ones(len(counts), dtype=bool)
    slack = own // 50
    ticks = times.as_unit("ns").asi8
    ends = edges.as_unit("ns").asi8
    keep[0] = ticks[0] - own < ends[0] - slack
    keep[-1] &= ticks[-1] + own >= ends[-1] - slack
    for place, name in ((0, "first"), (-1, "last")):
        if not keep[place] and len(counts) > 1:
            log.warning(
                "%s%s: the %s bin, %s, is partial (%d rows, which do not fill a step of %s) and is left out.",
                rows.what, rows.where(part.start) if len(rows.items) > 1 else "", name, counts.index[place],
                int(counts.iloc[place]), step,
            )  # fmt: skip
    if not keep.any():
        raise ValueError(f"{rows.what} does not fill one bin of {step}{rows.where(part.start)}, expected at least two.")
    inner = counts.to_numpy()[1:-1]
    if fixed_step(step) is not None and len(inner) > 2 and typical >= 1.5 * own:
        few = int(((inner > 0) & (inner < np.median(inner[inner > 0]) - 0.5)).sum())
        if few:
            log.warning(
                "%s: %d bins of %s hold fewer rows than the others; their mean is of those.", rows.what, few, step
            )
    return pd.DatetimeIndex(counts.index[keep]), {name: values[keep] for name, values in columns.items()}


def _edges(labels: pd.DatetimeIndex, by: Any) -> pd.DatetimeIndex:
    """Return the borders of bins, one more than there are: weeks and ends of months are called by their last day."""
    right = isinstance(by, pd.offsets.Week) or type(by).__name__ in (
        "MonthEnd", "BusinessMonthEnd", "QuarterEnd", "BQuarterEnd", "YearEnd", "BYearEnd",
    )  # fmt: skip
    if not right:
        return _joined([labels, pd.DatetimeIndex([labels[-1] + by])])
    day = pd.Timedelta(days=1)  # a bin holds its last day: it ends where the next day begins
    first = pd.DatetimeIndex([labels[0].tz_localize(None) - by])
    wall = _joined([first, labels.tz_localize(None)]) + day
    return wall.tz_localize(labels.tz, ambiguous=np.ones(len(wall), bool), nonexistent="shift_forward")


def _mean(
    rows: Rows, name: str, values: np.ndarray, row: np.ndarray, lengths: np.ndarray, there: np.ndarray, labels: Any
) -> np.ndarray:
    """Return the mean of the observed values of each bin; of categories the one value that is in it."""
    made = np.full((len(there), *values.shape[1:]), None if values.dtype == object else np.nan, dtype=values.dtype)
    if values.dtype != object:
        seen = ~np.isnan(values)
        total = np.add.reduceat(np.where(seen, values, 0.0), row, axis=0)
        count = np.add.reduceat(seen.astype(np.float64), row, axis=0)
        made[there] = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return made
    for place, begin, length in zip(np.flatnonzero(there), row, lengths, strict=True):
        own = {value for value in values[begin : begin + length] if value is not None}
        if len(own) > 1:
            raise ValueError(
                f"{rows.what} has {listed(sorted(map(str, own)))} in {name!r} in the bin of {labels[place]}, "
                "expected one category in a bin: average the table yourself, or leave the column out."
            )
        made[place] = own.pop() if own else None
    return made
