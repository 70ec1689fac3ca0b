"""Forecasts of the past (`backtest`) and forecasts beyond the trained horizon."""

import numpy as np
import pandas as pd
import pytest
from making import CONTEXT, HORIZON, LEVELS, ahead, fitted, hours, items

from tsattn import Forecaster

KEYS = ["item_id", "target_name", "timestamp"]


# ---- backtest


@pytest.mark.parametrize("step", [None, 1, 4])
def test_a_backtest_is_the_forecast_at_each_cutoff(panel, knowing, step):
    back = knowing.backtest(panel, windows=5, step=step)
    assert len(back) == 2 * 5 * HORIZON
    rows = panel.set_index(["item_id", "timestamp"])
    for (item, cutoff), window in back.groupby(["item_id", "cutoff"]):
        own = panel[panel["item_id"] == item]
        past, future = own[own["timestamp"] <= cutoff], own[own["timestamp"] > cutoff]
        expected = knowing.predict_df(past, future[["item_id", "timestamp", "b"]])
        found = window.drop(columns=["cutoff", "target"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
        truth = rows.loc[[(item, time) for time in window["timestamp"]], "a"]
        assert (window["target"].to_numpy() == truth.to_numpy()).all()
    stride = pd.Timedelta(hours=step or HORIZON)
    last = panel["timestamp"].max() - pd.Timedelta(hours=HORIZON)
    cutoffs = [last - stride * i for i in range(5)][::-1]
    assert back.drop_duplicates(["item_id", "cutoff"])["cutoff"].tolist() == cutoffs * 2


def test_a_backtest_of_several_targets_and_past_categories_is_the_forecast_at_each_cutoff():
    frame = hours(120).assign(colour=np.where(np.arange(120) % 3, "red", "blue"))
    forecaster = fitted(frame, target=["a", "b"], past_covariates=["c", "colour"], quantile_levels=LEVELS)
    back = forecaster.backtest(frame, windows=3, step=5, quantile_levels=(0.2, 0.9))
    for cutoff, window in back.groupby("cutoff"):
        expected = forecaster.predict_df(frame[frame["timestamp"] <= cutoff], quantile_levels=(0.2, 0.9))
        found = window.drop(columns=["cutoff", "target"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


@pytest.mark.parametrize("horizon", [3, 6, 13])
def test_every_window_comes_once_and_no_batch_is_dropped(horizon: int):
    ragged = items({"x": 700, "y": 100})
    forecaster = fitted(ragged[:200], target=["a", "b"])
    back = forecaster.backtest(ragged, step=1, horizon=horizon)
    windows = {name: rows - CONTEXT - horizon + 1 for name, rows in (("x", 700), ("y", 100))}
    assert back.groupby("item_id").size().to_dict() == {name: 2 * horizon * n for name, n in windows.items()}
    assert not back.duplicated(["item_id", "cutoff", "target_name", "timestamp"]).any()
    assert (
        back.groupby(["item_id", "cutoff"])["timestamp"].min() > back.groupby(["item_id", "cutoff"])["cutoff"].max()
    ).all()
    truth = back.merge(
        ragged.melt(["item_id", "timestamp"], ["a", "b"], "target_name", "truth"), on=KEYS, validate="many_to_one"
    )
    assert (truth["target"] == truth["truth"]).all()


def test_a_window_does_not_depend_on_its_batch(frame, point):
    whole = point.backtest(frame, step=1)
    alone = point.backtest(frame, windows=1, step=1)
    last = whole[whole["cutoff"] == whole["cutoff"].max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(last, alone, rtol=1e-5)


def test_a_missing_truth_is_missing_in_the_frame(frame, point):
    gap = frame.copy()
    gap.loc[197, "a"] = np.nan
    back = point.backtest(gap, windows=1)
    missing = back[back["target"].isna()]
    assert missing[["target_name", "timestamp"]].values.tolist() == [["a", frame["timestamp"][197]]]
    assert back["predictions"].notna().all()


# ---- beyond the trained horizon


def test_further_blocks_are_the_forecast_of_a_table_that_ends_with_the_forecast(frame, point):
    long = point.predict_df(frame, horizon=2 * HORIZON + 2)
    first = point.predict_df(frame)
    grown = frame
    for block in range(3):
        found = point.predict_df(grown)
        steps = min(HORIZON, 2 * HORIZON + 2 - block * HORIZON)
        for name, rows in found.groupby("target_name"):
            expected = long[long["target_name"] == name].iloc[block * HORIZON :][:steps]
            assert expected["predictions"].to_numpy() == pytest.approx(rows["predictions"][:steps], rel=1e-4)
            assert expected["timestamp"].tolist() == rows["timestamp"][:steps].tolist()
        wide = found.pivot(index="timestamp", columns="target_name", values="predictions").reset_index()
        grown = pd.concat([grown, wide], ignore_index=True)
    assert len(first) == 3 * HORIZON


def test_what_is_known_ahead_is_read_in_every_block(panel, knowing):
    future = ahead(panel, steps=14, b=0.0)
    late = future.assign(b=np.where(future["timestamp"] >= future["timestamp"].sort_values().iloc[24], 2.0, 0.0))
    one, other = (knowing.predict_df(panel, table, horizon=14)["predictions"].to_numpy() for table in (future, late))
    one, other = one.reshape(2, 14), other.reshape(2, 14)
    assert one[:, :HORIZON] == pytest.approx(other[:, :HORIZON])
    assert np.abs(one[:, 12:] - other[:, 12:]).min() > 1e-5
    with pytest.raises(ValueError, match="lacks 8 of the 14 rows of item 'x'"):
        knowing.predict_df(panel, ahead(panel, b=0.0), horizon=14)


def test_past_covariates_are_missing_beyond_the_trained_horizon(frame):
    forecaster = fitted(frame, target=["a", "b"], past_covariates="c")
    long = forecaster.predict_df(frame, horizon=2 * HORIZON)
    first = forecaster.predict_df(frame)
    wide = first.pivot(index="timestamp", columns="target_name", values="predictions").reset_index().assign(c=np.nan)
    second = forecaster.predict_df(pd.concat([frame, wide], ignore_index=True))
    for name in ("a", "b"):
        expected = second.loc[second["target_name"] == name, "predictions"].to_numpy()
        found = long.loc[long["target_name"] == name, "predictions"].to_numpy()[HORIZON:]
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def walking() -> tuple[Forecaster, pd.DataFrame]:
    """Quantiles of a random walk, whose spread grows with the root of the horizon."""
    walk = np.random.default_rng(0).normal(size=2000).cumsum()
    frame = hours(2000)[["timestamp"]].assign(walk=walk)
    return fitted(frame, quantile_levels=LEVELS, max_epochs=3, learning_rate=3e-3, marks="none"), frame


def test_quantile_paths_ascend_and_do_not_collapse(walking):
    forecaster, frame = walking
    back = forecaster.backtest(frame, windows=50, horizon=3 * HORIZON)
    assert (back["0.1"] <= back["0.5"]).all()
    assert (back["0.5"] <= back["0.9"]).all()
    assert np.isfinite(back[["0.1", "0.5", "0.9"]].to_numpy()).all()
    width = (back["0.9"] - back["0.1"]).to_numpy().reshape(50, 3, HORIZON).mean((0, 2))
    assert width[0] < width[1] < width[2]
    assert width[2] > 1.3 * width[0]
    plain = forecaster.backtest(frame, windows=10)
    longer = back[back["cutoff"].isin(plain["cutoff"])]
    first = longer.groupby("cutoff").head(HORIZON).set_index("timestamp")
    same = plain[plain["cutoff"].isin(longer["cutoff"])].set_index("timestamp")
    pd.testing.assert_frame_equal(first, same.loc[first.index], rtol=1e-4)
