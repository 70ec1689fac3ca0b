"""One forecaster for every network of the package: a labelled table in, a labelled forecast out, in the table's units.

Ours; the surface is that of Chronos-2 (`fit` returns a new object, `predict_df` a long frame with a column per
quantile), with `backtest` after neuralforecast's cross-validation. Nothing needs Lightning but `fit` and `finetune`.
"""

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import xarray as xr
from huggingface_hub import ModelHubMixin
from jaxtyping import Float
from torch import Tensor

import tsattn
from tsattn import checkpoint
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.calendar import Marks
from tsattn.data.reading import Reading
from tsattn.forecasting import calibration, frames, learning
from tsattn.forecasting.learning import Columns, Loss, Mode, Pace, Roles, Training
from tsattn.forecasting.predictor import Predictor
from tsattn.forecasting.recipes import Recipe, recipe_of, whole
from tsattn.layers.probabilistic import CalibratedForecaster, Distribution
from tsattn.quantiles import at_levels, check_levels
from tsattn.tasks.optim import Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


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
        about: How it was trained, in plain data: `training` holds the settings that were used (learning rate, batch
            size, loss, schedule, optimiser, ...), `fit` what came of them (epochs, losses of each).

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
                "forecast would have no scale: train it on a table first (`tsattn fit`, starting from these weights)."
            )
        return cls.of(loaded.network, loaded.spec, loaded.about)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **hub: Any) -> "Forecaster":
        """Fetch an exported folder from the hub: weights and configuration, nothing that runs."""
        return cls.from_pretrained(checkpoint.from_hub(model_id, **hub))

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

    @property
    def _predictor(self) -> Predictor:
        """The trained network at work."""
        return Predictor(*self._trained())

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
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
        zone: str | None = None,
        snap: str | None = None,
        resample: str | None = None,
        drop_duplicates: bool = False,
        time_format: str | None = None,
        marks: Marks = "true",
        loss: Loss | None = None,
        max_epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        schedule: Pace = "cosine",
        optimizer: Optimizer | None = None,
        weight_decay: float | None = None,
        betas: Sequence[float] | None = None,
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
            timestamp: Column of times; several: day and time of day, or year, month, day, ..., to be joined; None:
                found; "none": rows are equally spaced and have no times.
            freq: Step to put the rows on ("h"): absent rows are missing ones, then and in every table that it is given
                later; None: absent rows are an error.
            zone: Time zone of the clock ("Europe/Berlin"): times are brought there, and times without a zone are of it;
                this and the next four hold for every table that it is given later, too.
            snap: Step to whose nearest point each time is moved ("1h"), for stamps that jitter.
            resample: Longer step to which the rows are averaged ("1h"); a first or last bin that is not full is left
                out.
            drop_duplicates: Whether the first of several rows with the same time is kept, the others dropped.
            time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"); None: ISO 8601, else month before
                day.
            marks: Calendar features, as in `tsattn fit`; a network that reads none gets none.
            loss: Minimised, on standardised values: "mse", "mae" or "huber"; None: that of the model's shipped
                configuration, "mse". Quantiles have a loss of their own.
            max_epochs: None: as in the shipped configuration.
            learning_rate: Largest one; None: as there, times the square root of how much larger the batch is.
            batch_size: Windows in a training batch; None: as there, but at least 32.
            patience: Epochs without a smaller validation loss after which training ends; None: as there.
            schedule: How the learning rate changes over the epochs: "cosine" (half a cosine down to 0 over
                `max_epochs`), "constant", "type1" (halved every epoch from the third on), "type3" (times 0.9 every
                epoch from the fifth on), "onecycle" (step by step), and the two of PatchTST's authors,
                "constant-patchtst" and "type3-patchtst"; "paper": that of the shipped configuration, which is made for
                a benchmark.
            optimizer: "adam" or "adamw"; None: as in the shipped configuration, and so for the next two.
            weight_decay: Decoupled with "adamw".
            betas: Of Adam.
            seed: Random seed of the first weights and of the order of the windows.
            verbose: Whether each epoch prints a line.
            trainer_kwargs: Further arguments of `lightning.Trainer` (accelerator="gpu", gradient_clip_val=1.0, ...).

        Ctrl-C ends the training; the best epoch so far is kept, with a warning, and `about["fit"]["interrupted"]` is
        True.

        Raises:
            ValueError: If a column is absent, broken or of no use to the network, the rows are too few, the clock is
                not regular, or an argument is not possible.
            KeyboardInterrupt: If it is interrupted before the first epoch has ended.
        """
        frame, origin = frames.to_pandas(data, asked=(item_id, timestamp))
        clock = tuple(timestamp) if isinstance(timestamp, list) else timestamp
        how = Reading(clock, time_format, zone, drop_duplicates=drop_duplicates, snap=snap, resample=resample, freq=freq)  # type: ignore[arg-type]  # fmt: skip  # noqa: E501
        roles = Roles.of(
            frame, target, past_covariates, known_covariates, static_covariates, item_id, timestamp, time_format
        )
        levels = None if quantile_levels is None else check_levels(quantile_levels)
        training = Training(
            val_size=val_size, loss=loss, max_epochs=max_epochs, learning_rate=learning_rate, batch_size=batch_size,
            patience=patience, schedule=schedule, optimizer=optimizer, weight_decay=weight_decay, betas=betas,
            seed=seed, verbose=verbose, trainer_kwargs=trainer_kwargs,
        )  # fmt: skip
        network, spec, about = learning.train(
            self.recipe, frame, roles, training,
            item=item_id, timestamp=timestamp, how=how, units=origin.units or {}, marks=marks, levels=levels,
            distribution=distribution,
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
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
        loss: Loss | None = None,
        max_epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        schedule: Pace = "cosine",
        optimizer: Optimizer | None = None,
        weight_decay: float | None = None,
        betas: Sequence[float] | None = None,
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
            item_id: As in `fit`; None: as in `fit`'s table, and so for the next two.
            timestamp: As in `fit`.
            freq: As in `fit`.
            loss: As in `fit`.
            max_epochs: As in `fit`.
            learning_rate: As in `fit`.
            batch_size: As in `fit`.
            patience: As in `fit`.
            schedule: As in `fit`.
            optimizer: As in `fit`.
            weight_decay: As in `fit`.
            betas: As in `fit`.
            seed: As in `fit`.
            verbose: As in `fit`.
            trainer_kwargs: As in `fit`.

        Raises:
            ValueError: As in `fit`; or if it was not trained before.
        """
        network, spec = self._trained()
        if isinstance(network, CalibratedForecaster):
            log.warning("The intervals of `calibrate` are dropped: they belong to the weights before; calibrate again.")
            network = network.network
        frame, origin = frames.to_pandas(data, asked=(item_id, timestamp, *spec.columns))
        given = frame
        frame, clock = self._predictor.wide(frame, timestamp, "The table")
        item, clock = self._predictor.columns(frame, item_id, clock)
        trained = Reading.of(spec)
        how = trained.within(frame.columns)
        how = how if freq is None else dataclasses.replace(how, freq=freq)
        training = Training(
            val_size=val_size, loss=loss, max_epochs=max_epochs, learning_rate=learning_rate, batch_size=batch_size,
            patience=patience, schedule=schedule, optimizer=optimizer, weight_decay=weight_decay, betas=betas,
            seed=seed, verbose=verbose, trainer_kwargs=trainer_kwargs,
        )  # fmt: skip
        found, spec, about = learning.train(
            self.recipe, frame, Roles.from_spec(spec), training,
            item=item, timestamp=clock, how=how, units=origin.units or {}, start=copy.deepcopy(network), before=spec,
            mode=mode, lora_rank=whole("lora_rank", lora_rank),
        )  # fmt: skip
        kept = dataclasses.replace(
            Reading.of(spec), variate_column=trained.variate_column, value_column=trained.value_column
        )
        if frame is not given:  # it was long: the clock and what was left out are columns of the table as it came
            said = tuple(timestamp) if timestamp is not None and not isinstance(timestamp, str) else timestamp
            kept = dataclasses.replace(kept, timestamp=said or trained.timestamp, exclude=trained.exclude)
        spec = dataclasses.replace(spec, reading=kept.to_plain())
        return self._with(found, spec, {**about, "before": self.about})

    def calibrate(
        self,
        data: Any,
        *,
        quantile_levels: Sequence[float] | None = None,
        size: int | float | None = None,
        local: bool | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> "Forecaster":
        """Give any trained forecaster intervals by what it got wrong lately, and return a new one (split conformal).

        For each target, step of the horizon and level, the forecast is moved by the quantile of its errors in the last
        windows of a table: of a point, by that of their magnitude; of a quantile, by that of what is above or below it
        (conformalised quantile regression).

        Args:
            data: A table that the forecaster was not trained on, or whose last rows chose its best epoch only.
            quantile_levels: Levels; None: 0.05, 0.1, 0.5, 0.9, 0.95. Those of a quantile forecaster are its own.
            size: Last rows of each item, or their share of it, whose windows count; None: as `val_size` was in `fit`.
            local: Whether an error counts in units of the deviation of its own window, so that intervals are wide where
                a series is restless; None: as it has the smaller pinball loss in the later half of the windows, by
                offsets of the earlier half.
            item_id: As in `fit`; None: as in its table, and so for the next two.
            timestamp: As in `fit`.
            freq: As in `fit`.

        Raises:
            ValueError: If there are fewer windows than the outermost level needs.

        Source:
            Vovk et al. (2005); Romano et al. (2019), arXiv:1905.03222; scaled errors: Lei et al. (2018),
            arXiv:1604.04173.
        """
        panel, _ = self._predictor.read(data, item_id, timestamp, freq)
        size = self.about.get("fit", {}).get("val_size", 0.1) if size is None else size
        levels = None if quantile_levels is None else check_levels(quantile_levels, middle=False)
        made, about = calibration.calibrate(self._predictor, panel, levels, size, local)
        return self._with(made, self._predictor.spec, {**self.about, "calibration": about})

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
                category, 1 where it is so, else 0 (`inputs` makes them). None where the network reads some: they are
                missing, which is logged as a warning.
            **options: With a Dataset or frame: as in `predict_df`.

        Returns:
            Of a tensor: a tensor (batch, target, horizon) of the same type on the same device, the median if quantiles
            are forecast; neither pandas nor Lightning is used. Of a Dataset: a Dataset of the same variables.

        Raises:
            ValueError: If a shape does not fit, or values are missing and the network cannot read that.
        """
        if isinstance(data, Tensor):
            if options:
                raise ValueError(
                    f"`{next(iter(options))}` is not for a tensor, expected it beside a frame or a Dataset."
                )
            quantiles = self.predict_quantiles(data, known)
            return quantiles[..., 0] if not self.levels else at_levels(quantiles, self.levels, [0.5])[..., 0]
        if known is not None:
            raise ValueError("`known` belongs to a tensor, expected `future_df=` beside a frame or a Dataset.")
        if isinstance(data, xr.Dataset):
            spec = self._trained()[1]
            forecast, origin = self._predictor.forecast(data, **options)
            units = dict(zip(spec.variates, spec.units, strict=False)) | (origin.units or {})
            return forecast.to_dataset(origin, {name: units[name] for name in spec.target_names if units.get(name)})
        return self.predict_df(data, **options)

    def predict_quantiles(
        self, past: Float[Tensor, "batch variate context"], known: Float[Tensor, "batch known total"] | None = None
    ) -> Float[Tensor, "batch target horizon level"]:
        """Forecast from tensors, as `predict` does, every level of `levels` (of a point forecast, one level).

        Args:
            past: As in `predict`.
            known: As in `predict`.
        """
        return self._predictor.of_tensors(past, known)

    def inputs(
        self,
        data: Any,
        future_df: Any = None,
        *,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> tuple[Float[Tensor, "item variate context"], Float[Tensor, "item known total"] | None]:
        """Return what `predict`, or an exported file, has to be given to forecast the steps after each item's last row.

        Args:
            data: As in `predict_df`.
            future_df: As in `predict_df`.
            item_id: As in `predict_df`.
            timestamp: As in `predict_df`.
            freq: As in `predict_df`.

        Returns:
            The series of `spec.variates`, and the rows of `spec.known_rows` over context and horizon (None if there
            are none), both in the table's units, NaN where missing.
        """
        return self._predictor.inputs(data, future_df, item_id=item_id, timestamp=timestamp, freq=freq)

    def predict_df(
        self,
        data: Any,
        future_df: Any = None,
        *,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
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
            freq: As in `fit`; None: as it was there.

        Returns:
            One row per item, target and step, in the order of the items' first rows: the columns of items and times
            ("item_id" and "timestamp", unless others were named), `target_name`, `predictions` (of quantiles, the
            median) and one column per level ("0.1").

        Raises:
            ValueError: If columns or rows are missing, repeated or at another step than in the training.
        """
        forecast, origin = self._predictor.forecast(
            data, future_df, horizon=horizon, quantile_levels=quantile_levels, item_id=item_id, timestamp=timestamp,
            freq=freq,
        )  # fmt: skip
        return frames.as_given(forecast.to_frame(self._predictor.names(item_id, timestamp)), origin)

    def backtest(
        self,
        data: Any,
        *,
        windows: int | None = None,
        step: int | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
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
            The frame of `predict_df` with the columns `cutoff`, the last time that was read, and `target`, the actual
            values (NaN where missing): every window once, in the order of items and cutoffs.

        Raises:
            ValueError: If an item has not so many windows.
        """
        forecast, origin = self._predictor.backtest(
            data, windows=windows, step=step, horizon=horizon, quantile_levels=quantile_levels, item_id=item_id,
            timestamp=timestamp, freq=freq,
        )  # fmt: skip
        return frames.as_given(forecast.to_frame(self._predictor.names(item_id, timestamp)), origin)

    # ---- what it looked at

    def attention(
        self,
        data: Any,
        future_df: Any = None,
        *,
        kind: str | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> xr.DataArray:
        """Return what the network looked at when it forecast the steps after the last row.

        Args:
            data: As in `predict_df`.
            future_df: As in `predict_df`.
            kind: Which maps; None: the most telling ones. iTransformer has "variates", PatchTST "patches", TimeXer
                "exogenous" and "patches", Gateformer "variate", "temporal" and "gates", MVPA "cells" (patch by patch of
                all series), "channels" and "steps"; another word is refused with the list.
            item_id: As in `predict_df`.
            timestamp: As in `predict_df`.
            freq: As in `predict_df`.

        Returns:
            Weights over `layer`, `head`, `query` and `key` (and `item` if there are several; `variate` where each has
            maps of its own), whose coordinates are names of columns and the first times of patches. The
            weights of a query add up to 1. Of "channels" and "steps" there is the axis `without`: each term of the
            scores left out in turn.
        """
        from tsattn.forecasting import explain

        columns = {"item_id": item_id, "timestamp": timestamp, "freq": freq}
        return explain.attention(self._predictor, data, future_df, kind, columns)

    def importance(
        self,
        data: Any,
        *,
        windows: int | None = None,
        step: int | None = None,
        item_id: str | None = None,
        timestamp: str | Sequence[str] | None = None,
        freq: str | None = None,
    ) -> pd.DataFrame:
        """Say how much worse the forecasts of the last windows get when each column is taken away (ablation).

        Args:
            data: As in `backtest`, with the actual values after each cutoff.
            windows: Cutoffs of each item; None: as many as every item has, at most 50.
            step: Rows from one cutoff to the next; None: the horizon.
            item_id: As in `predict_df`.
            timestamp: As in `predict_df`.
            freq: As in `predict_df`.

        Returns:
            A row per source and target: `source` (a column of the table, or "calendar"), `target_name`, `mae` without
            it, and `importance`, how much that is above the error with everything, as a share of it. A source is
            missing throughout its context, and its horizon if that is known; its own past is a source of a target, too.
        """
        from tsattn.forecasting import explain

        columns = {"item_id": item_id, "timestamp": timestamp, "freq": freq}
        return explain.importance(self._predictor, data, windows, step, columns)

    def plot(self, forecast: Any, history: Any = None, **options: Any) -> "Figure":
        """Draw what `predict_df`, `backtest`, `attention` or `importance` returned.

        Args:
            forecast: The frame or DataArray.
            history: Of a forecast: the table that it was made from.
            **options: `out`, a picture to write (with `overwrite`); `item`; `targets`; of a forecast `steps` of the
                history; of attention which `layer`, `head`, `without` or `variate` (`tsattn.forecasting.plots.plot`).

        Returns:
            A matplotlib figure, which a notebook shows.
        """
        from tsattn.forecasting import plots

        return plots.plot(self._predictor, forecast, history, **options)

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
