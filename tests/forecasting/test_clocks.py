"""A forecast goes on as its table's clock does, in Python and from the command line: years, steps, joined columns."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from making import HORIZON, fitted, hours, items
from support import tsattn

from tsattn import Forecaster

SMALL = (
    "--model.network.context 24 --model.network.horizon 6 --model.network.d_model 8 --model.network.d_ff 8 "
    "--model.network.heads 2 --trainer.max_epochs 1 --test false"
).split()


def by_command(frame: pd.DataFrame, folder: Path, *options: str) -> pd.DataFrame:
    """Train and forecast by the command line."""
    frame.to_csv(folder / "t.csv", index=False)
    of_fit = [option.replace("--", "--data.") if option.startswith("--") else option for option in options]
    done = tsattn(
        "fit",
        "-c",
        "forecast/itransformer.yaml",
        "--data.table",
        "t.csv",
        "--run_dir",
        "run",
        *SMALL,
        *of_fit,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    done = tsattn(
        "forecast", "--checkpoint", "run/best.ckpt", "--table", "t.csv", "--out", "out.csv", *options, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "out.csv")


def counted(name: str, first: int, step: int) -> pd.DataFrame:
    frame = hours().drop(columns="timestamp")
    frame.insert(0, name, first + step * np.arange(len(frame)))
    return frame


@pytest.mark.parametrize(("name", "first", "step"), [("year", 1825, 1), ("ds", 0, 1), ("step", 500, 25)])
def test_whole_numbers_go_on_as_whole_numbers(name: str, first: int, step: int, tmp_path: Path):
    frame = counted(name, first, step)
    expected = [first + step * (len(frame) + k) for k in range(HORIZON)]
    forecaster = fitted(frame, timestamp=name)
    made = forecaster.predict_df(frame)
    assert made[name][:HORIZON].tolist() == expected
    again = Forecaster.from_pretrained(_saved(forecaster, tmp_path))
    assert again.spec.step == step
    assert again.predict_df(frame.tail(30))[name][:HORIZON].tolist() == expected
    told = again.backtest(frame, windows=2)
    assert told[name].iloc[-1] == frame[name].iloc[-1]
    assert told["cutoff"].iloc[0] == frame[name].iloc[-2 * HORIZON - 1]
    made = by_command(frame, tmp_path, "--timestamp", name)
    assert made["timestamp"][:HORIZON].tolist() == expected
    with pytest.raises(ValueError, match=f"step {3 * step}, expected {step}, that of the training"):
        forecaster.predict_df(counted(name, first, 3 * step))
    with pytest.raises(ValueError, match=f"dates as times .* whole numbers of the step {step}"):
        forecaster.predict_df(hours(), timestamp="timestamp")


def _saved(forecaster: Forecaster, folder: Path) -> Path:
    forecaster.save_pretrained(folder / "saved")
    return folder / "saved"


def test_known_rows_of_years_stand_in_their_years(tmp_path: Path):
    frame = counted("year", 1825, 1)
    forecaster = fitted(frame, target="a", known_covariates="b", timestamp="year")
    ahead = pd.DataFrame({"year": 2025 + np.arange(HORIZON), "b": 0.5})
    made = forecaster.predict_df(frame, ahead.sample(frac=1, random_state=0))
    assert made["year"].tolist() == ahead["year"].tolist()
    with pytest.raises(ValueError, match="lacks 1 of the 6 rows that follow the history, the first one at 2027"):
        forecaster.predict_df(frame, ahead.drop(index=2))


def test_items_of_years_end_where_they_end():
    frame = items({"x": 200, "y": 190})
    frame["year"] = np.concatenate([1800 + np.arange(200), 1800 + np.arange(190)])
    frame = frame.drop(columns="timestamp")
    made = fitted(frame, timestamp="year").predict_df(frame)
    assert made.groupby("item_id")["year"].min().to_dict() == {"x": 2000, "y": 1990}


def test_days_and_times_of_day_are_one_clock_in_both_doors(tmp_path: Path):
    frame = hours()
    at = frame.pop("timestamp")
    frame.insert(0, "date", at.dt.strftime("%Y-%m-%d"))
    frame.insert(1, "time", at.dt.strftime("%H:%M:%S"))
    expected = pd.date_range(at.iloc[-1], periods=HORIZON + 1, freq="h")[1:]
    forecaster = fitted(frame)
    assert pd.DatetimeIndex(forecaster.predict_df(frame)["timestamp"][:HORIZON]).equals(expected)
    assert forecaster.spec.target_names == ("a", "b", "c")
    made = fitted(frame, timestamp=["date", "time"]).predict_df(frame, timestamp=["date", "time"])
    assert pd.DatetimeIndex(made["timestamp"][:HORIZON]).equals(expected)
    made = by_command(frame, tmp_path, "--timestamp", "[date, time]")
    assert (pd.to_datetime(made["timestamp"][:HORIZON]) == expected).all()


def test_thousands_are_read_by_fit_and_by_forecast(tmp_path: Path):
    frame = hours()[["timestamp", "a"]].assign(a=lambda f: (100 * f["a"]).round().astype(int))
    assert frame["a"].between(600, 1400).all()
    plain = by_command(frame, tmp_path)
    european = frame.assign(a=frame["a"].map(lambda value: f"{value:,}".replace(",", ".")))
    (tmp_path / "eu").mkdir()
    made = by_command(european, tmp_path / "eu", "--decimal", ",", "--thousands", ".")
    np.testing.assert_array_equal(made["predictions"], plain["predictions"])
