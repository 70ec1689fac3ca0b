"""From a checkpoint and a table to a labelled forecast, by the package alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tsattn import Forecaster
from tsattn.contracts import TableSpec


@pytest.fixture
def forecaster(run: Path) -> Forecaster:
    return Forecaster.from_pretrained(run / "best.ckpt")


@pytest.fixture
def frame(table: Path) -> pd.DataFrame:
    return pd.read_csv(table)


def test_the_table_is_not_changed(forecaster: Forecaster, frame: pd.DataFrame):
    before = frame.copy(deep=True)
    forecaster.predict_df(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_order_of_columns_and_further_columns_do_not_matter(forecaster: Forecaster, frame: pd.DataFrame):
    expected = forecaster.predict_df(frame)
    shuffled = frame[[frame.columns[0], *reversed(frame.columns[1:])]].assign(more=1.0)
    pd.testing.assert_frame_equal(forecaster.predict_df(shuffled), expected)


def test_the_forecast_is_in_the_tables_units(forecaster: Forecaster, frame: pd.DataFrame):
    values = frame.iloc[-48:, 1:].to_numpy().T
    mean, scale = np.array(forecaster.spec.mean)[:, None], np.array(forecaster.spec.scale)[:, None]
    past = torch.tensor((values - mean) / scale, dtype=torch.float32)[None]
    from tsattn.data.calendar import calendar_features

    first = pd.Timestamp(frame.iloc[-48, 0])
    known = calendar_features(pd.date_range(first, periods=60, freq="h"), forecaster.spec.marks)
    with torch.no_grad():
        scaled = forecaster.network(past, torch.as_tensor(known)[None])[0].numpy()
    expected = (scaled * scale + mean).reshape(-1)
    assert forecaster.predict_df(frame)["predictions"].to_numpy() == pytest.approx(expected, rel=1e-5)


def test_times_in_a_zone_are_refused_by_a_forecaster_of_times_without_one(forecaster: Forecaster, frame: pd.DataFrame):
    clock = frame.columns[0]
    frame[clock] = pd.to_datetime(frame[clock]).dt.tz_localize("UTC")
    with pytest.raises(ValueError, match="are in the zone UTC, those of the training have none"):
        forecaster.predict_df(frame)


def test_a_history_that_is_too_short_is_read_as_missing_before_its_first_row(
    forecaster: Forecaster, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
):
    short = forecaster.predict_df(frame[:40])
    assert "40 rows, the forecaster reads 48: the 8 before them are taken as missing" in caplog.text
    blank = frame[:40].copy()
    clock = frame.columns[0]
    before = pd.DataFrame({clock: pd.date_range(end=blank[clock].iloc[0], periods=9, freq="h")[:-1].astype(str)})
    pd.testing.assert_frame_equal(forecaster.predict_df(pd.concat([before, blank])), short)


def test_another_step_than_in_training_is_refused(forecaster: Forecaster, frame: pd.DataFrame):
    with pytest.raises(ValueError, match="has the step 2h, expected h, that of the training"):
        forecaster.predict_df(frame[::2])


def test_an_exported_folder_forecasts_the_same(forecaster: Forecaster, frame: pd.DataFrame, tmp_path: Path):
    forecaster.save_pretrained(tmp_path / "folder")
    again = Forecaster.from_pretrained(tmp_path / "folder")
    pd.testing.assert_frame_equal(again.predict_df(frame), forecaster.predict_df(frame))


def test_standardise_and_restore_are_inverse_even_for_a_large_offset():
    spec = TableSpec(("a",), 1, (1e6,), (0.5,), "h")
    values = torch.tensor([[1e6, 1e6 + 0.25]], dtype=torch.float64)
    assert spec.standardise(values).tolist() == [[0.0, 0.5]]
    assert spec.restore(spec.standardise(values[None]))[0].tolist() == values.tolist()
