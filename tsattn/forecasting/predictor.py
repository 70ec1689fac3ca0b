"""A trained network at work: rows of a table become windows, windows become forecasts in the table's units.

Ours. `Forecaster` is the door to it; explanations and plots use it, too. It neither trains nor saves.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn import messages
from tsattn.contracts import Batch, ForecastNetwork, TableSpec
from tsattn.data import panel as panels
from tsattn.data import tables
from tsattn.data.panel import Panel
from tsattn.data.reading import Reading
from tsattn.data.windows import Windows
from tsattn.forecasting import frames, paths
from tsattn.forecasting.frames import Forecast, Origin
from tsattn.forecasting.recipes import whole
from tsattn.quantiles import at_levels, check_levels

log = logging.getLogger(__name__)

SERIES = 16384  # that a network is given at a time: windows x (variates + known rows)


class Predictor:
    """A trained network and what it must know of its table.

    Args:
        network: In eval mode.
        spec: Of the table it was trained on.
    """

    def __init__(self, network: ForecastNetwork, spec: TableSpec) -> None:
        self.network, self.spec = network, spec
        self.context, self.horizon = network.context, network.horizon
        self.reading = Reading.of(spec)
        self.levels = network.levels or ()

    def unit(self, name: str) -> str:
        """Return the unit of a column; "" if it has none."""
        return dict(zip(self.spec.variates, self.spec.units, strict=False)).get(name, "")

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def forecast(
        self,
        data: Any,
        future_df: Any = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> tuple[Forecast, Origin]:
        """See `Forecaster.predict_df`."""
        spec = self.spec
        steps = self.horizon if horizon is None else whole("horizon", horizon)
        levels = self._levels(quantile_levels)
        panel, origin = self.read(data, item_id, timestamp, freq)
        panel = self._context(panel)
        windows, starts, times = self._windows_ahead(panel, future_df, steps, item_id, timestamp)
        values, quantiles = self._run(windows, starts, steps, levels)
        return Forecast(panel.items, times, spec.target_names, values, quantiles, levels), origin

    @torch.no_grad()
    def of_tensors(
        self, past: Float[Tensor, "batch variate context"], known: Float[Tensor, "batch known total"] | None
    ) -> Float[Tensor, "batch target horizon level"]:
        """See `Forecaster.predict_quantiles`."""
        network, spec = self.network, self.spec
        if past.ndim != 3 or not len(past):
            raise ValueError(f"past has the shape {tuple(past.shape)}, expected (batch, variate, context).")
        if known is not None and not isinstance(known, Tensor):
            raise ValueError(f"known is a {type(known).__name__}, expected a tensor, as past is.")
        scaled = spec.standardise(past.to(self.device))
        rows = len(spec.known_rows) if network.reads_known else 0
        if known is not None and known.shape[1] != len(spec.known_rows):
            raise ValueError(
                f"known has {known.shape[1]} rows, expected the {len(spec.known_rows)} of `spec.known_rows`: "
                f"{tables.listed(spec.known_rows)}; `inputs` makes them from a table."
            )
        ahead: Tensor | None = None
        if known is not None and rows:
            mean, scale = torch.tensor(spec.known_statistics, dtype=torch.float64, device=self.device).T[..., None]
            ahead = ((known.to(self.device) - mean) / scale).float()
            ahead[:, panels.hidden_rows(spec), self.context :] = 0.0
        elif rows:
            log.warning(
                "The forecaster reads %d rows beside the variates (%s, ...), which were not given: they are missing.",
                rows,
                spec.known_rows[0],
            )
            if network.future_covariates is not None:
                ahead = scaled.new_full((len(scaled), rows, self.context + self.horizon), math.nan)
        missing = scaled.isnan()
        observed = ~missing if missing.any() else None
        self._refuse_missing(observed, ahead)
        forecast = self.ask(scaled, ahead, observed)
        return spec.restore(forecast if network.levels is not None else forecast[..., None]).to(
            past.device, past.dtype if past.is_floating_point() else torch.float32
        )

    def inputs(
        self, data: Any, future_df: Any = None, **columns: Any
    ) -> tuple[Float[Tensor, "item variate context"], Float[Tensor, "item known total"] | None]:
        """See `Forecaster.inputs`."""
        batch, _ = self.last_windows(data, future_df, **columns)
        scale, mean = (torch.tensor(x, device=self.device)[:, None] for x in (self.spec.scale, self.spec.mean))
        past = batch.past * scale + mean
        if batch.known is None or not self.network.reads_known:
            return past, None
        mean, scale = torch.tensor(self.spec.known_statistics, device=self.device).T[..., None]
        return past, batch.known * scale + mean

    def backtest(
        self,
        data: Any,
        *,
        windows: int | None,
        step: int | None,
        horizon: int | None,
        quantile_levels: Sequence[float] | None,
        item_id: str | None,
        timestamp: str | Sequence[str] | None,
        freq: str | None,
    ) -> tuple[Forecast, Origin]:
        """See `Forecaster.backtest`."""
        spec = self.spec
        steps = self.horizon if horizon is None else whole("horizon", horizon)
        stride = steps if step is None else whole("step", step)
        windows = None if windows is None else whole("windows", windows)
        levels = self._levels(quantile_levels)
        panel, origin = self.read(data, item_id, timestamp, freq)
        item, starts = self._cutoffs(panel, windows, stride, steps)
        blocks = -(-steps // self.horizon) * self.horizon
        longer = panel if blocks == steps else panel.extended(blocks - steps, {})  # only to cut whole blocks from
        moved = starts + (longer.begins[:-1] - panel.begins[:-1])[item]
        buffer = panels.make_windows(longer, spec, self.context, blocks)
        values, quantiles = self._run(buffer, torch.from_numpy(moved), steps, levels)
        first = starts + self.context
        rows = (first[:, None] + np.arange(steps)).reshape(-1)
        truth = panel.values(spec.target_names)[:, rows].reshape(spec.targets, -1, steps).transpose(1, 0, 2)
        forecast = Forecast(
            panel.items[item], panel.times.take(rows), spec.target_names, values, quantiles, levels,
            cutoffs=panel.times.take(first - 1), truth=np.ascontiguousarray(truth),
        )  # fmt: skip
        return forecast, origin

    def columns(
        self, frame: pd.DataFrame, item: str | None, clock: str | Sequence[str] | None
    ) -> tuple[str | None, str | Sequence[str] | None]:
        """Return the columns of items and times: as asked for, else as in the training if they are there."""
        spec = self.spec
        names = {str(name).strip() for name in frame.columns} - set(spec.columns_read)
        if item is None and spec.columns[0] in names:
            item = spec.columns[0]
        if clock is None:
            names_of = self.reading.within(names).timestamp
            clock = (names_of or (spec.columns[1] if spec.columns[1] in names else None)) if self.has_clock else "none"
        return item, clock

    @property
    def has_clock(self) -> bool:
        """Whether the table of the training had a clock."""
        return bool(self.spec.frequency or self.spec.step)

    @property
    def zone(self) -> str | None:
        """Zone of the clock in the training, "" if it has none; None if that is not known or there is no clock."""
        return self.spec.zone if self.spec.frequency else None

    def wide(
        self, frame: pd.DataFrame, clock: str | Sequence[str] | None, what: str
    ) -> tuple[pd.DataFrame, str | Sequence[str] | None]:
        """Return a long table, as the training's was, with a column per variate, and its clock; a wide one as it is."""
        how = self.reading.within(str(name).strip() for name in frame.columns)
        if how.variate_column is None:
            return frame, clock
        name = self.spec.columns[1]
        asked = tuple(clock) if clock is not None and not isinstance(clock, str) else clock
        return tables.spread(frame, dataclasses.replace(how, timestamp=asked or how.timestamp), what, name), name

    def names(self, item: str | None, clock: str | Sequence[str] | None) -> tuple[str, str]:
        """Return what the columns of items and times are called in an answer."""
        return item or self.spec.columns[0], clock if isinstance(clock, str) and clock != "none" else self.spec.columns[
            1
        ]

    def read(
        self, data: Any, item: str | None, clock: str | Sequence[str] | None, freq: str | None
    ) -> tuple[Panel, Origin]:
        """Return the columns that the network needs, checked against the table that it was trained on.

        Raises:
            ValueError: As `read_panel`; or if the clock's zone is another one and the network reads the calendar.
        """
        spec = self.spec
        frame, origin = frames.to_pandas(data, asked=(item, clock, *spec.columns))
        frame, clock = self.wide(frame, clock, "The table")
        item, clock = self.columns(frame, item, clock)
        key = next((name for name in frame.columns if str(name).strip() == (item or "item_id")), None)
        origin = origin if key is None else dataclasses.replace(origin, names=frame[key].dtype)
        numbers = [*spec.variates, *(c.name for c in spec.covariates if c.categories is None)]
        texts = [c.name for c in spec.covariates if c.categories is not None]
        how = self.reading.within(frame.columns)
        how = how if freq is None else dataclasses.replace(how, freq=freq)
        panel = panels.read_panel(
            frame, numbers, texts, item=item, timestamp=clock, how=how, frequency=spec.frequency, zone=self.zone,
            step=spec.step, what="The table",
        )  # fmt: skip
        for covariate in spec.covariates:
            if covariate.role == "static":  # in whichever of an item's rows it stands
                panel = panel.constant(covariate.name, "The table")
        return panel, origin

    def _context(self, panel: Panel) -> Panel:
        """Return the rows that are read to forecast what follows, their gaps filled as in the training."""
        read = panels.filled(panel, self.spec.variates, self.spec.fill).tail(self.context)
        self._tell_of_short_items(read)
        return read

    def history(self, data: Any, item: Any, names: Sequence[str], steps: int, columns: tuple[str, str]) -> pd.DataFrame:
        """Return the last rows of one item, by time; `columns` are the forecast's of items and times."""
        given = {str(name).strip() for name in frames.to_pandas(data, asked=columns)[0].columns}
        key, clock = (name if name in given else None for name in columns)
        panel, _ = self.read(data, key, clock, self.spec.gaps or self.spec.frequency or None)
        panel = panel.tail(steps)
        place = int(pd.Index(panel.items).get_indexer([item])[0])
        if place < 0:
            raise ValueError(
                f"The history has no item {tables.plain(item)}, which was forecast, expected it beside "
                f"{tables.listed(panel.items)}."
            )
        rows = slice(int(panel.begins[place]), int(panel.begins[place + 1]))
        return pd.DataFrame({name: panel.columns[name][rows] for name in names}, index=panel.times[rows])

    def _levels(self, wanted: Sequence[float] | None) -> tuple[float, ...]:
        if wanted is None:
            return self.levels
        if not self.levels:
            raise ValueError(
                "Quantiles were asked for, but the forecaster forecasts a point: "
                + (
                    f"leave out `{messages.option('quantile_levels')}`, or take a run that was trained for quantiles."
                    if messages.on_command_line()
                    else "train it by `fit(quantile_levels=...)`, or give it intervals by `calibrate`."
                )
            )
        check_levels(wanted, middle=False)
        return tuple(wanted)

    def _known_ahead(
        self, future: Any, panel: Panel, steps: int, item: str | None, clock: str | Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        spec = self.spec
        known = [c for c in spec.covariates if c.role == "known"]
        if not known:
            if future is not None:
                raise ValueError(
                    "future_df was given, but the forecaster was trained without known covariates: leave it out"
                    + ("." if messages.on_command_line() else ", or name them by `fit(known_covariates=...)`.")
                )
            return {}
        if future is None:
            names = ", ".join(repr(c.name) for c in known)
            raise ValueError(f"The forecaster reads {names} over the horizon, expected them in `future_df`.")
        future = frames.to_pandas(future, "future_df", (item, clock, *spec.columns))[0]
        future, clock = self.wide(future, clock, "future_df")
        item, clock = self.columns(future, item, clock)
        numbers = [c.name for c in known if c.categories is None]
        texts = [c.name for c in known if c.categories is not None]
        values = frames.values_ahead(future, panel, numbers, texts, item, clock, steps, self.reading)
        for covariate in known:
            if covariate.categories is not None:
                panels.check_categories(covariate, values[covariate.name], panel.times_after(steps), _rows_ahead())
        return values

    def _windows_ahead(
        self, panel: Panel, future: Any, steps: int, item: str | None, clock: str | Sequence[str] | None
    ) -> tuple[Windows, Int[Tensor, " item"], pd.Index]:
        """Return the window of each item whose horizon follows its last row, as long as whole blocks, and the times."""
        spec = self.spec
        ahead = self._known_ahead(future, panel, steps, item, clock)
        blocks = -(-steps // self.horizon) * self.horizon
        if blocks > steps:  # what nobody asked for and nobody knows
            ahead = {name: _lengthen(values, steps, blocks) for name, values in ahead.items()}
        longer = panel.padded(self.context).extended(blocks, ahead)
        windows = panels.make_windows(longer, spec, self.context, blocks)
        first = longer.begins[1:] - blocks
        times = longer.times.take((first[:, None] + np.arange(steps)).reshape(-1))
        return windows, torch.from_numpy(first - self.context), times

    def last_windows(
        self,
        data: Any,
        future_df: Any = None,
        *,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> tuple[Batch, Panel]:
        """Return what the network is given to forecast the steps after the last row, and the rows that it reads."""
        panel, _ = self.read(data, item_id, timestamp, freq)
        panel = self._context(panel)
        windows, starts, _ = self._windows_ahead(panel, future_df, self.horizon, item_id, timestamp)
        batch = windows.to(self.device).gather(starts.to(self.device))
        self._refuse_missing(batch.observed, batch.known)
        return batch, panel.padded(self.context)

    def _cutoffs(
        self, panel: Panel, windows: int | None, stride: int, steps: int
    ) -> tuple[Int[np.ndarray, " window"], Int[np.ndarray, " window"]]:
        """Return item and first row of each item's last windows, in the order of items and cutoffs."""
        room = (panel.lengths - self.context - steps) // stride + 1
        least = 1 if windows is None else windows
        if (room < least).any():
            short = int((room < least).argmax())
            named = "The table" if frames.alone(panel.items) else f"Item {tables.plain(panel.items[short])}"
            raise ValueError(
                f"{named} has {panel.lengths[short]} rows, enough for {max(int(room[short]), 0)} windows of "
                f"{self.context} + {steps} steps, {stride} apart, expected {least}; ask for fewer `windows`, pass "
                "more rows, or leave the item out."
            )
        counts = room if windows is None else np.full(len(room), windows)
        item = np.repeat(np.arange(len(room)), counts)
        back = np.concatenate([np.arange(count)[::-1] for count in counts]) * stride
        return item, panel.begins[1:][item] - self.context - steps - back

    def test_windows(
        self,
        data: Any,
        windows: int | None,
        step: int,
        *,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> Iterator[Batch]:
        """Return each item's last windows in batches, `step` rows apart, with the actual values; None: at most 50."""
        step, windows = whole("step", step), None if windows is None else whole("windows", windows)
        panel, _ = self.read(data, item_id, timestamp, freq)
        if windows is None:
            room = (panel.lengths - self.context - self.horizon) // step + 1
            windows = max(1, min(50, int(room.min())))
        starts = torch.from_numpy(self._cutoffs(panel, windows, step, self.horizon)[1])
        return self.batches(panels.make_windows(panel, self.spec, self.context, self.horizon), starts)

    def _tell_of_short_items(self, panel: Panel) -> None:
        network = self.network
        short = panel.lengths < self.context
        if not short.any():
            return
        first = int(short.argmax())
        named = "The table" if frames.alone(panel.items) else f"Item {tables.plain(panel.items[first])}"
        others = f" ({int(short.sum())} items are as short)" if short.sum() > 1 else ""
        told = f"{named} has {panel.lengths[first]} rows, the forecaster reads {self.context}"
        if not network.reads_missing:
            raise ValueError(
                f"{told}: {self.context - panel.lengths[first]} more needed, because {network.why_no_missing}{others}."
            )
        log.warning("%s: the %d before them are taken as missing%s.", told, self.context - panel.lengths[first], others)

    def _refuse_missing(self, observed: Tensor | None, known: Tensor | None) -> None:
        """Raise ValueError if values are missing and the network cannot read that."""
        network, spec = self.network, self.spec
        if observed is not None and not network.reads_missing:
            missing = (~observed).any(-1).any(0)
            if missing.any():
                raise ValueError(
                    f"The context of {spec.variates[int(missing.nonzero()[0, 0])]} has missing values, and "
                    f"{type(network).__name__} cannot read them: {network.why_no_missing}. Fill them first "
                    "in the table, or take a forecaster that was trained with filled gaps."
                )
        panels.check_known(known, network, spec)

    def batches(self, windows: Windows, starts: Int[Tensor, " window"]) -> Iterator[Batch]:
        """Cut windows in batches that fit any machine, on the network's device."""
        buffer = windows.to(self.device)
        rows = len(windows.values) + (0 if windows.known is None else len(windows.known))
        size = max(1, min(512, SERIES // rows))
        for part in starts.to(buffer.device).split(size):
            batch = buffer.gather(part)
            self._refuse_missing(batch.observed, batch.known)
            yield batch

    @torch.no_grad()
    def _run(
        self, windows: Windows, starts: Int[Tensor, " window"], steps: int, levels: tuple[float, ...]
    ) -> tuple[Float[np.ndarray, "window target step"], Float[np.ndarray, "window target step level"] | None]:
        """Forecast windows; return points and quantiles in the table's units."""
        network, spec = self.network, self.spec
        points, quantiles = [], []
        ahead = [c.rows for c in spec.covariates if c.role == "known"]
        for batch in self.batches(windows, starts):
            self._tell_of_empty_series(batch)
            if batch.known is not None:  # beyond what was asked for, nothing is known of a covariate
                beyond = batch.known[:, :, self.context + steps :]
                beyond[:, : spec.future_covariates] = math.nan
                beyond[:, spec.future_covariates : sum(ahead)] = 0.0
            forecast = spec.restore(self._decode(batch, steps))
            if network.levels is None:
                points.append(forecast.cpu().numpy())
            else:
                points.append(at_levels(forecast, network.levels, [0.5])[..., 0].cpu().numpy())
                same = levels == network.levels
                quantiles.append((forecast if same else at_levels(forecast, network.levels, levels)).cpu().numpy())
        return np.concatenate(points), np.concatenate(quantiles) if quantiles else None

    def _tell_of_empty_series(self, batch: Batch) -> None:
        spec = self.spec
        if batch.observed is None:
            return
        empty = ~batch.observed.any(-1)
        if empty.any():
            variate = int(empty.nonzero()[0, 1])
            log.warning(
                "%s has no value in the %d rows that are read; what is forecast from it means little.",
                spec.variates[variate],
                self.context,
            )

    def _decode(self, batch: Batch, steps: int) -> Float[Tensor, "batch target step *level"]:
        """Forecast `steps` steps, standardised, in blocks of the trained horizon.

        Each block reads what was forecast before; of quantiles, each of many paths reads its own (see `paths`).

        Raises:
            ValueError: If a forecast is not finite, or past covariates would be missing, which the network cannot
                read.
        """
        network, spec = self.network, self.spec
        context, block = self.context, self.horizon
        known = batch.known
        first = self.ask(batch.past, None if known is None else known[..., : context + block], batch.observed)
        if steps <= block:
            return first[:, :, :steps]
        if len(spec.variates) > spec.targets and not network.reads_missing:
            raise ValueError(
                f"The horizon {steps} is longer than the trained {block}, and what {spec.variates[spec.targets]!r} "
                f"will be is not known, which {type(network).__name__} cannot read: {network.why_no_missing}."
            )
        blocks = -(-steps // block)
        if network.levels is None:
            found = [first]
            ask = self._going_on(batch, 1)
            for number in range(1, blocks):
                found.append(ask(found[-1], number))
            return torch.cat(found, 2)[:, :, :steps]
        rows = len(spec.variates) + (0 if known is None else known.shape[1])
        size = max(1, SERIES // (rows * paths.PATHS))
        parts = []
        for begin in range(0, len(first), size):
            part = Batch(*(None if rows is None else rows[begin : begin + size] for rows in batch))  # type: ignore[arg-type]
            copies = paths.PATHS if len(network.levels) > 1 else 1
            ask = self._going_on(part, copies)
            parts.append(paths.extend(ask, first[begin : begin + size], network.levels, blocks))
        return torch.cat(parts)[:, :, :steps]

    def _going_on(self, batch: Batch, copies: int) -> Callable[[Tensor, int], Tensor]:
        """Return a function that forecasts the next block of windows, of each of which there are so many paths.

        It takes the block before as it was forecast or drawn, (window * path, target, step), and the block's number.
        """
        spec, context, block = self.spec, self.context, self.horizon
        past, known, observed = (
            None if rows is None else rows.repeat_interleave(copies, 0)
            for rows in (batch.past, batch.known, batch.observed)
        )
        assert past is not None
        if observed is None and len(spec.variates) > spec.targets:
            observed = torch.ones_like(past, dtype=torch.bool)

        def ask(path: Tensor, number: int) -> Tensor:
            nonlocal past, observed
            assert past is not None
            unknown = path.new_full((len(path), len(spec.variates) - spec.targets, block), torch.nan)
            past = torch.cat([past, torch.cat([path, unknown], 1)], -1)[..., -context:]
            if observed is not None:
                there = torch.cat(
                    [torch.ones_like(path, dtype=torch.bool), torch.zeros_like(unknown, dtype=torch.bool)], 1
                )
                observed = torch.cat([observed, there], -1)[..., -context:]
            begin = number * block
            return self.ask(past, None if known is None else known[..., begin : begin + context + block], observed)

        return ask

    def ask(
        self, past: Tensor, known: Tensor | None, observed: Tensor | None
    ) -> Float[Tensor, "batch target horizon *level"]:
        """Return the network's forecast of the targets, standardised.

        Raises:
            ValueError: If a number of it is not finite, though the series has values.
        """
        network, spec = self.network, self.spec
        forecast = network(past, known, observed)[:, : spec.targets]
        check_answer(forecast, spec, network, past, observed)
        return forecast


def inputs_of(batch: Batch) -> tuple[Tensor, Tensor | None, Bool[Tensor, "batch variate context"] | None]:
    """Return what a network is called with."""
    return batch.past, batch.known, batch.observed


def _rows_ahead() -> str:
    """Name the table of what is known ahead as the caller does."""
    return "The table of `--future`" if messages.on_command_line() else "future_df"


def check_answer(
    forecast: Float[Tensor, "batch target horizon *level"],
    spec: TableSpec,
    network: ForecastNetwork,
    past: Tensor,
    observed: Bool[Tensor, "batch variate context"] | None = None,
) -> None:
    """Raise ValueError if a forecast is not finite: weights or values are, or overflow.

    Args:
        forecast: Standardised.
        spec: Of the table.
        network: That made it.
        past: What it read.
        observed: Where `past` has values; of a series without any, nothing is expected. None: everywhere.
    """
    lost = ~forecast.flatten(2).isfinite().all(-1)
    if observed is not None:
        lost &= observed[:, : lost.shape[1]].any(-1)
    if not bool(lost.any()):
        return
    target = int(lost.nonzero()[0, 1])
    broken = [name for name, values in network.state_dict().items() if not bool(values.isfinite().all())]
    infinite = past.isinf().any(-1).any(0)
    if broken:
        cause = f"the weights {broken[0]} are not finite: train it again, with a lower learning rate, or load it again"
    elif infinite.any():
        place = int(infinite.nonzero()[0, 0])
        cause = f"{spec.variates[place]!r} holds a value that is not finite or too large for its type: correct it"
    else:
        size = float(past.nan_to_num().abs().max())
        cause = f"the network's numbers overflow (the values that it read reach {size:.3g} deviations)"
    raise ValueError(
        f"The forecast of {spec.target_names[target]!r} is not a finite number, expected one for every step; {cause}."
    )


def _lengthen(values: np.ndarray, steps: int, blocks: int) -> np.ndarray:
    """Add missing steps to each item's."""
    table = values.reshape(-1, steps)
    more = np.full((len(table), blocks - steps), None if values.dtype == object else math.nan, dtype=values.dtype)
    return np.concatenate([table, more], axis=1).reshape(-1)
