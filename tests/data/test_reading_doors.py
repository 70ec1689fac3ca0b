"""The command line's door and Python's read a table alike: the same clock, the same columns, the same refusals."""

import logging
import re
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsattn.data.modules import TableData
from tsattn.data.panel import read_panel
from tsattn.data.reading import Reading
from tsattn.data.tables import from_frame
from tsattn.forecasting.learning import Roles

ROWS = 96
HOURS = pd.date_range("2020-01-01", periods=ROWS, freq="h")
DAYS = pd.date_range("2020-01-01", periods=ROWS, freq="D")
WAVE = np.sin(np.arange(ROWS) / 4).round(4)


def both(frame: pd.DataFrame, **options: Any) -> tuple[list[str], pd.Index, str, int]:
    """Read a frame by both doors, and return what both found: names, times, step."""
    before = frame.copy(deep=True)
    table = from_frame(frame, **options)
    clock = {"timestamp": options["timestamp"]} if "timestamp" in options else {}
    roles = Roles.of(frame, None, (), (), (), None, clock.get("timestamp"))
    panel = read_panel(frame, roles.numbers, **clock)
    assert list(roles.targets) == table["variate"].values.tolist()
    np.testing.assert_array_equal(panel.values(roles.targets), table["values"].values)
    assert panel.times.tolist() == table.indexes["time"].tolist()
    assert panel.frequency == table.attrs["frequency"]
    assert panel.step == table.attrs["step"]
    pd.testing.assert_frame_equal(frame, before)
    return list(roles.targets), panel.times, panel.frequency, panel.step


def refusals(frame: pd.DataFrame, **options: Any) -> tuple[str, str]:
    """Return what each door says of a frame that neither reads."""
    with pytest.raises(ValueError, match=r"\w") as table:
        from_frame(frame, **options)

    def in_python() -> None:
        roles = Roles.of(frame, None, (), (), (), None, options.get("timestamp"))
        read_panel(frame, roles.numbers, timestamp=options.get("timestamp"))

    with pytest.raises(ValueError, match=r"\w") as panel:
        in_python()
    return str(table.value), str(panel.value)


# The clock -------------------------------------------------------------------------------------------------------


def test_times_that_are_each_there_once_are_the_clock_whatever_their_name(caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({"Date": HOURS.strftime("%Y-%m-%d"), "load": WAVE, "measured": HOURS.astype(str)})
    names, times, step, _ = both(frame)
    assert (names, step, times[5]) == (["load"], "h", HOURS[5])
    assert "'Date' could be times, too" in caplog.text


@pytest.mark.parametrize(
    "parts",
    [
        {"date": HOURS.strftime("%Y-%m-%d"), "time": HOURS.strftime("%H:%M:%S")},
        {"day": HOURS.normalize(), "at": HOURS.strftime("%I:%M %p")},
        {"Datum": HOURS.strftime("%d.%m.%Y"), "Zeit": [time(t.hour) for t in HOURS]},
        {"date": HOURS.strftime("%Y%m%d"), "hour": HOURS.hour},
        {"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour},
    ],
    ids=["text", "am and pm", "dots and times", "a number of hours", "year, month, day, hour"],
)
def test_a_clock_in_several_columns_is_joined_and_it_is_said(parts: dict[str, Any], caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({**parts, "load": WAVE})
    names, times, step, _ = both(frame)
    assert (names, step) == (["load"], "h")
    assert (times == HOURS).all()
    assert "joined to one clock" in caplog.text
    assert both(frame, timestamp=list(parts))[1].equals(times)
    assert both(frame, timestamp=f"[{', '.join(parts)}]")[1].equals(times)


def test_columns_that_cannot_be_joined_are_named():
    frame = pd.DataFrame({"date": HOURS, "load": WAVE, "other": -WAVE})
    for said in refusals(frame, timestamp=["load", "other"]):
        assert "'load', 'other'" in said
        assert "times of day" in said
    hour_ending = pd.DataFrame({"date": HOURS.strftime("%Y-%m-%d"), "hour": HOURS.hour + 1, "load": WAVE})
    for said in refusals(hour_ending):
        assert "'hour' holds hours from 1 to 24" in said


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9), ("s", 1.0)], ids=str
)
def test_seconds_since_1970_are_instants_in_any_unit(unit: str, factor: float, caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({"timestamp": HOURS.as_unit("s").asi8 * factor, "load": WAVE})
    with caplog.at_level(logging.INFO):
        _, times, step, _ = both(frame)
    assert step == "h"
    assert (times == HOURS.tz_localize("UTC")).all()
    assert "seconds since 1970" in caplog.text


@pytest.mark.parametrize(("form", "freq"), [("%Y%m%d", "D"), ("%Y%m", "MS")])
def test_dates_written_as_numbers(form: str, freq: str):
    dates = pd.date_range("2015-01-01", periods=ROWS, freq=freq)
    frame = pd.DataFrame({"date": dates.strftime(form).astype(int), "load": WAVE})
    _, times, step, _ = both(frame)
    assert step == freq
    assert (times == dates).all()
    assert from_frame(frame, timestamp="date", time_format=form).indexes["time"].equals(times)


@pytest.mark.parametrize(
    ("name", "first", "step"), [("year", 1900, 1), ("ds", 0, 1), ("step", -50, 10), ("year", 5, 5)]
)
def test_whole_numbers_stay_whole_numbers_and_go_on(name: str, first: int, step: int):
    count = first + step * np.arange(ROWS)
    frame = pd.DataFrame({name: count, "load": WAVE})
    _, times, frequency, found = both(frame)
    assert (times.tolist(), frequency, found) == (count.tolist(), "", step)
    assert both(frame, timestamp=name)[3] == step
    panel = read_panel(frame, ["load"])
    assert panel.times_after(2).tolist() == [count[-1] + step, count[-1] + 2 * step]
    assert panel.padded(ROWS + 1).times[0] == first - step
    assert panel.tail(3).times.tolist() == count[-3:].tolist()
    if name == "year":
        assert from_frame(frame, timestamp=name, time_format="%Y").indexes["time"].tolist() == count.tolist()


def test_years_of_items_have_one_step_and_gaps_are_named():
    frame = pd.DataFrame({"item_id": np.repeat(["A", "B"], 48), "year": np.tile(np.arange(1950, 1998), 2), "y": WAVE})
    panel = read_panel(frame[::-1], ["y"])
    assert panel.step == 1
    assert panel.times.tolist() == frame["year"].tolist()
    gap = frame.drop(index=[5, 60])
    with pytest.raises(ValueError, match=r"from 1954 to 1956 in item 'A'.*`freq='1'`"):
        read_panel(gap, ["y"])
    filled = read_panel(gap, ["y"], how=Reading(freq="1"))
    assert filled.times.tolist() == frame["year"].tolist()
    assert np.flatnonzero(np.isnan(filled.columns["y"])).tolist() == [5, 60]
    with pytest.raises(ValueError, match="has the step 1, expected 5"):
        read_panel(frame, ["y"], frequency="", step=5)
    with pytest.raises(ValueError, match=r"whole numbers as times .* expected dates of the step YS"):
        read_panel(frame, ["y"], frequency="YS-JAN", step=0)


def test_days_of_a_spreadsheet_are_dates_if_it_is_said():
    frame = pd.DataFrame({"day": 43831 + np.arange(ROWS), "load": WAVE})
    assert (from_frame(frame, timestamp="day", time_format="excel").indexes["time"] == DAYS).all()
    assert from_frame(frame, timestamp="day").attrs["step"] == 1


def test_a_clock_that_is_not_read_is_named_and_must_be_in_order(caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({"ds": np.arange(5, 5 + ROWS), "load": WAVE})
    names, times, _, _ = both(frame, timestamp="none")
    assert (names, times[0]) == (["load"], 0)
    assert "'ds' could be times" in caplog.text
    for said in refusals(frame.sample(frac=1, random_state=0), timestamp="none"):
        assert "not in the order of 'ds'" in said


def test_dates_with_dots_begin_with_the_day_and_month_first_is_said(caplog: pytest.LogCaptureFixture):
    months = pd.date_range("2020-01-01", periods=12, freq="MS")
    frame = pd.DataFrame({"date": months.strftime("%d.%m.%Y"), "load": WAVE[:12]})
    assert both(frame)[2] == "MS"
    assert "month first" not in caplog.text
    assert both(frame.assign(date=months.strftime("%d/%m/%Y")))[2] == "D"
    assert "'01/01/2020'" in caplog.text or "month first" in caplog.text


# Keys and row numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["shop", "sensor_id", "line"])
@pytest.mark.parametrize("values", [["A", "B"], [0, 1], [773869, 767541]], ids=str)
def test_a_column_that_tells_series_apart_is_named_by_both_doors(key: str, values: list[Any]):
    frame = pd.DataFrame({key: np.repeat(values, 48), "date": np.tile(HOURS[:48], 2), "v0": WAVE, "v1": -WAVE})
    table, panel = refusals(frame)
    assert f"{key!r} tells 2 series apart" in table
    assert f"`item_id={key!r}`" in panel
    for more in ({"drop_duplicates": True}, {"resample": "h"}, {"exclude": key, "drop_duplicates": True}):
        with pytest.raises(ValueError, match=f"{key!r} tells 2 series apart"):
            from_frame(frame, **more)
    found = re.search(r"`variate_column='(\w+)', value_column='(\w+)'`", table)
    assert found is not None
    spread = from_frame(frame, variate_column=found[1], value_column=found[2])
    assert spread["variate"].values.tolist() == [str(value) for value in values]
    assert len(read_panel(frame, ["v0"], item=key).items) == 2


@pytest.mark.parametrize("in_turns", [False, True])
def test_series_whose_times_differ_are_not_averaged(in_turns: bool):
    times = np.concatenate([HOURS[:48], HOURS[:48] + pd.Timedelta("7min")])
    frame = pd.DataFrame({"meter_id": np.repeat([5, 9], 48), "date": times, "y": WAVE})
    frame = frame.sort_values("date") if in_turns else frame
    for more in ({}, {"exclude": "meter_id"}):
        with pytest.raises(ValueError, match="would mix series: the column 'meter_id' tells 2 series apart"):
            from_frame(frame, resample="h", **more)
    parts = pd.DataFrame({"part": np.repeat(["b", "a"], 48), "date": np.r_[HOURS[48:], HOURS[:48]], "y": WAVE})
    with pytest.raises(ValueError, match="expected rows in the order of time; sort the file"):
        from_frame(parts, resample="2h")  # one series in another order
    assert from_frame(parts.sort_values("date"), resample="2h").sizes["time"] == 48
    one = frame[frame["meter_id"] == 5]
    assert from_frame(one, resample="2h").sizes["time"] == 24


def test_two_columns_may_tell_series_apart_together():
    frame = pd.DataFrame(
        {
            "store": np.repeat([1, 2], 48),
            "product": np.tile(np.repeat([1, 2, 3], 16), 2),
            "date": np.tile(DAYS[:16], 6),
            "sales": WAVE,
        }
    )
    for said in refusals(frame):
        assert "'store', 'product' tell 6 series apart" in said


def test_items_in_turn_are_not_one_series():
    frame = pd.DataFrame({"item_id": np.repeat(["a", "b"], 48), "date": HOURS, "y": WAVE})
    with pytest.raises(ValueError, match=r"the items 'a', 'b' in 'item_id', expected one"):
        from_frame(frame)
    assert len(read_panel(frame, ["y"]).items) == 2


def test_measurements_that_differ_by_chance_are_no_key():
    count = np.random.default_rng(0).integers(0, 50, ROWS)
    frame = pd.DataFrame({"date": HOURS.floor("2h"), "count": count, "y": WAVE})
    for said in refusals(frame):
        assert "series apart" not in said
    assert from_frame(frame, resample="2h").sizes["time"] == ROWS // 2


def test_rows_that_are_dropped_are_few_or_the_same(caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({"date": HOURS, "y": WAVE})
    assert from_frame(pd.concat([frame] * 3), drop_duplicates=True).sizes["time"] == ROWS
    other = pd.concat([frame, frame.assign(y=1.0), frame.assign(y=2.0)])
    with pytest.raises(ValueError, match="192 of 288 rows repeat a time and differ"):
        from_frame(other, drop_duplicates=True)


@pytest.mark.parametrize(
    ("name", "count"),
    [("Unnamed: 0", np.arange(1, ROWS + 1)), ("Unnamed: 0", np.arange(50, 50 + ROWS)), ("index", np.arange(ROWS)),
     ("Unnamed: 0", np.arange(ROWS) * 3 + 7), ("X", np.arange(1, ROWS + 1)), ("level_0", np.arange(ROWS))],
)  # fmt: skip
def test_row_numbers_are_left_out_and_named(name: str, count: np.ndarray, caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({name: count, "date": HOURS, "y": WAVE})
    assert both(frame)[0] == ["y"]
    assert f"{name!r} only numbers the rows" in caplog.text
    kept = from_frame(frame, keep=[name])
    assert kept["variate"].values.tolist() == [name, "y"]
    assert Roles.of(frame, name, (), (), (), None, None).targets == (name,)


def test_a_column_that_counts_is_forecast_if_it_is_data():
    assert both(pd.DataFrame({"date": HOURS, "sold": np.arange(ROWS)}))[0] == ["sold"]
    assert both(pd.DataFrame({"date": HOURS, "sold": np.arange(ROWS), "y": WAVE}))[0] == ["sold", "y"]


# Numbers and text --------------------------------------------------------------------------------------------------


def test_numbers_of_any_type_are_numbers_in_both_doors():
    frame = pd.DataFrame({"date": HOURS, "y": WAVE})
    frame["price"] = [Decimal(f"{value:.2f}") for value in WAVE]
    frame["text"] = [f" {value:.2f} " for value in WAVE]
    frame["whole"] = pd.Series(np.arange(ROWS) % 7, dtype="Int64").where(frame["y"] > -0.9)
    frame["small"] = WAVE.astype(np.float32)
    assert both(frame)[0] == ["y", "price", "text", "whole", "small"]


def test_text_is_left_out_with_a_warning_and_one_bad_cell_is_an_error(caplog: pytest.LogCaptureFixture):
    frame = pd.DataFrame({"date": HOURS, "y": WAVE, "note": ["calm", "windy"] * (ROWS // 2)})
    assert both(frame)[0] == ["y"]
    assert "'note' hold no numbers" in caplog.text
    frame["note"] = frame["y"].astype(object)
    frame.loc[7, "note"] = "n.a."
    for said in refusals(frame):
        assert "'note'" in said
        assert "'n.a.'" in said
        assert "data row 8" in said


@pytest.mark.parametrize("cell", ["12 %", "€ 3.50", "1,5", "1.003,2"])
def test_numbers_written_otherwise_are_refused_by_column(cell: str):
    for said in refusals(pd.DataFrame({"date": HOURS, "y": WAVE, "share": cell})):
        assert "'share'" in said
        assert repr(cell) in said


def test_whole_numbers_that_lose_digits_are_warned_of(caplog: pytest.LogCaptureFixture):
    both(pd.DataFrame({"date": HOURS, "y": WAVE, "id": 2**53 + 1 + 7 * np.arange(ROWS) ** 2}))
    assert "above 2^53" in caplog.text


def test_columns_that_nobody_asked_for_do_not_stop_a_run(tmp_path: Path):
    frame = pd.DataFrame({"date": HOURS, "y": WAVE, "x": -WAVE, "note": "x", "bad": ["1"] * 95 + ["?"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = TableData(table=tmp_path / "t.csv", target="y", exogenous="x", context=12, horizon=4)
    assert data.spec.variates == ("y", "x")
    with pytest.raises(ValueError, match="'bad'"):
        TableData(table=tmp_path / "t.csv", target="y", context=12, horizon=4).prepare()
