"""Snapping, filling and averaging against answers that are made one row at a time."""

import itertools
import logging

import numpy as np
import pandas as pd
import pytest

from tsattn.data import grid
from tsattn.data.grid import Rows
from tsattn.data.reading import Reading

ZONES = [None, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
CHANGE = "2024-03-28"  # before clocks are put forward in Berlin


def rows(times: pd.DatetimeIndex, begins=None, **columns) -> Rows:
    begins = np.array([0, len(times)]) if begins is None else begins
    items = np.array([f"item {i}" for i in range(len(begins) - 1)], dtype=object)
    values = {"x": np.arange(len(times), dtype=float)} | columns
    return Rows(times, begins, values, items, "The table")


# Snapping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("step", "phase", "jitter"),
    [
        ("1h", "0s", "2s"), ("1h", "0s", "9min"), ("1h", "7min30s", "2s"), ("15min", "0s", "20s"), ("5min", "0s", "3s"),
        ("6h", "0s", "4min"), ("10s", "0s", "900ms"), ("D", "0s", "2min"), ("D", "7h", "1min"), ("2h", "1h", "5s"),
    ],
)  # fmt: skip
def test_each_row_comes_to_the_point_that_it_jitters_around(zone: str | None, step: str, phase: str, jitter: str):
    true = pd.date_range(CHANGE, periods=200, freq=step, tz=zone)
    true = (true.tz_localize(None) + pd.Timedelta(phase)).tz_localize(zone, nonexistent="shift_forward", ambiguous=True)
    true = true[~true.duplicated()] if step == "D" else pd.date_range(true[0], periods=200, freq=step)
    random = np.random.default_rng(0)
    most = pd.Timedelta(jitter).value
    moved = true.as_unit("ns") + pd.TimedeltaIndex(random.integers(-most, most + 1, len(true)).astype("m8[ns]"))
    whole = grid.snap(rows(moved), step)
    assert whole.times.tolist() == true.tolist()
    assert whole.columns["x"].tolist() == list(range(len(true)))
    assert grid.step_of(whole) in (step, step.removeprefix("1"))
    some = np.sort(random.choice(len(true), 150, replace=False))
    assert grid.snap(rows(moved[some]), step).times.tolist() == true[some].tolist()


def test_each_item_has_a_grid_of_its_own():
    one = pd.date_range("2024-01-01 00:00:01", periods=50, freq="h")
    two = pd.date_range("2024-01-01 00:20:00", periods=30, freq="h")
    jitter = pd.to_timedelta(np.random.default_rng(1).integers(-1, 2, 80), unit="s")
    found = grid.snap(rows(one.append(two) + jitter, np.array([0, 50, 80])), "1h").times
    assert found[:50].tolist() == pd.date_range("2024-01-01", periods=50, freq="h").tolist()
    assert found[50:].tolist() == two.tolist()


def test_two_rows_of_one_point_and_rows_between_two_points_are_refused():
    times = pd.date_range("2024-01-01", periods=20, freq="h")
    twice = times.insert(6, times[5] + pd.Timedelta("3min"))
    with pytest.raises(ValueError, match=r"05:00:00 and 2024-01-01 05:03:00, both nearest to .*expected one row for"):
        grid.snap(rows(twice), "1h")
    between = times.delete(5).insert(5, times[5] + pd.Timedelta("25min"))
    with pytest.raises(ValueError, match=r"05:25:00, 0 days 00:25:00 from the nearest point .*a quarter"):
        grid.snap(rows(between), "1h")
    with pytest.raises(ValueError, match="snap is 'often', expected a step"):
        grid.snap(rows(times), "often")


# Filling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("freq", ["h", "15min", "24h", "D", "B", "W-TUE", "MS", "ME", "QS-FEB", "YS", "7h", "2MS"])
def test_absent_rows_are_missing_and_the_others_stay(zone: str | None, freq: str):
    true = pd.date_range(CHANGE, periods=90, freq=freq, tz=zone)
    random = np.random.default_rng(2)
    some = np.unique(np.r_[0, np.sort(random.choice(90, 60, replace=False)), 89])
    found = grid.fill(rows(true[some], np.array([0, len(some)])), freq)
    expected = dict(zip(true[some], range(len(some)), strict=True))
    assert found.times.tolist() == true.tolist()
    for time, value in zip(found.times, found.columns["x"], strict=True):
        assert value == expected[time] if time in expected else np.isnan(value)


@pytest.mark.parametrize("day", [2, 15, 28])
@pytest.mark.parametrize("months", [1, 2, 3, 12])
def test_months_stand_on_any_day(day: int, months: int):
    true = pd.DatetimeIndex([pd.Timestamp(2015 + m // 12, m % 12 + 1, day) for m in range(1, 40 * months, months)])
    whole = rows(true)
    step = grid.step_of(whole)
    assert [*grid.line(true[-3], 3, step)] == [*true[-3:]]
    assert [*grid.line(true[9], -3, step)] == [*true[7:10]]
    gap = whole.kept(np.arange(len(true)) != 7)
    assert grid.fill(gap, step).times.tolist() == true.tolist()
    if months == 1:
        with pytest.raises(ValueError, match=r"`freq='MS'`"):
            grid.step_of(gap)


def test_times_off_the_grid_are_refused():
    times = pd.date_range("2024-01-01", periods=20, freq="h")
    with pytest.raises(
        ValueError, match=r"has the time 2024-01-01 05:07:00, which is not on the grid of h .*`snap='h'`"
    ):
        grid.fill(rows(times.delete(5).insert(5, times[5] + pd.Timedelta("7min"))), "h")


# Averaging -------------------------------------------------------------------------------------------------------


def bin_of(time: pd.Timestamp, step: str) -> object:
    """Name the bin of a time by the clock on the wall, without pandas' bins."""
    wall = time.tz_localize(None)
    if step in ("1h", "2h", "6h"):
        hours = int(step[:-1])
        return wall.normalize(), wall.hour // hours
    if step == "D":
        return wall.date()
    if step == "W-SUN":
        return (wall.normalize() + pd.Timedelta(days=(6 - wall.day_of_week) % 7)).date()
    return wall.year, wall.month


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    ("own", "step"),
    [("15min", "1h"), ("10min", "2h"), ("h", "6h"), ("h", "D"), ("D", "W-SUN"), ("D", "MS"), ("D", "ME")]
)  # fmt: skip
@pytest.mark.parametrize("cut", [(0, 0), (1, 0), (0, 1), (3, 2), (5, 7)])
def test_a_bin_is_the_mean_of_its_rows_and_a_bin_that_is_not_full_is_left_out(zone, own, step, cut, caplog):
    if zone not in (None, "UTC") and step in ("6h", "2h"):
        pytest.skip("a bin of hours is counted from midnight, on which a changed clock has no influence")
    months: int = {"D": 400, "h": 400, "15min": 500, "10min": 700}[own]
    begin = "2024-02-01" if step != "W-SUN" else "2024-01-29"
    whole = pd.date_range(begin, periods=months + 100, freq=own, tz=zone)
    bins = [bin_of(time, step) for time in whole]
    last = max(i for i in range(1, months) if bins[i] != bins[i - 1])  # begins a bin
    used = whole[cut[0] : last + cut[1]]
    values = np.random.default_rng(3).normal(size=len(used))
    with caplog.at_level(logging.WARNING):
        found = grid.average(rows(used, x=values), step)
    full = {key: len(list(group)) for key, group in itertools.groupby(bins)}
    members: dict[object, list[float]] = {}
    for time, value in zip(used, values, strict=True):
        members.setdefault(bin_of(time, step), []).append(value)
    kept = [key for key, group in members.items() if len(group) == full[key]]
    assert [bin_of(time, step) for time in found.times] == kept
    np.testing.assert_allclose(found.columns["x"], [np.mean(members[key]) for key in kept])
    left_out = len(members) - len(kept)
    assert caplog.text.count("is partial") == left_out
    assert left_out == sum(rows_cut % full[bins[0]] > 0 for rows_cut in cut) or step in ("MS", "ME")


def test_empty_bins_are_missing_and_few_rows_are_said(caplog):
    times = pd.date_range("2024-01-01", periods=96, freq="15min")
    keep = np.ones(96, bool)
    keep[20:28] = keep[41] = False
    found = grid.average(rows(times[keep], x=np.arange(96.0)[keep]), "1h")
    assert np.isnan(found.columns["x"]).nonzero()[0].tolist() == [5, 6]
    assert found.columns["x"][10] == np.mean([40, 42, 43])
    assert "1 bins of 1h hold fewer rows" in caplog.text


def test_averaging_into_the_rows_own_step_is_no_snapping():
    true = pd.date_range("2024-01-01", periods=100, freq="h")
    jitter = true + pd.to_timedelta(np.random.default_rng(4).integers(-2, 3, 100), unit="s")
    with pytest.raises(ValueError, match=r"step by about .* already, .*by jitter two or none.*`snap='1h'`"):
        grid.average(rows(jitter), "1h")
    absent = np.arange(100) != 50
    same = grid.average(rows(true[absent], x=np.arange(100.0)[absent]), "1h")  # all rows are on the grid
    assert same.times.tolist() == true.tolist()
    assert np.isnan(same.columns["x"]).nonzero()[0].tolist() == [50]


def test_days_of_changing_offsets_are_nobodys():
    times = pd.date_range("2024-03-20", periods=480, freq="h", tz="Europe/Berlin").tz_convert("UTC")
    unknown = Rows(times, np.array([0, 480]), {}, np.array(["0"]), "The table", zone="Europe/Berlin")
    with pytest.raises(ValueError, match=r"not known whose days 'D' means.*`zone='Europe/Berlin'`"):
        grid.average(unknown, "D")


# Stamps that are rounded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [24, 30, 60, 7, 90, 300])
@pytest.mark.parametrize("rounding", [np.rint, np.floor])
def test_stamps_that_are_rounded_step_evenly(rate: int, rounding):
    ticks = rounding(np.arange(3000) / rate * 1000 if rate < 200 else np.arange(3000) / rate * 1e6)
    times = pd.DatetimeIndex((ticks.astype(np.int64) * (1_000_000 if rate < 200 else 1000)).view("M8[ns]"))
    step = grid.step_of(rows(times))
    assert pd.Timedelta(pd.tseries.frequencies.to_offset(step)).value == round(1e9 / rate)
    for count in (2, 3, 5, 24, 300):
        assert grid.step_of(rows(times[:count]), step) == step
    assert len(grid.bring(rows(times), Reading(freq=step)).times) == 3000


@pytest.mark.parametrize("lost", [1, 40, 150, 298])
def test_rounding_hides_no_absent_row(lost: int):
    times = pd.DatetimeIndex((np.rint(np.arange(300) / 30 * 1000) * 1e6).astype(np.int64).view("M8[ns]"))
    with pytest.raises(ValueError, match="expected a regular step"):
        grid.step_of(rows(times.delete(lost)), None)
    found = grid.fill(rows(times.delete(lost)), "33333333ns")
    assert len(found.times) == 300
    assert np.isnan(found.columns["x"]).nonzero()[0].tolist() == [lost]


# Advice ----------------------------------------------------------------------------------------------------------


def advised(problem: str) -> Reading:
    """Do what the last message advises."""
    import re

    [(name, value)] = re.findall(r"`(freq|snap|resample)='([^']+)'`", problem)
    return Reading(**{name: value})


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("freq", ["h", "15min", "s", "D", "B", "MS", "W-MON", "100ms"])
@pytest.mark.parametrize("damage", ["gap", "jitter", "both"])
def test_advice_works_when_it_is_followed(zone: str | None, freq: str, damage: str):
    true = pd.date_range(CHANGE, periods=120, freq=freq, tz=zone)
    times = true.as_unit("ns")
    if damage != "gap":
        most = int(np.diff(times.asi8).min()) // 50
        jitter = np.random.default_rng(5).integers(-most, most + 1, 120)
        times = times + pd.TimedeltaIndex(jitter.astype("m8[ns]"))
    if damage != "jitter":
        times = times.delete([30, 31, 77])
    table, did = rows(times), []
    for _ in range(3):
        try:
            found = grid.step_of(table)
            break
        except ValueError as problem:
            how = advised(str(problem))
            did.append(how)
            table = grid.bring(table, how)
    assert table.times.tolist() == true.tolist(), did
    assert found == grid.step_of(rows(true))
    assert not any(how.resample for how in did)
