"""Time zones of a table: the zone in which a clock is read, and the zone that changing offsets point to.

Ours. A network reads the hour of the day, so the same instants have to be read in the zone of its training, in
whatever zone they are written. One rule for all doors: a zone that is said holds; else that of the training; else that
of the table. Times whose offsets change belong to a zone that they do not name; they are read as UTC, which is said.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsattn import messages

log = logging.getLogger(__name__)

_OFFSET = re.compile(r"(?:(Z)|([+-])(\d\d):?(\d\d)?)$")
_USUAL = (
    "Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney",
)  # fmt: skip


def settle(
    times: pd.DatetimeIndex, said: str | None, training: str | None, what: str, offsets: np.ndarray | None = None
) -> tuple[pd.DatetimeIndex, str]:
    """Bring times to the zone in which they are read.

    Args:
        times: With a zone or without one.
        said: Zone that the caller named; times without a zone are of it.
        training: Zone of the training, "" if its clock has none; None: not known, or there is no training yet.
        what: For messages.
        offsets: As `offsets_of` returns them; None: they do not change.

    Returns:
        The times, and the zone that changing offsets point to while nobody named one; "" if there is none.

    Raises:
        ValueError: If a zone is unknown, or only one of table and training has a zone.
    """
    if said:
        times = _in_zone(times, said, what)
    if training is None:
        if offsets is not None and not said:
            zone = likely_zone(times, offsets)
            way = messages.advice("to read them in their zone, say {zone}", zone=zone) if zone else ""
            log.warning(
                "The times of %s have the offsets %s, which change: they are read as UTC, so hours and days are those "
                "of UTC%s.",
                what, _named(offsets), f"; {way}" if way else "",
            )  # fmt: skip
            return times, zone
        return times, ""
    own = zone_of(times)
    if own == training:
        return times, ""
    if own and training:
        return times.tz_convert(training), ""
    if own:
        way = "" if messages.on_command_line() else " (`dt.tz_localize(None)`)"
        raise ValueError(
            f"The times of {what} are in the zone {own}, those of the training have none, expected times without a "
            f"zone: write them without it{way}, or train on times in a zone."
        )
    way = messages.advice("say that they are of it by {zone}", zone=training) if messages.on_command_line() else ""
    raise ValueError(
        f"The times of {what} have no zone, those of the training are in {training}, expected times in a zone: "
        f"{way or f'say that they are of it by `dt.tz_localize({training!r})`'}."
    )


def zone_of(times: Any) -> str:
    """Return the name of the zone of times, such that pandas knows it; "" if they have none, or are no times."""
    zone = getattr(times, "tz", None)
    if zone is None:
        return ""
    fixed = zone.utcoffset(None)
    if fixed is not None and str(zone) != "UTC":
        minutes = int(fixed.total_seconds()) // 60
        return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"
    if str(zone).startswith("tzfile("):  # of dateutil
        place = str(zone)[len("tzfile(") :].strip("()'\"")
        return place.split("zoneinfo/")[-1]
    return str(zone)


def written(frame: pd.DataFrame, columns: Sequence[str], times: pd.DatetimeIndex) -> np.ndarray | None:
    """Return the offsets as they are written in the clock's column, if they change; see `offsets_of`."""
    return offsets_of(frame[columns[0]]) if len(columns) == 1 and zone_of(times) == "UTC" else None


def offsets_of(column: pd.Series | None) -> np.ndarray | None:
    """Return the offset from UTC of each time as it is written, in seconds; None if it is the same in every row."""
    if column is None or column.dtype.kind in "biufM" or isinstance(column.dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
        return None
    first = column.iloc[0] if len(column) else None
    if isinstance(first, str) and ":" in first:  # a date alone, such as 2024-01-02, ends like an offset
        codes, endings = pd.factorize(column.astype(str).str.strip().str[-6:])
        found = np.array([_offset(ending) for ending in endings])[codes]
    elif hasattr(first, "utcoffset"):
        given = [cell.utcoffset() if hasattr(cell, "utcoffset") else None for cell in column]
        found = np.array([np.nan if offset is None else offset.total_seconds() for offset in given])
    else:
        return None
    if np.isnan(found).any() or (found == found[0]).all():
        return None
    return found.astype(np.int64)


def _offset(ending: str) -> float:
    """Return the seconds of an offset at the end of a text; NaN if there is none."""
    match = _OFFSET.search(ending)
    if match is None:
        return np.nan
    seconds = 0 if match[1] else int(match[3]) * 3600 + int(match[4] or 0) * 60
    return float(-seconds if match[2] == "-" else seconds)


def likely_zone(times: pd.DatetimeIndex, offsets: np.ndarray) -> str:
    """Return a zone whose offsets at some instants are these; "" if there is none."""
    import zoneinfo

    order = np.argsort(times.asi8, kind="stable")
    instants, wanted = times[order].as_unit("ns"), offsets[order]
    change = np.flatnonzero(np.diff(wanted))
    some = np.unique(np.r_[0, change, change + 1, np.linspace(0, len(wanted) - 1, 24).astype(int)])
    utc = pd.DatetimeIndex(instants[some].asi8.view("M8[ns]"))
    others = sorted(name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
    for name in (*_USUAL, *others):
        wall = utc.tz_localize("UTC").tz_convert(name).tz_localize(None)
        if (((wall.asi8 - utc.asi8) // 1_000_000_000) == wanted[some]).all():
            return name
    return ""


def _in_zone(times: pd.DatetimeIndex, zone: str, what: str) -> pd.DatetimeIndex:
    """Convert times to a zone, or say that times without one are of it."""
    try:
        return times.tz_convert(zone) if times.tz is not None else _localized(times, zone, what)
    except (KeyError, OSError) as problem:
        raise ValueError(f"There is no time zone {zone!r}, expected a name such as Europe/Berlin or UTC.") from problem
    except (ValueError, TypeError) as problem:
        raise ValueError(
            f"The times of {what} cannot be times of {zone} ({str(problem).splitlines()[0]}), expected every hour as "
            "clocks there show it, with both hours when they are put back: is it the zone of the table?"
        ) from problem


def _localized(times: pd.DatetimeIndex, zone: str, what: str) -> pd.DatetimeIndex:
    """Say that times are of a zone; an hour that clocks show twice is told apart by the order of the rows.

    Where only one of the two hours is there, at an end of the table, it is the one next to the other rows, which is
    logged.
    """
    first = times.tz_localize(zone, ambiguous=np.ones(len(times), dtype=bool))
    second = times.tz_localize(zone, ambiguous=np.zeros(len(times), dtype=bool))
    unsure = first.asi8 != second.asi8
    if not unsure.any():
        return first
    try:
        return times.tz_localize(zone, ambiguous="infer")
    except ValueError:
        sure = np.flatnonzero(~unsure)
        if not len(sure):
            raise
        begin, end = int(sure[0]), int(sure[-1]) + 1
        earlier = np.ones(len(times), dtype=bool)
        earlier[:begin] = False
        for alone in (slice(0, begin), slice(end, None)):
            if (np.diff(times[alone].asi8) <= 0).any():  # both hours are there
                begin, end = (0, end) if alone.start == 0 else (begin, len(times))
        between = times[begin:end].tz_localize(zone, ambiguous="infer")
        earlier[begin:end] = between.asi8 == first[begin:end].asi8
        for row, which in ((0, "second"), (len(times) - 1, "first")):
            if not begin <= row < end:
                log.warning(
                    "Clocks in %s show %s twice, and %s has it once, at its end: it is taken as the %s of the two.",
                    zone, times[row], what, which,
                )  # fmt: skip
        return times.tz_localize(zone, ambiguous=earlier)


def nearest(
    times: pd.DatetimeIndex, zone: str, owner: np.ndarray, wanted: np.ndarray, of: np.ndarray
) -> pd.DatetimeIndex:
    """Say that times without a zone are of one, those that clocks show twice such that they are the ones wanted.

    Args:
        times: As clocks in the zone show them.
        zone: Its name.
        owner: Item of each time.
        wanted: Instants, in nanoseconds since 1970.
        of: Item of each.

    Returns:
        The times with the zone; as they were if they cannot be times of it, for `settle` to refuse.
    """
    try:
        first, second = (times.tz_localize(zone, ambiguous=np.full(len(times), which)) for which in (True, False))
    except (KeyError, OSError, ValueError, TypeError):
        return times
    unsure = np.flatnonzero(first.asi8 != second.asi8)
    earlier = np.ones(len(times), dtype=bool)
    shown = pd.DataFrame({"item": owner, "time": times}).groupby(["item", "time"])
    number, several = shown.cumcount().to_numpy(), shown["time"].transform("size").to_numpy() > 1
    one, other = (index.as_unit("ns").asi8 for index in (first, second))
    for row in unsure:
        if several[row]:
            earlier[row] = number[row] == 0
        else:
            near = wanted[of == owner[row]]
            earlier[row] = np.abs(near - one[row]).min() <= np.abs(near - other[row]).min()
    return times.tz_localize(zone, ambiguous=earlier)


def _named(offsets: np.ndarray) -> str:
    """Return offsets as they are written: "+01:00, +02:00"."""
    seconds = [int(value) for value in pd.unique(offsets)[:3]]
    return ", ".join(f"{'-' if s < 0 else '+'}{abs(s) // 3600:02d}:{abs(s) % 3600 // 60:02d}" for s in seconds)
