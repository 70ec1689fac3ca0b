"""Whatever holds the table comes in unharmed, and the forecast goes out in the same form with the same labels."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import xarray as xr
from making import CONTEXT, HORIZON, LEVELS, ahead, fitted, hours, items, small

# ---- the caller's frame


def test_nothing_changes_the_callers_frames(panel):
    table = panel.assign(colour=np.where(panel.index % 2, "red", "blue"), n=panel.index).iloc[::-1]
    table.index = pd.Index([f"row {i}" for i in range(len(table))], name="mine")
    table.attrs = {"units": {"a": "MW"}}
    future = ahead(panel, b=1, colour="red").sample(frac=1, random_state=0)
    tables, futures = table.copy(deep=True), future.copy(deep=True)
    forecaster = fitted(table, target="a", known_covariates=["b", "colour"], past_covariates="n", val_size=20)
    forecaster.predict_df(table, future)
    forecaster.backtest(table, windows=2)
    forecaster.calibrate(table, quantile_levels=(0.2, 0.5, 0.8))
    forecaster.finetune(table, max_epochs=1)
    forecaster.importance(table, windows=2)
    forecaster.attention(table, future)
    for found, before in ((table, tables), (future, futures)):
        pd.testing.assert_frame_equal(found, before)
        assert found.attrs == before.attrs


def test_order_of_rows_and_columns_does_not_matter(panel, of_items):
    expected = of_items.predict_df(panel)
    shuffled = panel.sample(frac=1, random_state=0)
    shuffled = pd.concat([shuffled[shuffled["item_id"] == "x"], shuffled[shuffled["item_id"] == "y"]])
    pd.testing.assert_frame_equal(of_items.predict_df(shuffled[shuffled.columns[::-1]]), expected)
    interleaved = panel.sort_values(["timestamp", "item_id"])
    pd.testing.assert_frame_equal(of_items.predict_df(interleaved), expected)


def test_items_come_in_the_order_of_their_first_rows(panel, of_items):
    turned = pd.concat([panel[200:], panel[:200]])
    found = of_items.predict_df(turned)
    assert found["item_id"].unique().tolist() == ["y", "x"]
    assert found["target_name"].unique().tolist() == ["a", "b"]
    expected = of_items.predict_df(panel).set_index(["item_id", "target_name", "timestamp"])
    again = found.set_index(["item_id", "target_name", "timestamp"]).loc[expected.index]
    pd.testing.assert_frame_equal(again, expected)


def test_further_columns_are_passed_over(panel, of_items):
    more = panel.assign(note="text", when=panel["timestamp"], nothing=np.nan)
    pd.testing.assert_frame_equal(of_items.predict_df(more), of_items.predict_df(panel))


@pytest.mark.parametrize("dtype", ["int64", "object", "str", "category"])
def test_names_of_items_keep_their_type(panel, of_items, dtype: str):
    names = panel["item_id"].map({"x": 30, "y": 4})
    named = panel.assign(item_id=(names if dtype == "int64" else names.map("shop {}".format)).astype(dtype))
    found = of_items.predict_df(named)
    assert found["item_id"].dtype == named["item_id"].dtype
    assert found["item_id"].unique().tolist() == named["item_id"].unique().tolist()
    back = of_items.backtest(named, windows=2)
    assert back["item_id"].dtype == named["item_id"].dtype


def test_an_item_that_training_never_saw_is_forecast(panel, of_items):
    new = hours(100, seed=7).assign(item_id="new")
    both = of_items.predict_df(pd.concat([panel, new]))
    alone = of_items.predict_df(new)
    assert alone["item_id"].unique().tolist() == ["new"]
    pd.testing.assert_frame_equal(both[both["item_id"] == "new"].reset_index(drop=True), alone)


def test_columns_that_were_named_in_training_need_no_name_again(panel):
    other = panel.rename(columns={"item_id": "unique_id", "timestamp": "ds", "a": "y"})
    forecaster = fitted(other, target="y", known_covariates="b", item_id="unique_id", timestamp="ds", val_size=20)
    future = ahead(panel, b=0.5).rename(columns={"item_id": "unique_id", "timestamp": "ds"})
    found = forecaster.predict_df(other, future)
    assert found.columns.tolist() == ["unique_id", "ds", "target_name", "predictions"]
    back = forecaster.backtest(other, windows=1)
    assert back.columns.tolist() == ["unique_id", "ds", "cutoff", "target_name", "target", "predictions"]
    renamed = forecaster.predict_df(panel.rename(columns={"a": "y"}), ahead(panel, b=0.5), item_id="item_id")
    assert renamed["predictions"].equals(found["predictions"])


# ---- clocks


@pytest.mark.parametrize(
    "freq", ["MS", "ME", "B", "W-SUN", "W-WED", "QS-JAN", "YS-JAN", "15min", "h", "2h", "D", "30s"]
)  # fmt: skip
def test_forecasts_follow_on_any_clock_however_short_the_history(freq: str):
    frame = hours(70, freq)
    forecaster = fitted(frame, target=["a", "b"], val_size=10)
    for rows in (1, 2, 3, 4, 5, 6, 40, 70):
        times = pd.date_range(frame["timestamp"].iloc[rows - 1], periods=HORIZON + 1, freq=freq)[1:]
        found = forecaster.predict_df(frame[:rows])
        assert found["timestamp"].tolist() == [*times, *times]
    between = forecaster.predict_df(frame.drop(index=[66]), freq=freq)
    assert np.isfinite(between["predictions"]).all()


def test_a_calendar_step_is_expected_of_every_row():
    frame = hours(70, "MS")
    forecaster = fitted(frame, target="a", val_size=10)
    for days in ([14, 31], [0, 30], [0, 14]):
        wrong = hours(2).assign(timestamp=pd.Timestamp("2024-01-01") + pd.to_timedelta(days, "D"))
        with pytest.raises(ValueError, match="expected MS, that of the training"):
            forecaster.predict_df(wrong)


def test_business_days_are_known_among_items_that_each_stay_within_a_week():
    frame = hours(70, "B")
    forecaster = fitted(frame, target="a", val_size=10)
    week = pd.concat([frame[i : i + 5].assign(item_id=f"i{i}") for i in (0, 5, 10)])
    found = forecaster.predict_df(week)
    assert found["timestamp"].dt.day_of_week.max() == 4


def test_a_clock_keeps_its_zone_over_a_change_of_daylight_saving():
    times = pd.date_range("2024-03-20 06:00", periods=260, freq="h", tz="Europe/Berlin")
    frame = hours(260).assign(timestamp=times)
    found = fitted(frame, target="a").predict_df(frame)["timestamp"]
    assert found.tolist() == list(pd.date_range(times[-1], periods=HORIZON + 1, freq="h")[1:])
    days = pd.date_range("2024-02-01", periods=60, freq="D", tz="Europe/Berlin")
    daily = hours(60).assign(timestamp=days)
    forecaster = fitted(daily, target="a", val_size=5)
    found = forecaster.predict_df(daily[:57])["timestamp"]  # the last rows before the 31st of March
    assert found.dt.hour.tolist() == [0] * HORIZON
    assert str(found.dt.tz) == "Europe/Berlin"


def test_times_as_text_with_several_offsets_are_read_as_utc():
    times = pd.date_range("2024-03-28", periods=260, freq="h", tz="Europe/Berlin")
    written = hours(260).assign(timestamp=[time.isoformat() for time in times])
    forecaster = fitted(written, target="a")
    found = forecaster.predict_df(written)["timestamp"]
    assert str(found.dt.tz) == "UTC"
    assert found.iloc[0] == times[-1] + pd.Timedelta("1h")


def test_a_table_without_a_clock_counts_its_rows(frame):
    plain = frame.drop(columns="timestamp")
    forecaster = fitted(plain, timestamp="none")
    found = forecaster.predict_df(plain[:150])
    assert found["timestamp"].tolist() == list(range(150, 156)) * 3
    assert forecaster.backtest(plain, windows=1)["cutoff"].unique().tolist() == [193]
    known = fitted(plain, target="a", known_covariates="b", timestamp="none")
    with_future = known.predict_df(plain, pd.DataFrame({"b": np.zeros(HORIZON)}))
    assert np.isfinite(with_future["predictions"]).all()


def test_a_datetime_index_is_a_clock(frame, point):
    pd.testing.assert_frame_equal(point.predict_df(frame.set_index("timestamp")), point.predict_df(frame))


# ---- items


def test_all_items_together_are_forecast_as_each_alone(of_items):
    ragged = items({"x": 200, "y": 90, "z": 13, "w": 1})
    together = of_items.predict_df(ragged)
    alone = [of_items.predict_df(part) for _, part in ragged.groupby("item_id", sort=False)]
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True), atol=1e-5)
    longer = of_items.predict_df(ragged, horizon=15)
    alone = [of_items.predict_df(part, horizon=15) for _, part in ragged.groupby("item_id", sort=False)]
    pd.testing.assert_frame_equal(longer, pd.concat(alone, ignore_index=True), atol=1e-5)


def test_items_never_mix_in_a_forecast(panel, of_items):
    changed = panel.copy()
    changed.loc[:199, ["a", "b", "c"]] = -1e3
    before, after = of_items.predict_df(panel), of_items.predict_df(changed)
    other = before["item_id"] == "y"
    assert before.loc[other, "predictions"].equals(after.loc[other, "predictions"])
    assert not np.isclose(before.loc[~other, "predictions"], after.loc[~other, "predictions"]).any()


def test_a_short_history_is_a_history_with_missing_rows_before_it(of_items):
    short = items({"x": 200, "y": 10})
    blank = items({"x": 200, "y": 30})
    blank.loc[200:219, ["a", "b", "c"]] = np.nan
    assert blank[220:]["timestamp"].tolist() == short[200:]["timestamp"].tolist()
    blank.loc[220:, ["a", "b", "c"]] = short.loc[200:, ["a", "b", "c"]].to_numpy()
    pd.testing.assert_frame_equal(of_items.predict_df(short), of_items.predict_df(blank))


def test_missing_values_are_read_end_to_end():
    random = np.random.default_rng(3)
    frame = items({"x": 200, "y": 80}, promo=0.0)
    frame["promo"] = np.where(random.random(len(frame)) < 0.5, "yes", "no")
    for name in ("a", "b", "c", "promo"):
        frame[name] = frame[name].where(random.random(len(frame)) > 0.15, None)
    future = ahead(frame, b=0.5, promo="yes").astype({"b": float, "promo": object})
    future.loc[::2, ["b", "promo"]] = [np.nan, None]
    options = {"target": "a", "known_covariates": ["b", "promo"], "past_covariates": "c", "val_size": 20}
    for model in ("itransformer", "timexer"):
        for more in ({}, {"quantile_levels": LEVELS}, {"quantile_levels": LEVELS, "distribution": "student-t"}):
            forecaster = fitted(frame, model, **options, **more)
            assert np.isfinite(forecaster.about["fit"]["val_loss"])
            for found in (forecaster.predict_df(frame, future), forecaster.backtest(frame, windows=3)):
                numbers = found.drop(columns="target", errors="ignore").select_dtypes("number")
                assert np.isfinite(numbers.to_numpy()).all()


# ---- other libraries


def test_polars_and_pyarrow_go_in_and_out(panel, knowing):
    future = ahead(panel, b=0.5)
    expected = knowing.predict_df(panel, future)
    back = knowing.backtest(panel, windows=2)
    found = knowing.predict_df(pl.from_pandas(panel), pl.from_pandas(future))
    assert isinstance(found, pl.DataFrame)
    pd.testing.assert_frame_equal(found.to_pandas(), expected, check_dtype=False)
    found = knowing.backtest(pl.from_pandas(panel), windows=2)
    assert isinstance(found, pl.DataFrame)
    pd.testing.assert_frame_equal(found.to_pandas(), back, check_dtype=False)
    found = knowing.predict_df(pa.Table.from_pandas(panel), pa.Table.from_pandas(future))
    assert isinstance(found, pa.Table)
    pd.testing.assert_frame_equal(found.to_pandas(), expected, check_dtype=False)
    learned = fitted(pl.from_pandas(panel), target="a", known_covariates="b")
    pd.testing.assert_frame_equal(learned.predict_df(panel, future), expected)


def test_polars_keeps_time_zones(frame):
    there = frame.assign(timestamp=frame["timestamp"].dt.tz_localize("Europe/Berlin"))
    forecaster = fitted(there)
    found = forecaster.predict_df(pl.from_pandas(there))
    assert found["timestamp"].dtype.time_zone == "Europe/Berlin"
    assert found["timestamp"].to_list() == forecaster.predict_df(there)["timestamp"].tolist()


def grid(panel: pd.DataFrame) -> xr.Dataset:
    table = panel.set_index(["item_id", "timestamp"]).to_xarray().rename(item_id="item", timestamp="time")
    for name, unit in (("a", "MW"), ("b", "K"), ("c", "1")):
        table[name].attrs["units"] = unit
    return table


@pytest.mark.parametrize("levels", [None, LEVELS])
def test_a_dataset_of_columns_gives_the_numbers_of_a_frame(panel, levels):
    forecaster = fitted(panel, target=["a", "b"], past_covariates="c", quantile_levels=levels)
    from_grid = fitted(grid(panel), target=["a", "b"], past_covariates="c", quantile_levels=levels)
    assert from_grid.spec.units == ("MW", "K", "1")
    expected = forecaster.predict_df(panel)
    found = from_grid.predict(grid(panel))
    assert set(found.data_vars) == ({"a", "b"} if levels is None else {"a", "b", "a_quantiles", "b_quantiles"})
    assert found["a"].dims == ("item", "time")
    assert found["item"].values.tolist() == ["x", "y"]
    assert (found["time"].values == expected["timestamp"][:HORIZON].to_numpy()).all()
    for name, unit in (("a", "MW"), ("b", "K")):
        rows = expected[expected["target_name"] == name]
        assert found[name].values.reshape(-1) == pytest.approx(rows["predictions"].to_numpy())
        assert found[name].attrs["units"] == unit
        for level in levels or ():
            drawn = found[f"{name}_quantiles"].sel(quantile=level)
            assert drawn.values.reshape(-1) == pytest.approx(rows[f"{level:g}"].to_numpy())
            assert drawn.attrs["units"] == unit


@pytest.mark.parametrize("with_items", [True, False])
def test_a_dataset_of_one_array_gives_the_numbers_of_a_frame(panel, with_items: bool):
    table = grid(panel).to_dataarray("variate").rename("values").to_dataset()
    table = table.transpose("item", "variate", "time")
    table["values"].attrs["units"] = "uV"
    table = table if with_items else table.isel(item=0, drop=True)
    forecaster = fitted(table, val_size=20)
    found = forecaster.predict(table)
    assert found["values"].dims == (("item",) if with_items else ()) + ("variate", "time")
    assert found["variate"].values.tolist() == ["a", "b", "c"]
    assert found["values"].attrs["units"] == "uV"
    rows = panel if with_items else panel[:200].drop(columns="item_id")
    expected = forecaster.predict_df(rows)["predictions"]
    assert found["values"].values.reshape(-1) == pytest.approx(expected.to_numpy())


def test_a_tensor_gives_the_numbers_of_a_frame_in_its_own_type(panel, of_items, quantile, frame):
    plain = fitted(panel, target=["a", "b"], past_covariates="c", marks="none")
    past = torch.stack(
        [torch.tensor(part[["a", "b", "c"]].to_numpy()[-CONTEXT:].T) for _, part in panel.groupby("item_id")]
    )
    expected = plain.predict_df(panel)["predictions"].to_numpy()
    found = plain.predict(past)
    assert found.dtype == torch.float64
    assert found.shape == (2, 2, HORIZON)
    assert found.numpy().reshape(-1) == pytest.approx(expected, rel=1e-6)
    assert plain.predict(past.float()).dtype == torch.float32
    assert plain.predict(past.float()).numpy().reshape(-1) == pytest.approx(expected, rel=1e-4)
    past[0, 0, 3] = torch.nan
    gap = panel.copy()
    gap.loc[200 - CONTEXT + 3, "a"] = np.nan
    expected = plain.predict_df(gap)["predictions"].to_numpy()
    assert plain.predict(past).numpy().reshape(-1) == pytest.approx(expected, rel=1e-6)


def test_a_tensor_may_bring_what_is_known_ahead_in_the_tables_units(panel):
    forecaster = fitted(panel, target="a", known_covariates="b", marks="none")
    part = panel[200:].drop(columns="item_id")
    future = ahead(part, b=0.5)
    known = torch.tensor(np.concatenate([part["b"].to_numpy()[-CONTEXT:], future["b"].to_numpy()]))[None, None]
    found = forecaster.predict(torch.tensor(part["a"].to_numpy()[-CONTEXT:])[None, None], known)
    expected = forecaster.predict_df(part, future)["predictions"].to_numpy()
    assert found.numpy().reshape(-1) == pytest.approx(expected, rel=1e-6)


def test_one_item_is_forecast_by_a_network_of_another_length():
    """Ragged items, many channels: what a warehouse or a hospital has."""
    random = np.random.default_rng(0)
    parts = []
    for number, rows in enumerate(random.integers(5, 120, size=20)):
        values = random.normal(size=(rows, 6)).cumsum(0)
        times = pd.date_range("2024-05-01", periods=rows, freq="D")
        parts.append(pd.DataFrame(values, columns=list("abcdef")).assign(item_id=number, timestamp=times))
    many = pd.concat(parts, ignore_index=True)
    forecaster = small("gateformer").fit(many, max_epochs=1, val_size=0.2)
    found = forecaster.predict_df(many)
    assert len(found) == 20 * 6 * HORIZON
    assert np.isfinite(found["predictions"]).all()
    first = found.groupby("item_id")["timestamp"].min()
    assert (first == many.groupby("item_id")["timestamp"].max() + pd.Timedelta("1D")).all()
