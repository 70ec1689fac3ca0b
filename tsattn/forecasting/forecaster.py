"""One forecaster for every network of the package: a labelled table in, a labelled forecast out, in the table's units.

Ours; the surface is that of Chronos-2 (`fit` returns a new object, `predict_df` a long frame with a column per
quantile), with `backtest` after neuralforecast's cross-validation. Nothing needs Lightning but `fit` and `finetune`.
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from huggingface_hub import ModelHubMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor

import tsattn
from tsattn import checkpoint
from tsattn.contracts import Batch, ForecastNetwork, TableSpec
from tsattn.data import panel as panels
from tsattn.data.calendar import Marks
from tsattn.data.panel import Panel
from tsattn.data.windows import Windows
from tsattn.forecasting import frames, learning
from tsattn.forecasting.frames import Forecast, Origin
from tsattn.forecasting.recipes import Recipe, recipe_of
from tsattn.layers.probabilistic import CalibratedForecaster, Distribution, intervals_loss
from tsattn.quantiles import at_levels, check_levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Columns = str | Sequence[str]
Mode = Literal["full", "head", "lora"]


class Forecaster(
    ModelHubMixin, library_name="tsattn", tags=["time-series-forecasting"], repo_url="https://github.com/tsattn/tsattn"
):
    """A network together with what it must know of the table that it was trained on.

    Args:
        model: "itransformer", "patchtst", "patchtst-official", "timexer", "gateformer", "mvpa", or a class of yours
            that keeps `tsattn.contracts.ForecastNetwork`.
        context: Steps read.
        horizon: Steps predicted.
        **arguments: Further arguments of the network, such as `d_model`; the others are those of its shipped
            configuration (`tsattn configs show forecast/timexer.yaml`).

    Attributes:
        network: The network, in eval mode; None before `fit`.
        spec: Names, units and statistics of the table; None before `fit`.
        about: How it was trained, in plain data.

    Raises:
        ValueError: If there is no such model, or it has no such argument.
    """

    network: ForecastNetwork | None
    spec: TableSpec | None

    def __init__(
        self,
        model: str | type[ForecastNetwork],
        *,
        context: int | None = None,
        horizon: int | None = None,
        **arguments: Any,
    ) -> None:
        lengths = {"context": context, "horizon": horizon}
        given = {name: value for name, value in lengths.items() if value is not None} | arguments
        self.recipe: Recipe = recipe_of(model, given)
        self.network, self.spec = None, None
        self.about: dict[str, Any] = {}

    @classmethod
    def of(cls, network: ForecastNetwork, spec: TableSpec, about: dict[str, Any] | None = None) -> "Forecaster":
        """Return a forecaster of a trained network.

        Args:
            network: Is put into eval mode.
            spec: Of the table it was trained on.
            about: How it was trained.
        """
        made = cls.__new__(cls)
        made.recipe = Recipe.of(network)
        made.network, made.spec, made.about = network.eval(), spec, about or {}
        return made

    # ---- load and save

    @classmethod
    def from_pretrained(cls, path: str | Path, *, offline: bool = True, **hub: Any) -> "Forecaster":  # type: ignore[override]
        """Load a run's `.ckpt` or an exported folder; or, unless `offline`, what stands on the Hugging Face hub.

        Args:
            path: File or folder; with `offline=False` also "owner/name".
            offline: Whether only this machine is looked at.
            hub: Of `huggingface_hub.snapshot_download`: revision, token, cache_dir, ...

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If it is damaged, not ours, or has never been trained on a table.
        """
        if not offline and not Path(path).exists():
            return cls._from_pretrained(model_id=str(path), **hub)
        loaded = checkpoint.load(path, ForecastNetwork)
        if loaded.spec is None:
            raise ValueError(
                f"{path} holds weights without a table's statistics (they were imported, not trained here), so a "
                "forecast would have no scale. Run `tsattn fit` or `tsattn test` with --model.weights on a table."
            )
        return cls.of(loaded.network, loaded.spec, loaded.about)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **hub: Any) -> "Forecaster":
        """Fetch an exported folder from the hub: weights and configuration, nothing that runs."""
        from huggingface_hub import snapshot_download

        names = ("revision", "cache_dir", "token", "force_download", "local_files_only")
        wanted = {name: hub[name] for name in names if name in hub}
        return cls.from_pretrained(
            snapshot_download(model_id, allow_patterns=["config.json", "model.safetensors"], **wanted)
        )

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False, **hub: Any) -> None:  # type: ignore[override]
        """Write `config.json` and `model.safetensors`; `push_to_hub` does it and sends them.

        Args:
            folder: Made if it is not there.
            overwrite: Write over files that are there.
            hub: What `push_to_hub` passes on, which is not needed.

        Raises:
            FileExistsError: If they are there already and `overwrite` is False.
            ValueError: If it was not trained.
        """
        network, spec = self._trained()
        checkpoint.export(folder, network, spec, self.about, overwrite=overwrite)

    def to(self, device: str | torch.device) -> "Forecaster":
        """Move the network, and return this."""
        self._trained()[0].to(device)
        return self

    # ---- what it is

    @property
    def context(self) -> int:
        """Steps read."""
        return self.recipe.lengths[0]

    @property
    def horizon(self) -> int:
        """Steps predicted at once; `predict_df(..., horizon=)` goes on from there in blocks."""
        return self.recipe.lengths[1]

    @property
    def levels(self) -> tuple[float, ...]:
        """Quantile levels that it forecasts; none if it forecasts a point."""
        return () if self.network is None else self.network.levels or ()

    def __repr__(self) -> str:
        state = "not trained" if self.spec is None else f"targets {', '.join(self.spec.target_names[:6])}"
        return f"Forecaster({self.recipe.name}, context={self.context}, horizon={self.horizon}, {state})"

    def _trained(self) -> tuple[ForecastNetwork, TableSpec]:
        if self.network is None or self.spec is None:
            raise ValueError("The forecaster was not trained yet: call `fit`, which returns a trained one.")
        return self.network, self.spec

    # ---- training

    def fit(
        self,
        data: Any,
        *,
        target: Columns | None = None,
        past_covariates: Columns = (),
        known_covariates: Columns = (),
        static_covariates: Columns = (),
        quantile_levels: Sequence[float] | None = None,
        distribution: Distribution = "quantile",
        val_size: int | float = 0.1,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
        marks: Marks = "true",
        loss: Literal["mse", "mae", "huber"] = "mse",
        max_epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        seed: int = 0,
        verbose: bool = False,
        trainer_kwargs: dict[str, Any] | None = None,
    ) -> "Forecaster":
        """Train on a table, and return a new forecaster; this one stays as it is.

        Args:
            data: DataFrame (pandas, polars) with a row per item and time, or xarray Dataset; it is not changed.
            target: Columns to forecast, together; None: all columns of numbers that have no other role.
            past_covariates: Columns that end with the context.
            known_covariates: Columns that are known over the horizon, too.
            static_covariates: Columns that have one value in each item.
            quantile_levels: Forecast these quantiles, such as (0.1, 0.5, 0.9), in place of a point.
            distribution: Whether each quantile is forecast by itself ("quantile") or all are those of a Student t
                distribution ("student-t").
            val_size: Last rows of each item, or their share of it, by which the best epoch is chosen; 0: none.
            item_id: Column of items; None: "item_id" if there is one, else all rows are of one item.
            timestamp: Column of times; None: found; "none": rows are equally spaced and have no times.
            freq: Step to put the rows on ("h"): absent rows are missing ones; None: absent rows are an error.
            marks: Calendar features, as in `tsattn fit`; a network that reads none gets none.
            loss: Minimised, on standardised values, where no quantiles are.
            max_epochs: None: the model's shipped configuration's.
            learning_rate: None: the same.
            batch_size: Windows in a training batch; None: the same, but at least 32.
            patience: Epochs without a smaller validation loss after which training ends; None: the same.
            seed: Of the first weights, and of the order of the windows.
            verbose: Whether each epoch prints a line.
            trainer_kwargs: Further arguments of `lightning.Trainer` (accelerator="gpu", gradient_clip_val=1.0, ...).

        Raises:
            ValueError: If a column is absent, broken or of no use to the network, the rows are too few, or the clock is
                not regular.
        """
        frame, origin = frames.to_pandas(data)
        roles = learning.Roles.of(
            frame, target, past_covariates, known_covariates, static_covariates, item_id, timestamp
        )
        levels = None if quantile_levels is None else tuple(quantile_levels)
        network, spec, about = learning.train(
            self.recipe, frame, roles,
            levels=levels, distribution=distribution, val_size=val_size, item=item_id, timestamp=timestamp, freq=freq,
            marks=marks, units=origin.units or {}, seed=seed, loss=loss, max_epochs=max_epochs,
            learning_rate=learning_rate, batch_size=batch_size, patience=patience, verbose=verbose,
            trainer_kwargs=trainer_kwargs,
        )  # fmt: skip
        return self._with(network, spec, about)

    def finetune(
        self,
        data: Any,
        *,
        mode: Mode = "full",
        lora_rank: int = 8,
        val_size: int | float = 0.1,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
        loss: Literal["mse", "mae", "huber"] = "mse",
        max_epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        seed: int = 0,
        verbose: bool = False,
        trainer_kwargs: dict[str, Any] | None = None,
    ) -> "Forecaster":
        """Go on training with another table of the same columns, and return a new forecaster; this one stays.

        Mean and deviation of the columns are taken anew, of this table's training rows. Intervals by `calibrate` are
        dropped, since they belong to the old weights: calibrate again.

        Args:
            data: As in `fit`.
            mode: What is trained: everything ("full"), the last linear map ("head"), or low-rank additions to the maps
                of attention, which are added in at the end ("lora").
            lora_rank: Rank of the additions.
            val_size: As in `fit`, and so for all that follows.
            item_id: See there; None: as in `fit`'s table.
            timestamp: See there; None: as in `fit`'s table.
            freq: See there.
            loss: See there.
            max_epochs: See there.
            learning_rate: See there.
            batch_size: See there.
            patience: See there.
            seed: See there.
            verbose: See there.
            trainer_kwargs: See there.

        Raises:
            ValueError: As in `fit`; or if it was not trained before.
        """
        network, spec = self._trained()
        if isinstance(network, CalibratedForecaster):
            log.warning("The intervals of `calibrate` are dropped: they belong to the weights before; calibrate again.")
            network = network.network
        frame, origin = frames.to_pandas(data)
        item, clock = self._columns(frame, item_id, timestamp)
        found, spec, about = learning.train(
            self.recipe, frame, learning.Roles.from_spec(spec),
            start=copy.deepcopy(network), before=spec, mode=mode, lora_rank=lora_rank, val_size=val_size, item=item,
            timestamp=clock, freq=freq, units=origin.units or {}, seed=seed, loss=loss, max_epochs=max_epochs,
            learning_rate=learning_rate, batch_size=batch_size, patience=patience, verbose=verbose,
            trainer_kwargs=trainer_kwargs,
        )  # fmt: skip
        return self._with(found, spec, {**about, "before": self.about})

    def calibrate(
        self,
        data: Any,
        *,
        quantile_levels: Sequence[float] | None = None,
        size: int | float = 0.2,
        local: bool | None = None,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> "Forecaster":
        """Give any trained forecaster intervals by what it got wrong lately, and return a new one (split conformal).

        For each target, step of the horizon and level, the forecast is moved by the quantile of its errors in the last
        windows of a table: of a point, by that of their magnitude; of a quantile, by that of what is above or below it
        (conformalised quantile regression).

        Args:
            data: A table that the forecaster was not trained on, or whose last rows chose its best epoch only.
            quantile_levels: Levels; None: those that it forecasts, or of a point 0.05, 0.1, 0.5, 0.9, 0.95.
            size: Last rows of each item, or their share of it, whose windows count.
            local: Whether an error counts in units of the deviation of its own window, so that intervals are wide where
                a series is restless; None: as it has the smaller pinball loss in the later half of the windows, by
                offsets of the earlier half.
            item_id: As in `fit`; None: as in its table.
            timestamp: As in `fit`; None: as in its table.
            freq: As in `fit`.

        Raises:
            ValueError: If there are fewer windows than the outermost level needs.

        Source:
            Vovk et al. (2005); Romano et al. (2019), arXiv:1905.03222; scaled errors: Lei et al. (2018),
            arXiv:1604.04173.
        """
        network, spec = self._trained()
        if isinstance(network, CalibratedForecaster):
            network = network.network
        levels = (
            tuple(quantile_levels) if quantile_levels is not None else network.levels or (0.05, 0.1, 0.5, 0.9, 0.95)
        )
        panel, _ = self._read(data, item_id, timestamp, freq)
        ends = panel.begins[1:]
        rows = learning.rows_of(size, panel.lengths)
        windows = panels.make_windows(panel, spec, self.context, self.horizon)
        starts = learning.part_starts(panel.begins, ends - rows, ends, self.context, self.horizon, reach_back=True)
        if not len(starts):
            raise ValueError(
                f"The last {int(rows.max())} rows hold no window of {self.context} + {self.horizon} steps, expected "
                "some to calibrate with; pass a longer table or a larger `size`."
            )
        forecasts, futures, pasts = [], [], []
        with torch.no_grad():
            for batch in self._batches(windows, starts):
                forecasts.append(network(*_inputs(batch))[:, : spec.targets])
                futures.append(batch.future)
                pasts.append((batch.past, batch.observed))
        forecast, future = torch.cat(forecasts), torch.cat(futures)
        candidates = []
        for choice in (True, False) if local is None else (local,):
            made = CalibratedForecaster(network, levels, targets=spec.targets, local=choice).to(_device(network)).eval()
            candidates.append((made, torch.cat([made.spread(*past) for past in pasts])))
        if local is None:
            losses = [intervals_loss(forecast, future, spread, levels) for _, spread in candidates]
            candidates = candidates[int(losses[1] < losses[0]) :]
        made, spread = candidates[0]
        made.fit_offsets(forecast, future, spread)
        about = {"windows": len(starts), "levels": list(levels), "local": made.local}
        return self._with(made, spec, {**self.about, "calibration": about})

    def _with(self, network: ForecastNetwork, spec: TableSpec, about: dict[str, Any]) -> "Forecaster":
        made = type(self).of(network, spec, {"tsattn": tsattn.__version__, **about})
        made.recipe = self.recipe
        return made

    # ---- predicting

    def predict(self, data: Any, known: Float[Tensor, "batch known total"] | None = None, **options: Any) -> Any:
        """Forecast in the form in which the data comes.

        Args:
            data: A tensor (batch, variate, context) in the table's units, NaN where missing, targets first; an xarray
                Dataset; or a frame (then this is `predict_df`).
            known: With a tensor: the rows of `spec.known_rows` over context and horizon, in the table's units; of a
                category, 1 where it is so, else 0.
            **options: With a Dataset or frame: as in `predict_df`.

        Returns:
            Of a tensor: a tensor (batch, target, horizon) of the same type on the same device, the median if quantiles
            are forecast; neither pandas nor Lightning is used. Of a Dataset: a Dataset of the same variables.

        Raises:
            ValueError: If a shape does not fit, or values are missing and the network cannot read that.
        """
        if isinstance(data, Tensor):
            quantiles = self.predict_quantiles(data, known)
            return quantiles[..., 0] if not self.levels else at_levels(quantiles, self.levels, [0.5])[..., 0]
        if isinstance(data, xr.Dataset):
            spec = self._trained()[1]
            forecast, origin = self._forecast(data, **options)
            units = dict(zip(spec.variates, spec.units, strict=False)) | (origin.units or {})
            return forecast.to_dataset(origin, {name: units[name] for name in spec.target_names if units.get(name)})
        return self.predict_df(data, **options)

    @torch.no_grad()
    def predict_quantiles(
        self, past: Float[Tensor, "batch variate context"], known: Float[Tensor, "batch known total"] | None = None
    ) -> Float[Tensor, "batch target horizon level"]:
        """Forecast from tensors, as `predict` does, every level of `levels` (of a point forecast, one level)."""
        network, spec = self._trained()
        device = _device(network)
        scaled = spec.standardise(past.to(device))
        if known is not None:
            if known.shape[1] != len(spec.known_rows):
                raise ValueError(
                    f"known has {known.shape[1]} rows, expected {len(spec.known_rows)}: {', '.join(spec.known_rows)}."
                )
            statistics = known.new_tensor(spec.known_statistics, device=device)
            known = ((known.to(device) - statistics[:, :1]) / statistics[:, 1:]).float()
        missing = scaled.isnan()
        batch = Batch(scaled, scaled, known, ~missing if missing.any() else None)
        self._refuse_missing(batch)
        forecast = network(*_inputs(batch))[:, : spec.targets]
        forecast = forecast if network.levels is not None else forecast[..., None]
        return spec.restore(forecast).to(past)

    def predict_df(
        self,
        data: Any,
        future_df: Any = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> Any:
        """Forecast the steps that follow each item's last row.

        Args:
            data: Frame (pandas, polars) with the columns of the training; others are passed over. It is not changed.
                Of a history shorter than the context what lies before it is missing, which is logged as a warning.
            future_df: The known covariates of these steps: item, timestamp and their columns.
            horizon: Steps; None: the trained horizon. A longer one is forecast in blocks, each of which reads the
                forecast of the one before as its past (of quantiles: each quantile's path).
            quantile_levels: None: those that are forecast; others are interpolated between them.
            item_id: Column of items; None: as in the training.
            timestamp: Column of times; None: as in the training, or found.
            freq: As in `fit`.

        Returns:
            One row per item, target and step, in the order of the items' first rows: the columns of items and times
            ("item_id" and "timestamp", unless others were named), `target_name`, `predictions` (of quantiles, the
            median) and one column per level ("0.1").

        Raises:
            ValueError: If columns or rows are missing, repeated or at another step than in the training.
        """
        forecast, origin = self._forecast(
            data, future_df, horizon=horizon, quantile_levels=quantile_levels, item_id=item_id, timestamp=timestamp,
            freq=freq,
        )  # fmt: skip
        return frames.as_given(forecast.to_frame(self._names(item_id, timestamp)), origin)

    def _forecast(
        self,
        data: Any,
        future_df: Any = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> tuple[Forecast, Origin]:
        spec = self._trained()[1]
        steps = self.horizon if horizon is None else horizon
        if steps < 1:
            raise ValueError(f"horizon is {steps}, expected at least 1 step.")
        levels = self._levels(quantile_levels)
        panel, origin = self._read(data, item_id, timestamp, freq)
        panel = panel.tail(self.context)
        self._tell_of_short_items(panel)
        windows, starts, times = self._windows_ahead(panel, future_df, steps, item_id, timestamp)
        values, quantiles = self._run(windows, starts, steps, levels)
        return Forecast(panel.items, times, spec.target_names, values, quantiles, levels), origin

    def _windows_ahead(
        self, panel: Panel, future: Any, steps: int, item: str | None, clock: str | None
    ) -> tuple[Windows, Int[Tensor, " item"], pd.Index]:
        """Return the window of each item whose horizon follows its last row, as long as whole blocks, and the times."""
        spec = self._trained()[1]
        ahead = self._known_ahead(future, panel, steps, item, clock)
        blocks = -(-steps // self.horizon) * self.horizon
        if blocks > steps:  # what nobody asked for and nobody knows
            ahead = {name: _lengthen(values, steps, blocks) for name, values in ahead.items()}
        whole = panel.padded(self.context).extended(blocks, ahead)
        windows = panels.make_windows(whole, spec, self.context, blocks)
        first = whole.begins[1:] - blocks
        times = whole.times.take((first[:, None] + np.arange(steps)).reshape(-1))
        return windows, torch.from_numpy(first - self.context), times

    def backtest(
        self,
        data: Any,
        *,
        windows: int | None = None,
        step: int | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> Any:
        """Forecast the last windows of a table as if each were now, without training again.

        Args:
            data: As in `predict_df`, with the known covariates of every row. Rows of the training make a forecast look
                better than it is.
            windows: Cutoffs of each item, the last of which is `horizon` rows before its end; None: as many as there
                are with a whole context.
            step: Rows from one cutoff to the next; None: the horizon.
            horizon: As in `predict_df`.
            quantile_levels: As in `predict_df`.
            item_id: As in `predict_df`.
            timestamp: As in `predict_df`.
            freq: As in `predict_df`.

        Returns:
            The frame of `predict_df` with the columns `cutoff`, the last time that was read, and `target`, what came
            (NaN where missing): every window once, in the order of items and cutoffs.

        Raises:
            ValueError: If an item has not so many windows.
        """
        spec = self._trained()[1]
        steps = self.horizon if horizon is None else horizon
        stride = steps if step is None else step
        if min(steps, stride, 1 if windows is None else windows) < 1:
            raise ValueError(f"horizon is {steps}, step {stride} and windows {windows}, expected at least 1 of each.")
        levels = self._levels(quantile_levels)
        panel, origin = self._read(data, item_id, timestamp, freq)
        item, starts = self._cutoffs(panel, windows, stride, steps)
        blocks = -(-steps // self.horizon) * self.horizon
        whole = panel if blocks == steps else panel.extended(blocks - steps, {})  # only to cut whole blocks from
        moved = starts + (whole.begins[:-1] - panel.begins[:-1])[item]
        buffer = panels.make_windows(whole, spec, self.context, blocks)
        values, quantiles = self._run(buffer, torch.from_numpy(moved), steps, levels)
        first = starts + self.context
        rows = (first[:, None] + np.arange(steps)).reshape(-1)
        truth = panel.values(spec.target_names)[:, rows].reshape(spec.targets, -1, steps).transpose(1, 0, 2)
        forecast = Forecast(
            panel.items[item], panel.times.take(rows), spec.target_names, values, quantiles, levels,
            cutoffs=panel.times.take(first - 1), truth=np.ascontiguousarray(truth),
        )  # fmt: skip
        return frames.as_given(forecast.to_frame(self._names(item_id, timestamp)), origin)

    def _cutoffs(
        self, panel: Panel, windows: int | None, stride: int, steps: int
    ) -> tuple[Int[np.ndarray, " window"], Int[np.ndarray, " window"]]:
        """Return item and first row of each item's last windows, in the order of items and cutoffs."""
        room = (panel.lengths - self.context - steps) // stride + 1
        least = 1 if windows is None else windows
        if (room < least).any():
            short = int((room < least).argmax())
            named = "The table" if frames.alone(panel.items) else f"Item {panel.items[short]!r}"
            raise ValueError(
                f"{named} has {panel.lengths[short]} rows, enough for {max(int(room[short]), 0)} windows of "
                f"{self.context} + {steps} steps, {stride} apart, expected {least}; ask for fewer `windows` or pass a "
                "longer table."
            )
        counts = room if windows is None else np.full(len(room), windows)
        item = np.repeat(np.arange(len(room)), counts)
        back = np.concatenate([np.arange(count)[::-1] for count in counts]) * stride
        return item, panel.begins[1:][item] - self.context - steps - back

    # ---- what it looked at

    def attention(self, data: Any, future_df: Any = None, *, kind: str | None = None, **columns: Any) -> xr.DataArray:
        """Return what the network looked at when it forecast the steps after the last row.

        Args:
            data: As in `predict_df`.
            future_df: As in `predict_df`.
            kind: Which map, where a network has several; None: the most telling one. A kind that there is not is
                refused with the list of those there are: TimeXer has "exogenous" and "patches", Gateformer "variate",
                "temporal" and "gates", MVPA "" (patch by patch), "channels" and "steps".
            **columns: `item_id`, `timestamp` and `freq`, as in `predict_df`.

        Returns:
            Weights over `layer`, `head`, `query` and `key` (and `item` if there are several; `variate` where each has
            maps of its own), whose coordinates are names of columns and the first times of patches. The
            weights of a query add up to 1. Of "channels" and "steps" there is the axis `without`: each term of the
            scores left out in turn.
        """
        from tsattn.forecasting import explain

        return explain.attention(self, data, future_df, kind, columns)

    def importance(self, data: Any, *, windows: int = 50, step: int | None = None, **columns: Any) -> pd.DataFrame:
        """Say how much worse the forecasts of the last windows get when each column is taken away (ablation).

        Args:
            data: As in `backtest`, with what came after each cutoff.
            windows: Cutoffs of each item.
            step: Rows from one cutoff to the next; None: the horizon.
            **columns: `item_id`, `timestamp` and `freq`, as in `predict_df`.

        Returns:
            A row per source and target: `source` (a column of the table, or "calendar"), `target_name`, `mae` without
            it, and `importance`, how much that is above the error with everything, as a share of it. A source is
            missing throughout its context, and its horizon if that is known; its own past is a source of a target, too.
        """
        from tsattn.forecasting import explain

        return explain.importance(self, data, windows, step, columns)

    def plot(self, forecast: Any, history: Any = None, **options: Any) -> "Figure":
        """Draw what `predict_df`, `backtest`, `attention` or `importance` returned; see `tsattn.forecasting.plots`.

        Args:
            forecast: The frame or DataArray.
            history: Of a forecast: the table that it was made from.
            **options: Of the drawing.
        """
        from tsattn.forecasting import plots

        return plots.plot(self, forecast, history, **options)

    def export(self, path: str | Path, *, compile: bool = False, overwrite: bool = False) -> Path:
        """Write the forecaster as one file that runs without tsattn, Lightning and pandas, for any batch size.

        It takes `past` (batch, variate, context) and, if the network reads it, `known` (batch, row, context +
        horizon), in the table's units and NaN where missing, and gives (batch, target, horizon) or, of quantiles,
        (batch, target, horizon, level).

        Args:
            path: A `.pt2` file.
            compile: Whether AOTInductor compiles it for this machine: loaded by
                `torch._inductor.aoti_load_package`; else by `torch.export.load(path).module()`.
            overwrite: Write over a file that is there.

        Raises:
            FileExistsError: If it is there already and `overwrite` is False.
        """
        from tsattn.forecasting import export

        network, spec = self._trained()
        return export.export(network, spec, path, compile=compile, overwrite=overwrite)

    # ---- inside

    def _columns(self, frame: pd.DataFrame, item: str | None, clock: str | None) -> tuple[str | None, str | None]:
        """Return the columns of items and times: as asked for, else as in the training if they are there."""
        spec = self._trained()[1]
        names = {str(name).strip() for name in frame.columns}
        if item is None and spec.columns[0] in names:
            item = spec.columns[0]
        if clock is None:
            clock = "none" if not spec.frequency else spec.columns[1] if spec.columns[1] in names else None
        return item, clock

    def _names(self, item: str | None, clock: str | None) -> tuple[str, str]:
        spec = self._trained()[1]
        return item or spec.columns[0], clock if clock not in (None, "none") else spec.columns[1]

    def _read(self, data: Any, item: str | None, clock: str | None, freq: str | None) -> tuple[Panel, Origin]:
        spec = self._trained()[1]
        frame, origin = frames.to_pandas(data)
        item, clock = self._columns(frame, item, clock)
        key = next((name for name in frame.columns if str(name).strip() == (item or "item_id")), None)
        origin = origin if key is None else dataclasses.replace(origin, names=frame[key].dtype)
        numbers = [*spec.variates, *(c.name for c in spec.covariates if c.categories is None)]
        texts = [c.name for c in spec.covariates if c.categories is not None]
        panel = panels.read_panel(
            frame, numbers, texts, item=item, timestamp=clock, freq=freq, frequency=spec.frequency, what="The table"
        )
        if spec.zone is not None and spec.marks and panel.zone != spec.zone:
            raise ValueError(
                f"The table's times are in the zone {panel.zone or 'none'}, those of the training in "
                f"{spec.zone or 'none'}, expected the same one, because the forecaster reads the hour; bring them "
                "there by `dt.tz_convert` or `dt.tz_localize`."
            )
        return (panel if spec.fill == "none" else panels.filled(panel, spec.variates, spec.fill)), origin

    def _levels(self, wanted: Sequence[float] | None) -> tuple[float, ...]:
        if wanted is None:
            return self.levels
        if not self.levels:
            raise ValueError(
                "Quantiles were asked for, but the forecaster forecasts a point: train it by "
                "`fit(quantile_levels=...)`, or give it intervals by `calibrate`."
            )
        check_levels(wanted, middle=False)
        return tuple(wanted)

    def _known_ahead(
        self, future: Any, panel: Panel, steps: int, item: str | None, clock: str | None
    ) -> dict[str, np.ndarray]:
        spec = self._trained()[1]
        known = [c for c in spec.covariates if c.role == "known"]
        if not known:
            if future is not None:
                raise ValueError(
                    "future_df was given, but the forecaster was trained without known covariates: leave it out, or "
                    "name them by `fit(known_covariates=...)`."
                )
            return {}
        if future is None:
            names = ", ".join(repr(c.name) for c in known)
            raise ValueError(f"The forecaster reads {names} over the horizon, expected them in `future_df`.")
        columns = frames.to_pandas(future, "future_df")[0]
        item, clock = self._columns(columns, item, clock)
        numbers = [c.name for c in known if c.categories is None]
        texts = [c.name for c in known if c.categories is not None]
        return frames.values_ahead(future, panel, numbers, texts, item, clock, steps)

    def _tell_of_short_items(self, panel: Panel) -> None:
        network = self._trained()[0]
        short = panel.lengths < self.context
        if not short.any():
            return
        first = int(short.argmax())
        named = "The table" if frames.alone(panel.items) else f"Item {panel.items[first]!r}"
        others = f" ({int(short.sum())} items are as short)" if short.sum() > 1 else ""
        told = f"{named} has {panel.lengths[first]} rows, the forecaster reads {self.context}"
        if not network.reads_missing:
            raise ValueError(
                f"{told}: {self.context - panel.lengths[first]} more needed, because {network.why_no_missing}{others}."
            )
        log.warning("%s: the %d before them are taken as missing%s.", told, self.context - panel.lengths[first], others)

    def _refuse_missing(self, batch: Batch) -> None:
        network, spec = self._trained()
        if batch.observed is None or network.reads_missing:
            return
        missing = (~batch.observed).any(-1).any(0)
        if missing.any():
            raise ValueError(
                f"The context of {spec.variates[int(missing.nonzero()[0, 0])]} has missing values, and "
                f"{type(network).__name__} cannot read them: {network.why_no_missing}. Fill them first, or train with "
                "--data.fill forward."
            )

    def unit(self, name: str) -> str:
        """Return the unit of a column; "" if it has none."""
        spec = self._trained()[1]
        return dict(zip(spec.variates, spec.units, strict=False)).get(name, "")

    def history(self, data: Any, item: Any, names: Sequence[str], steps: int) -> pd.DataFrame:
        """Return the last rows of one item, by time."""
        panel, _ = self._read(data, None, None, None)
        panel = panel.tail(steps)
        place = int(pd.Index(panel.items).get_loc(item))
        rows = slice(int(panel.begins[place]), int(panel.begins[place + 1]))
        return pd.DataFrame({name: panel.columns[name][rows] for name in names}, index=panel.times[rows])

    def last_windows(
        self,
        data: Any,
        future_df: Any = None,
        *,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> tuple[Batch, Panel]:
        """Return what the network is given to forecast the steps after the last row, and the rows that it reads."""
        panel, _ = self._read(data, item_id, timestamp, freq)
        panel = panel.tail(self.context)
        self._tell_of_short_items(panel)
        windows, starts, _ = self._windows_ahead(panel, future_df, self.horizon, item_id, timestamp)
        batch = windows.to(_device(self._trained()[0])).gather(starts)
        self._refuse_missing(batch)
        return batch, panel.padded(self.context)

    def test_windows(
        self,
        data: Any,
        windows: int,
        step: int,
        *,
        item_id: str | None = None,
        timestamp: str | None = None,
        freq: str | None = None,
    ) -> Iterator[Batch]:
        """Return each item's last windows in batches, `step` rows apart, with what came."""
        panel, _ = self._read(data, item_id, timestamp, freq)
        starts = torch.from_numpy(self._cutoffs(panel, windows, step, self.horizon)[1])
        return self._batches(panels.make_windows(panel, self._trained()[1], self.context, self.horizon), starts)

    def _batches(self, windows: Windows, starts: Int[Tensor, " window"]) -> Iterator[Batch]:
        """Cut windows in batches that fit any machine, on the network's device."""
        network = self._trained()[0]
        buffer = windows.to(_device(network))
        rows = len(windows.values) + (0 if windows.known is None else len(windows.known))
        size = max(1, min(512, 16384 // rows))
        for part in starts.to(buffer.device).split(size):
            batch = buffer.gather(part)
            self._refuse_missing(batch)
            yield batch

    @torch.no_grad()
    def _run(
        self, windows: Windows, starts: Int[Tensor, " window"], steps: int, levels: tuple[float, ...]
    ) -> tuple[Float[np.ndarray, "window target step"], Float[np.ndarray, "window target step level"] | None]:
        """Forecast windows; return points and quantiles in the table's units."""
        network, spec = self._trained()
        points, quantiles = [], []
        for batch in self._batches(windows, starts):
            self._tell_of_empty_series(batch)
            forecast = spec.restore(self._decode(batch, steps))
            if network.levels is None:
                points.append(forecast.cpu().numpy())
            else:
                points.append(at_levels(forecast, network.levels, [0.5])[..., 0].cpu().numpy())
                same = levels == network.levels
                quantiles.append((forecast if same else at_levels(forecast, network.levels, levels)).cpu().numpy())
        return np.concatenate(points), np.concatenate(quantiles) if quantiles else None

    def _tell_of_empty_series(self, batch: Batch) -> None:
        spec = self._trained()[1]
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

        Each block reads what was forecast before; of quantiles, one path per level, whose forecasts are pooled.
        """
        network, spec = self._trained()
        context, block = self.context, self.horizon
        past, observed, known = batch.past, batch.observed, batch.known
        first = network(past, None if known is None else known[..., : context + block], observed)[:, : spec.targets]
        if steps <= block:
            return first[:, :, :steps]
        if len(spec.variates) > spec.targets and not network.reads_missing:
            raise ValueError(
                f"The horizon {steps} is longer than the trained {block}, and what {spec.variates[spec.targets]!r} "
                f"will be is not known, which {type(network).__name__} cannot read: {network.why_no_missing}."
            )
        paths = 1 if network.levels is None else len(network.levels)
        size, blocks = len(past), [first]
        past = past.repeat_interleave(paths, 0)
        known = None if known is None else known.repeat_interleave(paths, 0)
        observed = None if observed is None else observed.repeat_interleave(paths, 0)
        if observed is None and len(spec.variates) > spec.targets:
            observed = torch.ones_like(past, dtype=torch.bool)
        for begin in range(block, steps, block):
            path = blocks[-1] if network.levels is None else blocks[-1].movedim(-1, 1).flatten(0, 1)
            unknown = path.new_full((len(path), len(spec.variates) - spec.targets, block), torch.nan)
            past = torch.cat([past, torch.cat([path, unknown], 1)], -1)[..., -context:]
            if observed is not None:
                there = torch.cat(
                    [torch.ones_like(path, dtype=torch.bool), torch.zeros_like(unknown, dtype=torch.bool)], 1
                )
                observed = torch.cat([observed, there], -1)[..., -context:]
            ahead = None if known is None else known[..., begin : begin + context + block]
            found = network(past, ahead, observed)[:, : spec.targets]
            if network.levels is not None:  # (batch, path, target, step, level) -> all numbers of all paths
                pooled = found.unflatten(0, (size, paths)).permute(0, 2, 3, 1, 4).flatten(-2)
                found = torch.quantile(pooled, pooled.new_tensor(network.levels), dim=-1).movedim(0, -1)
            blocks.append(found)
        return torch.cat(blocks, 2)[:, :, :steps]


def _inputs(batch: Batch) -> tuple[Tensor, Tensor | None, Bool[Tensor, "batch variate context"] | None]:
    return batch.past, batch.known, batch.observed


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


def _lengthen(values: np.ndarray, steps: int, blocks: int) -> np.ndarray:
    """Add missing steps to each item's."""
    table = values.reshape(-1, steps)
    more = np.full((len(table), blocks - steps), None if values.dtype == object else math.nan, dtype=values.dtype)
    return np.concatenate([table, more], axis=1).reshape(-1)
