"""Calendar marks: where in the day, week, month and year each row stands, as numbers in [-0.5, 0.5].

The features of a frequency and their scaling are those of the benchmark lineage (GluonTS's time features as used by
Informer, Autoformer and TSLib); pinned by recorded values.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

Marks = Literal["benchmark", "true", "none"]

FEATURES: dict[str, Callable[[pd.DatetimeIndex], np.ndarray]] = {
    "second": lambda t: np.asarray(t.second) / 59 - 0.5,
    "minute": lambda t: np.asarray(t.minute) / 59 - 0.5,
    "hour": lambda t: np.asarray(t.hour) / 23 - 0.5,
    "dayofweek": lambda t: np.asarray(t.day_of_week) / 6 - 0.5,
    "dayofmonth": lambda t: (np.asarray(t.day) - 1) / 30 - 0.5,
    "dayofyear": lambda t: (np.asarray(t.day_of_year) - 1) / 365 - 0.5,
    "weekofyear": lambda t: (np.asarray(t.isocalendar().week, dtype=float) - 1) / 52 - 0.5,
    "month": lambda t: (np.asarray(t.month) - 1) / 11 - 0.5,
}

_DAILY = ("dayofweek", "dayofmonth", "dayofyear")
_HOURLY = ("hour", *_DAILY)


def feature_names(frequency: str, marks: Marks = "true") -> tuple[str, ...]:
    """Name the calendar features of a table.

    Args:
        frequency: Step of the table as a pandas alias ("h", "15min", "W-TUE"); "" if the rows have no clock.
        marks: "true": the features of this frequency, finest first. "benchmark": the four hourly ones whatever the
            step, because no published script passes a frequency. "none": no feature.

    Raises:
        ValueError: If `marks` is none of these words or pandas does not know the frequency.

    Source:
        `utils/timefeatures.py` of thuml/Time-Series-Library, by its recorded values.
    """
    if marks not in ("benchmark", "true", "none"):
        raise ValueError(f'marks is "{marks}", expected "benchmark", "true" or "none".')
    if marks == "none" or not frequency:
        return ()
    offset: Any = _offset(frequency)
    if marks == "benchmark":
        return _HOURLY
    if is_fixed(offset):
        nanoseconds = pd.Timedelta(offset).value
        if nanoseconds % 86_400_000_000_000 == 0:
            return _DAILY
        if nanoseconds % 3_600_000_000_000 == 0:
            return _HOURLY
        if nanoseconds % 60_000_000_000 == 0:
            return ("minute", *_HOURLY)
        return ("second", "minute", *_HOURLY)
    kind = type(offset).__name__
    if isinstance(offset, pd.offsets.Day | pd.offsets.BusinessDay):
        return _DAILY
    if isinstance(offset, pd.offsets.BusinessHour):
        return _HOURLY
    if isinstance(offset, pd.offsets.Week):
        return ("dayofmonth", "weekofyear")
    if "Month" in kind or "Quarter" in kind:
        return ("month",)
    return ()  # years: the calendar says nothing that returns


def calendar_features(times: pd.DatetimeIndex, names: Sequence[str]) -> Float[Tensor, "mark time"]:
    """Compute the named features of every time, each in [-0.5, 0.5].

    Args:
        times: Wall-clock times; with a time zone, the local hour counts.
        names: Keys of `FEATURES`.

    Raises:
        ValueError: If a name is unknown.
    """
    for name in names:
        if name not in FEATURES:
            raise ValueError(f'No calendar feature is called "{name}", expected some of {", ".join(FEATURES)}.')
    if not names:
        return torch.zeros(0, len(times))
    return torch.from_numpy(np.stack([FEATURES[name](times) for name in names]).astype(np.float32))


def season_of(frequency: str) -> int:
    """Return the usual number of steps in a season: a day of anything shorter, a week of days, a year of the rest.

    Args:
        frequency: pandas alias; "" (no clock) has the season 1.
    """
    if not frequency:
        return 1
    offset = _offset(frequency)
    kind = type(offset).__name__
    if isinstance(offset, pd.offsets.Tick | pd.offsets.Day):
        step = pd.Timedelta(days=offset.n) if isinstance(offset, pd.offsets.Day) else pd.Timedelta(offset)
        day, week = pd.Timedelta(days=1), pd.Timedelta(days=7)
        if step < day:
            return max(round(day / step), 1)
        return 7 if step == day else 52 if step == week else 1
    if isinstance(offset, pd.offsets.BusinessDay):
        return 5
    if isinstance(offset, pd.offsets.Week):
        return 52 if offset.n == 1 else 1
    if "Month" in kind:
        return 24 if "Semi" in kind else 12 if offset.n == 1 else 1
    if "Quarter" in kind:
        return 4
    return 1


def same_step(one: str, other: str) -> bool:
    """Return whether two aliases mean the same step ("60min" and "h" do)."""
    return one == other or bool(one and other and _offset(one) == _offset(other))


MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()


def is_fixed(offset: pd.offsets.BaseOffset) -> bool:
    """Return whether a step is always as long. A day is not: with a zone, it has 23 to 25 hours.

    Before pandas 3, `Day` is a `Tick` of 24 hours, which puts every forecast after a change of daylight saving an hour
    off; from there on it is a day of the calendar.
    """
    return isinstance(offset, pd.offsets.Tick) and not isinstance(offset, pd.offsets.Day)


def as_calendar(offset: pd.offsets.BaseOffset) -> pd.offsets.BaseOffset:
    """Return the same step as one that may be added to times with a zone: days are days of the calendar."""
    return pd.DateOffset(days=offset.n) if isinstance(offset, pd.offsets.Day) else offset


def plain_quarter(name: str) -> str:
    """Return one name for the same quarters: "QS-OCT", "QS-JAN" and "QS-APR" begin on the same days."""
    kind, dash, month = name.partition("-")
    if not dash or not kind.lstrip("0123456789").startswith(("Q", "BQ")) or month not in MONTHS:
        return name
    place = MONTHS.index(month)
    first = place % 3 if "S" in kind else place % 3 + 9
    return name if kind[:1].isdigit() else f"{kind}-{MONTHS[first]}"


def _offset(frequency: str) -> pd.offsets.BaseOffset:
    try:
        return pd.tseries.frequencies.to_offset(frequency)
    except ValueError as error:
        raise ValueError(
            f'The frequency "{frequency}" is unknown to pandas, expected an alias such as "h", "15min", "D" or "W".'
        ) from error
