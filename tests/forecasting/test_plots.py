"""Pictures of forecasts show the numbers that they were given."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from tsattn import Forecaster
from tsattn.data.simulate import simulate_table
from tsattn.forecasting.plots import FORECAST, MOST_PANELS, MOST_WINDOWS, OBSERVED

CONTEXT, HORIZON = 24, 6
PNG = b"\x89PNG\r\n"


def small(model: str = "itransformer", **more: int) -> Forecaster:
    return Forecaster(model, context=CONTEXT, horizon=HORIZON, d_model=8, d_ff=8, heads=2, **more)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulate_table(300, 3)


@pytest.fixture(scope="module")
def forecaster(frame: pd.DataFrame) -> Forecaster:
    return small().fit(frame, quantile_levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_epochs=1, marks="none")


@pytest.fixture(scope="module")
def forecast(forecaster: Forecaster, frame: pd.DataFrame) -> pd.DataFrame:
    return forecaster.predict_df(frame)


def line(figure: Figure, panel: int, label: str) -> tuple[np.ndarray, np.ndarray]:
    found = [each for each in figure.axes[panel].get_lines() if each.get_label() == label]
    assert len(found) == 1
    return found[0].get_xdata(orig=False), found[0].get_ydata(orig=False)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_drawn_line_is_the_forecast(forecaster: Forecaster, frame: pd.DataFrame, forecast: pd.DataFrame):
    figure = forecaster.plot(forecast, frame)
    assert [panel.get_title("left") for panel in figure.axes] == ["driver", "load 1", "load 2"]
    for number, name in enumerate(("driver", "load 1", "load 2")):
        rows = forecast[forecast["target_name"] == name]
        times, values = line(figure, number, "median")
        np.testing.assert_array_equal(values, rows["predictions"])
        np.testing.assert_allclose(times, date2num(rows["timestamp"]))


def test_the_edges_of_a_band_are_the_quantiles(forecaster: Forecaster, forecast: pd.DataFrame):
    panel = forecaster.plot(forecast, targets="load 1").axes[0]
    rows = forecast[forecast["target_name"] == "load 1"]
    widest, inner = panel.collections
    for band, low, high in ((widest, "0.1", "0.9"), (inner, "0.25", "0.75")):
        corners = band.get_paths()[0].vertices
        for time, under, over in zip(date2num(rows["timestamp"]), rows[low], rows[high], strict=True):
            here = corners[np.isclose(corners[:, 0], time, rtol=0, atol=1e-6), 1]
            assert here.min() == pytest.approx(under)
            assert here.max() == pytest.approx(over)
    assert widest.get_alpha() < inner.get_alpha()


def test_the_history_ends_where_the_forecast_begins_and_what_came_is_told_apart(
    forecaster: Forecaster, frame: pd.DataFrame
):
    figure = forecaster.plot(forecaster.predict_df(frame[:200]), frame, targets="load 2")
    times, values = line(figure, 0, "observed")
    np.testing.assert_array_equal(values, frame["load 2"][200 - 2 * CONTEXT : 200])
    assert times[-1] == date2num(frame["date"][199])
    np.testing.assert_array_equal(line(figure, 0, "actual")[1], frame["load 2"][200 : 200 + HORIZON])
    shaded = figure.axes[0].patches[0]
    assert shaded.get_x() == date2num(frame["date"][200 - CONTEXT])
    assert legend(figure) == ["read by the network", "observed", "actual", "80 %", "50 %", "median"]


def test_a_history_that_begins_after_the_forecast_is_refused(forecaster: Forecaster, frame: pd.DataFrame):
    with pytest.raises(ValueError, match=r"history has no row before 2024-01-05 04:00:00"):
        forecaster.plot(forecaster.predict_df(frame[:100]), frame[100:])


def test_more_targets_than_panels_are_counted_in_the_title(forecaster: Forecaster, forecast: pd.DataFrame):
    count = MOST_PANELS + 2
    names = [f"column {i}" for i in range(count)]
    one = forecast[forecast["target_name"] == "load 1"]
    many = pd.concat([one.assign(target_name=name) for name in names])
    figure = forecaster.plot(many)
    assert sum(panel.get_visible() for panel in figure.axes) == MOST_PANELS
    assert figure.get_suptitle() == f"{MOST_PANELS} of {count} targets (others by `targets`): forecast"
    last = forecaster.plot(many, targets=names[-1])
    assert [panel.get_title("left") for panel in last.axes] == [names[-1]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"targets": "load"}, "no target 'load', expected some of driver, load 1, load 2"),
        ({"item": "north"}, "no item 'north', expected one of those in it, such as '0'"),
        ({"layer": 0}, "'layer' chooses a part of attention"),
    ],
)
def test_what_is_not_in_a_forecast_cannot_be_drawn(
    forecaster: Forecaster, forecast: pd.DataFrame, options: dict, problem: str
):
    with pytest.raises(ValueError, match=problem):
        forecaster.plot(forecast, **options)


def test_of_a_backtest_windows_that_overlap_are_not_drawn_but_count(forecaster: Forecaster, frame: pd.DataFrame):
    backtest = forecaster.backtest(frame, windows=200, step=1)
    figure = forecaster.plot(backtest, targets="load 1")
    drawn = [each for each in figure.axes[0].get_lines() if to_rgba(each.get_color()) == to_rgba(FORECAST)]
    begins = sorted(each.get_xdata(orig=False)[0] for each in drawn)
    assert len(drawn) == MOST_WINDOWS
    np.testing.assert_allclose(np.diff(begins) * 24, HORIZON)  # hours
    assert max(each.get_xdata(orig=False)[-1] for each in drawn) == date2num(frame["date"].iloc[-1])
    rows = backtest[backtest["target_name"] == "load 1"]
    error = (rows["target"] - rows["predictions"]).abs().mean()
    assert figure.axes[0].get_title("left") == f"load 1: mean absolute error {error:.3g}"
    assert figure.get_suptitle() == f"{MOST_WINDOWS} of 200 forecasts and actual values, errors of all"


def test_of_a_backtest_the_dark_line_is_what_came(forecaster: Forecaster, frame: pd.DataFrame):
    figure = forecaster.plot(forecaster.backtest(frame, windows=3), targets="driver")
    times, values = line(figure, 0, "actual")
    np.testing.assert_array_equal(values, frame["driver"][-3 * HORIZON :])
    np.testing.assert_allclose(times, date2num(frame["date"][-3 * HORIZON :]))
    assert to_rgba(figure.axes[0].get_lines()[0].get_color()) == to_rgba(OBSERVED)


def test_each_item_is_drawn_from_its_own_rows(frame: pd.DataFrame):
    items = pd.concat([frame.assign(item_id="a"), frame.assign(item_id="b", driver=frame["driver"] + 100)])
    forecaster = small().fit(items, max_epochs=1, marks="none")
    figure = forecaster.plot(forecaster.predict_df(items), items, item="b", targets="driver")
    np.testing.assert_array_equal(line(figure, 0, "observed")[1], frame["driver"][-2 * CONTEXT :] + 100)
    assert figure.get_suptitle() == "b: forecast"


def test_the_picture_of_attention_is_the_mean_over_heads(forecaster: Forecaster, frame: pd.DataFrame):
    attention = forecaster.attention(frame)
    figure = forecaster.plot(attention)
    for layer in (0, 1):
        panel = figure.axes[layer]
        np.testing.assert_allclose(panel.images[0].get_array(), attention.sel(layer=layer).mean("head"))
        assert panel.get_title("left") == f"layer {layer}"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["driver", "load 1", "load 2"]
    one = forecaster.plot(attention, layer=1, head=0).axes[0]
    np.testing.assert_array_equal(one.images[0].get_array(), attention.sel(layer=1, head=0))


def test_a_part_of_attention_that_is_not_there_is_refused(forecaster: Forecaster, frame: pd.DataFrame):
    attention = forecaster.attention(frame)
    with pytest.raises(ValueError, match=r"9 is not on the axis 'layer', expected one of \[0, 1\]"):
        forecaster.plot(attention, layer=9)
    with pytest.raises(ValueError, match="no axis 'variate'"):
        forecaster.plot(attention, variate="driver")


def test_one_reader_and_gates_are_drawn_as_bars(frame: pd.DataFrame):
    timexer = small("timexer", patch=6).fit(
        frame, target="load 1", past_covariates=["driver", "load 2"], max_epochs=1, marks="none"
    )
    attention = timexer.attention(frame, kind="exogenous")
    panel = timexer.plot(attention).axes[0]
    widths = [bar.get_width() for bar in panel.patches]
    assert widths == pytest.approx(attention.mean("head").to_numpy().ravel().tolist())
    assert [text.get_text() for text in panel.get_yticklabels()] == ["driver", "load 2"]
    gates = xr.DataArray([[0.2, 0.6], [0.5, 0.9]], {"gate": ["gate 1", "gate 2"], "variate": ["a", "b"]})
    drawn = [[bar.get_width() for bar in panel.patches] for panel in timexer.plot(gates).axes]
    assert drawn == [[0.2, 0.6], [0.5, 0.9]]


def test_long_times_are_shortened_and_cells_are_named_by_their_patches(forecaster: Forecaster):
    times = [f"2024-01-{day:02d} 12:00:00" for day in range(1, 4)]
    cells = [f"{name} @ {time}" for time in times for name in "abcdefghij"]
    attention = xr.DataArray(np.full((30, 30), 1 / 30), {"query": cells, "key": cells})
    panel = forecaster.plot(attention).axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["01-01 12:00", "01-02 12:00", "01-03 12:00"]
    assert panel.get_xticks().tolist() == [4.5, 14.5, 24.5]
    assert panel.get_xlabel() == "what is read (in each patch: a ... j)"


def test_a_target_s_own_past_has_no_part_in_the_scale_of_importance(forecaster: Forecaster):
    rows = [("x", "x", 9.0), ("x", "y", 0.1), ("y", "x", -0.04), ("y", "y", 5.0), ("z", "x", 0.0), ("z", "y", 0.02)]
    frame = pd.DataFrame(rows, columns=["source", "target_name", "importance"]).assign(mae=1.0)
    image = forecaster.plot(frame).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[900, 10], [-4, 500], [0, 2]])
    assert image.get_clim() == pytest.approx((-10, 10))
    figure = forecaster.plot(frame, targets="y")
    lengths = {
        text.get_text(): bar.get_width()
        for text, bar in zip(figure.axes[0].get_yticklabels(), figure.axes[0].patches, strict=True)
    }
    assert lengths == pytest.approx({"z": 2, "x": 10})
    assert "without its own past: +500 %" in figure.get_suptitle()


def test_a_picture_is_written_once_and_a_notebook_shows_it(
    forecaster: Forecaster, forecast: pd.DataFrame, tmp_path: Path
):
    figure = forecaster.plot(forecast, out=tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").read_bytes().startswith(PNG)
    assert figure._repr_png_().startswith(PNG)
    before = (tmp_path / "forecast.png").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="exists already"):
        forecaster.plot(forecast, out=tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").stat().st_mtime_ns == before
    forecaster.plot(forecast, out=tmp_path / "forecast.svg")
    assert b"<svg" in (tmp_path / "forecast.svg").read_bytes()


def test_drawing_leaves_pyplot_alone(forecaster: Forecaster, forecast: pd.DataFrame):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    forecaster.plot(forecast)
    assert pyplot.get_fignums() == before
