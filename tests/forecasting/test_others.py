"""The frames go into the tools of others as they are, but for names: utilsforecast, fev, AutoGluon, Chronos-2."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from making import HORIZON, LEVELS, ahead, fitted, items

from tsattn import Forecaster


@pytest.fixture(scope="module")
def shops() -> pd.DataFrame:
    return items({"x": 150, "y": 150})


@pytest.fixture(scope="module")
def forecaster(shops: pd.DataFrame) -> Forecaster:
    return fitted(shops, target=["a", "b"], quantile_levels=LEVELS)


def test_the_long_frame_is_that_of_autogluon_and_chronos(shops, forecaster):
    found = forecaster.predict_df(shops)
    assert found.columns.tolist() == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
    assert found.index.equals(pd.RangeIndex(2 * 2 * HORIZON))
    order = found[["item_id", "target_name"]].drop_duplicates().values.tolist()
    assert order == [["x", "a"], ["x", "b"], ["y", "a"], ["y", "b"]]
    assert found["predictions"].equals(found["0.5"].rename("predictions"))
    assert found.dtypes[["predictions", "0.1", "0.5", "0.9"]].eq("float64").all()


def test_utilsforecast_scores_a_backtest(shops, forecaster):
    from utilsforecast.evaluation import evaluate
    from utilsforecast.losses import coverage, mae, mase, scaled_crps

    back = forecaster.backtest(shops, windows=4)
    frame = back.assign(unique_id=back["item_id"] + "/" + back["target_name"]).rename(
        columns={
            "timestamp": "ds",
            "target": "y",
            "predictions": "tsattn",
            "0.1": "tsattn-lo-80",
            "0.9": "tsattn-hi-80",
        }
    )
    columns = ["unique_id", "ds", "cutoff", "y", "tsattn", "tsattn-lo-80", "tsattn-hi-80"]
    scores = evaluate(frame[columns], [mae, scaled_crps, coverage], level=[80])
    assert len(scores) == 3 * 4 * 4  # metrics, series, cutoffs
    assert np.isfinite(scores["tsattn"]).all()
    ours = (back["target"] - back["predictions"]).abs().groupby([frame["unique_id"], back["cutoff"]]).mean()
    theirs = scores[scores["metric"] == "mae"].set_index(["unique_id", "cutoff"])["tsattn"]
    pd.testing.assert_series_equal(theirs, ours.loc[theirs.index], check_names=False)
    within = back["target"].between(back["0.1"], back["0.9"])
    assert scores.loc[scores["metric"].str.startswith("coverage"), "tsattn"].mean() == pytest.approx(within.mean())

    history = shops.melt(["item_id", "timestamp"], ["a", "b"], value_name="y").rename(columns={"timestamp": "ds"})
    history = history.assign(unique_id=history["item_id"] + "/" + history["variable"])[["unique_id", "ds", "y"]]
    last = frame[frame["cutoff"] == frame["cutoff"].max()]
    last = last[[name for name in columns if name != "cutoff"]]
    history = history[history["ds"] <= frame["cutoff"].max()]
    scaled = evaluate(last, [partial(mase, seasonality=24)], train_df=history)
    for row in scaled.itertuples():
        naive = history.loc[history["unique_id"] == row.unique_id, "y"].diff(24).abs().mean()
        error = last[last["unique_id"] == row.unique_id]
        assert row.tsattn == pytest.approx((error["y"] - error["tsattn"]).abs().mean() / naive)


@pytest.mark.filterwarnings("ignore")  # its dependencies' own
def test_fev_scores_forecasts_of_its_tasks(tmp_path: Path):
    fev = pytest.importorskip("fev", reason="fev is not a dependency: `pip install fev`")
    panel = items({"x": 150, "y": 120})
    panel.to_parquet(tmp_path / "panel.parquet", index=False)
    task = fev.Task(
        dataset_path=str(tmp_path / "panel.parquet"), id_column="item_id", timestamp_column="timestamp",
        target=["a", "c"], known_dynamic_columns=["b"], horizon=HORIZON, num_windows=2, seasonality=24,
        quantile_levels=list(LEVELS), eval_metric="SQL", extra_metrics=["MASE", "MAE"],
    )  # fmt: skip
    forecaster: Forecaster | None = None
    answers, errors = [], []
    for window in task.iter_windows():
        past, future, _ = fev.convert_input_data(window, adapter="pandas")
        if forecaster is None:
            forecaster = fitted(past, target=["a", "c"], known_covariates="b", quantile_levels=LEVELS, val_size=20)
        found = forecaster.predict_df(past, future)
        names = ["predictions", *map(str, task.quantile_levels)]
        answers.append({
            target: [part[names].to_dict("list") for _, part in rows.groupby("item_id", sort=False)]
            for target, rows in found.groupby("target_name")
        })  # fmt: skip
        truth = panel.melt(["item_id", "timestamp"], ["a", "c"], "target_name", "truth")
        both = found.merge(truth, on=["item_id", "timestamp", "target_name"])
        errors.append((both["truth"] - both["predictions"]).abs().mean())
    summary = task.evaluation_summary(answers, model_name="tsattn")
    assert np.isfinite(summary["SQL"])
    assert summary["MAE"] == pytest.approx(np.mean(errors))


def test_known_covariates_go_in_as_in_chronos(shops):
    forecaster = fitted(shops, target="a", known_covariates=["b"])
    found = forecaster.predict_df(shops, future_df=ahead(shops, b=0.0))
    assert len(found) == 2 * HORIZON
