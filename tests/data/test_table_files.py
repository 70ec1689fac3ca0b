"""Text files are read in one format of numbers and in their encoding; what is damaged or too large is one sentence."""

import contextlib
import gzip
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn.data import table_files
from tsattn.data.tables import read_table

pytestmark = pytest.mark.usefixtures("shell")

DAYS = [f"2024-01-{day:02d}" for day in range(1, 21)]


def write(path: Path, *columns: tuple[str, list[str]], between: str = ";", encoding: str = "utf-8") -> Path:
    header = between.join(["date", *(name for name, _ in columns)])
    rows = [between.join([day, *(cells[k] for _, cells in columns)]) for k, day in enumerate(DAYS)]
    path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return path


def refusal(path: Path, **options) -> str:
    with pytest.raises(ValueError, match=r"\w") as error:
        read_table(path, **options)
    said = str(error.value)
    assert "\n" not in said
    assert str(path) in said
    return said


MIXED = ["847", "912", "1.003", "1.246"] * 5


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (MIXED, {"decimal": ","}, [847, 912, 1003, 1246]),
        (MIXED, {"decimal": ",", "thousands": "."}, [847, 912, 1003, 1246]),
        (MIXED, {"thousands": "none"}, [847, 912, 1.003, 1.246]),
        (["1.003", "1.246"] * 10, {"decimal": ",", "thousands": "."}, [1003, 1246]),
        (["1.003,5", "-2,25"] * 10, {"decimal": ","}, [1003.5, -2.25]),
        (['"1,003"', "847"] * 10, {"thousands": ","}, [1003, 847]),
        (["1'003.5", "847"] * 10, {}, [1003.5, 847]),
        (["1\u202f003,5", "8"] * 10, {"decimal": ","}, [1003.5, 8]),
        (["1.003.000", "5"] * 10, {"decimal": ","}, [1003000, 5]),
        (["1e-3", "-2,5E+2"] * 10, {"decimal": ","}, [0.001, -250]),
        (["1.003", "0.25"] * 10, {}, [1.003, 0.25]),
    ],
)
def test_thousands_and_decimals_are_read_in_one_format(tmp_path: Path, cells, options, expected):
    table = read_table(write(tmp_path / "t.csv", ("visitors", cells), ("x", ["1", "3"] * 10)), **options)
    np.testing.assert_array_equal(table["values"].values[0, : len(expected)], expected)


@pytest.mark.parametrize(
    ("cells", "options", "advice"),
    [
        (MIXED, {}, ["`--data.decimal ,` and `--data.thousands .`", "`--data.thousands none`"]),
        (["1.003", "1.246"] * 10, {"decimal": ","}, ["`--data.thousands .`"]),
        (["1,003", "847"] * 10, {}, ["`--data.thousands ,`", "`--data.decimal ,`"]),
        (["1,5", "2,25"] * 10, {}, ["`--data.decimal ,`"]),
        (["1.003,5", "847"] * 10, {}, ["`--data.decimal ,`", "`--data.thousands .`"]),
        (["0.5", "12.25"] * 10, {"decimal": ","}, ["`--data.decimal .`"]),
        (["1.003", "847"] * 10, {"decimal": ",", "thousands": "none"}, ["'1.003'"]),
        (["5 %", "7 %"] * 10, {}, ["take the sign away"]),
        (["3,50 €", "7,10 €"] * 10, {"decimal": ","}, ["take the sign away"]),
        (["1,5", "?"] + ["2,5"] * 18, {"decimal": ","}, ["'?' in data row 2"]),
    ],
)
def test_what_is_ambiguous_or_of_another_format_is_refused_by_column(tmp_path: Path, cells, options, advice):
    said = refusal(write(tmp_path / "t.csv", ("visitors", cells), ("x", ["1", "3"] * 10)), **options)
    assert "'visitors'" in said
    for part in advice:
        assert part in said
    read_table(tmp_path / "t.csv", exclude="visitors", **options)


@pytest.mark.parametrize("cells", [MIXED, ["1,5", "2,25"] * 10])
def test_advice_on_numbers_works_when_it_is_followed(tmp_path: Path, cells: list[str]):
    path = write(tmp_path / "t.csv", ("v", cells))
    said = refusal(path)
    assert "`--data.decimal ,`" in said
    more = {"thousands": "."} if "`--data.thousands .`" in said else {}
    assert read_table(path, decimal=",", **more)["values"].values[0, 2] in (1003, 1.5)


def test_the_two_characters_differ(tmp_path: Path):
    path = write(tmp_path / "t.csv", ("v", MIXED))
    with pytest.raises(
        ValueError, match=r"both '\.', expected two characters; pass `--data\.decimal ,`, or `--data\.thousands none`"
    ):
        read_table(path, thousands=".")
    with pytest.raises(ValueError, match="thousands is 'x'"):
        read_table(path, thousands="x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_names_survive_their_encoding(tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture):
    path = write(tmp_path / "t.csv", ("Größe", MIXED), ("T (°C)", ["1", "2"] * 10), encoding=encoding)
    for options in ({}, {"encoding": encoding}):
        table = read_table(path, thousands="none", **options)
        assert table["variate"].values.tolist() == ["Größe", "T (°C)"]
    assert ("Windows-1252" in caplog.text) == (encoding in ("cp1252", "latin-1"))
    if encoding == "cp1252":
        assert "--data.encoding" in refusal(path, encoding="utf-8")
        with pytest.raises(ValueError, match="encoding is 'klingon'"):
            read_table(path, encoding="klingon")


ROWS = [f"{day},{k % 5}.5,{k % 7}.25" for k, day in enumerate(DAYS)]


def text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ["date,a,b,", *(row + "," for row in ROWS)],
        ["date,a,b", *(row + "," for row in ROWS)],
        ["date,a,b,,", *(row + ",," for row in ROWS)],
        ["date,a,b", *(f'"{k}",{row}' for k, row in enumerate(ROWS, 1))],
        ["# made by a logger", "# in Zürich", "date,a,b", *ROWS],
        ["# made by a logger", "# date,a,b", *ROWS],
        ["date,a,b", ",degC,m/s", *ROWS],
        ["date,a,b", "UTC,[°C],m/s", *ROWS],
        ['"date", "a" ,"b"', *ROWS],
        ["date,a,b", *ROWS],
    ],
    ids=["a comma in all", "a comma in the rows", "two commas", "names of rows", "comments", "a header with a hash",
         "units", "units of all", "quotes and blanks", "plain"],
)  # fmt: skip
def test_headers_and_rows_as_tools_write_them(tmp_path: Path, lines: list[str]):
    table = read_table(text(tmp_path / "t.csv", *lines))
    assert table["variate"].values.tolist() == ["a", "b"]
    assert table.sizes["time"] == 20
    assert table["values"].values[:, 3].tolist() == [3.5, 3.25]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["date,a,a", *ROWS], "two columns called 'a'"),
        (["date,a, a", *ROWS], "two columns called 'a'"),
        (["date,load,load.1,load", *(row + ",1" for row in ROWS)], "two columns called 'load'"),
        (["Station 5", "date,a,b", *ROWS], "remove the lines above"),
        (["date,a,b", *ROWS[:3], ROWS[3] + ",7", *ROWS[4:]], "4 fields in line 5, expected the 3"),
        (["date,a,b", *ROWS, "2024-01-21,1"], "2 fields in line 22, expected the 3"),
        (["", "date,a,b", *ROWS], "empty line"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, lines: list[str], said: str):
    assert said in refusal(text(tmp_path / "t.csv", *lines))


def test_a_header_with_a_hash_in_a_name_is_no_comment(tmp_path: Path):
    table = read_table(text(tmp_path / "t.csv", "#orders,date", *(f"{k % 3}.5,{day}" for k, day in enumerate(DAYS))))
    assert table["variate"].values.tolist() == ["#orders"]


# Damaged and hostile files -----------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert "pipe or a device" in refusal(pipe)
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.csv")
    with pytest.raises(FileNotFoundError, match=r"there\.csv does not exist.*`--data\.table`"):
        read_table(tmp_path / "there.csv")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(table_files, "FREE", 2**20)
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"date,a\n" + b"2024-01-01,0\n" * 1_000_000)
    said = refusal(path)
    assert "expected at most 200 times as much" in said
    assert "unpack it first" in said


def test_a_table_that_is_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch):
    path = text(tmp_path / "t.csv", "date,a,b", *ROWS)
    pd.read_csv(path).to_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", data=np.zeros((9, 9)))
    assert table_files.available_memory() > 2**20
    monkeypatch.setattr(table_files, "available_memory", lambda: 100)
    for name in ("t.csv", "t.parquet", "t.npz"):
        assert "MB of memory that are free" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet", "t.npz"])
@pytest.mark.parametrize("seed", range(12))
def test_changed_bytes_are_one_sentence_that_names_the_file(tmp_path: Path, name: str, seed: int):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"date": DAYS, "a": random.normal(size=20), "b": random.normal(size=20)})
    path = tmp_path / name
    if name.endswith(".gz"):
        frame.to_csv(path, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        np.savez_compressed(path, data=frame[["a", "b"]].to_numpy())
    data = bytearray(path.read_bytes())
    for place in random.integers(0, len(data), 8):
        data[place] ^= int(random.integers(1, 256))
    path.write_bytes(data)
    whole = False
    with contextlib.suppress(ValueError):  # changed bytes may be another number
        read_table(path)
        whole = True
    if not whole:
        refusal(path)


@pytest.mark.parametrize("shape", [(4_000_000_000, 3), (5, 3), (2, 3)])
def test_an_array_that_is_not_as_large_as_its_header_says_is_refused(tmp_path: Path, shape: tuple[int, int]):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("data.npy", content.getvalue() + bytes(8 * 12))
    assert f"the shape {shape} of float64" in refusal(tmp_path / "bad.npz")


def test_a_header_that_is_cut_is_refused(tmp_path: Path):
    np.savez(tmp_path / "t.npz", data=np.zeros((4, 3)))
    with zipfile.ZipFile(tmp_path / "t.npz") as archive:
        content = archive.read("data.npy").replace(b"(4, 3)", b"(40000")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("data.npy", content)
    refusal(tmp_path / "bad.npz")


def test_points_after_commas_have_a_way_that_works(tmp_path: Path):
    """What the first message says is what reads the file, also where thousands were told before."""
    path = tmp_path / "t.csv"
    pd.DataFrame({"date": pd.date_range("2024-01-01", periods=9, freq="h"), "y": [1503.77] * 9}).to_csv(
        path, index=False
    )
    with pytest.raises(ValueError, match=r"pass `--data\.decimal \.` and `--data\.thousands none`"):
        read_table(path, decimal=",", thousands=".")
    assert (read_table(path, decimal=".", thousands="none")["values"] == 1503.77).all()
