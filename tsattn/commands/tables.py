"""Commands on tables: forecast, data, configs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from tsattn.data.reading import Reading


def forecast(
    checkpoint: Path,
    table: Path,
    out: Path,
    plot: Path | None = None,
    format: Literal["long", "wide"] = "long",
    future: Path | None = None,
    horizon: int | None = None,
    quantiles: list[float] | None = None,
    item_id: str | None = None,
    timestamp: str | None = None,
    time_format: str | None = None,
    zone: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    variate_column: str | None = None,
    value_column: str | None = None,
    freq: str | None = None,
    snap: str | None = None,
    resample: str | None = None,
    drop_duplicates: bool = False,
    overwrite: bool = False,
) -> None:
    """Forecast the steps that follow a table's last row, or each item's.

    The table is read as the one of the training was: what was said there about its clock and its numbers holds, unless
    another option is given here.

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
        timestamp: Name of the time column; "[date, time]" joins two; default: as in the training, or found.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"), or epoch_s, epoch_ms, excel, steps;
            default: as in the training.
        zone: Time zone of times that are written without one ("Europe/Berlin"); default: as in the training.
        decimal: Decimal separator of a text file; default: as in the training, else a point.
        thousands: Thousands separator of a text file; `none`: there is none; default: as in the training.
        encoding: Encoding of a text file; default: as in the training, else UTF-8, else Windows-1252 with a warning.
        variate_column: Of a long table, the column that names the variate; default: as in the training.
        value_column: Of a long table, the column that holds the values; default: as in the training.
        freq: Step at which absent rows are missing ones ("1h"); default: as in the training.
        snap: Step to whose nearest point each time is moved ("1h"); default: as in the training.
        resample: Step to which the rows are averaged ("1h"); default: as in the training.
        drop_duplicates: Keep the first of rows with equal timestamps; so it is if the training did it.
        overwrite: Write over files that exist already.
    """
    import dataclasses
    import re

    from tsattn import files, typed
    from tsattn.data.reading import Reading
    from tsattn.forecasting.forecaster import Forecaster

    for path in filter(None, (out, plot)):
        files.refuse_existing(path, overwrite)
        if path.resolve() == table.resolve():
            raise ValueError(f"{path} is the table itself, which a forecast would replace: choose another --out.")
    if plot is not None and plot.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--plot is {plot}, expected a name that ends in .png, .pdf or .svg.")
    forecaster = Forecaster.from_pretrained(checkpoint)
    spec = forecaster.spec
    assert spec is not None
    given: dict[str, Any] = {
        "timestamp": timestamp, "time_format": time_format, "zone": zone, "decimal": decimal, "thousands": thousands,
        "encoding": encoding,
        "variate_column": variate_column, "value_column": value_column, "freq": freq, "snap": snap,
        "resample": resample, "drop_duplicates": drop_duplicates or None,
    }  # fmt: skip
    trained = Reading.of(spec)
    numbers = [*spec.variates, *(c.name for c in spec.covariates if c.categories is None)]
    history, has_clock = _frame(table, trained.replaced(given)[0], numbers)
    if timestamp is not None:  # one column or several, which only the table can tell
        present = [*history.columns, *(name for name in history.index.names if name is not None)]
        names = typed.chosen(timestamp, [str(name).strip() for name in present])
        given["timestamp"] = names[0] if len(names) == 1 else tuple(names)
    how, changed = trained.replaced(given)
    told = [text for text, name in changed if getattr(trained, name) not in (None, False)]
    if told:
        print(f"read otherwise than in the training: {', '.join(told)}")
    forecaster.spec = dataclasses.replace(spec, reading=how.to_plain(), gaps=how.freq or "")
    ahead = None if future is None else _frame(future, how, numbers, "future")[0]
    clock = given["timestamp"] if has_clock else "none"
    try:
        made = forecaster.predict_df(
            history, ahead, horizon=horizon, quantile_levels=quantiles, item_id=item_id, timestamp=clock
        )
    except ValueError as problem:
        sentence = re.sub(r"The table (?!of `--future`)", lambda _: f"{table} ", str(problem), count=1)
        sentence = sentence.replace("`future_df`", "`--future`").replace("future_df", "The table of --future")
        raise ValueError(sentence) from problem
    picture = made
    many = made.columns[0] in {str(name).strip() for name in history.columns} - set(spec.columns_read)
    if not many:
        made = made.rename(columns={made.columns[1]: "timestamp"})
    if format == "wide":
        keys = list(made.columns[:2]) if many else [made.columns[1]]
        written = made.pivot(index=keys, columns="target_name", values="predictions")
        written = written[list(spec.target_names)].rename_axis(columns=None).reset_index()
    else:
        written = made
    content = written.to_parquet() if out.suffix == ".parquet" else written.to_csv(index=False).encode()
    files.write_atomically(out, lambda file: file.write(content))
    print(f"{len(written)} rows written to {out}")
    if plot is not None:
        forecaster.plot(picture, history, out=plot, overwrite=overwrite)
        print(f"picture written to {plot}")


def _frame(path: Path, how: "Reading", numbers: list[str], option: str = "table") -> "tuple[pd.DataFrame, bool]":
    """Read a file as a training's was; return it and whether a clock may be expected in it."""
    from tsattn.data.table_files import read_frame

    clock = [how.timestamp] if isinstance(how.timestamp, str) else list(how.timestamp or ())
    only = numbers if how.value_column is None else None
    return read_frame(path, how.decimal, how.thousands, how.encoding, skip=clock, only=only, option=option)


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
        seed: Random seed of the simulation.
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
