"""Columns that somebody names: one or several, as typed or as a list, for every role and in every number format."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsattn.data import fetch, grid, zones
from tsattn.data.modules import TableData
from tsattn.data.reading import Reading
from tsattn.data.tables import from_frame, read_table

ROWS = 96
HOURS = pd.date_range("2024-03-01", periods=ROWS, freq="h")
SIZES: dict[str, Any] = {"context": 12, "horizon": 4}


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = np.arange(ROWS)
    return pd.DataFrame({"day": HOURS, "a": 1000.0 + rows, "b": 2000.5 + rows, "k": rows, "other": -1.0 * rows})


@pytest.mark.parametrize("known", ["k", ["k"], "k,other", ["k", "other"], "[k, other]"])
@pytest.mark.parametrize("file", [False, True])
def test_known_columns_are_read_whatever_they_look_like(frame: pd.DataFrame, known: Any, file: bool, tmp_path: Path):
    """`k` numbers the rows, which is left out of a table where nobody names it."""
    options = {"target": "a", "exogenous": "none", "known": known, **SIZES}
    if file:
        frame.to_csv(tmp_path / "t.csv", index=False)
        data = TableData(table=tmp_path / "t.csv", **options)
    else:
        data = TableData.from_frame(frame, **options)
    names = [covariate.name for covariate in data.spec.covariates]
    assert (data.spec.variates, names) == (("a",), ["k"] if known in ("k", ["k"]) else ["k", "other"])


@pytest.mark.parametrize("target", ["a,b", "[a, b]", ["a", "b"], [" a", "b"]])
def test_lists_are_columns_in_a_file_of_another_format(frame: pd.DataFrame, target: Any, tmp_path: Path):
    def german(number: float) -> str:
        return f"{number:,.1f}".translate(str.maketrans(",.", ".,"))

    written = frame.assign(a=frame["a"].map(german), b=frame["b"].map(german))
    written.to_csv(tmp_path / "t.csv", index=False, sep=";")
    options = {"target": target, "exogenous": "none", "decimal": ",", "thousands": "."}
    data = TableData(table=tmp_path / "t.csv", **options, **SIZES)
    assert data.spec.variates == ("a", "b")
    np.testing.assert_array_equal(data.dataset_["values"].values, frame[["a", "b"]].to_numpy().T)


@pytest.mark.parametrize("exclude", ["x,y", "[x, y]", ["x", "y"]])
def test_columns_that_are_left_out_may_be_written_in_any_way(frame: pd.DataFrame, exclude: Any, tmp_path: Path):
    odd = frame.drop(columns=["k"]).assign(x="1.2.3", y=[f"{row}:{row}" for row in range(ROWS)])
    odd["x"] = [f"1,{row:03d}.5.5" for row in range(ROWS)]
    odd.to_csv(tmp_path / "t.csv", index=False, sep=";")
    table = read_table(tmp_path / "t.csv", exclude=exclude)
    assert table["variate"].values.tolist() == ["a", "b", "other"]
    assert from_frame(odd, exclude=exclude)["variate"].values.tolist() == ["a", "b", "other"]


def test_a_column_whose_name_holds_a_comma_is_one_column(frame: pd.DataFrame):
    data = TableData.from_frame(frame.rename(columns={"b": "a,k"}), target="a,k", exogenous="none", **SIZES)
    assert data.spec.variates == ("a,k",)


def test_columns_of_an_array_are_kept_as_typed(frame: pd.DataFrame):
    assert from_frame(frame, keep="a,k")["variate"].values.tolist() == ["a", "b", "k", "other"]
    assert from_frame(frame, columns=["a, k"])["variate"].values.tolist() == ["a", "k"]


def test_a_missing_file_is_named_by_its_option(tmp_path: Path):
    from tsattn import messages
    from tsattn.data.table_files import read_frame

    with messages.command({"table": "--table", "future": "--future"}):
        for option in ("table", "future"):
            with pytest.raises(FileNotFoundError, match=f"check `--{option}`"):
                read_frame(tmp_path / "no.csv", option=option)


def test_a_reading_that_names_its_gaps_twice_is_a_sentence(frame: pd.DataFrame):
    import dataclasses

    spec = TableData.from_frame(frame, **SIZES).spec
    with pytest.raises(ValueError, match="'freq', which this version does not know"):
        Reading.of(dataclasses.replace(spec, reading={"freq": "h"}))


def test_a_zone_is_not_passed_over_in_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`solar` has its clock ignored, which a zone that is said ends."""
    frame = pd.DataFrame({"date": HOURS, "a": np.arange(ROWS) / 7})
    frame.to_csv(tmp_path / "t.csv", index=False)
    name = next(name for name, benchmark in fetch.REGISTRY.items() if benchmark.clock == "ignore")
    monkeypatch.setattr(fetch, "find", lambda *_: tmp_path / "t.csv")
    data = TableData(name, zone="Europe/Berlin", split=[0.8, 0.2, 0.0], fill="none", marks="none", **SIZES)
    assert data.dataset_.attrs["zone"] == "Europe/Berlin"


def test_each_door_is_told_of_its_own_options_at_repeated_times():
    times = HOURS[:6].repeat(2)
    columns = {"values": np.arange(12.0)}
    items = np.array(["0"], dtype=object)
    said = {}
    for door in ("table", "panel"):
        rows = grid.Rows(times, np.array([0, 12]), columns, items, "The table", door=door)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="again") as refusal:
            grid.refuse_repeated(rows)
        said[door] = str(refusal.value)
        with pytest.raises(ValueError, match="several series") as refusal:
            grid.without_repeated(dataclasses_rows(rows))
        said[door] += str(refusal.value)
    assert "item_id" not in said["table"]
    assert "variate_column" in said["table"]
    assert "item_id" in said["panel"]
    assert "variate_column" not in said["panel"]


def dataclasses_rows(rows: grid.Rows) -> grid.Rows:
    """Return rows of which most are at a time that is there before."""
    import dataclasses

    return dataclasses.replace(rows, times=HOURS[:2].repeat(6))


# An hour that clocks show twice ----------------------------------------------------------------------------------

BERLIN = "Europe/Berlin"
NIGHT = pd.date_range("2024-10-26 20:00", periods=9, freq="h", tz="UTC").tz_convert(BERLIN)  # 02:00 twice: rows 4, 5


@pytest.mark.parametrize(("begin", "end"), [(0, 9), (0, 5), (0, 6), (4, 9), (5, 9), (0, 4), (6, 9)])
def test_a_table_may_begin_or_end_in_the_hour_that_is_shown_twice(begin: int, end: int, caplog):
    true = NIGHT[begin:end]
    found, _ = zones.settle(true.tz_localize(None), BERLIN, None, "the table")
    assert (found == true).all()
    assert ("twice" in caplog.text) == ((begin, end) in ((0, 5), (5, 9)))


@pytest.mark.parametrize("minutes", [15, 20, 30])
def test_ends_within_that_hour_are_told_apart_by_the_order_of_the_rows(minutes: int):
    true = pd.date_range("2024-10-26 22:00", "2024-10-27 04:00", freq=f"{minutes}min", tz="UTC").tz_convert(BERLIN)
    first = int((true < pd.Timestamp("2024-10-27 00:00", tz="UTC")).sum())
    for begin, end in ((0, first + 2), (first + 60 // minutes, len(true)), (0, len(true))):
        part = true[begin:end]
        assert (zones.settle(part.tz_localize(None), BERLIN, None, "the table")[0] == part).all()


def test_one_row_of_that_hour_between_others_is_refused():
    with pytest.raises(ValueError, match="cannot be times of Europe/Berlin"):
        zones.settle(NIGHT.delete(4).tz_localize(None), BERLIN, None, "the table")
