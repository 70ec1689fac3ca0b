"""The same table has the same specification and the same forecast by the command line and by Python."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from making import CONTEXT, HORIZON, ahead, fitted, hours, items, small

from tsattn import Forecaster, messages
from tsattn.commands.tables import forecast
from tsattn.data.modules import TableData
from tsattn.data.reading import Reading

SIZES = {"context": CONTEXT, "horizon": HORIZON, "split": [0.8, 0.2, 0.0]}


def by_command(forecaster: Forecaster, table: Path, folder: Path, **options: Any) -> pd.DataFrame:
    """Save a forecaster and forecast as `tsattn forecast` does."""
    forecaster.save_pretrained(folder / "saved", overwrite=True)
    out = folder / "out.parquet"
    forecast(folder / "saved", table, out, overwrite=True, **options)
    return pd.read_parquet(out)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert one["timestamp"].tolist() == other["timestamp"].tolist()
    assert one["target_name"].tolist() == other["target_name"].tolist()
    np.testing.assert_allclose(one["predictions"], other["predictions"], rtol=1e-6)


# One specification -----------------------------------------------------------------------------------------------


def jittered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(timestamp=frame["timestamp"] + pd.to_timedelta(np.arange(len(frame)) % 5 - 2, unit="s"))


TABLES = {
    "plain": (lambda: hours(), {}),
    "zone": (lambda: hours().assign(timestamp=lambda f: f["timestamp"].dt.tz_localize("Europe/Berlin")), {}),
    "local": (lambda: hours(), {"zone": "America/New_York"}),
    "jitter": (lambda: jittered(hours()), {"snap": "1h"}),
    "gaps": (lambda: hours().drop(index=[20, 21, 90]), {"freq": "h"}),
    "jitter and gaps": (lambda: jittered(hours()).drop(index=[20, 21, 90]), {"snap": "1h", "freq": "h"}),
    "quarters": (lambda: hours(801, "15min"), {"resample": "1h"}),
    "doubles": (lambda: pd.concat([hours()[:50], hours()[49:]]), {"drop_duplicates": True}),
    "day first": (
        lambda: hours().assign(timestamp=lambda f: f["timestamp"].dt.strftime("%d/%m/%Y %H:%M")),
        {"time_format": "%d/%m/%Y %H:%M"},
    ),
    "on the 15th": (lambda: hours(150, "MS").assign(timestamp=lambda f: f["timestamp"] + pd.Timedelta("14D")), {}),
    "named": (lambda: hours().rename(columns={"timestamp": "ds"}), {"timestamp": "ds"}),
    "no clock": (lambda: hours().drop(columns="timestamp"), {"timestamp": "none"}),
    "units": (lambda: hours().assign(), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_both_doors_fill_every_field_alike_and_forecast_alike(name: str, tmp_path: Path):
    make, options = TABLES[name]
    frame = make()
    if name == "units":
        frame.attrs["units"] = {"a": "MW"}
    path = tmp_path / "table.parquet"
    frame.reset_index(drop=True).to_parquet(path)
    data = TableData(table=path, **SIZES, **options)
    rows = data.dataset_.sizes["time"]
    learned = fitted(frame.reset_index(drop=True), val_size=rows - int(0.8 * rows), **options)
    assert learned.spec is not None
    for field in dataclasses.fields(learned.spec):
        if field.name in ("mean", "scale"):
            np.testing.assert_allclose(getattr(data.spec, field.name), getattr(learned.spec, field.name), rtol=1e-12)
        else:
            assert getattr(data.spec, field.name) == getattr(learned.spec, field.name), field.name
    assert Reading.of(data.spec) == Reading.of(type(data.spec).from_dict(data.spec.to_dict()))
    expected = learned.predict_df(frame)
    clock = learned.spec.columns[1]
    same(by_command(learned, path, tmp_path), expected.rename(columns={clock: "timestamp"}))  # what was said is kept


def test_a_checkpoint_of_before_has_no_reading_and_loads():
    spec = TableData.from_frame(hours(), **SIZES).spec
    plain = {k: v for k, v in spec.to_dict().items() if k not in ("reading", "step")}
    assert Reading.of(type(spec).from_dict(plain)) == Reading()
    with pytest.raises(ValueError, match="'snapp', which this version does not know"):
        Reading.of(dataclasses.replace(spec, reading={"snapp": "1h"}))


# The same instants -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def berlin() -> tuple[Forecaster, pd.DataFrame]:
    times = pd.date_range("2024-03-20", periods=300, freq="h", tz="Europe/Berlin")
    frame = hours(300).assign(timestamp=times)
    return fitted(frame, val_size=30, max_epochs=2), frame


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC", "Asia/Tokyo", "Asia/Kathmandu"])
@pytest.mark.parametrize("form", ["parquet", "csv", "python"])
def test_the_same_instants_have_the_same_forecast(berlin, zone: str, form: str, tmp_path: Path):
    forecaster, frame = berlin
    expected = forecaster.predict_df(frame)
    other = frame.assign(timestamp=frame["timestamp"].dt.tz_convert(zone))
    if form == "python":
        found = forecaster.predict_df(other)
    elif form == "parquet":
        other.to_parquet(tmp_path / "t.parquet")
        found = by_command(forecaster, tmp_path / "t.parquet", tmp_path)
    else:
        texts = [time.isoformat() for time in other["timestamp"]]  # offsets change in Berlin alone
        other.assign(timestamp=texts).to_csv(tmp_path / "t.csv", index=False)
        found = by_command(forecaster, tmp_path / "t.csv", tmp_path)
    assert str(found["timestamp"].dt.tz) == "Europe/Berlin"
    same(found, expected)


def test_a_table_of_another_zone_is_tested_in_the_zone_of_the_training(berlin):
    forecaster, frame = berlin
    data = TableData.from_frame(frame, **SIZES)
    abroad = TableData.from_frame(frame.assign(timestamp=frame["timestamp"].dt.tz_convert("Asia/Tokyo")), **SIZES)
    one, other = (table.windows(forecaster.spec).known for table in (data, abroad))
    assert (one == other).all()
    with pytest.raises(ValueError, match="have no zone, those of the training are in Europe/Berlin"):
        TableData.from_frame(hours(300), **SIZES).windows(forecaster.spec)


def test_finetuning_and_rows_ahead_are_brought_to_the_zone_of_the_training():
    times = pd.date_range("2024-03-20", periods=300, freq="h", tz="Europe/Berlin")
    frame = hours(300).assign(timestamp=times)
    forecaster = fitted(frame, target="a", known_covariates="b")
    tokyo = frame.assign(timestamp=times.tz_convert("Asia/Tokyo"))
    future = ahead(frame, b=0.5)
    far = future.assign(timestamp=future["timestamp"].dt.tz_convert("UTC"))
    same(forecaster.predict_df(tokyo, far), forecaster.predict_df(frame, future))
    tuned = forecaster.finetune(tokyo, max_epochs=1)
    assert tuned.spec == forecaster.finetune(frame, max_epochs=1).spec


def test_offsets_that_change_are_read_as_utc_which_is_said_and_days_need_a_zone(caplog, tmp_path: Path):
    times = pd.date_range("2024-03-20", periods=300, freq="h", tz="Europe/Berlin")
    frame = hours(300).assign(timestamp=[time.isoformat() for time in times])
    for made in (TableData.from_frame(frame, **SIZES).spec, fitted(frame).spec):
        assert made.zone == "UTC"
    assert caplog.text.count("+01:00, +02:00, which change: they are read as UTC") == 2
    assert caplog.text.count("`zone='Europe/Berlin'`") == 2
    days = pd.date_range("2024-03-01", periods=100, freq="D", tz="Europe/Berlin")
    daily = hours(100).assign(timestamp=[time.isoformat() for time in days])
    for read in (lambda **o: TableData.from_frame(daily, **SIZES, **o).spec, lambda **o: fitted(daily, **o).spec):
        with pytest.raises(ValueError, match="`zone='Europe/Berlin'`"):
            read()
        assert (read(zone="Europe/Berlin").frequency, read(zone="Europe/Berlin").zone) == ("D", "Europe/Berlin")
    found = fitted(daily, zone="Europe/Berlin").predict_df(daily)
    assert found["timestamp"].iloc[0] == days[-1] + pd.Timedelta("1D")


# Kept reading ----------------------------------------------------------------------------------------------------


def test_options_of_the_forecast_hold_before_those_of_the_training(tmp_path: Path, capsys):
    frame = hours().assign(timestamp=lambda f: f["timestamp"].dt.strftime("%d/%m/%Y %H:%M"))
    forecaster = fitted(frame, time_format="%d/%m/%Y %H:%M")
    iso = tmp_path / "iso.csv"
    hours().to_csv(iso, index=False)
    with pytest.raises(ValueError, match="expected a time"):
        by_command(forecaster, iso, tmp_path)
    found = by_command(forecaster, iso, tmp_path, time_format="%Y-%m-%d %H:%M:%S")
    same(found, forecaster.predict_df(frame))
    assert "read otherwise than in the training: time_format '%Y-%m-%d %H:%M:%S' in place of" in capsys.readouterr().out


def test_a_long_table_is_forecast_as_it_was_read(tmp_path: Path):
    wide = hours()
    long = wide.melt(id_vars="timestamp", var_name="sensor", value_name="reading")
    long.to_csv(tmp_path / "long.csv", index=False)
    data = TableData(table=tmp_path / "long.csv", variate_column="sensor", value_column="reading", **SIZES)
    forecaster = fitted(wide, val_size=40)
    assert forecaster.spec is not None
    of_long = Forecaster.of(forecaster.network, dataclasses.replace(forecaster.spec, reading=data.spec.reading))
    expected = forecaster.predict_df(wide)
    same(of_long.predict_df(long), expected)
    same(of_long.predict_df(wide), expected)
    same(by_command(of_long, tmp_path / "long.csv", tmp_path), expected)


def test_a_bin_that_is_not_full_shifts_no_forecast(caplog, tmp_path: Path):
    frame = hours(802, "15min")  # ends at 08:15
    forecaster = fitted(frame, resample="1h")
    frame.to_parquet(tmp_path / "t.parquet")
    caplog.clear()
    for made in (forecaster.predict_df(frame), by_command(forecaster, tmp_path / "t.parquet", tmp_path)):
        assert made["timestamp"].iloc[0] == pd.Timestamp("2024-01-09 08:00")
    assert caplog.text.count("last bin, 2024-01-09 08:00:00, is partial (2 rows") == 2


def test_rows_ahead_are_snapped_and_averaged_as_the_history(tmp_path: Path):
    frame = jittered(hours())
    forecaster = fitted(frame, target="a", known_covariates="b", snap="1h")
    future = jittered(ahead(hours(), b=0.5))
    same(forecaster.predict_df(frame, future), forecaster.predict_df(frame, ahead(hours(), b=0.5)))
    quarters = hours(800, "15min")
    averaged = fitted(quarters, target="a", known_covariates="b", resample="1h")
    fine = ahead(quarters, 4 * HORIZON, "15min", b=np.arange(4.0 * HORIZON))
    whole = pd.DataFrame({"timestamp": fine["timestamp"][::4], "b": fine["b"].to_numpy().reshape(-1, 4).mean(1)})
    plain = fitted(quarters, target="a", known_covariates="b", resample="1h")
    plain.spec = dataclasses.replace(plain.spec, reading={})
    table = quarters.groupby(quarters["timestamp"].dt.floor("h"))[["a", "b", "c"]].mean().reset_index()
    same(averaged.predict_df(quarters, fine), plain.predict_df(table, whole))


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["time", "predictions", "target_name", "target", "cutoff", "0.1", "variate", "values"])
@pytest.mark.parametrize("format", ["long", "wide"])
def test_columns_may_be_called_as_those_of_an_answer(name: str, format: str, tmp_path: Path):
    frame = hours().rename(columns={"timestamp": "date", "a": name})
    frame.to_csv(tmp_path / "t.csv", index=False)
    spec = TableData(table=tmp_path / "t.csv", **SIZES).spec
    assert spec.variates == (name, "b", "c")
    forecaster = fitted(frame)
    expected = forecaster.predict_df(frame)
    found = by_command(forecaster, tmp_path / "t.csv", tmp_path, format=format)
    if format == "long":
        same(found, expected)
    else:
        np.testing.assert_allclose(found[name], expected["predictions"][:HORIZON], rtol=1e-6)


@pytest.mark.parametrize("name", ["timestamp", "item_id"])
def test_columns_that_an_answer_needs_are_refused_by_fit(name: str):
    frame = hours().set_index("timestamp").rename_axis(None).rename(columns={"a": name})
    with pytest.raises(ValueError, match=f"'{name}'"):
        _ = TableData.from_frame(frame, target=[name, "b"], **SIZES).spec
    with pytest.raises(ValueError, match=f"'{name}'"):
        fitted(frame, target=[name, "b"], timestamp=None if name == "item_id" else "none")


# Index -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [["item_id", "timestamp"], ["timestamp", "item_id"], ["item_id"]])
def test_levels_of_an_index_are_columns_everywhere(order: list[str], tmp_path: Path):
    panel = items()
    frame = panel.set_index(order)
    options = {"target": "a", "known_covariates": "b", "val_size": 20}
    forecaster, expected = fitted(frame, **options), fitted(panel, **options)
    assert forecaster.spec == expected.spec
    future = ahead(panel, b=0.5)
    same(forecaster.predict_df(frame, future.set_index(order)), expected.predict_df(panel, future))
    pd.testing.assert_frame_equal(forecaster.backtest(frame, windows=2), expected.backtest(panel, windows=2))
    assert forecaster.finetune(frame, max_epochs=1).spec == expected.finetune(panel, max_epochs=1).spec
    forecaster.plot(forecaster.predict_df(frame, future), history=frame)
    frame.to_parquet(tmp_path / "t.parquet")
    future.set_index(order).to_parquet(tmp_path / "f.parquet")
    same(
        by_command(forecaster, tmp_path / "t.parquet", tmp_path, future=tmp_path / "f.parquet"),
        expected.predict_df(panel, future),
    )


def test_other_names_of_levels_are_named_and_levels_without_are_refused():
    panel = items()
    frame = panel.rename(columns={"item_id": "shop", "timestamp": "when"}).set_index(["shop", "when"])
    found = fitted(frame, target="a", item_id="shop", timestamp="when").predict_df(frame)
    assert found.columns[:2].tolist() == ["shop", "when"]
    assert found["shop"].unique().tolist() == ["x", "y"]
    numbered = panel.assign(item_id=panel["item_id"].map({"x": 7, "y": 9})).rename(columns={"item_id": "shop"})
    found = fitted(numbered.set_index("shop"), target="a", item_id="shop").predict_df(numbered.set_index("shop"))
    assert found["shop"].unique().tolist() == [7, 9]
    bare = panel.set_index(["item_id", "timestamp"]).rename_axis([None, None])
    for read in (fitted, lambda f: TableData.from_frame(f, **SIZES).spec):
        with pytest.raises(ValueError, match="index of 2 levels, and level 0 has no name"):
            read(bare)


def test_items_of_an_index_stay_apart_without_times():
    frame = items().set_index(["item_id", "timestamp"])
    found = fitted(frame, target="a", timestamp="none").predict_df(frame)
    assert found["item_id"].value_counts().to_dict() == {"x": HORIZON, "y": HORIZON}


# Digits ----------------------------------------------------------------------------------------------------------


def test_what_is_written_has_the_digits_that_were_computed(tmp_path: Path):
    frame = hours().assign(a=lambda f: 1e9 + f["a"], b=lambda f: 1e-12 * f["b"])
    forecaster = fitted(frame)
    frame.to_parquet(tmp_path / "t.parquet")
    expected = by_command(forecaster, tmp_path / "t.parquet", tmp_path)
    forecast(tmp_path / "saved", tmp_path / "t.parquet", tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", dtype={"predictions": str}).astype({"predictions": float})
    assert found["predictions"].tolist() == expected["predictions"].tolist()


def test_a_season_longer_than_the_training_is_not_one(caplog):
    frame = hours(200, "33ms")
    with caplog.at_level(logging.INFO):
        assert TableData.from_frame(frame, **SIZES).spec.season == 1
        assert fitted(frame).spec.season == 1
    assert small().horizon == HORIZON


def long_run(tmp_path: Path) -> tuple[Forecaster, pd.DataFrame, pd.DataFrame]:
    """A forecaster of a long file, the table in it, and the same as a wide one."""
    wide = hours().rename(columns={"timestamp": "date"})
    long = wide.melt(id_vars="date", var_name="sensor", value_name="reading")
    long["note"] = "x"
    long.to_csv(tmp_path / "long.csv", index=False)
    named = {"variate_column": "sensor", "value_column": "reading", "exclude": "note", "timestamp": "date"}
    spec = TableData(table=tmp_path / "long.csv", **named, **SIZES).spec
    network = fitted(wide, timestamp="date").network
    assert network is not None
    return Forecaster.of(network, spec), long, wide


@pytest.mark.parametrize("clock", [None, "date"])
def test_a_run_on_a_long_table_that_goes_on_reads_long_and_wide_ones_still(clock: str | None, tmp_path: Path):
    before, long, wide = long_run(tmp_path)
    tuned = before.finetune(long, max_epochs=1, timestamp=clock)
    assert tuned.spec is not None
    assert before.spec is not None
    assert tuned.spec.reading == before.spec.reading
    other = before.finetune(wide, max_epochs=1, timestamp=clock)
    for made in (tuned, other, tuned.finetune(long, max_epochs=1)):
        expected = made.predict_df(wide)
        pd.testing.assert_frame_equal(made.predict_df(long), expected)
        same(
            by_command(made, tmp_path / "long.csv", tmp_path),
            expected.rename(columns={expected.columns[1]: "timestamp"}),
        )


@pytest.mark.parametrize("typed", ["day,clock", "[day, clock]", "day, clock"])
def test_a_clock_of_two_columns_is_typed_as_a_list(typed: str, tmp_path: Path, capsys):
    frame = items()
    stamp = frame.pop("timestamp")
    parted = frame.assign(day=stamp.dt.strftime("%Y-%m-%d"), clock=stamp.dt.strftime("%H:%M:%S"))
    parted.to_csv(tmp_path / "t.csv", index=False)
    forecaster = fitted(parted, timestamp=["day", "clock"])
    found = by_command(forecaster, tmp_path / "t.csv", tmp_path, timestamp=typed)
    assert "read otherwise" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(found, forecaster.predict_df(parted), check_dtype=False)
    plain = fitted(items(), timestamp="timestamp")
    assert by_command(plain, tmp_path / "t.csv", tmp_path, timestamp=typed).columns[1] == "timestamp"
    assert "timestamp ('day', 'clock') in place of 'timestamp'" in capsys.readouterr().out


def test_the_table_that_lacks_rows_is_named_and_so_is_the_option_of_a_missing_file(tmp_path: Path):
    frame = hours()
    forecaster = fitted(frame, target="a", known_covariates="b")
    frame.to_csv(tmp_path / "h.csv", index=False)
    ahead(frame, HORIZON - 2, b=0.5).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(ValueError, match=rf"^The table of --future lacks 2 of the {HORIZON} rows"):
        by_command(forecaster, tmp_path / "h.csv", tmp_path, future=tmp_path / "f.csv")
    with messages.command({"table": "--table", "future": "--future"}):
        with pytest.raises(FileNotFoundError, match=r"no\.csv does not exist.*check `--future`"):
            by_command(forecaster, tmp_path / "h.csv", tmp_path, future=tmp_path / "no.csv")
        with pytest.raises(FileNotFoundError, match=r"no\.csv does not exist.*check `--table`"):
            by_command(forecaster, tmp_path / "no.csv", tmp_path)
    frame.drop(columns="a").to_csv(tmp_path / "h.csv", index=False)
    with pytest.raises(ValueError, match=r"h\.csv has no column 'a'"):
        by_command(forecaster, tmp_path / "h.csv", tmp_path, future=tmp_path / "f.csv")


@pytest.mark.parametrize("last", range(-HORIZON - 2, 3))
@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize("snap", [None, "1h"])
def test_rows_ahead_may_lie_around_the_hour_that_is_shown_twice(last: int, more: int, snap: str | None):
    """The history ends `last` hours from the first of the two."""
    twice = pd.Timestamp("2024-10-27 00:00", tz="UTC")
    end = twice + last * pd.Timedelta("1h")
    times = pd.date_range(end=end, periods=200, freq="h").tz_convert("Europe/Berlin")
    frame = hours().assign(timestamp=times)
    knowing = fitted(frame[:150], target="a", known_covariates="b", snap=snap, zone="Europe/Berlin")
    later = pd.date_range(times[-1], periods=HORIZON + more + 1, freq="h")[1:]
    future = pd.DataFrame({"timestamp": later, "b": np.arange(HORIZON + more) / 3})
    naive = future.assign(timestamp=later.tz_localize(None))
    pd.testing.assert_frame_equal(knowing.predict_df(frame, naive), knowing.predict_df(frame, future))
