"""Lightning data modules: a table becomes batches for training, validation and test.

`TableData` reads a benchmark or a user's file, splits it by time, knows its statistics (of the training rows only), and
keeps the standardised values in one buffer on the training device, from which windows are gathered (`windows.py`).
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from tsattn import messages, typed
from tsattn.contracts import Fill, TableSpec
from tsattn.data import calendar, fetch, grid, panel, tables
from tsattn.data.calendar import Marks
from tsattn.data.reading import Reading
from tsattn.data.specify import check_names, specify
from tsattn.data.windows import Split, WindowLoader, Windows, window_starts

log = logging.getLogger(__name__)

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


class TableData(lightning.LightningDataModule):
    """Windows of one table for training, validation and test.

    The variates of a batch are the targets first, then the exogenous columns. If all columns are targets they keep the
    order of the file (TSLib moves "OT" to the end; means over all targets do not see that).

    Args:
        dataset: Name of a benchmark (`tsattn data list`); its protocol is followed where an option is None.
        table: Path of your own table, instead of `dataset`: .csv, .csv.gz, .txt, .npz or .parquet, wide or long.
        root: The only folder in which the benchmark is looked for; None: TSATTN_DATA, ./data, the cache.
        timestamp: Column with the times; several ("[date, time]"): day and time of day, or year, month, day, hour, to
            be joined; None: found; "none": rows are equally spaced and have no times.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"), or for numbers epoch_s, epoch_ms,
            epoch_us, epoch_ns (since 1970), excel (days of a spreadsheet) or steps; None: ISO 8601, else month before
            day; numbers by their size.
        decimal: Decimal separator of a text file.
        thousands: Thousands separator of a text file, such as "," or "."; "none": there is none; None: not known, and
            what could be read in two ways is an error.
        encoding: Encoding of a text file; None: UTF-8, else Windows-1252 with a warning.
        variate_column: Of a long table: the column that says which variate a row is of.
        value_column: Of a long table: the column with the values.
        exclude: Columns that are left out.
        target: Column or columns to forecast; None: all that are not exogenous.
        exogenous: Columns that are only read; None: all others if there is a target; "none" or []: none.
        known: Columns that are known over the horizon, too, such as another's forecast or the number of holidays; they
            are neither targets nor exogenous.
        context: Steps read.
        horizon: Steps predicted.
        split: Fractions or numbers of rows for train, validation, test; None: the benchmark's, else 0.7, 0.1, 0.2.
        marks: Calendar features: of the "true" step, the hourly ones of the "benchmark" papers, or "none"; None: the
            benchmark's, else "true".
        batch_size: Windows per training batch.
        eval_batch_size: Windows per batch of validation and test; no score depends on it. None: up to 128, fewer for
            wide tables (4,096 series in a batch), at least `batch_size`.
        fill: How missing values are filled for the network: "none" (they are masked), "forward" (last observed value),
            "linear" (between neighbours in time, of which one lies after the gap: a context may then hold something of
            what is to be forecast, which is warned of); None: the benchmark's, else "none".
            Forecasts are never compared with filled values.
        freq: Step at which absent rows are missing ones ("h"), then and in every table that is forecast later; None:
            an absent row is an error.
        snap: Step to whose nearest point each time is moved ("1h"), for stamps that jitter; every row stays.
        resample: Longer step to which rows are averaged ("1h"); empty bins are missing, and a first or last bin that is
            not full is left out.
        zone: Time zone of the clock ("Europe/Berlin"): times are brought there, and times without a zone are of it.
        drop_duplicates: Keep the first of several rows with the same time.
        season: Steps of one season for the seasonal-naive score; None: the benchmark's, else the calendar's.
        seed: Random seed for the order of the training windows.
        on_device: Keep the table on the training device, so that batches need no copying.

    Raises:
        ValueError: If not exactly one of `dataset` and `table` is given, or an option is out of range; what only the
            table can show is raised by `prepare`.
    """

    def __init__(
        self,
        dataset: str | None = None,
        table: str | Path | None = None,
        root: str | Path | None = None,
        timestamp: str | list[str] | None = None,
        time_format: str | None = None,
        decimal: str = ".",
        thousands: str | None = None,
        encoding: str | None = None,
        variate_column: str | None = None,
        value_column: str | None = None,
        exclude: str | list[str] | None = None,
        target: str | list[str] | None = None,
        exogenous: str | list[str] | None = None,
        known: str | list[str] | None = None,
        context: int = 96,
        horizon: int = 96,
        split: list[float | int] | None = None,
        marks: Marks | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        fill: Fill | None = None,
        freq: str | None = None,
        snap: str | None = None,
        resample: str | None = None,
        zone: str | None = None,
        drop_duplicates: bool = False,
        season: int | None = None,
        seed: int = 0,
        on_device: bool = True,
    ) -> None:
        super().__init__()
        if (dataset is None) == (table is None):
            raise ValueError(
                f"dataset is {dataset!r} and table is {table!r}, expected exactly one of them; "
                f"{messages.advice('give {dataset=etth1}', 'give {table=my.csv}')}."
            )
        for name, number in (
            ("context", context),
            ("horizon", horizon),
            ("batch_size", batch_size),
            ("eval_batch_size", 1 if eval_batch_size is None else eval_batch_size),
            ("season", 1 if season is None else season),
        ):
            if number < 1:
                raise ValueError(f"{name} is {number}, expected at least 1.")
        if fill not in (None, "none", "forward", "linear"):
            raise ValueError(f'fill is "{fill}", expected "none", "forward" or "linear".')
        self.benchmark = None if dataset is None else fetch.benchmark(dataset)
        self.dataset = dataset
        self.table = table
        self.root = root
        self.timestamp = timestamp
        self.time_format = time_format
        self.decimal = decimal
        self.thousands = thousands
        self.encoding = encoding
        self.variate_column = variate_column
        self.value_column = value_column
        self.exclude = exclude
        self.target = target
        self.exogenous = exogenous
        self._asked_known = known
        self.known: list[str] = []  # columns, once the table is read
        self.context = context
        self.horizon = horizon
        self.split = split
        self.marks = marks
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.fill = fill
        self.freq = freq
        self.snap = snap
        self.resample = resample
        self.zone = zone
        self.drop_duplicates = drop_duplicates
        self.season = season
        self.seed = seed
        self.on_device = on_device
        self._frame: pd.DataFrame | None = None
        self._table: xr.Dataset | None = None
        self._known_columns: dict[str, np.ndarray] = {}
        self._training_zone: str | None = None
        self._targets = 0
        self._parts: dict[Part, Split] = {}
        self._spec: TableSpec | None = None
        self._windows: tuple[tuple[TableSpec, torch.device], Windows] | None = None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **options: Any) -> "TableData":
        """Take the table from memory; it is not changed.

        Args:
            frame: Wide or long, as `tables.from_frame` reads it.
            **options: As in the constructor, without `dataset`, `table` and `root`.
        """
        data = cls(table="DataFrame", **options)
        data._frame = frame
        return data

    # The table ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Read and check the table; once, however often it is called.

        Raises:
            FileNotFoundError: If the file is not there.
            ValueError: If the table cannot be read, lacks a column, or is too short for a window in every part.
        """
        if self._table is not None:
            return
        table = self._read()
        order, targets = self._columns([str(name) for name in table["variate"].values])
        rows = table.sizes["time"]
        parts = self._split_rows(rows)
        frequency = table.attrs["frequency"]
        marks = self._mark_names(frequency)
        columns = dict(zip(map(str, table["variate"].values), table["values"].values, strict=True))
        alone = np.array([panel.ALONE], dtype=object)
        whole = panel.Panel(
            alone, np.array([0, rows]), table.indexes["time"], columns, frequency, int(table.attrs["step"])
        )
        train = np.zeros(rows, dtype=bool)
        train[parts["train"].begin : parts["train"].end] = True
        clock = table.attrs["clock"]
        named = clock[0] if len(clock) == 1 and self.timestamp is not None else "timestamp"
        spec = specify(
            whole,
            train,
            targets=order[:targets],
            past=order[targets:],
            covariates=[(name, "known", False) for name in self.known],
            marks=marks,
            season=self._season,
            fill=self._fill,
            names=("item_id", named),
            units=table.attrs["units"],
            how=self._reading(table),
            mend=lambda name: messages.advice("leave it out by {exclude}", "move the borders by {split}", exclude=name),
        )
        if order != list(table["variate"].values):
            table = table.sel(variate=order)
        self._table, self._targets, self._parts, self._spec = table, targets, parts, spec
        self._known_columns = {name: columns[name] for name in self.known}

    def _reading(self, table: xr.Dataset) -> Reading:
        """Return how the table was read, its columns by the names that they have in it."""
        reading = Reading(
            timestamp="none" if self.timestamp == "none" else None,
            time_format=self.time_format,
            zone=self.zone,
            decimal=self.decimal,
            thousands=self.thousands,
            encoding=self.encoding,
            variate_column=self.variate_column,
            value_column=self.value_column,
            exclude=tuple(str(name) for name in table.attrs["excluded"]),
            drop_duplicates=self.drop_duplicates,
            snap=self.snap,
            resample=self.resample,
            freq=self.freq,
        )
        return reading.found(table.attrs["clock"])

    def _read(self) -> xr.Dataset:
        options: dict[str, Any] = {
            "timestamp": self.timestamp,
            "time_format": self.time_format,
            "variate_column": self.variate_column,
            "value_column": self.value_column,
            "exclude": () if self.exclude is None else self.exclude,
            "zone": self.zone,
            "snap": self.snap,
            "resample": self.resample,
            "freq": self.freq,
            "drop_duplicates": self.drop_duplicates,
            "training": self._training_zone,
            "keep": self._named(),
            "columns": self._only(),
        }
        if self._frame is not None:
            return tables.from_frame(self._frame, **options)
        if self.benchmark is None:
            assert self.table is not None
            table = tables.read_table(
                self.table, decimal=self.decimal, thousands=self.thousands, encoding=self.encoding, **options
            )
            self._recognise(Path(self.table), table)
            return table
        path = fetch.find(self.benchmark.name, self.root)
        if not fetch.is_genuine(self.benchmark.name, path):
            log.warning(
                "%s is not byte for byte a known copy of the benchmark %s: scores may not compare with published ones.",
                path,
                self.benchmark.name,
            )
        asked = (self.snap, self.resample, self.freq, self.zone)
        mended = self.drop_duplicates or any(option is not None for option in asked)
        return tables.read_table(path, clock="strict" if mended else self.benchmark.clock, **options)

    def _named(self) -> list[str]:
        """Return the columns that somebody named, for whatever."""
        roles = (self.target, self.exogenous, self._asked_known)
        return [name for role in roles for name in ([role] if isinstance(role, str) else list(role or ()))]

    def _only(self) -> list[str] | None:
        """Return the only columns that are read: all that are named, if both targets and the others are."""
        if self.target is None or self.exogenous is None:
            return None
        return [name for name in self._named() if name != "none" or self.exogenous != "none"]

    def _recognise(self, path: Path, table: xr.Dataset) -> None:
        shape = (table.sizes["time"], table.sizes["variate"])
        for benchmark in fetch.REGISTRY.values():
            if shape == (benchmark.rows, benchmark.variates) and fetch.is_genuine(benchmark.name, path):
                log.info(
                    "%s is the benchmark %s; %s would follow its published split.",
                    path,
                    benchmark.name,
                    messages.advice("{dataset}", dataset=benchmark.name),
                )

    def _columns(self, present: list[str]) -> tuple[list[str], int]:
        """Order the columns, targets first; return their names and the number of targets."""
        target = None if self.target is None else typed.chosen(self.target, present)
        exogenous: Sequence[str] | None = None if self.exogenous is None else typed.chosen(self.exogenous, present)
        if exogenous == ["none"] and "none" not in present:
            exogenous = []
        self.known = typed.chosen(self._asked_known, present)
        for role, chosen in (("target", target), ("exogenous", exogenous), ("known", self.known)):
            for name in chosen or ():
                if name not in present:
                    listed = ", ".join(map(repr, present[:12])) + (" ..." if len(present) > 12 else "")
                    raise ValueError(
                        f"The table has no column {name!r}, expected one of {listed}; "
                        f"{messages.advice(f'check {{{role}}}')}."
                    )
            if chosen and len(set(chosen)) < len(chosen):
                raise ValueError(f"{role} is {list(chosen)}, expected every column once.")
        if target is None:
            target = [name for name in present if name not in (exogenous or ()) and name not in self.known]
        elif exogenous is None:
            exogenous = [name for name in present if name not in target and name not in self.known]
        if not target:
            way = messages.advice("check {exogenous}")
            raise ValueError(f"No column is left as a target, expected at least one; {way}.")
        for one, ones, other, others in (
            ("target", target, "exogenous", exogenous or ()),
            ("target", target, "known", self.known),
            ("exogenous", exogenous or (), "known", self.known),
        ):
            both = [name for name in ones if name in others]
            if both:
                raise ValueError(f"{both[0]!r} is both {one} and {other}, expected one of the two.")
        return [*target, *(exogenous or ())], len(target)

    def _split_rows(self, rows: int) -> dict[Part, Split]:
        benchmark = self.benchmark
        wanted: Sequence[float | int]
        if self.split is not None:
            wanted = self.split
        else:
            wanted = (0.7, 0.1, 0.2) if benchmark is None else benchmark.split
        rounding = "rest to validation" if benchmark is None or self.split is not None else benchmark.rounding
        reach_back = benchmark is None or benchmark.reach_back
        lengths = _part_lengths(rows, wanted, rounding)
        parts: dict[Part, Split] = {}
        begin = 0
        for part, length in zip(PARTS, lengths, strict=True):
            parts[part] = Split(begin, begin + length, reach_back and part != "train")
            begin += length
        window = self.context + self.horizon
        short = [
            f"{part} has {len(split)} rows and needs {needed}"
            for part, split in parts.items()
            if (len(split) or part == "train") and len(split) < (needed := self.horizon if split.reach_back else window)
        ]
        if parts["train"].end < window and not short:
            short = [f"train has {parts['train'].end} rows and needs {window}"]
        if short:
            raise ValueError(
                f"A table of {rows} rows is too short for context {self.context} and horizon {self.horizon}: "
                f"{', '.join(short)}; {messages.advice('shorten context or horizon', 'give {split}')}."
            )
        return parts

    def _mark_names(self, frequency: str) -> tuple[str, ...]:
        marks = self.marks
        if marks is None:
            marks = "true" if self.benchmark is None else self.benchmark.marks
        elif marks != "none" and not frequency:
            way = messages.advice("pass {marks=none}")
            raise ValueError(f'marks is "{marks}" but the table has no times, expected "none"; {way}.')
        return calendar.feature_names(frequency, marks)

    @property
    def _season(self) -> int | None:
        if self.season is not None:
            return self.season
        if self.benchmark is not None and self.resample is None:
            return self.benchmark.season
        return None

    @property
    def _fill(self) -> Fill:
        if self.fill is not None:
            return self.fill
        return "none" if self.benchmark is None else self.benchmark.fill

    # What it was -------------------------------------------------------------------------------------------------

    @property
    def dataset_(self) -> xr.Dataset:
        """The table in its own units: `values` (variate, time), targets first."""
        self.prepare()
        assert self._table is not None
        return self._table

    @property
    def spec(self) -> TableSpec:
        """Names, order and statistics of the training rows, for the model's checkpoint."""
        self.prepare()
        assert self._spec is not None
        return self._spec

    @property
    def targets(self) -> int:
        """Number of targets."""
        self.prepare()
        return self._targets

    @property
    def fingerprint(self) -> str:
        """sha256 of the values as they were read."""
        return str(self.dataset_.attrs["sha256"])

    @property
    def splits(self) -> dict[Part, dict[str, int]]:
        """For each part the rows `begin` to `end` that are predicted, and the number of `windows`."""
        self.prepare()
        return {
            part: {"begin": split.begin, "end": split.end, "windows": len(self.starts(part))}
            for part, split in self._parts.items()
        }

    @property
    def missing(self) -> dict[str, int]:
        """Number of missing values of each variate."""
        table = self.dataset_
        counts = np.isnan(table["values"].values).sum(axis=1)
        return {str(name): int(count) for name, count in zip(table["variate"].values, counts, strict=True)}

    @property
    def summary(self) -> str:
        """One line: source, rows, step, targets, exogenous columns, missing values."""
        table, spec = self.dataset_, self.spec
        source = self.benchmark.name if self.benchmark else table.attrs["source"]
        exogenous = len(spec.variates) - spec.targets
        step = spec.frequency or spec.step or "unknown"
        ahead = f", {len(spec.covariates)} known ahead" if spec.covariates else ""
        missing = sum(self.missing.values())
        treated = {"none": "masked", "forward": "filled forward", "linear": "filled by lines, which look ahead"}
        return (
            f"{source}: {table.sizes['time']:,} rows, step {step}, {spec.targets} target"
            f"{'s' if spec.targets > 1 else ''}, {exogenous} exogenous{ahead}, {len(spec.marks)} calendar marks"
            + (f", {missing:,} values missing ({treated[spec.fill]})" if missing else "")
        )

    def __str__(self) -> str:
        return self.summary if self._table is not None else type(self).__name__

    @property
    def _eval_batch(self) -> int:
        return self.eval_batch_size or max(self.batch_size, min(128, 4096 // len(self.spec.variates)))

    @property
    def window_counts(self) -> dict[str, int]:
        """Number of windows of each part."""
        return {part: rows["windows"] for part, rows in self.splits.items()}

    @property
    def features(self) -> Literal["M", "MS", "S"]:
        """The papers' word; see `TableSpec.network_arguments`."""
        features: Literal["M", "MS", "S"] = self.spec.network_arguments["features"]
        return features

    # Windows -----------------------------------------------------------------------------------------------------

    def starts(self, part: Part) -> Int[Tensor, " window"]:
        """List the first rows of the windows of a part."""
        self.prepare()
        if part not in self._parts:
            raise ValueError(f'part is "{part}", expected one of {", ".join(PARTS)}.')
        split = self._parts[part]
        rows = self.dataset_.sizes["time"]
        if not len(split):
            return torch.arange(0)
        return window_starts(rows, split.begin, split.end, self.context, self.horizon, reach_back=split.reach_back)

    def windows(self, spec: TableSpec | None = None, device: torch.device | str = "cpu") -> Windows:
        """Standardise the table and return its windows (of all parts; `starts` chooses).

        Args:
            spec: Statistics and marks to use; None: this table's own.
            device: Where the buffer shall lie.

        Raises:
            ValueError: If `spec` is of other columns than this table.
        """
        spec = self.spec if spec is None else spec
        self._fit_to(spec)
        own = self.spec
        key = (spec, torch.device(device))
        if self._windows is not None and self._windows[0] == key:
            return self._windows[1]
        table = self.dataset_
        values = spec.standardise(torch.from_numpy(np.require(table["values"].values, requirements="W")))
        observed = truth = None
        gaps = values.isnan()
        if gaps.any():
            if self._fill == "none":
                observed = ~gaps
            else:
                truth = values[: own.targets] if gaps[: own.targets].any() else None
                if self._fill == "linear":
                    log.warning("fill: linear looks past each gap, so a context may hold something of its own future.")
                filled = tables.fill_missing(table["values"], self._fill)
                values = spec.standardise(torch.tensor(filled.values))
        known = panel.known_rows(spec, self._known_columns, self.dataset_.indexes["time"], "the table")
        windows = Windows(values, own.targets, self.context, self.horizon, known, observed, truth).to(device)
        self._windows = (key, windows)
        return windows

    def _fit_to(self, spec: TableSpec) -> None:
        """Refuse a table of other columns or another step than a training had; take its time zone."""
        own = self.spec
        if spec.frequency and own.frequency and spec.zone is not None and spec.zone != own.zone:
            self._training_zone, self._table = spec.zone, None  # read again, in the zone of the training
            own = self.spec
        if (spec.variates, spec.targets) != (own.variates, own.targets):
            raise ValueError(
                f"The model was trained on the targets {list(spec.target_names)} and the exogenous columns "
                f"{list(spec.variates[spec.targets :])}, the table has the targets {list(own.target_names)} and the "
                f"exogenous columns {list(own.variates[own.targets :])}; "
                f"{messages.advice('set {target} and {exogenous}')}."
            )
        if [c.name for c in spec.covariates] != self.known:
            raise ValueError(
                f"The model was trained with the columns {[c.name for c in spec.covariates]} known ahead, the data has "
                f"{self.known}; {messages.advice('set {known}', known=[c.name for c in spec.covariates])}."
            )
        if not calendar.same_step(spec.frequency, own.frequency) or spec.step != own.step:
            raise ValueError(
                f"The model was trained at the step {spec.frequency or spec.step or 'unknown'}, the table has "
                f"{own.frequency or own.step or 'unknown'}; {grid.ways_to(spec.frequency, own.frequency)}."
            )

    # Lightning ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Read the table and check it against the network that will read it.

        Raises:
            ValueError: As `prepare`; or if values are missing and the network cannot do with that.
        """
        self.prepare()
        module = None if self.trainer is None else self.trainer.lightning_module
        network = getattr(module, "network", None)
        if self._spec is not None and not getattr(network, "reads_known", True):
            self._spec = dataclasses.replace(self._spec, marks=())
        trained = getattr(module, "spec", None)
        if trained is not None:
            self._fit_to(trained)
        missing = sum(self.missing.values())
        check_names((), self.spec.columns, getattr(network, "levels", None) or ())
        ahead = getattr(network, "future_covariates", None)
        if network is not None and ahead != (len(self.known) or None):
            raise ValueError(
                f"{self.known} are known ahead, but {type(network).__name__} reads {ahead or 'no'} covariates of the "
                f"future, expected {len(self.known)}: take a network that does (iTransformer, TimeXer), or "
                f"{messages.advice('pass them by {exogenous}, their past only', exogenous=self.known)}."
            )
        if missing and self._fill == "none" and not getattr(network, "reads_missing", True):
            name = next(name for name, count in self.missing.items() if count)
            why = getattr(network, "why_no_missing", "") or "it does not say why"
            raise ValueError(
                f"{missing} values are missing ({self.missing[name]} of {name!r}) and {type(network).__name__} reads "
                f"none ({why}); {messages.advice('fill them by {fill=forward}')}."
            )

    def train_dataloader(self) -> WindowLoader:
        """Every training window once per epoch, in an order of its own."""
        return self._loader("train")

    def val_dataloader(self) -> WindowLoader | list[WindowLoader]:
        """Every validation window once, in order."""
        return self._loader("val") if len(self.starts("val")) else []

    def test_dataloader(self) -> WindowLoader | list[WindowLoader]:
        """Every test window once, in order."""
        return self._loader("test") if len(self.starts("test")) else []

    def predict_dataloader(self) -> WindowLoader | list[WindowLoader]:
        """The test windows."""
        return self.test_dataloader()

    def _loader(self, part: Part) -> WindowLoader:
        trainer = self.trainer
        device: torch.device | str = "cpu"
        if trainer is not None and self.on_device:
            device = trainer.strategy.root_device
        train = part == "train"
        return WindowLoader(
            self.windows(self._spec_in_use(), device),
            self.starts(part),
            self.batch_size if train else self._eval_batch,
            shuffle=train,
            seed=self.seed,
            rank=0 if trainer is None else trainer.global_rank,
            world=1 if trainer is None else trainer.world_size,
            even=train,
        )

    def _spec_in_use(self) -> TableSpec:
        """The statistics of the model that is running, where it has some; else the table's own."""
        module = None if self.trainer is None else self.trainer.lightning_module
        spec = getattr(module, "spec", None)
        return self.spec if spec is None else spec

    # Baselines ---------------------------------------------------------------------------------------------------

    def naive_forecasts(
        self, part: Part = "test", spec: TableSpec | None = None
    ) -> Iterator[tuple[Float[Tensor, "batch target horizon"], dict[str, Float[Tensor, "batch target horizon"]]]]:
        """Forecast the windows of a part without a model, in the same order and scale as its loader.

        `seasonal_naive` repeats the last season before the forecast (it may reach further back than the context);
        `last_value` repeats the last value. A missing value is replaced by the last observed one before it, and where
        none was observed yet by the mean of the training rows.

        Args:
            part: Which windows.
            spec: Statistics of the scale; None: those that the loaders use.

        Yields:
            The truth, NaN where missing, and the forecasts by name.

        Raises:
            ValueError: If there is no full season before the first window's forecast.
        """
        spec = self._spec_in_use() if spec is None else spec
        windows = self.windows(spec)
        starts = self.starts(part)
        season = self.spec.season
        if len(starts) and int(starts[0]) + self.context < season:
            raise ValueError(
                f"The first {part} window has {int(starts[0]) + self.context} rows before its forecast, expected a "
                f"season of {season}; {messages.advice('give a shorter {season}')}."
            )
        held = pd.DataFrame(self.dataset_["values"].values[: self.targets].T).ffill().to_numpy().T
        held = np.array(held, order="C")  # own and writable
        held_standard = TableSpec(
            spec.target_names, spec.targets, spec.mean[: spec.targets], spec.scale[: spec.targets], spec.frequency
        ).standardise(torch.from_numpy(held))
        past = Windows(held_standard.nan_to_num(nan=0.0), self.targets, season, self.horizon)
        phase = torch.arange(self.horizon) % season
        for rows in starts.split(self._eval_batch):
            last_season = past.gather(rows + self.context - season).past
            yield (
                windows.gather(rows).future,
                {
                    "seasonal_naive": last_season[..., phase],
                    "last_value": last_season[..., -1:].expand(-1, -1, self.horizon),
                },
            )

    @property
    def train_targets(self) -> Float[np.ndarray, "target time"]:
        """The targets in the training rows, in the table's units; NaN where missing."""
        return self.dataset_["values"].values[: self.targets, : self._parts["train"].end]


def _part_lengths(rows: int, wanted: Sequence[float | int], rounding: str) -> tuple[int, int, int]:
    """Turn fractions or numbers of rows into numbers of rows."""
    if len(wanted) != 3 or min(wanted) < 0 or wanted[0] == 0:
        raise ValueError(
            f"split is {list(wanted)}, expected three fractions such as 0.7, 0.1, 0.2 or three numbers of rows, for "
            "train, validation and test."
        )
    train, val, test = wanted
    if max(wanted) > 1:
        if any(part != int(part) for part in wanted):
            raise ValueError(
                f"split is {list(wanted)}, expected only fractions (up to 1) or only whole numbers of rows."
            )
        if sum(wanted) > rows:
            way = messages.advice("check {split}")
            raise ValueError(f"split asks for {int(sum(wanted))} rows, but the table has {rows}; {way}.")
        return int(train), int(val), int(test)
    total = train + val + test
    if total > 1 + 1e-9:
        raise ValueError(f"The fractions of split {list(wanted)} add up to {total:g}, expected at most 1.")
    if rounding == "cumulative":
        first, second = int(train * rows), int((train + val) * rows)
        return first, second - first, rows - second
    n_train, n_test = int(train * rows), int(test * rows)
    n_val = rows - n_train - n_test if total > 1 - 1e-9 and val > 0 else int(val * rows)
    return n_train, n_val, n_test
