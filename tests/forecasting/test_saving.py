"""What is saved forecasts the same again, from two files without code and without the network."""

import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from making import LEVELS, ahead, fitted, items
from support import SMALL, tsattn

from tsattn import Forecaster


@pytest.fixture(scope="module")
def told() -> pd.DataFrame:
    return items(promo="no").assign(promo=["yes", "no"] * 200, site=["north"] * 200 + ["south"] * 200)


OPTIONS = {"target": "a", "past_covariates": "c", "known_covariates": ["b", "promo"], "static_covariates": "site"}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("model", ["itransformer", "timexer"])
@pytest.mark.parametrize("kind", ["point", "quantile", "student-t", "calibrated", "calibrated quantile"])
def test_a_saved_forecaster_forecasts_the_same(told, tmp_path: Path, offline, model: str, kind: str):
    options = dict(OPTIONS)
    if kind in ("quantile", "calibrated quantile"):
        options |= {"quantile_levels": LEVELS}
    if kind == "student-t":
        options |= {"quantile_levels": LEVELS, "distribution": "student-t"}
    forecaster = fitted(told, model, **options)
    if kind.startswith("calibrated"):
        forecaster = forecaster.calibrate(told, size=100)
    forecaster.save_pretrained(tmp_path / "it")
    assert sorted(path.name for path in (tmp_path / "it").iterdir()) == ["config.json", "model.safetensors"]
    again = Forecaster.from_pretrained(tmp_path / "it")
    future = ahead(told, b=0.5, promo="yes")
    pd.testing.assert_frame_equal(again.predict_df(told, future), forecaster.predict_df(told, future))
    pd.testing.assert_frame_equal(again.backtest(told, windows=2), forecaster.backtest(told, windows=2))
    assert again.spec == forecaster.spec
    assert again.about == json.loads(json.dumps(forecaster.about))
    assert (again.context, again.horizon, again.levels) == (forecaster.context, forecaster.horizon, forecaster.levels)
    tuned = again.finetune(told, max_epochs=1)
    assert tuned.spec.columns_read == forecaster.spec.columns_read


def test_a_saved_forecaster_trains_anew_by_its_recipe(frame, tmp_path: Path):
    for model in ("mvpa", "gateformer-around-patchtst"):
        forecaster = fitted(frame, model)
        forecaster.save_pretrained(tmp_path / model)
        again = Forecaster.from_pretrained(tmp_path / model)
        anew = again.fit(frame, max_epochs=1)
        assert anew.network.recipe == forecaster.network.recipe
        options = {"max_epochs": 1, "learning_rate": 1e-3, "batch_size": 32}
        one, other = (each.fit(frame, **options).predict_df(frame) for each in (forecaster, again))
        pd.testing.assert_frame_equal(one, other)


def test_a_run_of_the_command_line_is_a_forecaster(table: Path, tmp_path: Path):
    done = tsattn(
        "fit", "-c", "forecast/itransformer.yaml", "--data.table", table, "--data.known", '["driver"]',
        "--model.quantiles", "[0.1,0.5,0.9]", "--run_dir", tmp_path / "run", *SMALL, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads(next((tmp_path / "run").rglob("metrics*.json")).read_text())
    text = json.dumps(scores)
    assert '"coverage_80"' in text
    assert '"wql"' in text
    assert 0 < scores["mase"] < 10
    assert 0.3 < scores["quantiles"]["coverage_80"] <= 1
    forecaster = Forecaster.from_pretrained(tmp_path / "run" / "best.ckpt")
    frame = pd.read_csv(table, parse_dates=["date"])
    future = pd.DataFrame({"date": pd.date_range(frame["date"].iloc[-1], periods=13, freq="h")[1:], "driver": 0.0})
    found = forecaster.predict_df(frame, future)
    assert found.columns.tolist() == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
    assert found["target_name"].unique().tolist() == ["load 1", "load 2", "load 3"]
    assert (found["0.1"] <= found["0.9"]).all()


def test_absent_rows_are_missing_ones_on_the_command_line_too(frame: pd.DataFrame, tmp_path: Path):
    holes = frame.drop(index=[30, 150])
    learned = fitted(holes, freq="h")
    learned.save_pretrained(tmp_path / "folder")
    holes.to_csv(tmp_path / "holes.csv", index=False)
    done = tsattn("forecast", "--checkpoint", "folder", "--table", "holes.csv", "--out", "forecast.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "forecast.csv")["predictions"]
    assert found.to_numpy() == pytest.approx(learned.predict_df(holes)["predictions"].to_numpy(), rel=1e-6)


def test_a_loaded_forecaster_is_fitted_anew_to_another_kind_of_table(panel: pd.DataFrame, tmp_path: Path):
    """What the first table had asked of the network (covariates, quantiles) must not stay with its recipe."""
    first = fitted(panel, target="a", known_covariates="b", quantile_levels=(0.1, 0.5, 0.9))
    first.save_pretrained(tmp_path / "folder")
    again = Forecaster.from_pretrained(tmp_path / "folder").fit(panel, target=["a", "b"], max_epochs=1)
    assert again.levels == ()
    assert again.network is not None
    assert again.network.future_covariates is None
    assert again.predict_df(panel)["predictions"].notna().all()
