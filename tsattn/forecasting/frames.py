"""Frames and datasets at the door: whatever holds the table comes in, and the forecast goes out in the same form.

Ours. Inside there are pandas frames with a row per item and time; polars comes and goes through narwhals, an xarray
Dataset through its own frame. Forecasts leave in the long form of Chronos-2 and AutoGluon: item, timestamp,
target_name, predictions, and a column for each quantile level.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from tsattn.data import clock as clocks
from tsattn.data import grid, tables, zones
from tsattn.data.labels import with_index_columns
from tsattn.data.panel import ALONE, Panel, read_panel, to_categories
from tsattn.data.reading import Reading
from tsattn.data.specify import check_names


@dataclass(frozen=True)
class Origin:
    """In which form a table came, so that the answer can go out in it.

    Attributes:
        backend: "pandas", "xarray", or what narwhals calls the library of a frame.
        grid: Of a Dataset: whether it holds one array `values` (..., variate, time) in place of an array per column.
        items: Of a Dataset: whether it has the axis `item`.
        units: Of the columns that have one.
        names: Type of the column of items; None if there is none.
    """

    backend: str
    grid: bool = False
    items: bool = False
    units: dict[str, str] | None = None
    names: Any = None


def to_pandas(table: Any, what: str = "The table", asked: Sequence[Any] = ()) -> tuple[pd.DataFrame, Origin]:
    """Return any table as a pandas frame with a row per item and time, and where it came from.

    Args:
        table: A pandas frame, one that narwhals knows (polars, pyarrow, ...), or a Dataset: an array per column over
            (item, time) or (time), or one array `values` over (item, variate, time) or (variate, time). Named levels of
            a frame's index are columns, an index of times is the clock.
        what: For messages.
        asked: Names of columns that somebody asked for, which a named index may hold.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a Dataset has other axes.
    """
    if isinstance(table, pd.DataFrame):
        units = table.attrs.get("units")
        frame = with_index_columns(table, what, asked)
        return frame, Origin("pandas", units=dict(units) if isinstance(units, dict) else None)
    if isinstance(table, xr.Dataset):
        return _from_dataset(table, what)
    try:
        import narwhals as nw

        frame = nw.from_native(table, eager_only=True)
    except (ImportError, TypeError) as problem:
        raise TypeError(
            f"{what} is a {type(table).__name__}, expected a DataFrame (pandas, polars), an xarray Dataset, or for "
            "`predict` a tensor."
        ) from problem
    return frame.to_pandas(), Origin(str(frame.implementation.value))


def _from_dataset(table: xr.Dataset, what: str) -> tuple[pd.DataFrame, Origin]:
    arrays = table.data_vars
    if not arrays:
        raise ValueError(f"{what} has no data variable, expected one per column, or `values` (variate, time).")
    grid = set(arrays) == {"values"} and "variate" in table["values"].dims
    axes = [{"time"}, {"item", "time"}, *([{"variate", "time"}, {"item", "variate", "time"}] if grid else [])]
    for name, array in arrays.items():
        if name in ("item", "item_id", "timestamp", "quantile"):
            raise ValueError(
                f"{what} has the variable {name!r}, expected another name: the answer calls an axis or column so."
            )
        if set(array.dims) not in axes and not (set(array.dims) == {"item"} and not grid):
            raise ValueError(
                f"{what} has {name!r} over the axes {tuple(array.dims)}, expected time, or item and time; rename them, "
                "or give one array `values` (variate, time)."
            )
    units = {str(n): str(a.attrs["units"]) for n, a in arrays.items() if "units" in a.attrs}
    if grid:
        if "units" in table["values"].attrs or "unit" in table.coords:
            given = table["unit"].values if "unit" in table.coords else table["values"].attrs["units"]
            named = np.broadcast_to(np.asarray(given, dtype=object), table.sizes["variate"])
            units = {str(n): str(u) for n, u in zip(table["variate"].values, named, strict=True)}
        table = table["values"].to_dataset("variate")
    items = "item" in table.dims
    table = table.drop_vars([name for name in table.coords if name not in ("time", "item")])
    frame = table.transpose("item", "time").to_dataframe() if items else table.to_dataframe()
    frame.columns = [str(name) for name in frame.columns]
    frame = frame.reset_index().rename(columns={"time": "timestamp", "item": "item_id"})
    if not items and not pd.api.types.is_datetime64_any_dtype(frame["timestamp"].dtype):
        frame = frame.drop(columns="timestamp")
    if items:  # shorter items are filled up with NaN before or after; a gap within is a gap
        both = [str(name) for name, array in table.data_vars.items() if {"item", "time"} <= set(array.dims)]
        there = frame[both].notna().any(axis=1)
        begun = there.groupby(frame["item_id"], sort=False).cummax()
        to_come = there[::-1].groupby(frame["item_id"], sort=False).cummax()[::-1]
        frame = frame[(begun & to_come).to_numpy()]
    return frame, Origin("xarray", grid, items, units or None)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecasts with all that labels them.

    Attributes:
        items: Name of each window's item.
        times: Of every window and step, flat.
        targets: Names.
        values: (window, target, step), in the table's units.
        quantiles: (window, target, step, level), or None.
        levels: Of the quantiles.
        cutoffs: Last time that each window has read; None where every item has one window.
        truth: Actual values, (window, target, step), NaN where it is not known; None if nobody looked.
    """

    items: np.ndarray
    times: pd.Index
    targets: tuple[str, ...]
    values: Float[np.ndarray, "window target step"]
    quantiles: Float[np.ndarray, "window target step level"] | None = None
    levels: tuple[float, ...] = ()
    cutoffs: pd.Index | None = None
    truth: Float[np.ndarray, "window target step"] | None = None

    def to_frame(self, columns: tuple[str, str]) -> pd.DataFrame:
        """Return one row per item, (cutoff,) target and time; a quantile's column is called by its level ("0.1")."""
        check_names((), columns, self.levels)
        windows, targets, steps = self.values.shape
        window = np.repeat(np.arange(windows), targets * steps)
        step = np.arange(windows * steps).reshape(windows, 1, steps)
        table: dict[str, Any] = {
            columns[0]: pd.Index(self.items).take(window),  # text is taken much faster than it is made
            columns[1]: self.times.take(np.broadcast_to(step, self.values.shape).reshape(-1)),
        }
        if self.cutoffs is not None:
            table["cutoff"] = self.cutoffs.take(window)
        table["target_name"] = pd.Index(self.targets).take(np.tile(np.repeat(np.arange(targets), steps), windows))
        if self.truth is not None:
            table["target"] = self.truth.reshape(-1)
        table["predictions"] = self.values.reshape(-1)
        if self.quantiles is not None:
            for i, level in enumerate(self.levels):
                table[f"{level:.12g}"] = np.ascontiguousarray(self.quantiles[..., i]).reshape(-1)
        return pd.DataFrame(table, copy=False)

    def to_dataset(self, origin: Origin, units: dict[str, str]) -> xr.Dataset:
        """Return the forecast in the form of the Dataset that was given, quantiles along an axis of their own."""
        windows, _, steps = self.values.shape
        clock = self.times[:steps]
        if windows > 1 and not all(clock.equals(self.times[i * steps : (i + 1) * steps]) for i in range(windows)):
            raise ValueError(
                "The items end at different times, so that their forecasts have no axis in common; use `predict_df`."
            )
        zoned = getattr(clock, "tz", None) is not None
        coords: dict[str, Any] = {"item": self.items, "time": clock if zoned else np.asarray(clock)}
        if self.quantiles is not None:
            coords["quantile"] = list(self.levels)
        if origin.grid:
            coords["variate"] = list(self.targets)
            unit = {"units": next(iter(units.values()))} if len(set(units.values())) == 1 else {}
            arrays: dict[str, Any] = {"values": (("item", "variate", "time"), self.values, unit)}
            if self.quantiles is not None:
                arrays["quantiles"] = (("item", "variate", "time", "quantile"), self.quantiles, unit)
        else:
            arrays = {}
            for i, name in enumerate(self.targets):
                unit = {"units": units[name]} if name in units else {}
                arrays[name] = (("item", "time"), self.values[:, i], unit)
                if self.quantiles is not None:
                    arrays[f"{name}_quantiles"] = (("item", "time", "quantile"), self.quantiles[:, i], unit)
        dataset = xr.Dataset(arrays, coords)
        return dataset if origin.items else dataset.squeeze("item", drop=True)


def as_given(frame: pd.DataFrame, origin: Origin) -> Any:
    """Return a pandas frame in the library that the user's came from, its first column with names of items."""
    if origin.names is not None:
        frame = frame.astype({frame.columns[0]: origin.names})
    if origin.backend in ("pandas", "xarray"):
        return frame
    import narwhals as nw
    import pyarrow

    library: Any = origin.backend
    return nw.from_arrow(pyarrow.Table.from_pandas(frame, preserve_index=False), backend=library).to_native()


def values_ahead(
    future: Any,
    panel: Panel,
    names: Sequence[str],
    texts: Sequence[str],
    item: str | None,
    clock: str | Sequence[str] | None,
    steps: int,
    how: Reading,
) -> dict[str, np.ndarray]:
    """Read the known covariates of the steps that follow each item's last row.

    Args:
        future: Table with a row for each item and each of these steps; later rows are passed over.
        panel: The history.
        names: Columns of numbers.
        texts: Columns of categories.
        item: Column of items, None as in `read_panel`.
        clock: Column of times, likewise.
        steps: How many are needed.
        how: As the history was read.

    Returns:
        Columns of (item, step), flat, in the order of the panel's items.

    Raises:
        ValueError: If rows are absent or repeated, an item is not in the history, or the clock is another one.
    """
    frame, _ = to_pandas(future, "future_df")
    if not len(frame):
        raise ValueError(f"future_df has no rows, expected {steps} of each item.")
    frame = tables.with_plain_names(frame, "future_df")
    for name in (*names, *texts):
        if name not in frame.columns:
            raise ValueError(f"future_df has no column {name!r}, expected it beside {tables.listed(frame.columns)}.")
    key = item or "item_id"
    if how.resample is not None and panel.frequency:
        steps_of = dataclasses.replace(how, freq=None)
        rows = read_panel(
            frame, names, texts, item=key if key in frame.columns else None, timestamp=clock, how=steps_of,
            frequency=panel.frequency, zone=panel.zone, what="future_df",
        )  # fmt: skip
        named = {} if alone(rows.items) else {key: np.repeat(rows.items, rows.lengths)}
        frame = pd.DataFrame({**named, **rows.columns}).set_axis(rows.times)
    if key in frame.columns:
        place = pd.Index(panel.items).get_indexer(frame[key])
        rest = frame.drop(columns=key)
    elif len(panel.items) == 1:
        place, rest = np.zeros(len(frame), dtype=np.int64), frame
    else:
        raise ValueError(
            f"future_df has no column {key!r}, expected one that says of which of the {len(panel.items)} items of the "
            "history each row is."
        )
    if (place < 0).any():
        row = int((place < 0).argmax())
        raise ValueError(
            f"future_df has the item {tables.plain(frame[key].iloc[row])} in data row {row + 1}, expected one of the "
            f"history: {tables.listed(panel.items)}; leave its rows out, or add its history."
        )
    wanted = panel.times_after(steps)
    times: pd.Index | None = None
    if panel.has_clock:
        codes = place if len(panel.items) > 1 else None
        times = clocks.find(rest, clock, how.time_format, "future_df", door="panel", codes=codes, keep=names).times
        assert times is not None
        if isinstance(times, pd.DatetimeIndex) != isinstance(wanted, pd.DatetimeIndex):
            raise ValueError(
                f"future_df has times such as {times[0]}, the history such as {wanted[0]}, expected the same kind of "
                "clock."
            )
        if isinstance(times, pd.DatetimeIndex):
            asked = wanted.as_unit("ns").asi8  # type: ignore[attr-defined]
            if how.zone and times.tz is None:
                times = zones.nearest(times, how.zone, place, asked, np.repeat(np.arange(len(panel.items)), steps))
            times = zones.settle(times, how.zone, panel.zone, "future_df")[0]
            ticks = times.as_unit("ns").asi8 if how.snap is None else _near(times, place, asked, panel)
        else:
            ticks, asked = clocks.ticks(times), clocks.ticks(wanted)
    else:
        ticks = np.asarray(pd.Series(place).groupby(place).cumcount())  # in the order of the rows
        asked = np.tile(np.arange(steps), len(panel.items))
    have = pd.MultiIndex.from_arrays([place, ticks])
    if have.has_duplicates:
        row = int(have.duplicated().argmax())
        assert times is not None  # rows without times have places, each once
        whose = "" if len(panel.items) == 1 else f" of item {tables.plain(panel.items[place[row]])}"
        raise ValueError(
            f"future_df has the time {times[row]}{whose} again in data row {row + 1}, expected every time once; drop "
            "the repeated rows."
        )
    owner = np.repeat(np.arange(len(panel.items)), steps)
    found = have.get_indexer(pd.MultiIndex.from_arrays([owner, asked]))
    if (found < 0).any():
        first = int((found < 0).argmax())
        lacking = int((found[owner == owner[first]] < 0).sum())
        whose = "" if len(panel.items) == 1 else f" of item {tables.plain(panel.items[owner[first]])}"
        raise ValueError(
            f"future_df lacks {lacking} of the {steps} rows{whose} that follow the history, the first one at "
            f"{wanted[first]}, expected every step of the horizon; a value that is not known may be left empty."
        )
    ahead: dict[str, np.ndarray] = {}
    for name in names:
        values, bad = tables.to_numbers(rest[name])
        if bad is None and np.isinf(values).any():
            bad = int(np.isinf(values).argmax())
        if bad is not None:
            raise ValueError(
                f"future_df holds {tables.plain(rest[name].iloc[bad])} in column {name!r}, data row {bad + 1}, "
                "expected a finite number; leave the cell empty if the value is missing."
            )
        ahead[name] = values[found]
    for name in texts:
        ahead[name] = to_categories(rest[name])[found]
    return ahead


def _near(times: pd.DatetimeIndex, place: np.ndarray, wanted: np.ndarray, panel: Panel) -> np.ndarray:
    """Return the times of rows ahead in nanoseconds, moved to the steps asked for where these are near."""
    ticks = times.as_unit("ns").asi8.copy()
    last = panel.times[panel.begins[1:] - 1].as_unit("ns").asi8  # type: ignore[attr-defined]
    for item, asked in enumerate(wanted.reshape(len(panel.items), -1)):
        own = np.flatnonzero(place == item)
        reach = np.diff(np.append(last[item], asked)).min() // grid.REACH
        after = np.clip(np.searchsorted(asked, ticks[own] - reach), 0, len(asked) - 1)
        near = np.abs(asked[after] - ticks[own]) <= reach
        ticks[own[near]] = asked[after[near]]
    return ticks


def alone(items: np.ndarray) -> bool:
    """Return whether a panel is of a frame without items."""
    return len(items) == 1 and items[0] == ALONE
