"""Panels: a DataFrame of many items, each with many channels, becomes one buffer with a regular clock.

Ours. A row belongs to one item and one time; a column is a target, a covariate or nothing that was asked for. The items
stand one after the other in one buffer, so a window is a slice and no frame is taken apart row by row. Nothing is
repaired in silence: what is broken is an error that names item, time and the argument that mends it.
"""

import itertools
import logging
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from tsattn import messages
from tsattn.contracts import Covariate, Fill, ForecastNetwork, TableSpec
from tsattn.data import clock as clocks
from tsattn.data import grid, keys, repeated, tables, zones
from tsattn.data.calendar import calendar_features, same_step
from tsattn.data.clock import Clock
from tsattn.data.grid import fixed_step
from tsattn.data.numbers import hint
from tsattn.data.reading import Reading
from tsattn.data.windows import Windows
from tsattn.data.wording import advice

log = logging.getLogger(__name__)

ALONE = "0"  # name of the item of a frame without items
MOST_CATEGORIES = 64  # each is a row, and in some networks a token; more is an identifier, not a category


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows of items, item by item, each in the order of time and without a hole.

    Attributes:
        items: Names, in the order of their first rows.
        begins: First row of each item, and the number of rows.
        times: Of every row; whole numbers where the clock holds such; numbers from 0 within each item without a clock.
        columns: float64, NaN where missing, or text, None where missing; by the column's name.
        frequency: Step as a pandas alias; "" without a clock of dates.
        step: Of a clock of whole numbers (years, steps); 0: there is no such clock.
        clock: Columns that the times were read from; none if they are the index, or there are none.
    """

    items: np.ndarray
    begins: Int[np.ndarray, " item_and_end"]
    times: pd.Index
    columns: Mapping[str, np.ndarray]
    frequency: str
    step: int = 0
    clock: tuple[str, ...] = ()

    @property
    def has_clock(self) -> bool:
        """Whether the times are the table's own, not numbers of rows."""
        return bool(self.frequency or self.step)

    @property
    def rows(self) -> int:
        """Of all items together."""
        return int(self.begins[-1])

    @property
    def lengths(self) -> Int[np.ndarray, " item"]:
        """Rows of each item."""
        return np.diff(self.begins)

    @property
    def zone(self) -> str:
        """Time zone of the clock; "" if it has none."""
        return zones.zone_of(self.times)

    def values(self, names: Sequence[str]) -> Float[np.ndarray, "column time"]:
        """Return columns of numbers."""
        if not names:
            return np.empty((0, self.rows))
        return np.stack([self.columns[name] for name in names])

    def times_after(self, horizon: int) -> pd.Index:
        """Return the `horizon` times after each item's last one, item by item."""
        return self._steps_from(self.begins[1:] - 1, np.full(len(self.items), horizon), 1)

    def _steps_from(self, rows: np.ndarray, counts: np.ndarray, direction: int) -> pd.Index:
        """Return so many times after (1) or before (-1) the time of each row, ascending."""
        total, first = int(counts.sum()), np.concatenate([[0], np.cumsum(counts)])[:-1]
        number = np.arange(total) - np.repeat(first, counts) + 1  # 1, 2, ... from each row on
        if direction < 0:
            number = number - np.repeat(counts, counts) - 1
        start = self.times[rows]
        if not isinstance(start, pd.DatetimeIndex):
            return pd.Index(np.repeat(np.asarray(start), counts) + number * (self.step or 1))
        fixed = fixed_step(self.frequency)
        if fixed is not None:
            step = np.timedelta64(fixed, "ns").astype(f"m8[{start.unit}]").astype(np.int64)
            return _same_clock(np.repeat(start.asi8, counts) + number * step, start)
        made: dict[tuple[Any, int], pd.DatetimeIndex] = {}
        for time, count in zip(start, counts, strict=True):
            if (time, count) not in made:
                line = grid.line(time, direction * (int(count) + 1), self.frequency)
                made[time, count] = line[1:] if direction > 0 else line[:-1]
        lines = [made[time, count].as_unit(start.unit).asi8 for time, count in zip(start, counts, strict=True)]
        return _same_clock(np.concatenate(lines), start)

    def tail(self, most: int) -> "Panel":
        """Return the last `most` rows of each item."""
        lengths = np.minimum(self.lengths, most)
        if (lengths == self.lengths).all():
            return self
        first = self.begins[1:] - lengths
        begins = np.concatenate([[0], np.cumsum(lengths)])
        rows: Any = slice(int(first[0]), int(self.begins[1]))
        if len(self.items) > 1:
            rows = np.arange(begins[-1]) + np.repeat(first - begins[:-1], lengths)
        return Panel(
            self.items,
            begins,
            self.times[rows],
            {k: v[rows] for k, v in self.columns.items()},
            self.frequency,
            self.step,
        )

    def padded(self, least: int | Int[np.ndarray, " item"]) -> "Panel":
        """Return items of at least so many rows (each): missing ones are put in front of a shorter one."""
        more = np.maximum(least - self.lengths, 0)
        if not more.any():
            return self
        short = np.flatnonzero(more)
        return self._with(more, np.zeros_like(more), self._steps_from(self.begins[short], more[short], -1), {})

    def extended(self, horizon: int, ahead: Mapping[str, np.ndarray]) -> "Panel":
        """Return items with `horizon` more rows each.

        Args:
            horizon: Rows.
            ahead: Values of some columns in these rows, item by item; the others are missing there.
        """
        more = np.full(len(self.items), horizon)
        return self._with(np.zeros_like(more), more, self.times_after(horizon), ahead)

    def _with(self, front: np.ndarray, back: np.ndarray, times: pd.Index, given: Mapping[str, np.ndarray]) -> "Panel":
        begins = np.concatenate([[0], np.cumsum(front + self.lengths + back)])
        old = np.zeros(int(begins[-1]), dtype=bool)
        place = np.arange(self.rows) + np.repeat(begins[:-1] + front - self.begins[:-1], self.lengths)
        old[place] = True
        columns: dict[str, np.ndarray] = {}
        for name, values in self.columns.items():
            columns[name] = np.full(len(old), None if values.dtype == object else np.nan, dtype=values.dtype)
            columns[name][place] = values
            if name in given:
                columns[name][~old] = given[name]
        if isinstance(self.times, pd.DatetimeIndex):
            clock = np.empty(len(old), dtype=np.int64)
            clock[place], clock[~old] = self.times.asi8, pd.DatetimeIndex(times).as_unit(self.times.unit).asi8
            return Panel(self.items, begins, _same_clock(clock, self.times), columns, self.frequency, self.step)
        count = np.empty(len(old), dtype=np.int64)
        count[place], count[~old] = np.asarray(self.times), np.asarray(times)
        return Panel(self.items, begins, pd.Index(count), columns, self.frequency, self.step)

    def constant(self, name: str, what: str = "The table") -> "Panel":
        """Return a panel in which every row of an item has the one value that a column has in it.

        Raises:
            ValueError: If it has two values in an item.
        """
        values = self.columns[name]
        item = np.repeat(np.arange(len(self.items)), self.lengths)
        there = ~pd.isna(values)
        held = np.full(len(self.items), None if values.dtype == object else np.nan, dtype=values.dtype)
        held[item[there][::-1]] = values[there][::-1]  # the first one of each
        differs = there & (values != held[item])
        if differs.any():
            row = int(differs.argmax())
            where = _of_item(self.begins, self.items, row)
            raise ValueError(
                f"{what} has {tables.plain(held[item[row]])} and {tables.plain(values[row])} in {name!r}{where}, "
                "expected one value in every item of a static covariate; declare it as past or known if it changes."
            )
        return Panel(self.items, self.begins, self.times, {**self.columns, name: held[item]}, self.frequency, self.step)


def _same_clock(ticks: np.ndarray, like: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Make times of integers in the unit and zone of others."""
    times = pd.DatetimeIndex(ticks.view(f"M8[{like.unit}]"))
    return times if like.tz is None else times.tz_localize("UTC").tz_convert(like.tz)


def read_panel(
    frame: pd.DataFrame,
    numbers: Sequence[str],
    categories: Sequence[str] = (),
    *,
    item: str | None = None,
    timestamp: str | Sequence[str] | None = None,
    how: Reading | None = None,
    frequency: str | None = None,
    zone: str | None = None,
    step: int | None = None,
    what: str = "The table",
) -> Panel:
    """Read the columns that are asked for; the frame is not changed.

    Args:
        frame: One row per item and time.
        numbers: Columns of numbers.
        categories: Columns of categories.
        item: Column of items; None: "item_id" if there is such a column, else all rows are of one item.
        timestamp: Column of times; several: day and time of day, or year, month, day, ..., to be joined; None: found (a
            DatetimeIndex, or the column that parses to times that go forward); "none": the rows are equally spaced
            and have no times.
        how: How times are written, and what is done with the clock; None: the defaults.
        frequency: Step that is expected, for items too short to show one; None: it is read off the rows.
        zone: Time zone of the training, to which times are brought, "" if they have none; None: that is not known.
        step: Step that is expected of a clock of whole numbers.
        what: For messages.

    Raises:
        ValueError: If a column is absent or not what it should be, an item has a time twice, or the clock is not
            regular or not the expected one, or only one of table and training has a zone.
    """
    how = how or Reading()
    if not len(frame):
        raise ValueError(f"{what} has no rows, expected at least one.")
    frame = tables.with_plain_names(frame, what)
    for name in (*numbers, *categories):
        if name not in frame.columns:
            raise ValueError(f"{what} has no column {name!r}, expected it beside {tables.listed(frame.columns)}.")
    codes, items, frame = _take_items(frame, item, what)
    found_clock = clocks.find(
        frame, timestamp, how.time_format, what, door="panel", codes=codes if len(items) > 1 else None, keep=numbers
    )
    times, free, likely = found_clock.times, frame.columns.drop(list(found_clock.columns)), ""
    if isinstance(times, pd.DatetimeIndex):
        written = zones.written(frame, found_clock.columns, times)
        times, likely = zones.settle(times, how.zone, zone, _inside(what), written)
    taken = next((name for name in (*numbers, *categories) if name not in free), None)
    if taken is not None:
        raise ValueError(
            f"{what} has its items or times in the column {taken!r}, expected another one as target or covariate; copy "
            "the column under another name if it is to be read, too."
        )
    order: np.ndarray | None = None
    if times is not None:
        ascending = times.is_monotonic_increasing if len(items) == 1 else None
        if not ascending and not _in_order(codes, clocks.ticks(times)):
            order = np.lexsort((clocks.ticks(times), codes))
    elif len(items) > 1 and (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
    columns = {name: _numbers(frame[name], name, codes, items, times, what) for name in numbers}
    columns |= {name: to_categories(frame[name]) for name in categories}
    if order is not None:
        codes = codes[order]
        times = None if times is None else times[order]
        columns = {name: values[order] for name, values in columns.items()}
    counts = np.bincount(codes, minlength=len(items)) if len(items) > 1 else np.array([len(codes)])
    begins = np.concatenate([[0], np.cumsum(counts)])
    if times is None:
        if how.freq is not None and frequency is None:
            raise ValueError(
                f"{what} has no times that {messages.option('freq', how.freq)} could be a step of, expected some; "
                f"{advice('panel', 'name their column by {timestamp}')}."
            )
        position = np.arange(len(codes)) - np.repeat(begins[:-1], counts)
        return Panel(items, begins, pd.Index(position), columns, "")
    if not how.drop_duplicates and how.resample is None:
        _refuse_repeated(times, begins, items, what, frame, found_clock)
    if not isinstance(times, pd.DatetimeIndex):
        if frequency:
            raise ValueError(
                f"{what} has whole numbers as times ({times[0]}, ...), expected dates of the step {frequency}, that of "
                "the training; bring them there by `pandas.to_datetime`."
            )
        if how.snap is not None or how.resample is not None:
            raise ValueError(
                f"{what} has whole numbers as times ({times[0]}, ...), expected dates to snap or resample by."
            )
        whole = Panel(items, begins, times, columns, "", clock=found_clock.columns)
        return _counted(whole, how.freq, step, what)
    if step:
        raise ValueError(
            f"{what} has dates as times ({times[0]}, ...), expected whole numbers of the step {step}, as in the "
            f"training; {advice('panel', 'name their column by {timestamp}')}."
        )
    rows = grid.bring(grid.Rows(times, begins, columns, items, what, zone=likely), how)
    times, begins, columns = rows.times, rows.begins, dict(rows.columns)
    found = grid.step_of(rows, frequency) or frequency or how.freq or ""
    if not found and frequency is None:
        raise ValueError(f"{what} has one row per item, expected at least two in one of them to know the step.")
    if frequency is not None and not same_step(found, frequency):
        ways = grid.ways_to(frequency, found)
        raise ValueError(
            f"{what} has the step {found or 'unknown'}, expected {frequency or 'rows without a clock'}, that of the "
            f"training; {ways}."
        )
    return Panel(items, begins, times, columns, frequency or how.freq or found, clock=found_clock.columns)


def _inside(what: str) -> str:
    """Return the name of a table as it is inside a sentence."""
    return what.replace("The table", "the table", 1)


# What stands in the known rows -----------------------------------------------------------------------------------


def is_category(column: pd.Series) -> bool:
    """Return whether a column of covariates holds categories: text, or pandas' own type.

    Truth values are the numbers 0 and 1, and so are objects that are numbers (Decimal) or truth values with gaps.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    if column.dtype != object:
        return True
    there = column.dropna()
    return not len(there) or not all(isinstance(value, (numbers.Number, np.bool_, Decimal)) for value in there)


def fit_covariate(
    name: str, role: Any, values: np.ndarray, is_text: bool, mend: str = "leave it out, or choose another `val_size`"
) -> Covariate:
    """Learn what a covariate's rows need: its categories, or mean and deviation.

    Args:
        name: Of the column.
        role: As in `Covariate`.
        values: Of the training rows.
        is_text: Whether it holds categories.
        mend: What to do about a column without a value.

    Raises:
        ValueError: If there is no value, or there are more categories than rows are worth.
    """
    if not is_text:
        mean, scale = statistics(name, values, mend)
        return Covariate(name, role, None, mean, scale)
    there = values[~pd.isna(values)]
    found, counts = np.unique(there.astype(str), return_counts=True)
    if not len(found):
        raise ValueError(f"Column {name!r} has no value in the training rows, expected some categories.")
    if len(found) > MOST_CATEGORIES:
        raise ValueError(
            f"Column {name!r} has {len(found)} categories, expected at most {MOST_CATEGORIES}: group the rare ones, or "
            "encode it as numbers."
        )
    return Covariate(name, role, tuple(map(str, found)), shares=tuple(map(float, counts / len(there))))


def statistics(
    name: str, values: Float[np.ndarray, " time"], mend: str = "leave it out, or choose another `val_size`"
) -> tuple[float, float]:
    """Return mean and standard deviation (ddof 0) of what is observed in training rows; 1 for the latter if constant.

    Args:
        name: Of the column.
        values: NaN where missing.
        mend: What to do about a column without a value.

    Raises:
        ValueError: If nothing is observed.
    """
    seen = values[~np.isnan(values)]
    if not len(seen):
        raise ValueError(
            f"Column {name!r} has no value in the {len(values)} training rows, expected some to learn from; {mend}."
        )
    mean, scale = float(seen.mean()), float(seen.std())
    if scale <= 10 * np.finfo(np.float64).eps * abs(mean):
        log.warning("Column %r is constant in the training rows; its scale is set to 1.", name)
        scale = 1.0
    return mean, scale


def known_rows(
    spec: TableSpec, columns: Mapping[str, np.ndarray], times: pd.Index, what: str = "The table"
) -> Float[Tensor, "known time"] | None:
    """Return the rows of `Batch.known` for some rows of a table, in the order of `TableSpec.known_rows`.

    Numbers are standardised, NaN where missing. The row of a category is what a column of numbers would be that is 1
    where the column has it, else 0; rows that have no level are 0 and 1, and 0 where the column is missing. Ahead of a
    column that ends with the context all are 0, which whoever cuts the windows sees to.

    Raises:
        ValueError: If a category was not seen in training, or marks are read and there are no times.
    """
    parts: list[np.ndarray] = []
    for covariate in spec.covariates:
        values = columns[covariate.name]
        if covariate.categories is None:
            parts.append(((values - covariate.mean) / covariate.scale)[None].astype(np.float32))
            continue
        code = check_categories(covariate, values, times, what)
        rows = (code == np.arange(covariate.rows)[:, None]).astype(np.float64)
        if covariate.has_level:
            mean, scale = np.array(covariate.statistics).T[..., None]
            gap = math.nan if covariate.role == "known" else 0.0
            rows = np.where(code < 0, gap, (rows - mean) / scale)
        parts.append(rows.astype(np.float32))
    if spec.marks:
        if not isinstance(times, pd.DatetimeIndex):
            raise ValueError(
                f"{what} has no times, expected some, because the forecaster reads the calendar "
                f"({', '.join(spec.marks)}); {messages.advice('name their column by {timestamp}')}."
            )
        place, distinct = pd.factorize(times)  # items share their times
        parts.append(calendar_features(pd.DatetimeIndex(distinct), spec.marks).numpy()[:, place])
    return torch.from_numpy(np.concatenate(parts)) if parts else None


def check_known(known: Float[Tensor, "*batch known time"] | None, network: ForecastNetwork, spec: TableSpec) -> None:
    """Raise ValueError if something is missing in known rows of a network that cannot read that."""
    if known is None or not network.reads_known or network.future_covariates is not None:
        return
    missing = known.isnan().any(-1).reshape(-1, known.shape[-2]).any(0)
    if missing.any():
        name = spec.known_rows[int(missing.nonzero()[0, 0])]
        raise ValueError(
            f"{name!r} is missing somewhere, and {type(network).__name__} reads no gaps in static covariates: fill it, "
            "or take a network that does (itransformer, timexer)."
        )


def check_categories(
    covariate: Covariate, values: np.ndarray, times: pd.Index, what: str = "The table"
) -> Int[np.ndarray, " time"]:
    """Return the place of each row's category; -1 where it is missing.

    Raises:
        ValueError: If a category was not seen in training.
    """
    assert covariate.categories is not None
    code = pd.Index(covariate.categories, dtype=object).get_indexer(pd.Index(values, dtype=object))
    unseen = (code < 0) & ~pd.isna(values)
    if unseen.any():
        row = int(unseen.argmax())
        when = f" at {times[row]}" if isinstance(times, pd.DatetimeIndex) else ""
        raise ValueError(
            f"{what} has {values[row]!r} in {covariate.name!r}{when}, which training never saw, expected one of "
            f"{tables.listed(covariate.categories)}; leave the cell empty if none of them fits."
        )
    return code


def hidden_rows(spec: TableSpec) -> slice:
    """Return which rows of `Batch.known` end with the context: the categories that are not known ahead."""
    begin = sum(c.rows for c in spec.covariates if c.role == "known")
    return slice(begin, begin + sum(c.rows for c in spec.covariates if c.role == "past"))


def filled(panel: Panel, names: Sequence[str], fill: Fill) -> Panel:
    """Fill the gaps of some columns, item by item; see `tables.fill_missing`."""
    if fill == "none":
        return panel
    columns = dict(panel.columns)
    for name in names:
        parts = [
            tables.fill_missing(xr.DataArray(panel.columns[name][begin:end], dims="time"), fill).values
            for begin, end in itertools.pairwise(panel.begins)
        ]
        columns[name] = np.concatenate(parts)
    return Panel(panel.items, panel.begins, panel.times, columns, panel.frequency, panel.step)


def make_windows(panel: Panel, spec: TableSpec, context: int, horizon: int, *, what: str = "The table") -> Windows:
    """Standardise a panel and return its windows; those that cross from one item to the next are nobody's.

    Args:
        panel: With the columns of `spec`.
        spec: Statistics, covariates and marks.
        context: Steps read.
        horizon: Steps predicted.
        what: For messages.

    Raises:
        ValueError: As `known_rows`.
    """
    for covariate in spec.covariates:
        if covariate.role == "static":
            panel = panel.constant(covariate.name, what)
    values = spec.standardise(torch.from_numpy(panel.values(spec.variates)))
    truth = None
    if spec.fill != "none" and values.isnan().any():
        truth = values[: spec.targets]
        if spec.fill == "linear":
            log.warning("fill: linear looks past each gap, so a context may hold something of its own future.")
        values = spec.standardise(torch.from_numpy(filled(panel, spec.variates, spec.fill).values(spec.variates)))
    missing = values.isnan()
    return Windows(
        values,
        spec.targets,
        context,
        horizon,
        known_rows(spec, panel.columns, panel.times, what),
        ~missing if missing.any() else None,
        truth,
        hidden_rows(spec),
    )


# Reading ---------------------------------------------------------------------------------------------------------


def _take_items(frame: pd.DataFrame, item: str | None, what: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    if item is not None and item not in frame.columns:
        raise ValueError(f"{what} has no column {item!r} of items, expected it beside {tables.listed(frame.columns)}.")
    if item is None and "item_id" not in frame.columns:
        return np.zeros(len(frame), dtype=np.int64), np.array([ALONE], dtype=object), frame
    name = item or "item_id"
    codes, items = pd.factorize(frame[name])
    if (codes < 0).any():
        raise ValueError(f"{what} has no item in data row {int(np.argmax(codes < 0)) + 1}, expected one in {name!r}.")
    return codes.astype(np.int64), np.asarray(items), frame.drop(columns=name)


def _in_order(codes: np.ndarray, times: np.ndarray) -> bool:
    """Whether rows stand item by item and in the order of time."""
    step = np.diff(codes)
    return bool((step >= 0).all() and (np.diff(times)[step == 0] >= 0).all())


def _numbers(
    column: pd.Series, name: str, codes: np.ndarray, items: np.ndarray, times: pd.Index | None, what: str
) -> np.ndarray:
    values, bad = tables.to_numbers(column)
    if bad is None and np.isfinite(values.sum()):
        return values
    if bad is None and np.isinf(values).any():
        bad = int(np.argmax(np.isinf(values)))
    if bad is None:
        return values
    where = "" if len(items) == 1 else f" of item {tables.plain(items[codes[bad]])}"
    when = "" if times is None else f" at {times[bad]}"
    cell = column.iloc[bad]
    raise ValueError(
        f"{what} holds {tables.plain(cell)} in column {name!r}, data row {bad + 1}{where}{when}, expected "
        f"a finite number; {hint(cell)}leave the cell empty if the value is missing, or declare a column of "
        "categories as a covariate."
    )


def to_categories(column: pd.Series) -> np.ndarray:
    """Return text, None where missing."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # whole numbers that became floats because one is missing
    values = column.astype(object).to_numpy()
    missing = np.asarray(pd.isna(column))
    plain, codes = np.unique(np.where(missing, "", values).astype(str), return_inverse=True)
    result = plain.astype(object)[codes]
    result[missing] = None
    return result


# The clock -------------------------------------------------------------------------------------------------------


def _refuse_repeated(
    times: pd.Index, begins: np.ndarray, items: np.ndarray, what: str, frame: pd.DataFrame, found: Clock
) -> None:
    again = np.diff(clocks.ticks(times)) == 0
    again[begins[1:-1] - 1] = False
    if again.any():
        row = int(np.argmax(again)) + 1
        told = (
            f"{what} has the time {times[row]} twice{_of_item(begins, items, row)}, expected every time once in an item"
        )
        if len(items) == 1 and found.times is not None:
            other = repeated.other_clock(frame, found, "panel")
            key = [] if other else keys.likely_keys(frame, clocks.ticks(found.times), found.columns)
            if other or key:
                raise ValueError(f"{told}; {other or repeated.of_key(frame, key, found, 'panel')}.")
        ways = ("keep the first rows by {drop_duplicates}", "name the column of items by {item_id}")
        raise ValueError(f"{told}; {advice('panel', *ways, drop_duplicates=True)}.")


def _counted(panel: Panel, freq: str | None, expected: int | None, what: str) -> Panel:
    """Check the step of a clock of whole numbers; with `freq`, absent rows become missing ones."""
    times, begins = np.asarray(panel.times), panel.begins
    within = np.ones(max(len(times) - 1, 0), dtype=bool)
    within[begins[1:-1] - 1] = False
    steps = np.diff(times)[within]
    if freq is not None:
        if not str(freq).isdigit() or int(freq) < 1:
            raise ValueError(
                f"freq is {freq!r}, expected a whole number such as '1', because the times of {what.lower()} are whole "
                "numbers."
            )
        usual = int(freq)
        off = within & (np.diff(times) % usual != 0)
        if off.any():
            row = int(off.argmax())
            raise ValueError(
                f"{what} steps from {times[row]} to {times[row + 1]}{_of_item(begins, panel.items, row)}, expected a "
                f"multiple of {messages.option('freq', freq)}."
            )
        panel = _spread(panel, usual)
    elif len(steps):
        found, counts = np.unique(steps, return_counts=True)
        usual = int(found[counts.argmax()])
        wrong = within & (np.diff(times) != usual)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{what} steps from {times[row]} to {times[row + 1]}{_of_item(begins, panel.items, row)}, expected a "
                f"regular step of {usual}; {advice('panel', 'take absent rows as missing by {freq}', freq=str(usual))}."
            )
    else:
        if expected is None:
            raise ValueError(f"{what} has one row per item, expected at least two in one of them to know the step.")
        usual = expected
    if expected is not None and usual != expected:
        raise ValueError(
            f"{what} has the step {usual}, expected {expected or 'rows without a clock'}, that of the training; bring "
            "its rows there."
        )
    return Panel(panel.items, panel.begins, panel.times, panel.columns, "", usual, panel.clock)


def _spread(panel: Panel, step: int) -> Panel:
    """Put every item's rows on a grid of whole numbers from its first time on; absent rows are missing."""
    times, begins = np.asarray(panel.times), panel.begins
    first, last = times[begins[:-1]], times[begins[1:] - 1]
    lengths = (last - first) // step + 1
    if lengths.sum() > 100 * len(times) + 10_000:
        raise ValueError(
            f"The table has {len(times)} rows and {int(lengths.sum())} steps of {step}, expected most of them to be "
            "there."
        )
    ends = np.cumsum(lengths)
    offset = np.repeat(ends - lengths, np.diff(begins))
    place = offset + (times - np.repeat(first, np.diff(begins))) // step
    number = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    columns: dict[str, np.ndarray] = {}
    for name, values in panel.columns.items():
        columns[name] = np.full(ends[-1], None if values.dtype == object else np.nan, dtype=values.dtype)
        columns[name][place] = values
    return Panel(
        panel.items,
        np.concatenate([[0], ends]),
        pd.Index(np.repeat(first, lengths) + number * step),
        columns,
        "",
        clock=panel.clock,
    )


def _of_item(begins: np.ndarray, items: np.ndarray, row: int) -> str:
    return "" if len(items) == 1 else f" in item {tables.plain(items[int(np.searchsorted(begins, row, 'right')) - 1])}"
