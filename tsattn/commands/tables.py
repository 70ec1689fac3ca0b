"""Commands on tables: forecast, data, configs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def forecast(
    checkpoint: Path,
    table: Path,
    out: Path,
    plot: Path | None = None,
    format: str = "long",
    future: Path | None = None,
    horizon: int | None = None,
    quantiles: list[float] | None = None,
    item_id: str | None = None,
    timestamp: str | None = None,
    time_format: str | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    resample: str | None = None,
    drop_duplicates: bool = False,
    overwrite: bool = False,
) -> None:
    """Forecast the steps that follow a table's last row, or each item's.

    Args:
        checkpoint: A run's best.ckpt or an exported folder.
        table: CSV or Parquet, wide or long.
        out: CSV (or .parquet) to write.
        plot: Picture to write (.png, .pdf, .svg).
        format: `long` (item_id, timestamp, target_name, predictions, quantiles) or `wide` (one column per target).
        future: Table of the known covariates of the steps to forecast.
        horizon: Steps; default: the trained horizon. A longer one is forecast in blocks.
        quantiles: Levels between those that the forecaster has; default: those.
        item_id: Column of items, if the table has many that are not to be mixed.
        timestamp: Name of the time column, if it is not found by itself; "[date, time]" joins two.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"), or epoch_s, epoch_ms, excel, steps.
        decimal: What stands before the decimals in a text file.
        thousands: What stands between the thousands in a text file; `none`: nothing.
        encoding: Of a text file; default: UTF-8, else Windows-1252 with a warning.
        variate_column: Of a long table, the column that names the variate.
        value_column: Of a long table, the column that holds the values.
        resample: Bring the rows to this step first, by the mean ("1h").
        drop_duplicates: Keep the first of rows with equal timestamps.
        overwrite: Write over files that exist already.
    """
    from tsattn import files
    from tsattn.data.tables import from_frame, read_frame, read_table
    from tsattn.forecasting.forecaster import Forecaster

    if format not in ("long", "wide"):
        raise ValueError(f"--format is {format!r}, expected long or wide.")
    for path in filter(None, (out, plot)):
        files.refuse_existing(path, overwrite)
        if path.resolve() == table.resolve():
            raise ValueError(f"{path} is the table itself, which a forecast would replace: choose another --out.")
    if plot is not None and plot.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--plot is {plot}, expected a name that ends in .png, .pdf or .svg.")
    forecaster = Forecaster.from_pretrained(checkpoint)
    spec = forecaster.spec
    assert spec is not None
    written = (decimal, thousands, encoding)
    read = [*spec.variates, *(c.name for c in spec.covariates if c.categories is None)]
    of_text: dict[str, Any] = {"skip": [timestamp] if timestamp else [], "only": None if value_column else read}
    frame, has_clock = read_frame(table, *written, **of_text)
    names = {str(name).strip() for name in frame.columns}
    many = (
        item_id is not None or bool(names & {"item_id", spec.columns[0]}) or any(c.categories for c in spec.covariates)
    )
    how: dict[str, Any] = {"time_format": time_format, "resample": resample, "drop_duplicates": drop_duplicates}
    of_long: dict[str, Any] = {"variate_column": variate_column, "value_column": value_column}
    as_it_is = many or bool(spec.gaps and not any([resample, drop_duplicates, *of_long.values()]))
    try:
        if as_it_is:
            if any(how[key] for key in ("resample", "drop_duplicates")) or any(of_long.values()):
                raise ValueError(
                    "--resample, --drop_duplicates, --variate_column and --value_column are of a table of one item, "
                    "expected none of them with items or categories."
                )
            history, clock = _with_times(frame, timestamp, time_format, table), timestamp
            ahead = None
            if future is not None:
                ahead = _with_times(read_frame(future, *written, **of_text)[0], timestamp, time_format, future)
        else:
            clock = None
            time_column = timestamp if has_clock else "none"
            history = _of_one(
                from_frame(frame, timestamp=time_column, columns=spec.columns_read, source=str(table), **how, **of_long)
            )
            ahead = None
            if future is not None:
                future_table = read_table(
                    future, timestamp=timestamp, columns=spec.known_names, decimal=decimal, thousands=thousands,
                    encoding=encoding, **how,
                )  # fmt: skip
                ahead = _of_one(future_table)
        columns = {"item_id": item_id, "timestamp": clock}
        made = forecaster.predict_df(history, ahead, horizon=horizon, quantile_levels=quantiles, **columns)
    except ValueError as problem:  # the options that mend a table have no prefix here
        told = str(problem).replace("--data.", "--").replace("`future_df`", "`--future`")
        raise ValueError(told.replace("future_df", "The table of --future")) from problem
    if format == "wide":
        keys = list(made.columns[:2]) if many else [made.columns[1]]
        written = made.pivot(index=keys, columns="target_name", values="predictions")
        written = written[list(spec.target_names)].rename_axis(columns=None).reset_index()
    else:
        written = made
    if out.suffix == ".parquet":
        content = written.to_parquet()
    else:
        content = written.to_csv(index=False, float_format="%.10g").encode()
    files.write_atomically(out, lambda file: file.write(content))
    print(f"{len(written)} rows written to {out}")
    if plot is not None:
        forecaster.plot(made, history, out=plot, overwrite=overwrite)
        print(f"picture written to {plot}")


def _of_one(table: "xr.Dataset") -> "pd.DataFrame":
    """Return a table of one item as a frame whose index is the time, or with a column of it if it is whole numbers."""
    frame = table["values"].to_dataset("variate").to_dataframe()
    return frame.reset_index(names="timestamp") if table.attrs["step"] else frame


def _with_times(frame: "pd.DataFrame", timestamp: str | None, time_format: str | None, path: Path) -> "pd.DataFrame":
    """Read times that are written in another way than pandas expects."""
    from tsattn.data.tables import find_clock

    if time_format is None:
        return frame
    times, name = find_clock(frame, timestamp, time_format, str(path))
    return frame.assign(**{name: times})


def data_list() -> None:
    """List the benchmark tables and where each was found."""
    from tsattn.data import fetch

    print(fetch.overview())


def data_describe(name: str, root: Path | None = None) -> None:
    """Say what a benchmark table is, its licence, splits and where it was found.

    Args:
        name: As in `tsattn data list`.
        root: Folder to look in first.
    """
    from tsattn.data import fetch

    print(fetch.describe(name, root))


def data_fetch(name: str, root: Path | None = None, overwrite: bool = False) -> None:
    """Download a benchmark table and check its sha256.

    Args:
        name: As in `tsattn data list`.
        root: Folder to put it in; default: TSATTN_DATA if set, else the cache.
        overwrite: Write over a file that exists already.
    """
    from tsattn.data import fetch

    path = fetch.fetch(name, root, overwrite=overwrite)
    print(f"{path}\nlicence: {fetch.benchmark(name).licence}")


def data_simulate(
    out: Path, rows: int = 4000, variates: int = 8, seed: int = 0, missing: float = 0.0, overwrite: bool = False
) -> None:
    """Write a simulated hourly table: cycles, trends, and variates that lead each other.

    Args:
        out: CSV to write.
        rows: Hours.
        variates: Columns.
        seed: Of the random numbers.
        missing: Share of the values left out, in runs as a failing sensor would.
        overwrite: Write over a file that exists already.
    """
    from tsattn import files
    from tsattn.data.simulate import simulate_table

    files.refuse_existing(out, overwrite)
    text = simulate_table(rows=rows, variates=variates, seed=seed, missing=missing).to_csv(index=False).encode()
    files.write_atomically(out, lambda file: file.write(text))
    print(f"{rows} rows of {variates} variates written to {out}")


def configs_list() -> None:
    """List the shipped configurations and the papers' settings."""
    from tsattn import shipped

    print(shipped.overview())


def configs_show(name: str) -> None:
    """Print one shipped configuration.

    Args:
        name: As listed, for example forecast/itransformer.yaml or paper/itransformer-etth1-96.
    """
    from tsattn import shipped

    print(shipped.show(name))
