"""Tables are read as they are, and what is broken in them is said in one sentence that names the row and the option."""

import gzip
import logging
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tsattn.data.tables import fill_missing, from_frame, read_table

pytestmark = pytest.mark.usefixtures("shell")


def values(table: xr.Dataset) -> np.ndarray:
    return table["values"].values


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


# What comes out --------------------------------------------------------------------------------------------------


def test_axes_and_labels(wide: pd.DataFrame):
    table = from_frame(wide)
    assert table["values"].dims == ("variate", "time")
    assert dict(table.sizes) == {"variate": 3, "time": 200}
    assert table["variate"].values.tolist() == ["b", "a", "c"]  # order of the file
    assert table["values"].dtype == np.float64
    assert values(table)[1, 17] == 1017
    assert table.indexes["time"][17] == pd.Timestamp("2024-03-01 17:00")
    assert table.attrs["frequency"] == "h"
    assert table.attrs["timestamp"] == "date"
    assert table.sel(variate="c", time="2024-03-02 00:00")["values"].item() == 2024


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".txt", ".parquet"])
def test_every_format_gives_the_same_values(tmp_path: Path, wide: pd.DataFrame, ending: str):
    path = tmp_path / f"table{ending}"
    if ending == ".parquet":
        wide.to_parquet(path)
    else:
        wide.to_csv(path, index=False)
    table, expected = read_table(path), from_frame(wide)
    xr.testing.assert_equal(table, expected)
    assert table.attrs["sha256"] == expected.attrs["sha256"]
    assert table.attrs["source"] == str(path)


def test_the_callers_frame_is_not_changed(wide: pd.DataFrame):
    wide = wide.rename(columns={"a": " a "})
    wide.loc[3, "b"] = np.nan
    before = wide.copy(deep=True)
    table = from_frame(wide, resample="2h")
    values(table)[:] = 0
    fill_missing(from_frame(wide)["values"], "forward")
    values(from_frame(wide.set_index("date")))[:] = 0
    pd.testing.assert_frame_equal(wide, before)


def test_the_fingerprint_is_of_the_values(wide: pd.DataFrame):
    other = wide.copy()
    other.loc[5, "c"] += 1e-9
    assert from_frame(wide).attrs["sha256"] == from_frame(wide.copy()).attrs["sha256"]
    assert from_frame(wide).attrs["sha256"] != from_frame(other).attrs["sha256"]


def test_the_frequency_is_logged(wide: pd.DataFrame, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        from_frame(wide)
    assert "200 rows of 3 variates, step h" in caplog.text


# The clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", ["s", "10min", "h", "3h", "D", "B", "W-TUE", "ME", "MS", "QS-JAN"])
def test_regular_clocks_are_named(frequency: str):
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=40, freq=frequency), "x": np.arange(40.0)})
    assert from_frame(frame).attrs["frequency"] == frequency


def test_a_named_column_an_index_or_the_only_one_that_parses(wide: pd.DataFrame):
    expected = from_frame(wide)
    text = wide.assign(date=wide["date"].astype(str)).rename(columns={"date": "measured at"})
    xr.testing.assert_equal(from_frame(text), expected)
    xr.testing.assert_equal(from_frame(text, timestamp="measured at"), expected)
    xr.testing.assert_equal(from_frame(wide.set_index("date")), expected)
    xr.testing.assert_equal(from_frame(wide.set_index("date").to_period("h")), expected)


def test_preferred_names_win_over_other_columns_of_times(wide: pd.DataFrame):
    wide["installed"] = "2020-01-01"
    table = from_frame(wide, exclude="installed")
    assert table.attrs["timestamp"] == "date"
    assert from_frame(wide.drop(columns="installed").assign(ds=wide["date"]), exclude="ds").sizes["variate"] == 3


def test_time_zones_are_kept_across_a_change_of_the_clock(tmp_path: Path):
    times = pd.date_range("2024-03-30", periods=72, freq="h", tz="Europe/Zurich")
    frame = pd.DataFrame({"time": times, "x": np.arange(72.0)})
    table = from_frame(frame)
    assert table.attrs["frequency"] == "h"
    assert str(table.indexes["time"].tz) == "Europe/Zurich"
    assert table.sizes["time"] == 72
    frame.to_csv(tmp_path / "t.csv", index=False)  # two offsets in one column: read as UTC
    assert (read_table(tmp_path / "t.csv").indexes["time"] == times).all()
    frame.assign(time=times.tz_convert("UTC")).to_csv(tmp_path / "u.csv", index=False)
    assert str(read_table(tmp_path / "u.csv").indexes["time"].tz) == "UTC"
    frame.to_parquet(tmp_path / "t.parquet")
    assert str(read_table(tmp_path / "t.parquet").indexes["time"].tz) == "Europe/Zurich"


def test_rows_without_times_must_be_said_to_be_so(wide: pd.DataFrame):
    bare = wide.drop(columns="date")
    with pytest.raises(ValueError, match=r"no column of times among 'b', 'a', 'c'.*--data\.timestamp"):
        from_frame(bare)
    table = from_frame(bare, timestamp="none")
    assert table.attrs["frequency"] == ""
    assert table.indexes["time"].tolist() == list(range(200))


def test_several_columns_of_times_are_an_error(wide: pd.DataFrame):
    frame = wide.rename(columns={"date": "begin"}).assign(end=wide["date"] + pd.Timedelta("1h"))
    with pytest.raises(ValueError, match=r"several columns.*'begin', 'end'.*--data\.timestamp"):
        from_frame(frame)
    assert from_frame(frame, timestamp="begin", exclude="end").attrs["timestamp"] == "begin"


def test_a_wrong_timestamp_option_is_explained(wide: pd.DataFrame):
    with pytest.raises(ValueError, match=r"no column 'when', expected one of 'date'"):
        from_frame(wide, timestamp="when")
    with pytest.raises(ValueError, match=r"Column 'b'.*holds 0\.5 in data row 1, expected a whole number or a time"):
        from_frame(wide.assign(b=wide["b"] + 0.5), timestamp="b")
    text = wide.assign(date=wide["date"].astype(str))
    text.loc[7, "date"] = "soon"
    with pytest.raises(ValueError, match=r"'soon' in data row 8, expected a time"):
        from_frame(text, timestamp="date")


def test_a_gap_names_the_row_both_times_and_the_option(wide: pd.DataFrame):
    with pytest.raises(ValueError, match="regular") as error:
        from_frame(wide.drop(index=[50, 120]))
    text = message(error)
    assert "2024-03-03 01:00:00 to 2024-03-03 03:00:00 in data row 51" in text
    assert "--data.freq h" in text


def test_a_repeated_time_names_the_row_and_the_option(wide: pd.DataFrame, caplog: pytest.LogCaptureFixture):
    twice = pd.concat([wide[:51], wide[50:]], ignore_index=True)
    with pytest.raises(ValueError, match="again") as error:
        from_frame(twice)
    text = message(error)
    assert "2024-03-03 02:00:00 again in data row 52" in text
    assert "--data.drop_duplicates true" in text
    xr.testing.assert_equal(from_frame(twice, drop_duplicates=True), from_frame(wide))
    assert "1 repeated times dropped, the first in data row 52" in caplog.text


def test_rows_out_of_order_are_an_error(wide: pd.DataFrame):
    with pytest.raises(ValueError, match="sort the file"):
        from_frame(wide.iloc[np.r_[0:50, 51, 50, 52:200]])
    with pytest.raises(ValueError, match="sort the file"):
        from_frame(wide[::-1])


def test_resampling_averages_and_leaves_empty_bins_missing(wide: pd.DataFrame):
    table = from_frame(wide.drop(index=[4, 5, 7]), resample="2h")
    assert table.attrs["frequency"] == "2h"
    assert table.sizes["time"] == 100
    expected = np.arange(0.5, 200, 2)
    expected[2:4] = [np.nan, 6]
    np.testing.assert_array_equal(values(table)[0], expected)
    with pytest.raises(ValueError, match="'often'"):
        from_frame(wide, resample="often")


def test_an_ignored_clock_takes_rows_as_they_stand(wide: pd.DataFrame):
    broken = pd.concat([wide[:51], wide[50:120], wide[130:]], ignore_index=True)
    table = from_frame(broken, clock="ignore")
    assert table.sizes["time"] == len(broken)
    assert table.attrs["frequency"] == "h"
    assert table.indexes["time"][51] == pd.Timestamp("2024-03-03 02:00")


# Values ----------------------------------------------------------------------------------------------------------


def test_a_column_of_words_names_the_first_bad_row_and_the_option(wide: pd.DataFrame):
    wide["c"] = wide["c"].astype(object)
    wide.loc[7, "c"] = "n.a."
    with pytest.raises(ValueError, match="expected a number") as error:
        from_frame(wide)
    assert re.search(r"'c' .*'n\.a\.' in data row 8.*--data\.exclude c", message(error))
    assert from_frame(wide, exclude=["c"])["variate"].values.tolist() == ["b", "a"]
    with pytest.raises(ValueError, match="no column 'z' to exclude"):
        from_frame(wide, exclude="z")


def test_blanks_are_missing_not_zero(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text('date,x,y\n2024-01-01,1," "\n2024-01-02,,2\n2024-01-03,NA,3\n')
    table = read_table(path)
    np.testing.assert_array_equal(values(table), [[1, np.nan, np.nan], [np.nan, 2, 3]])


def test_integers_booleans_and_nullable_numbers_are_numbers(wide: pd.DataFrame):
    frame = wide.assign(b=wide["b"].astype(int), a=wide["a"] > 1050, c=wide["c"].astype("Int64"))
    frame.loc[3, "c"] = pd.NA
    table = from_frame(frame)
    assert values(table)[1].sum() == 149
    assert np.isnan(values(table)[2, 3])


def test_infinite_values_are_an_error(wide: pd.DataFrame):
    wide.loc[9, "a"] = -np.inf
    with pytest.raises(ValueError, match=r"'a' .*-inf in data row 10, expected a finite number"):
        from_frame(wide)


def test_sentinels_are_warned_of_and_kept(wide: pd.DataFrame, caplog: pytest.LogCaptureFixture):
    wide.loc[9, "a"] = -9999
    assert values(from_frame(wide))[1, 9] == -9999
    assert "1 values of -9999 (most in 'a')" in caplog.text


def test_numbers_written_as_text_are_no_times():
    frame = pd.DataFrame({"x": ["1", "2", " ", "4"], "y": [1.0, 2, 3, 4]})
    with pytest.raises(ValueError, match="no column of times"):
        from_frame(frame)
    assert np.isnan(values(from_frame(frame, timestamp="none"))[0, 2])


def test_names_are_stripped_and_must_differ(wide: pd.DataFrame):
    assert from_frame(wide.rename(columns={"a": " a "}))["variate"].values.tolist() == ["b", "a", "c"]
    with pytest.raises(ValueError, match="two columns called 'b'"):
        from_frame(wide.rename(columns={"a": " b "}))


def test_empty_tables_are_an_error(tmp_path: Path, wide: pd.DataFrame):
    with pytest.raises(ValueError, match="no column of numbers"):
        from_frame(wide[["date"]])
    with pytest.raises(ValueError, match="expected"):
        from_frame(wide[:0])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="empty"):
        read_table(tmp_path / "empty.csv")


# Files -----------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist"):
        read_table("nowhere.csv")


def test_an_unknown_ending_is_refused(tmp_path: Path):
    (tmp_path / "t.xls").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected \.csv"):
        read_table(tmp_path / "t.xls")


def test_a_matrix_of_numbers_has_no_clock(tmp_path: Path):
    matrix = np.arange(12.0).reshape(4, 3)
    np.savetxt(tmp_path / "solar.txt", matrix, delimiter=",")
    with gzip.open(tmp_path / "solar.txt.gz", "wb") as file:
        file.write((tmp_path / "solar.txt").read_bytes())
    np.savez(tmp_path / "pems.npz", data=np.stack([matrix, -matrix], axis=-1).astype(np.float32))
    for name in ("solar.txt", "solar.txt.gz", "pems.npz"):
        table = read_table(tmp_path / name)
        np.testing.assert_array_equal(values(table), matrix.T)
        assert table["variate"].values.tolist() == ["0", "1", "2"]
        assert table.attrs["frequency"] == ""
    np.savez(tmp_path / "other.npz", speed=matrix)
    with pytest.raises(ValueError, match=r"'speed', expected one called `data`"):
        read_table(tmp_path / "other.npz")


def test_windows_line_ends_semicolons_and_latin_letters(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffdate;T (°C)\r\n2024-01-01;1.5\r\n2024-01-02;2\r\n".encode("utf-8"))
    assert read_table(path)["variate"].values.tolist() == ["T (°C)"]
    path.write_bytes("date,T (°C)\r\n2024-01-01,1.5\r\n2024-01-02,2\r\n".encode("latin-1"))
    assert values(read_table(path)).tolist() == [[1.5, 2]]


def test_a_cut_file_is_an_error(tmp_path: Path, wide: pd.DataFrame):
    wide.to_csv(tmp_path / "t.csv.gz", index=False)
    whole = (tmp_path / "t.csv.gz").read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_table(tmp_path / "t.csv.gz")


# Long tables -----------------------------------------------------------------------------------------------------


@pytest.fixture
def long(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.melt("date", var_name="sensor", value_name="reading").sort_values(["date", "sensor"])[::1]


def test_a_long_table_is_spread_in_the_order_of_appearance(wide: pd.DataFrame):
    long = wide.melt("date", var_name="sensor", value_name="reading")
    expected = from_frame(wide)
    for table in (
        from_frame(long),  # one column of words, one of numbers, repeated times: no doubt
        from_frame(long, variate_column="sensor", value_column="reading"),
        from_frame(long.rename(columns={"sensor": "unique_id", "date": "ds", "reading": "y"})),
        from_frame(long.assign(sensor=long["sensor"].astype("category"), note="x"), variate_column="sensor",
                   value_column="reading"),
    ):  # fmt: skip
        xr.testing.assert_equal(table, expected)


def test_numbered_series_of_nixtla_are_a_long_table():
    times = pd.date_range("2024-01-01", periods=5, freq="D")
    frame = pd.DataFrame({"unique_id": np.repeat([7, 3], 5), "ds": np.tile(times, 2), "y": np.arange(10.0)})
    table = from_frame(frame)
    assert table["variate"].values.tolist() == ["7", "3"]
    np.testing.assert_array_equal(values(table), np.arange(10.0).reshape(2, 5))


def test_series_of_different_lengths_are_missing_where_they_are_not(long: pd.DataFrame):
    ragged = long[~((long["sensor"] == "b") & (long["date"] < "2024-03-02"))]
    table = from_frame(ragged)
    assert np.isnan(values(table.sel(variate="b"))[:24]).all()
    assert not np.isnan(values(table.sel(variate="a"))).any()


def test_a_repeated_cell_of_a_long_table_is_an_error(long: pd.DataFrame):
    twice = pd.concat([long, long[:1]])
    with pytest.raises(ValueError, match=r"second value of 'a' at 2024-03-01 00:00:00 in data row 601"):
        from_frame(twice)
    xr.testing.assert_equal(from_frame(twice, drop_duplicates=True), from_frame(long))


def test_half_named_long_tables_are_refused(long: pd.DataFrame):
    with pytest.raises(ValueError, match="only the variate column"):
        from_frame(long, variate_column="sensor")
    with pytest.raises(ValueError, match="no column 'sensr'"):
        from_frame(long, variate_column="sensr", value_column="reading")
    frame = long.reset_index(drop=True)
    frame.loc[1, "sensor"] = None
    with pytest.raises(ValueError, match="empty in data row 2"):
        from_frame(frame, variate_column="sensor", value_column="reading")


# Filling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill", "expected"), [("forward", [1, 1, 1, 1, 4, 4]), ("linear", [1, 1, 2, 3, 4, 4]), ("none", None)]
)
def test_filling(fill, expected):
    row = np.array([np.nan, 1, np.nan, np.nan, 4, np.nan])
    array = xr.DataArray(np.stack([row, np.full(6, np.nan)]), dims=("variate", "time"))
    filled = fill_missing(array, fill)
    assert filled.dims == array.dims
    np.testing.assert_array_equal(filled.values[0], row if expected is None else expected)
    assert filled[1].isnull().all()  # nothing to fill from
    np.testing.assert_array_equal(array.values[0], row)


# Real files ------------------------------------------------------------------------------------------------------


def test_weather_has_one_repeated_time_and_one_gap(benchmarks: Path):
    path = benchmarks / "weather.csv.gz"
    with pytest.raises(ValueError, match=r"2020-05-12 06:00:00 again in data row 19045"):
        read_table(path)
    with pytest.raises(ValueError, match=r"2020-05-29 09:30:00 to 2020-05-29 11:10:00 in data row 21515"):
        read_table(path, drop_duplicates=True)
    table = read_table(path, clock="ignore")
    assert dict(table.sizes) == {"variate": 21, "time": 52_696}
    assert table.attrs["frequency"] == "10min"
    mended = read_table(path, resample="10min")
    assert np.isnan(values(mended)).sum() == 21 * 9
    assert mended.attrs["frequency"] == "10min"


def test_names_of_epf_columns_carry_no_blanks(benchmarks: Path):
    table = read_table(benchmarks / "epf" / "NP.csv.gz")
    assert table["variate"].values.tolist() == ["Grid load forecast", "Wind power forecast", "OT"]


def test_the_head_of_pems_is_flow(benchmarks: Path):
    path = benchmarks / "slices" / "PEMS04_head.npz"
    table = read_table(path)
    assert dict(table.sizes) == {"variate": 307, "time": 694}
    with np.load(path) as archive:
        np.testing.assert_array_equal(values(table), archive["data"][..., 0].T)


def test_reading_is_fast(benchmarks: Path):
    laps = []
    for _ in range(5):
        begin = time.process_time()
        read_table(benchmarks / "ETTh1.csv.gz")
        laps.append(time.process_time() - begin)
    assert min(laps) < 0.15  # 0.03 s on a quiet machine
