"""A panel is one buffer: rows in order, items apart, clocks regular, and nothing is invented."""

import numpy as np
import pandas as pd
import pytest
import torch

from tsattn.contracts import Covariate, TableSpec
from tsattn.data.panel import (
    Panel,
    filled,
    fit_covariate,
    fixed_step,
    hidden_rows,
    known_rows,
    make_windows,
    read_panel,
    statistics,
)
from tsattn.data.reading import Reading


def frame(lengths: dict[str, int], freq: str = "h", tz: str | None = None) -> pd.DataFrame:
    parts = []
    for number, (name, rows) in enumerate(lengths.items()):
        times = pd.date_range("2024-03-30", periods=rows, freq=freq, tz=tz)
        values = 100.0 * number + np.arange(rows)
        parts.append(pd.DataFrame({"item_id": name, "timestamp": times, "a": values, "k": f"of {name}"}))
    return pd.concat(parts, ignore_index=True)


def read(table: pd.DataFrame, **options) -> Panel:
    return read_panel(table, ["a"], ["k"], **options)


def test_items_stand_one_after_the_other_whatever_the_order_of_the_rows():
    table = frame({"x": 5, "y": 3, "z": 1})
    expected = read(table)
    assert expected.items.tolist() == ["x", "y", "z"]
    assert expected.begins.tolist() == [0, 5, 8, 9]
    assert expected.frequency == "h"
    assert expected.columns["a"].tolist() == table["a"].tolist()
    shuffled = table.iloc[[8, 2, 7, 0, 5, 4, 1, 3, 6]]
    found = read(shuffled)
    assert found.items.tolist() == ["z", "x", "y"]
    for name, rows in (("x", slice(1, 6)), ("y", slice(6, 9)), ("z", slice(0, 1))):
        own = table[table["item_id"] == name]
        assert found.columns["a"][rows].tolist() == own["a"].tolist()
        assert found.columns["k"][rows].tolist() == own["k"].tolist()
        assert found.times[rows].tolist() == own["timestamp"].tolist()


@pytest.mark.parametrize("tz", [None, "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("freq", ["h", "D", "B", "W-TUE", "MS", "ME", "QS-APR", "15min"])
def test_times_go_on_and_back_as_pandas_counts_them(freq: str, tz: str | None):
    panel = read(frame({"x": 40, "y": 7}, freq, tz))
    after = panel.times_after(3)
    padded = panel.padded(9)
    assert padded.begins.tolist() == [0, 40, 49]
    for item in (0, 1):
        own = panel.times[panel.begins[item] : panel.begins[item + 1]]
        expected = pd.date_range(own[-1], periods=4, freq=panel.frequency)[1:]
        assert after[3 * item : 3 * item + 3].tolist() == expected.tolist()
    before = pd.date_range(end=panel.times[40], periods=3, freq=panel.frequency)[:-1]
    assert padded.times[40:42].tolist() == before.tolist()
    assert padded.times.tz == panel.times.tz
    assert np.isnan(padded.columns["a"][40:42]).all()
    assert padded.columns["k"][40:42].tolist() == [None, None]
    assert padded.columns["a"][42:].tolist() == panel.columns["a"][40:].tolist()


def test_tail_padded_and_extended_are_slices_by_hand():
    panel = read(frame({"x": 6, "y": 2, "z": 4}))
    tail = panel.tail(3)
    assert tail.begins.tolist() == [0, 3, 5, 8]
    assert tail.columns["a"].tolist() == [3, 4, 5, 100, 101, 201, 202, 203]
    assert panel.tail(10) is panel
    longer = panel.extended(2, {"a": np.array([7.0, 8, 9, 10, 11, 12])})
    assert longer.begins.tolist() == [0, 8, 12, 18]
    assert longer.columns["a"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 100, 101, 9, 10, 200, 201, 202, 203, 11, 12]
    assert longer.columns["k"][6] is None
    assert longer.times[6] == panel.times[5] + pd.Timedelta("1h")
    each = panel.padded(np.array([0, 4, 5]))
    assert each.lengths.tolist() == [6, 4, 5]


def test_rows_without_a_clock_are_counted_in_each_item():
    panel = read(frame({"x": 3, "y": 2}).drop(columns="timestamp"), timestamp="none")
    assert panel.frequency == ""
    assert panel.times.tolist() == [0, 1, 2, 0, 1]
    assert panel.times_after(2).tolist() == [3, 4, 2, 3]
    assert panel.padded(4).times.tolist() == [-1, 0, 1, 2, -2, -1, 0, 1]


def test_freq_puts_each_item_on_a_grid_of_its_own():
    table = frame({"x": 6, "y": 5}).drop(index=[2, 7, 8])
    panel = read(table, how=Reading(freq="h"))
    assert panel.begins.tolist() == [0, 6, 11]
    assert np.isnan(panel.columns["a"]).nonzero()[0].tolist() == [2, 7, 8]
    assert panel.columns["k"][2] is None
    assert panel.times[2] == pd.Timestamp("2024-03-30 02:00")


def test_a_step_is_read_off_any_item_and_must_be_that_of_all():
    assert read(frame({"x": 1, "y": 4}, "D")).frequency == "D"
    assert read(frame({"x": 1}), frequency="h").frequency == "h"
    with pytest.raises(ValueError, match="one row per item, expected at least two"):
        read(frame({"x": 1, "y": 1}))
    with pytest.raises(ValueError, match="has the step D, expected h, that of the training"):
        read(frame({"x": 4}, "D"), frequency="h")


@pytest.mark.parametrize(("freq", "rows"), [("MS", 2), ("B", 3), ("W-TUE", 2), ("YS", 2), ("QS-JAN", 2), ("D", 2)])
def test_few_rows_of_a_calendar_have_the_step_that_is_expected(freq: str, rows: int):
    table = frame({"x": rows}, freq)
    assert read(table, frequency=freq).frequency == freq


def test_rows_off_the_calendar_are_refused_in_a_large_panel_too():
    times = pd.date_range("2000-01-01", periods=200, freq="MS")
    many = pd.DataFrame({"item_id": np.repeat(np.arange(600), 200), "timestamp": np.tile(times, 600), "a": 1.0})
    assert read_panel(many, ["a"]).frequency == "MS"
    many.loc[77_777, "timestamp"] += pd.Timedelta("3D")
    said = r"steps from 2014-09-01 00:00:00 to 2014-10-04 00:00:00 in item 388, expected .* `snap='MS'`"
    with pytest.raises(ValueError, match=said):
        read_panel(many, ["a"])


def test_a_holiday_among_business_days_is_no_change_of_the_step():
    table = frame({"x": 60}, "B")
    with pytest.raises(ValueError, match=r"to 2024-05-02 00:00:00, expected a regular step of B; take .*`freq='B'`"):
        read(table[table["timestamp"] != "2024-05-01"])
    found = read(table[table["timestamp"] != "2024-05-01"], how=Reading(freq="B"))
    assert found.rows == 60


def test_mixed_calendars_are_refused_with_the_item():
    table = pd.concat([frame({"x": 40}, "D"), frame({"y": 9}, "MS")])
    with pytest.raises(ValueError, match="mixed frequencies: item 'y' steps by MS, others by D"):
        read(table)


def test_weeks_that_begin_on_different_days_go_on_from_their_own():
    table = pd.concat([frame({"x": 9}, "W-MON"), frame({"y": 9}, "W-THU")])
    panel = read(table)
    after = panel.times_after(2)
    for item in (0, 1):
        last = panel.times[panel.begins[item + 1] - 1]
        assert after[2 * item : 2 * item + 2].tolist() == [last + pd.Timedelta("7D"), last + pd.Timedelta("14D")]


def test_a_step_of_fixed_length_is_known():
    assert fixed_step("h") == 3_600_000_000_000
    assert fixed_step("MS") is None
    assert fixed_step("B") is None


# ---- what stands in the known rows


def spec(*covariates: Covariate, marks: tuple[str, ...] = ()) -> TableSpec:
    return TableSpec(("a",), 1, (0.0,), (1.0,), "h", marks, covariates=covariates)


def test_numbers_are_standardised_and_categories_are_rows_of_one_and_zero():
    table = spec(
        Covariate("n", "known", None, 2.0, 4.0),
        Covariate("promo", "known", ("no", "yes")),
        Covariate("site", "static", ("north", "south", "west")),
    )
    columns = {
        "n": np.array([2.0, 6.0, np.nan]),
        "promo": np.array(["yes", "no", None], dtype=object),
        "site": np.array(["south"] * 3, dtype=object),
    }
    rows = known_rows(table, columns, pd.RangeIndex(3))
    assert rows is not None
    assert rows[0, :2].tolist() == [0.0, 1.0]
    assert rows[0, 2].isnan()
    assert rows[1:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]]
    units = torch.tensor([[6.0], [0], [1], [0], [1], [0]])
    mean, scale = torch.tensor(table.known_statistics).T[..., None]
    assert ((units - mean) / scale)[:3, 0].tolist() == [1, 0, 1]


def test_the_horizon_of_past_categories_is_hidden_and_that_of_others_is_not():
    table = spec(
        Covariate("n", "known", None, 0.0, 1.0),
        Covariate("promo", "known", ("no", "yes")),
        Covariate("mode", "past", ("p", "q", "r")),
        Covariate("site", "static", ("north", "south")),
        marks=("hour",),
    )
    assert hidden_rows(table) == slice(3, 6)
    times = pd.date_range("2024-01-01", periods=8, freq="h")
    columns = {
        "a": np.arange(8.0), "n": np.ones(8), "promo": np.array(["yes"] * 8, dtype=object),
        "mode": np.array(["q"] * 8, dtype=object), "site": np.array(["south"] * 8, dtype=object),
    }  # fmt: skip
    panel = Panel(np.array(["0"], dtype=object), np.array([0, 8]), times, columns, "h")
    known = make_windows(panel, table, 3, 2).gather(torch.tensor([0, 3])).known
    assert (known[:, 4, :3] != 0).all()
    assert (known[:, 3:6, 3:] == 0).all()
    assert (known[:, [0, 2, 7], 3:] != 0).all()
    assert known.shape == (2, 9, 5)


def test_a_static_covariate_is_carried_to_rows_where_it_is_empty():
    table = frame({"x": 3, "y": 3})
    table.loc[[0, 4], "k"] = None
    panel = read(table).constant("k")
    assert panel.columns["k"].tolist() == ["of x"] * 3 + ["of y"] * 3
    table.loc[5, "k"] = "of x"
    with pytest.raises(ValueError, match="'of y' and 'of x' in 'k' in item 'y', expected one value"):
        read(table).constant("k")


def test_statistics_are_of_what_is_observed():
    assert statistics("a", np.array([1.0, np.nan, 3.0])) == (2.0, 1.0)
    assert statistics("a", np.array([5.0, 5.0])) == (5.0, 1.0)
    with pytest.raises(ValueError, match="'a' has no value in the 2 training rows"):
        statistics("a", np.array([np.nan, np.nan]))
    found = fit_covariate("k", "known", np.array(["b", None, "a"], dtype=object), True)
    assert found.categories == ("a", "b")


def test_gaps_are_filled_within_an_item():
    table = frame({"x": 3, "y": 3})
    table.loc[[2, 3], "a"] = np.nan
    assert filled(read(table), ["a"], "forward").columns["a"].tolist() == [0, 1, 1, 101, 101, 102]


def test_reading_does_not_change_the_frame():
    table = frame({"x": 4, "y": 4}).iloc[::-1]
    before = table.copy(deep=True)
    panel = read(table)
    panel.columns["a"][:] = -1
    pd.testing.assert_frame_equal(table, before)
